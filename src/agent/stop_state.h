/* What the last compute's clean stop left, put in place in a data directory that has just come from
 * storage, before its server starts (docs/protocol/stop_state.md). */
#ifndef LOCH_AGENT_STOP_STATE_H
#define LOCH_AGENT_STOP_STATE_H

#include "loch/io/env.h"

#include <sys/types.h>

struct loch_stop_state_order {
    struct loch_env *env;
    const char *pgdata;
    struct loch_id tenant, timeline;
    uid_t uid; /* of what is made, when we are root */
    gid_t gid;
};

/* Statistics and unlogged relations appear together or not at all; without them the server starts
 * as after a crash. LOCH_E_CORRUPT, LOCH_E_NOT_FOUND, LOCH_E_STALE (another branch's), LOCH_E_IO:
 * nothing has appeared, unless *restored: then some may have, and no server may start on the
 * directory. */
LOCH_STATUS loch_stop_state_restore(const struct loch_stop_state_order *order, bool *restored);

#endif
