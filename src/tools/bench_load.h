/* A load of requests over framed TLS streams: closed loop (so many outstanding on each connection)
 * or open loop (so many a second, whether answers come or not), with the latency of every answer.
 *
 * In the open loop a request's latency counts from when it was due, so a server that stalls cannot
 * hide by not being asked.
 */
#ifndef LOCH_TOOLS_BENCH_LOAD_H
#define LOCH_TOOLS_BENCH_LOAD_H

#include "loch/io/env.h"
#include "loch/wire/page.h"

#include <jansson.h>

/* Log-linear: within 1/32 of the true value. */
#define LOCH_HISTOGRAM_BUCKETS 2048u
struct loch_histogram {
    uint64_t count, sum_ns, max_ns;
    uint64_t buckets[LOCH_HISTOGRAM_BUCKETS];
};
void loch_histogram_add(struct loch_histogram *h, uint64_t ns);
/* The value below or at which that share (0 to 1) of all lies; 0 when there is none. */
uint64_t loch_histogram_at(const struct loch_histogram *h, double share);
/* Adds what is in `from`. */
void loch_histogram_merge(struct loch_histogram *h, const struct loch_histogram *from);
/* mean, p50, p90, p99, p999 and max in microseconds; the caller decrefs. */
json_t *loch_histogram_report(const struct loch_histogram *h);

struct loch_load {
    const char *address;
    struct loch_tls_client *tls; /* borrowed */
    unsigned connections, depth; /* depth: outstanding on one connection; open loop: at most */
    double rate;                 /* requests a second over all; 0: closed loop */
    double seconds;
    /* Appends what opens a connection (may be NULL) and a request. */
    void (*greet)(void *arg, struct loch_writer *w);
    void (*request)(void *arg, struct loch_writer *w, uint64_t request_id);
    void *arg;
};

struct loch_load_result {
    uint64_t answers, errors;
    uint64_t late; /* open loop: due but never sent, as too many were outstanding */
    double seconds;
    struct loch_histogram latency;
    char error[200]; /* the first one's text */
};

/* Connects, loads for so long, waits for what is outstanding. The load's own loop. */
LOCH_STATUS loch_load_run(const struct loch_load *load, struct loch_load_result *out);

/* Forks a server at `address` that answers each GET with 8 KiB over TLS-PSK and does nothing else;
 * *pid is to be killed. *tls reaches it; the caller destroys it. */
LOCH_STATUS loch_echo_start(const char *address, pid_t *pid, struct loch_tls_client **tls);

#endif
