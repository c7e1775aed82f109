/* Holds: a safekeeper's host: carries out the acceptor's effects on a disk that loses unsynced
 * writes. */
#include "sim.h"

#include <stdlib.h>

enum loch_mutation loch_mutation;
static struct node *current; /* whose acceptor runs: for loch_mutation_boundary */

static loch_lsn current_boundary(loch_lsn lsn)
{
    loch_lsn prev;
    return log_boundary(&current->issued, lsn, &prev);
}

loch_lsn (*loch_mutation_boundary)(loch_lsn lsn) = current_boundary;

static void must(loch_status st)
{
    LOCH_ASSERT(loch_is_ok(st));
}

static void free_op(struct disk_op *op)
{
    if (op->effect.kind == LOCH_ACCEPTOR_PERSIST)
        loch_acceptor_control_fini(&op->effect.control);
    free(op->cells);
    *op = (struct disk_op){0};
}

static struct disk_op *queue_op(struct world *w, struct node *n,
                                const struct loch_acceptor_effect *e)
{
    if (n->op_count == SIM_OPS) {
        violation(w, "more than %u disk effects outstanding", SIM_OPS);
        return NULL;
    }
    struct disk_op *op = &n->ops[(n->op_head + n->op_count++) % SIM_OPS];
    *op = (struct disk_op){.effect = *e};
    return op;
}

static void queue_write(struct world *w, struct node *n, const struct loch_acceptor_effect *e,
                        const struct message *m)
{
    struct disk_op *op;
    const uint64_t len = e->end - e->begin;

    if (e->begin != n->issued.end || m == NULL || e->skip + len > m->cell_count) {
        violation(w, "WRITE at %" PRIu64 " does not continue the WAL's end %" PRIu64, e->begin,
                  n->issued.end);
        return;
    }
    op = queue_op(w, n, e);
    if (op == NULL)
        return;
    op->cells = calloc(len + 1, sizeof *op->cells);
    LOCH_ASSERT(op->cells != NULL);
    memcpy(op->cells, m->cells + e->skip, len * sizeof *op->cells);
    memcpy(log_at(&n->issued, e->begin), op->cells, len * sizeof *op->cells);
    n->issued.end = e->end;
    w->counters.writes++;
}

static void queue_truncate(struct world *w, struct node *n, const struct loch_acceptor_effect *e)
{
    loch_lsn prev;

    if (e->begin < n->seen_commit)
        violation(w, "WAL is cut to %" PRIu64 ", below the commit_lsn %" PRIu64, e->begin,
                  n->seen_commit);
    else if (log_boundary(&n->issued, e->begin, &prev) != e->begin)
        violation(w, "WAL is cut at %" PRIu64 ", inside a record", e->begin);
    if (queue_op(w, n, e) != NULL && e->begin < n->issued.end)
        n->issued.end = e->begin;
    w->counters.truncations++;
}

static void take_persist(struct world *w, struct node *n, struct loch_acceptor_effect *e)
{
    if (queue_op(w, n, e) != NULL)
        e->control = (struct loch_acceptor_control){0}; /* the queue owns it now */
}

static void send_up(struct world *w, struct node *n, uint32_t i, struct loch_acceptor_effect *e)
{
    const uint32_t conn = (uint32_t)e->conn - 1;
    const struct conn *c = &w->conns[conn];
    struct log *copy = NULL;

    w->boots[c->boot]->said_ms = w->now_ms;
    if (e->message.type == LOCH_WAL_APPEND_REPLY && c->stamp_ms != 0) {
        e->message.u.append_reply.echo_ms = c->stamp_ms;
        e->message.u.append_reply.since_ms = (uint32_t)(w->now_ms - c->read_ms);
    }
    check_answer(w, i, conn, &e->message);
    if (e->message.type == LOCH_WAL_VOTE_REPLY && e->message.u.vote_reply.granted) {
        copy = malloc(sizeof *copy);
        LOCH_ASSERT(copy != NULL);
        memcpy(copy, &n->issued, sizeof *copy);
    }
    net_send_up(w, conn, &e->message, copy);
}

/* To every compute that is connected. */
static void send_all(struct world *w, uint32_t i, const struct loch_acceptor_effect *e)
{
    for (uint32_t b = 0; b < w->boot_count; b++) {
        for (uint32_t s = 0; s < SIM_SLOTS; s++) {
            const uint32_t c = w->boots[b]->conns[s];
            if (c != 0 && w->conns[c - 1].node == i && w->conns[c - 1].node_open &&
                w->conns[c - 1].incarnation == w->nodes[i].incarnation)
                net_send_up(w, c - 1, &e->message, NULL);
        }
    }
}

static void close_conn(struct world *w, uint32_t i, uint32_t conn)
{
    const uint32_t b = w->conns[conn].boot;

    node_closed(w, conn);
    (void)i;
    if (w->boots[b]->conns[w->conns[conn].slot] == conn + 1)
        boot_reset(w, b, w->conns[conn].slot);
}

static void carry_out(struct world *w, uint32_t i, struct loch_acceptor_effects *effects,
                      const struct message *m)
{
    struct node *n = &w->nodes[i];

    for (size_t k = 0; k < effects->count && w->violation[0] == '\0'; k++) {
        struct loch_acceptor_effect *e = &effects->items[k];
        struct disk_op *op;
        switch (e->kind) {
        case LOCH_ACCEPTOR_PERSIST:
            take_persist(w, n, e);
            break;
        case LOCH_ACCEPTOR_TRUNCATE:
            world_note(w, "safekeeper %u cuts its WAL to %" PRIu64, i, e->begin);
            queue_truncate(w, n, e);
            break;
        case LOCH_ACCEPTOR_WRITE:
            queue_write(w, n, e, m);
            break;
        case LOCH_ACCEPTOR_SYNC:
            op = queue_op(w, n, e);
            if (op != NULL)
                op->boundary = log_boundary(&n->issued, n->issued.end, &op->prev);
            break;
        case LOCH_ACCEPTOR_SEND:
            if (e->conn == 0)
                send_all(w, i, e);
            else
                send_up(w, n, i, e);
            break;
        case LOCH_ACCEPTOR_CLOSE:
            world_note(w, "safekeeper %u closes: %s", i, e->text);
            if (e->code == LOCH_E_CORRUPT)
                violation(w, "safekeeper %u: %s", i, e->text);
            close_conn(w, i, (uint32_t)e->conn - 1);
            break;
        case LOCH_ACCEPTOR_RECOVER:
            n->recover_term = e->term;
            n->recover_end = e->end;
            w->counters.recoveries += e->term != 0;
            break;
        case LOCH_ACCEPTOR_REFRESH:
            n->refresh = true;
            break;
        }
    }
    loch_acceptor_effects_fini(effects);
    if (w->violation[0] == '\0')
        check_node(w, i);
}

void node_start(struct world *w, uint32_t i)
{
    struct node *n = &w->nodes[i];
    loch_lsn prev = 0;

    n->disk.end = log_boundary(&n->disk, n->disk.end, &prev);
    n->synced = n->disk.end;
    memcpy(&n->issued, &n->disk, sizeof n->issued);
    loch_status st = loch_acceptor_create(&n->control, &n->member, n->disk.end, prev, &n->acceptor);
    if (!loch_is_ok(st)) {
        violation(w, "safekeeper %u cannot start: %s", i, loch_error_text());
        return;
    }
    if (n->control.membership.generation < n->told_generation)
        violation(w, "safekeeper %u has forgotten generation %" PRIu64, i, n->told_generation);
    n->up = true;
    n->refresh = true; /* as at every start */
    n->incarnation++;
    n->seen_commit = n->control.commit_lsn;
    n->recover_term = 0;
    world_note(w, "safekeeper %u starts: term %" PRIu64 ", WAL to %" PRIu64, i, n->control.term,
               n->disk.end);
}

/* Does the head of the queue to the disk. A crash may come right after, unreported. */
static void do_head(struct node *n)
{
    struct disk_op *op = &n->ops[n->op_head];

    switch (op->effect.kind) {
    case LOCH_ACCEPTOR_PERSIST:
        loch_acceptor_control_fini(&n->control);
        n->control = op->effect.control;
        op->effect.control = (struct loch_acceptor_control){0};
        break;
    case LOCH_ACCEPTOR_TRUNCATE:
        if (op->effect.begin < n->disk.end)
            n->disk.end = op->effect.begin;
        if (n->synced > n->disk.end)
            n->synced = n->disk.end;
        break;
    case LOCH_ACCEPTOR_WRITE:
        memcpy(log_at(&n->disk, op->effect.begin), op->cells,
               (op->effect.end - op->effect.begin) * sizeof *op->cells);
        n->disk.end = op->effect.end;
        break;
    case LOCH_ACCEPTOR_SYNC:
        n->synced = n->disk.end;
        break;
    case LOCH_ACCEPTOR_SEND:
    case LOCH_ACCEPTOR_CLOSE:
    case LOCH_ACCEPTOR_RECOVER:
    case LOCH_ACCEPTOR_REFRESH:
        break;
    }
}

void node_crash(struct world *w, uint32_t i)
{
    struct node *n = &w->nodes[i];

    if (n->op_count > 0 && world_chance(w, 500))
        do_head(n);
    /* Of what was written and not synced, any part may be lost; the scan ends at the first hole. */
    n->disk.end = n->synced + world_random(w) % (n->disk.end - n->synced + 1);
    while (n->op_count > 0) {
        free_op(&n->ops[n->op_head]);
        n->op_head = (n->op_head + 1) % SIM_OPS;
        n->op_count--;
    }
    loch_acceptor_destroy(n->acceptor);
    n->acceptor = NULL;
    n->up = false;
    w->counters.crashes++;
    world_note(w, "safekeeper %u crashes; its disk holds WAL to %" PRIu64, i, n->disk.end);
    check_durable(w);
}

void node_disk_step(struct world *w, uint32_t i)
{
    struct node *n = &w->nodes[i];
    struct loch_acceptor_effects effects = {0};

    if (!n->up || n->op_count == 0)
        return;
    do_head(n);
    struct disk_op op = n->ops[n->op_head];
    n->op_head = (n->op_head + 1) % SIM_OPS;
    n->op_count--;
    current = n;
    switch (op.effect.kind) {
    case LOCH_ACCEPTOR_PERSIST:
        must(loch_acceptor_persisted(n->acceptor, op.effect.token, &effects));
        break;
    case LOCH_ACCEPTOR_TRUNCATE: {
        loch_lsn prev;
        (void)log_boundary(&n->disk, op.effect.begin, &prev);
        must(loch_acceptor_truncated(n->acceptor, op.effect.token, prev, &effects));
        check_durable(w);
        break;
    }
    case LOCH_ACCEPTOR_SYNC:
        must(loch_acceptor_synced(n->acceptor, op.effect.token, op.boundary, op.prev, &effects));
        break;
    case LOCH_ACCEPTOR_WRITE:
    case LOCH_ACCEPTOR_SEND:
    case LOCH_ACCEPTOR_CLOSE:
    case LOCH_ACCEPTOR_RECOVER:
    case LOCH_ACCEPTOR_REFRESH:
        break;
    }
    free_op(&op);
    carry_out(w, i, &effects, NULL);
}

void node_deliver(struct world *w, const struct message *m)
{
    struct conn *c = &w->conns[m->conn];
    struct node *n = &w->nodes[c->node];
    struct loch_acceptor_effects effects = {0};

    if (!n->up || n->incarnation != c->incarnation || !c->node_open)
        return;
    const struct loch_acceptor_from from = {.conn = m->conn + 1,
                                            .compute_epoch = w->boots[c->boot]->epoch};
    current = n;
    if (m->down.type == LOCH_WAL_HELLO) {
        must(loch_acceptor_hello(n->acceptor, from, &m->down.u.hello, &effects));
    } else if (m->down.type == LOCH_WAL_VOTE) {
        must(loch_acceptor_vote(n->acceptor, from, &m->down.u.vote, &effects));
    } else if (m->down.type == LOCH_WAL_ELECTED) {
        must(loch_acceptor_elected(n->acceptor, from, &m->down.u.elected, &effects));
    } else {
        struct loch_wal_append append = m->down.u.append;
        append.bytes = loch_slice_of(NULL, m->cell_count);
        if (append.stamp_ms > c->stamp_ms) {
            c->stamp_ms = append.stamp_ms;
            c->read_ms = w->now_ms;
        }
        must(loch_acceptor_append(n->acceptor, from, &append, &effects));
    }
    carry_out(w, c->node, &effects, m);
}

void node_chunk(struct world *w, const struct message *m)
{
    struct node *n = &w->nodes[m->node];
    struct loch_acceptor_effects effects = {0};

    if (!n->up || n->incarnation != m->incarnation)
        return;
    current = n;
    must(loch_acceptor_recovered(n->acceptor, m->term, m->begin, m->cell_count, m->commit_lsn,
                                 &effects));
    carry_out(w, m->node, &effects, m);
}

void node_peer_state(struct world *w, const struct message *m)
{
    struct node *n = &w->nodes[m->node];
    struct loch_acceptor_effects effects = {0};

    if (!n->up || n->incarnation != m->incarnation)
        return;
    current = n;
    must(loch_acceptor_peer_state(n->acceptor, &m->state, &effects));
    carry_out(w, m->node, &effects, NULL);
}

void node_create(struct world *w, uint32_t i, const struct loch_id *member)
{
    struct node *n = &w->nodes[i];

    n->member = *member;
    n->exists = true;
    n->disk.end = n->synced = SIM_START;
    n->told_generation = 0;
    n->granted_term = 0;
    must(loch_acceptor_control_init(&n->control, SIM_START, SIM_START));
    node_start(w, i);
}

void node_wipe(struct world *w, uint32_t i)
{
    struct node *n = &w->nodes[i];

    if (n->up)
        node_crash(w, i);
    n->exists = false;
    loch_acceptor_control_fini(&n->control);
}

void node_refresh(struct world *w, uint32_t i)
{
    struct node *n = &w->nodes[i];
    struct loch_acceptor_effects effects = {0};

    if (!n->up)
        return;
    n->refresh = false;
    current = n;
    if (!loch_is_ok(loch_acceptor_configure(n->acceptor, members_now(w), &effects)))
        violation(w, "safekeeper %u knows another configuration: %s", i, loch_error_text());
    carry_out(w, i, &effects, NULL);
}

void node_closed(struct world *w, uint32_t conn)
{
    struct conn *c = &w->conns[conn];
    struct node *n = &w->nodes[c->node];

    if (c->node_open && n->up && n->incarnation == c->incarnation)
        loch_acceptor_closed(n->acceptor, conn + 1);
    c->node_open = false;
}

void node_tick(struct world *w, uint32_t i)
{
    struct node *n = &w->nodes[i];
    struct loch_acceptor_effects effects = {0};

    if (!n->up)
        return;
    current = n;
    must(loch_acceptor_tick(n->acceptor, &effects));
    carry_out(w, i, &effects, NULL);
}

/* A safekeeper with a standing RECOVER order asks some peer for a chunk. */
void node_pull(struct world *w, uint32_t i)
{
    struct node *n = &w->nodes[i];
    const uint32_t k = world_pick(w, w->node_count);
    struct node *peer = &w->nodes[k];
    struct loch_acceptor_view view;
    loch_lsn upto;

    if (!n->up || n->recover_term == 0 || k == i || !peer->up)
        return;
    loch_acceptor_look(n->acceptor, &view);
    const loch_lsn from = n->issued.end;
    if (!loch_is_ok(loch_acceptor_pull_limit(peer->acceptor, LOCH_PULL_FLUSHED, n->recover_term,
                                             view.membership->generation, from, &upto)) ||
        upto <= from)
        return;
    loch_acceptor_look(peer->acceptor, &view);
    const uint32_t count = 1 + world_pick(w, (uint32_t)(upto - from));
    net_send_chunk(w, i, n->recover_term, from, log_at(&peer->disk, from), count, view.commit_lsn);
}

void node_look(struct world *w, uint32_t i)
{
    struct node *n = &w->nodes[i];
    const uint32_t k = world_pick(w, w->node_count);
    struct node *peer = &w->nodes[k];
    struct loch_acceptor_view own, view;
    loch_lsn upto;

    if (!n->up || k == i || !peer->up)
        return;
    loch_acceptor_look(n->acceptor, &own);
    if (loch_acceptor_is_behind(peer->acceptor, own.membership->generation))
        peer->refresh = true;
    if (!loch_is_ok(loch_acceptor_pull_limit(peer->acceptor, LOCH_PULL_LOOK, 0,
                                             own.membership->generation, SIM_START, &upto))) {
        loch_acceptor_look(peer->acceptor, &view);
        n->refresh = n->refresh || view.membership->generation > own.membership->generation;
        return;
    }
    loch_acceptor_look(peer->acceptor, &view);
    if (view.installing) /* what is told must be durable */
        return;
    const struct loch_wal_pull_state state = {.term = view.installed_term,
                                              .promised = view.term,
                                              .term_start = view.term_start,
                                              .compute_epoch = view.min_compute_epoch,
                                              .flush_lsn = view.flush_lsn,
                                              .commit_lsn = view.commit_lsn,
                                              .start_lsn = view.start_lsn,
                                              .history = *view.history,
                                              .membership = *view.membership};
    net_send_state(w, i, &state);
}

void node_fini(struct world *w, uint32_t i)
{
    struct node *n = &w->nodes[i];

    while (n->op_count > 0) {
        free_op(&n->ops[n->op_head]);
        n->op_head = (n->op_head + 1) % SIM_OPS;
        n->op_count--;
    }
    loch_acceptor_destroy(n->acceptor);
    loch_acceptor_control_fini(&n->control);
}
