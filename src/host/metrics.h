/* Holds: what metrics.c and metrics_http.c share. */
#ifndef LOCH_HOST_METRICS_PRIVATE_H
#define LOCH_HOST_METRICS_PRIVATE_H

#include "loch/base/buf.h"
#include "loch/host/metrics.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>

#define METRIC_BUCKETS        22u
#define METRIC_FIRST_BOUND_NS 10000u /* 10 us, doubled from bucket to bucket */

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct family;

struct loch_metric {
    _Atomic int64_t value; /* histogram: observations */
    _Atomic uint64_t sum_ns;
    _Atomic uint64_t bucket[METRIC_BUCKETS + 1];
    enum metric_kind kind;
    unsigned uses; /* registered so many times */
    char *labels;
    struct family *family;
    struct loch_metric *next;
};

struct family {
    enum metric_kind kind;
    char *name, *help;
    struct loch_metric *series, **tail;
    struct family *next;
};

struct fact {
    char *name, *value;
};

struct MHD_Daemon;

struct loch_metrics {
    pthread_mutex_t lock;
    char program[64];
    struct family *families, **families_tail;
    size_t series_count;
    _Atomic uint64_t overflow;
    struct loch_metric spare;
    bool healthy;
    char health[256];
    struct fact *facts;
    size_t fact_count;
    struct MHD_Daemon *http;
    uint16_t port;
};

/* Appends the health text; true: healthy. */
bool metrics_health_text(struct loch_metrics *metrics, struct loch_writer *w);
void metrics_status_page(struct loch_metrics *metrics, struct loch_writer *w);
void metrics_http_stop(struct loch_metrics *metrics);

#endif
