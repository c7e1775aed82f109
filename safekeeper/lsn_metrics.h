/* The positions of timelines as metrics, of a bounded number of them. */
#ifndef LOCH_SAFEKEEPER_LSN_METRICS_H
#define LOCH_SAFEKEEPER_LSN_METRICS_H

#include "loch/base/types.h"

#include <stdint.h>

#define SK_LSN_METRICS 5u
/* Timelines that have series at a time. */
#define SK_LSN_METRICS_TIMELINES 512u

struct sk_daemon;
struct sk_timeline;
struct loch_metric;

/* Embedded in a timeline. */
struct sk_lsn_metrics {
    struct loch_metric *series[SK_LSN_METRICS]; /* all or none */
    loch_lsn flush_lsn;                         /* when last looked at */
    uint64_t moved_ns;                          /* when that was found to have moved */
};

/* About once a second: sets the gauges loch_safekeeper_timeline_{flush,commit,persisted,archived,
 * trimmed}_lsn{tenant,timeline}. Up to SK_LSN_METRICS_TIMELINES timelines have them; when more want
 * them, one whose WAL moves takes the place of the one whose WAL has not moved for the longest
 * time, a minute at least. */
void sk_lsn_metrics_tick(struct sk_daemon *daemon, uint64_t now_ns);
/* The timeline goes: its series do too. */
void sk_lsn_metrics_drop(struct sk_timeline *tl);

#endif
