/* Arithmetic on configurations: who makes a quorum, and how one set of safekeepers follows another.
 *
 * A change goes from a stable configuration over a joint one, in which every quorum is a majority
 * of the old set and of the new one, to the next stable one. Each step has the next generation and
 * is taken by a conditional put, so that there is one configuration for each generation.
 */
#ifndef LOCH_CONSENSUS_MEMBERSHIP_H
#define LOCH_CONSENSUS_MEMBERSHIP_H

#include "loch/wire/wal.h"

/* Is a change under way? */
bool loch_membership_joint(const struct loch_membership *m);
bool loch_membership_equal(const struct loch_membership *a, const struct loch_membership *b);
/* The member's index, or m->count when there is none of that id. */
uint32_t loch_membership_find(const struct loch_membership *m, const struct loch_id *id);
/* Do the members i with has[i] make a majority of each set? False when there are no members. */
bool loch_membership_quorum(const struct loch_membership *m, const bool *has);

/* The first configuration of a timeline, generation 1. `in` of the members is ignored here and
 * below. LOCH_E_INVALID for none, too many or one that comes twice. */
LOCH_STATUS loch_membership_first(const struct loch_member *members, uint32_t count,
                                  struct loch_membership *out);
/* The joint configuration that leads from the stable `m` to exactly `members`. LOCH_E_INVALID as
 * above, when a change is under way already, or when both sets together are too many; LOCH_E_EXISTS
 * when that is the set already. */
LOCH_STATUS loch_membership_begin(const struct loch_membership *m,
                                  const struct loch_member *members, uint32_t count,
                                  struct loch_membership *out);
/* The stable configuration after the joint `m`: its new set, or with `abort` its old one.
 * Aborting is right at any time; finishing only when loch_membership_may_finish says so.
 * LOCH_E_INVALID when no change is under way. */
LOCH_STATUS loch_membership_end(const struct loch_membership *m, bool abort,
                                struct loch_membership *out);

/* What a member said of itself; all of it durable there. */
struct loch_member_state {
    bool known;          /* it answered */
    uint64_t generation; /* of the configuration it knows */
    uint64_t term;       /* promised */
    uint64_t log_term;   /* last term of its history, cut to starts <= flush_lsn */
    loch_lsn flush_lsn;
};
/* May the joint `m` end in its new set? `before` and `after` have m->count entries; the old set is
 * judged by `before`, the new one by `after`, which may be of a later moment. Both sets' majorities
 * must know m->generation, and a majority of the new set must be as far as the furthest of the old
 * set, by (log_term, flush_lsn) and by term. Otherwise *why says what is missing. */
bool loch_membership_may_finish(const struct loch_membership *m,
                                const struct loch_member_state *before,
                                const struct loch_member_state *after, const char **why);

#endif
