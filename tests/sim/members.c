/* Holds: the authority over the membership, who changes it, and disks that are lost for good. The
 * coordinator is one of many: what it heard may be old, and it may stop at any step. */
#include "sim.h"

static void must(loch_status st)
{
    LOCH_ASSERT(loch_is_ok(st));
}

const struct loch_membership *members_now(const struct world *w)
{
    return &w->configs[w->config_count - 1];
}

bool members_node(const struct world *w, const struct loch_id *member, uint32_t *node)
{
    for (uint32_t i = 0; i < w->node_count; i++) {
        if (w->nodes[i].exists && loch_id_equal(&w->nodes[i].member, member)) {
            *node = i;
            return true;
        }
    }
    return false;
}

static struct loch_id fresh_id(struct world *w)
{
    const uint32_t n = ++w->next_member;
    return (struct loch_id){{0xff, (uint8_t)(n >> 8), (uint8_t)n}};
}

static struct loch_member member_of(const struct world *w, uint32_t i)
{
    return (struct loch_member){.id = w->nodes[i].member, .node = w->nodes[i].id};
}

/* The conditional put: the only one of its generation. */
static void put(struct world *w, struct loch_membership *take_next)
{
    LOCH_ASSERT(take_next->generation == w->config_count + 1);
    w->configs[w->config_count++] = *take_next;
    memset(w->before, 0, sizeof w->before);
    memset(w->after, 0, sizeof w->after);
    check_durable(w);
}

void members_setup(struct world *w)
{
    struct loch_member set[SIM_NODES];
    struct loch_membership first;
    const uint32_t size = world_chance(w, 750)                      ? 3
                          : world_chance(w, 500) || w->weather.duel ? 5
                                                                    : 1;

    w->node_count = size;
    if (w->weather.members > 0)
        w->node_count += world_pick(w, SIM_NODES - size + 1);
    for (uint32_t i = 0; i < w->node_count; i++)
        w->nodes[i].id.bytes[0] = (uint8_t)(i + 1);
    for (uint32_t i = 0; i < size; i++) {
        w->nodes[i].member = fresh_id(w);
        set[i] = member_of(w, i);
    }
    must(loch_membership_first(set, size, &first));
    w->configs[w->config_count++] = first;
    for (uint32_t i = 0; i < size; i++) {
        node_create(w, i, &w->nodes[i].member);
        if (w->weather.duel || world_chance(w, 800))
            node_refresh(w, i);
    }
}

/* A set of nodes, all with a directory: who has none makes one, and learns from its peers. */
static void begin(struct world *w)
{
    const uint32_t size = world_chance(w, 700) ? 3 : 1 + world_pick(w, 5);
    struct loch_member set[SIM_NODES];
    struct loch_membership next;
    uint32_t count = 0, at = world_pick(w, w->node_count);

    for (uint32_t k = 0; k < w->node_count && count < size; k++) {
        const uint32_t i = at;
        at = (at + 1) % w->node_count;
        if (world_chance(w, 300))
            continue;
        if (!w->nodes[i].exists) {
            const struct loch_id id = fresh_id(w);
            node_create(w, i, &id);
        }
        set[count++] = member_of(w, i);
    }
    if (w->config_count + 2 >= SIM_CONFIGS - 8 || w->violation[0] != '\0' ||
        !loch_is_ok(loch_membership_begin(members_now(w), set, count, &next)))
        return;
    world_note(w, "generation %" PRIu64 ": a change from %u members to %u begins", next.generation,
               members_now(w)->count, count);
    put(w, &next);
}

static void end(struct world *w, bool abort)
{
    struct loch_membership next;

    must(loch_membership_end(members_now(w), abort, &next));
    world_note(w, "generation %" PRIu64 ": the change is %s, %u members", next.generation,
               abort ? "aborted" : "finished", next.count);
    w->counters.changes += !abort;
    w->counters.aborts += abort;
    put(w, &next);
}

/* A member says how it stands. */
static void hear(struct world *w, uint32_t m, struct loch_member_state *out)
{
    struct loch_acceptor_view view;
    uint32_t i;

    if (!members_node(w, &members_now(w)->members[m].id, &i) || !w->nodes[i].up)
        return;
    loch_acceptor_look(w->nodes[i].acceptor, &view);
    if (!view.settled) /* what is said must be durable */
        return;
    out[m] = (struct loch_member_state){.known = true,
                                        .generation = view.generation,
                                        .term = view.term,
                                        .log_term = view.log_term,
                                        .flush_lsn = view.flush_lsn};
    w->nodes[i].told_generation = loch_max_u64(w->nodes[i].told_generation, view.generation);
}

static bool may_finish(const struct world *w)
{
    const char *why;
    return loch_membership_may_finish(members_now(w), w->before, w->after, &why);
}

void members_step(struct world *w)
{
    const struct loch_membership *m = members_now(w);
    const uint32_t node = world_pick(w, w->node_count);

    if (!loch_membership_joint(m)) {
        uint32_t i;
        if (w->nodes[node].exists && loch_membership_find(m, &w->nodes[node].member) == m->count &&
            world_chance(w, 200))
            node_wipe(w, node); /* it was removed, or has never come to be one */
        else if (world_chance(w, 150))
            begin(w);
        else if (members_node(w, &m->members[world_pick(w, m->count)].id, &i))
            node_refresh(w, i);
        return;
    }
    if (may_finish(w))
        end(w, false);
    else if (world_chance(w, 6))
        end(w, true);
    else if (world_chance(w, 300))
        node_refresh(w, node);
    else
        hear(w, world_pick(w, m->count), world_chance(w, 500) ? w->before : w->after);
}

/* Do members with their disks make a majority of each set, when node i is left out? */
static bool can_bear(const struct world *w, uint32_t without)
{
    const struct loch_membership *m = members_now(w);
    uint32_t all[4] = {0}, live[4] = {0};

    for (uint32_t k = 0; k < m->count; k++) {
        uint32_t i;
        const bool there = members_node(w, &m->members[k].id, &i) && i != without;
        for (uint32_t set = LOCH_MEMBER_OLD; set <= LOCH_MEMBER_NEW; set++) {
            all[set] += (m->members[k].in & set) != 0;
            live[set] += (m->members[k].in & set) != 0 && there;
        }
    }
    return live[LOCH_MEMBER_OLD] >= all[LOCH_MEMBER_OLD] / 2 + 1 &&
           live[LOCH_MEMBER_NEW] >= all[LOCH_MEMBER_NEW] / 2 + 1;
}

void members_lose(struct world *w, uint32_t i)
{
    struct node *n = &w->nodes[i];
    struct loch_id id = n->member;

    if (!n->exists || w->ghost_count == SIM_GHOSTS || !can_bear(w, i))
        return;
    world_note(w, "safekeeper %u loses its disk", i);
    struct ghost *g = &w->ghosts[w->ghost_count++];
    g->member = n->member;
    g->synced = n->synced;
    g->disk = n->disk;
    node_wipe(w, i);
    if (loch_mutation != LOCH_MUTATION_AMNESIAC)
        id = fresh_id(w);
    w->counters.lost_disks++;
    node_create(w, i, &id);
}

/* Replaces the members whose disks are gone by new ones on the same nodes. */
static bool replace_ghosts(struct world *w)
{
    const struct loch_membership *m = members_now(w);
    struct loch_member set[LOCH_MEMBERS_MAX];
    struct loch_membership next;
    bool whole = true;

    for (uint32_t k = 0; k < m->count; k++) {
        const uint32_t home = (uint32_t)m->members[k].node.bytes[0] - 1;
        uint32_t i;
        set[k] = m->members[k];
        if (members_node(w, &m->members[k].id, &i))
            continue;
        whole = false;
        if (!w->nodes[home].exists) {
            const struct loch_id id = fresh_id(w);
            node_create(w, home, &id);
        }
        set[k] = member_of(w, home);
    }
    if (whole)
        return true;
    if (w->config_count + 1 < SIM_CONFIGS &&
        loch_is_ok(loch_membership_begin(m, set, m->count, &next)))
        put(w, &next);
    return false;
}

bool members_settle(struct world *w)
{
    const struct loch_membership *m = members_now(w);

    if (!loch_membership_joint(m))
        return replace_ghosts(w);
    for (uint32_t k = 0; k < m->count; k++) {
        hear(w, k, w->before);
        hear(w, k, w->after);
    }
    if (may_finish(w))
        end(w, false);
    return false;
}

void members_fini(struct world *w)
{
    for (uint32_t i = 0; i < w->config_count; i++)
        loch_membership_fini(&w->configs[i]);
}
