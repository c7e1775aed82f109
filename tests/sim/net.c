/* Holds: the network: messages that are lost, doubled and overtake one another; peers' chunks too.
 */
#include "sim.h"

#include <stdlib.h>

static void free_message(struct message *m)
{
    if (m->route == TO_NODE && m->down.type == LOCH_WAL_ELECTED)
        loch_term_history_fini(&m->down.u.elected.history);
    if (m->route == TO_BOOT && m->up.type == LOCH_WAL_VOTE_REPLY)
        loch_term_history_fini(&m->up.u.vote_reply.history);
    if (m->route == TO_BOOT && m->up.type == LOCH_WAL_MEMBERS)
        loch_membership_fini(&m->up.u.members);
    if (m->route == PEER_STATE)
        loch_wal_pull_state_fini(&m->state);
    free(m->cells);
    free(m->log);
}

static void copy_history(struct loch_term_history *h)
{
    struct loch_term_history copy = {0};
    loch_status st = loch_term_history_copy(&copy, h);
    LOCH_ASSERT(loch_is_ok(st));
    *h = copy;
}

static void copy_members(struct loch_membership *m)
{
    struct loch_membership copy = {0};
    loch_status st = loch_membership_copy(&copy, m);
    LOCH_ASSERT(loch_is_ok(st));
    *m = copy;
}

static void *copy_bytes(const void *bytes, size_t len)
{
    void *copy = malloc(len + 1);
    LOCH_ASSERT(copy != NULL);
    if (len > 0)
        memcpy(copy, bytes, len);
    return copy;
}

/* What the message points to becomes its own. */
static void own(struct message *m)
{
    if (m->route == TO_NODE && m->down.type == LOCH_WAL_ELECTED)
        copy_history(&m->down.u.elected.history);
    if (m->route == TO_BOOT && m->up.type == LOCH_WAL_VOTE_REPLY)
        copy_history(&m->up.u.vote_reply.history);
    if (m->route == TO_BOOT && m->up.type == LOCH_WAL_MEMBERS)
        copy_members(&m->up.u.members);
    if (m->route == PEER_STATE) {
        copy_history(&m->state.history);
        copy_members(&m->state.membership);
    }
    if (m->cells != NULL)
        m->cells = copy_bytes(m->cells, m->cell_count * sizeof *m->cells);
    if (m->log != NULL)
        m->log = copy_bytes(m->log, sizeof *m->log);
}

static void enqueue(struct world *w, struct message m)
{
    if (w->message_count == SIM_MESSAGES)
        return; /* a full network loses */
    own(&m);
    m.order = w->next_order++;
    w->messages[w->message_count++] = m;
}

void net_send_down(struct world *w, uint32_t conn, const struct loch_proposer_message *m,
                   const struct cell *cells, uint32_t count)
{
    struct message out = {.route = TO_NODE, .conn = conn, .down = *m, .cell_count = count};
    struct cell scratch[SIM_CELLS];

    if (count > 0) {
        memcpy(scratch, cells, count * sizeof *cells);
        out.cells = scratch;
    }
    enqueue(w, out);
}

void net_send_up(struct world *w, uint32_t conn, const struct loch_acceptor_message *m,
                 struct log *vote_log)
{
    enqueue(w, (struct message){.route = TO_BOOT, .conn = conn, .up = *m, .log = vote_log});
    free(vote_log);
}

void net_send_chunk(struct world *w, uint32_t node, uint64_t term, loch_lsn begin,
                    const struct cell *cells, uint32_t count, loch_lsn commit_lsn)
{
    struct cell scratch[SIM_CELLS];

    memcpy(scratch, cells, count * sizeof *cells);
    enqueue(w, (struct message){.route = PEER_CHUNK,
                                .cells = scratch,
                                .cell_count = count,
                                .node = node,
                                .incarnation = w->nodes[node].incarnation,
                                .term = term,
                                .begin = begin,
                                .commit_lsn = commit_lsn});
}

void net_send_state(struct world *w, uint32_t node, const struct loch_wal_pull_state *state)
{
    enqueue(w, (struct message){.route = PEER_STATE,
                                .node = node,
                                .incarnation = w->nodes[node].incarnation,
                                .state = *state});
}

/* Unless the weather lets messages overtake: the oldest of the same connection and direction. */
static uint32_t choose(struct world *w)
{
    uint32_t k = world_pick(w, w->message_count);

    if (world_chance(w, w->weather.reorder) || w->messages[k].route == PEER_CHUNK ||
        w->messages[k].route == PEER_STATE)
        return k;
    uint32_t oldest = k;
    for (uint32_t i = 0; i < w->message_count; i++) {
        const struct message *m = &w->messages[i];
        if (m->route == w->messages[k].route && m->conn == w->messages[k].conn &&
            m->order < w->messages[oldest].order)
            oldest = i;
    }
    return oldest;
}

void net_step(struct world *w)
{
    if (w->message_count == 0)
        return;
    const uint32_t k = choose(w);
    struct message m = w->messages[k];
    if (world_chance(w, w->weather.duplicate)) {
        own(&m); /* the original stays in flight */
    } else {
        w->messages[k] = w->messages[--w->message_count];
        if (world_chance(w, w->weather.loss)) {
            free_message(&m);
            return;
        }
    }
    switch (m.route) {
    case TO_NODE:
        node_deliver(w, &m);
        break;
    case TO_BOOT:
        boot_deliver(w, &m);
        break;
    case PEER_CHUNK:
        node_chunk(w, &m);
        break;
    case PEER_STATE:
        node_peer_state(w, &m);
        break;
    }
    free_message(&m);
}

void net_fini(struct world *w)
{
    for (uint32_t i = 0; i < w->message_count; i++)
        free_message(&w->messages[i]);
    w->message_count = 0;
}
