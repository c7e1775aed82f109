/* The extension's shared memory: counters, last-written LSNs, locks, and the knowledge tables'
 * homes. Made once in the postmaster; every child inherits the mapping. */
#ifndef LOCH_EXT_SHARED_H
#define LOCH_EXT_SHARED_H

#include "postgres.h"

#include "port/atomics.h"
#include "storage/lwlock.h"
#include "storage/relfilenode.h"
#include "utils/hsearch.h"

#define LOCH_COUNTERS(X)                                                                           \
    X(read_remote, "pages fetched from the pageserver")                                            \
    X(read_local, "pages found kept locally")                                                      \
    X(read_wait_us, "microseconds spent waiting for pages")                                        \
    X(read_under_lock, "remote reads while interrupts were held off")                              \
    X(read_in_critical_section, "remote reads inside a critical section")                          \
    X(read_ahead_sent, "pages asked for ahead")                                                    \
    X(read_ahead_used, "pages asked for ahead and used")                                           \
    X(read_ahead_stale, "pages asked for ahead that had changed since")                            \
    X(read_ahead_dropped, "pages asked for ahead and never wanted, or lost")                       \
    X(cache_hit, "pages found in the local cache")                                                 \
    X(cache_miss, "pages looked for in the local cache and not found")                             \
    X(cache_stale, "pages in the local cache that had changed since (among the misses)")           \
    X(cache_filled, "pages written to the local cache")                                            \
    X(cache_evicted, "pages that left the local cache for others")                                 \
    X(cache_switched_off, "times an error switched the local cache off")                           \
    X(prewarm_listed, "hot pages of the last compute")                                             \
    X(prewarm_loaded, "hot pages brought into the local cache")                                    \
    X(prewarm_left_out, "hot pages that were there already, changed, kept, or gone")               \
    X(prewarm_saved, "hot pages listed for the next compute, all lists together")                  \
    X(free_space_saved, "times the free space maps were listed for the next compute")              \
    X(free_space_restored, "free space maps made out of the last compute's list")                  \
    X(size_asked, "relation sizes asked of the pageserver")                                        \
    X(fork_materialised, "relation forks whose local file was made on first use")                  \
    X(reconnects, "connections made to the pageserver")                                            \
    X(write_dropped, "page writes that needed no local copy")                                      \
    X(write_zero, "writes of all-zero pages")                                                      \
    X(spill_cid, "pages kept: command ids of a running transaction")                               \
    X(spill_speculative, "pages kept: speculative insertion in progress")                          \
    X(spill_not_logged, "pages kept: not written to WAL yet")                                      \
    X(spill_btree_cycle, "pages kept: B-tree vacuum cycle id")                                     \
    X(spill_sequence, "pages kept: sequence")                                                      \
    X(spill_fsm, "pages kept: free space map")                                                     \
    X(spill_vm, "pages kept: visibility map")                                                      \
    X(spill_odd, "pages kept: header the extension does not know")                                 \
    X(unspill, "local copies dropped because the pageserver can make the page")                    \
    X(cid_overlay_put, "command ids remembered instead of keeping the page")                       \
    X(cid_overlay_applied, "command ids put back into a fetched page")                             \
    X(cid_overlay_reaped, "command ids forgotten because their transaction has ended")             \
    X(cid_overlay_scans, "times all remembered command ids were looked through for such")          \
    X(all_visible_raised, "LSNs raised for PD_ALL_VISIBLE")                                        \
    X(local_write, "writes of temporary, unlogged and shared relations")                           \
    X(throttled, "times a backend was slowed for the pageserver's lag")                            \
    X(throttled_us, "microseconds that backends were slowed for")                                  \
    X(commits_guarded, "commits that waited uncancellably")

enum loch_counter {
#define LOCH_COUNTER_ENUM(name_, help_) LOCH_C_##name_,
    LOCH_COUNTERS(LOCH_COUNTER_ENUM)
#undef LOCH_COUNTER_ENUM
        LOCH_COUNTER_COUNT
};

#define LOCH_LAST_LSN_SLOTS (UINT32_C(1) << 20)
#define LOCH_FORK_LSN_SLOTS (UINT32_C(1) << 14)
#define LOCH_KEPT_BITS      (UINT32_C(1) << 20)
#define LOCH_CREATE_LOCKS   16
#define LOCH_OVERLAY_MAX    100000
#define LOCH_ABSENT_MAX     32768

/* One process's share of the counters; written by that process only. */
struct loch_process {
    pg_atomic_uint32 pid;          /* whose they are; 0: nobody's yet */
    pg_atomic_uint64 connected_at; /* TimestampTz; 0: not connected to the pageserver */
    pg_atomic_uint64 last_read_us, longest_read_us;
    pg_atomic_uint64 counters[LOCH_COUNTER_COUNT];
    RelFileNode making; /* its last new relation, or its predecessor's; under loch_absent_lock */
};

/* What the pageserver said last, and when. */
struct loch_pageserver_state {
    pg_atomic_uint64 last_record_lsn, disk_consistent_lsn, remote_consistent_lsn;
    pg_atomic_uint64 seen_at; /* TimestampTz; 0: never */
};

struct loch_shared {
    pg_atomic_uint64 floor_lsn;   /* no read may be older than this */
    pg_atomic_uint64 throttle_us; /* greater than 0 while the pageserver lags */
    struct loch_pageserver_state pageserver;
    pg_atomic_uint64 throttle_round; /* rises with every barrier the throttle emits */
    pg_atomic_uint64 overlay_count;
    pg_atomic_uint64 overlay_full_at; /* TimestampTz: when a writer last looked through all of it */
    pg_atomic_uint64 prewarm_over;    /* 1: no hot pages are being fetched any more */
    pg_atomic_uint64 init_forks_made; /* rises after an init fork's file has appeared */
    pg_atomic_uint64 last_born;       /* where in WAL the last relation was made */
    pg_atomic_uint64 config_wanted;   /* looks at the configuration files that were asked for ... */
    pg_atomic_uint64 config_done;     /* ... and that have ended */
    pg_atomic_uint64 config_lsn;      /* end of what the last change was logged as */
    pg_atomic_uint64 stop_state_lsn;  /* sessions begin when the quorum has it (stop_state.c) */
    pg_atomic_uint64 counters[LOCH_COUNTER_COUNT];
#ifdef LOCH_TEST_SWITCHES
    pg_atomic_uint64 cache_fault_in, cache_fault_errno;
#endif
    pg_atomic_uint32 kept[LOCH_KEPT_BITS / 32]; /* kept.h */
    pg_atomic_uint64 fork_lsn[LOCH_FORK_LSN_SLOTS];
    pg_atomic_uint64 last_lsn[LOCH_LAST_LSN_SLOTS];
};

extern struct loch_shared *loch_shared;     /* NULL before shared memory exists */
extern struct loch_process *loch_processes; /* loch_process_count of them, by PGPROC number */
extern HTAB *loch_overlay_table;
extern HTAB *loch_absent_table;
extern LWLock *loch_overlay_lock;
extern LWLock *loch_absent_lock;

/* One of LOCH_CREATE_LOCKS, held while a local file is made. */
LWLock *loch_create_lock(uint32 hash);

/* Sets the hooks that size and make the shared memory; `ready` runs in the postmaster after it is
 * there. Call from _PG_init in the postmaster. */
void loch_shared_register(void (*ready)(void));

static inline void loch_init_fork_made(void)
{
    pg_atomic_fetch_add_u64(&loch_shared->init_forks_made, 1);
}

uint32 loch_process_count(void);
/* This process's own; somewhere to write to when it has none. */
struct loch_process *loch_own_process(void);

static inline void loch_count_add(enum loch_counter c, uint64 n)
{
    pg_atomic_uint64 *own;

    if (loch_shared == NULL)
        return;
    own = loch_own_process()->counters;
    pg_atomic_write_u64(&own[c], pg_atomic_read_u64(&own[c]) + n);
    pg_atomic_fetch_add_u64(&loch_shared->counters[c], (int64)n);
}

#define loch_count(name_) loch_count_add(LOCH_C_##name_, 1)

#endif
