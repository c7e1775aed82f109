/* Holds: the positions of timelines as metrics. Invariant: daemon.lsn_series counts the timelines
 * that have series, at most SK_LSN_METRICS_TIMELINES. */
#include "lsn_metrics.h"

#include "timeline.h"

#include "loch/host/metrics.h"

#define IDLE_NS UINT64_C(60000000000)

static const struct {
    const char *name, *help;
} gauges[SK_LSN_METRICS] = {
    {"loch_safekeeper_timeline_flush_lsn", "End of the last whole record on disk."},
    {"loch_safekeeper_timeline_commit_lsn", "End of committed WAL, as far as known here."},
    {"loch_safekeeper_timeline_persisted_lsn", "What the pageserver has persisted."},
    {"loch_safekeeper_timeline_archived_lsn", "What the archive has, as far as known here."},
    {"loch_safekeeper_timeline_trimmed_lsn", "Below it WAL is in the archive alone."}};

static void take(struct sk_timeline *tl)
{
    const struct loch_label labels[] = {{"tenant", tl->tenant_text},
                                        {"timeline", tl->timeline_text}};

    for (size_t i = 0; i < SK_LSN_METRICS; i++)
        tl->lsn_metrics.series[i] =
            loch_metrics_gauge(tl->daemon->metrics, gauges[i].name, gauges[i].help, labels, 2);
    tl->daemon->lsn_series++;
}

void sk_lsn_metrics_drop(struct sk_timeline *tl)
{
    if (tl->lsn_metrics.series[0] == NULL)
        return;
    for (size_t i = 0; i < SK_LSN_METRICS; i++) {
        loch_metrics_drop(tl->daemon->metrics, tl->lsn_metrics.series[i]);
        tl->lsn_metrics.series[i] = NULL;
    }
    tl->daemon->lsn_series--;
}

/* True when there is room for one more. */
static bool make_room(struct sk_daemon *d, uint64_t now_ns)
{
    struct sk_timeline *idle = NULL;

    if (d->lsn_series < SK_LSN_METRICS_TIMELINES)
        return true;
    for (size_t i = 0; i < d->timeline_count; i++) {
        struct sk_timeline *tl = d->timelines[i];
        if (tl->lsn_metrics.series[0] != NULL && now_ns - tl->lsn_metrics.moved_ns >= IDLE_NS &&
            (idle == NULL || tl->lsn_metrics.moved_ns < idle->lsn_metrics.moved_ns))
            idle = tl;
    }
    if (idle != NULL)
        sk_lsn_metrics_drop(idle);
    return idle != NULL;
}

void sk_lsn_metrics_tick(struct sk_daemon *d, uint64_t now_ns)
{
    bool room = true; /* until it is found that there is none */

    for (size_t i = 0; i < d->timeline_count; i++) {
        struct sk_timeline *tl = d->timelines[i];
        struct sk_lsn_metrics *m = &tl->lsn_metrics;
        struct loch_acceptor_view view;
        if (tl->state != SK_ACTIVE)
            continue;
        loch_acceptor_look(tl->acceptor, &view);
        const bool moved = view.flush_lsn != m->flush_lsn;
        m->moved_ns = moved ? now_ns : m->moved_ns;
        m->flush_lsn = view.flush_lsn;
        if (m->series[0] == NULL && moved && room) {
            room = make_room(d, now_ns);
            if (room)
                take(tl);
        }
        if (m->series[0] == NULL)
            continue;
        const loch_lsn values[SK_LSN_METRICS] = {view.flush_lsn, view.commit_lsn, tl->persisted_lsn,
                                                 tl->archive.lsn, tl->control.trim_lsn};
        for (size_t k = 0; k < SK_LSN_METRICS; k++)
            loch_metric_set(m->series[k], (int64_t)values[k]);
    }
}
