/* How fast native redo is, by kind of record, beside the redo process in the same run: one JSON
 * object a line.
 *
 * usage: redo_bench BASE_DIR WAL_DIR START_LSN SCRATCH_DIR [BIN_DIR]   (as redo_check)
 *
 * For each kind, up to SAMPLES records with the page before each: native_ns is the cost of decoding
 * and applying one (the copy of the page taken off), decode_ns the part of decoding;
 * process_single_us a request of one record to a process, wall clock. "chains": pages of many
 * records, the whole chain in one request.
 */
#include "wal_chains.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/pg/wal_record.h"
#include "loch/redo/redo.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SAMPLES      256u
#define SINGLES      64u
#define LEAST        16u
#define BUDGET_NS    UINT64_C(100000000)
#define CHAIN_LEAST  64u
#define CHAINS_TIMED 40u

struct sample {
    struct loch_redo_target target;
    struct loch_redo_record record;
    uint8_t before[LOCH_PAGE_BYTES];
};

static struct sample *samples[256][16];
static uint32_t sample_counts[256][16];
static const struct loch_id tenant = {{7}};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec ts;

    (void)clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static bool apply(const struct loch_redo_target *target, const struct loch_redo_record *r,
                  uint8_t *page, uint8_t *rmid, uint8_t *info)
{
    enum loch_redo_outcome outcome = LOCH_REDO_NOT_HANDLED;
    struct loch_wal_record record;

    if (!loch_is_ok(loch_wal_record_decode(r->bytes, &record)) ||
        !loch_is_ok(loch_redo_apply(target, &record, r->end_lsn, page, &outcome)))
        chains_die("native redo");
    *rmid = record.rmid;
    *info = record.info;
    return outcome == LOCH_REDO_APPLIED;
}

static void keep(const struct loch_redo_target *target, const struct loch_redo_record *r,
                 const uint8_t *before, uint8_t rmid, uint8_t info)
{
    struct sample **list = &samples[rmid][info >> 4];
    uint32_t *count = &sample_counts[rmid][info >> 4];

    if (*list == NULL)
        *list = chains_need(calloc(SAMPLES, sizeof **list));
    if (*count == SAMPLES)
        return;
    struct sample *s = &(*list)[(*count)++];
    s->target = *target;
    s->record = *r;
    memcpy(s->before, before, LOCH_PAGE_BYTES);
}

/* Along the chain up to the first record that is the process's. Returns how many were native. */
static uint32_t sample_chain(const char *dir, const struct chain_page *page)
{
    const struct loch_redo_target target = {
        .rel = page->rel, .fork = page->fork, .block = page->block};
    struct loch_redo_record *chain = chains_of(page);
    uint8_t now[LOCH_PAGE_BYTES], before[LOCH_PAGE_BYTES], rmid = 0, info = 0;
    uint32_t i = 0;

    if (!chains_base(dir, page, now))
        memset(now, 0, sizeof now);
    for (; i < page->count; i++) {
        memcpy(before, now, sizeof before);
        if (!apply(&target, &chain[i], now, &rmid, &info))
            break;
        keep(&target, &chain[i], before, rmid, info);
    }
    free(chain);
    return i;
}

enum part { PART_COPY, PART_DECODE, PART_APPLY };

/* Mean CPU time in ns for a sample: the page's copy, with the decoding, with the application. */
static double time_part(const struct sample *list, uint32_t count, enum part part)
{
    uint64_t start = clock_ns(CLOCK_PROCESS_CPUTIME_ID), used = 0, runs = 0, sum = 0;
    uint8_t page[LOCH_PAGE_BYTES], rmid = 0, info = 0;
    struct loch_wal_record record;

    while (used < BUDGET_NS) {
        for (uint32_t i = 0; i < count; i++) {
            memcpy(page, list[i].before, sizeof page);
            if (part == PART_DECODE)
                sum += loch_wal_record_decode(list[i].record.bytes, &record).code;
            else if (part == PART_APPLY)
                sum += !apply(&list[i].target, &list[i].record, page, &rmid, &info);
            sum += page[i % LOCH_PAGE_BYTES] == 0xA5;
        }
        runs += count;
        used = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - start;
    }
    LOCH_ASSERT(sum <= runs);
    return (double)used / (double)runs;
}

static double time_singles(struct loch_redo_pool *pool, const struct sample *list, uint32_t count)
{
    uint8_t page[LOCH_PAGE_BYTES];
    uint64_t used = 0;

    count = count < SINGLES ? count : SINGLES;
    for (uint32_t i = 0; i < count; i++) {
        const struct sample *s = &list[i];
        uint64_t start = clock_ns(CLOCK_MONOTONIC);
        if (!loch_is_ok(loch_redo_pool_apply(pool, &tenant, &s->target.rel,
                                             (enum loch_fork)s->target.fork, s->target.block,
                                             s->before, &s->record, 1, page)))
            chains_die("redo process");
        used += clock_ns(CLOCK_MONOTONIC) - start;
    }
    return (double)used / count / 1000.0;
}

static void report_kinds(struct loch_redo_pool *pool)
{
    for (unsigned rm = 0; rm < 256; rm++)
        for (unsigned op = 0; op < 16; op++) {
            uint32_t count = sample_counts[rm][op];
            const struct sample *list = samples[rm][op];
            uint64_t bytes = 0;

            if (count < LEAST)
                continue;
            for (uint32_t i = 0; i < count; i++)
                bytes += list[i].record.bytes.len;
            double copy = time_part(list, count, PART_COPY);
            double decode = time_part(list, count, PART_DECODE) - copy;
            double native = time_part(list, count, PART_APPLY) - copy;
            printf("{\"what\":\"redo\",\"kind\":\"%s/%02X\",\"samples\":%u,\"record_bytes\":%.0f,"
                   "\"native_ns\":%.1f,\"decode_ns\":%.1f,\"process_single_us\":%.1f}\n",
                   loch_rmgr_name((uint8_t)rm), op << 4, count, (double)bytes / count, native,
                   decode, time_singles(pool, list, count));
        }
}

/* One long native chain, by both; adds to the sums. */
static void time_chain(struct loch_redo_pool *pool, const char *dir, const struct chain_page *page,
                       uint32_t count, uint64_t *native_ns, uint64_t *process_ns)
{
    const struct loch_redo_target target = {
        .rel = page->rel, .fork = page->fork, .block = page->block};
    struct loch_redo_record *chain = chains_of(page);
    uint8_t base[LOCH_PAGE_BYTES] = {0}, now[LOCH_PAGE_BYTES], made[LOCH_PAGE_BYTES];
    uint8_t rmid = 0, info = 0;

    bool based = chains_base(dir, page, base);
    uint64_t start = clock_ns(CLOCK_MONOTONIC);
    memcpy(now, base, sizeof now);
    for (uint32_t i = 0; i < count; i++)
        (void)apply(&target, &chain[i], now, &rmid, &info);
    *native_ns += clock_ns(CLOCK_MONOTONIC) - start;
    start = clock_ns(CLOCK_MONOTONIC);
    if (!loch_is_ok(loch_redo_pool_apply(pool, &tenant, &page->rel, (enum loch_fork)page->fork,
                                         page->block, based ? base : NULL, chain, count, made)))
        chains_die("redo process");
    *process_ns += clock_ns(CLOCK_MONOTONIC) - start;
    LOCH_ASSERT(memcmp(now, made, sizeof now) == 0);
    free(chain);
}

int main(int argc, char **argv)
{
    struct loch_redo_pool_options options = {.lib_dir = LOCH_LIB_DIR, .max_workers_per_tenant = 1};
    uint64_t native_ns = 0, process_ns = 0, records = 0;
    struct loch_redo_pool *pool = NULL;
    unsigned chains = 0;
    loch_lsn start;

    loch_log_init("redo_bench", LOCH_LOG_WARN);
    if (argc < 5) {
        fprintf(stderr, "usage: redo_bench BASE_DIR WAL_DIR START_LSN SCRATCH_DIR [BIN_DIR]\n");
        return 2;
    }
    if (!loch_is_ok(loch_lsn_parse(argv[3], &start)))
        chains_die("START_LSN");
    options.scratch_dir = argv[4];
    options.postgres_bin_dir = argc > 5 ? argv[5] : "/usr/lib/postgresql/15/bin";
    chains_scan(argv[2], start);
    if (!loch_is_ok(loch_redo_pool_create(&options, &pool)))
        chains_die("pool");
    for (size_t b = 0; b < CHAINS_BUCKETS; b++)
        for (struct chain_page *page = chains_buckets[b]; page != NULL; page = page->next) {
            uint32_t count = sample_chain(argv[1], page);
            if (count < CHAIN_LEAST || chains == CHAINS_TIMED)
                continue;
            time_chain(pool, argv[1], page, count, &native_ns, &process_ns);
            records += count;
            chains++;
        }
    report_kinds(pool);
    if (records > 0)
        printf("{\"what\":\"chains\",\"chains\":%u,\"records\":%" PRIu64
               ",\"native_ns_per_record\":%.1f,\"process_ns_per_record\":%.1f}\n",
               chains, records, (double)native_ns / (double)records,
               (double)process_ns / (double)records);
    loch_redo_pool_destroy(pool);
    return 0;
}
