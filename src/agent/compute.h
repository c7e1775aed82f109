/* One compute: from the election over the basebackup to a running server, over and over, until it
 * is stopped or fenced. */
#ifndef LOCH_AGENT_COMPUTE_H
#define LOCH_AGENT_COMPUTE_H

#include "config.h"
#include "credential.h"

#include "loch/io/env.h"

/* What loch-compute exits with. */
enum loch_agent_exit {
    LOCH_AGENT_EXIT_OK = 0,
    LOCH_AGENT_EXIT_FAILED = 1,
    LOCH_AGENT_EXIT_FENCED = 3 /* another compute has taken over: do not start again */
};

struct loch_compute;

/* Config and credential outlive the compute. */
LOCH_STATUS loch_compute_create(struct loch_env *env, const struct loch_agent_config *config,
                                struct loch_credential *credential, struct loch_compute **out);
/* Fast shutdown of the server, its shutdown checkpoint brought to the quorum; then loch_env_stop.
 */
void loch_compute_stop(struct loch_compute *c);
/* Kills the server; then loch_env_stop. */
void loch_compute_stop_now(struct loch_compute *c);
enum loch_agent_exit loch_compute_exit_code(const struct loch_compute *c);
/* Takes NULL. */
void loch_compute_destroy(struct loch_compute *c);

#endif
