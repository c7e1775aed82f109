/* Holds: a compute's host: carries out the proposer's effects, starts a server when the pageserver
 * has come to L, and writes WAL. Several live at once, each sure that it is the only one. */
#include "sim.h"

#include <stdlib.h>

static void must(loch_status st)
{
    LOCH_ASSERT(loch_is_ok(st));
}

static struct loch_proposer_now now_of(struct world *w)
{
    return (struct loch_proposer_now){.ms = w->now_ms, .random = world_random(w)};
}

static void take_elected(struct world *w, uint32_t b)
{
    struct boot *boot = w->boots[b];
    struct loch_proposer_view view;

    loch_proposer_look(boot->proposer, &view);
    boot->elected = true;
    boot->term = view.term;
    boot->start_lsn = view.start_lsn;
    LOCH_ASSERT(boot->votes[view.donor] != NULL);
    memcpy(&boot->log, boot->votes[view.donor], sizeof boot->log);
    boot->log.end = view.start_lsn;
    boot->window_start = boot->window_end = view.start_lsn;
    w->counters.elections++;
    world_note(w,
               "compute %u (epoch %" PRIu64 ") leads term %" PRIu64 " from L %" PRIu64 ", donor %u",
               b, boot->epoch, view.term, view.start_lsn, view.donor);
    check_elected(w, b);
}

static void send_down(struct world *w, struct boot *boot, const struct loch_proposer_effect *e)
{
    const struct loch_proposer_message *m = &e->message;

    if (boot->conns[e->member] == 0)
        return;
    if (m->type == LOCH_WAL_APPEND && m->append_len > 0)
        net_send_down(w, boot->conns[e->member] - 1, m, log_at(&boot->log, m->u.append.begin),
                      (uint32_t)m->append_len);
    else
        net_send_down(w, boot->conns[e->member] - 1, m, NULL, 0);
}

/* Who sits where has changed: connections of those that left are of no more use. */
static void take_members(struct world *w, uint32_t b)
{
    struct boot *boot = w->boots[b];
    struct loch_proposer_view view;

    loch_proposer_look(boot->proposer, &view);
    check_config(w, view.membership, "compute", b);
    world_note(w, "compute %u goes by generation %" PRIu64, b, view.membership->generation);
    for (uint32_t s = 0; s < SIM_SLOTS; s++) {
        if (loch_id_equal(&boot->slots[s], &view.members[s].id))
            continue;
        boot_reset(w, b, s);
        boot->slots[s] = view.members[s].id;
    }
}

static void carry_out(struct world *w, uint32_t b, struct loch_proposer_effects *effects)
{
    struct boot *boot = w->boots[b];

    for (size_t k = 0; k < effects->count && w->violation[0] == '\0'; k++) {
        const struct loch_proposer_effect *e = &effects->items[k];
        switch (e->kind) {
        case LOCH_PROPOSER_SEND:
            send_down(w, boot, e);
            break;
        case LOCH_PROPOSER_CLOSE:
            world_note(w, "compute %u closes safekeeper %u: %s", b, e->member, e->text);
            boot_reset(w, b, e->member);
            break;
        case LOCH_PROPOSER_ELECTED:
            take_elected(w, b);
            break;
        case LOCH_PROPOSER_COMMIT:
            world_note(w, "compute %u commits %" PRIu64 " in term %" PRIu64, b, e->lsn, boot->term);
            check_commit(w, b, e->lsn);
            boot->commit_lsn = e->lsn;
            w->counters.commits++;
            break;
        case LOCH_PROPOSER_MEMBERS:
            take_members(w, b);
            break;
        case LOCH_PROPOSER_FENCED:
            world_note(w, "compute %u is fenced: %s", b, e->text);
            w->counters.fenced++;
            boot_kill(w, b);
            break;
        }
    }
    loch_proposer_effects_fini(effects);
}

void boot_create(struct world *w, uint64_t epoch, uint64_t highest_term)
{
    if (w->boot_count == SIM_BOOTS)
        return;
    struct boot *boot = calloc(1, sizeof *boot);
    /* Mostly its credential is fresh; sometimes the membership has changed since. */
    const uint32_t known =
        !w->calm && world_chance(w, 200) ? world_pick(w, w->config_count) : w->config_count - 1;
    struct loch_proposer_config config = {.membership = w->configs[known],
                                          .compute_epoch = epoch,
                                          .highest_term = highest_term,
                                          .window_bytes = 1 + world_random(w) % 40,
                                          .reply_timeout_ms = 400,
                                          .election_timeout_ms = 200,
                                          .heartbeat_ms = 60};
    LOCH_ASSERT(boot != NULL);
    must(loch_proposer_create(&config, &boot->proposer));
    for (uint32_t s = 0; s < config.membership.count; s++)
        boot->slots[s] = config.membership.members[s].id;
    boot->alive = true;
    boot->epoch = epoch;
    world_note(w, "compute %u starts with epoch %" PRIu64, w->boot_count, epoch);
    w->boots[w->boot_count++] = boot;
}

void boot_kill(struct world *w, uint32_t b)
{
    w->boots[b]->alive = false;
    for (uint32_t s = 0; s < SIM_SLOTS; s++)
        boot_reset(w, b, s);
}

/* The compute's side of the connection is gone; the safekeeper hears of it some time. */
void boot_reset(struct world *w, uint32_t b, uint32_t slot)
{
    struct boot *boot = w->boots[b];

    if (boot->conns[slot] == 0)
        return;
    w->conns[boot->conns[slot] - 1].boot_open = false;
    boot->conns[slot] = 0;
    loch_proposer_disconnected(boot->proposer, slot);
}

/* Connects to one of the members, where it is said to be. */
void boot_connect(struct world *w, uint32_t b)
{
    struct boot *boot = w->boots[b];
    struct loch_proposer_effects effects = {0};
    struct loch_proposer_view view;

    if (!boot->alive || w->conn_count == SIM_CONNS)
        return;
    loch_proposer_look(boot->proposer, &view);
    const struct loch_member *m = &view.membership->members[world_pick(w, view.membership->count)];
    const uint32_t node = (uint32_t)m->node.bytes[0] - 1;
    uint32_t slot = 0;
    while (!view.members[slot].used || !loch_id_equal(&view.members[slot].id, &m->id))
        slot++;
    if (boot->conns[slot] != 0 || !w->nodes[node].up)
        return;
    w->conns[w->conn_count] = (struct conn){.boot = b,
                                            .slot = slot,
                                            .node = node,
                                            .incarnation = w->nodes[node].incarnation,
                                            .boot_open = true,
                                            .node_open = true};
    boot->conns[slot] = ++w->conn_count;
    must(loch_proposer_connected(boot->proposer, now_of(w), slot, &effects));
    carry_out(w, b, &effects);
}

void boot_deliver(struct world *w, struct message *m)
{
    const struct conn *c = &w->conns[m->conn];
    struct boot *boot = w->boots[c->boot];
    struct loch_proposer_effects effects = {0};
    struct loch_proposer *p = boot->proposer;

    if (!boot->alive || boot->conns[c->slot] != m->conn + 1)
        return;
    if (m->up.type == LOCH_WAL_HELLO_REPLY) {
        must(loch_proposer_hello_reply(p, now_of(w), c->slot, &m->up.u.hello_reply, &effects));
    } else if (m->up.type == LOCH_WAL_VOTE_REPLY) {
        struct loch_proposer_view view;
        loch_proposer_look(p, &view);
        if (m->log != NULL && view.term == m->up.u.vote_reply.term) {
            free(boot->votes[c->slot]);
            boot->votes[c->slot] = m->log;
            m->log = NULL;
        }
        must(loch_proposer_vote_reply(p, now_of(w), c->slot, &m->up.u.vote_reply, &effects));
    } else if (m->up.type == LOCH_WAL_ELECTED_REPLY) {
        must(loch_proposer_elected_reply(p, now_of(w), c->slot, &m->up.u.elected_reply, &effects));
    } else if (m->up.type == LOCH_WAL_APPEND_REPLY) {
        must(loch_proposer_append_reply(p, now_of(w), c->slot, &m->up.u.append_reply, &effects));
    } else if (m->up.type == LOCH_WAL_MEMBERS) {
        if (!loch_is_ok(loch_proposer_members(p, now_of(w), c->slot, &m->up.u.members, &effects)))
            violation(w, "compute %u: %s", c->boot, loch_error_text());
    } else {
        must(loch_proposer_fenced(p, c->slot, &m->up.u.fenced, &effects));
    }
    check_heard(w, c->boot);
    if (world_random(w) % 2 == 0)
        must(loch_proposer_tell(p, now_of(w), &effects));
    carry_out(w, c->boot, &effects);
}

/* The server writes a record; the walsender hands it over in parts, which may end inside it. */
void boot_write(struct world *w, uint32_t b)
{
    struct boot *boot = w->boots[b];
    struct loch_proposer_effects effects = {0};

    if (!boot->alive || !boot->elected)
        return;
    /* It starts only from a basebackup at L, which the pageserver can make only once it is there.
     */
    if (!boot->running && boot->commit_lsn >= boot->start_lsn && boot->commit_lsn != 0 &&
        w->pageserver.end >= boot->start_lsn) {
        boot->running = true;
        world_note(w, "compute %u runs from %" PRIu64, b, boot->start_lsn);
    }
    if (!boot->running)
        return;
    /* The last cells are for the calm end. */
    const loch_lsn limit = SIM_START + SIM_CELLS - (w->calm ? 8 : 200);
    if (boot->window_end == boot->log.end && boot->log.end < limit) {
        const uint16_t length = (uint16_t)(1 + world_pick(w, 6));
        w->next_record++;
        for (uint16_t k = 0; k < length; k++)
            *log_at(&boot->log, boot->log.end + k) =
                (struct cell){.record = w->next_record, .offset = k, .length = length};
        boot->log.end += length;
    }
    if (boot->window_end == boot->log.end)
        return;
    boot->window_end += 1 + world_random(w) % (boot->log.end - boot->window_end);
    must(loch_proposer_wal(boot->proposer, now_of(w), boot->window_start, boot->window_end,
                           &effects));
    carry_out(w, b, &effects);
}

void boot_drop_window(struct world *w, uint32_t b)
{
    struct boot *boot = w->boots[b];
    struct loch_proposer_effects effects = {0};

    if (!boot->alive || !boot->running || boot->window_start == boot->window_end)
        return;
    boot->window_start += world_random(w) % (boot->window_end - boot->window_start + 1);
    must(loch_proposer_wal(boot->proposer, now_of(w), boot->window_start, boot->window_end,
                           &effects));
    carry_out(w, b, &effects);
}

void boot_tick(struct world *w, uint32_t b)
{
    struct boot *boot = w->boots[b];
    struct loch_proposer_effects effects = {0};

    if (!boot->alive)
        return;
    must(loch_proposer_tick(boot->proposer, now_of(w), &effects));
    carry_out(w, b, &effects);
}

void boot_fini(struct world *w, uint32_t b)
{
    struct boot *boot = w->boots[b];

    loch_proposer_destroy(boot->proposer);
    for (uint32_t i = 0; i < SIM_SLOTS; i++)
        free(boot->votes[i]);
    free(boot);
    w->boots[b] = NULL;
}
