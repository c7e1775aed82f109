/* Cutoff, holds and leases of a timeline. */
#include "mutation.h"
#include "timeline_impl.h"

#include "loch/base/check.h"
#include "loch/io/env.h"

#include <stdio.h>
#include <stdlib.h>

#define LEASES_MAX 4096u

/* The timeline whose own history has `lsn`: t, or an ancestor. */
static struct loch_timeline *owner_of(struct loch_timeline *t, loch_lsn lsn)
{
    while (t->parent != NULL && lsn < t->info.start_lsn)
        t = t->parent;
    return t;
}

static loch_status readable_locked(const struct loch_timeline *t, loch_lsn lsn)
{
    if (lsn < t->info.start_lsn)
        return LOCH_FAIL(LOCH_E_INVALID,
                         LOCH_LSN_FMT " lies before the timeline's beginning at " LOCH_LSN_FMT,
                         LOCH_LSN_ARG(lsn), LOCH_LSN_ARG(t->info.start_lsn));
    return loch_layer_set_readable(t->set, lsn);
}

LOCH_STATUS loch_timeline_readable(struct loch_timeline *t, loch_lsn lsn)
{
    t = owner_of(t, lsn);
    pthread_mutex_lock(&t->lock);
    loch_status st = readable_locked(t, lsn);
    pthread_mutex_unlock(&t->lock);
    return st;
}

/* ---- holds ---- */

LOCH_STATUS loch_timeline_hold(struct loch_timeline *t, loch_lsn lsn, struct loch_hold **out)
{
    struct loch_hold *hold = calloc(1, sizeof *hold);
    if (hold == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory to hold an LSN");
    t = owner_of(t, lsn);
    *hold = (struct loch_hold){.timeline = loch_timeline_retain(t), .lsn = lsn};
    pthread_mutex_lock(&t->lock);
    loch_status st = readable_locked(t, lsn);
    if (loch_is_ok(st)) {
        hold->next = t->holds;
        hold->prev = &t->holds;
        if (hold->next != NULL)
            hold->next->prev = &hold->next;
        t->holds = hold;
    }
    pthread_mutex_unlock(&t->lock);
    if (!loch_is_ok(st)) {
        loch_timeline_release(t);
        free(hold);
        return st;
    }
    *out = hold;
    return LOCH_OK;
}

void loch_hold_release(struct loch_hold *hold)
{
    if (hold == NULL)
        return;
    struct loch_timeline *t = hold->timeline;
    pthread_mutex_lock(&t->lock);
    *hold->prev = hold->next;
    if (hold->next != NULL)
        hold->next->prev = hold->prev;
    if (t->gathering) {
        hold->next = t->let_go;
        t->let_go = hold;
        hold = NULL;
    }
    pthread_mutex_unlock(&t->lock);
    free(hold);
    loch_timeline_release(t);
}

void loch_timeline_gather_begin(struct loch_timeline *t)
{
    pthread_mutex_lock(&t->lock);
    LOCH_ASSERT(!t->gathering);
    t->gathering = true;
    pthread_mutex_unlock(&t->lock);
}

void loch_timeline_gather_end(struct loch_timeline *t)
{
    pthread_mutex_lock(&t->lock);
    struct loch_hold *gone = t->let_go;
    LOCH_ASSERT(t->gathering);
    t->gathering = false;
    t->let_go = NULL;
    pthread_mutex_unlock(&t->lock);
    for (struct loch_hold *next; gone != NULL; gone = next) {
        next = gone->next;
        free(gone);
    }
}

/* ---- leases ---- */

static uint64_t lease_max_ms(const struct loch_timeline *t)
{
    return t->store.lease_max_ms != 0 ? t->store.lease_max_ms : LOCH_LEASE_MAX_MS;
}

void loch_timeline_free_leases(struct loch_timeline *t)
{
    free(t->leases);
    t->leases = NULL;
    t->lease_count = 0;
}

static void drop_expired(struct loch_timeline *t)
{
    uint64_t now = loch_env_now_ns(t->store.env);
    size_t n = 0;
    for (size_t i = 0; i < t->lease_count; i++) {
        if (t->leases[i].expires_ns > now)
            t->leases[n++] = t->leases[i];
    }
    t->lease_count = n;
}

static struct loch_lsn_lease *find_lease(struct loch_timeline *t, loch_lsn lsn, const char *holder)
{
    for (size_t i = 0; i < t->lease_count; i++) {
        if (t->leases[i].lsn == lsn && strcmp(t->leases[i].holder, holder) == 0)
            return &t->leases[i];
    }
    return NULL;
}

static loch_status lease_locked(struct loch_timeline *t, const struct loch_lsn_lease *wanted)
{
    drop_expired(t);
    struct loch_lsn_lease *lease = find_lease(t, wanted->lsn, wanted->holder);
    if (lease == NULL) {
        LOCH_TRY(readable_locked(t, wanted->lsn));
        if (t->lease_count == LEASES_MAX)
            return LOCH_FAIL(LOCH_E_LIMIT, "the timeline has %u leases", LEASES_MAX);
        struct loch_lsn_lease *list = reallocarray(t->leases, t->lease_count + 1, sizeof *list);
        if (list == NULL)
            return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a lease");
        t->leases = list;
        lease = &list[t->lease_count++];
    }
    *lease = *wanted;
    return LOCH_OK;
}

LOCH_STATUS loch_timeline_lease(struct loch_timeline *t, loch_lsn lsn, const char *holder,
                                uint64_t ttl_ms)
{
    struct loch_lsn_lease wanted = {.lsn = lsn,
                                    .expires_ns = loch_env_now_ns(t->store.env) + ttl_ms * 1000000};
    if (holder[0] == '\0' || strlen(holder) >= LOCH_HOLDER_BYTES)
        return LOCH_FAIL(LOCH_E_INVALID, "a lease's holder has a name of 1 to %u characters",
                         LOCH_HOLDER_BYTES - 1);
    uint64_t max = lease_max_ms(t);
    if (ttl_ms == 0 || ttl_ms > max)
        return LOCH_FAIL(LOCH_E_LIMIT, "a lease lasts 1 to %" PRIu64 " ms, not %" PRIu64, max,
                         ttl_ms);
    snprintf(wanted.holder, sizeof wanted.holder, "%s", holder);
    t = owner_of(t, lsn);
    if (lsn > loch_timeline_last_record_lsn(t))
        return LOCH_FAIL(LOCH_E_INVALID,
                         LOCH_LSN_FMT " is not here yet (ingested up to " LOCH_LSN_FMT ")",
                         LOCH_LSN_ARG(lsn), LOCH_LSN_ARG(loch_timeline_last_record_lsn(t)));
    pthread_mutex_lock(&t->lock);
    loch_status st = lease_locked(t, &wanted);
    pthread_mutex_unlock(&t->lock);
    return st;
}

LOCH_STATUS loch_timeline_lease_end(struct loch_timeline *t, loch_lsn lsn, const char *holder)
{
    t = owner_of(t, lsn);
    pthread_mutex_lock(&t->lock);
    struct loch_lsn_lease *lease = find_lease(t, lsn, holder);
    if (lease != NULL)
        *lease = t->leases[--t->lease_count];
    pthread_mutex_unlock(&t->lock);
    if (lease == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "%s has no lease at " LOCH_LSN_FMT, holder,
                         LOCH_LSN_ARG(lsn));
    return LOCH_OK;
}

LOCH_STATUS loch_timeline_leases(struct loch_timeline *t, struct loch_lsn_lease **out,
                                 size_t *count)
{
    pthread_mutex_lock(&t->lock);
    drop_expired(t);
    struct loch_lsn_lease *list = calloc(t->lease_count + 1, sizeof *list);
    size_t n = t->lease_count;
    if (list != NULL && n > 0)
        memcpy(list, t->leases, n * sizeof *list);
    pthread_mutex_unlock(&t->lock);
    if (list == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a list of leases");
    *out = list;
    *count = n;
    return LOCH_OK;
}

/* ---- the cutoff ---- */

loch_lsn loch_timeline_cutoff(struct loch_timeline *t, int64_t *reached_us)
{
    pthread_mutex_lock(&t->lock);
    loch_lsn cutoff = t->set->retention.cutoff;
    *reached_us = t->set->cutoff_us;
    pthread_mutex_unlock(&t->lock);
    return cutoff;
}

bool loch_timeline_own_window(struct loch_timeline *t, struct loch_pitr_window *out)
{
    pthread_mutex_lock(&t->lock);
    struct loch_pitr_window window = t->window;
    pthread_mutex_unlock(&t->lock);
    if (window.seconds == UINT64_MAX)
        return false;
    *out = window;
    return true;
}

LOCH_STATUS loch_timeline_set_window(struct loch_timeline *t, const struct loch_pitr_window *window)
{
    struct loch_manifest next = {0};
    if (!loch_timeline_settled(t)) /* no manifest before its first layer */
        LOCH_TRY(loch_timeline_flush(t));
    pthread_mutex_lock(&t->commit);
    loch_status st = loch_manifest_copy(&t->manifest, &next);
    next.window = *window;
    if (loch_is_ok(st))
        st = loch_timeline_put_manifest(t, &next);
    if (loch_is_ok(st)) {
        pthread_mutex_lock(&t->lock);
        t->window = *window;
        pthread_mutex_unlock(&t->lock);
    }
    pthread_mutex_unlock(&t->commit);
    loch_manifest_fini(&next);
    return st;
}

static size_t count_holds(const struct loch_hold *h)
{
    size_t n = 0;
    for (; h != NULL; h = h->next)
        n++;
    return n;
}

static size_t add_holds(loch_lsn *list, size_t n, const struct loch_hold *h)
{
    for (; h != NULL; h = h->next)
        list[n++] = h->lsn;
    return n;
}

/* Every LSN that somebody holds; `out` is malloc'ed. Of `extra` none that the manifest has given
 * up: versions that it needs may be gone, and to name it again would let it be read. commit and
 * lock held. */
static loch_status gather_held(struct loch_timeline *t, const loch_lsn *extra, size_t extra_count,
                               loch_lsn **out, size_t *count)
{
    const struct loch_manifest *m = &t->manifest;
    const struct loch_retention kept = {m->cutoff.lsn, m->points, m->point_count};
    drop_expired(t);
    size_t most = count_holds(t->holds) + count_holds(t->let_go) + t->lease_count + extra_count;
    loch_lsn *list = calloc(most + 1, sizeof *list);
    if (list == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a list of LSNs");
    size_t n = add_holds(list, add_holds(list, 0, t->holds), t->let_go);
    for (size_t i = 0; i < t->lease_count && !LOCH_STORE_MUTATED(LEASE_NOT_HELD); i++)
        list[n++] = t->leases[i].lsn;
    for (size_t i = 0; i < extra_count; i++) {
        if (loch_retention_readable(&kept, extra[i]))
            list[n++] = extra[i];
    }
    *out = list;
    *count = n;
    return LOCH_OK;
}

/* From here on reads, holds and leases are refused by the new retention. Lock held. The way back is
 * the old set: nothing that it shows has been removed. */
static loch_status begin_retention(struct loch_timeline *t, const struct loch_lsn_mark *cutoff,
                                   const loch_lsn *points, size_t count)
{
    struct loch_layer_set_parts parts = loch_timeline_parts(t);
    parts.retention = (struct loch_retention){cutoff->lsn, points, count};
    parts.cutoff_us = cutoff->wall_us;
    return loch_timeline_install(t, &parts);
}

/* Refuses first, then commits: whoever gets a hold after the list was gathered holds an LSN that
 * the manifest keeps too. commit held. */
static loch_status move_cutoff(struct loch_timeline *t, const struct loch_lsn_mark *cutoff,
                               const loch_lsn *extra, size_t extra_count, bool *moved)
{
    struct loch_manifest next = {0};
    loch_lsn *held = NULL;
    size_t count = 0;
    *moved = false;
    if (!loch_timeline_settled(t)) /* no manifest before its first layer */
        return LOCH_OK;
    pthread_mutex_lock(&t->lock);
    loch_status st = gather_held(t, extra, extra_count, &held, &count);
    if (loch_is_ok(st)) {
        count = loch_retention_points(held, count, cutoff->lsn);
        bool same = cutoff->lsn == t->manifest.cutoff.lsn && count == t->manifest.point_count &&
                    (count == 0 || memcmp(held, t->manifest.points, count * sizeof *held) == 0);
        *moved = !same;
        if (!same)
            st = begin_retention(t, cutoff, held, count);
    }
    pthread_mutex_unlock(&t->lock);
    if (loch_is_ok(st) && *moved) {
        st = loch_manifest_copy(&t->manifest, &next);
        next.cutoff = *cutoff;
        free(next.points);
        next.points = held;
        next.point_count = LOCH_STORE_MUTATED(POINTS_NOT_STORED) ? 0 : (uint32_t)count;
        held = NULL;
        if (loch_is_ok(st))
            st = loch_timeline_put_manifest(t, &next);
    }
    free(held);
    loch_manifest_fini(&next);
    return st;
}

/* commit held. */
static bool next_cutoff(const struct loch_timeline *t, const struct loch_pitr_window *window,
                        int64_t now_us, struct loch_lsn_mark *out)
{
    const struct loch_manifest *m = &t->manifest;
    if (m->window.seconds != UINT64_MAX)
        window = &m->window;
    const struct loch_pitr_window by_time = {window->seconds, 0};
    return loch_retention_advance(LOCH_STORE_MUTATED(WINDOW_BY_TIME_ONLY) ? &by_time : window,
                                  m->marks, m->mark_count, now_us, m->disk_consistent_lsn,
                                  m->cutoff.lsn, out);
}

bool loch_timeline_leases_settled(struct loch_timeline *t)
{
    return t->opened_ns == 0 ||
           loch_env_now_ns(t->store.env) - t->opened_ns >= lease_max_ms(t) * 1000000;
}

bool loch_timeline_cutoff_waits(struct loch_timeline *t, const struct loch_pitr_window *window,
                                int64_t now_us)
{
    struct loch_lsn_mark cutoff;
    if (pthread_mutex_trylock(&t->commit) != 0)
        return false;
    bool further = next_cutoff(t, window, now_us, &cutoff);
    pthread_mutex_unlock(&t->commit);
    return further;
}

bool loch_timeline_cutoff_due(struct loch_timeline *t, const struct loch_pitr_window *window,
                              int64_t now_us)
{
    return loch_timeline_leases_settled(t) && loch_timeline_cutoff_waits(t, window, now_us);
}

LOCH_STATUS loch_timeline_advance_cutoff(struct loch_timeline *t,
                                         const struct loch_pitr_window *window, int64_t now_us,
                                         const loch_lsn *extra, size_t extra_count, bool *moved)
{
    *moved = false;
    pthread_mutex_lock(&t->commit);
    struct loch_lsn_mark cutoff = t->manifest.cutoff;
    bool further = next_cutoff(t, window, now_us, &cutoff);
    loch_status st = LOCH_OK;
    if (further || cutoff.lsn != LOCH_LSN_NONE)
        st = move_cutoff(t, &cutoff, extra, extra_count, moved);
    pthread_mutex_unlock(&t->commit);
    return st;
}
