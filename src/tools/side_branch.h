/* A branch that a program makes for itself, to read at a point, known to the pageserver only, with
 * a credential for it. It holds its point until it is dropped.
 *
 * While the program makes and uses it, it holds the lock of a note, D/run/BRANCH.side
 * {"tenant", "branch"}, that is there before the branch is. The kernel gives the lock up however
 * the program ends: a note that nobody has locked is of a branch that nobody uses, and `loch up`
 * removes both (side_sweep.c). */
#ifndef LOCH_TOOLS_SIDE_BRANCH_H
#define LOCH_TOOLS_SIDE_BRANCH_H

#include "cluster.h"
#include "credential.h"

#define LOCH_SIDE_NOTE_SUFFIX ".side"

struct loch_side_note {
    int fd; /* holds the lock */
    char path[700];
};

/* For a branch that is not there yet, of the tenant (its name or id). */
LOCH_STATUS loch_side_note_take(const struct loch_cluster *c, const char *tenant,
                                const char *branch, struct loch_side_note *out);
/* The branch is gone, or something else knows of it. */
void loch_side_note_end(struct loch_side_note *note);
/* The branch may still be there: it is for the next `loch up`. */
void loch_side_note_leave(struct loch_side_note *note);

struct loch_side_branch {
    char tenant[64], name[64];
    loch_lsn lsn;
    struct loch_credential credential;
    struct loch_side_note note;
};

/* Of `from` (a name or an id) at `at`; LOCH_LSN_NONE: at what is ingested. Its name begins with
 * `what`. Transactions that are prepared there are rolled back in it unless keep_prepared. On
 * failure nothing is left but what the next `loch up` removes. */
LOCH_STATUS loch_side_branch_make(const struct loch_cluster *c, const char *what,
                                  const char *tenant, const char *from, loch_lsn at,
                                  bool keep_prepared, struct loch_side_branch *out);
/* Says on standard error when it cannot be dropped. */
void loch_side_branch_drop(const struct loch_cluster *c, struct loch_side_branch *b);

#endif
