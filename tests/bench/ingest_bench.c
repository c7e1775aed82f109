/* WAL into a pageserver's timeline, as the server does it but for the network: JSON on one line.
 *
 * usage: ingest_bench BASE_DIR WAL_DIR END_LSN SCRATCH_DIR   (the last is made here and removed)
 *
 * BASE_DIR, a data directory shut down cleanly, is imported; then the WAL of WAL_DIR behind its
 * checkpoint is ingested up to END_LSN, in pieces of 128 KiB, while a thread writes the frozen
 * layers, sealed, and syncs them: the time ends when all of it is in layers that the manifest
 * names. Beside it the same bytes of WAL, sealed piece by piece, written one after the other and
 * synced: what the disk and the cipher can do at best. Both in turn, `ROUNDS` times; medians.
 */
#include "import/import.h"
#include "ingest/ingest.h"
#include "read/view.h"
#include "store/frame_cache.h"
#include "store/timeline.h"

#include "loch/base/check.h"
#include "loch/base/large.h"
#include "loch/base/log.h"
#include "loch/crypto/aead.h"
#include "loch/crypto/random.h"
#include "loch/host/heap.h"
#include "loch/host/keys.h"
#include "loch/io/env.h"
#include "loch/kms/kms.h"
#include "loch/objstore/objstore.h"
#include "loch/pg/wal_scan.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PIECE         ((size_t)128 << 10)
#define SEGMENT_BYTES (UINT64_C(16) << 20)
#define ROUNDS        3u
#define FLUSH_PARTS   2u /* as the pageserver's default */

#define MUST(expr_)                                                                                \
    do {                                                                                           \
        const loch_status must_st_ = (expr_);                                                      \
        if (!loch_is_ok(must_st_)) {                                                               \
            fprintf(stderr, "ingest_bench: %s: %s\n", #expr_, loch_error_text());                  \
            exit(2);                                                                               \
        }                                                                                          \
    } while (0)

static struct loch_store store;
static struct loch_keys *keys;
static struct loch_id tenant;

static void open_world(const char *dir)
{
    struct loch_keys_options o = {.role = LOCH_ROLE_PAGESERVER};
    static char path[3][4096];
    struct loch_kms *kms = NULL;

    (void)snprintf(path[0], sizeof path[0], "%s/cmk.key", dir);
    MUST(loch_kms_file_create(path[0]));
    (void)snprintf(path[0], sizeof path[0], "file:%s/cmk.key", dir);
    (void)snprintf(path[1], sizeof path[1], "%s/store", dir);
    (void)snprintf(path[2], sizeof path[2], "%s/pageserver", dir);
    MUST(loch_kms_open(path[0], NULL, &kms));
    MUST(loch_env_real_create(&store.env));
    MUST(loch_objstore_open_local(store.env, path[1], &store.objstore));
    o.store = store.objstore;
    o.kms = kms;
    MUST(loch_random_id(&o.cluster));
    MUST(loch_random_id(&o.node));
    MUST(loch_random_id(&tenant));
    MUST(loch_keys_create(&o, &keys));
    MUST(loch_keys_tenant_create(keys, &tenant));
    store.dir = path[2];
    store.node = o.node;
    store.open_layer_bytes = (size_t)64 << 20;
    store.flush_parts = FLUSH_PARTS;
    MUST(loch_frame_cache_create((size_t)64 << 20, &store.frames));
}

static uint64_t now_ns(clockid_t clock)
{
    struct timespec ts;

    (void)clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static double seconds_since(clockid_t clock, uint64_t start)
{
    return (double)(now_ns(clock) - start) / 1e9;
}

static struct loch_timeline *import(const char *dir)
{
    struct loch_import_facts facts;
    struct loch_import_stats stats = {0};
    struct loch_timeline *t = NULL;
    struct loch_buf control = {0};

    MUST(loch_import_inspect(dir, &facts));
    struct loch_timeline_info info = {.tenant = tenant,
                                      .system_id = facts.system_id,
                                      .pg_version = facts.pg_version,
                                      .segment_bytes = facts.segment_bytes,
                                      .start_lsn = facts.start_lsn};
    LOCH_ASSERT(facts.segment_bytes == SEGMENT_BYTES);
    facts.control.last_start = facts.prev_lsn;
    facts.control.last_end = facts.start_lsn;
    MUST(loch_random_id(&info.timeline));
    MUST(loch_keys_add_timeline(keys, &tenant, &info.timeline));
    MUST(loch_timeline_create(&store, keys, &info, NULL, &t));
    MUST(loch_import_into_timeline(dir, &facts, t, &stats));
    MUST(loch_control_encode(&facts.control, &control));
    MUST(loch_timeline_commit(t, facts.prev_lsn, loch_buf_slice(&control)));
    loch_buf_fini(&control);
    return t;
}

/* ---- the WAL ---- */

struct wal {
    const char *dir;
    uint8_t *bytes; /* from `begin` on */
    loch_lsn begin, end;
};

/* All of it in memory first: what is measured begins where the network would hand it over, out of a
 * buffer that is used again and again; large pages, for not to measure the first touch of each. */
static void read_wal(struct wal *wal)
{
    char path[4200], name[64];

    const size_t len =
        ((size_t)(wal->end - wal->begin) / LOCH_LARGE_PAGE_BYTES + 1) * LOCH_LARGE_PAGE_BYTES;
    wal->bytes = aligned_alloc(LOCH_LARGE_PAGE_BYTES, len);
    LOCH_ASSERT(wal->bytes != NULL);
    loch_large_pages(wal->bytes, len);
    for (loch_lsn at = wal->begin; at < wal->end;) {
        const loch_lsn next = loch_min_u64(wal->end, (at / SEGMENT_BYTES + 1) * SEGMENT_BYTES);

        loch_wal_segment_name(1, at / SEGMENT_BYTES, SEGMENT_BYTES, name);
        (void)snprintf(path, sizeof path, "%s/%s", wal->dir, name);
        const int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || pread(fd, wal->bytes + (at - wal->begin), (size_t)(next - at),
                            (off_t)(at % SEGMENT_BYTES)) != (ssize_t)(next - at)) {
            fprintf(stderr, "ingest_bench: cannot read %s\n", path);
            exit(2);
        }
        (void)close(fd);
        at = next;
    }
}

/* ---- ingest, as care/served.c does it ---- */

struct flusher {
    struct loch_timeline *timeline;
    pthread_mutex_t lock;
    pthread_cond_t moved;
    bool ended;
};

static void *flush_frozen(void *arg)
{
    struct flusher *f = arg;

    pthread_mutex_lock(&f->lock);
    for (;;) {
        while (!f->ended && loch_timeline_frozen_bytes(f->timeline) == 0)
            pthread_cond_wait(&f->moved, &f->lock);
        if (loch_timeline_frozen_bytes(f->timeline) == 0)
            break;
        pthread_mutex_unlock(&f->lock);
        MUST(loch_timeline_flush_oldest(f->timeline));
        pthread_mutex_lock(&f->lock);
        pthread_cond_broadcast(&f->moved);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

/* The writer has frozen a layer, maybe; waits while too much of that is in memory. */
static void hand_over(struct flusher *f, bool ended)
{
    pthread_mutex_lock(&f->lock);
    f->ended = ended;
    pthread_cond_broadcast(&f->moved);
    while (!ended && loch_timeline_frozen_bytes(f->timeline) > 2 * store.open_layer_bytes)
        pthread_cond_wait(&f->moved, &f->lock);
    pthread_mutex_unlock(&f->lock);
}

struct cost {
    double wall, cpu;
    uint64_t records, file_bytes;
};

static uint64_t layer_bytes(struct loch_timeline *t)
{
    struct loch_view *view = NULL;

    MUST(loch_view_create(t, &view));
    const uint64_t bytes = loch_view_layer_bytes(view);
    loch_view_destroy(view);
    return bytes;
}

static struct cost ingest(struct loch_timeline *t, const struct wal *wal)
{
    struct flusher f = {.timeline = t};
    struct loch_ingest *in = NULL;
    struct loch_ingest_stats stats;
    pthread_t thread;
    const size_t all = (size_t)(wal->end - wal->begin);

    pthread_mutex_init(&f.lock, NULL);
    pthread_cond_init(&f.moved, NULL);
    MUST(loch_ingest_create(t, &in));
    const uint64_t before = layer_bytes(t);
    const uint64_t wall = now_ns(CLOCK_MONOTONIC), cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    LOCH_ASSERT(pthread_create(&thread, NULL, flush_frozen, &f) == 0);
    for (size_t at = 0; at < all; at += PIECE) {
        MUST(loch_ingest_feed(in, loch_slice_of(wal->bytes + at, loch_min_u64(PIECE, all - at))));
        hand_over(&f, false);
    }
    MUST(loch_ingest_freeze(in));
    hand_over(&f, true);
    LOCH_ASSERT(pthread_join(thread, NULL) == 0);
    struct cost cost = {seconds_since(CLOCK_MONOTONIC, wall),
                        seconds_since(CLOCK_PROCESS_CPUTIME_ID, cpu), 0, layer_bytes(t) - before};
    LOCH_ASSERT(loch_timeline_disk_consistent_lsn(t) == loch_timeline_last_record_lsn(t));
    if (loch_timeline_last_record_lsn(t) != wal->end) {
        fprintf(stderr, "ingest_bench: the last record ends elsewhere than the WAL\n");
        exit(2);
    }
    loch_ingest_stats(in, &stats);
    loch_ingest_destroy(in);
    cost.records = stats.records;
    return cost;
}

/* ---- the yardstick ---- */

static struct cost seal_and_write(const char *dir, const struct wal *wal)
{
    static uint8_t sealed[PIECE + LOCH_AEAD_TAG_BYTES];
    char path[4200];
    uint8_t key[32];
    struct loch_secret secret = {0};
    struct loch_aead *aead = NULL;
    const size_t all = (size_t)(wal->end - wal->begin);
    uint64_t n = 0;

    (void)snprintf(path, sizeof path, "%s/sealed", dir);
    MUST(loch_random_bytes(key, sizeof key));
    MUST(loch_secret_from(&secret, key, sizeof key));
    MUST(loch_aead_create(&secret, LOCH_AEAD_SEAL, &aead));
    const uint64_t wall = now_ns(CLOCK_MONOTONIC), cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    for (size_t at = 0; at < all; at += PIECE) {
        const size_t len = loch_min_u64(PIECE, all - at);
        MUST(loch_aead_seal(aead, (struct loch_nonce){1, n++}, NULL, 0,
                            loch_slice_of(wal->bytes + at, len), sealed));
        if (write(fd, sealed, len + LOCH_AEAD_TAG_BYTES) != (ssize_t)(len + LOCH_AEAD_TAG_BYTES))
            exit(2);
    }
    if (fdatasync(fd) != 0 || close(fd) != 0)
        exit(2);
    const struct cost cost = {seconds_since(CLOCK_MONOTONIC, wall),
                              seconds_since(CLOCK_PROCESS_CPUTIME_ID, cpu), n, all};
    (void)unlink(path);
    loch_aead_destroy(aead);
    loch_secret_fini(&secret);
    return cost;
}

static int by_wall(const void *a, const void *b)
{
    const struct cost *x = a, *y = b;

    return x->wall < y->wall ? -1 : x->wall > y->wall;
}

int main(int argc, char **argv)
{
    struct cost into[ROUNDS], bare[ROUNDS];
    char command[4200];
    unsigned high = 0, low = 0;

    if (argc != 5 || strchr(argv[4], '\'') != NULL || sscanf(argv[3], "%X/%X", &high, &low) != 2 ||
        mkdir(argv[4], 0700) != 0) {
        fprintf(stderr, "usage: ingest_bench BASE_DIR WAL_DIR END_LSN SCRATCH_DIR\n");
        return 2;
    }
    loch_log_init("ingest_bench", LOCH_LOG_WARN);
    loch_heap_setup(); /* as the pageserver does */
    struct wal wal = {.dir = argv[2], .end = (loch_lsn)high << 32 | low};
    open_world(argv[4]);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        struct loch_timeline *t = import(argv[1]);
        if (wal.bytes == NULL) {
            wal.begin = loch_timeline_last_record_lsn(t);
            read_wal(&wal);
        }
        bare[i] = seal_and_write(argv[4], &wal);
        into[i] = ingest(t, &wal);
        loch_timeline_release(t);
    }
    qsort(into, ROUNDS, sizeof *into, by_wall);
    qsort(bare, ROUNDS, sizeof *bare, by_wall);
    const struct cost *in = &into[ROUNDS / 2], *out = &bare[ROUNDS / 2];
    const double mib = (double)(wal.end - wal.begin) / 1048576;
    printf("{\"wal_mib\":%.1f,\"records\":%llu,\"ingest_s\":%.3f,\"ingest_cpu_s\":%.3f,"
           "\"ingest_mib_s\":%.1f,\"layers_mib\":%.1f,\"sealed_write_s\":%.3f,\"sealed_write_mib_"
           "s\":%.1f,"
           "\"of_sealed_write\":%.2f}\n",
           mib, (unsigned long long)in->records, in->wall, in->cpu, mib / in->wall,
           (double)in->file_bytes / 1048576, out->wall, mib / out->wall, out->wall / in->wall);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", argv[4]);
    return system(command) == 0 ? 0 : 2;
}
