/* What the safekeepers say of themselves, who of them are a timeline's members, and what these have
 * of it. The members are those of the timeline itself: which ones the cluster wants
 * (D/cluster.json) says only where a change shall lead. */
#ifndef LOCH_TOOLS_SURVEY_H
#define LOCH_TOOLS_SURVEY_H

#include "cluster.h"

#include "loch/consensus/membership.h"

/* The rows of SHOW MEMBER STATES, NULL of one that is down. */
struct loch_survey {
    json_t *rows[LOCH_SAFEKEEPERS_MAX];
};

/* Where a timeline is. */
struct loch_target {
    char tenant[33], timeline[33];
};

/* About one timeline, whose tenant the question wakes. NULL: it is only asked which there are, or
 * who answers, and nobody is woken; of a tenant that is asleep one learns which timelines it has,
 * and no more. The caller finishes *out. */
void loch_survey_take(const struct loch_cluster *c, const struct loch_target *t,
                      struct loch_survey *out);
void loch_survey_fini(struct loch_survey *s);
/* Safekeeper i's row of the timeline, or NULL. */
const json_t *loch_survey_row(const struct loch_survey *s, int i, const char *timeline);
/* Has it the timeline open? Of NULL: no. */
bool loch_survey_active(const json_t *row);
/* 0 when there is none. */
uint64_t loch_row_number(const json_t *row, const char *name);
loch_lsn loch_row_lsn(const json_t *row, const char *name);
/* The safekeeper with that node id, or -1. */
int loch_index_of_node(const struct loch_cluster *c, const struct loch_id *node);
/* rows[k] becomes the row of member k of `m`, or NULL when it does not answer, has the timeline not
 * open, or is another member by now: one that lost its disk comes back under another id, and has
 * forgotten what it acknowledged under the old one. */
void loch_survey_members(const struct loch_cluster *c, const struct loch_survey *s,
                         const struct loch_membership *m, const char *timeline,
                         const json_t *rows[LOCH_MEMBERS_MAX]);

/* Runs a command about the timeline on one safekeeper that has it; *out is what holds then. The
 * caller finishes *out. LOCH_E_UNAVAILABLE when nobody can. */
LOCH_STATUS loch_survey_order(const struct loch_cluster *c, const struct loch_survey *s,
                              const struct loch_target *t, const char *verb, const char *rest,
                              struct loch_membership *out);

/* How far a timeline is. */
struct loch_positions {
    int answers;            /* how many of its members answer as such */
    bool quorum;            /* they make one: majorities of both sets while a change is under way */
    loch_lsn flush, commit; /* the highest of these members */
};

/* Where a quorum answers, everything that was acknowledged before the call is at or below `flush`.
 * Fails when nobody can say who the members are. */
LOCH_STATUS loch_positions_read(const struct loch_cluster *c, const struct loch_target *t,
                                struct loch_positions *out);

#endif
