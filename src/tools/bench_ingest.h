/* loch-bench ingest: WAL made by a compute of the bench's own, and how soon the pageserver has it.
 */
#ifndef LOCH_TOOLS_BENCH_INGEST_H
#define LOCH_TOOLS_BENCH_INGEST_H

#include "cluster.h"

#define LOCH_INGEST_WRITERS_MAX 64u

struct loch_ingest_order {
    const struct loch_cluster *cluster;
    const char *tenant, *branch; /* a branch of it is made, written to and dropped */
    const char *load;            /* "updates" or "rows" */
    unsigned connections;        /* 1 to LOCH_INGEST_WRITERS_MAX */
    double rate;                 /* transactions a second over all; 0: closed loop */
    double seconds;
};

/* LOCH_E_INVALID when it cannot be one. */
LOCH_STATUS loch_ingest_check(const struct loch_ingest_order *order);
/* Makes the branch and the compute, loads, waits until the pageserver has all of it, and removes
 * both again, on failure too. *out: the result; the caller decrefs. */
LOCH_STATUS loch_ingest_measure(const struct loch_ingest_order *order, json_t **out);

/* User and system time of a process so far, in seconds (bench.c). */
double loch_cpu_seconds(pid_t pid);

#endif
