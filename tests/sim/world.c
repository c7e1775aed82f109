/* Holds: one run: the weather a seed draws, what happens when, and the calm end in which the system
 * must make progress again. */
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>

#define SIM_STEPS      5000u
#define SIM_CALM_STEPS 12000u

uint64_t world_random(struct world *w)
{
    uint64_t z = (w->random += UINT64_C(0x9E3779B97F4A7C15));

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

bool world_chance(struct world *w, uint32_t per_mille)
{
    return world_random(w) % 1000 < per_mille;
}

uint32_t world_pick(struct world *w, uint32_t count)
{
    return (uint32_t)(world_random(w) % count);
}

void world_note(struct world *w, const char *fmt, ...)
{
    char line[SIM_LINE_BYTES];
    va_list args;

    if (!w->trace)
        return;
    int n = snprintf(line, sizeof line, "%6" PRIu64 " ", w->step);
    va_start(args, fmt);
    (void)vsnprintf(line + n, sizeof line - (size_t)n, fmt, args);
    va_end(args);
    if (w->tail != NULL)
        memcpy(w->tail + w->tail_lines++ % SIM_TAIL_LINES * SIM_LINE_BYTES, line, sizeof line);
    else
        printf("%s\n", line);
}

loch_lsn log_boundary(struct log *log, loch_lsn lsn, loch_lsn *prev)
{
    loch_lsn at = SIM_START;

    *prev = SIM_START;
    if (lsn > log->end)
        lsn = log->end;
    while (at < lsn) {
        const struct cell *c = log_at(log, at);
        if (c->length == 0 || at + c->length > lsn)
            break;
        *prev = at;
        at += c->length;
    }
    return at;
}

static void draw_weather(struct world *w)
{
    struct weather *v = &w->weather;
    const bool fierce = world_chance(w, 400);

    v->duel = world_chance(w, 400);

    v->loss = world_chance(w, 400) ? 0 : world_pick(w, 120);
    v->duplicate = world_chance(w, 400) ? 0 : world_pick(w, 100);
    v->reorder = world_chance(w, 400) ? 0 : world_pick(w, 1000);
    v->crash = world_chance(w, 200) ? 0 : 1 + world_pick(w, fierce ? 30 : 10);
    /* Election-heavy seeds: many short terms, which is where commits below L would go wrong. */
    v->boot = fierce ? 16 + world_pick(w, 30) : 2 + world_pick(w, 10);
    v->kill = world_pick(w, fierce ? 12 : 4);
    v->reset = world_pick(w, 12);
    v->write = 30 + world_pick(w, 150);
    v->drop_window = world_chance(w, 500) ? 0 : world_pick(w, 40);
    v->members = v->duel || world_chance(w, 150) ? 0 : 20 + world_pick(w, 250);
    v->lose = v->members == 0 || world_chance(w, 600) ? 0 : 1 + world_pick(w, 2);
}

static void setup(struct world *w, uint64_t seed, bool trace, char *tail)
{
    *w = (struct world){.seed = seed, .random = seed, .trace = trace, .tail = tail, .now_ms = 1000};
    w->pageserver.end = w->committed.end = SIM_START;
    draw_weather(w);
    members_setup(w);
}

/* One of the last few computes: the others have been dead or deposed for long. */
static uint32_t some_boot(struct world *w)
{
    const uint32_t recent = w->boot_count < 4 ? w->boot_count : 4;
    return w->boot_count - 1 - world_pick(w, recent);
}

static void pageserver_pull(struct world *w)
{
    struct node *n = &w->nodes[world_pick(w, w->node_count)];
    loch_lsn upto;

    if (!n->up || !loch_is_ok(loch_acceptor_pull_limit(n->acceptor, LOCH_PULL_COMMITTED, 0, 0,
                                                       w->pageserver.end, &upto)))
        return;
    for (; w->pageserver.end < upto; w->pageserver.end++) {
        const struct cell *c = log_at(&n->disk, w->pageserver.end);
        if (c->record != log_at(&w->committed, w->pageserver.end)->record)
            violation(w, "the pageserver was given uncommitted WAL at %" PRIu64, w->pageserver.end);
        *log_at(&w->pageserver, w->pageserver.end) = *c;
    }
    loch_acceptor_feedback(n->acceptor, w->pageserver.end, w->pageserver.end);
}

static void new_boot(struct world *w)
{
    /* Mostly a new start of the compute; sometimes the same agent elects anew after a crash. */
    if (w->boot_count > 0 && world_chance(w, 250)) {
        const uint32_t b = w->boot_count - 1;
        struct loch_proposer_view view;
        boot_kill(w, b);
        loch_proposer_look(w->boots[b]->proposer, &view);
        boot_create(w, w->boots[b]->epoch, view.highest_term);
    } else {
        boot_create(w, ++w->next_epoch, 0);
    }
}

static void close_some_conn(struct world *w)
{
    if (w->conn_count == 0)
        return;
    const uint32_t recent = w->conn_count < 32 ? w->conn_count : 32;
    const uint32_t c = w->conn_count - 1 - world_pick(w, recent);
    if (!w->conns[c].boot_open)
        node_closed(w, c);
}

/* What happens in good weather too. */
static void everyday(struct world *w)
{
    const uint32_t x = world_pick(w, w->weather.duel ? 100 : 108);
    const uint32_t node = world_pick(w, w->node_count);

    if (x < 45)
        net_step(w);
    else if (x < 65)
        node_disk_step(w, node);
    else if (x < 72)
        boot_connect(w, some_boot(w));
    else if (x < 78)
        boot_tick(w, some_boot(w));
    else if (x < 84)
        node_pull(w, node);
    else if (x < 88)
        pageserver_pull(w);
    else if (x < 90)
        node_tick(w, node);
    else if (x < 94)
        close_some_conn(w);
    else if (x < 100)
        boot_write(w, some_boot(w));
    else if (x < 104)
        node_look(w, node);
    else if (w->nodes[node].refresh || world_chance(w, 100))
        node_refresh(w, node);
}

static void stormy(struct world *w)
{
    const struct weather *v = &w->weather;
    const uint32_t node = world_pick(w, w->node_count);

    if (w->boot_count == 0 || world_chance(w, v->boot / 2))
        new_boot(w);
    if (world_chance(w, v->crash) && w->nodes[node].up)
        node_crash(w, node);
    else if (world_chance(w, 60) && w->nodes[node].exists && !w->nodes[node].up)
        node_start(w, node);
    if (world_chance(w, v->members))
        members_step(w);
    if (world_chance(w, v->lose))
        members_lose(w, node);
    if (world_chance(w, v->kill))
        boot_kill(w, some_boot(w));
    if (world_chance(w, v->reset))
        boot_reset(w, some_boot(w), world_pick(w, SIM_SLOTS));
    if (world_chance(w, v->drop_window))
        boot_drop_window(w, some_boot(w));
    if (world_chance(w, v->write))
        boot_write(w, some_boot(w));
}

/* The storm is over: one new compute must be elected, run, commit, and bring every safekeeper
 * along. */
static bool is_well(struct world *w)
{
    struct boot *boot = w->boots[w->boot_count - 1];

    if (!boot->running || boot->commit_lsn <= boot->start_lsn)
        return false;
    const struct loch_membership *m = members_now(w);
    for (uint32_t i = 0; i < m->count; i++) {
        struct loch_acceptor_view view;
        uint32_t node;
        if (!members_node(w, &m->members[i].id, &node))
            return false;
        loch_acceptor_look(w->nodes[node].acceptor, &view);
        if (view.commit_lsn < boot->commit_lsn || view.generation != m->generation)
            return false;
    }
    return w->pageserver.end >= boot->commit_lsn;
}

static void calm(struct world *w)
{
    w->weather = (struct weather){0};
    w->calm = true;
    world_note(w, "the storm is over");
    for (uint32_t b = 0; b < w->boot_count; b++)
        boot_kill(w, b);
    for (uint32_t i = 0; i < w->node_count && w->violation[0] == '\0'; i++) {
        if (w->nodes[i].exists && !w->nodes[i].up)
            node_start(w, i);
    }
    boot_create(w, ++w->next_epoch, 0);
    for (uint32_t k = 0; k < SIM_CALM_STEPS && w->violation[0] == '\0'; k++) {
        w->step++;
        w->now_ms += world_random(w) % 4;
        everyday(w);
        if (w->violation[0] == '\0' && k % 16 == 0 && members_settle(w) && is_well(w))
            return;
    }
    violation(w, "no progress: the last compute %s in calm weather",
              !w->boots[w->boot_count - 1]->elected   ? "is not elected"
              : !w->boots[w->boot_count - 1]->running ? "cannot start at L"
                                                      : "does not bring all safekeepers along");
}

void world_run(struct world *w, uint64_t seed, bool trace, char *tail)
{
    setup(w, seed, trace, tail);
    while (w->step < SIM_STEPS && w->violation[0] == '\0') {
        w->step++;
        w->now_ms += world_random(w) % 12;
        stormy(w);
        if (w->violation[0] == '\0')
            everyday(w);
    }
    if (w->violation[0] == '\0')
        calm(w);
}

void world_fini(struct world *w)
{
    net_fini(w);
    for (uint32_t b = 0; b < w->boot_count; b++)
        boot_fini(w, b);
    for (uint32_t i = 0; i < w->node_count; i++)
        node_fini(w, i);
    members_fini(w);
}
