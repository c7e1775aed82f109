/* Holds: arithmetic on term histories. Invariant: pure functions of their arguments. */
#include "loch/consensus/history.h"

#include "mutation.h"

bool loch_history_equal(const struct loch_term_history *a, const struct loch_term_history *b)
{
    if (a->count != b->count)
        return false;
    for (uint32_t i = 0; i < a->count; i++) {
        if (a->entries[i].term != b->entries[i].term || a->entries[i].start != b->entries[i].start)
            return false;
    }
    return true;
}

uint32_t loch_history_cut(const struct loch_term_history *h, loch_lsn flush)
{
    uint32_t n = 0;

    while (n < h->count && h->entries[n].start <= flush)
        n++;
    return n;
}

uint64_t loch_history_term(const struct loch_term_history *h, uint32_t count)
{
    return count == 0 ? 0 : h->entries[count - 1].term;
}

bool loch_history_further(const struct loch_wal_vote_reply *b, const struct loch_wal_vote_reply *a)
{
    const uint64_t term_a = loch_history_term(&a->history, a->history.count);
    const uint64_t term_b = loch_history_term(&b->history, b->history.count);

    if (LOCH_MUTATED(DONOR_BY_LSN) || term_a == term_b)
        return b->flush_lsn > a->flush_lsn;
    return term_b > term_a;
}

bool loch_history_common(const struct loch_term_history *leader,
                         const struct loch_term_history *own, loch_lsn own_end, loch_lsn *out)
{
    uint32_t same = 0;

    while (same < leader->count && same < own->count &&
           leader->entries[same].term == own->entries[same].term &&
           leader->entries[same].start == own->entries[same].start)
        same++;
    if (same == 0)
        return false;
    /* Both write term `same - 1` from its start on; whoever leaves it first ends what they share.
     */
    loch_lsn end = own_end;
    if (same < leader->count && leader->entries[same].start < end)
        end = leader->entries[same].start;
    if (same < own->count && own->entries[same].start < end)
        end = own->entries[same].start;
    *out = end;
    return true;
}
