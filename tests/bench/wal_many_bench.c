/* What many busy timelines cost a safekeeper's disk path: N stores of one node, each with one
 * append under way at any time, as N computes whose commits wait have. Beside it, in turns and in
 * the same directory: N threads, each a pwrite + fdatasync loop over a file of its own whose blocks
 * were written before; and one file that takes the same bytes, N appends to a write and fdatasync,
 * which is what one log for all would cost at best. `own`: the stores without the journal, each
 * file synced by itself. One JSON object: appends a second and CPU microseconds an append, of all
 * threads.
 *
 * Usage: wal_many_bench DIR TIMELINES [--bytes N] [--ms N]   (8192; time for each of the four,
 * 2000)
 */
#include "../unit/safekeeper/wal_gen.h"
#include "journal.h"
#include "node_file.h"
#include "wal_store.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/crypto/random.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define START_LSN     UINT64_C(0x1000028)
#define START_PREV    UINT64_C(0x1000000)
#define SYSTEM_ID     UINT64_C(77)
#define FILE_BYTES    (UINT64_C(16) << 20)
#define TIMELINES_MAX 1024u
#define BYTES_MAX     (64u << 10)
#define ROUND_NS      UINT64_C(250000000)

#define MUST(expr_)                                                                                \
    do {                                                                                           \
        const loch_status must_st_ = (expr_);                                                      \
        if (!loch_is_ok(must_st_)) {                                                               \
            fprintf(stderr, "%s: %s\n", #expr_, loch_error_text());                                \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

enum { THREADS, ONE, OWN, SHARED, SIDES };
static const char *const names[SIDES] = {"threads", "one_file", "own_sync", "journal"};

struct line {
    struct sk_store *store;
    struct loch_buf *wal; /* the same for all: generated before anything is timed */
    size_t at;
    loch_lsn written;
    uint64_t token;
};

struct side {
    uint64_t appends, ns, cpu_us;
};

static struct {
    struct loch_env *env;
    struct loch_wrap_key key;
    char dir[400];
    unsigned count;
    size_t bytes;
    struct sk_journal *journal;
    struct line lines[2][TIMELINES_MAX]; /* without and with the journal */
    struct loch_buf wal;
    int fds[TIMELINES_MAX];
    _Atomic bool stop;
    _Atomic uint64_t looped;
    uint64_t until_ns, appended;
    unsigned under_way;
} b;

static uint8_t payload[TIMELINES_MAX * 8192u];

static uint64_t now_ns(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t cpu_us(void)
{
    struct rusage r;

    (void)getrusage(RUSAGE_SELF, &r);
    return (uint64_t)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000u +
           (uint64_t)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
}

static void must_sync(int fd, const void *bytes, size_t size, uint64_t offset)
{
    if (pwrite(fd, bytes, size, (off_t)offset) != (ssize_t)size || fdatasync(fd) != 0) {
        perror("a plain file");
        exit(1);
    }
}

/* ---- plain loops ---- */

static void *loop(void *arg)
{
    const int fd = *(const int *)arg;
    uint64_t at = 0;

    while (!atomic_load(&b.stop)) {
        if (at + b.bytes > FILE_BYTES)
            at = 0;
        must_sync(fd, payload, b.bytes, at);
        at += b.bytes;
        (void)atomic_fetch_add(&b.looped, 1);
    }
    return NULL;
}

static uint64_t round_threads(uint64_t until)
{
    static pthread_t threads[TIMELINES_MAX];
    const struct timespec pause = {.tv_nsec = 1000000};

    atomic_store(&b.stop, false);
    atomic_store(&b.looped, 0);
    for (unsigned i = 0; i < b.count; i++)
        LOCH_ASSERT(pthread_create(&threads[i], NULL, loop, &b.fds[i]) == 0);
    while (now_ns() < until)
        (void)nanosleep(&pause, NULL);
    atomic_store(&b.stop, true);
    for (unsigned i = 0; i < b.count; i++)
        LOCH_ASSERT(pthread_join(threads[i], NULL) == 0);
    return atomic_load(&b.looped);
}

static uint64_t round_one(uint64_t until)
{
    const size_t size = b.count * b.bytes < sizeof payload ? b.count * b.bytes : sizeof payload;
    static uint64_t at;
    uint64_t n = 0;

    while (now_ns() < until) {
        if (at + size > FILE_BYTES)
            at = 0;
        must_sync(b.fds[0], payload, size, at);
        at += size;
        n += size / b.bytes;
    }
    return n;
}

/* ---- stores ---- */

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

static void append(struct line *l)
{
    if (l->at + b.bytes > b.wal.len) { /* a cut: the same records again, from the start */
        fprintf(stderr, "too little WAL was generated\n");
        exit(1);
    }
    MUST(sk_store_write(l->store, ++l->token, l->written, 1,
                        loch_slice_of(b.wal.data + l->at, b.bytes)));
    l->written += b.bytes;
    l->at += b.bytes;
    sk_store_sync(l->store, ++l->token);
    b.under_way++;
}

static void synced(void *arg, uint64_t token, loch_lsn flush_lsn, loch_lsn prev_lsn)
{
    struct line *l = arg;

    (void)token;
    (void)flush_lsn;
    (void)prev_lsn;
    b.under_way--;
    b.appended++;
    if (now_ns() < b.until_ns && l->at + b.bytes <= b.wal.len)
        append(l);
    else if (b.under_way == 0)
        loch_env_stop(b.env);
}

static void failed(void *arg, loch_status st)
{
    (void)arg;
    (void)st;
    fprintf(stderr, "a store failed: %s\n", loch_error_text());
    exit(1);
}

static const struct sk_store_events events = {.synced = synced, .failed = failed};

static uint64_t round_stores(struct line *lines, uint64_t until)
{
    b.until_ns = until;
    b.appended = 0;
    for (unsigned i = 0; i < b.count; i++)
        if (lines[i].at + b.bytes <= b.wal.len)
            append(&lines[i]);
    if (b.under_way > 0)
        loch_env_run(b.env);
    return b.appended;
}

static void open_line(struct line *l, bool shared, unsigned index)
{
    struct sk_wal_found found = {.flush_lsn = START_LSN, .prev_lsn = START_PREV};
    struct loch_id tenant = {{1, shared}};
    struct loch_id timeline = {{2, (uint8_t)index, (uint8_t)(index >> 8)}};
    char texts[2][LOCH_ID_TEXT_BYTES];
    char dir[600];

    (void)snprintf(dir, sizeof dir, "%s/tenants/%s/timelines/%s", b.dir,
                   loch_id_format(&tenant, texts[0]), loch_id_format(&timeline, texts[1]));
    MUST(loch_env_mkdirs(b.env, dir));
    struct sk_store_options options = {.dir = dir,
                                       .sealer = {.env = b.env,
                                                  .wrap_key = wrap_key,
                                                  .tenant = tenant,
                                                  .timeline = timeline,
                                                  .node = {{3}},
                                                  .incarnation = 1},
                                       .segment_bytes = WAL_GEN_SEGMENT_BYTES,
                                       .file_bytes = FILE_BYTES,
                                       .journal = shared ? b.journal : NULL,
                                       .events = &events,
                                       .arg = l};
    MUST(sk_store_create(&options, &found, START_LSN, START_PREV, &l->store));
    l->written = START_LSN;
}

static void open_all(void)
{
    const struct sk_journal_options options = {
        .env = b.env, .dir = b.dir, .cluster = {{9}}, .node = {{3}}, .incarnation = 1};
    struct wal_gen gen;
    uint8_t *zeros = calloc(1, FILE_BYTES);
    char path[500];

    LOCH_ASSERT(zeros != NULL);
    for (unsigned i = 0; i < b.count; i++) {
        (void)snprintf(path, sizeof path, "%s/plain-%u", b.dir, i);
        b.fds[i] = open(path, O_RDWR | O_CREAT, 0600);
        must_sync(b.fds[i], zeros, FILE_BYTES, 0);
    }
    free(zeros);
    MUST(loch_random_secret(&b.key.secret, 32));
    b.key.version = 1;
    MUST(sk_journal_create(&options, &b.journal));
    for (unsigned i = 0; i < b.count; i++) {
        open_line(&b.lines[0][i], false, i);
        open_line(&b.lines[1][i], true, i);
    }
    wal_gen_init(&gen, START_LSN, START_PREV, SYSTEM_ID, 1);
    const size_t want = b.count >= 64 ? 32u << 20 : 128u << 20;
    while (b.wal.len < want)
        (void)wal_gen_record(&gen, &b.wal, 500);
}

static void run(uint64_t ms)
{
    struct side sides[SIDES] = {0};

    (void)round_stores(b.lines[0], now_ns() + ROUND_NS); /* files, the journal: made before */
    (void)round_stores(b.lines[1], now_ns() + ROUND_NS);
    for (uint64_t end = now_ns() + SIDES * ms * 1000000; now_ns() < end;)
        for (unsigned i = 0; i < SIDES; i++) {
            const uint64_t begun = now_ns();
            const uint64_t cpu = cpu_us();
            const uint64_t until = begun + ROUND_NS;
            uint64_t n = i == THREADS ? round_threads(until)
                         : i == ONE   ? round_one(until)
                                      : round_stores(b.lines[i == SHARED], until);
            sides[i].appends += n;
            sides[i].ns += now_ns() - begun;
            sides[i].cpu_us += cpu_us() - cpu;
        }
    printf("{\"timelines\":%u,\"append_bytes\":%zu", b.count, b.bytes);
    for (unsigned i = 0; i < SIDES; i++)
        printf(",\"%s_per_s\":%.0f,\"%s_cpu_us\":%.1f", names[i],
               (double)sides[i].appends * 1e9 / (double)sides[i].ns, names[i],
               (double)sides[i].cpu_us / (double)sides[i].appends);
    printf("}\n");
}

static void stop(void *arg)
{
    (void)arg;
    loch_env_stop(b.env);
}

static bool idle(void)
{
    bool all = sk_journal_idle(b.journal);

    for (unsigned i = 0; i < b.count; i++)
        all = all && sk_store_idle(b.lines[0][i].store) && sk_store_idle(b.lines[1][i].store);
    return all;
}

static void close_all(void)
{
    while (!idle()) {
        struct loch_timer *timer;
        MUST(loch_env_timer(b.env, 1, &timer, stop, NULL));
        loch_env_run(b.env);
    }
    for (unsigned i = 0; i < b.count; i++) {
        sk_store_destroy(b.lines[0][i].store);
        sk_store_destroy(b.lines[1][i].store);
        (void)close(b.fds[i]);
    }
    sk_journal_destroy(b.journal);
    loch_buf_fini(&b.wal);
    loch_env_real_destroy(b.env);
}

int main(int argc, char **argv)
{
    char command[500];
    uint64_t ms = 2000;

    b.bytes = 8192;
    if (argc < 3 || argc % 2 == 0) {
        fprintf(stderr, "usage: wal_many_bench DIR TIMELINES [--bytes N] [--ms N]\n");
        return 2;
    }
    b.count = (unsigned)strtoul(argv[2], NULL, 10);
    for (int i = 3; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--bytes") == 0)
            b.bytes = strtoull(argv[i + 1], NULL, 10);
        else
            ms = strtoull(argv[i + 1], NULL, 10);
    }
    if (b.count == 0 || b.count > TIMELINES_MAX || b.bytes == 0 || b.bytes > BYTES_MAX) {
        fprintf(stderr, "1 to %u timelines, 1 to %u bytes\n", TIMELINES_MAX, BYTES_MAX);
        return 2;
    }
    loch_log_init("wal_many_bench", LOCH_LOG_WARN);
    (void)snprintf(b.dir, sizeof b.dir, "%s/wal-many-XXXXXX", argv[1]);
    if (mkdtemp(b.dir) == NULL) {
        perror(b.dir);
        return 1;
    }
    MUST(loch_env_real_create(&b.env));
    open_all();
    run(ms);
    close_all();
    (void)snprintf(command, sizeof command, "rm -rf '%s'", b.dir);
    return system(command) == 0 ? 0 : 1;
}
