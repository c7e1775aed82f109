/* Which timelines are in service, and what can be said of one without changing it. Invariant: the
 * map has, of each tenant and timeline, the one that is not stopping. */
#include "served_impl.h"

#include "loch/io/env.h"

#include <stdlib.h>

/* ---- which there are ---- */

static void stop_what_came(void *arg)
{
    loch_served_stop_all(arg);
}

void loch_served_stop_all(struct loch_pageserver *ps)
{
    for (struct loch_served *s = ps->served, *next; s != NULL; s = next) {
        next = s->next;
        if (loch_served_find(ps, &s->tenant, &s->timeline_id) == s)
            loch_served_stop(s, loch_pageserver_consider_end, ps);
    }
}

LOCH_STATUS served_enlist(struct loch_pageserver *ps, const struct loch_id *tenant,
                          const struct loch_id *timeline, struct loch_served **out)
{
    struct loch_served *s = calloc(1, sizeof *s);
    if (s == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a timeline");
    const struct loch_id id = loch_id_within(tenant, timeline);
    loch_status st = loch_id_map_put(&ps->served_map, &id, s);
    if (!loch_is_ok(st)) {
        free(s);
        return st;
    }
    s->ps = ps;
    s->tenant = *tenant;
    s->timeline_id = *timeline;
    s->next = ps->served;
    s->prev = &ps->served;
    if (ps->served != NULL)
        ps->served->prev = &s->next;
    ps->served = s;
    if (ps->stopping) /* a change of its tenant was under way: nobody else would stop it */
        loch_env_post(ps->env, stop_what_came, ps);
    *out = s;
    return LOCH_OK;
}

void served_hide(struct loch_served *s)
{
    const struct loch_id id = loch_id_within(&s->tenant, &s->timeline_id);
    if (loch_id_map_get(&s->ps->served_map, &id) == s)
        (void)loch_id_map_remove(&s->ps->served_map, &id);
}

void served_delist(struct loch_served *s)
{
    served_hide(s);
    served_waits_no_more(s);
    *s->prev = s->next;
    if (s->next != NULL)
        s->next->prev = s->prev;
}

void served_waits(struct loch_served *s)
{
    if (s->wait_prev != NULL)
        return;
    s->wait_next = s->ps->waiting;
    s->wait_prev = &s->ps->waiting;
    if (s->wait_next != NULL)
        s->wait_next->wait_prev = &s->wait_next;
    s->ps->waiting = s;
}

void served_waits_no_more(struct loch_served *s)
{
    if (s->wait_prev == NULL)
        return;
    *s->wait_prev = s->wait_next;
    if (s->wait_next != NULL)
        s->wait_next->wait_prev = s->wait_prev;
    s->wait_prev = NULL;
}

/* ---- plain questions ---- */

struct loch_served *loch_served_find(struct loch_pageserver *ps, const struct loch_id *tenant,
                                     const struct loch_id *timeline)
{
    const struct loch_id id = loch_id_within(tenant, timeline);
    struct loch_served *s = loch_id_map_get(&ps->served_map, &id);
    const bool same =
        s != NULL && loch_id_equal(&s->tenant, tenant) && loch_id_equal(&s->timeline_id, timeline);
    return same ? s : NULL;
}

struct loch_served *loch_served_next(const struct loch_served *s)
{
    return s->next;
}

struct loch_timeline *loch_served_timeline(const struct loch_served *s)
{
    return s->timeline;
}

const struct loch_id *loch_served_tenant_id(const struct loch_served *s)
{
    return &s->tenant;
}

const struct loch_id *loch_served_timeline_id(const struct loch_served *s)
{
    return &s->timeline_id;
}

LOCH_STATUS loch_served_usable(const struct loch_served *s)
{
    if (s->timeline == NULL)
        return LOCH_FAIL(s->problem_st.code, "the timeline is not served: %s", s->problem);
    return LOCH_OK;
}

const char *loch_served_problem(const struct loch_served *s)
{
    return s->problem;
}

bool loch_served_is_archived(const struct loch_served *s)
{
    return s->archived;
}

const char *loch_served_source(const struct loch_served *s)
{
    return s->receiver != NULL ? loch_wal_receiver_source(s->receiver) : NULL;
}

const struct loch_peer *loch_served_safekeepers(const struct loch_served *s, size_t *count)
{
    if (s->receiver != NULL)
        return loch_wal_receiver_peers(s->receiver, count);
    *count = s->ps->config.safekeeper_count;
    return s->ps->config.safekeepers;
}

uint64_t loch_served_term(const struct loch_served *s)
{
    return s->term;
}

loch_lsn loch_served_commit_lsn(const struct loch_served *s)
{
    return s->commit_lsn;
}

uint64_t loch_served_min_epoch(const struct loch_served *s)
{
    return s->min_epoch;
}

bool loch_served_control(const struct loch_served *s, struct loch_control *out)
{
    if (s->ingest == NULL || s->ingesting)
        return false;
    loch_ingest_control(s->ingest, out);
    return true;
}
