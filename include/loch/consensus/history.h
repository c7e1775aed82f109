/* Arithmetic on term histories: which log does a history describe, and where do two logs part? */
#ifndef LOCH_CONSENSUS_HISTORY_H
#define LOCH_CONSENSUS_HISTORY_H

#include "loch/wire/wal.h"

bool loch_history_equal(const struct loch_term_history *a, const struct loch_term_history *b);
/* How many entries start at or below `flush`. */
uint32_t loch_history_cut(const struct loch_term_history *h, loch_lsn flush);
/* Last term of the first `count` entries, 0 when there is none. */
uint64_t loch_history_term(const struct loch_term_history *h, uint32_t count);
/* Is b's log further than a's: of a later last term, or longer in the same one? Their histories are
 * cut to flush_lsn. */
bool loch_history_further(const struct loch_wal_vote_reply *b, const struct loch_wal_vote_reply *a);
/* The highest LSN up to which a log that follows `leader` and a log that follows `own` and ends at
 * `own_end` are the same bytes. False: they have nothing in common (different timelines). */
bool loch_history_common(const struct loch_term_history *leader,
                         const struct loch_term_history *own, loch_lsn own_end, loch_lsn *out);

#endif
