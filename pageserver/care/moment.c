/* Finding a moment: the time key brings the search to one second's records; those are read again.
 *
 * With `after` the first entry in a later second, and `at` the entry of T's own second, if any:
 * before `at` nothing is later than T, `after` is. What lies between them, up to the last
 * transaction before `after`, is looked at record by record, timeline by timeline; then the answer
 * is the boundary before that record, or else before `after`. */
#include "moment.h"

#include "read/xact_time.h"

#include "loch/base/time.h"
#include "loch/io/env.h"
#include "loch/pg/effects.h"

#include <stdlib.h>

#define INGEST_TIMEOUT_MS  30000u
#define HISTORY_TIMEOUT_MS 120000u
#define PG_EPOCH_US        (LOCH_PG_EPOCH_SECONDS * 1000000)

struct search {
    struct loch_pageserver *ps;
    struct loch_id tenant, timeline;
    struct loch_timeline *store; /* retained */
    bool by_time;
    int64_t time_us; /* PostgreSQL's */
    loch_lsn upto;
    loch_lsn history_start; /* of the root */
    struct loch_waiter waiter;
    struct loch_timer *timer;
    struct loch_history *history; /* in progress; its callback ends it */

    struct loch_xact_time after, at;
    bool has_after, has_at;
    loch_lsn from, end; /* still to be looked at */
    struct loch_moment moment;
    struct loch_failure result;
    loch_moment_fn fn;
    void *arg;
};

static void finish(struct search *s, loch_status st)
{
    if (loch_is_ok(st))
        s->fn(s->arg, st, &s->moment);
    else
        s->fn(s->arg, st, NULL);
    loch_timeline_release(s->store);
    free(s);
}

/* ---- reading records ---- */

static loch_status owner_of(struct search *s, loch_lsn lsn, struct loch_served **served,
                            loch_lsn *limit)
{
    const struct loch_tenant *tenant = loch_tenant_find(s->ps, &s->tenant);
    if (tenant == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "the tenant is no longer here");
    return loch_tenant_owner(s->ps, tenant, &s->timeline, lsn, served, limit);
}

static void boundary_found(void *arg, loch_status st, const struct loch_history_point *point)
{
    struct search *s = arg;
    if (loch_is_ok(st))
        s->moment.lsn = point->lsn;
    finish(s, st);
}

/* The boundary before the record that ends at `end`, at time_us (PostgreSQL's). */
static loch_status boundary_before(struct search *s, loch_lsn end, int64_t time_us)
{
    struct loch_served *served = NULL;
    s->moment.later = true;
    s->moment.later_us = time_us + PG_EPOCH_US;
    LOCH_TRY(owner_of(s, end - 1, &served, NULL));
    return loch_history_find(served, s->ps, end - 1, HISTORY_TIMEOUT_MS, boundary_found, s,
                             &s->history);
}

static loch_status look_on(struct search *s);

static void looked(void *arg, loch_status st, const struct loch_history_point *point)
{
    struct search *s = arg;
    if (!loch_is_ok(st)) {
        finish(s, st);
        return;
    }
    if (point->stopped) {
        s->moment.lsn = point->lsn;
        s->moment.later = true;
        s->moment.later_us = point->later_us + PG_EPOCH_US;
        finish(s, LOCH_OK);
        return;
    }
    st = look_on(s);
    if (!loch_is_ok(st))
        finish(s, st);
}

static void finish_now(void *arg)
{
    finish(arg, LOCH_OK);
}

/* The next timeline's part of what is to be looked at, oldest first. */
static loch_status look_on(struct search *s)
{
    struct loch_served *served = NULL;
    loch_lsn limit = LOCH_LSN_MAX, from = s->from;
    if (from >= s->end) {
        if (s->has_after)
            return boundary_before(s, s->after.end, s->after.time_us);
        s->moment.lsn = s->upto;
        loch_env_post(s->ps->env, finish_now, s);
        return LOCH_OK;
    }
    LOCH_TRY(owner_of(s, from, &served, &limit));
    loch_lsn until = limit < s->end ? limit : s->end;
    s->from = until;
    return loch_history_find_before(served, s->ps, from, until, s->time_us, HISTORY_TIMEOUT_MS,
                                    looked, s, &s->history);
}

/* ---- the time key ---- */

/* A history begins with the checkpoint that was imported. */
static loch_status check_not_before(const struct search *s, struct loch_view *view)
{
    struct loch_key key = {.kind = LOCH_KEY_CONTROL};
    struct loch_buf bytes = {0};
    struct loch_control control = {0};
    bool found = false;
    loch_status st = loch_view_get(view, &key, s->history_start, &bytes, &found, NULL);
    if (loch_is_ok(st) && found)
        st = loch_control_decode(loch_buf_slice(&bytes), &control);
    loch_buf_fini(&bytes);
    LOCH_TRY(st);
    int64_t begin_us = control.checkpoint.time * 1000000;
    if (!found || s->time_us + PG_EPOCH_US >= begin_us)
        return LOCH_OK;
    char a[LOCH_TIME_TEXT_BYTES], b[LOCH_TIME_TEXT_BYTES];
    return LOCH_FAIL(LOCH_E_INVALID, "%s lies before the history of the branch, which begins at %s",
                     loch_time_format(s->time_us + PG_EPOCH_US, a), loch_time_format(begin_us, b));
}

/* A detached branch has its ancestors' newest entry, but not what ended after it in that second:
 * one of these may be the first that is later. */
static loch_status not_known(const struct search *s)
{
    char text[LOCH_TIME_TEXT_BYTES];
    return LOCH_FAIL(
        LOCH_E_INVALID,
        "%s lies before what is known of the branch: it was detached, and transactions "
        "of its former parent's ended within that second",
        loch_time_format(s->time_us + PG_EPOCH_US, text));
}

static loch_status read_times(struct search *s, struct loch_view *view)
{
    bool found = false;
    if (s->by_time)
        LOCH_TRY(loch_xact_time_after(view, s->upto, s->time_us, &s->has_after, &s->after));
    LOCH_TRY(loch_xact_time_at(view, s->has_after ? s->after.end - 1 : s->upto, &found, &s->at));
    if (s->by_time && found && s->at.time_us > s->time_us) { /* later within T's second */
        s->after = s->at;
        s->has_after = true;
        LOCH_TRY(loch_xact_time_at(view, s->after.end - 1, &found, &s->at));
    }
    s->has_at = found && loch_xact_second(s->at.time_us) == loch_xact_second(s->time_us);
    if (s->by_time && s->has_at && s->at.end < s->history_start)
        return not_known(s);
    /* Below the beginning of what is kept the entries are gone: nothing can be told from there. */
    loch_lsn lowest = s->has_at && s->by_time ? s->at.end
                      : s->has_after          ? s->after.end - 1
                                              : s->upto;
    LOCH_TRY(loch_view_readable(view, lowest));
    s->moment.before = found;
    s->moment.before_us = found ? s->at.time_us + PG_EPOCH_US : 0;
    return found || !s->by_time ? LOCH_OK : check_not_before(s, view);
}

static void read_work(void *arg)
{
    struct search *s = arg;
    struct loch_view *view = NULL;
    loch_status st = loch_view_create(s->store, &view);
    if (loch_is_ok(st))
        st = read_times(s, view);
    loch_view_destroy(view);
    loch_failure_set(&s->result, st);
}

static void read_done(void *arg)
{
    struct search *s = arg;
    loch_status st = loch_failure_raise(&s->result);
    s->moment.lsn = s->upto;
    if (loch_is_ok(st) && !s->by_time) {
        finish(s, LOCH_OK);
        return;
    }
    if (s->has_at) {
        s->from = s->at.end;
        s->end = !s->has_after                      ? s->upto
                 : s->after.before != LOCH_LSN_NONE ? s->after.before
                                                    : s->after.end - 1;
    }
    if (loch_is_ok(st))
        st = look_on(s);
    if (!loch_is_ok(st))
        finish(s, st);
}

static void ingested(void *arg, loch_status st)
{
    struct search *s = arg;
    loch_timer_cancel(s->timer);
    s->timer = NULL;
    if (loch_is_ok(st))
        st = loch_env_work(s->ps->env, read_work, read_done, s);
    if (!loch_is_ok(st))
        finish(s, st);
}

static void timed_out(void *arg)
{
    struct search *s = arg;
    s->timer = NULL;
    loch_served_unwait(&s->waiter);
    finish(s,
           LOCH_FAIL(LOCH_E_UNAVAILABLE,
                     "WAL up to " LOCH_LSN_FMT " is not here yet (ingested up to " LOCH_LSN_FMT ")",
                     LOCH_LSN_ARG(s->upto), LOCH_LSN_ARG(loch_timeline_last_record_lsn(s->store))));
}

static void begin(void *arg)
{
    ingested(arg, LOCH_OK);
}

static loch_status start(const struct search *wanted, struct loch_tenant *tenant)
{
    struct loch_pageserver *ps = wanted->ps;
    struct loch_served *root = NULL;
    LOCH_TRY(loch_tenant_owner(ps, tenant, &wanted->timeline, LOCH_LSN_NONE, &root, NULL));
    struct loch_served *served = loch_served_find(ps, &tenant->id, &wanted->timeline);
    if (served == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "the timeline is not served here");
    LOCH_TRY(loch_served_usable(served));
    struct search *s = malloc(sizeof *s);
    if (s == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory to look for a moment");
    *s = *wanted;
    s->tenant = tenant->id;
    s->store = loch_timeline_retain(loch_served_timeline(served));
    if (s->upto == LOCH_LSN_NONE)
        s->upto = loch_timeline_last_record_lsn(s->store);
    s->history_start = loch_timeline_info(loch_served_timeline(root))->start_lsn;
    s->waiter = (struct loch_waiter){.lsn = s->upto, .fn = ingested, .arg = s};
    if (loch_timeline_ready(s->store, s->upto)) {
        loch_env_post(ps->env, begin, s);
        return LOCH_OK;
    }
    loch_status st = loch_env_timer(ps->env, INGEST_TIMEOUT_MS, &s->timer, timed_out, s);
    if (loch_is_ok(st)) {
        loch_served_wait(served, &s->waiter);
    } else {
        loch_timeline_release(s->store);
        free(s);
    }
    return st;
}

LOCH_STATUS loch_moment_find(struct loch_pageserver *ps, struct loch_tenant *tenant,
                             const struct loch_id *timeline, int64_t time_us, loch_lsn upto,
                             loch_moment_fn fn, void *arg)
{
    char a[LOCH_TIME_TEXT_BYTES], b[LOCH_TIME_TEXT_BYTES];
    int64_t now_us = loch_env_wall_us(ps->env);
    if (time_us > now_us)
        return LOCH_FAIL(LOCH_E_INVALID, "%s lies in the future: it is %s",
                         loch_time_format(time_us, a), loch_time_format(now_us, b));
    const struct search wanted = {.ps = ps,
                                  .timeline = *timeline,
                                  .by_time = true,
                                  .time_us = time_us - PG_EPOCH_US,
                                  .upto = upto,
                                  .fn = fn,
                                  .arg = arg};
    return start(&wanted, tenant);
}

LOCH_STATUS loch_moment_of(struct loch_pageserver *ps, struct loch_tenant *tenant,
                           const struct loch_id *timeline, loch_lsn lsn, loch_moment_fn fn,
                           void *arg)
{
    const struct search wanted = {
        .ps = ps, .timeline = *timeline, .upto = lsn, .fn = fn, .arg = arg};
    struct loch_served *served = loch_served_find(ps, &tenant->id, timeline);
    if (served != NULL && loch_served_timeline(served) != NULL &&
        lsn > loch_timeline_last_record_lsn(loch_served_timeline(served)))
        return LOCH_FAIL(LOCH_E_INVALID,
                         LOCH_LSN_FMT " lies beyond what is ingested, " LOCH_LSN_FMT,
                         LOCH_LSN_ARG(lsn),
                         LOCH_LSN_ARG(loch_timeline_last_record_lsn(loch_served_timeline(served))));
    return start(&wanted, tenant);
}
