/* Timelines in service. */
#include "served_impl.h"

#include "read/page_cache.h"
#include "revocation.h"
#include "store/layer_set.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/base/secret.h"
#include "loch/host/keys.h"
#include "loch/host/metrics.h"
#include "loch/io/env.h"
#include "loch/layers/plan.h"

#include <stdio.h>
#include <stdlib.h>

/* WAL that waits for the ingest in flight: above it the receiver pauses. */
#define PENDING_MAX_BYTES ((size_t)8 << 20)
/* A branch's first layer and manifest are written so long after its birth or up to twice that, at
 * the next multiple of it: those of many branches together, so many at once. Their syncs are then
 * the disk's work once, and one that is being made has few of them beside it. */
#define SETTLE_AFTER_MS 3000u
#define SETTLE_AT_ONCE  4u
#define SETTLE_AGAIN_MS 10u
#define RETRY_MS        1000u
#define RETRY_DOUBLINGS 3u
/* While nobody waits for it, WAL gathers for so long or to so much: fewer wake-ups. */
#define GATHER_MS    10u
#define GATHER_BYTES ((size_t)128 << 10)

static void pull_wal(struct loch_served *s);
static void consider_ingest(struct loch_served *s);
static void gather(struct loch_served *s);
static void consider_flush(struct loch_served *s);
static void arm_timer(struct loch_served *s, uint64_t ms);

/* What it holds in memory has changed. It is one with a timeline. */
static void note_memory(struct loch_served *s)
{
    struct loch_memory_share now = {.open = loch_timeline_open_bytes(s->timeline),
                                    .frozen = loch_timeline_frozen_bytes(s->timeline),
                                    .since_ns = s->memory.since_ns,
                                    .wal = s->pending.len + s->fed_bytes + s->part_bytes,
                                    .part = s->part_bytes,
                                    .ordered = s->memory_ordered,
                                    .lasting = s->problem[0] != '\0',
                                    .resting = !loch_timeline_settled(s->timeline) && !s->flushing};
    if (s->memory.open == 0)
        now.since_ns = loch_env_now_ns(s->ps->env);
    loch_memory_note(s->ps, &s->memory, &now);
}

/* ---- waiters and watchers ---- */

void loch_served_wait(struct loch_served *s, struct loch_waiter *waiter)
{
    waiter->next = s->waiters;
    waiter->prev = &s->waiters;
    if (s->waiters != NULL)
        s->waiters->prev = &waiter->next;
    s->waiters = waiter;
    served_waits(s);
    consider_ingest(s); /* what had gathered is wanted now */
}

void loch_served_watch_add(struct loch_served *s, struct loch_served_watch *watch)
{
    watch->next = s->watches;
    watch->prev = &s->watches;
    if (s->watches != NULL)
        s->watches->prev = &watch->next;
    s->watches = watch;
}

static void wake(struct loch_served *s)
{
    struct loch_waiter *w = s->waiters;
    while (w != NULL) {
        struct loch_waiter *next = w->next;
        if (loch_timeline_ready(s->timeline, w->lsn)) {
            loch_served_unwait(w);
            w->fn(w->arg, LOCH_OK);
            next = s->waiters; /* the callback may have changed the list */
        }
        w = next;
    }
}

/* Wakes the waiters of all timelines of the tenant: a branch waits for its ancestors too. */
static void progressed(struct loch_served *s)
{
    if (s->m_last != NULL) {
        loch_metric_set(s->m_last, (int64_t)loch_timeline_last_record_lsn(s->timeline));
        loch_metric_set(s->m_disk, (int64_t)loch_timeline_disk_consistent_lsn(s->timeline));
        loch_metric_set(s->m_memory, (int64_t)loch_timeline_frozen_bytes(s->timeline));
    }
    for (struct loch_served *each = s->ps->waiting, *next; each != NULL; each = next) {
        next = each->wait_next;
        if (each->waiters == NULL)
            served_waits_no_more(each);
        else if (each->timeline != NULL && loch_id_equal(&each->tenant, &s->tenant))
            wake(each);
    }
    if (s->receiver != NULL)
        loch_wal_receiver_moved(s->receiver);
    if (s->herald != NULL)
        loch_wal_herald_moved(s->herald);
}

static void fail_waiters(struct loch_served *s, loch_status st)
{
    char text[400];
    snprintf(text, sizeof text, "%s", loch_error_text());
    while (s->waiters != NULL) {
        struct loch_waiter *w = s->waiters;
        loch_served_unwait(w);
        w->fn(w->arg, LOCH_FAIL(st.code, "%s", text));
    }
}

static void stop_gathering(struct loch_served *s)
{
    loch_timer_cancel(s->gather);
    s->gather = NULL;
}

/* Ingest cannot go on; what is there can still be read, and written. */
static void stand_still(struct loch_served *s, const struct loch_failure *why)
{
    char id[LOCH_ID_TEXT_BYTES];
    s->problem_st = why->st;
    snprintf(s->problem, sizeof s->problem, "%s", why->text);
    LOCH_ERROR("timeline %s stops: %s", loch_id_format(&s->timeline_id, id), why->text);
    loch_wal_receiver_destroy(s->receiver);
    s->receiver = NULL;
    loch_wal_herald_destroy(s->herald);
    s->herald = NULL;
    loch_served_unwait(&s->parents);
    stop_gathering(s);
    s->pending.len = 0;
    note_memory(s);
    consider_flush(s);
    fail_waiters(s, loch_failure_raise(why));
}

/* A branch that waits for what an ancestor will never ingest has that one's problem. */
static void heed_ancestors(struct loch_served *s)
{
    struct loch_timeline *t = s->timeline;
    loch_lsn lsn = loch_timeline_last_record_lsn(t);
    if (!s->waiting_parents || s->problem[0] != '\0' || s->stopping)
        return;
    for (;;) {
        lsn = loch_ancestor_read_lsn(lsn, loch_timeline_info(t)->ancestor_lsn);
        t = loch_timeline_parent(t);
        if (t == NULL)
            return;
        const struct loch_served *above =
            loch_served_find(s->ps, &s->tenant, &loch_timeline_info(t)->timeline);
        if (above == NULL || above->problem[0] == '\0' || above->ingesting ||
            loch_timeline_last_record_lsn(t) >= lsn)
            continue;
        struct loch_failure why;
        loch_failure_set(&why, LOCH_FAIL(LOCH_E_UNAVAILABLE,
                                         "what it stands on stops at " LOCH_LSN_FMT
                                         ", before " LOCH_LSN_FMT ": %s",
                                         LOCH_LSN_ARG(loch_timeline_last_record_lsn(t)),
                                         LOCH_LSN_ARG(lsn), above->problem));
        stand_still(s, &why);
        return;
    }
}

static void tell_branches(struct loch_served *s)
{
    for (struct loch_served *each = s->ps->served; each != NULL; each = each->next) {
        if (each->timeline != NULL && loch_id_equal(&each->tenant, &s->tenant))
            heed_ancestors(each);
    }
}

/* It stands still, and branches that wait for it do. */
static void break_down(struct loch_served *s, const struct loch_failure *why)
{
    stand_still(s, why);
    tell_branches(s);
}

/* ---- the end of work ---- */

static void free_served(struct loch_served *s)
{
    struct loch_metrics *metrics = s->ps->metrics;
    served_delist(s);
    loch_ingest_destroy(s->ingest);
    loch_timeline_release(s->timeline);
    loch_buf_fini(&s->pending);
    loch_memory_note(s->ps, &s->memory, &(struct loch_memory_share){0});
    if (s->m_last != NULL) {
        loch_metrics_drop(metrics, s->m_last);
        loch_metrics_drop(metrics, s->m_disk);
        loch_metrics_drop(metrics, s->m_memory);
    }
    free(s);
}

static void finish_stop(void *arg)
{
    struct loch_served *s = arg;
    void (*stopped)(void *) = s->stopped;
    void *stopped_arg = s->stopped_arg;
    s->timer = NULL;
    free_served(s);
    if (stopped != NULL)
        stopped(stopped_arg);
}

static void consider_stop(struct loch_served *s)
{
    if (s->stopping && s->work == 0 && s->timer == NULL)
        loch_env_post(s->ps->env, finish_stop, s);
}

void loch_served_work_begin(struct loch_served *s)
{
    s->work++;
}

void loch_served_work_end(struct loch_served *s)
{
    s->work--;
    consider_stop(s);
}

static void stop_serving(struct loch_served *s, enum loch_code code, const char *why,
                         void (*done)(void *arg), void *arg)
{
    LOCH_ASSERT(!s->stopping);
    s->stopping = true;
    served_hide(s);
    if (s->ingest != NULL)
        loch_ingest_end(s->ingest);
    s->stopped = done;
    s->stopped_arg = arg;
    loch_timer_cancel(s->timer);
    s->timer = NULL;
    stop_gathering(s);
    loch_wal_receiver_destroy(s->receiver);
    s->receiver = NULL;
    loch_wal_herald_destroy(s->herald);
    s->herald = NULL;
    loch_served_unwait(&s->parents);
    while (s->watches != NULL) {
        struct loch_served_watch *w = s->watches;
        loch_served_watch_remove(w);
        w->gone(w->arg, LOCH_FAIL(code, "%s", why));
    }
    fail_waiters(s, LOCH_FAIL(code, "%s", why));
    consider_stop(s);
}

void loch_served_stop(struct loch_served *s, void (*done)(void *arg), void *arg)
{
    stop_serving(s, LOCH_E_NOT_FOUND, "the timeline is no longer served here", done, arg);
}

void loch_served_darken(struct loch_served *s, enum loch_code code, const char *why,
                        void (*done)(void *arg), void *arg)
{
    if (s->pending.data != NULL)
        loch_wipe(s->pending.data, s->pending.cap);
    s->pending.len = 0;
    stop_serving(s, code, why, done, arg);
}

/* ---- ingest ---- */

struct ingest_job {
    struct loch_served *served;
    struct loch_buf bytes;
    bool freeze;  /* afterwards, whatever the size */
    bool rewound; /* the stream was not WAL, or what failed may pass: begin again */
    struct loch_failure result;
};

static void ingest_work(void *arg)
{
    struct ingest_job *job = arg;
    struct loch_ingest *ingest = job->served->ingest;
    loch_status st = loch_ingest_feed(ingest, loch_buf_slice(&job->bytes));
    if (loch_is_ok(st) && job->freeze)
        st = loch_ingest_freeze(ingest);
    loch_failure_set(&job->result, st);
    if (!loch_is_ok(st) && loch_is_ok(loch_ingest_rewind(ingest)))
        job->rewound = true;
}

static void count_ingest(struct loch_served *s, size_t bytes)
{
    struct loch_ingest_stats stats;
    loch_ingest_stats(s->ingest, &stats);
    loch_metric_add(s->ps->m_records, stats.records - s->records_told);
    loch_metric_add(s->ps->m_wal_bytes, bytes);
    s->records_told = stats.records;
}

/* What is to be ingested could not be, and may be another time: soon, at the same place ever later.
 */
static void pull_again(struct loch_served *s, const char *why)
{
    const loch_lsn at = loch_timeline_last_record_lsn(s->timeline);
    s->retries = at == s->retry_lsn ? s->retries + 1 : 0;
    s->retry_lsn = at;
    LOCH_WARN("WAL is asked for again: %s", why);
    loch_wal_receiver_destroy(s->receiver);
    s->receiver = NULL;
    arm_timer(s, RETRY_MS << loch_min_u64(s->retries, RETRY_DOUBLINGS));
}

static void ingest_done(void *arg)
{
    struct ingest_job *job = arg;
    struct loch_served *s = job->served;
    s->ingesting = false;
    s->work--;
    s->fed_bytes = 0;
    s->memory_ordered = s->memory_ordered && !job->freeze;
    count_ingest(s, job->bytes.len);
    if (s->stopping && job->bytes.data != NULL) /* it may have gone dark */
        loch_wipe(job->bytes.data, job->bytes.cap);
    loch_buf_fini(&job->bytes);
    s->part_bytes = loch_ingest_part_bytes(s->ingest);
    s->pending.len = job->rewound ? 0 : s->pending.len;
    note_memory(s);
    if (s->stopping) {
        consider_stop(s);
    } else if (loch_is_ok(job->result.st)) {
        progressed(s);
        if (s->problem[0] != '\0') /* it broke down meanwhile, and this was its last */
            tell_branches(s);
        consider_flush(s);
        if (s->freeze_wanted)
            consider_ingest(s);
        gather(s);
    } else if (job->rewound) {
        pull_again(s, job->result.text);
        progressed(s);
    } else {
        progressed(s);
        break_down(s, &job->result);
    }
    free(job);
}

static bool memory_full(const struct loch_served *s)
{
    return loch_timeline_frozen_bytes(s->timeline) > 2 * s->ps->store.open_layer_bytes;
}

/* Pauses or resumes reading from the safekeeper, by what waits in memory. */
static void adjust_flow(struct loch_served *s)
{
    bool pause = s->pending.len > PENDING_MAX_BYTES || memory_full(s) ||
                 loch_memory_stops(&s->ps->memory, &s->memory, s->pending.len > 0);
    if (s->receiver == NULL || pause == s->paused)
        return;
    s->paused = pause;
    loch_wal_receiver_flow(s->receiver, !pause);
}

static void consider_ingest(struct loch_served *s)
{
    bool idle_freeze = s->freeze_wanted && s->pending.len == 0;
    if (s->ingesting || s->stopping || s->ingest == NULL || s->problem[0] != '\0' ||
        (s->pending.len == 0 && !idle_freeze))
        return;
    /* What is open can be frozen all the same: that is how memory comes back. */
    const bool full = loch_memory_stops(&s->ps->memory, &s->memory, false);
    if (memory_full(s) || (full && !s->freeze_wanted)) {
        adjust_flow(s);
        return;
    }
    struct ingest_job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return; /* the next chunk or the timer tries again */
    job->served = s;
    job->freeze = s->freeze_wanted;
    if (!full) {
        job->bytes = s->pending;
        s->fed_bytes = job->bytes.len;
        s->pending = (struct loch_buf){0};
    }
    s->freeze_wanted = false;
    s->ingesting = true;
    s->work++;
    if (!loch_is_ok(loch_env_work(s->ps->env, ingest_work, ingest_done, job))) {
        if (!full)
            s->pending = job->bytes;
        s->fed_bytes = 0;
        s->freeze_wanted = job->freeze;
        s->ingesting = false;
        s->work--;
        free(job);
    }
    adjust_flow(s);
}

static void gathered(void *arg)
{
    struct loch_served *s = arg;
    s->gather = NULL;
    consider_ingest(s);
}

/* Ingests what is pending, at once if somebody waits or it is much, else after a moment. */
static void gather(struct loch_served *s)
{
    if (s->ingesting || s->stopping || s->pending.len == 0)
        return;
    if (s->waiters == NULL && s->pending.len < GATHER_BYTES &&
        (s->gather != NULL ||
         loch_is_ok(loch_env_timer(s->ps->env, GATHER_MS, &s->gather, gathered, s))))
        return;
    stop_gathering(s);
    consider_ingest(s);
}

/* ---- flush ---- */

struct flush_job {
    struct loch_served *served;
    bool settles; /* the timeline's first */
    struct loch_failure result;
};

/* One layer at a time: whoever waits for memory need not wait for all of it. */
static void flush_work(void *arg)
{
    struct flush_job *job = arg;
    loch_failure_set(&job->result, loch_timeline_flush_oldest(job->served->timeline));
}

static void flush_done(void *arg)
{
    struct flush_job *job = arg;
    struct loch_served *s = job->served;
    s->flushing = false;
    s->work--;
    s->ps->settling -= job->settles;
    const loch_status st = job->result.st;
    note_memory(s);
    loch_metric_add(s->ps->m_flushes, 1);
    if (s->stopping) {
        consider_stop(s);
    } else if (st.code == LOCH_E_STALE || st.code == LOCH_E_EXISTS) {
        s->flush_barred = true;
        struct loch_failure why = job->result;
        snprintf(why.text, sizeof why.text, "another pageserver has taken the timeline over (%s)",
                 job->result.text);
        break_down(s, &why);
    } else if (st.code == LOCH_E_LIMIT) {
        s->flush_barred = true;
        struct loch_failure why = job->result; /* it would be no smaller at the next try */
        snprintf(why.text, sizeof why.text, "a layer cannot be written: %s", job->result.text);
        break_down(s, &why);
    } else if (!loch_is_ok(st)) {
        LOCH_ERROR("a layer could not be written, will try again: %s", job->result.text);
        s->flush_failed = true;
        arm_timer(s, RETRY_MS);
    } else {
        progressed(s);
        consider_flush(s);
        consider_ingest(s);
        adjust_flow(s);
    }
    free(job);
}

static void consider_flush(struct loch_served *s)
{
    if (s->flushing || s->stopping || s->flush_failed || s->flush_barred || s->timeline == NULL ||
        loch_timeline_frozen_bytes(s->timeline) == 0)
        return;
    struct flush_job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return;
    *job = (struct flush_job){.served = s, .settles = !loch_timeline_settled(s->timeline)};
    s->flushing = true;
    s->work++;
    s->ps->settling += job->settles;
    if (!loch_is_ok(loch_env_work(s->ps->env, flush_work, flush_done, job))) {
        s->flushing = false;
        s->work--;
        s->ps->settling -= job->settles;
        free(job);
    }
}

void loch_served_flush_soon(struct loch_served *s)
{
    s->freeze_wanted = true;
    consider_ingest(s);
}

const struct loch_memory_share *loch_served_memory(const struct loch_served *s)
{
    return &s->memory;
}

bool loch_served_relieve(struct loch_served *s)
{
    if (s->stopping || s->ingest == NULL || s->problem[0] != '\0' || s->memory_ordered)
        return false;
    s->memory_ordered = true;
    note_memory(s);
    loch_served_flush_soon(s);
    return true;
}

bool loch_served_give_way(struct loch_served *s)
{
    if (s->ingesting || s->stopping || s->ingest == NULL || s->problem[0] != '\0' ||
        !loch_is_ok(loch_ingest_rewind(s->ingest)))
        return false;
    loch_buf_fini(&s->pending);
    s->part_bytes = 0;
    note_memory(s);
    pull_again(s, "the rest of a long record does not come, and others wait for the memory");
    return true;
}

void loch_served_flushed(struct loch_served *s)
{
    if (s->timeline == NULL || s->stopping)
        return;
    note_memory(s);
    progressed(s);
    loch_served_flow(s);
}

void loch_served_flow(struct loch_served *s)
{
    if (s->timeline == NULL || s->stopping)
        return;
    consider_ingest(s);
    adjust_flow(s);
}

bool loch_served_told(const struct loch_served *s)
{
    return s->herald == NULL || loch_wal_herald_all_told(s->herald);
}

bool loch_served_rests(struct loch_served *s)
{
    if (s->watches != NULL || s->work > 0 || s->stopping)
        return false;
    if (s->timeline == NULL || s->problem[0] != '\0')
        return true;
    if (s->waiters != NULL || s->pending.len > 0 || s->waiting_parents ||
        !loch_timeline_settled(s->timeline))
        return false;
    const loch_lsn last = loch_timeline_last_record_lsn(s->timeline);
    /* Records that change nothing make no layer: then a flush does not reach the last one. */
    if (last == loch_timeline_disk_consistent_lsn(s->timeline) ||
        (last == s->rest_lsn && !s->freeze_wanted && loch_timeline_frozen_bytes(s->timeline) == 0))
        return true;
    s->rest_lsn = last;
    loch_served_flush_soon(s);
    return false;
}

/* ---- the receiver's events ---- */

static loch_status on_wal(void *arg, loch_lsn begin, struct loch_slice bytes)
{
    struct loch_served *s = arg;
    LOCH_TRY(loch_buf_append(&s->pending, bytes.data, bytes.len));
    s->pulled_lsn = begin + bytes.len;
    note_memory(s);
    gather(s);
    adjust_flow(s);
    return LOCH_OK;
}

/* Out of memory in on_wal: go on behind what was taken. */
static loch_lsn on_restart(void *arg)
{
    return ((const struct loch_served *)arg)->pulled_lsn;
}

static void on_state(void *arg, const struct loch_wal_pull_state *state)
{
    struct loch_served *s = arg;
    s->commit_lsn = loch_max_u64(s->commit_lsn, state->commit_lsn);
    if (state->term <= s->term && state->compute_epoch <= s->min_epoch)
        return;
    s->term = loch_max_u64(s->term, state->term);
    s->min_epoch = loch_max_u64(s->min_epoch, state->compute_epoch);
    for (struct loch_served_watch *w = s->watches, *next; w != NULL; w = next) {
        next = w->next;
        w->term(w->arg);
    }
}

static loch_lsn on_wanted(void *arg)
{
    const struct loch_served *s = arg;
    loch_lsn wanted = 0;

    for (const struct loch_waiter *w = s->waiters; w != NULL; w = w->next)
        wanted = loch_max_u64(wanted, w->lsn);
    return wanted;
}

static void on_positions(void *arg, struct loch_wal_pull_feedback *out)
{
    struct loch_served *s = arg;
    out->last_record_lsn = loch_timeline_last_record_lsn(s->timeline);
    out->disk_consistent_lsn = loch_timeline_disk_consistent_lsn(s->timeline);
    out->remote_consistent_lsn = out->disk_consistent_lsn;
}

static const struct loch_peer *peers_now(void *arg, size_t *count)
{
    return loch_served_safekeepers(arg, count);
}

static void pull_wal(struct loch_served *s)
{
    struct loch_wal_receiver_options options = {
        .env = s->ps->env,
        .keys = s->ps->keys,
        .config = &s->ps->config,
        .tenant = s->tenant,
        .timeline = s->timeline_id,
        .from = loch_timeline_last_record_lsn(s->timeline),
        .events = {on_wal, on_restart, on_state, on_wanted, on_positions},
        .arg = s};
    s->paused = false;
    s->pulled_lsn = options.from;
    if (s->herald == NULL && !loch_is_ok(loch_wal_herald_create(&options, peers_now, &s->herald)))
        loch_log_failure("safekeepers will not hear what is persisted");
    else if (s->herald != NULL)
        loch_wal_herald_moved(s->herald);
    if (!loch_is_ok(loch_wal_receiver_create(&options, &s->receiver))) {
        loch_log_failure("cannot pull WAL, will try again");
        s->receiver = NULL;
        arm_timer(s, RETRY_MS);
    }
}

/* ---- timers and birth ---- */

static uint64_t settle_after_ms(struct loch_env *env)
{
    const uint64_t now = loch_env_now_ns(env) / 1000000;
    return (now / SETTLE_AFTER_MS + 2) * SETTLE_AFTER_MS - now;
}

static void timer_fired(void *arg)
{
    struct loch_served *s = arg;
    s->timer = NULL;
    s->flush_failed = false;
    if (s->problem[0] != '\0') {
        consider_flush(s);
        return;
    }
    if (!loch_timeline_settled(s->timeline) && s->ps->settling >= SETTLE_AT_ONCE) {
        arm_timer(s, SETTLE_AGAIN_MS + s->timeline_id.bytes[0] % 64); /* not all at once again */
        return;
    }
    note_memory(s); /* who waits for another's long record looks after it */
    if (s->receiver == NULL && !s->waiting_parents)
        pull_wal(s);
    else if (loch_timeline_settled(s->timeline) && loch_timeline_open_bytes(s->timeline) > 0)
        s->freeze_wanted = true;
    consider_ingest(s);
    consider_flush(s);
    if (s->timer == NULL)
        arm_timer(s, s->ps->config.checkpoint_ms);
}

static void arm_timer(struct loch_served *s, uint64_t ms)
{
    if (s->timer != NULL)
        loch_timer_cancel(s->timer);
    s->timer = NULL;
    if (!loch_is_ok(loch_env_timer(s->ps->env, ms, &s->timer, timer_fired, s)))
        loch_log_failure("cannot set a timer of a timeline");
}

static void parents_ready(void *arg, loch_status st)
{
    struct loch_served *s = arg;
    s->waiting_parents = false;
    if (loch_is_ok(st))
        pull_wal(s);
}

LOCH_STATUS loch_served_create_broken(struct loch_pageserver *ps, const struct loch_id *tenant,
                                      const struct loch_id *timeline, loch_status why,
                                      struct loch_served **out)
{
    char text[400];
    snprintf(text, sizeof text, "%s", loch_error_text());
    LOCH_TRY(served_enlist(ps, tenant, timeline, out));
    (*out)->problem_st = why;
    snprintf((*out)->problem, sizeof(*out)->problem, "%s", text);
    return LOCH_OK;
}

LOCH_STATUS loch_served_create_archived(struct loch_pageserver *ps, const struct loch_id *tenant,
                                        const struct loch_id *timeline)
{
    struct loch_served *s = NULL;
    loch_status why =
        LOCH_FAIL(LOCH_E_UNAVAILABLE, "it is archived: loch branch unarchive brings it back");
    LOCH_TRY(loch_served_create_broken(ps, tenant, timeline, why, &s));
    s->archived = true;
    return LOCH_OK;
}

static void make_metrics(struct loch_served *s)
{
    char tenant[LOCH_ID_TEXT_BYTES], timeline[LOCH_ID_TEXT_BYTES];
    struct loch_label labels[2] = {{"tenant", loch_id_format(&s->tenant, tenant)},
                                   {"timeline", loch_id_format(&s->timeline_id, timeline)}};
    s->m_last = loch_metrics_gauge(s->ps->metrics, "loch_pageserver_last_record_lsn",
                                   "End of the last ingested record.", labels, 2);
    s->m_disk = loch_metrics_gauge(s->ps->metrics, "loch_pageserver_disk_consistent_lsn",
                                   "LSN up to which layers are written.", labels, 2);
    s->m_memory = loch_metrics_gauge(s->ps->metrics, "loch_pageserver_frozen_bytes",
                                     "Frozen layers that wait to be written.", labels, 2);
}

LOCH_STATUS loch_served_create(struct loch_pageserver *ps, struct loch_timeline *take_timeline,
                               struct loch_served **out)
{
    struct loch_served *s = NULL;
    struct loch_ingest *ingest = NULL;
    const struct loch_timeline_info *info = loch_timeline_info(take_timeline);
    loch_status st = loch_ingest_create(take_timeline, &ingest);
    if (loch_is_ok(st))
        st = served_enlist(ps, &info->tenant, &info->timeline, &s);
    if (!loch_is_ok(st)) {
        loch_ingest_destroy(ingest);
        loch_timeline_release(take_timeline);
        return st;
    }
    s->timeline = take_timeline;
    s->ingest = ingest;
    make_metrics(s);
    note_memory(s);
    arm_timer(s, loch_timeline_settled(take_timeline) ? ps->config.checkpoint_ms
                                                      : settle_after_ms(ps->env));
    loch_lsn here = loch_timeline_last_record_lsn(take_timeline);
    if (loch_timeline_ready(take_timeline, here)) {
        pull_wal(s);
    } else {
        s->waiting_parents = true;
        s->parents = (struct loch_waiter){.lsn = here, .fn = parents_ready, .arg = s};
        loch_served_wait(s, &s->parents);
        heed_ancestors(s);
    }
    *out = s;
    return LOCH_OK;
}

LOCH_STATUS loch_served_enter(struct loch_pageserver *ps, const struct loch_id *tenant,
                              const struct loch_id *timeline, struct loch_timeline *take_timeline,
                              const struct loch_failure *why)
{
    const struct loch_id of = *tenant, id = *timeline; /* they may go with the timeline */
    struct loch_served *served = NULL;
    struct loch_failure kept;
    loch_status st = loch_keys_blocked(ps->keys, &of, &id);
    const bool blocked = !loch_is_ok(st);
    if (!blocked && take_timeline != NULL)
        return loch_served_create(ps, take_timeline, &served);
    if (!blocked)
        st = loch_failure_raise(why);
    loch_failure_set(&kept, st);
    loch_log_failure("a timeline is not served");
    if (!blocked) /* else it comes with its key */
        loch_revocation_retry(ps, &of, &id, st);
    loch_timeline_release(take_timeline);
    loch_page_cache_drop(ps->cache, &of, &id);
    return loch_served_create_broken(ps, &of, &id, loch_failure_raise(&kept), &served);
}
