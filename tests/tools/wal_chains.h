/* Every page's chain of WAL records, out of a server's pg_wal: for tools that judge and measure
 * redo. The first failure ends the program. */
#ifndef LOCH_TESTS_WAL_CHAINS_H
#define LOCH_TESTS_WAL_CHAINS_H

#include "redo_pool/redo_pool.h"

#include <stdbool.h>

#define CHAINS_BUCKETS (1u << 20)

struct chain_page {
    struct chain_page *next; /* in its bucket */
    struct loch_rel rel;
    uint32_t block;
    uint8_t fork;
    uint32_t count, capacity;
    uint32_t *records;
};

extern struct chain_page **chains_buckets;
extern size_t chains_page_count;
extern uint64_t chains_seen[256][256]; /* page references by resource manager and info */

_Noreturn void chains_die(const char *what);
void *chains_need(void *p);
/* Reads all WAL in `dir` from `start` on; prints its range. */
void chains_scan(const char *dir, loch_lsn start);
/* The page as it was in the base directory; false when it was not there. */
bool chains_base(const char *dir, const struct chain_page *page, uint8_t out[LOCH_PAGE_BYTES]);
/* The page's records in order; the caller frees the array. */
struct loch_redo_record *chains_of(const struct chain_page *page);

#endif
