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
    va_list args;

    if (!w->trace)
        return;
    printf("%6" PRIu64 " ", w->step);
    va_start(args, fmt);
    (void)vprintf(fmt, args);
    va_end(args);
    printf("\n");
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
    const bool fierce = world_chance(w, 300);

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
}

static void setup(struct world *w, uint64_t seed, bool trace)
{
    *w = (struct world){.seed = seed, .random = seed, .trace = trace, .now_ms = 1000};
    w->node_count = world_chance(w, 850) ? 3 : 5;
    w->pageserver.end = w->committed.end = SIM_START;
    draw_weather(w);
    for (uint32_t i = 0; i < w->node_count; i++) {
        struct node *n = &w->nodes[i];
        n->id.bytes[0] = (uint8_t)(i + 1);
        n->disk.end = n->synced = SIM_START;
        loch_status st = loch_acceptor_control_init(&n->control, SIM_START, SIM_START, 1);
        LOCH_ASSERT(loch_is_ok(st));
        node_start(w, i);
    }
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

    if (!n->up || !loch_is_ok(loch_acceptor_pull_limit(n->acceptor, LOCH_PULL_COMMITTED, 0,
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
    const uint32_t x = world_pick(w, 100);
    const uint32_t node = world_pick(w, w->node_count);

    if (x < 45)
        net_step(w);
    else if (x < 65)
        node_disk_step(w, node);
    else if (x < 72)
        boot_connect(w, some_boot(w), node);
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
    else
        boot_write(w, some_boot(w));
}

static void stormy(struct world *w)
{
    const struct weather *v = &w->weather;
    const uint32_t node = world_pick(w, w->node_count);

    if (w->boot_count == 0 || world_chance(w, v->boot / 2))
        new_boot(w);
    if (world_chance(w, v->crash) && w->nodes[node].up)
        node_crash(w, node);
    else if (world_chance(w, 60) && !w->nodes[node].up)
        node_start(w, node);
    if (world_chance(w, v->kill))
        boot_kill(w, some_boot(w));
    if (world_chance(w, v->reset))
        boot_reset(w, some_boot(w), node);
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
    for (uint32_t i = 0; i < w->node_count; i++) {
        struct loch_acceptor_view view;
        loch_acceptor_look(w->nodes[i].acceptor, &view);
        if (view.commit_lsn < boot->commit_lsn)
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
        if (!w->nodes[i].up)
            node_start(w, i);
    }
    boot_create(w, ++w->next_epoch, 0);
    for (uint32_t k = 0; k < SIM_CALM_STEPS && w->violation[0] == '\0'; k++) {
        w->step++;
        w->now_ms += world_random(w) % 4;
        everyday(w);
        if (w->violation[0] == '\0' && k % 16 == 0 && is_well(w))
            return;
    }
    violation(w, "no progress: the last compute %s in calm weather",
              !w->boots[w->boot_count - 1]->elected   ? "is not elected"
              : !w->boots[w->boot_count - 1]->running ? "cannot start at L"
                                                      : "does not bring all safekeepers along");
}

void world_run(struct world *w, uint64_t seed, bool trace)
{
    setup(w, seed, trace);
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
}
