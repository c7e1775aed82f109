/* Gauges of a timeline. */
#include "gauges.h"

#include "store/timeline.h"

void loch_gauges_make(struct loch_gauges *g, struct loch_metrics *metrics,
                      const struct loch_timeline *t)
{
    char tenant[LOCH_ID_TEXT_BYTES], timeline[LOCH_ID_TEXT_BYTES];
    const struct loch_timeline_info *info = loch_timeline_info(t);
    struct loch_label labels[2] = {{"tenant", loch_id_format(&info->tenant, tenant)},
                                   {"timeline", loch_id_format(&info->timeline, timeline)}};
    g->last = loch_metrics_gauge(metrics, "loch_pageserver_last_record_lsn",
                                 "End of the last ingested record.", labels, 2);
    g->disk = loch_metrics_gauge(metrics, "loch_pageserver_disk_consistent_lsn",
                                 "LSN up to which layers are written.", labels, 2);
    g->memory = loch_metrics_gauge(metrics, "loch_pageserver_frozen_bytes",
                                   "Frozen layers that wait to be written.", labels, 2);
}

void loch_gauges_set(const struct loch_gauges *g, const struct loch_timeline *t)
{
    if (g->last == NULL)
        return;
    loch_metric_set(g->last, (int64_t)loch_timeline_last_record_lsn(t));
    loch_metric_set(g->disk, (int64_t)loch_timeline_disk_consistent_lsn(t));
    loch_metric_set(g->memory, (int64_t)loch_timeline_frozen_bytes(t));
}

void loch_gauges_drop(struct loch_gauges *g, struct loch_metrics *metrics)
{
    if (g->last == NULL)
        return;
    loch_metrics_drop(metrics, g->last);
    loch_metrics_drop(metrics, g->disk);
    loch_metrics_drop(metrics, g->memory);
    *g = (struct loch_gauges){0};
}
