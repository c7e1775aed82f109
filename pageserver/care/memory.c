/* Sums of all timelines' memory, and whose layer is written early. */
#include "memory.h"

#include "served.h"

#include "loch/base/log.h"
#include "loch/host/metrics.h"
#include "loch/io/env.h"
#include "loch/layers/budget.h"

#include <stdlib.h>

/* Layers that are on their way to disk at once because of the limit. */
#define WRITERS_MAX 8u
/* A long record of which nothing came for so long is not waited for when another could go on. */
#define TURN_NS (UINT64_C(10) * 1000000000)

static uint64_t leaving(const struct loch_memory_share *share)
{
    if (share->lasting || share->resting)
        return 0;
    return share->frozen + (share->ordered ? share->open : 0);
}

static uint64_t movable(const struct loch_memory_share *share)
{
    return share->lasting ? 0 : share->open + share->frozen;
}

static void add(struct loch_memory *m, const struct loch_memory_share *share)
{
    m->used += share->open + share->frozen + share->wal;
    m->movable += movable(share);
    m->leaving += leaving(share);
    m->writers += leaving(share) > 0;
}

static void subtract(struct loch_memory *m, const struct loch_memory_share *share)
{
    m->used -= share->open + share->frozen + share->wal;
    m->movable -= movable(share);
    m->leaving -= leaving(share);
    m->writers -= leaving(share) > 0;
}

static uint64_t soft_limit(const struct loch_pageserver *ps)
{
    return ps->config.memory_layers_bytes / 4 * 3;
}

static bool is_short(const struct loch_pageserver *ps)
{
    const struct loch_memory *m = &ps->memory;
    return m->used - m->leaving > soft_limit(ps) && m->movable > m->leaving &&
           m->writers < WRITERS_MAX;
}

/* Orders the largest open layers to be written. */
static void relieve(struct loch_pageserver *ps)
{
    struct loch_memory *m = &ps->memory;
    size_t n = 0, count = 0;
    for (struct loch_served *s = ps->served; s != NULL; s = loch_served_next(s))
        n++;
    struct loch_budget_item *items = calloc(n + 1, sizeof *items);
    if (items == NULL)
        return; /* the next note tries again */
    for (struct loch_served *s = ps->served; s != NULL; s = loch_served_next(s)) {
        const struct loch_memory_share *share = loch_served_memory(s);
        if (!share->lasting && !share->resting && leaving(share) == 0 && share->open > 0)
            items[count++] = (struct loch_budget_item){share->open, share->since_ns, s};
    }
    size_t chosen = loch_budget_choose(items, count, m->used - m->leaving - soft_limit(ps),
                                       WRITERS_MAX - m->writers);
    for (size_t i = 0; i < chosen; i++) {
        if (loch_served_relieve(items[i].owner))
            loch_metric_add(m->m_early, 1);
    }
    free(items);
}

static bool is_long(const struct loch_memory_share *share)
{
    return !share->lasting && share->part > LOCH_MEMORY_PART_BYTES;
}

/* Whose turn could be next: who holds most. turn: whose it is now, if anybody's. */
static struct loch_served *next_long(const struct loch_pageserver *ps, struct loch_served **turn)
{
    struct loch_served *next = NULL;
    *turn = NULL;
    for (struct loch_served *s = ps->served; s != NULL; s = loch_served_next(s)) {
        const struct loch_memory_share *share = loch_served_memory(s);
        if (share == ps->memory.turn)
            *turn = s;
        else if (is_long(share) && (next == NULL || share->part > loch_served_memory(next)->part))
            next = s;
    }
    return next;
}

/* Returns whether it is another's turn now. */
static bool take_turns(struct loch_pageserver *ps)
{
    struct loch_memory *m = &ps->memory;
    struct loch_served *turn;
    if (!m->full) {
        m->turn = NULL;
        return false;
    }
    const uint64_t now_ns = loch_env_now_ns(ps->env);
    if (!m->only_wal) { /* nobody goes on */
        m->turn_ns = now_ns;
        return false;
    }
    if (m->turn != NULL && now_ns < m->turn_ns + TURN_NS)
        return false;
    struct loch_served *next = next_long(ps, &turn);
    if (next == NULL || (turn != NULL && !loch_served_give_way(turn)))
        return false;
    m->turn = loch_served_memory(next);
    m->turn_ns = now_ns;
    return true;
}

/* Returns whether what WAL may do has changed. */
static bool weigh(struct loch_pageserver *ps)
{
    struct loch_memory *m = &ps->memory;
    const bool full = m->used >= ps->config.memory_layers_bytes;
    const bool only_wal = full && m->movable == 0;
    if (full == m->full && only_wal == m->only_wal)
        return false;
    loch_metric_add(m->m_pauses, full && !m->full);
    m->full = full;
    m->only_wal = only_wal;
    return true;
}

static void let_flow(struct loch_pageserver *ps)
{
    for (struct loch_served *s = ps->served, *next; s != NULL; s = next) {
        next = loch_served_next(s);
        loch_served_flow(s);
    }
}

void loch_memory_note(struct loch_pageserver *ps, struct loch_memory_share *share,
                      const struct loch_memory_share *now)
{
    struct loch_memory *m = &ps->memory;
    if (share == m->turn && !is_long(now)) /* its record is in, or it goes */
        m->turn = NULL;
    else if (share == m->turn && now->wal > share->wal)
        m->turn_ns = loch_env_now_ns(ps->env);
    subtract(m, share);
    *share = *now;
    add(m, share);
    loch_metric_set(m->m_used, (int64_t)m->used);
    if (m->relieving) /* called back from below */
        return;
    m->relieving = true;
    if (is_short(ps))
        relieve(ps);
    bool changed = weigh(ps);
    if (take_turns(ps)) {
        (void)weigh(ps); /* somebody may have given way */
        changed = true;
    }
    if (changed)
        let_flow(ps);
    m->relieving = false;
}

void loch_memory_init(struct loch_pageserver *ps)
{
    struct loch_memory *m = &ps->memory;
    m->m_used = loch_metrics_gauge(
        ps->metrics, "loch_pageserver_memory_layer_bytes",
        "Memory of layers not yet written and of WAL not yet ingested, all timelines.", NULL, 0);
    m->m_early = loch_metrics_counter(ps->metrics, "loch_pageserver_early_flushes_total",
                                      "Open layers written because memory ran short.", NULL, 0);
    m->m_pauses = loch_metrics_counter(ps->metrics, "loch_pageserver_memory_pauses_total",
                                       "Times that WAL had to wait for memory.", NULL, 0);
}
