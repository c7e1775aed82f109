/* The agent's account of itself for whoever started it: SCRATCH/agent.json, replaced atomically. */
#ifndef LOCH_AGENT_STATE_FILE_H
#define LOCH_AGENT_STATE_FILE_H

#include "config.h"

/* `state`: "electing", "starting", "running", "stopping", "fenced" or "failed"; pgdata may be "".
 * The file lies on a tmpfs: no sync. */
LOCH_STATUS loch_state_file_write(const struct loch_agent_config *config, const char *state,
                                  const char *pgdata, uint64_t term, loch_lsn start_lsn);

#endif
