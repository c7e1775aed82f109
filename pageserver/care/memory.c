/* Sums of all timelines' memory, and whose layer is written early. */
#include "memory.h"

#include "served.h"

#include "loch/base/log.h"
#include "loch/host/metrics.h"
#include "loch/layers/budget.h"

#include <stdlib.h>

/* Layers that are on their way to disk at once because of the limit. */
#define WRITERS_MAX 8u

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
    subtract(m, share);
    *share = *now;
    add(m, share);
    loch_metric_set(m->m_used, (int64_t)m->used);
    if (m->relieving) /* called back from below */
        return;
    m->relieving = true;
    if (is_short(ps))
        relieve(ps);
    const bool full = m->used >= ps->config.memory_layers_bytes;
    const bool only_wal = full && m->movable == 0;
    if (full != m->full || only_wal != m->only_wal) {
        loch_metric_add(m->m_pauses, full && !m->full);
        m->full = full;
        m->only_wal = only_wal;
        let_flow(ps);
    }
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
