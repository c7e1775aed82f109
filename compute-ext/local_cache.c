/* Holds: the index of the local cache: which page lies at which place of the file.
 *
 * Entries and places are divided into parts by a hash of the page's tag; each part has its lock,
 * its entries, its places and its clock hand. Why no read can be stale, race by race:
 * - write against read: put samples the last-written LSN after the write has raised it, a read
 *   before its request is sent. The server writes a page in one process at a time (the buffer's I/O
 *   lock; an exclusive relation lock where buffers are bypassed). A put that comes late carries a
 *   lower LSN than the page's, and is a miss for ever.
 * - truncation, removal, creation raise the fork's LSN, a database's end the floor: every entry
 * from before is a miss; its place is taken by and by.
 * - evict against read: a place is written under the part's exclusive lock and read under its
 * shared lock, in one go with the seal that opens it.
 * - a page that is kept in its file has no entry: keeping it removes the entry before its buffer's
 *   I/O lock is given back; who puts what was read, perhaps without that lock (prewarm, and
 *   pg_prewarm), looks at the file after taking the part's count of kept pages, and puts nothing
 *   when the count has moved.
 * - resize: the limits sink under each part's lock, then the file is cut; nobody touches a place at
 *   or beyond its part's limit.
 * The locks are held over a read or write of one block: a memory copy on a tmpfs. */
#include "local_cache.h"

#include "report.h"
#include "settings.h"
#include "shared.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#define PARTS    ((uint32)LOCH_CACHE_PARTS)
#define USES_MAX 3u

struct entry {
    struct loch_cache_tag tag; /* rel 0: free */
    XLogRecPtr lsn;
    struct loch_cache_seal seal;
    pg_atomic_uint32 uses;
    uint32 next; /* in its bucket, plus one; 0: the last */
};

struct part {
    uint32 limit; /* places that may be used */
    uint32 fresh; /* places from here on were never used, or were given back */
    uint32 hand;
    uint32 used;
    uint32 kept; /* how often a page was kept in its file instead */
};

/* In shared memory, made zero by the server. */
struct cache {
    pg_atomic_uint64 counter;
    pg_atomic_uint32 off; /* 1: after an error */
    struct part parts[LOCH_CACHE_PARTS];
};

static struct cache *cache; /* NULL: there is none */
static struct entry *entries;
static uint32 *buckets;     /* first entry of each, plus one */
static uint32 part_places;  /* entries of a part */
static uint32 part_buckets; /* a power of two */
static LWLockPadded *locks;

static uint32 places_of_mb(int mb)
{
    return (uint32)((uint64)mb * (1024 * 1024 / BLCKSZ) / PARTS);
}

static void set_shape(void)
{
    part_places = places_of_mb(Max(loch_settings.cache_max_mb, loch_settings.cache_mb));
    part_buckets = 1;
    while (part_buckets < part_places)
        part_buckets *= 2;
}

static Size entries_bytes(void)
{
    return MAXALIGN((Size)PARTS * part_places * sizeof(struct entry));
}

Size loch_cache_shared_bytes(void)
{
    set_shape();
    return MAXALIGN(sizeof(struct cache)) + entries_bytes() +
           (Size)PARTS * part_buckets * sizeof(uint32);
}

/* ---- a part: the caller holds its lock ---- */

struct spot {
    struct loch_cache_tag tag;
    uint32 part;
    uint32 *bucket;
};

static struct spot spot_of(RelFileNode rnode, BlockNumber block)
{
    struct spot s;
    uint32 hash;

    memset(&s.tag, 0, sizeof s.tag);
    s.tag = (struct loch_cache_tag){rnode.spcNode, rnode.dbNode, rnode.relNode, block};
    hash = hash_bytes((const unsigned char *)&s.tag, (int)sizeof s.tag);
    s.part = hash % PARTS;
    s.bucket = &buckets[(Size)s.part * part_buckets + ((hash / PARTS) & (part_buckets - 1))];
    return s;
}

static struct entry *entry_at(uint32 part, uint32 index)
{
    return &entries[(Size)part * part_places + index];
}

/* Places of all parts take turns, so that a smaller limit is a shorter file. */
static uint64 place_of(uint32 part, const struct entry *e)
{
    return (uint64)(e - entry_at(part, 0)) * PARTS + part;
}

static struct entry *find(const struct spot *s)
{
    uint32 at = *s->bucket;

    while (at != 0) {
        struct entry *e = entry_at(s->part, at - 1);

        if (memcmp(&e->tag, &s->tag, sizeof s->tag) == 0)
            return e;
        at = e->next;
    }
    return NULL;
}

static void link_entry(const struct spot *s, struct entry *e)
{
    e->tag = s->tag;
    e->next = *s->bucket;
    *s->bucket = (uint32)(e - entry_at(s->part, 0)) + 1;
    cache->parts[s->part].used++;
}

static void unlink_entry(uint32 part, struct entry *e)
{
    RelFileNode rnode = {e->tag.spc, e->tag.db, e->tag.rel};
    struct spot s = spot_of(rnode, e->tag.block);
    uint32 *at = s.bucket, mine = (uint32)(e - entry_at(part, 0)) + 1;

    while (*at != mine)
        at = &entry_at(part, *at - 1)->next;
    *at = e->next;
    memset(&e->tag, 0, sizeof e->tag);
    cache->parts[part].used--;
}

/* A free place, or that of a page which nobody used for longest; NULL: none. */
static struct entry *take_place(uint32 part)
{
    struct part *p = &cache->parts[part];

    if (p->fresh < p->limit && loch_cache_file_may_grow())
        return entry_at(part, p->fresh++);
    for (uint64 steps = (uint64)p->fresh * (USES_MAX + 1); steps > 0; steps--) {
        struct entry *e = entry_at(part, p->hand);
        uint32 uses = pg_atomic_read_u32(&e->uses);

        p->hand = (p->hand + 1) % p->fresh;
        if (e->tag.rel == InvalidOid)
            return e;
        if (uses == 0) {
            unlink_entry(part, e);
            loch_count(cache_evicted);
            return e;
        }
        pg_atomic_write_u32(&e->uses, uses - 1);
    }
    return NULL;
}

static void limit_part(uint32 part, uint32 limit)
{
    struct part *p = &cache->parts[part];

    LWLockAcquire(&locks[part].lock, LW_EXCLUSIVE);
    for (uint32 i = limit; i < p->fresh; i++)
        if (entry_at(part, i)->tag.rel != InvalidOid)
            unlink_entry(part, entry_at(part, i));
    p->fresh = Min(p->fresh, limit);
    p->limit = limit;
    p->hand = 0;
    LWLockRelease(&locks[part].lock);
}

/* ---- on and off ---- */

static loch_status limit_all(uint32 limit)
{
    for (uint32 part = 0; part < PARTS; part++)
        limit_part(part, limit);
    return loch_cache_file_shrink((uint64)limit * PARTS);
}

static bool is_on(void)
{
    return cache != NULL && pg_atomic_read_u32(&cache->off) == 0;
}

/* Holding no part's lock. The space is given back: the scratch may be full. */
static void switch_off(loch_status why)
{
    uint32 was = 0;

    if (!pg_atomic_compare_exchange_u32(&cache->off, &was, 1))
        return;
    loch_count(cache_switched_off);
    loch_report(LOG, why, "the local cache is switched off until the next reload or restart");
    (void)!loch_is_ok(limit_all(0));
}

void loch_cache_make(LWLockPadded *first_lock)
{
    bool found;
    Size bytes = loch_cache_shared_bytes();
    struct cache *c = ShmemInitStruct("loch cache", bytes, &found);
    loch_status st;

    if (found || part_places == 0)
        return;
    locks = first_lock;
    entries = (struct entry *)(void *)((char *)c + MAXALIGN(sizeof *c));
    buckets = (uint32 *)(void *)((char *)entries + entries_bytes());
    pg_atomic_init_u64(&c->counter, 0);
    pg_atomic_init_u32(&c->off, 0);
    st = loch_cache_file_create(loch_settings.cache_directory);
    if (!loch_is_ok(st)) {
        loch_report(LOG, st, "there is no local cache");
        return;
    }
    cache = c;
    for (uint32 part = 0; part < PARTS; part++)
        cache->parts[part].limit = places_of_mb(loch_settings.cache_mb);
}

void loch_cache_apply_size(void)
{
    uint32 wanted = places_of_mb(loch_settings.cache_mb);
    loch_status st;

    if (cache == NULL)
        return;
    if (wanted > part_places) {
        ereport(LOG, (errmsg("loch.cache_size is limited to %d MB until the next start",
                             (int)((uint64)part_places * PARTS * BLCKSZ >> 20)),
                      errhint("Raise loch.cache_max_size.")));
        wanted = part_places;
    }
    pg_atomic_write_u32(&cache->off, 0);
    st = limit_all(wanted);
    if (!loch_is_ok(st))
        switch_off(st);
}

/* ---- pages ---- */

/* Copies the entry and reads its block; *found false: a miss. */
static loch_status read_entry(const struct spot *s, XLogRecPtr lsn, struct entry *copy,
                              uint64 *place, bool *found)
{
    LWLock *lock = &locks[s->part].lock;
    loch_status st = LOCH_OK;
    struct entry *e;

    *found = false;
    LWLockAcquire(lock, LW_SHARED);
    e = find(s);
    if (e != NULL && e->lsn != lsn && loch_fix_on(cache)) {
        loch_count(cache_stale);
        e = NULL;
    }
    if (e != NULL) {
        *copy = *e;
        *place = place_of(s->part, e);
        *found = true;
        st = loch_cache_file_read(*place);
        pg_atomic_write_u32(&e->uses, Min(pg_atomic_read_u32(&e->uses) + 1, USES_MAX));
    }
    LWLockRelease(lock);
    return st;
}

bool loch_cache_get(RelFileNode rnode, BlockNumber block, XLogRecPtr lsn, char *page)
{
    struct spot s;
    struct entry copy;
    uint64 place = 0;
    bool found;
    loch_status st;

    if (!is_on())
        return false;
    s = spot_of(rnode, block);
    st = read_entry(&s, lsn, &copy, &place, &found);
    if (loch_is_ok(st) && found)
        st = loch_cache_file_open(&s.tag, copy.lsn, place, &copy.seal, page);
    if (!loch_is_ok(st))
        switch_off(st);
    if (!loch_is_ok(st) || !found) {
        loch_count(cache_miss);
        return false;
    }
    loch_count(cache_hit);
    return true;
}

bool loch_cache_has(RelFileNode rnode, BlockNumber block, XLogRecPtr lsn)
{
    struct spot s;
    const struct entry *e;
    bool has;

    if (!is_on())
        return false;
    s = spot_of(rnode, block);
    LWLockAcquire(&locks[s.part].lock, LW_SHARED);
    e = find(&s);
    has = e != NULL && (e->lsn == lsn || !loch_fix_on(cache));
    LWLockRelease(&locks[s.part].lock);
    return has;
}

/* With the part's lock: seals and writes the page at e's place. */
static loch_status fill(const struct spot *s, struct entry *e, XLogRecPtr lsn, const char *page)
{
    uint64 place = place_of(s->part, e);
    struct loch_cache_seal seal;

    LOCH_TRY(loch_cache_file_seal(&cache->counter, &s->tag, lsn, place, page, &seal));
    LOCH_TRY(loch_cache_file_write(place));
    e->seal = seal;
    e->lsn = lsn;
    pg_atomic_write_u32(&e->uses, 0);
    return LOCH_OK;
}

static bool put(RelFileNode rnode, BlockNumber block, XLogRecPtr lsn, const char *page,
                const uint32 *mark)
{
    loch_status st = LOCH_OK;
    struct spot s = spot_of(rnode, block);
    struct entry *e;

    LWLockAcquire(&locks[s.part].lock, LW_EXCLUSIVE);
    e = find(&s);
    if ((e != NULL && !loch_fix_on(cache)) ||
        (mark != NULL && *mark != cache->parts[s.part].kept)) {
        LWLockRelease(&locks[s.part].lock);
        return false;
    }
    if (e != NULL)
        unlink_entry(s.part, e);
    else
        e = take_place(s.part);
    if (e != NULL) {
        st = fill(&s, e, lsn, page);
        if (loch_is_ok(st))
            link_entry(&s, e);
    }
    LWLockRelease(&locks[s.part].lock);
    if (!loch_is_ok(st))
        switch_off(st);
    else if (e != NULL)
        loch_count(cache_filled);
    return loch_is_ok(st) && e != NULL;
}

void loch_cache_put(RelFileNode rnode, BlockNumber block, XLogRecPtr lsn, const char *page)
{
    if (is_on())
        (void)put(rnode, block, lsn, page, NULL);
}

bool loch_cache_put_marked(RelFileNode rnode, BlockNumber block, XLogRecPtr lsn, const char *page,
                           uint32 mark)
{
    return is_on() && put(rnode, block, lsn, page, &mark);
}

uint32 loch_cache_mark(RelFileNode rnode, BlockNumber block)
{
    struct spot s;
    uint32 kept;

    if (cache == NULL)
        return 0;
    s = spot_of(rnode, block);
    LWLockAcquire(&locks[s.part].lock, LW_SHARED);
    kept = cache->parts[s.part].kept;
    LWLockRelease(&locks[s.part].lock);
    return kept;
}

void loch_cache_forget(RelFileNode rnode, BlockNumber block)
{
    struct spot s;
    struct entry *e;

    if (cache == NULL || !loch_fix_on(cache))
        return;
    s = spot_of(rnode, block);
    LWLockAcquire(&locks[s.part].lock, LW_EXCLUSIVE);
    cache->parts[s.part].kept++;
    e = find(&s);
    if (e != NULL)
        unlink_entry(s.part, e);
    LWLockRelease(&locks[s.part].lock);
}

void loch_cache_state(struct loch_cache_state *out)
{
    memset(out, 0, sizeof *out);
    if (cache == NULL)
        return;
    out->on = is_on() && cache->parts[0].limit > 0;
    out->max_bytes = (uint64)part_places * PARTS * BLCKSZ;
    out->writes = pg_atomic_read_u64(&cache->counter);
    for (uint32 part = 0; part < PARTS; part++) {
        LWLockAcquire(&locks[part].lock, LW_SHARED);
        out->size_bytes += (uint64)cache->parts[part].limit * BLCKSZ;
        out->used_blocks += cache->parts[part].used;
        LWLockRelease(&locks[part].lock);
    }
}

size_t loch_cache_list(struct loch_cache_tag *out, size_t max)
{
    size_t count = 0;

    for (uint32 wanted = USES_MAX + 1; is_on() && wanted-- > 0;) {
        for (uint32 part = 0; part < PARTS && count < max; part++) {
            LWLockAcquire(&locks[part].lock, LW_SHARED);
            for (uint32 i = 0; i < cache->parts[part].fresh && count < max; i++) {
                struct entry *e = entry_at(part, i);
                uint32 uses = pg_atomic_read_u32(&e->uses);

                if (e->tag.rel != InvalidOid && uses == wanted)
                    out[count++] = e->tag;
            }
            LWLockRelease(&locks[part].lock);
        }
    }
    return count;
}

#ifdef LOCH_TEST_SWITCHES
void loch_cache_test_counter(uint64 value)
{
    if (cache != NULL && pg_atomic_read_u64(&cache->counter) < value)
        pg_atomic_write_u64(&cache->counter, value);
}

void loch_cache_test_damage(void)
{
    for (uint32 part = 0; cache != NULL && part < PARTS; part++) {
        LWLockAcquire(&locks[part].lock, LW_EXCLUSIVE);
        for (uint32 i = 0; i < cache->parts[part].fresh; i++)
            loch_cache_file_test_damage((uint64)i * PARTS + part);
        LWLockRelease(&locks[part].lock);
    }
}
#endif
