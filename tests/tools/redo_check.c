/* The standing proof of redo: feeds every page's chain of WAL records through the redo pool and has
 * each after-image that wal_consistency_checking=all recorded compared with the page; and through
 * the native redo, whose page must be the pool's, byte for byte, the hole included.
 *
 * usage: redo_check BASE_DIR WAL_DIR START_LSN SCRATCH_DIR [BIN_DIR [partial]]
 *   BASE_DIR   copy of the cluster's data directory, cleanly shut down, taken before the workload
 *   WAL_DIR    pg_wal with everything since
 *   START_LSN  "Latest checkpoint location" of BASE_DIR
 *   partial    the workload need not reach everything
 * Prints counts; exit 1 when an image or a native page differs, a chain fails, a record that the
 * native redo knows is not applied by it, or a resource manager or a native kind of record was not
 * reached.
 */
#include "wal_chains.h"

#include "loch/base/log.h"
#include "loch/pg/wal_record.h"
#include "loch/redo/redo.h"

#include <stdio.h>
#include <stdlib.h>

static struct {
    uint64_t records[256][256]; /* applied natively */
    uint64_t images[4];         /* by compression */
    uint64_t by_process, runs, differing, corrupt, refused;
} native;

static const char *kind_text(const struct loch_redo_record *r)
{
    static char text[64];

    snprintf(text, sizeof text, "%s info %02X at " LOCH_LSN_FMT, loch_rmgr_name(r->bytes.data[17]),
             r->bytes.data[16], LOCH_LSN_ARG(r->start_lsn));
    return text;
}

static void complain(uint64_t *count, const char *what, const struct chain_page *page,
                     const struct loch_redo_record *r)
{
    if ((*count)++ < 20)
        printf("%s: %u/%u/%u fork %d block %u, %s\n", what, page->rel.spc, page->rel.db,
               page->rel.rel, page->fork, page->block, kind_text(r));
}

/* Applies records natively from the first on; returns how many were. */
static size_t native_run(const struct chain_page *page, const struct loch_redo_record *chain,
                         size_t count, uint8_t now[LOCH_PAGE_BYTES])
{
    static struct loch_wal_record record;
    const struct loch_redo_target target = {
        .rel = page->rel, .fork = page->fork, .block = page->block};

    for (size_t i = 0; i < count; i++) {
        enum loch_redo_outcome outcome = LOCH_REDO_NOT_HANDLED;

        if (!loch_is_ok(loch_wal_record_decode(chain[i].bytes, &record)))
            chains_die("decode");
        if (!loch_is_ok(loch_redo_apply(&target, &record, chain[i].end_lsn, now, &outcome))) {
            printf("%s\n", loch_error_text());
            complain(&native.corrupt, "NATIVE CORRUPT", page, &chain[i]);
            return i;
        }
        if (outcome == LOCH_REDO_NOT_HANDLED) {
            if (loch_redo_knows(&record))
                complain(&native.refused, "NATIVE DOES NOT APPLY", page, &chain[i]);
            return i;
        }
        native.records[record.rmid][record.info & 0xF0]++;
        for (uint32_t b = 0; b < record.block_count; b++)
            native.images[record.blocks[b].compression] += record.blocks[b].apply_image;
    }
    return count;
}

/* How many records from the first on are the process's alone: the first, and those after it of
 * kinds that are not known natively. */
static size_t foreign_run(const struct chain_page *page, const struct loch_redo_record *chain,
                          size_t count)
{
    static struct loch_wal_record record;
    size_t n = 1;

    for (; n < count; n++) {
        if (!loch_is_ok(loch_wal_record_decode(chain[n].bytes, &record)))
            chains_die("decode");
        bool native_image = false;
        for (uint32_t b = 0; b < record.block_count; b++)
            native_image |= record.blocks[b].apply_image && record.blocks[b].fork == page->fork &&
                            record.blocks[b].block == page->block;
        if (native_image || loch_redo_knows(&record))
            break;
    }
    return n;
}

/* The whole chain, runs of native records by both, the others by the pool alone. */
static bool check_chain(struct loch_redo_pool *pool, const struct loch_id *tenant,
                        const struct chain_page *page, const uint8_t *base,
                        const struct loch_redo_record *chain, uint64_t *checked,
                        uint64_t *differing)
{
    static uint8_t by_pool[LOCH_PAGE_BYTES], by_native[LOCH_PAGE_BYTES];

    for (size_t done = 0; done < page->count;) {
        memset(by_native, 0, sizeof by_native);
        if (base != NULL)
            memcpy(by_native, base, sizeof by_native);
        size_t run = native_run(page, chain + done, page->count - done, by_native);
        size_t count = run > 0 ? run : foreign_run(page, chain + done, page->count - done);

        if (!loch_is_ok(loch_redo_pool_verify(pool, tenant, &page->rel, page->fork, page->block,
                                              base, chain + done, count, by_pool, checked,
                                              differing)))
            return false;
        native.runs += run > 0;
        native.by_process += run > 0 ? 0 : count;
        if (run > 0 && memcmp(by_native, by_pool, sizeof by_pool) != 0) {
            complain(&native.differing, "NATIVE DIFFERS in a run up to", page,
                     &chain[done + run - 1]);
            for (size_t i = 0, shown = 0; i < LOCH_PAGE_BYTES && shown < 8; i++)
                if (by_native[i] != by_pool[i] && shown++ < 8)
                    printf("  at %zu: native %02X, pool %02X\n", i, by_native[i], by_pool[i]);
        }
        base = by_pool;
        done += count;
    }
    return true;
}

/* Names the first record after which the page is not as recorded. */
static void explain(struct loch_redo_pool *pool, const struct loch_id *tenant,
                    const struct chain_page *page, const uint8_t *base,
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

/* Every kind of record that PostgreSQL writes and the native redo knows was applied by it. */
static bool report_native(bool partial)
{
    static const struct {
        uint8_t rmid, info;
    } wanted[] = {
        {LOCH_RM_HEAP, 0x00},  {LOCH_RM_HEAP, 0x10},  {LOCH_RM_HEAP, 0x20},  {LOCH_RM_HEAP, 0x40},
        {LOCH_RM_HEAP, 0x50},  {LOCH_RM_HEAP, 0x60},  {LOCH_RM_HEAP, 0x70},  {LOCH_RM_HEAP, 0x80},
        {LOCH_RM_HEAP, 0xA0},  {LOCH_RM_HEAP2, 0x10}, {LOCH_RM_HEAP2, 0x20}, {LOCH_RM_HEAP2, 0x30},
        {LOCH_RM_HEAP2, 0x40}, {LOCH_RM_HEAP2, 0x50}, {LOCH_RM_HEAP2, 0x60}, {LOCH_RM_HEAP2, 0xD0},
        {LOCH_RM_BTREE, 0x00}, {LOCH_RM_BTREE, 0x10}, {LOCH_RM_BTREE, 0x20}, {LOCH_RM_BTREE, 0x30},
        {LOCH_RM_BTREE, 0x40}, {LOCH_RM_BTREE, 0x50}, {LOCH_RM_BTREE, 0x60}, {LOCH_RM_BTREE, 0x70},
        {LOCH_RM_BTREE, 0x80}, {LOCH_RM_BTREE, 0x90}, {LOCH_RM_BTREE, 0xA0}, {LOCH_RM_BTREE, 0xB0},
        {LOCH_RM_BTREE, 0xC0}, {LOCH_RM_BTREE, 0xE0},
    };
    bool all = true;
    uint64_t sum = 0;

    for (unsigned rm = 0; rm < 256; rm++)
        for (unsigned info = 0; info < 256; info += 16) {
            sum += native.records[rm][info];
            if (native.records[rm][info] != 0)
                printf("  native %-7s %02X %10" PRIu64 "\n", loch_rmgr_name((uint8_t)rm), info,
                       native.records[rm][info]);
        }
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        if (native.records[wanted[i].rmid][wanted[i].info] == 0 && !partial) {
            printf("NOT REACHED NATIVELY: %s %02X\n", loch_rmgr_name(wanted[i].rmid),
                   wanted[i].info);
            all = false;
        }
    printf("native images: plain %" PRIu64 ", pglz %" PRIu64 ", lz4 %" PRIu64 ", zstd %" PRIu64
           "\n",
           native.images[LOCH_WAL_PLAIN], native.images[LOCH_WAL_PGLZ], native.images[LOCH_WAL_LZ4],
           native.images[LOCH_WAL_ZSTD]);
    printf("native: %" PRIu64 " records in %" PRIu64 " runs, differing %" PRIu64
           ", corrupt %" PRIu64 ", not applied %" PRIu64 "; by the process alone %" PRIu64 "\n",
           sum, native.runs, native.differing, native.corrupt, native.refused, native.by_process);
    return all && sum > 0 && native.differing == 0 && native.corrupt == 0 && native.refused == 0;
}

static bool report_coverage(bool partial)
{
    static const uint8_t wanted[] = {LOCH_RM_XLOG, LOCH_RM_HEAP2,  LOCH_RM_HEAP,   LOCH_RM_BTREE,
                                     LOCH_RM_HASH, LOCH_RM_GIN,    LOCH_RM_GIST,   LOCH_RM_SEQ,
                                     LOCH_RM_BRIN, LOCH_RM_SPGIST, LOCH_RM_GENERIC};
    unsigned kinds = 0;
    bool all = true;

    for (unsigned rm = 0; rm < 256; rm++) {
        uint64_t sum = 0;
        for (unsigned info = 0; info < 256; info++) {
            sum += chains_seen[rm][info];
            kinds += chains_seen[rm][info] != 0;
        }
        if (sum != 0)
            printf("  %-10s %10" PRIu64 " references\n", loch_rmgr_name((uint8_t)rm), sum);
        for (size_t i = 0; i < sizeof wanted; i++)
            if (wanted[i] == rm && sum == 0 && !partial) {
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
    bool covered, partial = argc > 6 && strcmp(argv[6], "partial") == 0;

    loch_log_init("redo_check", LOCH_LOG_INFO);
    if (argc < 5) {
        fprintf(stderr,
                "usage: redo_check BASE_DIR WAL_DIR START_LSN SCRATCH_DIR [BIN_DIR [partial]]\n");
        return 2;
    }
    if (!loch_is_ok(loch_lsn_parse(argv[3], &start)))
        chains_die("START_LSN");
    options.scratch_dir = argv[4];
    options.postgres_bin_dir = argc > 5 ? argv[5] : "/usr/lib/postgresql/15/bin";
    chains_scan(argv[2], start);
    if (!loch_is_ok(loch_redo_pool_create(&options, &pool)))
        chains_die("pool");
    for (size_t b = 0; b < CHAINS_BUCKETS; b++) {
        for (struct chain_page *page = chains_buckets[b]; page != NULL; page = page->next) {
            struct loch_redo_record *chain = chains_of(page);
            uint8_t base[LOCH_PAGE_BYTES];
            const uint8_t *from = chains_base(argv[1], page, base) ? base : NULL;
            uint64_t before = differing;

            if (!check_chain(pool, &tenant, page, from, chain, &checked, &differing)) {
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
    covered = report_coverage(partial);
    covered = report_native(partial) && covered;
    printf("pages %zu, records applied %" PRIu64 ", images checked %" PRIu64 ", differing %" PRIu64
           ", failed chains %" PRIu64 ", workers spawned %" PRIu64 "\n",
           chains_page_count, stats.records, checked, differing, failed, stats.spawned);
    return checked > 0 && differing == 0 && failed == 0 && covered ? 0 : 1;
}
