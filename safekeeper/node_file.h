/* The file <dir>/daemon.node: whose data directory this is, and how often its daemon has started.
 */
#ifndef LOCH_SAFEKEEPER_NODE_FILE_H
#define LOCH_SAFEKEEPER_NODE_FILE_H

#include "loch/io/env.h"

/* Creates the file in an empty directory, else checks cluster and node, and counts this start:
 * *incarnation is 1 at the first. *journal: the journal that was in use, zero when there was none;
 * the file goes on naming it. LOCH_E_INVALID: another node's or cluster's directory;
 * LOCH_E_CORRUPT. */
LOCH_STATUS sk_node_file_enter(struct loch_env *env, const char *dir, const struct loch_id *cluster,
                               const struct loch_id *node, uint64_t *incarnation,
                               struct loch_id *journal);
/* Replaces the file: the journal is in use from now on; NULL: none is. */
LOCH_STATUS sk_node_file_write(struct loch_env *env, const char *dir, const struct loch_id *cluster,
                               const struct loch_id *node, uint64_t incarnation,
                               const struct loch_id *journal);

#endif
