/* Holds: the acceptor's host. Invariants: effects are carried out in order and completely before
 * the next event; an answer leaves only after the disk effect it rests on; a timeline that could
 * not be read is never served. */
#include "timeline.h"

#include "drop.h"
#include "export.h"
#include "members.h"
#include "scrub.h"
#include "service.h"
#include "witness.h"

#include "loch/base/check.h"
#include "loch/base/log.h"

#include <stdio.h>
#include <stdlib.h>

#define QUEUED_MAX_BYTES (32u << 20) /* of WAL not yet written, per timeline; ... */
#define QUEUED_MIN_BYTES (1u << 20)  /* ... while memory is short */
#define PARK_POLL_MS     10u

const char *sk_state_name(enum sk_state state)
{
    switch (state) {
    case SK_OPENING:
        return "opening";
    case SK_ACTIVE:
        return "active";
    case SK_WAITING:
        return "waiting";
    case SK_BROKEN:
        return "broken";
    case SK_DROPPING:
        return "dropping";
    }
    return "?";
}

loch_status sk_timeline_check(const struct sk_timeline *tl)
{
    switch (tl->state) {
    case SK_ACTIVE:
        return LOCH_OK;
    case SK_OPENING:
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "timeline %s is being opened", tl->timeline_text);
    case SK_WAITING:
        loch_keys_want(tl->daemon->keys, &tl->tenant); /* it may be asleep */
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "timeline %s waits: %s", tl->timeline_text, tl->why);
    case SK_BROKEN:
        return LOCH_FAIL(LOCH_E_CORRUPT, "timeline %s is broken on this safekeeper",
                         tl->timeline_text);
    case SK_DROPPING:
        break;
    }
    return LOCH_FAIL(LOCH_E_NOT_FOUND, "timeline %s is being dropped", tl->timeline_text);
}

loch_status sk_timeline_lease(const struct sk_timeline *tl)
{
    if (!loch_is_ok(loch_keys_usable(tl->daemon->keys, &tl->tenant, &tl->timeline)))
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "%s", loch_error_text());
    return LOCH_OK;
}

bool sk_is_shortage(loch_status st)
{
    return st.code == LOCH_E_LIMIT || loch_status_passes(st);
}

/* ---- effects ---- */

/* A key that may not be used any more is no failure of the disk: the timeline is parked. */
static bool key_is_gone(struct sk_timeline *tl, loch_status st)
{
    char why[SK_TEXT_BYTES];

    if (st.code != LOCH_E_KEY_REVOKED && st.code != LOCH_E_KMS_UNAVAILABLE)
        return false;
    (void)snprintf(why, sizeof why, "%s", loch_error_text());
    sk_timeline_park(tl, LOCH_E_UNAVAILABLE, why); /* a revocation parks first, and says so */
    return true;
}

static void persist(struct sk_timeline *tl, const struct loch_acceptor_effect *e)
{
    struct sk_control control = tl->control;
    struct loch_buf sealed = {0};

    control.acceptor = e->control;
    control.incarnation = tl->daemon->incarnation;
    control.sequence = ++tl->control.sequence;
    control.last_seq = sk_store_last_seq(tl->store);
    sk_store_anchor(tl->store, e->control.commit_lsn, &control.anchor_lsn,
                    &control.anchor_prev_lsn);
    sk_trim_persist(tl, e->token, &control);
    loch_status st = sk_control_seal(&control, &tl->sealer, &sealed);
    if (key_is_gone(tl, st))
        return;
    if (!loch_is_ok(st))
        sk_daemon_fail_stop("cannot seal a control file", st);
    sk_store_persist(tl->store, e->token, &sealed);
}

/* Returns false when the bytes are not WAL. */
static bool carry_out(struct sk_timeline *tl, const struct loch_acceptor_effect *e)
{
    switch (e->kind) {
    case LOCH_ACCEPTOR_PERSIST:
        persist(tl, e);
        break;
    case LOCH_ACCEPTOR_TRUNCATE: {
        struct loch_acceptor_view view;
        loch_acceptor_look(tl->acceptor, &view);
        sk_store_truncate(tl->store, e->token, e->begin, view.term);
        break;
    }
    case LOCH_ACCEPTOR_WRITE: {
        size_t len = (size_t)(e->end - e->begin);
        LOCH_ASSERT(e->skip + len <= tl->input.len);
        return loch_is_ok(sk_store_write(tl->store, e->token, e->begin, e->term,
                                         loch_slice_of(tl->input.data + e->skip, len)));
    }
    case LOCH_ACCEPTOR_SYNC:
        sk_store_sync(tl->store, e->token);
        break;
    case LOCH_ACCEPTOR_SEND:
        LOCH_ASSERT(e->after <= tl->done_token);
        sk_service_send(tl, e->conn, &e->message);
        break;
    case LOCH_ACCEPTOR_CLOSE:
        sk_service_close(tl, e->conn, e->code, tl->not_wal[0] != '\0' ? tl->not_wal : e->text);
        break;
    case LOCH_ACCEPTOR_RECOVER:
        sk_recovery_order(tl, e->term, e->begin, e->end);
        break;
    case LOCH_ACCEPTOR_REFRESH:
        sk_members_refresh(tl);
        break;
    }
    return true;
}

static void pause_if_full(struct sk_timeline *tl)
{
    struct sk_memory *memory = &tl->daemon->memory;
    const size_t queued = sk_store_queued(tl->store);

    sk_memory_count(memory, &tl->queued_bytes, queued);
    const size_t most = sk_memory_share(memory, QUEUED_MIN_BYTES, QUEUED_MAX_BYTES);
    if (!tl->paused && queued > most)
        tl->paused = true;
    else if (tl->paused && queued < most / 2)
        tl->paused = false;
    else
        return;
    sk_service_pause(tl, tl->paused);
    sk_recovery_pause(tl, tl->paused || tl->hold[0] != '\0');
}

/* Tells readers what is new. */
static void publish(struct sk_timeline *tl)
{
    struct loch_acceptor_view view;

    loch_acceptor_look(tl->acceptor, &view);
    bool state = view.installed_term != tl->seen_term || view.min_compute_epoch != tl->seen_epoch;
    bool advanced = view.commit_lsn != tl->seen_commit || view.flush_lsn != tl->seen_flush;
    if (view.commit_lsn > tl->seen_commit)
        loch_metric_add(tl->daemon->stats.commits, 1);
    tl->seen_term = view.installed_term;
    tl->seen_epoch = view.min_compute_epoch;
    tl->seen_commit = view.commit_lsn;
    tl->seen_flush = view.flush_lsn;
    if (view.installed_term != tl->said_term && !view.installing) {
        tl->said_term = view.installed_term;
        tl->wary = false;
        LOCH_INFO("timeline %s: term %" PRIu64 " begins at " LOCH_LSN_FMT, tl->timeline_text,
                  view.installed_term, LOCH_LSN_ARG(view.term_start));
    }
    if (view.generation != tl->seen_generation) {
        tl->seen_generation = view.generation;
        LOCH_INFO("timeline %s: membership of generation %" PRIu64 ", %" PRIu32 " safekeepers%s",
                  tl->timeline_text, view.generation, view.membership->count,
                  loch_membership_joint(view.membership) ? ", a change is under way" : "");
        sk_recovery_look(tl);
        state = true;
    }
    if (state || advanced)
        sk_sender_kick(tl, state);
    if (advanced)
        sk_export_kick(tl);
}

/* The scanner has refused what was to be written. */
static loch_status poisoned(struct sk_timeline *tl)
{
    (void)snprintf(tl->not_wal, sizeof tl->not_wal, "what was sent is not WAL: %s",
                   loch_error_text());
    return loch_acceptor_poisoned(tl->acceptor, sk_store_end(tl->store), &tl->effects);
}

/* Carries out what an event brought about. `st`: the event's own. */
static void run(struct sk_timeline *tl, loch_status st)
{
    tl->not_wal[0] = '\0';
    for (;;) {
        bool good = true;
        if (tl->parked)
            return; /* an answer of the disk to what nobody waits for */
        if (!loch_is_ok(st))
            sk_daemon_fail_stop("the consensus ran out of memory", st);
        for (size_t i = 0; i < tl->effects.count && !tl->parked; i++)
            good = carry_out(tl, &tl->effects.items[i]) && good;
        loch_acceptor_effects_clear(&tl->effects);
        if (tl->parked)
            return;
        if (good)
            break;
        st = poisoned(tl);
    }
    tl->input = (struct loch_slice){0};
    pause_if_full(tl);
    publish(tl);
}

void sk_timeline_hello(struct sk_timeline *tl, struct loch_acceptor_from from,
                       const struct loch_wal_hello *m)
{
    run(tl, loch_acceptor_hello(tl->acceptor, from, m, &tl->effects));
}

void sk_timeline_vote(struct sk_timeline *tl, struct loch_acceptor_from from,
                      const struct loch_wal_vote *m)
{
    loch_metric_add(tl->daemon->stats.votes, 1);
    run(tl, loch_acceptor_vote(tl->acceptor, from, m, &tl->effects));
}

void sk_timeline_elected(struct sk_timeline *tl, struct loch_acceptor_from from,
                         const struct loch_wal_elected *m)
{
    run(tl, loch_acceptor_elected(tl->acceptor, from, m, &tl->effects));
}

void sk_timeline_append(struct sk_timeline *tl, struct loch_acceptor_from from,
                        const struct loch_wal_append *m)
{
    loch_metric_add(tl->daemon->stats.appends, 1);
    loch_metric_add(tl->daemon->stats.append_bytes, m->bytes.len);
    tl->input = m->bytes;
    run(tl, loch_acceptor_append(tl->acceptor, from, m, &tl->effects));
}

void sk_timeline_gone(struct sk_timeline *tl, uint64_t conn)
{
    struct loch_acceptor_view view;

    loch_acceptor_closed(tl->acceptor, conn);
    loch_acceptor_look(tl->acceptor, &view);
    if (!view.led)
        sk_recovery_look(tl);
}

loch_status sk_timeline_recovered(struct sk_timeline *tl, uint64_t term, loch_lsn begin,
                                  struct loch_slice bytes, loch_lsn commit_lsn)
{
    loch_metric_add(tl->daemon->stats.recovered_bytes, bytes.len);
    tl->input = bytes;
    run(tl,
        loch_acceptor_recovered(tl->acceptor, term, begin, bytes.len, commit_lsn, &tl->effects));
    if (tl->not_wal[0] != '\0')
        return LOCH_FAIL(LOCH_E_CORRUPT, "%s", tl->not_wal);
    return LOCH_OK;
}

loch_status sk_timeline_configure(struct sk_timeline *tl, const struct loch_membership *m)
{
    loch_status st = loch_acceptor_configure(tl->acceptor, m, &tl->effects);

    if (st.code == LOCH_E_CORRUPT)
        return st;
    run(tl, st);
    return LOCH_OK;
}

void sk_timeline_peer_state(struct sk_timeline *tl, const struct loch_wal_pull_state *m)
{
    if (!tl->wary)
        run(tl, loch_acceptor_peer_state(tl->acceptor, m, &tl->effects));
}

void sk_timeline_feedback(struct sk_timeline *tl, const struct loch_wal_pull_feedback *m)
{
    tl->reader_lsn = loch_max_u64(tl->reader_lsn, m->last_record_lsn);
    tl->persisted_lsn = loch_max_u64(tl->persisted_lsn, m->disk_consistent_lsn);
    tl->remote_lsn = loch_max_u64(tl->remote_lsn, m->remote_consistent_lsn);
    loch_acceptor_feedback(tl->acceptor, tl->reader_lsn, tl->persisted_lsn);
}

void sk_timeline_tick(struct sk_timeline *tl)
{
    if (tl->state == SK_ACTIVE) {
        sk_store_tick(tl->store);
        sk_trim_tick(tl);
        sk_recovery_tick(tl);
        run(tl, loch_acceptor_tick(tl->acceptor, &tl->effects));
    } else if (tl->state == SK_WAITING && !tl->job && !tl->parked &&
               loch_env_now_ns(tl->daemon->env) >= tl->retry_ns) {
        if (!loch_is_ok(sk_timeline_open(tl, NULL)))
            loch_log_failure("cannot open a timeline");
    }
}

/* ---- the disk's events ---- */

static void disk_done(struct sk_timeline *tl, uint64_t token)
{
    LOCH_ASSERT(token > tl->done_token);
    tl->done_token = token;
    tl->daemon->work++;
}

static void persisted(void *arg, uint64_t token)
{
    struct sk_timeline *tl = arg;

    disk_done(tl, token);
    if (tl->parked)
        return;
    sk_trim_persisted(tl, token);
    run(tl, loch_acceptor_persisted(tl->acceptor, token, &tl->effects));
}

static void truncated(void *arg, uint64_t token, loch_lsn prev_lsn)
{
    struct sk_timeline *tl = arg;

    disk_done(tl, token);
    tl->synced_lsn = sk_store_end(tl->store);
    if (tl->parked)
        return;
    LOCH_INFO("timeline %s: WAL is cut at " LOCH_LSN_FMT, tl->timeline_text,
              LOCH_LSN_ARG(tl->synced_lsn));
    run(tl, loch_acceptor_truncated(tl->acceptor, token, prev_lsn, &tl->effects));
}

static void synced(void *arg, uint64_t token, loch_lsn flush_lsn, loch_lsn prev_lsn)
{
    struct sk_timeline *tl = arg;

    disk_done(tl, token);
    tl->synced_lsn = flush_lsn;
    if (tl->parked)
        return;
    run(tl, loch_acceptor_synced(tl->acceptor, token, flush_lsn, prev_lsn, &tl->effects));
}

static void failed(void *arg, loch_status st)
{
    struct sk_timeline *tl = arg;
    char what[SK_PATH_BYTES + 64];

    if (key_is_gone(tl, st))
        return;
    /* Parked, too: opened again here it would find in the page cache what could not be written. */
    (void)snprintf(what, sizeof what, "timeline in %s: the disk failed", tl->dir);
    sk_daemon_fail_stop(what, st);
}

/* A history that no honest leader can have: whoever sent it is refused, or, a peer that has taken
 * it over, not followed again. The acceptor's state was ahead of the disk, which has not changed:
 * it is read anew. */
static void uncut(void *arg, loch_status st)
{
    struct sk_timeline *tl = arg;
    struct loch_acceptor_view view;
    char why[SK_TEXT_BYTES];

    if (tl->parked)
        return;
    (void)snprintf(why, sizeof why, "%s", loch_error_text());
    loch_acceptor_look(tl->acceptor, &view);
    if (view.installing_conn != 0)
        sk_service_close(tl, view.installing_conn, st.code,
                         "the history would have WAL cut where no record ends");
    else
        tl->wary = true;
    sk_timeline_park(tl, LOCH_E_UNAVAILABLE, why);
}

static const struct sk_store_events store_events = {.persisted = persisted,
                                                    .truncated = truncated,
                                                    .synced = synced,
                                                    .failed = failed,
                                                    .uncut = uncut};

/* ---- life ---- */

static loch_status wrap_key(void *arg, const struct loch_id *tenant, const struct loch_id *timeline,
                            struct loch_wrap_key *out)
{
    return loch_keys_wrap_key(arg, tenant, timeline, LOCH_PURPOSE_WAL, out);
}

loch_status sk_timeline_new(struct sk_daemon *daemon, const struct loch_id *tenant,
                            const struct loch_id *timeline, struct sk_timeline **out)
{
    struct sk_timeline *tl = calloc(1, sizeof *tl);

    if (tl == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a timeline");
    tl->daemon = daemon;
    tl->tenant = *tenant;
    tl->timeline = *timeline;
    (void)loch_id_format(tenant, tl->tenant_text);
    (void)loch_id_format(timeline, tl->timeline_text);
    int n = snprintf(tl->dir, sizeof tl->dir, "%s/tenants/%s/timelines/%s", daemon->dir,
                     tl->tenant_text, tl->timeline_text);
    if (n < 0 || (size_t)n + 32 > sizeof tl->dir) {
        free(tl);
        return LOCH_FAIL(LOCH_E_LIMIT, "the path %s is too long", daemon->dir);
    }
    tl->sealer = (struct sk_sealer){.env = daemon->env,
                                    .wrap_key = wrap_key,
                                    .wrap_key_arg = daemon->keys,
                                    .keys = loch_keys_source(daemon->keys),
                                    .tenant = *tenant,
                                    .timeline = *timeline,
                                    .node = daemon->node,
                                    .incarnation = daemon->incarnation};
    tl->state = SK_OPENING;
    tl->next_conn = 1;
    *out = tl;
    return LOCH_OK;
}

static void give_back(struct sk_timeline *tl)
{
    sk_recovery_destroy(tl);
    tl->recovery = NULL;
    sk_store_destroy(tl->store);
    tl->store = NULL;
    sk_memory_count(&tl->daemon->memory, &tl->queued_bytes, 0);
    loch_acceptor_destroy(tl->acceptor);
    tl->acceptor = NULL;
    loch_acceptor_effects_fini(&tl->effects);
    sk_control_fini(&tl->control);
    tl->control = (struct sk_control){0};
}

void sk_timeline_empty(struct sk_timeline *tl)
{
    LOCH_ASSERT(sk_timeline_idle(tl));
    loch_timer_cancel(tl->parks);
    tl->parks = NULL;
    tl->parked = false;
    tl->synced_lsn = 0;
    sk_lsn_metrics_drop(tl);
    give_back(tl);
}

void sk_timeline_destroy(struct sk_timeline *tl)
{
    sk_timeline_empty(tl);
    free(tl);
}

bool sk_timeline_idle(const struct sk_timeline *tl)
{
    return !tl->job && (tl->store == NULL || sk_store_idle(tl->store)) && sk_recovery_idle(tl) &&
           sk_scrub_idle(tl) && sk_archive_idle(tl) && tl->members_jobs == 0 &&
           !sk_service_uses(tl) && !sk_export_uses(tl);
}

bool sk_timeline_rests(const struct sk_timeline *tl)
{
    return sk_timeline_idle(tl) && !tl->parked && tl->state != SK_OPENING &&
           (tl->state != SK_ACTIVE || !sk_archive_owes(tl));
}

bool sk_timeline_wakes(const struct sk_timeline *tl)
{
    return tl->state == SK_OPENING || tl->parked ||
           (tl->state == SK_WAITING && (tl->retry_ns == 0 || tl->retry_ns == UINT64_MAX));
}

void sk_timeline_quiesce(struct sk_timeline *tl, const char *why)
{
    (void)sk_recovery_stop(tl);
    sk_scrub_stop(tl);
    sk_service_drop(tl, LOCH_E_UNAVAILABLE, why);
    sk_export_drop(tl, why);
}

/* Connections are closed and nothing is in flight: what was in memory goes. */
static void park_later(void *arg)
{
    struct sk_timeline *tl = arg;

    tl->parks = NULL;
    if (!sk_timeline_idle(tl)) {
        loch_status st = loch_env_timer(tl->daemon->env, PARK_POLL_MS, &tl->parks, park_later, tl);
        if (!loch_is_ok(st))
            sk_daemon_fail_stop("cannot start a timer", st);
        return;
    }
    give_back(tl);
    tl->parked = false;
    tl->paused = false;
    LOCH_INFO("timeline %s: all that its keys had opened is wiped", tl->timeline_text);
    sk_daemon_wiped(tl->daemon, &tl->tenant, &tl->timeline);
}

void sk_timeline_park(struct sk_timeline *tl, enum loch_code code, const char *why)
{
    const bool broken = tl->state == SK_BROKEN && tl->store != NULL;

    if ((tl->state != SK_ACTIVE && !broken) || tl->parked)
        return;
    tl->parked = true;
    if (!broken) { /* else it stays so, for the reason it has */
        tl->state = SK_WAITING;
        tl->said = true;
        tl->retry_ns = loch_env_now_ns(tl->daemon->env) + UINT64_C(3000000000);
        (void)snprintf(tl->why, sizeof tl->why, "%s", why);
    }
    LOCH_WARN("timeline %s of tenant %s is parked: %s", tl->timeline_text, tl->tenant_text, why);
    (void)sk_recovery_stop(tl);
    sk_scrub_stop(tl);
    sk_service_cut(tl, code, why);
    sk_export_cut(tl, why);
    loch_status st = loch_env_timer(tl->daemon->env, 0, &tl->parks, park_later, tl);
    if (!loch_is_ok(st))
        sk_daemon_fail_stop("cannot start a timer", st);
}

bool sk_timeline_holds_plaintext(const struct sk_timeline *tl)
{
    return tl->parked || tl->store != NULL || tl->job; /* which may have opened them already */
}

void sk_timeline_break(struct sk_timeline *tl, const char *why)
{
    if (tl->state != SK_ACTIVE)
        return;
    (void)snprintf(tl->why, sizeof tl->why, "%s", why);
    tl->state = SK_BROKEN;
    LOCH_ERROR("timeline %s of tenant %s is broken: %s", tl->timeline_text, tl->tenant_text,
               tl->why);
    (void)sk_recovery_stop(tl);
    sk_service_drop(tl, LOCH_E_CORRUPT, "the timeline is broken on this safekeeper");
    sk_export_drop(tl, "the timeline is broken on this safekeeper");
}

struct open_job {
    struct sk_timeline *tl;
    bool create;
    struct sk_timeline_spec spec;
    struct sk_control control;
    struct sk_wal_found found;
    bool keys_failed;
    bool left; /* a creation: there is something in its directory */
    struct sk_failure failure;
};

static loch_status write_first_control(struct open_job *job)
{
    const struct sk_timeline *tl = job->tl;
    const struct sk_timeline_spec *spec = &job->spec;
    struct sk_control control = {.system_id = spec->system_id,
                                 .pg_version = spec->pg_version,
                                 .segment_bytes = spec->segment_bytes,
                                 .incarnation = tl->daemon->incarnation,
                                 .sequence = 1,
                                 .anchor_lsn = spec->start_lsn,
                                 .trim_lsn = spec->start_lsn,
                                 .anchor_prev_lsn = spec->prev_lsn};
    struct loch_buf sealed = {0};
    char path[SK_PATH_BYTES + 16];
    loch_status st;

    LOCH_TRY(loch_env_random(tl->daemon->env, control.member.bytes, sizeof control.member.bytes));
    LOCH_TRY(loch_acceptor_control_init(&control.acceptor, spec->start_lsn, spec->prev_lsn));
    LOCH_TRY_OUT(st, sk_control_seal(&control, &tl->sealer, &sealed));
    LOCH_TRY_OUT(st, loch_env_mkdirs(tl->daemon->env, tl->dir));
    (void)snprintf(path, sizeof path, "%s/" SK_CONTROL_NAME, tl->dir);
    LOCH_TRY_OUT(st, loch_env_create_file(tl->daemon->env, path, loch_buf_slice(&sealed)));
    (void)snprintf(path, sizeof path, "%s/..", tl->dir);
    LOCH_TRY_OUT(st, loch_env_sync_dir(tl->daemon->env, path));
    (void)snprintf(path, sizeof path, "%s/../..", tl->dir);
    LOCH_TRY_OUT(st, loch_env_sync_dir(tl->daemon->env, path));
    (void)snprintf(path, sizeof path, "%s/../../..", tl->dir);
    LOCH_TRY_OUT(st, loch_env_sync_dir(tl->daemon->env, path));
out:
    loch_buf_fini(&sealed);
    sk_control_fini(&control);
    return st;
}

/* The mark that the node's witness leaves (witness.h) says why. */
static loch_status check_put_back(const struct sk_timeline *tl)
{
    struct loch_buf why = {0};
    char path[SK_PATH_BYTES + 16];

    (void)snprintf(path, sizeof path, "%s/" SK_PUT_BACK_NAME, tl->dir);
    loch_status st = loch_env_read_file(tl->daemon->env, path, SK_TEXT_BYTES, &why);
    if (st.code == LOCH_E_NOT_FOUND)
        st = LOCH_OK;
    else if (loch_is_ok(st))
        st = LOCH_FAIL(LOCH_E_CORRUPT,
                       "put back from an older copy (%.*s; remove %s only if nothing was "
                       "acknowledged since that copy was made)",
                       (int)why.len, (const char *)why.data, path);
    loch_buf_fini(&why);
    return st;
}

static loch_status open_steps(struct open_job *job)
{
    const struct sk_timeline *tl = job->tl;

    job->keys_failed = true;
    if (!job->create)
        LOCH_TRY(loch_keys_usable(tl->daemon->keys, &tl->tenant, &tl->timeline));
    if (job->create)
        LOCH_TRY(loch_keys_tenant_load(tl->daemon->keys, &tl->tenant));
    else if (!loch_keys_has(tl->daemon->keys, &tl->tenant, &tl->timeline))
        LOCH_TRY(loch_keys_tenant_need(tl->daemon->keys, &tl->tenant));
    if (job->create) /* whoever makes it waits for the CMK that it is made under */
        LOCH_TRY(loch_keys_open_lock(tl->daemon->keys, &tl->tenant, &tl->timeline));
    LOCH_TRY(loch_keys_timeline_open(tl->daemon->keys, &tl->tenant, &tl->timeline));
    job->keys_failed = false;
    if (job->create) {
        bool there; /* a mark of a drop would end with the next start all that is made here */
        LOCH_TRY(sk_timeline_on_disk(tl, &there));
        LOCH_TRY(write_first_control(job));
    }
    LOCH_TRY(check_put_back(tl));
    LOCH_TRY(sk_control_load(tl->dir, &tl->sealer, &job->control));
    return sk_wal_recover(tl->dir, &tl->sealer, &job->control, &job->found);
}

static void open_work(void *arg)
{
    struct open_job *job = arg;
    struct sk_dir_content seen;

    sk_failure_take(&job->failure, open_steps(job));
    if (!job->create)
        return;
    loch_status st = sk_dir_look(job->tl->daemon->env, job->tl->dir, &seen);
    job->left = seen.any || (!loch_is_ok(st) && st.code != LOCH_E_NOT_FOUND);
}

static loch_status activate(struct sk_timeline *tl, struct open_job *job)
{
    struct sk_store_options options = {.dir = tl->dir,
                                       .sealer = tl->sealer,
                                       .segment_bytes = job->control.segment_bytes,
                                       .file_bytes = tl->daemon->file_bytes,
                                       .stats = &tl->daemon->stats.store,
                                       .journal = tl->daemon->journal,
                                       .memory = &tl->daemon->memory,
                                       .events = &store_events,
                                       .arg = tl};
    loch_lsn flush = job->found.flush_lsn;
    loch_lsn prev = job->found.prev_lsn;
    struct loch_acceptor_view view;

    LOCH_TRY(sk_failure_raise(&job->failure));
    if (flush < tl->synced_lsn) /* of its life before it was parked */
        return LOCH_FAIL(LOCH_E_CORRUPT,
                         "%s: WAL ends at " LOCH_LSN_FMT ", but was synced up to " LOCH_LSN_FMT,
                         tl->dir, LOCH_LSN_ARG(flush), LOCH_LSN_ARG(tl->synced_lsn));
    tl->synced_lsn = flush;
    LOCH_TRY(loch_acceptor_create(&job->control.acceptor, &job->control.member, flush, prev,
                                  &tl->acceptor));
    LOCH_TRY(sk_store_create(&options, &job->found, job->control.anchor_lsn,
                             job->control.anchor_prev_lsn, &tl->store));
    tl->control = job->control;
    job->control = (struct sk_control){0};
    loch_acceptor_look(tl->acceptor, &view);
    tl->seen_commit = view.commit_lsn;
    tl->seen_flush = view.flush_lsn;
    tl->seen_term = tl->said_term = view.installed_term;
    tl->seen_epoch = view.min_compute_epoch;
    tl->seen_generation = view.generation;
    tl->done_token = 0;
    sk_archive_open(tl);
    tl->state = SK_ACTIVE;
    LOCH_INFO("timeline %s of tenant %s is open: term %" PRIu64 ", flush " LOCH_LSN_FMT
              ", commit " LOCH_LSN_FMT,
              tl->timeline_text, tl->tenant_text, view.term, LOCH_LSN_ARG(view.flush_lsn),
              LOCH_LSN_ARG(view.commit_lsn));
    return LOCH_OK;
}

static void answer(struct sk_timeline *tl, loch_status st)
{
    struct loch_console_request *request = tl->request;

    tl->request = NULL;
    if (request == NULL)
        return;
    if (loch_is_ok(st))
        loch_console_done(request, "CREATE TIMELINE");
    else
        loch_console_fail(request, st);
}

/* What may pass by itself: no key now, a system that is short of something, a file that a newer
 * version has written. The copy is good as far as anybody knows, and must not be taken for a
 * damaged one, which is thrown away. */
static bool may_pass(const struct open_job *job, loch_status st)
{
    return job->keys_failed || st.code == LOCH_E_UNSUPPORTED || st.code == LOCH_E_KEY_REVOKED ||
           sk_is_shortage(st);
}

/* Its keys may have gone while it was opened: then it was passed over. */
static void park_if_dark(struct sk_timeline *tl)
{
    char why[SK_TEXT_BYTES];
    loch_status st = LOCH_OK;

    if (tl->state == SK_ACTIVE)
        st = loch_keys_usable(tl->daemon->keys, &tl->tenant, &tl->timeline);
    if (loch_is_ok(st))
        return;
    (void)snprintf(why, sizeof why, "%s", loch_error_text());
    sk_timeline_park(tl, st.code, why);
}

static void open_done(void *arg)
{
    struct open_job *job = arg;
    struct sk_timeline *tl = job->tl;
    bool create = job->create;
    const bool left = job->left;
    loch_status st = activate(tl, job);

    tl->job = false;
    if (!loch_is_ok(st)) {
        (void)snprintf(tl->why, sizeof tl->why, "%s", loch_error_text());
        tl->state = may_pass(job, st) && !left ? SK_WAITING : SK_BROKEN;
        tl->retry_ns = loch_env_now_ns(tl->daemon->env) + UINT64_C(3000000000);
        if (tl->state == SK_BROKEN || !tl->said)
            LOCH_ERROR("timeline %s of tenant %s is %s: %s", tl->timeline_text, tl->tenant_text,
                       sk_state_name(tl->state), tl->why);
        tl->said = true;
        loch_acceptor_destroy(tl->acceptor);
        tl->acceptor = NULL;
    }
    park_if_dark(tl);
    if (tl->state == SK_ACTIVE && !loch_is_ok(sk_scrub_start(tl)))
        loch_log_failure("old WAL files are not checked");
    if (tl->state == SK_ACTIVE) {
        sk_members_refresh(tl);
        sk_recovery_look(tl);
    }
    answer(tl, st);
    sk_control_fini(&job->control);
    sk_wal_files_fini(&job->found.files);
    free(job);
    struct sk_daemon *daemon = tl->daemon;
    const struct loch_id tenant = tl->tenant, timeline = tl->timeline;
    const bool holds = sk_timeline_holds_plaintext(tl);
    /* It never came to be; but what is left of it has to be dropped. */
    if (create && !loch_is_ok(st) && !left && !tl->dropping) {
        sk_daemon_forget(tl->daemon, tl);
        sk_timeline_destroy(tl);
    }
    if (!holds)
        sk_daemon_wiped(daemon, &tenant, &timeline); /* a revocation may have waited for it */
}

loch_status sk_timeline_open(struct sk_timeline *tl, const struct sk_timeline_spec *spec)
{
    struct open_job *job = calloc(1, sizeof *job);

    LOCH_ASSERT(!tl->job);
    LOCH_ASSERT(tl->state != SK_ACTIVE);
    if (job == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory to open a timeline");
    job->tl = tl;
    if (spec != NULL) {
        job->create = true;
        job->spec = *spec;
    }
    loch_status st = loch_env_work(tl->daemon->env, open_work, open_done, job);
    if (!loch_is_ok(st)) {
        free(job);
        return st;
    }
    tl->job = true;
    tl->state = SK_OPENING;
    return LOCH_OK;
}
