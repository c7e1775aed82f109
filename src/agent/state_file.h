/* The agent's account of itself for whoever started it: SCRATCH/agent.json, replaced atomically. */
#ifndef LOCH_AGENT_STATE_FILE_H
#define LOCH_AGENT_STATE_FILE_H

#include "config.h"

struct loch_agent_state {
    const char *state;  /* "electing", "starting", "running", "stopping", "fenced" or "failed" */
    const char *pgdata; /* may be "" */
    uint64_t term;
    loch_lsn start_lsn;
    uint32_t wire_epoch; /* of the page key */
};

/* The file lies on a tmpfs: no sync. */
LOCH_STATUS loch_state_file_write(const struct loch_agent_config *config,
                                  const struct loch_agent_state *state);

#endif
