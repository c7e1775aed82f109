/* What the parts of the running daemon share. The loop's thread owns it. */
#ifndef LOCH_PAGESERVER_PAGESERVER_H
#define LOCH_PAGESERVER_PAGESERVER_H

#include "config.h"
#include "care/memory.h"
#include "read/redo_chain.h"
#include "read/redo_turns.h"
#include "store/layer_copy.h"
#include "store/timeline.h"

#include "loch/base/id_map.h"
#include "loch/base/status.h"
#include "loch/host/refusals.h"

#include <pthread.h>

struct basebackup;
struct loch_audit;
struct loch_env;
struct loch_initdb_template;
struct loch_kms;
struct loch_leases;
struct loch_listener;
struct loch_long_work;
struct loch_metric;
struct loch_metrics;
struct loch_refused;
struct loch_served;
struct loch_shred;
struct loch_tenant;
struct loch_tls_server;
struct loch_upkeep;

/* care/long_work.h. Zero-initialised: none. */
struct loch_long_works {
    struct loch_long_work *first; /* in line */
    unsigned serving;             /* threads that come to the line */
    unsigned threads;             /* the loop's: that have not been joined */
};

struct loch_pageserver {
    struct loch_env *env;
    struct loch_pageserver_config config;
    struct loch_metrics *metrics;
    struct loch_kms *kms;
    struct loch_keys *keys;
    struct loch_audit *audit;
    struct loch_refused *refused; /* NULL in tests */
    struct loch_shred *shreds;    /* care/shred.h */
    struct loch_leases *leases;   /* NULL in tests */
    struct loch_objstore *objstore;
    struct loch_buf spare_answers;       /* page_service.c: memory for answers, empty and wiped */
    const char *scratch;                 /* below the configured one, of this process alone */
    struct loch_initdb_template *initdb; /* import/import.h */
    struct loch_redo_pool *redo;
    struct loch_redo_use redo_use;
    struct loch_redo_turns redo_turns;
    struct basebackup *backups; /* read/basebackup_stream.c: under way or in line, oldest first */
    struct loch_long_works long_works;
    struct loch_page_cache *cache;
    struct loch_frame_cache *frames;
    struct loch_store store;
    struct loch_read_stats reads;
    struct loch_heal_stats heals;
    struct loch_tls_server *tls;
    struct loch_listener *listener;
    struct loch_tenant *tenants; /* care/tenants.h */
    struct loch_served *served;  /* care/served.h: every timeline of every tenant */
    struct loch_served *waiting; /* those of them that somebody waits for */
    struct loch_id_map served_map, tenant_map;
    struct loch_upkeep *upkeep; /* care/upkeep.h */
    struct loch_memory memory;
    unsigned settling; /* first flushes of branches, in flight */
    bool stopping;
    struct page_conn *conns; /* of the page port; read/page_limits.c */
    size_t conn_count;
    struct loch_timer *conn_tick;
    struct loch_refusals refusals; /* of requests and connections, in the log */
    size_t requests;               /* of all connections, not yet answered */

    struct loch_metric *m_branch_seconds, *m_get_seconds, *m_wait_seconds, *m_gets, *m_cached,
        *m_at_once, *m_packed, *m_errors, *m_connections;
    struct loch_metric *m_records, *m_wal_bytes, *m_flushes;
};

/* A status with its text, to be carried from a pool thread to the loop. */
struct loch_failure {
    loch_status st;
    char text[400];
};

/* Takes the thread's failure text along when st is a failure. */
void loch_failure_set(struct loch_failure *failure, loch_status st);
/* Records the text again on this thread and returns the status. */
LOCH_STATUS loch_failure_raise(const struct loch_failure *failure);

/* A thread that takes no signals, which are the loop's; to be joined. LOCH_E_NO_MEMORY. */
LOCH_STATUS loch_pageserver_thread(void *(*run)(void *arg), void *arg, pthread_t *out);

/* Ends the loop when the daemon is stopping and nothing is in flight any more. */
void loch_pageserver_consider_end(void *pageserver);

#endif
