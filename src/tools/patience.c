/* Holds: the arithmetic of waiting. Invariant: the time that is left never shrinks by progress. */
#include "patience.h"

#define SAY_MS 2000u

struct loch_patience loch_patience_begin(uint64_t now_ms)
{
    return (struct loch_patience){.until_ms = now_ms + LOCH_PATIENCE_MS, .say_ms = now_ms + SAY_MS};
}

void loch_patience_see(struct loch_patience *p, uint64_t now_ms, loch_lsn flush_lsn)
{
    if (flush_lsn <= p->reached)
        return;
    p->reached = flush_lsn;
    p->until_ms = now_ms + LOCH_PATIENCE_MS;
}

void loch_patience_see_new(struct loch_patience *p, uint64_t now_ms,
                           const struct loch_membership *m, const struct loch_member_state *states)
{
    loch_lsn least = LOCH_LSN_MAX;

    for (uint32_t i = 0; i < m->count; i++) {
        if ((m->members[i].in & LOCH_MEMBER_NEW) != 0 && states[i].known &&
            states[i].flush_lsn < least)
            least = states[i].flush_lsn;
    }
    if (least != LOCH_LSN_MAX)
        loch_patience_see(p, now_ms, least);
}

bool loch_patience_says(struct loch_patience *p, uint64_t now_ms)
{
    if (now_ms <= p->say_ms)
        return false;
    p->say_ms = now_ms + SAY_MS;
    return true;
}
