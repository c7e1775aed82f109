/* Finding a boundary and its control state by following WAL from a snapshot. */
#include "history.h"

#include "ingest/wal_receiver.h"
#include "read/view.h"

#include "loch/base/check.h"
#include "loch/io/env.h"
#include "loch/pg/wal_record.h"
#include "loch/pg/wal_scan.h"

#include <stdio.h>
#include <stdlib.h>

struct loch_history {
    struct loch_pageserver *ps;
    struct loch_id tenant, timeline;
    struct loch_timeline *store; /* retained */
    loch_lsn from, target;       /* the snapshot is at or below `from` */
    bool by_time;
    int64_t time_us; /* by_time: stop before the first end of a transaction later than that */
    struct loch_waiter waiter;
    struct loch_timer *timer;
    struct loch_wal_receiver *receiver;
    struct loch_wal_scan scan;
    bool scanning;
    bool working, posted;
    bool finished; /* result is set; finish is posted */
    struct loch_history_point point;
    struct loch_wal_record record;
    struct loch_failure result, read;
    loch_history_fn fn;
    void *arg;
};

static void destroy(struct loch_history *h)
{
    loch_served_unwait(&h->waiter);
    loch_timer_cancel(h->timer);
    loch_wal_receiver_destroy(h->receiver);
    if (h->scanning)
        loch_wal_scan_fini(&h->scan);
    loch_timeline_release(h->store);
    free(h);
}

static void finish(void *arg)
{
    struct loch_history *h = arg;
    h->posted = false;
    if (h->working)
        return; /* read_done comes here again */
    if (h->fn != NULL && loch_is_ok(h->result.st))
        h->fn(h->arg, LOCH_OK, &h->point);
    else if (h->fn != NULL)
        h->fn(h->arg, loch_failure_raise(&h->result), NULL);
    destroy(h);
}

/* Sets the result and calls back from the loop, once. */
static void end(struct loch_history *h, loch_status st)
{
    if (h->finished)
        return;
    h->finished = true;
    loch_failure_set(&h->result, st);
    h->posted = true;
    loch_env_post(h->ps->env, finish, h);
}

void loch_history_cancel(struct loch_history *h)
{
    h->fn = NULL;
    end(h, LOCH_FAIL(LOCH_E_UNAVAILABLE, "cancelled"));
}

/* ---- following WAL ---- */

/* The record at `span` ends a transaction too late. */
static bool stops(struct loch_history *h, const struct loch_wal_span *span)
{
    int64_t time_us = 0;
    if (!h->by_time || span->end <= h->from || !loch_wal_record_xact_time(&h->record, &time_us) ||
        time_us <= h->time_us)
        return false;
    h->point.stopped = true;
    h->point.later_end = span->end;
    h->point.later_us = time_us;
    return true;
}

static loch_status follow(struct loch_history *h, struct loch_slice bytes)
{
    while (bytes.len > 0 && !h->finished) {
        struct loch_wal_span span;
        bool found = false;
        LOCH_TRY(loch_wal_scan_next(&h->scan, &bytes, &found, &span));
        if (!found && h->scan.ended)
            return LOCH_FAIL(LOCH_E_CORRUPT, "the WAL ends in zeros");
        if (!found)
            continue;
        if (span.end > h->target) {
            end(h, LOCH_OK);
            break;
        }
        LOCH_TRY(loch_wal_record_decode(span.bytes, &h->record));
        if (stops(h, &span)) {
            end(h, LOCH_OK);
            break;
        }
        LOCH_TRY(loch_control_follow(&h->point.control, &h->record, span.start, span.end, NULL));
        h->point.lsn = span.end;
        h->point.prev_lsn = span.start;
        if (span.end == h->target)
            end(h, LOCH_OK);
    }
    return LOCH_OK;
}

static loch_status on_wal(void *arg, loch_lsn begin, struct loch_slice bytes)
{
    struct loch_history *h = arg;
    (void)begin;
    if (h->finished)
        return LOCH_OK;
    loch_status st = follow(h, bytes);
    if (!loch_is_ok(st))
        end(h, st);
    return LOCH_OK;
}

static loch_lsn on_restart(void *arg)
{
    const struct loch_history *h = arg;
    return h->scan.position;
}

static void on_state(void *arg, const struct loch_wal_pull_state *state)
{
    (void)arg;
    (void)state;
}

static loch_lsn on_wanted(void *arg)
{
    (void)arg;
    return UINT64_MAX; /* it is pulled because somebody waits */
}

static void on_positions(void *arg, struct loch_wal_pull_feedback *out)
{
    const struct loch_history *h = arg;
    out->last_record_lsn = loch_timeline_last_record_lsn(h->store);
    out->disk_consistent_lsn = loch_timeline_disk_consistent_lsn(h->store);
    out->remote_consistent_lsn = out->disk_consistent_lsn;
}

static loch_status pull(struct loch_history *h)
{
    LOCH_TRY(loch_wal_scan_init(&h->scan, LOCH_WAL_SCAN_RECORDS, h->point.lsn, h->point.prev_lsn,
                                loch_timeline_info(h->store)->segment_bytes));
    h->scanning = true;
    struct loch_wal_receiver_options options = {
        .env = h->ps->env,
        .keys = h->ps->keys,
        .config = &h->ps->config,
        .tenant = h->tenant,
        .timeline = h->timeline,
        .from = h->point.lsn,
        .events = {on_wal, on_restart, on_state, on_wanted, on_positions},
        .arg = h};
    return loch_wal_receiver_create(&options, &h->receiver);
}

/* ---- the snapshot ---- */

static loch_status read_snapshot(struct loch_history *h)
{
    struct loch_key key = {.kind = LOCH_KEY_CONTROL};
    struct loch_view *view = NULL;
    struct loch_buf bytes = {0};
    bool found = false;
    LOCH_TRY(loch_view_create(h->store, &view));
    loch_status st = loch_view_get(view, &key, h->from, &bytes, &found, &h->point.lsn);
    loch_view_destroy(view);
    if (loch_is_ok(st) && !found)
        st = LOCH_FAIL(LOCH_E_NOT_FOUND, "there is no control snapshot at or below " LOCH_LSN_FMT,
                       LOCH_LSN_ARG(h->from));
    if (loch_is_ok(st))
        st = loch_control_decode(loch_buf_slice(&bytes), &h->point.control);
    loch_buf_fini(&bytes);
    if (loch_is_ok(st))
        h->point.prev_lsn = h->point.control.last_start;
    return st;
}

static void read_work(void *arg)
{
    struct loch_history *h = arg;
    loch_failure_set(&h->read, read_snapshot(h));
}

static void read_done(void *arg)
{
    struct loch_history *h = arg;
    h->working = false;
    if (h->finished) { /* timed out or cancelled meanwhile */
        if (!h->posted)
            finish(h);
        return;
    }
    loch_status st = loch_failure_raise(&h->read);
    if (!loch_is_ok(st) || h->point.lsn == h->target) {
        end(h, st);
        return;
    }
    st = pull(h);
    if (!loch_is_ok(st))
        end(h, st);
}

static void ingested(void *arg, loch_status st)
{
    struct loch_history *h = arg;
    struct loch_served *served = loch_served_find(h->ps, &h->tenant, &h->timeline);
    if (loch_is_ok(st) && served == NULL)
        st = LOCH_FAIL(LOCH_E_NOT_FOUND, "the timeline is no longer served here");
    if (!loch_is_ok(st) || h->finished) {
        end(h, st);
        return;
    }
    if (!h->by_time && h->target == loch_timeline_last_record_lsn(h->store) &&
        loch_served_control(served, &h->point.control) &&
        h->target == loch_timeline_last_record_lsn(h->store)) {
        h->point.lsn = h->target;
        h->point.prev_lsn = loch_timeline_prev_record_lsn(h->store);
        end(h, LOCH_OK);
        return;
    }
    h->working = true;
    st = loch_env_work(h->ps->env, read_work, read_done, h);
    if (!loch_is_ok(st)) {
        h->working = false;
        end(h, st);
    }
}

static void timed_out(void *arg)
{
    struct loch_history *h = arg;
    h->timer = NULL;
    end(h,
        LOCH_FAIL(LOCH_E_UNAVAILABLE,
                  "WAL up to " LOCH_LSN_FMT " is not here yet (ingested up to " LOCH_LSN_FMT ")",
                  LOCH_LSN_ARG(h->target), LOCH_LSN_ARG(loch_timeline_last_record_lsn(h->store))));
}

static void begin(void *arg)
{
    struct loch_history *h = arg;
    ingested(h, LOCH_OK);
}

static loch_status start(struct loch_served *served, struct loch_pageserver *ps,
                         const struct loch_history *wanted, uint64_t timeout_ms,
                         struct loch_history **out)
{
    LOCH_TRY(loch_served_usable(served));
    struct loch_timeline *t = loch_served_timeline(served);
    if (wanted->from < loch_timeline_info(t)->start_lsn)
        return LOCH_FAIL(
            LOCH_E_INVALID, LOCH_LSN_FMT " lies before the timeline's beginning at " LOCH_LSN_FMT,
            LOCH_LSN_ARG(wanted->from), LOCH_LSN_ARG(loch_timeline_info(t)->start_lsn));
    struct loch_history *h = calloc(1, sizeof *h);
    if (h == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory to look into history");
    *h = *wanted;
    h->ps = ps;
    h->tenant = *loch_served_tenant_id(served);
    h->timeline = *loch_served_timeline_id(served);
    h->store = loch_timeline_retain(t);
    h->waiter = (struct loch_waiter){.lsn = h->target, .fn = ingested, .arg = h};
    loch_status st = loch_env_timer(ps->env, timeout_ms, &h->timer, timed_out, h);
    if (!loch_is_ok(st)) {
        destroy(h);
        return st;
    }
    if (loch_timeline_ready(t, h->target))
        loch_env_post(ps->env, begin, h);
    else
        loch_served_wait(served, &h->waiter);
    *out = h;
    return LOCH_OK;
}

LOCH_STATUS loch_history_find(struct loch_served *served, struct loch_pageserver *ps, loch_lsn lsn,
                              uint64_t timeout_ms, loch_history_fn fn, void *arg,
                              struct loch_history **out)
{
    const struct loch_history wanted = {.from = lsn, .target = lsn, .fn = fn, .arg = arg};
    return start(served, ps, &wanted, timeout_ms, out);
}

LOCH_STATUS loch_history_find_before(struct loch_served *served, struct loch_pageserver *ps,
                                     loch_lsn from, loch_lsn upto, int64_t time_us,
                                     uint64_t timeout_ms, loch_history_fn fn, void *arg,
                                     struct loch_history **out)
{
    const struct loch_history wanted = {
        .from = from, .target = upto, .by_time = true, .time_us = time_us, .fn = fn, .arg = arg};
    return start(served, ps, &wanted, timeout_ms, out);
}
