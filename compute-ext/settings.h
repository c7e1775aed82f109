/* The extension's settings (all set by the agent on the postmaster's command line) and the
 * credential it reads from a descriptor. */
#ifndef LOCH_EXT_SETTINGS_H
#define LOCH_EXT_SETTINGS_H

#include "postgres.h"

#include "access/xlogdefs.h"

#include "loch/base/buf.h"
#include "loch/base/secret.h"
#include "loch/base/types.h"

#define LOCH_READ_AHEAD_MAX 128
#define LOCH_CACHE_MAX_MB   (1024 * 1024)

struct loch_settings {
    /* as given; strings owned by PostgreSQL's settings machinery */
    char *pageserver;
    char *tenant;
    char *timeline;
    char *term;
    char *compute_epoch;
    char *start_lsn;
    int max_lag_kb;
    int max_persist_lag_kb;
    int read_ahead; /* pages */
    bool packed_pages;
    int cache_mb;
    int cache_max_mb;
    char *cache_directory;
    bool read_only;
    bool prewarm;
    int prewarm_interval_s;
    int unlogged_max_mb;
    int move_database_max_mb;
    char *test_disable;
    int test_cut_every;        /* answers from the pageserver, one of which is cut; 0: none */
    int test_slow_listing_ms;  /* a relation more is looked for on the pageserver after that */
    int test_config_pause_ms;  /* between the look at a configuration file and reading it */
    int test_overlay_max;      /* entries for command ids that a writer may fill */
    bool test_keep_stop_state; /* what a stop left is not used up, and nothing begins */
    /* parsed once in the postmaster */
    struct loch_id tenant_id;
    struct loch_id timeline_id;
    uint64 term_value;
    uint64 compute_epoch_value;
    XLogRecPtr start_lsn_value;
    char host[256];
    char port[16];
};

extern struct loch_settings loch_settings;

void loch_settings_define(void);
/* Parses what must be there; FATAL when wrong. */
void loch_settings_load(void);

/* Single fixes that a test may switch off (loch.test_disable, a comma list of these names), to show
 * that its negative test fails without them. Compiled in only with LOCH_TEST_SWITCHES. */
#define LOCH_FIXES(X)                                                                              \
    X(cid)                                                                                         \
    X(overlay)                                                                                     \
    X(overlay_full)                                                                                \
    X(speculative)                                                                                 \
    X(not_logged)                                                                                  \
    X(born)                                                                                        \
    X(btree_cycle)                                                                                 \
    X(all_visible)                                                                                 \
    X(vm)                                                                                          \
    X(truncate)                                                                                    \
    X(sequence)                                                                                    \
    X(createdb)                                                                                    \
    X(dropdb)                                                                                      \
    X(unlogged)                                                                                    \
    X(temp)                                                                                        \
    X(fsm)                                                                                         \
    X(collision)                                                                                   \
    X(readahead)                                                                                   \
    X(kept)                                                                                        \
    X(free_space)                                                                                  \
    X(stop_state)                                                                                  \
    X(cache)                                                                                       \
    X(commit)                                                                                      \
    X(commit_prepared)                                                                             \
    X(two_phase)                                                                                   \
    X(sync_level)                                                                                  \
    X(sync_always)                                                                                 \
    X(move_undo)                                                                                   \
    X(overtaken)                                                                                   \
    X(sizes)

enum loch_fix {
#define LOCH_FIX_ENUM(name_) LOCH_FIX_##name_,
    LOCH_FIXES(LOCH_FIX_ENUM)
#undef LOCH_FIX_ENUM
        LOCH_FIX_COUNT
};

#ifdef LOCH_TEST_SWITCHES
extern bool loch_fix_disabled[LOCH_FIX_COUNT];
#define loch_fix_on(name_) (!loch_fix_disabled[LOCH_FIX_##name_])
#else
#define loch_fix_on(name_) true
#endif

#endif
