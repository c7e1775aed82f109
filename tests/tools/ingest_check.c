/* Every page equals stock's: imports a data directory, ingests the WAL that a stock server wrote
 * after it, with flushes and restarts on the way, and compares every page of every relation, the
 * SLRUs and the control data with what the server left when it stopped.
 *
 * usage: ingest_check BASE_DIR FINAL_DIR SCRATCH_DIR LIB_DIR [layer=BYTES] [restarts=N]
 * [cache=BYTES] BASE_DIR: the directory before (cleanly shut down); FINAL_DIR: after, cleanly shut
 * down, with all WAL since in its pg_wal. Exit 0: equal.
 */
#include "import/import.h"
#include "ingest/ingest.h"
#include "page_mask.h"
#include "read/page_cache.h"
#include "read/view.h"
#include "redo_pool/redo_pool.h"
#include "store/frame_cache.h"
#include "store/timeline.h"

#include "loch/base/log.h"
#include "loch/crypto/random.h"
#include "loch/host/keys.h"
#include "loch/io/env.h"
#include "loch/kms/kms.h"
#include "loch/objstore/objstore.h"
#include "loch/pg/page.h"
#include "loch/pg/slru.h"
#include "loch/pg/wal_scan.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHECK(expr_)                                                                               \
    do {                                                                                           \
        loch_status check_st_ = (expr_);                                                           \
        if (!loch_is_ok(check_st_)) {                                                              \
            fprintf(stderr, "%s: %s (%s)\n", #expr_, loch_error_text(), loch_error_where());       \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static struct {
    const char *base, *final, *scratch, *lib;
    size_t layer_bytes, cache_bytes;
    unsigned restarts;
    struct loch_env *env;
    struct loch_kms *kms;
    struct loch_objstore *objstore;
    struct loch_keys *keys;
    struct loch_page_cache *cache;
    struct loch_frame_cache *frames;
    struct loch_store store;
    struct loch_id tenant, timeline_id;
    struct loch_timeline *timeline;
    struct loch_ingest *ingest;
    struct loch_view *view;
    loch_lsn lsn;
    uint64_t pages, equal, skipped, vm_less, different, failed, absent, sizes, slru_different;
} w = {.layer_bytes = (size_t)8 << 20, .cache_bytes = (size_t)32 << 20, .restarts = 3};

/* Never freed: a test. */
static char *path_of(const char *dir, const char *name)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s", dir, name) < 0)
        abort();
    return path;
}

static void open_world(void)
{
    char uri[4200];
    CHECK(loch_env_real_create(&w.env));
    CHECK(loch_kms_file_create(path_of(w.scratch, "cmk.key")));
    snprintf(uri, sizeof uri, "file:%s", path_of(w.scratch, "cmk.key"));
    CHECK(loch_kms_open(uri, NULL, &w.kms));
    CHECK(loch_objstore_open_local(w.env, path_of(w.scratch, "store"), &w.objstore));
    struct loch_keys_options o = {.store = w.objstore, .kms = w.kms, .role = LOCH_ROLE_PAGESERVER};
    CHECK(loch_random_id(&o.cluster));
    CHECK(loch_random_id(&o.node));
    CHECK(loch_random_id(&w.tenant));
    CHECK(loch_random_id(&w.timeline_id));
    CHECK(loch_keys_create(&o, &w.keys));
    CHECK(loch_keys_tenant_create(w.keys, &w.tenant));
    CHECK(loch_keys_add_timeline(w.keys, &w.tenant, &w.timeline_id));
    char *workers = path_of(w.scratch, "workers");
    CHECK(loch_env_mkdirs(w.env, workers));
    chmod(workers, 0755);
    static struct loch_redo_pool *redo;
    struct loch_redo_pool_options r = {
        .postgres_bin_dir = "/usr/lib/postgresql/15/bin", .lib_dir = w.lib, .scratch_dir = workers};
    CHECK(loch_redo_pool_create(&r, &redo));
    if (w.cache_bytes > 0)
        CHECK(loch_page_cache_create(w.cache_bytes, &w.cache));
    CHECK(loch_frame_cache_create((size_t)16 << 20, &w.frames));
    w.store = (struct loch_store){.env = w.env,
                                  .objstore = w.objstore,
                                  .dir = path_of(w.scratch, "pageserver"),
                                  .node = o.node,
                                  .redo = redo,
                                  .cache = w.cache,
                                  .frames = w.frames,
                                  .open_layer_bytes = w.layer_bytes};
}

static loch_lsn import_base(void)
{
    struct loch_import_facts facts;
    struct loch_import_stats stats = {0};
    CHECK(loch_import_inspect(w.base, &facts));
    struct loch_timeline_info info = {.tenant = w.tenant,
                                      .timeline = w.timeline_id,
                                      .system_id = facts.system_id,
                                      .pg_version = facts.pg_version,
                                      .segment_bytes = facts.segment_bytes,
                                      .start_lsn = facts.start_lsn};
    CHECK(loch_timeline_create(&w.store, w.keys, &info, NULL, &w.timeline));
    CHECK(loch_import_into_timeline(w.base, &facts, w.timeline, &stats));
    struct loch_buf control = {0};
    facts.control.last_start = facts.prev_lsn;
    facts.control.last_end = facts.start_lsn;
    CHECK(loch_control_encode(&facts.control, &control));
    CHECK(loch_timeline_commit(w.timeline, facts.prev_lsn, loch_buf_slice(&control)));
    loch_buf_fini(&control);
    printf("imported %" PRIu64 " relations, %" PRIu64 " pages at " LOCH_LSN_FMT "\n",
           stats.relations, stats.pages, LOCH_LSN_ARG(facts.start_lsn));
    return facts.start_lsn;
}

static void reopen(void)
{
    loch_ingest_destroy(w.ingest);
    loch_timeline_release(w.timeline);
    CHECK(loch_timeline_open(&w.store, w.keys, &w.tenant, &w.timeline_id, NULL, &w.timeline));
    CHECK(loch_ingest_create(w.timeline, &w.ingest));
    printf("restarted at " LOCH_LSN_FMT "\n",
           LOCH_LSN_ARG(loch_timeline_last_record_lsn(w.timeline)));
}

static loch_lsn final_end(void)
{
    struct loch_import_facts facts;
    CHECK(loch_import_inspect(w.final, &facts));
    return facts.start_lsn;
}

/* Feeds up to 64 KiB from the WAL files at ingest's position; false at the end. */
static bool feed(loch_lsn end, uint32_t segment_bytes)
{
    static uint8_t bytes[65536];
    char name[LOCH_WAL_SEGMENT_NAME_BYTES], sub[64];
    loch_lsn at = loch_ingest_position(w.ingest);
    if (at >= end)
        return false;
    uint64_t offset = at % segment_bytes;
    size_t n = sizeof bytes;
    if (n > segment_bytes - offset)
        n = (size_t)(segment_bytes - offset);
    if (n > end - at)
        n = (size_t)(end - at);
    loch_wal_segment_name(1, at / segment_bytes, segment_bytes, name);
    snprintf(sub, sizeof sub, "pg_wal/%s", name);
    int fd = open(path_of(w.final, sub), O_RDONLY);
    if (fd < 0 || pread(fd, bytes, n, (off_t)offset) != (ssize_t)n) {
        fprintf(stderr, "cannot read %s\n", sub);
        exit(1);
    }
    close(fd);
    CHECK(loch_ingest_feed(w.ingest, loch_slice_of(bytes, n)));
    if (loch_timeline_frozen_bytes(w.timeline) > 0)
        CHECK(loch_timeline_flush(w.timeline));
    return true;
}

static void ingest_all(loch_lsn start)
{
    uint32_t segment_bytes = loch_timeline_info(w.timeline)->segment_bytes;
    w.lsn = final_end();
    loch_lsn step = (w.lsn - start) / (w.restarts + 1) + 1, next = start + step;
    CHECK(loch_ingest_create(w.timeline, &w.ingest));
    uint64_t began = loch_env_now_ns(w.env);
    while (feed(w.lsn, segment_bytes)) {
        if (loch_ingest_position(w.ingest) >= next) {
            next += step;
            reopen();
        }
    }
    struct loch_ingest_stats stats;
    loch_ingest_stats(w.ingest, &stats);
    double seconds = (double)(loch_env_now_ns(w.env) - began) / 1e9;
    printf("ingested up to " LOCH_LSN_FMT ", %.1f MB in %.1f s\n",
           LOCH_LSN_ARG(loch_timeline_last_record_lsn(w.timeline)), (double)(w.lsn - start) / 1e6,
           seconds);
    if (loch_timeline_last_record_lsn(w.timeline) != w.lsn) {
        fprintf(stderr, "the last record is not the final checkpoint\n");
        exit(1);
    }
}

/* ---- comparing ---- */

static void compare_page(const struct loch_rel *rel, uint8_t fork, uint32_t block,
                         uint8_t theirs[LOCH_PAGE_BYTES])
{
    uint8_t ours[LOCH_PAGE_BYTES];
    w.pages++;
    if (!loch_is_ok(loch_view_page(w.view, rel, fork, block, w.lsn, ours))) {
        if (w.failed++ < 20)
            printf("FAILED %u/%u/%u fork %u block %u: %s\n", rel->spc, rel->db, rel->rel, fork,
                   block, loch_error_text());
        return;
    }
    loch_lsn a = loch_page_lsn(ours), b = loch_page_lsn(theirs);
    switch (page_compare(fork, ours, theirs)) {
    case PAGE_EQUAL:
        w.equal++;
        return;
    case PAGE_SKIPPED:
        w.skipped++;
        return;
    case PAGE_VM_LESS:
        w.vm_less++;
        return;
    case PAGE_DIFFERENT:
        break;
    }
    if (w.different++ >= 20)
        return;
    size_t at = 0;
    while (at < LOCH_PAGE_BYTES && ours[at] == theirs[at])
        at++;
    printf("DIFFERENT %u/%u/%u fork %u block %u at byte %zu: ours " LOCH_LSN_FMT
           ", theirs " LOCH_LSN_FMT "\n",
           rel->spc, rel->db, rel->rel, fork, block, at, LOCH_LSN_ARG(a), LOCH_LSN_ARG(b));
}

static bool is_unlogged(const struct loch_rel *rel)
{
    bool exists = false;
    uint32_t blocks = 0;
    CHECK(loch_view_rel_size(w.view, rel, LOCH_FORK_INIT, w.lsn, &exists, &blocks));
    return exists;
}

/* A file may end in pages that were never logged: of zeros, or of a visibility map in which no bit
 * was ever set, which a server begins without WAL. */
static bool says_nothing(uint8_t fork, const uint8_t page[LOCH_PAGE_BYTES])
{
    static const uint8_t zeros[LOCH_PAGE_BYTES];
    return loch_page_is_zero(page) ||
           (fork == LOCH_FORK_VM && memcmp(page + LOCH_PG_PAGE_HEADER_BYTES, zeros,
                                           LOCH_PAGE_BYTES - LOCH_PG_PAGE_HEADER_BYTES) == 0);
}

static void compare_file(const char *path, const struct loch_rel *rel, uint8_t fork,
                         uint32_t segment)
{
    uint8_t theirs[LOCH_PAGE_BYTES];
    bool exists = false;
    uint32_t blocks = 0, block = segment * 131072u;
    if (fork == LOCH_FORK_FSM || (fork != LOCH_FORK_INIT && is_unlogged(rel)))
        return;
    CHECK(loch_view_rel_size(w.view, rel, fork, w.lsn, &exists, &blocks));
    int fd = open(path, O_RDONLY);
    while (fd >= 0 && read(fd, theirs, sizeof theirs) == sizeof theirs) {
        if (block < blocks || !says_nothing(fork, theirs)) {
            if (block >= blocks && w.sizes++ < 20)
                printf("SIZE %s: block %u is not there (%s, %u blocks)\n", path, block,
                       exists ? "exists" : "absent", blocks);
            compare_page(rel, fork, block, theirs);
        }
        block++;
    }
    close(fd);
    if (!exists && block == 0 && fork == LOCH_FORK_MAIN && w.sizes++ < 20)
        printf("SIZE %s: an empty file is not known\n", path);
}

/* "16384_vm.1" */
static bool parse_name(const char *name, uint32_t *rel, uint8_t *fork, uint32_t *segment)
{
    char *end;
    *rel = (uint32_t)strtoul(name, &end, 10);
    *fork = LOCH_FORK_MAIN;
    *segment = 0;
    if (end == name)
        return false;
    if (strncmp(end, "_vm", 3) == 0) {
        *fork = LOCH_FORK_VM;
        end += 3;
    } else if (strncmp(end, "_fsm", 4) == 0) {
        *fork = LOCH_FORK_FSM;
        end += 4;
    } else if (strncmp(end, "_init", 5) == 0) {
        *fork = LOCH_FORK_INIT;
        end += 5;
    }
    if (*end == '.')
        *segment = (uint32_t)strtoul(end + 1, &end, 10);
    return *end == '\0';
}

static void compare_database(const char *dir, uint32_t spc, uint32_t db)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        struct loch_rel rel = {spc, db, 0};
        uint8_t fork;
        uint32_t segment;
        if (parse_name(e->d_name, &rel.rel, &fork, &segment))
            compare_file(path_of(dir, e->d_name), &rel, fork, segment);
    }
    if (d != NULL)
        closedir(d);
}

static void compare_databases(const char *dir, uint32_t spc)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        char *end;
        uint32_t db = (uint32_t)strtoul(e->d_name, &end, 10);
        if (end != e->d_name && *end == '\0') {
            char path[4096];
            snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
            compare_database(path, spc, db);
        }
    }
    if (d != NULL)
        closedir(d);
}

static void compare_tablespaces(void)
{
    char dir[4096], path[8192];
    snprintf(dir, sizeof dir, "%s/pg_tblspc", w.final);
    DIR *d = opendir(dir);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s/PG_15_202209061", dir, e->d_name);
        compare_databases(path, (uint32_t)strtoul(e->d_name, NULL, 10));
    }
    if (d != NULL)
        closedir(d);
}

/* Every relation that the store knows must have its file. */
static loch_status check_exists(void *arg, const struct loch_key *key, struct loch_slice value,
                                loch_lsn version)
{
    static const char *const suffix[] = {"", "_fsm", "_vm", "_init"};
    char path[4200];
    struct stat st;
    (void)arg;
    (void)value;
    (void)version;
    if (key->spc == 1664)
        snprintf(path, sizeof path, "%s/global/%u%s", w.final, key->rel, suffix[key->fork]);
    else if (key->spc == 1663)
        snprintf(path, sizeof path, "%s/base/%u/%u%s", w.final, key->db, key->rel,
                 suffix[key->fork]);
    else
        snprintf(path, sizeof path, "%s/pg_tblspc/%u/PG_15_202209061/%u/%u%s", w.final, key->spc,
                 key->db, key->rel, suffix[key->fork]);
    if (stat(path, &st) != 0 && w.absent++ < 20)
        printf("LEFT OVER %s\n", path);
    return LOCH_OK;
}

static void compare_slru(const char *name, uint8_t slru)
{
    char dir[4096];
    snprintf(dir, sizeof dir, "%s/%s", w.final, name);
    DIR *d = opendir(dir);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        char *end;
        uint32_t page = (uint32_t)strtoul(e->d_name, &end, 16) * LOCH_SLRU_PAGES_PER_SEGMENT;
        if (end == e->d_name || *end != '\0')
            continue;
        uint8_t theirs[LOCH_PAGE_BYTES];
        int fd = open(path_of(dir, e->d_name), O_RDONLY);
        for (; fd >= 0 && read(fd, theirs, sizeof theirs) == sizeof theirs; page++) {
            struct loch_key key = {.kind = LOCH_KEY_SLRU_PAGE, .rel = slru, .block = page};
            struct loch_buf value = {0};
            bool found = false;
            CHECK(loch_view_get(w.view, &key, w.lsn, &value, &found, NULL));
            bool same = found ? memcmp(value.data, theirs, LOCH_PAGE_BYTES) == 0
                              : loch_page_is_zero(theirs);
            if (!same && w.slru_different++ < 20)
                printf("SLRU %s page %u differs%s\n", name, page, found ? "" : " (absent)");
            loch_buf_fini(&value);
        }
        close(fd);
    }
    if (d != NULL)
        closedir(d);
}

static bool compare_control(void)
{
    struct loch_import_facts facts;
    struct loch_control ours;
    CHECK(loch_import_inspect(w.final, &facts));
    loch_ingest_control(w.ingest, &ours);
    const struct loch_checkpoint *a = &ours.checkpoint, *b = &facts.control.checkpoint;
    printf("control: xid %" PRIu64 " %" PRIu64
           ", oid %u %u, multi %u %u, offset %u %u, oldest %u %u\n",
           a->next_xid, b->next_xid, a->next_oid, b->next_oid, a->next_multi, b->next_multi,
           a->next_multi_offset, b->next_multi_offset, a->oldest_xid, b->oldest_xid);
    return a->next_xid == b->next_xid && a->next_oid == b->next_oid &&
           a->next_multi == b->next_multi && a->next_multi_offset == b->next_multi_offset &&
           a->oldest_xid == b->oldest_xid && ours.checkpoint_lsn == facts.control.checkpoint_lsn;
}

static bool compare_all(void)
{
    struct loch_key first = {.kind = LOCH_KEY_REL_SIZE}, end = {.kind = LOCH_KEY_REL_CUT};
    CHECK(loch_view_create(w.timeline, &w.view));
    uint64_t began = loch_env_now_ns(w.env);
    compare_database(path_of(w.final, "global"), 1664, 0);
    compare_databases(path_of(w.final, "base"), 1663);
    compare_tablespaces();
    CHECK(loch_view_scan(w.view, &first, &end, w.lsn, check_exists, NULL));
    compare_slru("pg_xact", LOCH_SLRU_XACT);
    compare_slru("pg_multixact/offsets", LOCH_SLRU_MULTI_OFFSETS);
    compare_slru("pg_multixact/members", LOCH_SLRU_MULTI_MEMBERS);
    compare_slru("pg_commit_ts", LOCH_SLRU_COMMIT_TS);
    bool control = compare_control();
    printf("%" PRIu64 " pages in %.1f s: %" PRIu64 " equal, %" PRIu64 " sequences skipped, %" PRIu64
           " VM pages with less, %" PRIu64 " DIFFERENT, %" PRIu64 " failed; sizes wrong %" PRIu64
           ", left over %" PRIu64 ", SLRU pages different %" PRIu64 ", control %s\n",
           w.pages, (double)(loch_env_now_ns(w.env) - began) / 1e9, w.equal, w.skipped, w.vm_less,
           w.different, w.failed, w.sizes, w.absent, w.slru_different,
           control ? "equal" : "DIFFERENT");
    loch_view_destroy(w.view);
    return control && w.different + w.failed + w.sizes + w.absent + w.slru_different == 0 &&
           w.pages > 0;
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: ingest_check BASE FINAL SCRATCH LIB_DIR [layer=N] [restarts=N] "
                        "[cache=N]\n");
        return 2;
    }
    w.base = argv[1];
    w.final = argv[2];
    w.scratch = argv[3];
    w.lib = argv[4];
    for (int i = 5; i < argc; i++) {
        if (strncmp(argv[i], "layer=", 6) == 0)
            w.layer_bytes = strtoull(argv[i] + 6, NULL, 10);
        else if (strncmp(argv[i], "restarts=", 9) == 0)
            w.restarts = (unsigned)strtoul(argv[i] + 9, NULL, 10);
        else if (strncmp(argv[i], "cache=", 6) == 0)
            w.cache_bytes = strtoull(argv[i] + 6, NULL, 10);
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    loch_log_init("ingest_check", LOCH_LOG_WARN);
    open_world();
    ingest_all(import_base());
    bool equal = compare_all();
    loch_ingest_destroy(w.ingest);
    loch_timeline_release(w.timeline);
    loch_redo_pool_destroy(w.store.redo);
    return equal ? 0 : 1;
}
