/* When WAL that has just come goes to the safekeepers: at once, or, where the machine is short of
 * CPU and several commits are under way, in company.
 *
 * Every APPEND costs each safekeeper, the walsender and us several switches of threads, whatever it
 * holds. With CPU to spare that is nobody's loss, and a commit must not wait. Without, commits
 * would each have an APPEND of their own and take that CPU from the queries; then one goes a
 * millisecond after the one before, with all that has come meanwhile. Pure, but for loch_pace_ask.
 */
#ifndef LOCH_AGENT_PACE_H
#define LOCH_AGENT_PACE_H

#include "loch/base/types.h"
#include "loch/io/env.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOCH_PACE_MS      1u /* between two that wait */
#define LOCH_PACE_COMPANY 4u /* arrivals of WAL that are not committed at one time */

struct loch_pace {
    uint64_t sent_ns;
    loch_lsn sent;
    loch_lsn ends[LOCH_PACE_COMPANY]; /* of arrivals that are not committed, ascending */
    uint32_t count;
    uint32_t company; /* arrivals for which the last sight of company is good */
    uint64_t waited_ns, wakes;
    bool looked, short_of_cpu;
};

/* WAL up to `end` has come. False: it may wait for LOCH_PACE_MS. More than an APPEND holds never
 * waits. */
bool loch_pace_arrived(struct loch_pace *p, loch_lsn end, uint64_t now_ns);
/* All that has come, up to `end`, is being sent. */
void loch_pace_sent(struct loch_pace *p, loch_lsn end, uint64_t now_ns);
void loch_pace_committed(struct loch_pace *p, loch_lsn lsn);

/* text: /proc/self/schedstat, "ns on a CPU, ns waiting for one, times on one". Compares it with the
 * one before; anything else: not short of CPU. Source: the kernel's Documentation/scheduler,
 * sched-stats. */
void loch_pace_look(struct loch_pace *p, const char *text);
/* The same with what the kernel says now. Where it does not say, WAL never waits. */
void loch_pace_ask(struct loch_pace *p, struct loch_env *env);

#endif
