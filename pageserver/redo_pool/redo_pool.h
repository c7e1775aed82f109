/* The pool of WAL redo workers: pages rebuilt by the stock PostgreSQL's own redo code.
 *
 * A worker is a sandboxed `postgres` process (pageserver/redo-worker) that serves one tenant and is
 * never reused for another. Workers start at first use (about 10 ms), up to a limit per tenant;
 * callers beyond it wait. A worker that dies or hangs is replaced; a chain that kills two fresh
 * workers in a row is run record by record to find the one that does it. A record that a worker
 * refused or died of is reported as LOCH_E_CORRUPT, naming page and LSN, and remembered: chains
 * with it are turned away without a worker until poison_ms have passed, then tried again.
 *
 * Every function may be called from any thread, except create and destroy.
 */
#ifndef LOCH_PAGESERVER_REDO_POOL_H
#define LOCH_PAGESERVER_REDO_POOL_H

#include "loch/base/buf.h"
#include "loch/base/types.h"
#include "loch/pg/key.h"

struct loch_redo_pool;

struct loch_redo_pool_options {
    const char *postgres_bin_dir; /* holds `postgres`, such as /usr/lib/postgresql/15/bin */
    const char *lib_dir;          /* holds loch_redo.so; readable by run_as_user */
    const char *scratch_dir; /* existing; each worker gets a small directory of its own below */
    const char
        *run_as_user; /* when this process is root (PostgreSQL refuses root); NULL: postgres */
    unsigned max_workers_per_tenant; /* 0: 2 */
    unsigned max_workers; /* of all tenants; an idle one of another tenant makes room. 0: 64 */
    unsigned request_timeout_ms; /* a worker silent for longer is killed; 0: 10000 */
    unsigned idle_timeout_ms;    /* a worker idle for longer ends at a later call; 0: 60000 */
    unsigned poison_ms;          /* how long a record that failed is not tried again; 0: 60000 */
    const uint8_t *pg_control;   /* a valid 8192-byte pg_control of the major, or NULL: made here */
    bool hint_lsn; /* the WAL's origin ran with data checksums or wal_log_hints: decides
                    * whether HEAP2 VISIBLE sets the heap page's LSN. Loch's do not. */
};

/* One WAL record that touches the page: its whole bytes as they stand in the WAL, page headers left
 * out (length xl_tot_len). */
struct loch_redo_record {
    loch_lsn start_lsn;
    loch_lsn end_lsn;        /* becomes the page's LSN */
    struct loch_slice bytes; /* borrowed */
};

struct loch_redo_stats {
    uint64_t requests, records; /* answered */
    uint64_t spawned, died, timed_out;
    uint64_t poisoned;    /* chains given up after asking workers */
    uint64_t turned_away; /* chains with a remembered record: none was asked */
    uint64_t workers;     /* alive now */
};

/* Copies the options. LOCH_E_INVALID when `postgres`, loch_redo.so or the scratch directory is
 * missing. */
LOCH_STATUS loch_redo_pool_create(const struct loch_redo_pool_options *options,
                                  struct loch_redo_pool **out);
/* Ends all workers and removes their directories. No call may be in flight. Takes NULL. */
void loch_redo_pool_destroy(struct loch_redo_pool *pool);

/* Applies `count` (>= 1) records in order to block `block` of rel's fork: to `base`
 * (LOCH_PAGE_BYTES) or, when that is NULL, to a page of zeros. Blocks; page_out is untouched on
 * failure. Visibility map: pass VM pages only for records that hold a block reference to them
 * (HEAP2 VISIBLE); the clears that heap records imply are the caller's. FSM pages never.
 * LOCH_E_CORRUPT: a record is malformed, does not belong to the page, or kills the worker.
 * LOCH_E_UNAVAILABLE: no worker could be started, or the tenant was dropped meanwhile.
 * LOCH_E_LIMIT: one record above 3 MB minus a page (its images must be taken at ingest). */
LOCH_STATUS loch_redo_pool_apply(struct loch_redo_pool *pool, const struct loch_id *tenant,
                                 const struct loch_rel *rel, enum loch_fork fork, uint32_t block,
                                 const uint8_t *base, const struct loch_redo_record *records,
                                 size_t count, uint8_t page_out[static LOCH_PAGE_BYTES]);

/* Kills the tenant's workers at once (its key was revoked, or it is gone); calls in flight end with
 * LOCH_E_UNAVAILABLE. A later apply starts anew. */
void loch_redo_pool_drop_tenant(struct loch_redo_pool *pool, const struct loch_id *tenant);
/* Ends its workers, for what they may remember of pages that are not to be read any more. Requests
 * under way do not fail: each is asked of another worker. */
void loch_redo_pool_renew_tenant(struct loch_redo_pool *pool, const struct loch_id *tenant);

/* As apply, but also compares every after-image that wal_consistency_checking put into the records
 * for this block with the page, masked as PostgreSQL masks it. *checked and *differing count them;
 * a difference is not a failure of the call. For tests and for judging the native redo. */
LOCH_STATUS loch_redo_pool_verify(struct loch_redo_pool *pool, const struct loch_id *tenant,
                                  const struct loch_rel *rel, enum loch_fork fork, uint32_t block,
                                  const uint8_t *base, const struct loch_redo_record *records,
                                  size_t count, uint8_t page_out[static LOCH_PAGE_BYTES],
                                  uint64_t *checked, uint64_t *differing);

/* Ends workers idle for longer than idle_timeout_ms. Every apply does so too; a daemon's timer may.
 */
void loch_redo_pool_reap(struct loch_redo_pool *pool);

void loch_redo_pool_stats(struct loch_redo_pool *pool, struct loch_redo_stats *out);

#endif
