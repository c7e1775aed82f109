/* Named defects of the machines, so that the simulator can prove that its checkers see them.
 *
 * Only the simulator's own build of the room defines LOCH_SIM_MUTATIONS; in the product every
 * LOCH_MUTATED(...) is the constant false and leaves no code.
 */
#ifndef LOCH_CONSENSUS_MUTATION_H
#define LOCH_CONSENSUS_MUTATION_H

#define LOCH_MUTATION_LIST(X)                                                                      \
    X(TERM_NOT_PERSISTED, "term-not-persisted", "a vote is answered before the term is durable")   \
    X(ACK_BEFORE_SYNC, "ack-before-sync", "written WAL is acknowledged before it is durable")      \
    X(NO_FENCING, "no-fencing", "lower terms are accepted, FENCED is ignored")                     \
    X(START_AT_COMMIT, "start-at-voters-commit", "L is the voters' commit_lsn")                    \
    X(NO_TRUNCATION, "no-truncation", "a tail of an older term is kept")                           \
    X(HISTORY_FIRST, "history-before-truncation", "the history is durable before the cut")         \
    X(UNCUT_HISTORY, "vote-with-uncut-history", "terms that start beyond flush_lsn are told")      \
    X(DONOR_BY_LSN, "donor-by-lsn-only", "the longest log is the donor, whatever its term")        \
    X(COMMIT_BELOW_L, "commit-below-l", "a quorum's WAL of older terms counts as committed")       \
    X(NO_COMMIT_AT_L, "no-commit-at-l", "L itself is not committed by its installation")           \
    X(RECOVER_ANY_TERM, "recover-from-any-term", "peers hand out WAL whatever term they are in")   \
    X(STALE_SYNC, "stale-sync", "a sync from before a truncation still counts")                    \
    X(ACK_UNINSTALLED, "ack-uninstalled", "flush_lsn of a vote counts without installation")       \
    X(EPOCH_FORGOTTEN, "epoch-forgotten", "older compute epochs may campaign again")               \
    X(GAP_ACCEPTED, "gap-accepted", "an APPEND beyond the write position is written")              \
    X(MEMBERS_FORGOTTEN, "configuration-not-persisted", "a configuration is followed, not kept")   \
    X(JOINT_OLD_ONLY, "joint-old-only", "a joint quorum needs the old set's majority only")        \
    X(JOINT_NEW_ONLY, "joint-new-only", "a joint quorum needs the new set's majority only")        \
    X(FINISH_EARLY, "finish-early", "a change ends though the new set has not caught up")          \
    X(FINISH_BY_LSN, "finish-by-lsn-only", "a change ends by flush_lsn, whatever the log's term")  \
    X(FINISH_UNKNOWN, "finish-unknown", "a change ends though the sets do not know of it")         \
    X(STALE_GENERATION, "stale-generation", "messages of an older configuration are taken")        \
    X(STALE_ACK, "stale-ack", "acknowledgements of another configuration count")                   \
    X(PEER_NOT_CUT, "peer-history-without-cut", "a peer's history is taken, the own tail is kept") \
    X(PEER_OLDER, "peer-of-older-term", "the history of a peer that is behind is taken")           \
    X(ORDER_KEPT, "order-kept", "chunks ordered under the history before the peer's are taken")    \
    X(AMNESIAC, "amnesiac-returns", "what lost its disk comes back as the member it was")          \
    X(HEARD_AT_ARRIVAL, "heard-at-arrival", "an answer that was held back counts as given now")

enum loch_mutation {
    LOCH_MUTATION_NONE = 0,
#define LOCH_MUTATION_ENUM(id_, name_, text_) LOCH_MUTATION_##id_,
    LOCH_MUTATION_LIST(LOCH_MUTATION_ENUM)
#undef LOCH_MUTATION_ENUM
};

#ifdef LOCH_SIM_MUTATIONS
#include "loch/base/types.h"
extern enum loch_mutation loch_mutation;
/* The last record boundary at or below an LSN, for acknowledging what only was written. */
extern loch_lsn (*loch_mutation_boundary)(loch_lsn lsn);
#define LOCH_MUTATED(id_) (loch_mutation == LOCH_MUTATION_##id_)
#else
#define LOCH_MUTATED(id_) false
#endif

#endif
