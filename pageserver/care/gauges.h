/* What metrics say of a timeline in service. Loop thread. */
#ifndef LOCH_PAGESERVER_CARE_GAUGES_H
#define LOCH_PAGESERVER_CARE_GAUGES_H

#include "loch/host/metrics.h"

struct loch_timeline;

/* Zero-initialised: none. */
struct loch_gauges {
    struct loch_metric *last, *disk, *memory;
};

void loch_gauges_make(struct loch_gauges *g, struct loch_metrics *metrics,
                      const struct loch_timeline *t);
void loch_gauges_set(const struct loch_gauges *g, const struct loch_timeline *t);
void loch_gauges_drop(struct loch_gauges *g, struct loch_metrics *metrics);

#endif
