/* The pool: which worker serves which tenant, and what happens when one fails.
 *
 * One lock guards the list of workers. A worker that is busy is used by its caller alone, outside
 * the lock; only its pid may be killed by others, under the lock (`doom`), and only its caller
 * reaps it. A worker is bound to its tenant from start to end.
 */
#include "redo_pool/redo_pool.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/pg/control.h"
#include "redo_pool/poison.h"
#include "redo_pool/redo_process.h"
#include "redo_pool/spawn.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_PER_TENANT 2u
#define DEFAULT_WORKERS    64u
#define DEFAULT_TIMEOUT_MS 10000u
#define DEFAULT_IDLE_MS    60000u
#define DEFAULT_POISON_MS  60000u
#define ATTEMPTS           2 /* fresh workers that may die of one chain */
#define RENEWALS           8 /* workers that a chain may lose to renewals */

enum slot_state { SLOT_STARTING, SLOT_IDLE, SLOT_BUSY };

struct slot {
    struct slot *next;
    struct loch_id tenant;
    enum slot_state state;
    enum doom { DOOM_NONE, DOOM_RENEWED, DOOM_DROPPED } doom; /* it is to end: what for */
    uint64_t idle_since_ms;
    struct redo_process process;
};

struct loch_redo_pool {
    struct redo_launch launch; /* owns its strings */
    unsigned per_tenant, most, idle_ms;
    pthread_mutex_t lock;
    pthread_cond_t freed; /* a slot became idle or went away */
    struct slot *slots;   /* of all tenants; few */
    struct loch_redo_stats stats;
    unsigned poison_ms;
    struct poison_memory poison;
};

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- creation ---- */

static LOCH_STATUS join_path(const char *dir, const char *name, char **out)
{
    size_t len;

    if (dir == NULL || dir[0] == '\0')
        return LOCH_FAIL(LOCH_E_INVALID, "the redo pool needs the directory of %s", name);
    len = strlen(dir) + 1 + strlen(name) + 1;
    *out = malloc(len);
    if (*out == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "redo pool");
    snprintf(*out, len, "%s/%s", dir, name);
    return LOCH_OK;
}

/* The pg_control of a worker's data directory only has to pass the server's checks of version,
 * layout and CRC; nothing of it is used. */
static void minimal_control(uint8_t out[static LOCH_PAGE_BYTES])
{
    const struct loch_control control = {
        .system_id = 1,
        .state = LOCH_DB_SHUTDOWNED,
        .checkpoint_lsn = (16u << 20) + LOCH_WAL_LONG_PAGE_HEADER_BYTES,
        .checkpoint = {.redo = (16u << 20) + LOCH_WAL_LONG_PAGE_HEADER_BYTES,
                       .tli = 1,
                       .prev_tli = 1},
        .parameters = {.wal_level = 1,
                       .max_connections = 100,
                       .max_worker_processes = 8,
                       .max_wal_senders = 10,
                       .max_locks_per_xact = 64},
        .segment_bytes = 16u << 20,
    };

    static_assert(LOCH_PG_CONTROL_FILE_BYTES == LOCH_PAGE_BYTES, "one buffer fits both");
    loch_control_format(&control, out);
}

static LOCH_STATUS fill_launch(const struct loch_redo_pool_options *options,
                               struct redo_launch *launch)
{
    struct stat st;

    LOCH_TRY(join_path(options->postgres_bin_dir, "postgres", &launch->postgres));
    LOCH_TRY(join_path(options->lib_dir, "loch_redo.so", &launch->library));
    LOCH_TRY(loch_spawn_user(options->run_as_user, &launch->uid, &launch->gid));
    if (options->scratch_dir == NULL || stat(options->scratch_dir, &st) != 0 ||
        !S_ISDIR(st.st_mode))
        return LOCH_FAIL(LOCH_E_INVALID, "the redo pool's scratch directory %s is missing",
                         options->scratch_dir != NULL ? options->scratch_dir : "");
    if (access(launch->postgres, X_OK) != 0)
        return LOCH_FAIL(LOCH_E_INVALID, "%s: %s", launch->postgres, strerror(errno));
    if (access(launch->library, R_OK) != 0)
        return LOCH_FAIL(LOCH_E_INVALID, "%s: %s", launch->library, strerror(errno));
    /* Absolute: the worker starts in its own directory. */
    launch->scratch = realpath(options->scratch_dir, NULL);
    char *library = realpath(launch->library, NULL);
    if (launch->scratch == NULL || library == NULL) {
        free(library);
        return LOCH_FAIL(LOCH_E_INVALID, "redo pool's paths: %s", strerror(errno));
    }
    free(launch->library);
    launch->library = library;
    if (options->pg_control != NULL)
        memcpy(launch->control, options->pg_control, sizeof launch->control);
    else
        minimal_control(launch->control);
    launch->hint_lsn = options->hint_lsn;
    launch->timeout_ms =
        options->request_timeout_ms != 0 ? options->request_timeout_ms : DEFAULT_TIMEOUT_MS;
    return LOCH_OK;
}

static void launch_fini(struct redo_launch *launch)
{
    free(launch->postgres);
    free(launch->library);
    free(launch->scratch);
}

LOCH_STATUS loch_redo_pool_create(const struct loch_redo_pool_options *options,
                                  struct loch_redo_pool **out)
{
    struct loch_redo_pool *pool = calloc(1, sizeof *pool);
    pthread_condattr_t attr;
    loch_status st;

    if (pool == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "redo pool");
    st = fill_launch(options, &pool->launch);
    if (!loch_is_ok(st)) {
        launch_fini(&pool->launch);
        free(pool);
        return st;
    }
    pool->per_tenant =
        options->max_workers_per_tenant != 0 ? options->max_workers_per_tenant : DEFAULT_PER_TENANT;
    pool->most = options->max_workers != 0 ? options->max_workers : DEFAULT_WORKERS;
    pool->idle_ms = options->idle_timeout_ms != 0 ? options->idle_timeout_ms : DEFAULT_IDLE_MS;
    pool->poison_ms = options->poison_ms != 0 ? options->poison_ms : DEFAULT_POISON_MS;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->freed, &attr);
    pthread_condattr_destroy(&attr);
    *out = pool;
    return LOCH_OK;
}

/* ---- slots; all with the lock held unless said ---- */

static void unlink_slot(struct loch_redo_pool *pool, struct slot *slot)
{
    for (struct slot **at = &pool->slots; *at != NULL; at = &(*at)->next) {
        if (*at == slot) {
            *at = slot->next;
            pool->stats.workers--;
            pthread_cond_broadcast(&pool->freed);
            return;
        }
    }
    LOCH_ASSERT(false); /* a slot is always in the list */
}

/* Without the lock. */
static void end_slots(struct slot *list)
{
    while (list != NULL) {
        struct slot *next = list->next;
        redo_process_end(&list->process);
        free(list);
        list = next;
    }
}

/* Takes idle slots out: those idle too long, or all of `tenant` when given. */
static struct slot *take_idle(struct loch_redo_pool *pool, const struct loch_id *tenant)
{
    uint64_t now = now_ms();
    struct slot *taken = NULL;

    for (struct slot **at = &pool->slots; *at != NULL;) {
        struct slot *slot = *at;
        bool go = tenant != NULL ? loch_id_equal(&slot->tenant, tenant)
                                 : now - slot->idle_since_ms >= pool->idle_ms;

        if (slot->state != SLOT_IDLE || !go) {
            at = &slot->next;
            continue;
        }
        *at = slot->next;
        pool->stats.workers--;
        slot->next = taken;
        taken = slot;
    }
    if (taken != NULL)
        pthread_cond_broadcast(&pool->freed);
    return taken;
}

/* The idle slot that has waited longest, whoever's it is; NULL when all are busy. */
static struct slot *longest_idle(struct loch_redo_pool *pool)
{
    struct slot *best = NULL;

    for (struct slot *s = pool->slots; s != NULL; s = s->next)
        if (s->state == SLOT_IDLE && (best == NULL || s->idle_since_ms < best->idle_since_ms))
            best = s;
    return best;
}

/* Finds an idle worker of the tenant (*fresh false), or makes a slot for a new one (*fresh true);
 * waits while the tenant or the pool has no room. *evicted: to be ended by the caller. */
static LOCH_STATUS acquire(struct loch_redo_pool *pool, const struct loch_id *tenant,
                           struct slot **out, bool *fresh, struct slot **evicted)
{
    for (;;) {
        unsigned mine = 0;
        struct slot *idle = NULL;

        for (struct slot *s = pool->slots; s != NULL; s = s->next) {
            if (!loch_id_equal(&s->tenant, tenant))
                continue;
            mine++;
            /* The one used last has the warmest caches. */
            if (s->state == SLOT_IDLE && (idle == NULL || s->idle_since_ms > idle->idle_since_ms))
                idle = s;
        }
        if (idle != NULL) {
            idle->state = SLOT_BUSY;
            *out = idle;
            *fresh = false;
            return LOCH_OK;
        }
        if (mine < pool->per_tenant) {
            if (pool->stats.workers >= pool->most && *evicted == NULL) {
                struct slot *victim = longest_idle(pool);
                if (victim != NULL) {
                    unlink_slot(pool, victim);
                    victim->next = NULL;
                    *evicted = victim;
                }
            }
            if (pool->stats.workers < pool->most)
                break;
        }
        pthread_cond_wait(&pool->freed, &pool->lock);
    }
    struct slot *slot = calloc(1, sizeof *slot);
    if (slot == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "redo worker");
    slot->tenant = *tenant;
    slot->state = SLOT_STARTING;
    slot->process.fd = -1;
    slot->next = pool->slots;
    pool->slots = slot;
    pool->stats.workers++;
    *out = slot;
    *fresh = true;
    return LOCH_OK;
}

/* Without the lock: a worker of the tenant for the caller alone. *doom: why the one that was
 * started for it has ended already. */
static LOCH_STATUS checkout(struct loch_redo_pool *pool, const struct loch_id *tenant,
                            struct slot **out, enum doom *doom)
{
    struct slot *slot = NULL, *evicted = NULL, *stale;
    struct redo_process process;
    bool fresh = false;
    loch_status st;

    *doom = DOOM_NONE;
    pthread_mutex_lock(&pool->lock);
    stale = take_idle(pool, NULL);
    st = acquire(pool, tenant, &slot, &fresh, &evicted);
    pthread_mutex_unlock(&pool->lock);
    end_slots(stale);
    end_slots(evicted);
    LOCH_TRY(st);
    if (!fresh) {
        *out = slot;
        return LOCH_OK;
    }
    st = redo_process_start(&pool->launch, &process);
    pthread_mutex_lock(&pool->lock);
    *doom = slot->doom;
    if (loch_is_ok(st)) {
        pool->stats.spawned++;
        slot->process = process;
        slot->state = SLOT_BUSY;
    }
    if (!loch_is_ok(st) || *doom != DOOM_NONE) {
        unlink_slot(pool, slot);
        slot->next = NULL;
        pthread_mutex_unlock(&pool->lock);
        end_slots(slot);
        return loch_is_ok(st)
                   ? LOCH_FAIL(LOCH_E_UNAVAILABLE, "the tenant's redo workers were ended")
                   : st;
    }
    pthread_mutex_unlock(&pool->lock);
    *out = slot;
    return LOCH_OK;
}

/* Without the lock: gives a worker back (good) or ends it. Returns why it had to end. */
static enum doom checkin(struct loch_redo_pool *pool, struct slot *slot, bool good)
{
    pthread_mutex_lock(&pool->lock);
    const enum doom doom = slot->doom;
    if (good && doom == DOOM_NONE) {
        slot->state = SLOT_IDLE;
        slot->idle_since_ms = now_ms();
        pthread_cond_broadcast(&pool->freed);
        pthread_mutex_unlock(&pool->lock);
        return doom;
    }
    unlink_slot(pool, slot);
    slot->next = NULL;
    pthread_mutex_unlock(&pool->lock);
    end_slots(slot);
    return doom;
}

/* ---- requests ---- */

struct chain {
    const struct loch_rel *rel;
    enum loch_fork fork;
    uint32_t block;
    const struct loch_redo_record *records;
    size_t count;
    uint32_t flags;
};

static size_t padded(size_t len)
{
    return (len + 7) & ~(size_t)7;
}

/* How many of the records fit into one frame with a base page. */
static size_t records_that_fit(const struct loch_redo_record *records, size_t count)
{
    size_t bytes = LOCH_REDO_REQUEST_BYTES + LOCH_PAGE_BYTES, n = 0;

    while (n < count) {
        size_t one = LOCH_REDO_RECORD_BYTES + padded(records[n].bytes.len);
        if (one > LOCH_REDO_FRAME_MAX - bytes)
            break;
        bytes += one;
        n++;
    }
    return n;
}

static LOCH_STATUS build_request(struct loch_buf *buf, const struct chain *c, const uint8_t *base)
{
    struct loch_writer w;

    buf->len = 0;
    loch_writer_init(&w, buf);
    loch_write_u32(&w, 0); /* filled in below */
    loch_write_u32(&w, c->flags | (base != NULL ? LOCH_REDO_HAS_BASE : 0u));
    loch_write_u32(&w, c->rel->spc);
    loch_write_u32(&w, c->rel->db);
    loch_write_u32(&w, c->rel->rel);
    loch_write_u32(&w, (uint32_t)c->fork);
    loch_write_u32(&w, c->block);
    loch_write_u32(&w, (uint32_t)c->count);
    loch_write_u64(&w, 0);
    if (base != NULL)
        loch_write_bytes(&w, base, LOCH_PAGE_BYTES);
    for (size_t i = 0; i < c->count; i++) {
        const struct loch_redo_record *r = &c->records[i];

        loch_write_u64(&w, r->start_lsn);
        loch_write_u64(&w, r->end_lsn);
        loch_write_u32(&w, (uint32_t)r->bytes.len);
        loch_write_u32(&w, 0);
        loch_write_bytes(&w, r->bytes.data, r->bytes.len);
        loch_write_zeros(&w, padded(r->bytes.len) - r->bytes.len);
    }
    LOCH_TRY(loch_writer_finish(&w));
    LOCH_ASSERT(buf->len <= LOCH_REDO_FRAME_MAX);
    loch_put_u32(buf->data, (uint32_t)buf->len);
    return LOCH_OK;
}

static loch_status chain_failed(const struct chain *c, const struct redo_answer *answer,
                                const char *why)
{
    const struct loch_redo_record *first = &c->records[0], *last = &c->records[c->count - 1];
    const struct loch_redo_record *bad = NULL;

    for (size_t i = 0; i < c->count && answer->at != LOCH_LSN_NONE; i++)
        if (c->records[i].start_lsn == answer->at)
            bad = &c->records[i];
    if (bad != NULL && bad->bytes.len >= 18)
        return LOCH_FAIL(LOCH_E_CORRUPT,
                         "redo of %u/%u/%u fork %d block %u: record at " LOCH_LSN_FMT
                         " (resource manager %u, info %02X): %s",
                         c->rel->spc, c->rel->db, c->rel->rel, (int)c->fork, c->block,
                         LOCH_LSN_ARG(bad->start_lsn), bad->bytes.data[17], bad->bytes.data[16],
                         why);
    return LOCH_FAIL(LOCH_E_CORRUPT,
                     "redo of %u/%u/%u fork %d block %u: records " LOCH_LSN_FMT " to " LOCH_LSN_FMT
                     " (last: resource manager %u, info %02X): %s",
                     c->rel->spc, c->rel->db, c->rel->rel, (int)c->fork, c->block,
                     LOCH_LSN_ARG(first->start_lsn), LOCH_LSN_ARG(last->start_lsn),
                     last->bytes.len >= 18 ? last->bytes.data[17] : 255u,
                     last->bytes.len >= 18 ? last->bytes.data[16] : 255u, why);
}

static void count_end(struct loch_redo_pool *pool, enum redo_end end, size_t records)
{
    pthread_mutex_lock(&pool->lock);
    switch (end) {
    case REDO_END_OK:
        pool->stats.requests++;
        pool->stats.records += records;
        break;
    case REDO_END_REFUSED:
        break; /* counted where the chain is given up */
    case REDO_END_DIED:
        pool->stats.died++;
        break;
    case REDO_END_HUNG:
        pool->stats.timed_out++;
        break;
    }
    pthread_mutex_unlock(&pool->lock);
}

static LOCH_STATUS ask_once(struct loch_redo_pool *pool, const struct loch_id *tenant,
                            const struct chain *c, const uint8_t *base,
                            uint8_t page[static LOCH_PAGE_BYTES], struct redo_answer *answer,
                            enum redo_end *end, enum doom *doom)
{
    struct slot *slot = NULL;
    loch_status st;

    *end = REDO_END_DIED;
    LOCH_TRY(checkout(pool, tenant, &slot, doom));
    st = build_request(&slot->process.request, c, base);
    if (loch_is_ok(st))
        *end = redo_process_ask(&slot->process, pool->launch.timeout_ms, page, answer);
    *doom = checkin(pool, slot, loch_is_ok(st) && *end == REDO_END_OK);
    LOCH_TRY(st);
    if (*doom != DOOM_NONE && *end != REDO_END_OK)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the tenant's redo workers were ended");
    count_end(pool, *end, *end == REDO_END_OK ? c->count : 0);
    return LOCH_OK;
}

/* Asks one worker; in the place of one that was renewed under it another. A failure of the status
 * is not the chain's; else *end says how it went. */
static LOCH_STATUS ask_worker(struct loch_redo_pool *pool, const struct loch_id *tenant,
                              const struct chain *c, const uint8_t *base,
                              uint8_t page[static LOCH_PAGE_BYTES], struct redo_answer *answer,
                              enum redo_end *end)
{
    for (int renewals = 0;; renewals++) {
        enum doom doom = DOOM_NONE;
        const loch_status st = ask_once(pool, tenant, c, base, page, answer, end, &doom);

        if (loch_is_ok(st) || doom != DOOM_RENEWED || renewals == RENEWALS)
            return st;
    }
}

/* Reports the failure, and remembers the record if it is known: a single one, or the one that the
 * worker named. */
static LOCH_STATUS give_up(struct loch_redo_pool *pool, const struct loch_id *tenant,
                           const struct chain *c, struct redo_answer *answer, const char *why)
{
    uint64_t until = now_ms() + pool->poison_ms;

    if (c->count == 1)
        answer->at = c->records[0].start_lsn;
    pthread_mutex_lock(&pool->lock);
    pool->stats.poisoned++;
    for (size_t i = 0; i < c->count; i++) {
        const struct loch_redo_record *r = &c->records[i];
        if (r->start_lsn != answer->at)
            continue;
        struct poison_key key =
            poison_key(tenant, c->rel, (uint32_t)c->fork, c->block, r->start_lsn, r->bytes);
        poison_remember(&pool->poison, &key, until, why);
    }
    pthread_mutex_unlock(&pool->lock);
    return chain_failed(c, answer, why);
}

/* Fails when the chain holds a record that is remembered: no worker is asked. */
static LOCH_STATUS check_poison(struct loch_redo_pool *pool, const struct loch_id *tenant,
                                const struct chain *c)
{
    struct redo_answer answer = {0};
    char why[sizeof pool->poison.entries[0].why + 40] = "";
    uint64_t now = now_ms();

    pthread_mutex_lock(&pool->lock);
    size_t count = poison_any(&pool->poison, now) ? c->count : 0;
    for (size_t i = 0; i < count && why[0] == '\0'; i++) {
        const struct loch_redo_record *r = &c->records[i];
        struct poison_key key =
            poison_key(tenant, c->rel, (uint32_t)c->fork, c->block, r->start_lsn, r->bytes);
        const struct poison *p = poison_find(&pool->poison, &key, now);
        if (p == NULL)
            continue;
        (void)snprintf(why, sizeof why, "%s (tried again in %" PRIu64 " s)", p->why,
                       (p->until_ms - now + 999) / 1000);
        answer.at = r->start_lsn;
        pool->stats.turned_away++;
    }
    pthread_mutex_unlock(&pool->lock);
    return why[0] != '\0' ? chain_failed(c, &answer, why) : LOCH_OK;
}

/* After the chain has killed workers: record by record, so that the one that does it is known. A
 * chain that gets through after all has its page. */
static LOCH_STATUS run_one_by_one(struct loch_redo_pool *pool, const struct loch_id *tenant,
                                  const struct chain *c, const uint8_t *base, const char *why,
                                  uint8_t page[static LOCH_PAGE_BYTES], struct redo_answer *answer)
{
    uint8_t now[LOCH_PAGE_BYTES], next[LOCH_PAGE_BYTES];
    uint32_t checked = 0, differing = 0;
    enum redo_end end = REDO_END_OK;

    for (size_t i = 0; i < c->count; i++) {
        struct chain one = *c;

        one.records = &c->records[i];
        one.count = 1;
        LOCH_TRY(ask_worker(pool, tenant, &one, base, next, answer, &end));
        if (end != REDO_END_OK)
            return give_up(pool, tenant, &one, answer,
                           end == REDO_END_REFUSED ? answer->text : why);
        checked += answer->checked;
        differing += answer->differing;
        memcpy(now, next, sizeof now);
        base = now;
    }
    answer->checked = checked;
    answer->differing = differing;
    memcpy(page, now, sizeof now);
    return LOCH_OK;
}

/* One frame's worth of records; tries a second, fresh worker when the first dies or hangs. */
static LOCH_STATUS run_chain(struct loch_redo_pool *pool, const struct loch_id *tenant,
                             const struct chain *c, const uint8_t *base,
                             uint8_t page[static LOCH_PAGE_BYTES], struct redo_answer *answer)
{
    const char *why = "";

    LOCH_TRY(check_poison(pool, tenant, c));
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        enum redo_end end;

        LOCH_TRY(ask_worker(pool, tenant, c, base, page, answer, &end));
        if (end == REDO_END_OK)
            return LOCH_OK;
        if (end == REDO_END_REFUSED)
            return give_up(pool, tenant, c, answer, answer->text);
        why = end == REDO_END_HUNG ? "the redo worker hangs" : "the redo worker dies";
        LOCH_WARN("%s at block %u of %u/%u/%u, attempt %d", why, c->block, c->rel->spc, c->rel->db,
                  c->rel->rel, attempt + 1);
    }
    if (c->count == 1)
        return give_up(pool, tenant, c, answer, why);
    return run_one_by_one(pool, tenant, c, base, why, page, answer);
}

static LOCH_STATUS check_input(const struct chain *c)
{
    LOCH_ASSERT(c->count > 0);
    for (size_t i = 0; i < c->count; i++) {
        const struct loch_redo_record *r = &c->records[i];

        if (r->bytes.len > LOCH_REDO_FRAME_MAX - LOCH_REDO_REQUEST_BYTES - LOCH_PAGE_BYTES -
                               LOCH_REDO_RECORD_BYTES - 8)
            return LOCH_FAIL(LOCH_E_LIMIT,
                             "the record at " LOCH_LSN_FMT " has %zu bytes, too many for redo",
                             LOCH_LSN_ARG(r->start_lsn), r->bytes.len);
    }
    return LOCH_OK;
}

LOCH_STATUS loch_redo_pool_verify(struct loch_redo_pool *pool, const struct loch_id *tenant,
                                  const struct loch_rel *rel, enum loch_fork fork, uint32_t block,
                                  const uint8_t *base, const struct loch_redo_record *records,
                                  size_t count, uint8_t page_out[static LOCH_PAGE_BYTES],
                                  uint64_t *checked, uint64_t *differing)
{
    struct chain c = {.rel = rel, .fork = fork, .block = block, .records = records, .count = count};
    uint8_t page[LOCH_PAGE_BYTES];
    struct redo_answer answer;

    LOCH_TRY(check_input(&c));
    c.flags = checked != NULL ? LOCH_REDO_VERIFY : 0;
    while (count > 0) {
        uint8_t next[LOCH_PAGE_BYTES];

        c.count = records_that_fit(c.records, count);
        LOCH_TRY(run_chain(pool, tenant, &c, base, next, &answer));
        memcpy(page, next, sizeof page);
        base = page;
        c.records += c.count;
        count -= c.count;
        if (checked != NULL) {
            *checked += answer.checked;
            *differing += answer.differing;
        }
    }
    memcpy(page_out, page, sizeof page);
    return LOCH_OK;
}

LOCH_STATUS loch_redo_pool_apply(struct loch_redo_pool *pool, const struct loch_id *tenant,
                                 const struct loch_rel *rel, enum loch_fork fork, uint32_t block,
                                 const uint8_t *base, const struct loch_redo_record *records,
                                 size_t count, uint8_t page_out[static LOCH_PAGE_BYTES])
{
    return loch_redo_pool_verify(pool, tenant, rel, fork, block, base, records, count, page_out,
                                 NULL, NULL);
}

/* ---- ends ---- */

static void end_workers(struct loch_redo_pool *pool, const struct loch_id *tenant, enum doom doom)
{
    struct slot *idle;

    pthread_mutex_lock(&pool->lock);
    idle = take_idle(pool, tenant);
    for (struct slot *s = pool->slots; s != NULL; s = s->next) {
        if (!loch_id_equal(&s->tenant, tenant))
            continue;
        s->doom = s->doom == DOOM_DROPPED ? DOOM_DROPPED : doom;
        if (s->process.pid > 0)
            (void)kill(s->process.pid, SIGKILL);
    }
    pthread_mutex_unlock(&pool->lock);
    end_slots(idle);
}

void loch_redo_pool_drop_tenant(struct loch_redo_pool *pool, const struct loch_id *tenant)
{
    end_workers(pool, tenant, DOOM_DROPPED);
}

void loch_redo_pool_renew_tenant(struct loch_redo_pool *pool, const struct loch_id *tenant)
{
    end_workers(pool, tenant, DOOM_RENEWED);
}

void loch_redo_pool_reap(struct loch_redo_pool *pool)
{
    struct slot *stale;

    pthread_mutex_lock(&pool->lock);
    stale = take_idle(pool, NULL);
    pthread_mutex_unlock(&pool->lock);
    end_slots(stale);
}

void loch_redo_pool_stats(struct loch_redo_pool *pool, struct loch_redo_stats *out)
{
    pthread_mutex_lock(&pool->lock);
    *out = pool->stats;
    pthread_mutex_unlock(&pool->lock);
}

void loch_redo_pool_destroy(struct loch_redo_pool *pool)
{
    if (pool == NULL)
        return;
    for (struct slot *s = pool->slots; s != NULL; s = s->next)
        LOCH_ASSERT(s->state == SLOT_IDLE);
    end_slots(pool->slots);
    launch_fini(&pool->launch);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->freed);
    free(pool);
}
