/* The standing proof of redo: feeds every page's chain of WAL records through the redo pool and has
 * each after-image that wal_consistency_checking=all recorded compared with the page.
 *
 * usage: redo_check BASE_DIR WAL_DIR START_LSN SCRATCH_DIR [BIN_DIR]
 *   BASE_DIR   copy of the cluster's data directory, cleanly shut down, taken before the workload
 *   WAL_DIR    pg_wal with everything since
 *   START_LSN  "Latest checkpoint location" of BASE_DIR
 * Prints counts; exit 1 when an image differs, a chain fails, or a resource manager was not
 * reached.
 */
#include "redo_pool/redo_pool.h"

#include "loch/base/log.h"
#include "loch/pg/wal_record.h"
#include "loch/pg/wal_scan.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEGMENT_BYTES (16u << 20)
#define BUCKETS       (1u << 20)

struct record {
    loch_lsn start, end;
    size_t offset;
    uint32_t len;
};

struct page {
    struct page *next; /* in its bucket */
    struct loch_rel rel;
    uint32_t block;
    uint8_t fork;
    uint32_t count, capacity;
    uint32_t *records;
};

static struct loch_buf bytes;
static struct record *records;
static size_t record_count, record_capacity;
static struct page **buckets;
static size_t page_count;
static uint64_t seen[256][256]; /* page references by resource manager and info */

_Noreturn static void die(const char *what)
{
    loch_log_failure(what);
    exit(2);
}

static void *need(void *p)
{
    if (p == NULL) {
        fprintf(stderr, "redo_check: no memory\n");
        exit(2);
    }
    return p;
}

static struct page *find_page(const struct loch_wal_block *ref)
{
    uint64_t h = ref->rel.rel * UINT64_C(0x9E3779B97F4A7C15) ^
                 ref->block * UINT64_C(0xC2B2AE3D27D4EB4F) ^
                 ref->rel.db * UINT64_C(0x165667B19E3779F9) ^ ref->fork;
    struct page **at = &buckets[(h ^ h >> 31) % BUCKETS];

    for (; *at != NULL; at = &(*at)->next)
        if ((*at)->block == ref->block && (*at)->fork == ref->fork &&
            memcmp(&(*at)->rel, &ref->rel, sizeof ref->rel) == 0)
            return *at;
    *at = need(calloc(1, sizeof **at));
    **at = (struct page){.rel = ref->rel, .fork = ref->fork, .block = ref->block};
    page_count++;
    return *at;
}

static void take_record(const struct loch_wal_span *span)
{
    struct loch_wal_record record;

    if (!loch_is_ok(loch_wal_record_decode(span->bytes, &record)))
        die("decode");
    if (record.block_count == 0)
        return;
    if (record_count == record_capacity) {
        record_capacity = record_capacity != 0 ? record_capacity * 2 : 4096;
        records = need(realloc(records, record_capacity * sizeof *records));
    }
    records[record_count] =
        (struct record){span->start, span->end, bytes.len, (uint32_t)span->bytes.len};
    if (!loch_is_ok(loch_buf_append(&bytes, span->bytes.data, span->bytes.len)))
        die("keep");
    for (uint32_t i = 0; i < record.block_count; i++) {
        const struct loch_wal_block *ref = &record.blocks[i];
        struct page *page;

        if (ref->fork == LOCH_FORK_FSM)
            continue;
        page = find_page(ref);
        if (page->count == page->capacity) {
            page->capacity = page->capacity != 0 ? page->capacity * 2 : 4;
            page->records = need(realloc(page->records, page->capacity * sizeof *page->records));
        }
        page->records[page->count++] = (uint32_t)record_count;
        seen[record.rmid][record.info & 0xF0]++;
    }
    record_count++;
}

static void scan_wal(const char *dir, loch_lsn start)
{
    struct loch_wal_scan scan;
    loch_lsn at = start;

    if (!loch_is_ok(
            loch_wal_scan_init(&scan, LOCH_WAL_SCAN_RECORDS, start, LOCH_LSN_NONE, SEGMENT_BYTES)))
        die("scan");
    while (!scan.ended) {
        char name[LOCH_WAL_SEGMENT_NAME_BYTES], path[4096];
        struct loch_wal_span span;
        struct loch_slice in;
        bool found = true;
        uint8_t *map;
        int fd;

        loch_wal_segment_name(1, at / SEGMENT_BYTES, SEGMENT_BYTES, name);
        snprintf(path, sizeof path, "%s/%s", dir, name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            break;
        map = mmap(NULL, SEGMENT_BYTES, PROT_READ, MAP_PRIVATE, fd, 0);
        close(fd);
        if (map == MAP_FAILED)
            die("map");
        in = loch_slice_of(map + at % SEGMENT_BYTES, SEGMENT_BYTES - at % SEGMENT_BYTES);
        while (found) {
            if (!loch_is_ok(loch_wal_scan_next(&scan, &in, &found, &span)))
                die(path);
            if (found)
                take_record(&span);
        }
        munmap(map, SEGMENT_BYTES);
        at = (at / SEGMENT_BYTES + 1) * SEGMENT_BYTES;
    }
    printf("WAL from " LOCH_LSN_FMT " to " LOCH_LSN_FMT ": %" PRIu64 " records, %zu with pages\n",
           LOCH_LSN_ARG(start), LOCH_LSN_ARG(scan.last_end), scan.records, record_count);
    loch_wal_scan_fini(&scan);
}

/* The page as it was in the base directory; false when it was not there. */
static bool read_base(const char *dir, const struct page *page, uint8_t out[LOCH_PAGE_BYTES])
{
    static const char *const suffix[] = {"", "_fsm", "_vm", "_init"};
    char path[4096];
    ssize_t got;
    int fd;

    if (page->rel.spc == 1664)
        snprintf(path, sizeof path, "%s/global/%u%s", dir, page->rel.rel, suffix[page->fork]);
    else
        snprintf(path, sizeof path, "%s/base/%u/%u%s", dir, page->rel.db, page->rel.rel,
                 suffix[page->fork]);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    got = pread(fd, out, LOCH_PAGE_BYTES, (off_t)page->block * LOCH_PAGE_BYTES);
    close(fd);
    return got == LOCH_PAGE_BYTES;
}

static struct loch_redo_record *chain_of(const struct page *page)
{
    struct loch_redo_record *chain = need(calloc(page->count, sizeof *chain));

    for (uint32_t i = 0; i < page->count; i++) {
        const struct record *r = &records[page->records[i]];
        chain[i] = (struct loch_redo_record){r->start, r->end,
                                             loch_slice_of(bytes.data + r->offset, r->len)};
    }
    return chain;
}

/* Names the first record after which the page is not as recorded. */
static void explain(struct loch_redo_pool *pool, const struct loch_id *tenant,
                    const struct page *page, const uint8_t *base,
                    const struct loch_redo_record *chain)
{
    uint8_t now[LOCH_PAGE_BYTES];

    for (uint32_t i = 0; i < page->count; i++) {
        uint64_t checked = 0, differing = 0;

        if (!loch_is_ok(loch_redo_pool_verify(pool, tenant, &page->rel, page->fork, page->block,
                                              base, &chain[i], 1, now, &checked, &differing)))
            return;
        base = now;
        if (differing == 0)
            continue;
        printf("DIFFERS: %u/%u/%u fork %u block %u after " LOCH_LSN_FMT " rmgr %s info %02X\n",
               page->rel.spc, page->rel.db, page->rel.rel, page->fork, page->block,
               LOCH_LSN_ARG(chain[i].start_lsn), loch_rmgr_name(chain[i].bytes.data[17]),
               chain[i].bytes.data[16]);
        return;
    }
}

static bool report_coverage(void)
{
    static const uint8_t wanted[] = {LOCH_RM_XLOG, LOCH_RM_HEAP2,  LOCH_RM_HEAP,   LOCH_RM_BTREE,
                                     LOCH_RM_HASH, LOCH_RM_GIN,    LOCH_RM_GIST,   LOCH_RM_SEQ,
                                     LOCH_RM_BRIN, LOCH_RM_SPGIST, LOCH_RM_GENERIC};
    unsigned kinds = 0;
    bool all = true;

    for (unsigned rm = 0; rm < 256; rm++) {
        uint64_t sum = 0;
        for (unsigned info = 0; info < 256; info++) {
            sum += seen[rm][info];
            kinds += seen[rm][info] != 0;
        }
        if (sum != 0)
            printf("  %-10s %10" PRIu64 " references\n", loch_rmgr_name((uint8_t)rm), sum);
        for (size_t i = 0; i < sizeof wanted; i++)
            if (wanted[i] == rm && sum == 0) {
                printf("NOT REACHED: %s\n", loch_rmgr_name((uint8_t)rm));
                all = false;
            }
    }
    printf("%u kinds of record\n", kinds);
    return all;
}

int main(int argc, char **argv)
{
    struct loch_redo_pool_options options = {.lib_dir = LOCH_LIB_DIR, .max_workers_per_tenant = 1};
    const struct loch_id tenant = {{7}};
    struct loch_redo_pool *pool;
    struct loch_redo_stats stats;
    uint64_t checked = 0, differing = 0, failed = 0;
    loch_lsn start;
    bool covered;

    loch_log_init("redo_check", LOCH_LOG_INFO);
    if (argc < 5) {
        fprintf(stderr, "usage: redo_check BASE_DIR WAL_DIR START_LSN SCRATCH_DIR [BIN_DIR]\n");
        return 2;
    }
    if (!loch_is_ok(loch_lsn_parse(argv[3], &start)))
        die("START_LSN");
    options.scratch_dir = argv[4];
    options.postgres_bin_dir = argc > 5 ? argv[5] : "/usr/lib/postgresql/15/bin";
    buckets = need(calloc(BUCKETS, sizeof(struct page *)));
    scan_wal(argv[2], start);
    if (!loch_is_ok(loch_redo_pool_create(&options, &pool)))
        die("pool");
    for (size_t b = 0; b < BUCKETS; b++) {
        for (struct page *page = buckets[b]; page != NULL; page = page->next) {
            struct loch_redo_record *chain = chain_of(page);
            uint8_t base[LOCH_PAGE_BYTES], out[LOCH_PAGE_BYTES];
            const uint8_t *from = read_base(argv[1], page, base) ? base : NULL;
            uint64_t before = differing;

            if (!loch_is_ok(loch_redo_pool_verify(pool, &tenant, &page->rel, page->fork,
                                                  page->block, from, chain, page->count, out,
                                                  &checked, &differing))) {
                if (failed++ < 20)
                    printf("FAILED: %s\n", loch_error_text());
            } else if (differing != before && differing < 20) {
                explain(pool, &tenant, page, from, chain);
            }
            free(chain);
        }
    }
    loch_redo_pool_stats(pool, &stats);
    loch_redo_pool_destroy(pool);
    covered = report_coverage();
    printf("pages %zu, records applied %" PRIu64 ", images checked %" PRIu64 ", differing %" PRIu64
           ", failed chains %" PRIu64 ", workers spawned %" PRIu64 "\n",
           page_count, stats.records, checked, differing, failed, stats.spawned);
    return checked > 0 && differing == 0 && failed == 0 && covered ? 0 : 1;
}
