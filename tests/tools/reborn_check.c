/* The storage engine against a stock server's own files: a data directory is imported into a real
 * timeline, the WAL that the server wrote from there to its shutdown is ingested, and everything
 * the timeline then says is compared with the stopped server's directory; a FULL base backup at
 * that LSN is written for a stock server to start on.
 *
 * usage: reborn_check BASE_DIR FINAL_DIR WORK_DIR TAR_FILE [reopen]
 *   BASE_DIR   copy of the directory, cleanly shut down, before the workload
 *   FINAL_DIR  the directory, cleanly shut down, after it; its pg_wal holds everything since
 *   reopen     twice on the way everything is flushed, closed and opened again from the manifest
 * Exit 1 when anything differs that WAL decides. Hint bits and what else redo leaves to chance are
 * masked.
 */
#include "basebackup/basebackup.h"
#include "import/import.h"
#include "ingest/ingest.h"
#include "read/page_cache.h"
#include "read/view.h"
#include "redo_pool/redo_pool.h"
#include "store/timeline.h"

#include "loch/base/log.h"
#include "loch/host/keys.h"
#include "loch/io/env.h"
#include "loch/kms/kms.h"
#include "loch/objstore/objstore.h"
#include "loch/pg/page.h"
#include "loch/pg/slru.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct entry {
    struct loch_key key;
    struct loch_slice value;
};

struct world {
    struct loch_env *env;
    struct loch_objstore *objstore;
    struct loch_kms *kms;
    struct loch_keys *keys;
    struct loch_redo_pool *redo;
    struct loch_page_cache *cache;
    struct loch_store store;
    struct loch_timeline_info info;
    struct loch_timeline *timeline;
    struct loch_ingest *ingest;
};

static struct entry *entries; /* what FINAL_DIR holds, sorted */
static size_t count, capacity;
static uint64_t differing;

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static LOCH_STATUS keep(void *arg, const struct loch_key *key, struct loch_slice value)
{
    uint8_t *copy = malloc(value.len != 0 ? value.len : 1);

    (void)arg;
    if (count == capacity) {
        capacity = capacity != 0 ? capacity * 2 : 4096;
        entries = realloc(entries, capacity * sizeof *entries);
    }
    if (copy == NULL || entries == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "expected values");
    memcpy(copy, value.data, value.len);
    entries[count++] = (struct entry){*key, loch_slice_of(copy, value.len)};
    return LOCH_OK;
}

static int compare_entries(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    return loch_key_compare(&x->key, &y->key);
}

static const struct entry *expected(const struct loch_key *key)
{
    const struct entry wanted = {.key = *key};
    return bsearch(&wanted, entries, count, sizeof *entries, compare_entries);
}

static void differs(const struct loch_key *key, const char *what)
{
    if (differing++ < 40)
        printf("DIFFERS: kind %u %u/%u/%u fork %u block %u: %s\n", key->kind, key->spc, key->db,
               key->rel, key->fork, key->block, what);
}

/* ---- the world ---- */

static LOCH_STATUS open_world(struct world *w, const char *dir)
{
    char path[4096], uri[4200];
    struct loch_redo_pool_options redo = {.postgres_bin_dir = "/usr/lib/postgresql/15/bin",
                                          .lib_dir = LOCH_LIB_DIR,
                                          .scratch_dir = dir};
    struct loch_keys_options keys = {.cluster = {{1}}, .node = {{2}}, .role = LOCH_ROLE_PAGESERVER};

    LOCH_TRY(loch_env_real_create(&w->env));
    snprintf(path, sizeof path, "%s/store", dir);
    LOCH_TRY(loch_objstore_open_local(w->env, path, &w->objstore));
    snprintf(path, sizeof path, "%s/cmk", dir);
    LOCH_TRY(loch_kms_file_create(path));
    snprintf(uri, sizeof uri, "file:%s", path);
    LOCH_TRY(loch_kms_open(uri, NULL, &w->kms));
    keys.store = w->objstore;
    keys.kms = w->kms;
    LOCH_TRY(loch_keys_create(&keys, &w->keys));
    LOCH_TRY(loch_redo_pool_create(&redo, &w->redo));
    LOCH_TRY(loch_page_cache_create((size_t)16 << 20, &w->cache));
    w->store = (struct loch_store){.env = w->env,
                                   .objstore = w->objstore,
                                   .dir = dir,
                                   .node = {{2}},
                                   .redo = w->redo,
                                   .cache = w->cache,
                                   .open_layer_bytes = (size_t)48 << 20};
    w->info.tenant = (struct loch_id){{3}};
    w->info.timeline = (struct loch_id){{4}};
    LOCH_TRY(loch_keys_tenant_create(w->keys, &w->info.tenant));
    return loch_keys_add_timeline(w->keys, &w->info.tenant, &w->info.timeline);
}

static LOCH_STATUS import(struct world *w, const char *dir)
{
    struct loch_import_facts facts;
    struct loch_import_stats stats;
    struct loch_buf control = {0};
    loch_status st;

    LOCH_TRY(loch_import_inspect(dir, &facts));
    w->info.system_id = facts.system_id;
    w->info.pg_version = facts.pg_version;
    w->info.segment_bytes = facts.segment_bytes;
    w->info.start_lsn = facts.start_lsn;
    LOCH_TRY(loch_timeline_create(&w->store, w->keys, &w->info, NULL, &w->timeline));
    LOCH_TRY(loch_import_into_timeline(dir, &facts, w->timeline, &stats));
    LOCH_TRY_OUT(st, loch_control_encode(&facts.control, &control));
    LOCH_TRY_OUT(st, loch_timeline_commit(w->timeline, facts.prev_lsn, loch_buf_slice(&control)));
    printf("imported %" PRIu64 " pages at " LOCH_LSN_FMT "\n", stats.pages,
           LOCH_LSN_ARG(facts.start_lsn));
    st = loch_ingest_create(w->timeline, &w->ingest);
out:
    loch_buf_fini(&control);
    return st;
}

/* ---- ingest ---- */

static LOCH_STATUS reopen(struct world *w)
{
    LOCH_TRY(loch_ingest_freeze(w->ingest));
    LOCH_TRY(loch_timeline_flush(w->timeline));
    loch_ingest_destroy(w->ingest);
    loch_timeline_release(w->timeline);
    w->ingest = NULL;
    w->timeline = NULL;
    LOCH_TRY(loch_timeline_open(&w->store, w->keys, &w->info.tenant, &w->info.timeline, NULL,
                                &w->timeline));
    LOCH_TRY(loch_ingest_create(w->timeline, &w->ingest));
    printf("reopened at " LOCH_LSN_FMT "\n", LOCH_LSN_ARG(loch_ingest_position(w->ingest)));
    return LOCH_OK;
}

static LOCH_STATUS read_wal(const char *dir, loch_lsn lsn, uint8_t *out, size_t len,
                            uint32_t segment_bytes)
{
    char name[LOCH_WAL_SEGMENT_NAME_BYTES], path[4096];
    ssize_t got;
    int fd;

    loch_wal_segment_name(1, lsn / segment_bytes, segment_bytes, name);
    snprintf(path, sizeof path, "%s/pg_wal/%s", dir, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "%s", path);
    got = pread(fd, out, len, (off_t)(lsn % segment_bytes));
    close(fd);
    if (got != (ssize_t)len)
        return LOCH_FAIL(LOCH_E_IO, "%s: short", path);
    return LOCH_OK;
}

static LOCH_STATUS feed(struct world *w, const char *dir, loch_lsn end, bool reopening)
{
    const size_t piece = 100001; /* no boundary of anything */
    uint8_t *buffer = malloc(piece);
    loch_lsn at = loch_ingest_position(w->ingest), start = at;
    unsigned reopened = 0;
    double began = seconds();
    loch_status st = LOCH_OK;

    while (loch_is_ok(st) && at < end) {
        uint64_t room = w->info.segment_bytes - at % w->info.segment_bytes;
        size_t n = piece < room ? piece : (size_t)room;

        if (n > end - at)
            n = (size_t)(end - at);
        LOCH_TRY_OUT(st, read_wal(dir, at, buffer, n, w->info.segment_bytes));
        LOCH_TRY_OUT(st, loch_ingest_feed(w->ingest, loch_slice_of(buffer, n)));
        at += n;
        if (loch_timeline_frozen_bytes(w->timeline) > (size_t)64 << 20)
            LOCH_TRY_OUT(st, loch_timeline_flush(w->timeline));
        if (reopening && reopened < 2 && at > start + (end - start) / 3 * (reopened + 1)) {
            reopened++;
            LOCH_TRY_OUT(st, reopen(w));
            at = loch_ingest_position(w->ingest);
        }
    }
    printf("ingested %" PRIu64 " bytes in %.1f s\n", end - start, seconds() - began);
    if (loch_timeline_last_record_lsn(w->timeline) != end)
        st = LOCH_FAIL(LOCH_E_CORRUPT, "ingest stands at " LOCH_LSN_FMT ", not at " LOCH_LSN_FMT,
                       LOCH_LSN_ARG(loch_timeline_last_record_lsn(w->timeline)), LOCH_LSN_ARG(end));
out:
    free(buffer);
    return st;
}

/* ---- comparison ---- */

/* The kinds of index page that redo leaves otherwise than the server, by their special space. */
static bool is_sequence(const uint8_t *page)
{
    return loch_get_u16(page + 16) == 8184 && loch_get_u32(page + 8184) == 0x1717;
}

static bool is_spgist(const uint8_t *page)
{
    return loch_get_u16(page + 16) == 8184 && loch_get_u16(page + 8190) == 0xFF82;
}

static bool is_gin_deleted(const uint8_t *page)
{
    return loch_get_u16(page + 16) == 8184 && (loch_get_u16(page + 8190) & 0xFF00) == 0 &&
           (loch_get_u16(page + 8190) & 4) != 0;
}

static void mask_heap_tuple(uint8_t *page, uint16_t offset, uint16_t len)
{
    uint8_t *tuple = page + offset;
    uint16_t padded = (uint16_t)((len + 7) & ~7);

    memset(tuple + 8, 0, 4); /* command ids */
    /* hint bits, and the mark of combined command ids */
    loch_put_u16(tuple + 20, (uint16_t)(loch_get_u16(tuple + 20) & (uint16_t)~0x0F20u));
    if (offset + padded <= (int)LOCH_PAGE_BYTES)
        memset(tuple + len, 0, (size_t)(padded - len));
}

/* Clears what a primary changes on a page without WAL, or WAL does not carry (as rm_mask does). */
static void mask(uint8_t page[static LOCH_PAGE_BYTES], const struct loch_key *key)
{
    uint16_t lower = loch_get_u16(page + 12), upper = loch_get_u16(page + 14),
             special = loch_get_u16(page + 16);

    loch_put_u16(page + 8, 0);                                                      /* checksum */
    loch_put_u16(page + 10, (uint16_t)(loch_get_u16(page + 10) & (uint16_t)~0x3u)); /* hints */
    loch_put_u32(page + 20, 0);                                                     /* prune xid */
    memset(page, 0, 8);    /* compared apart */
    if (is_sequence(page)) /* up to 32 values are given out without WAL */
        memset(page + 24, 0, 8184 - 24);
    if (is_spgist(page) && key->block == 0) /* the metapage's cache of last used pages */
        memset(page + 24, 0, 8184 - 24);
    if (special == 8176) { /* btree and hash: marks of dead tuples; btree: vacuum cycle */
        bool hash = loch_get_u16(page + 8190) == 0xFF80;
        page[8188] &= (uint8_t) ~(hash ? 0x80u : 0x40u);
        if (!hash)
            loch_put_u16(page + 8190, 0);
    }
    if (is_gin_deleted(page))
        memset(page + 12, 0, LOCH_PAGE_BYTES - 12);
    if (lower < 24 || lower > upper || upper > special || special > LOCH_PAGE_BYTES)
        return;
    memset(page + lower, 0, (size_t)(upper - lower));
    for (uint16_t at = 24; at + 4 <= lower; at = (uint16_t)(at + 4)) {
        uint32_t item = loch_get_u32(page + at);
        uint16_t offset = item & 0x7fff, flags = item >> 15 & 3, len = (uint16_t)(item >> 17);

        if (special != LOCH_PAGE_BYTES) /* an index: dead marks are hints */
            loch_put_u32(page + at, item & ~(UINT32_C(3) << 15));
        else if (flags == 1 && offset >= upper && offset <= LOCH_PAGE_BYTES - 24)
            mask_heap_tuple(page, offset, len);
    }
}

/* Pages that a build wrote before it logged them carry no LSN or GiST's build LSN on the server. */
static bool lsn_is_legitimate(const uint8_t *have, const uint8_t *want, const struct loch_key *key)
{
    loch_lsn on_server = loch_page_lsn(want);

    return loch_page_lsn(have) == on_server || (on_server == 0 && key->fork == LOCH_FORK_INIT) ||
           on_server == 1;
}

/* Every bit that the timeline has set, the server has set. The other way round some are lost: those
 * of a database copied by STRATEGY wal_log, whose pages are logged without what lies in their
 * "hole". */
static bool vm_is_safe(const uint8_t *have, const uint8_t *want)
{
    for (size_t i = 24; i < LOCH_PAGE_BYTES; i++)
        if ((have[i] & ~want[i]) != 0)
            return false;
    return true;
}

struct totals {
    uint64_t pages, equal, masked, vm_bits_lost;
};

static LOCH_STATUS compare_page(struct loch_view *view, const struct entry *e, loch_lsn lsn,
                                struct totals *t)
{
    uint8_t have[LOCH_PAGE_BYTES], want[LOCH_PAGE_BYTES];
    struct loch_rel rel = {e->key.spc, e->key.db, e->key.rel};
    char text[100];
    size_t at = 0;

    LOCH_TRY(loch_view_page(view, &rel, e->key.fork, e->key.block, lsn, have));
    memcpy(want, e->value.data, sizeof want);
    t->pages++;
    if (memcmp(have, want, sizeof have) == 0) {
        t->equal++;
        return LOCH_OK;
    }
    if (e->key.fork == LOCH_FORK_VM) {
        t->vm_bits_lost++;
        if (!vm_is_safe(have, want))
            differs(&e->key, "a visibility bit is set that the server has not");
        return LOCH_OK;
    }
    if (!lsn_is_legitimate(have, want, &e->key)) {
        snprintf(text, sizeof text, "page LSN " LOCH_LSN_FMT ", the server has " LOCH_LSN_FMT,
                 LOCH_LSN_ARG(loch_page_lsn(have)), LOCH_LSN_ARG(loch_page_lsn(want)));
        differs(&e->key, text);
        return LOCH_OK;
    }
    mask(have, &e->key);
    mask(want, &e->key);
    t->masked++;
    while (at < sizeof have && have[at] == want[at])
        at++;
    if (at == sizeof have)
        return LOCH_OK;
    snprintf(text, sizeof text, "byte %zu is %02x, the server has %02x (special %u)", at, have[at],
             want[at], loch_get_u16(want + 16));
    differs(&e->key, text);
    return LOCH_OK;
}

/* What comes to be on a server without WAL: a visibility map in which no bit was ever set, and the
 * directory of a database in a tablespace that is not its own. */
static bool may_be_missing(const struct loch_key *key)
{
    static const uint8_t zeros[LOCH_PAGE_BYTES];
    const struct loch_key first = {
        .kind = LOCH_KEY_PAGE, .spc = key->spc, .db = key->db, .rel = key->rel, .fork = key->fork};
    const struct entry *page;

    if (key->kind == LOCH_KEY_DATABASE)
        return key->spc >= 16384;
    if (key->kind != LOCH_KEY_REL_SIZE || key->fork != LOCH_FORK_VM)
        return false;
    page = expected(&first);
    return page == NULL || memcmp(page->value.data + 24, zeros, LOCH_PAGE_BYTES - 24) == 0;
}

static bool is_exact(uint8_t kind)
{
    return kind == LOCH_KEY_REL_SIZE || kind == LOCH_KEY_SLRU_PAGE || kind == LOCH_KEY_RELMAP ||
           kind == LOCH_KEY_TWOPHASE || kind == LOCH_KEY_DATABASE;
}

static LOCH_STATUS compare_values(struct loch_view *view, loch_lsn lsn)
{
    struct loch_buf value = {0};
    struct totals t = {0};
    double began = seconds();
    loch_status st = LOCH_OK;

    for (size_t i = 0; i < count && loch_is_ok(st); i++) {
        const struct entry *e = &entries[i];
        bool found;

        if (e->key.kind == LOCH_KEY_PAGE) {
            st = compare_page(view, e, lsn, &t);
            continue;
        }
        if (!is_exact(e->key.kind) && e->key.kind != LOCH_KEY_ORIGIN)
            continue;
        LOCH_TRY_OUT(st, loch_view_get(view, &e->key, lsn, &value, &found, NULL));
        if (!found && may_be_missing(&e->key))
            continue;
        if (!found)
            differs(&e->key, "missing");
        else if (e->key.kind == LOCH_KEY_ORIGIN
                     ? memcmp(value.data, e->value.data, 8) != 0
                     : value.len != e->value.len ||
                           memcmp(value.data, e->value.data, value.len) != 0)
            differs(&e->key, "another value");
    }
    printf("pages compared %" PRIu64 ": equal %" PRIu64 ", equal after masking %" PRIu64
           ", with fewer visibility bits %" PRIu64 "; differing keys %" PRIu64
           " (%.1f us a page)\n",
           t.pages, t.equal, t.masked, t.vm_bits_lost, differing,
           t.pages != 0 ? (seconds() - began) * 1e6 / (double)t.pages : 0);
out:
    loch_buf_fini(&value);
    return st;
}

/* What the timeline has and the server does not. */
static LOCH_STATUS check_known(void *arg, const struct loch_key *key, struct loch_slice value,
                               loch_lsn version)
{
    (void)arg;
    (void)version;
    if (key->kind == LOCH_KEY_DATABASE && value.len > 0 && value.data[0] == 0)
        return LOCH_OK; /* dropped */
    if (key->kind == LOCH_KEY_REL_SIZE && key->fork == LOCH_FORK_FSM)
        return LOCH_OK;
    if (expected(key) == NULL)
        differs(key, "the server has no such thing");
    return LOCH_OK;
}

static LOCH_STATUS compare_extra(struct loch_view *view, loch_lsn lsn)
{
    for (uint8_t kind = LOCH_KEY_REL_SIZE; kind <= LOCH_KEY_TWOPHASE; kind++) {
        const struct loch_key first = {.kind = kind}, end = {.kind = (uint8_t)(kind + 1)};
        if (is_exact(kind))
            LOCH_TRY(loch_view_scan(view, &first, &end, lsn, check_known, NULL));
    }
    return LOCH_OK;
}

static void compare_control(const struct loch_control *have, const struct loch_control *want)
{
    const struct loch_checkpoint *a = &have->checkpoint, *b = &want->checkpoint;

    if (a->next_xid != b->next_xid || a->next_oid != b->next_oid ||
        a->next_multi != b->next_multi || a->next_multi_offset != b->next_multi_offset ||
        a->oldest_xid != b->oldest_xid || a->oldest_multi != b->oldest_multi ||
        have->last_end != want->last_end || have->last_start != want->last_start) {
        differing++;
        printf("DIFFERS: control: next xid %" PRIu64 "/%" PRIu64
               " oid %u/%u multi %u/%u offset %u/%u\n",
               a->next_xid, b->next_xid, a->next_oid, b->next_oid, a->next_multi, b->next_multi,
               a->next_multi_offset, b->next_multi_offset);
    }
}

static LOCH_STATUS write_out(void *arg, struct loch_slice bytes)
{
    if (fwrite(bytes.data, 1, bytes.len, arg) != bytes.len)
        return LOCH_FAIL(LOCH_E_IO, "write failed");
    return LOCH_OK;
}

static LOCH_STATUS backup(struct loch_view *view, const struct loch_control *control,
                          const char *tar)
{
    struct loch_basebackup_source source = loch_basebackup_view_source(view);
    struct loch_basebackup_request request = {.lsn = control->last_end,
                                              .prev_lsn = control->last_start,
                                              .control = control,
                                              .time = (int64_t)time(NULL),
                                              .full = true};
    FILE *out = fopen(tar, "wb");
    double began = seconds();
    loch_lsn end;

    if (out == NULL)
        return LOCH_FAIL(LOCH_E_IO, "%s: cannot be written", tar);
    loch_status st = loch_basebackup_send(&source, &request, write_out, out, &end);
    if (fclose(out) != 0 && loch_is_ok(st))
        st = LOCH_FAIL(LOCH_E_IO, "%s: cannot be written", tar);
    LOCH_TRY(st);
    printf("base backup at " LOCH_LSN_FMT ", %.1f s\n", LOCH_LSN_ARG(request.lsn),
           seconds() - began);
    return LOCH_OK;
}

static LOCH_STATUS run(struct world *w, char **argv, bool reopening)
{
    struct loch_import_facts final;
    struct loch_import_stats stats;
    struct loch_control control;
    struct loch_view *view;
    loch_status st;

    LOCH_TRY(open_world(w, argv[3]));
    LOCH_TRY(import(w, argv[1]));
    LOCH_TRY(loch_import_inspect(argv[2], &final));
    LOCH_TRY(feed(w, argv[2], final.start_lsn, reopening));
    LOCH_TRY(loch_import_put(argv[2], &final, keep, NULL, &stats));
    qsort(entries, count, sizeof *entries, compare_entries);
    loch_ingest_control(w->ingest, &control);
    compare_control(&control, &final.control);
    LOCH_TRY(loch_view_create(w->timeline, &view));
    LOCH_TRY_OUT(st, compare_values(view, final.start_lsn));
    LOCH_TRY_OUT(st, compare_extra(view, final.start_lsn));
    st = backup(view, &control, argv[4]);
out:
    loch_view_destroy(view);
    return st;
}

int main(int argc, char **argv)
{
    struct world w = {0};
    loch_status st;

    loch_log_init("reborn_check", LOCH_LOG_INFO);
    if (argc < 5) {
        fprintf(stderr, "usage: reborn_check BASE_DIR FINAL_DIR WORK_DIR TAR_FILE [reopen]\n");
        return 2;
    }
    st = run(&w, argv, argc > 5 && strcmp(argv[5], "reopen") == 0);
    if (!loch_is_ok(st))
        loch_log_failure("reborn_check");
    loch_ingest_destroy(w.ingest);
    loch_timeline_release(w.timeline);
    loch_redo_pool_destroy(w.redo);
    loch_page_cache_destroy(w.cache);
    return loch_is_ok(st) && differing == 0 ? 0 : 1;
}
