/* A branch that a program makes to read at a point, known to the pageserver only, with a credential
 * for it. It holds its point until it is dropped. */
#ifndef LOCH_TOOLS_SIDE_BRANCH_H
#define LOCH_TOOLS_SIDE_BRANCH_H

#include "cluster.h"
#include "credential.h"

struct loch_side_branch {
    char tenant[64], name[64];
    loch_lsn lsn;
    struct loch_credential credential;
};

/* Of `from` (a name or an id) at `at`; LOCH_LSN_NONE: at what is ingested. Its name begins with
 * `what`. Transactions that are prepared there are rolled back in it unless keep_prepared. On
 * failure nothing is left. */
LOCH_STATUS loch_side_branch_make(const struct loch_cluster *c, const char *what,
                                  const char *tenant, const char *from, loch_lsn at,
                                  bool keep_prepared, struct loch_side_branch *out);
/* Says on standard error when it cannot be dropped. */
void loch_side_branch_drop(const struct loch_cluster *c, struct loch_side_branch *b);

#endif
