/* What the safekeeper's disk path costs over the bare disk: appends of one size, each made durable
 * before the next, by the WAL store (scan, seal, write, sync; zeros ahead and new files included)
 * and by plain pwrite + fdatasync loops in the same directory: over and over into one file whose
 * blocks were written before (plain: no log is as well off), into one that is preallocated anew
 * every 16 MiB (fresh), and at the end of one that grows, up to 16 MiB (grow). `pair`: the store
 * with two appends under way, as a proposer has them. All take turns in short rounds, so that what
 * else the machine does hits all. One JSON object a size; `added`: the store's latency over that of
 * a plain write and fdatasync.
 *
 * Usage: wal_store_bench DIR [--ms N]   (time for each of the five, a size; default 3000)
 */
#include "../unit/safekeeper/wal_gen.h"
#include "wal_store.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/crypto/random.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define START_LSN   UINT64_C(0x1000028)
#define START_PREV  UINT64_C(0x1000000)
#define SYSTEM_ID   UINT64_C(77)
#define FILE_BYTES  (UINT64_C(16) << 20)
#define SPARE_BYTES (UINT64_C(256) << 20)
#define WARM_FILES  4u
#define ROUND_NS    UINT64_C(100000000)
#define SAMPLES_MAX (1u << 20)
#define SIDES       5u

#define MUST(expr_)                                                                                \
    do {                                                                                           \
        const loch_status must_st_ = (expr_);                                                      \
        if (!loch_is_ok(must_st_)) {                                                               \
            fprintf(stderr, "%s: %s\n", #expr_, loch_error_text());                                \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

struct side {
    uint64_t bytes, ns;
    uint32_t *us10; /* latencies in tenths of a microsecond */
    size_t count;
};

static struct {
    struct loch_env *env;
    struct loch_wrap_key key;
    char dir[512];
    struct sk_store *store;
    struct wal_gen gen;
    struct loch_buf wal; /* generated, not yet appended */
    loch_lsn written;
    uint64_t token, done_token;
    int fd, fresh_fd, grow_fd; /* plain files */
    uint64_t plain_offset, fresh_offset, grow_offset;
} b;

static uint8_t plain_bytes[128u << 10]; /* what the plain files get */

static uint64_t now_ns(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static loch_status wrap_key(void *arg, const struct loch_id *tenant, const struct loch_id *timeline,
                            struct loch_wrap_key *out)
{
    (void)arg;
    (void)tenant;
    (void)timeline;
    out->key_id = b.key.key_id;
    out->version = b.key.version;
    return loch_secret_copy(&out->secret, &b.key.secret);
}

static void synced(void *arg, uint64_t token, loch_lsn flush_lsn, loch_lsn prev_lsn)
{
    (void)arg;
    (void)flush_lsn;
    (void)prev_lsn;
    b.done_token = token;
    loch_env_stop(b.env);
}

static void stop(void *arg)
{
    (void)arg;
    loch_env_stop(b.env);
}

static void failed(void *arg, loch_status st)
{
    (void)arg;
    (void)st;
    fprintf(stderr, "the store failed: %s\n", loch_error_text());
    exit(1);
}

static const struct sk_store_events events = {.synced = synced, .failed = failed};

static void open_store(void)
{
    struct sk_wal_found found = {.flush_lsn = START_LSN, .prev_lsn = START_PREV};
    struct sk_store_options options = {.dir = b.dir,
                                       .sealer = {.env = b.env,
                                                  .wrap_key = wrap_key,
                                                  .tenant = {{1}},
                                                  .timeline = {{2}},
                                                  .node = {{3}},
                                                  .incarnation = 1},
                                       .segment_bytes = WAL_GEN_SEGMENT_BYTES,
                                       .file_bytes = FILE_BYTES,
                                       .events = &events};

    MUST(loch_random_secret(&b.key.secret, 32));
    b.key.version = 1;
    MUST(sk_store_create(&options, &found, START_LSN, START_PREV, &b.store));
    wal_gen_init(&b.gen, START_LSN, START_PREV, SYSTEM_ID, 1);
    b.written = START_LSN;
}

static void write_at(int fd, uint64_t offset, size_t size)
{
    if (pwrite(fd, plain_bytes, size, (off_t)offset) != (ssize_t)size || fdatasync(fd) != 0) {
        perror("a plain file");
        exit(1);
    }
}

static void plain_append(size_t size)
{
    if (b.plain_offset + size > FILE_BYTES)
        b.plain_offset = 0;
    write_at(b.fd, b.plain_offset, size);
    b.plain_offset += size;
}

static void fresh_append(size_t size)
{
    if (b.fresh_offset == 0 || b.fresh_offset + size > FILE_BYTES) {
        if (ftruncate(b.fresh_fd, 0) != 0 ||
            posix_fallocate(b.fresh_fd, 0, (off_t)FILE_BYTES) != 0) {
            perror("a fresh file");
            exit(1);
        }
        b.fresh_offset = 0;
    }
    write_at(b.fresh_fd, b.fresh_offset, size);
    b.fresh_offset += size;
}

static void grow_append(size_t size)
{
    if (b.grow_offset + size > FILE_BYTES) {
        if (ftruncate(b.grow_fd, 0) != 0) {
            perror("a growing file");
            exit(1);
        }
        b.grow_offset = 0;
    }
    write_at(b.grow_fd, b.grow_offset, size);
    b.grow_offset += size;
}

/* Waits until all but the newest `under_way` appends are durable. */
static void store_push(size_t size, uint64_t under_way)
{
    MUST(sk_store_write(b.store, ++b.token, b.written, 1, loch_slice_of(b.wal.data, size)));
    b.written += size;
    sk_store_sync(b.store, ++b.token);
    while (b.done_token + 2 * under_way < b.token)
        loch_env_run(b.env);
    loch_buf_consume(&b.wal, size);
}

static void store_append(size_t size)
{
    store_push(size, 0);
}

static void store_pair(size_t size)
{
    store_push(size, 1);
}

/* Until nothing is under way, zeros included. */
static void store_rest(void)
{
    while (!sk_store_idle(b.store)) {
        struct loch_timer *timer;
        MUST(loch_env_timer(b.env, 1, &timer, stop, NULL));
        loch_env_run(b.env);
    }
}

/* All but the newest file, as if it were archived and persisted. */
static void trim(void)
{
    loch_lsn anchor;

    store_rest();
    sk_store_anchor(b.store, b.written, &anchor, &anchor);
    MUST(sk_store_trim(b.store, sk_store_trim_point(b.store, b.written), SPARE_BYTES));
    store_rest();
}

/* A timeline that has written for a while: some files were begun and trimmed. */
static void warm_up(void)
{
    while (sk_store_last_seq(b.store) < WARM_FILES) {
        while (b.wal.len < sizeof plain_bytes)
            (void)wal_gen_record(&b.gen, &b.wal, 500);
        store_append(sizeof plain_bytes);
    }
    trim();
}

static void round_of(struct side *s, void (*append)(size_t size), size_t size, uint64_t until_ns)
{
    do {
        while (b.wal.len < size) /* outside of what is timed */
            (void)wal_gen_record(&b.gen, &b.wal, 500);
        uint64_t begun = now_ns();
        append(size);
        uint64_t took = now_ns() - begun;
        s->ns += took;
        s->bytes += size;
        if (s->count < SAMPLES_MAX)
            s->us10[s->count++] = (uint32_t)(took / 100);
    } while (now_ns() < until_ns);
}

static int by_value(const void *a, const void *c)
{
    uint32_t x;
    uint32_t y;

    memcpy(&x, a, sizeof x);
    memcpy(&y, c, sizeof y);
    return (x > y) - (x < y);
}

static double percentile(struct side *s, double p)
{
    qsort(s->us10, s->count, sizeof *s->us10, by_value);
    return s->us10[(size_t)(p * (double)(s->count - 1))] / 10.0;
}

static double rate(const struct side *s)
{
    return (double)s->bytes / 1048576.0 * 1e9 / (double)s->ns;
}

static void run(size_t size, uint64_t ms)
{
    static const struct {
        const char *name;
        void (*append)(size_t size);
    } kinds[SIDES] = {{"plain", plain_append},
                      {"fresh", fresh_append},
                      {"grow", grow_append},
                      {"store", store_append},
                      {"pair", store_pair}};
    struct side sides[SIDES] = {0};
    double p50[SIDES];
    double p99[SIDES];
    uint64_t end = now_ns() + SIDES * ms * 1000000;

    for (unsigned i = 0; i < SIDES; i++) {
        sides[i].us10 = calloc(SAMPLES_MAX, sizeof(uint32_t));
        LOCH_ASSERT(sides[i].us10 != NULL);
    }
    while (now_ns() < end) {
        for (unsigned i = 0; i < SIDES; i++)
            round_of(&sides[i], kinds[i].append, size, now_ns() + ROUND_NS);
        trim();
    }
    printf("{\"append_bytes\":%zu,", size);
    for (unsigned i = 0; i < SIDES; i++) {
        p50[i] = percentile(&sides[i], 0.5);
        p99[i] = percentile(&sides[i], 0.99);
        printf("\"%s_mib_s\":%.1f,\"%s_p50_us\":%.1f,\"%s_p99_us\":%.1f,", kinds[i].name,
               rate(&sides[i]), kinds[i].name, p50[i], kinds[i].name, p99[i]);
        free(sides[i].us10);
    }
    for (unsigned i = 0; i < 3; i++)
        printf("\"ratio_%s\":%.3f,\"pair_ratio_%s\":%.3f,", kinds[i].name,
               rate(&sides[3]) / rate(&sides[i]), kinds[i].name, rate(&sides[4]) / rate(&sides[i]));
    printf("\"added_p50_us\":%.1f,\"added_p99_us\":%.1f}\n", p50[3] - p50[0], p99[3] - p99[0]);
}

static int open_file(const char *name)
{
    char path[600];

    (void)snprintf(path, sizeof path, "%s/%s", b.dir, name);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    if (fd < 0) {
        perror(path);
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv)
{
    char path[600];
    uint64_t ms = 3000;

    if (argc != 2 && !(argc == 4 && strcmp(argv[2], "--ms") == 0)) {
        fprintf(stderr, "usage: wal_store_bench DIR [--ms N]\n");
        return 2;
    }
    if (argc == 4)
        ms = strtoull(argv[3], NULL, 10);
    loch_log_init("wal_store_bench", LOCH_LOG_WARN);
    (void)snprintf(b.dir, sizeof b.dir, "%s/wal-bench-XXXXXX", argv[1]);
    if (mkdtemp(b.dir) == NULL) {
        perror(b.dir);
        return 1;
    }
    b.fd = open_file("plain");
    for (uint64_t at = 0; at < FILE_BYTES; at += 128u << 10)
        write_at(b.fd, at, 128u << 10);
    b.fresh_fd = open_file("fresh");
    b.grow_fd = open_file("grow");
    MUST(loch_env_real_create(&b.env));
    open_store();
    warm_up();
    run(8192, ms);
    run(128u << 10, ms);
    store_rest();
    sk_store_destroy(b.store);
    loch_buf_fini(&b.wal);
    loch_env_real_destroy(b.env);
    (void)close(b.fd);
    (void)close(b.fresh_fd);
    (void)close(b.grow_fd);
    (void)snprintf(path, sizeof path, "rm -rf '%s'", b.dir);
    return system(path) == 0 ? 0 : 1;
}
