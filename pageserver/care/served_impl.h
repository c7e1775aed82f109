/* Inside of a timeline in service: shared by served.c (its work) and registry.c (which there are).
 * Private. */
#ifndef LOCH_PAGESERVER_CARE_SERVED_IMPL_H
#define LOCH_PAGESERVER_CARE_SERVED_IMPL_H

#include "served.h"

#include "ingest/wal_herald.h"

struct loch_served {
    struct loch_pageserver *ps;
    struct loch_served *next, **prev;           /* of all */
    struct loch_served *wait_next, **wait_prev; /* of those that have, or had, waiters */
    struct loch_id tenant, timeline_id;
    struct loch_timeline *timeline;
    struct loch_ingest *ingest;
    struct loch_wal_receiver *receiver;
    struct loch_wal_herald *herald;
    struct loch_waiter *waiters;
    struct loch_served_watch *watches;
    struct loch_waiter parents; /* a branch pulls when its ancestors have what it stands on */
    struct loch_timer *timer, *gather;
    struct loch_buf pending;
    size_t fed_bytes, part_bytes; /* of the ingest in flight; of a record that came in part */
    struct loch_memory_share memory;
    loch_lsn pulled_lsn; /* end of what the receiver delivered */
    loch_lsn retry_lsn;  /* last_record_lsn when WAL was asked for again, */
    unsigned retries;    /* so many times in a row there */
    loch_lsn rest_lsn;   /* last_record_lsn when a flush was asked for, to rest */
    bool ingesting, flushing, paused, waiting_parents, freeze_wanted, flush_failed;
    bool flush_barred;   /* no later try would end better */
    bool memory_ordered; /* the freeze that is wanted is for want of memory */
    unsigned work;       /* in flight */
    uint64_t term, min_epoch;
    loch_lsn commit_lsn; /* the highest that a safekeeper told */
    loch_status problem_st;
    char problem[400];
    bool stopping, archived;
    void (*stopped)(void *arg);
    void *stopped_arg;
    struct loch_metric *m_last, *m_disk, *m_memory;
    uint64_t records_told;
};

/* A new one, known to the daemon. LOCH_E_NO_MEMORY. */
LOCH_STATUS served_enlist(struct loch_pageserver *ps, const struct loch_id *tenant,
                          const struct loch_id *timeline, struct loch_served **out);
/* Nobody finds it any more; it is still listed. */
void served_hide(struct loch_served *s);
/* It is listed no more. */
void served_delist(struct loch_served *s);
/* It has waiters: whatever its tenant ingests may be what they wait for. */
void served_waits(struct loch_served *s);
void served_waits_no_more(struct loch_served *s);

#endif
