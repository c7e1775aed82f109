/* The safekeeper's world: what all timelines of the process share. Loop thread only. */
#ifndef LOCH_SAFEKEEPER_DAEMON_H
#define LOCH_SAFEKEEPER_DAEMON_H

#include "wal_limits.h"
#include "wal_memory.h"
#include "wal_store.h"

#include "loch/base/id_map.h"
#include "loch/host/audit.h"
#include "loch/host/console.h"
#include "loch/host/daemon.h"
#include "loch/host/keys.h"
#include "loch/host/leases.h"
#include "loch/host/metrics.h"
#include "loch/host/refusals.h"
#include "loch/host/refused.h"
#include "loch/io/env.h"
#include "loch/kms/kms.h"
#include "loch/objstore/objstore.h"
#include "loch/wire/wal.h"

#define SK_PEERS_MAX LOCH_MEMBERS_MAX
/* Of three safekeepers each serves the readers of a third of SK_TIMELINES_MAX timelines, 5461: they
 * must fit into three quarters. An idle one takes 40 KiB (docs/branches.md) and a descriptor: 320
 * MiB, and with two files of each timeline 40,960 descriptors; a service has 1 GiB and 65,536. */
#define SK_CONNECTIONS_MAX         8192u
#define SK_TURNED_AWAY_MAX         64u /* connections beyond those, that are told so */
#define SK_COMPUTE_CONNECTIONS_MAX 8u  /* of one; it needs one */
#define SK_TIMELINES_MAX           16384u
#define SK_LOOKS_MAX               32u /* timelines that look at their peers at a time */
#define SK_PULLS_MAX               16u /* that fetch WAL from them */

struct sk_timeline;
struct sk_conn;
struct sk_recovery;

struct sk_peer {
    struct loch_id node;
    const char *address; /* lives with the configuration */
};

struct sk_stats {
    struct sk_store_stats store;
    struct loch_metric *appends, *append_bytes, *commits, *commit_latency;
    struct loch_metric *refused, *turned_away;
    struct loch_metric *votes, *fenced, *pulled_bytes, *file_reads, *recovered_bytes;
    struct loch_metric *journal_records, *journal_bytes;
    struct loch_metric *archived_bytes, *archive_failures, *archive_reads;
    struct loch_metric *wal_disk_bytes, *spare_bytes, *timelines_held, *exported_bytes, *exports;
    struct loch_metric *witness_lag;
    struct loch_metric *connections, *timelines_active, *timelines_broken;
};

/* Who does something (recovery.c), and who waits for a turn, in a line. */
struct sk_turns {
    uint32_t count;
    struct sk_recovery *first, *last;
};

struct sk_daemon {
    struct loch_env *env;
    const char *dir;     /* the data directory */
    const char *address; /* as others reach it */
    struct loch_id cluster, node, boot;
    uint64_t incarnation;
    uint64_t file_bytes;
    struct sk_witness *witness; /* NULL in tests without a store */
    uint64_t witness_ms;
    uint64_t work; /* rises whenever something has become durable */
    struct sk_journal *journal;
    uint32_t journal_half_bytes, journal_busy; /* 0: as journal.h says */
    uint64_t journal_slow_ns;
    uint64_t piece_bytes;               /* of the archive: SK_PIECE_BYTES, or less in tests */
    struct loch_pgv3_port *export_port; /* NULL: WAL is not exported */
    struct sk_export *exports;
    struct sk_limits limits;
    struct sk_memory memory;
    uint32_t pieces;             /* readers that hold a piece of the archive */
    uint32_t export_pieces;      /* clients of the export port that do */
    struct loch_objstore *store; /* NULL in tests: nothing is archived */
    struct loch_kms *kms;
    struct loch_keys *keys;
    uint64_t keys_seen; /* loch_keys_changes of the last tick */
    struct loch_lease_settings lease_settings;
    uint64_t key_idle_ms; /* keys not used for so long are put to sleep; 0: never */
    struct loch_audit *audit;
    struct loch_refused *refused; /* NULL in tests */
    struct loch_leases *leases;   /* NULL in tests: keys once opened stay */
    struct loch_tls_server *tls;
    struct loch_listener *listener;
    struct sk_peer peers[SK_PEERS_MAX]; /* all safekeepers but this one */
    size_t peer_count;
    bool listed; /* this node is one of [safekeepers] */
    struct sk_timeline **timelines;
    size_t timeline_count;
    struct loch_id_map timeline_map; /* the same by id */
    bool archiving;                  /* a piece is being made */
    size_t archive_turn;             /* index of the timeline to look at first */
    struct sk_conn *conns;           /* all connections, a list */
    size_t conn_count;
    uint32_t conns_max;            /* 0: SK_CONNECTIONS_MAX; less in tests */
    uint32_t compute_count;        /* of those that are served, ... */
    uint32_t other_count;          /* ... and readers and peers: three quarters at most each */
    struct loch_refusals refusals; /* of connections, in the log */
    struct loch_metrics *metrics;
    struct sk_stats stats;
    struct sk_turns looks, pulls;
    size_t lsn_series; /* timelines whose positions are metrics */
    struct loch_timer *tick;
    struct loch_timer *beats; /* while a proposer waits because its timeline is held */
    bool stopping;
    uint64_t stop_by_ns;
    int exit_code;
};

extern const struct loch_config_program sk_program;
extern const struct loch_daemon_hooks sk_hooks;

/* Enters the data directory, listens, opens the timelines. The caller has set env, dir, ids,
 * file_bytes, keys, tls, peers and metrics. */
LOCH_STATUS sk_daemon_serve(struct sk_daemon *daemon, const char *address);
/* For the console: true while a command about a sleeping tenant waits for it. */
bool sk_daemon_hold(void *state, const struct loch_console_request *request);
/* NULL when there is none. */
struct sk_timeline *sk_daemon_find(const struct sk_daemon *daemon, const struct loch_id *tenant,
                                   const struct loch_id *timeline);
/* LOCH_E_LIMIT, LOCH_E_NO_MEMORY; the timeline then belongs to the daemon. */
LOCH_STATUS sk_daemon_adopt(struct sk_daemon *daemon, struct sk_timeline *timeline);
/* Forgets it (the caller destroys it). */
void sk_daemon_forget(struct sk_daemon *daemon, const struct sk_timeline *timeline);
/* A parked timeline has given all plaintext back: the tenant's others may have as well. */
void sk_daemon_wiped(struct sk_daemon *daemon, const struct loch_id *tenant,
                     const struct loch_id *timeline);
/* A failed write or sync, or no memory in the consensus: says why and ends the process. */
_Noreturn void sk_daemon_fail_stop(const char *what, loch_status st);

/* The hooks of sk_hooks. */
LOCH_STATUS sk_daemon_start(const struct loch_daemon *daemon, void **state);
void sk_daemon_stop(void *state);
void sk_daemon_finish(void *state);

#endif
