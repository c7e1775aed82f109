/* Metrics, health and a read-only status page over HTTP on loopback.
 *
 * Registering is for start-up and for the birth of a timeline; updating is lock-free and allowed
 * from any thread. HTTP is answered on a thread of its own: /metrics (Prometheus text), /healthz,
 * /.
 */
#ifndef LOCH_HOST_METRICS_H
#define LOCH_HOST_METRICS_H

#include "loch/base/status.h"

#include <stddef.h>
#include <stdint.h>

#define LOCH_METRIC_SERIES_MAX 16384u
#define LOCH_METRIC_LABELS_MAX 6u

struct loch_metrics;
struct loch_metric; /* one series: a name with its labels */

struct loch_label {
    const char *name, *value;
};

LOCH_STATUS loch_metrics_create(const char *program, struct loch_metrics **out);
/* Stops serving. Takes NULL. */
void loch_metrics_destroy(struct loch_metrics *metrics);

/* Never NULL: beyond LOCH_METRIC_SERIES_MAX, or without memory, they return a series that counts
 * into loch_metrics_overflow. The same name and labels give the same series again. Texts are
 * copied. name: [a-z_][a-z0-9_]*, all series of a name have one kind (asserted). */
struct loch_metric *loch_metrics_counter(struct loch_metrics *metrics, const char *name,
                                         const char *help, const struct loch_label *labels,
                                         size_t label_count);
struct loch_metric *loch_metrics_gauge(struct loch_metrics *metrics, const char *name,
                                       const char *help, const struct loch_label *labels,
                                       size_t label_count);
/* Latencies: 22 buckets of seconds, 10 us to 20 s, in steps of 2. Observe nanoseconds. */
struct loch_metric *loch_metrics_histogram(struct loch_metrics *metrics, const char *name,
                                           const char *help, const struct loch_label *labels,
                                           size_t label_count);
/* The series disappears (its timeline is gone); the pointer is dead. Takes NULL. */
void loch_metrics_drop(struct loch_metrics *metrics, struct loch_metric *metric);

void loch_metric_add(struct loch_metric *metric, uint64_t n);     /* counter */
void loch_metric_set(struct loch_metric *metric, int64_t value);  /* gauge */
void loch_metric_move(struct loch_metric *metric, int64_t delta); /* gauge */
void loch_metric_observe_ns(struct loch_metric *metric, uint64_t ns);
/* Counter or gauge: its value; histogram: how many observations. */
int64_t loch_metric_value(const struct loch_metric *metric);

/* What /healthz says: 200 when ok, else 503 and the text. Not ok ("starting") until first set. */
void loch_metrics_health(struct loch_metrics *metrics, bool ok, const char *text);
/* A line of the status page; a later value replaces the former, NULL removes it. At most 4096
 * lines. */
void loch_metrics_fact(struct loch_metrics *metrics, const char *name, const char *value);

/* Serves on a loopback address such as "127.0.0.1:7301" (port 0: any). LOCH_E_INVALID for another
 * address than loopback, LOCH_E_IO when it is in use. */
LOCH_STATUS loch_metrics_serve(struct loch_metrics *metrics, const char *address);
/* The port served on; 0 when not serving. */
uint16_t loch_metrics_port(const struct loch_metrics *metrics);
/* /metrics as text, for tests and the console. */
struct loch_buf;
LOCH_STATUS loch_metrics_text(struct loch_metrics *metrics, struct loch_buf *out);

#endif
