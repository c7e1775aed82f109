/* Holds: the acceptor's durable state and its effects as values: made, copied, freed. */
#include "loch/consensus/acceptor.h"

#include <stdlib.h>

loch_status loch_acceptor_control_init(struct loch_acceptor_control *out, loch_lsn start_lsn,
                                       loch_lsn start_prev_lsn)
{
    struct loch_acceptor_control c = {
        .start_lsn = start_lsn, .start_prev_lsn = start_prev_lsn, .commit_lsn = start_lsn};
    LOCH_TRY(loch_term_history_add(&c.history, 0, start_lsn));
    *out = c;
    return LOCH_OK;
}

loch_status loch_acceptor_control_copy(struct loch_acceptor_control *out,
                                       const struct loch_acceptor_control *from)
{
    struct loch_acceptor_control c = *from;

    c.history = (struct loch_term_history){0};
    LOCH_TRY(loch_term_history_copy(&c.history, &from->history));
    loch_status st = loch_membership_copy(&c.membership, &from->membership);
    if (!loch_is_ok(st)) {
        loch_term_history_fini(&c.history);
        return st;
    }
    *out = c;
    return LOCH_OK;
}

void loch_acceptor_control_fini(struct loch_acceptor_control *control)
{
    loch_term_history_fini(&control->history);
    loch_membership_fini(&control->membership);
    *control = (struct loch_acceptor_control){0};
}

void loch_acceptor_effects_clear(struct loch_acceptor_effects *effects)
{
    for (size_t i = 0; i < effects->count; i++) {
        struct loch_acceptor_effect *e = &effects->items[i];
        if (e->kind == LOCH_ACCEPTOR_PERSIST)
            loch_acceptor_control_fini(&e->control);
        if (e->kind == LOCH_ACCEPTOR_SEND && e->message.type == LOCH_WAL_VOTE_REPLY)
            loch_term_history_fini(&e->message.u.vote_reply.history);
        if (e->kind == LOCH_ACCEPTOR_SEND && e->message.type == LOCH_WAL_MEMBERS)
            loch_membership_fini(&e->message.u.members);
    }
    effects->count = 0;
}

void loch_acceptor_effects_fini(struct loch_acceptor_effects *effects)
{
    loch_acceptor_effects_clear(effects);
    free(effects->items);
    *effects = (struct loch_acceptor_effects){0};
}
