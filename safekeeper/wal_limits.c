/* Holds: limits of WAL on disk. Invariants: a held timeline is released some way below the limit
 * that held it; over the node's limit only those are held that use more than the mean, so one
 * timeline cannot stop the others; free space is promised to a timeline before it begins a file, so
 * that many that do so at once cannot all count on the same. */
#include "wal_limits.h"

#include "service.h"

#include "loch/base/check.h"
#include "loch/base/log.h"

#include <stdio.h>
#include <stdlib.h>

#define RESERVE_BYTES (4u << 20)
#define FULL_BYTES    (4u * RESERVE_BYTES) /* free: the reserve is given up below, in time */
#define FREE_SHARE    16u                  /* of a small file system stays free */
#define SPARE_SHARE   16u                  /* of a timeline's limit, in spare files */
#define SPARE_BYTES   (UINT64_C(256) << 20)
#define MIB(bytes_)   ((bytes_) >> 20)

/* ---- the file system ---- */

static void look(struct sk_daemon *d)
{
    struct sk_limits *l = &d->limits;
    uint64_t all = 0;

    l->free_bytes = UINT64_MAX;
    if (l->min_free_bytes == 0 ||
        !loch_is_ok(loch_env_fs_space(d->env, d->dir, &l->free_bytes, &all)))
        return;
    l->least_free_bytes = loch_min_u64(l->min_free_bytes, all / FREE_SHARE);
}

struct reserve_job {
    struct sk_daemon *d;
    bool make;
    struct sk_failure failure;
};

static loch_status reserve(struct sk_daemon *d, bool make)
{
    char path[SK_PATH_BYTES];

    (void)snprintf(path, sizeof path, "%s/" SK_RESERVE_NAME, d->dir);
    if (!make) {
        loch_status st = loch_env_unlink(d->env, path);
        return st.code == LOCH_E_NOT_FOUND ? LOCH_OK : st;
    }
    uint8_t *zeros = calloc(1, RESERVE_BYTES);
    if (zeros == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for the reserve");
    loch_status st = loch_env_replace_file(d->env, path, loch_slice_of(zeros, RESERVE_BYTES));
    free(zeros);
    return st;
}

static void reserve_work(void *arg)
{
    struct reserve_job *job = arg;

    sk_failure_take(&job->failure, reserve(job->d, job->make));
}

static void reserve_done(void *arg)
{
    struct reserve_job *job = arg;
    struct sk_limits *l = &job->d->limits;

    l->working = false;
    if (loch_is_ok(sk_failure_raise(&job->failure)))
        l->reserved = job->make;
    else
        loch_log_failure("the reserve of disk space");
    free(job);
}

static bool has_room(const struct sk_limits *l)
{
    return l->free_bytes / 2 > loch_max_u64(l->least_free_bytes + RESERVE_BYTES, FULL_BYTES);
}

/* Gives the reserve up when the disk is all but full, and makes it again when there is room. */
static void tend_reserve(struct sk_daemon *d)
{
    struct sk_limits *l = &d->limits;
    bool full = l->free_bytes < FULL_BYTES;
    bool room = has_room(l);
    struct reserve_job *job;

    if (l->working || l->free_bytes == UINT64_MAX || !(l->reserved ? full : room))
        return;
    job = calloc(1, sizeof *job);
    if (job == NULL)
        return;
    job->d = d;
    job->make = !l->reserved;
    LOCH_WARN("%s: %llu MiB are free: the reserve is %s", d->dir,
              (unsigned long long)MIB(l->free_bytes), job->make ? "made" : "given up");
    if (loch_is_ok(loch_env_work(d->env, reserve_work, reserve_done, job)))
        l->working = true;
    else
        free(job);
}

loch_status sk_limits_enter(struct sk_daemon *d)
{
    d->limits.reserved = false;
    return reserve(d, false);
}

loch_status sk_limits_start(struct sk_daemon *d)
{
    struct sk_limits *l = &d->limits;

    look(d);
    if (l->free_bytes == UINT64_MAX || !has_room(l))
        return LOCH_OK;
    LOCH_TRY(reserve(d, true));
    l->reserved = true;
    return LOCH_OK;
}

/* ---- holding ---- */

static void promise(struct sk_timeline *tl, uint64_t bytes)
{
    struct sk_limits *l = &tl->daemon->limits;

    LOCH_ASSERT(l->promised_bytes >= tl->promised_bytes);
    l->promised_bytes += bytes - tl->promised_bytes;
    tl->promised_bytes = bytes;
}

/* What would be free if this timeline began files of `need` bytes, and the others theirs. */
static uint64_t free_after(const struct sk_timeline *tl, uint64_t need)
{
    const struct sk_limits *l = &tl->daemon->limits;
    const uint64_t spoken_for = l->promised_bytes - tl->promised_bytes + need;

    if (l->free_bytes == UINT64_MAX)
        return UINT64_MAX;
    return l->free_bytes - loch_min_u64(spoken_for, l->free_bytes);
}

/* Why the timeline must wait before it takes `need` bytes more of the disk, in *out; false: it need
 * not. A held one is let go below 15/16. */
static bool reason(const struct sk_timeline *tl, uint64_t need, char *out, size_t max)
{
    const struct sk_limits *l = &tl->daemon->limits;
    /* Spare files do not hold a timeline: they are given back before. */
    uint64_t bytes = sk_store_disk_bytes(tl->store) - sk_store_spare_bytes(tl->store);
    bool held = tl->hold[0] != '\0';
    uint64_t own = held ? l->timeline_bytes / 16 * 15 : l->timeline_bytes;
    uint64_t node = held ? l->node_bytes / 16 * 15 : l->node_bytes;
    uint64_t least = held ? l->least_free_bytes / 8 * 9 : l->least_free_bytes;

    if (l->timeline_bytes != 0 && bytes > own) {
        (void)snprintf(out, max,
                       "this branch has %llu MiB of WAL on the safekeeper, the limit is %llu: "
                       "waiting until it is archived (up to " LOCH_LSN_FMT
                       ") and persisted by the pageserver (up to " LOCH_LSN_FMT ")",
                       (unsigned long long)MIB(bytes), (unsigned long long)MIB(l->timeline_bytes),
                       LOCH_LSN_ARG(tl->archive.lsn), LOCH_LSN_ARG(tl->remote_lsn));
        return true;
    }
    if (l->node_bytes != 0 && l->wal_bytes > node && bytes >= l->fair_bytes) {
        (void)snprintf(out, max,
                       "the safekeeper holds %llu MiB of WAL, its limit is %llu: waiting until "
                       "some of it is archived and persisted (%llu MiB are this branch's)",
                       (unsigned long long)MIB(l->wal_bytes),
                       (unsigned long long)MIB(l->node_bytes), (unsigned long long)MIB(bytes));
        return true;
    }
    const uint64_t left = free_after(tl, need);
    if (left < least) {
        (void)snprintf(out, max,
                       "the safekeeper's disk is full: %llu MiB are free in %s, of which %llu are "
                       "about to be used and %llu have to stay free: make room there",
                       (unsigned long long)MIB(l->free_bytes), tl->daemon->dir,
                       (unsigned long long)MIB(l->free_bytes - left),
                       (unsigned long long)MIB(l->least_free_bytes));
        return true;
    }
    return false;
}

/* Is there soon no room for spare files? */
static bool tight(const struct sk_limits *l)
{
    return l->free_bytes / 2 < l->least_free_bytes ||
           (l->node_bytes != 0 && l->wal_bytes > l->node_bytes / 8 * 7);
}

uint64_t sk_limits_spare_bytes(const struct sk_timeline *tl)
{
    const struct sk_limits *l = &tl->daemon->limits;

    if (tl->hold[0] != '\0' || tight(l))
        return 0;
    return l->timeline_bytes == 0 ? SPARE_BYTES
                                  : loch_min_u64(SPARE_BYTES, l->timeline_bytes / SPARE_SHARE);
}

/* `need`: what it is about to take of the disk. */
static void judge(struct sk_timeline *tl, uint64_t need)
{
    char why[sizeof tl->hold];
    bool was = tl->hold[0] != '\0';

    if (!reason(tl, need, why, sizeof why))
        why[0] = '\0';
    promise(tl, why[0] == '\0' ? need : sk_store_pending_bytes(tl->store, 0));
    (void)snprintf(tl->hold, sizeof tl->hold, "%s", why);
    if (!was && why[0] != '\0') {
        LOCH_WARN("timeline %s: its writers wait: %s", tl->timeline_text, why);
        sk_recovery_pause(tl, true);
    } else if (was && why[0] == '\0') {
        LOCH_INFO("timeline %s: its writers go on", tl->timeline_text);
        sk_recovery_pause(tl, tl->paused);
        sk_service_release(tl);
    }
    if (tl->hold[0] != '\0' || tight(&tl->daemon->limits))
        sk_store_drop_spares(tl->store);
}

bool sk_limits_held(struct sk_timeline *tl)
{
    struct sk_limits *l = &tl->daemon->limits;

    if (tl->state != SK_ACTIVE)
        return false;
    const uint64_t bytes = sk_store_disk_bytes(tl->store);
    const uint64_t need = sk_store_pending_bytes(tl->store, LOCH_WAL_CHUNK_BYTES);
    const bool begun = bytes != tl->seen_disk_bytes; /* a file was */
    if (begun) {
        l->wal_bytes += bytes - tl->seen_disk_bytes;
        tl->seen_disk_bytes = bytes;
    }
    if (begun || need < tl->promised_bytes) /* what was promised is taken by now */
        look(tl->daemon);
    if ((begun || need != tl->promised_bytes) && tl->hold[0] == '\0')
        judge(tl, need);
    return tl->hold[0] != '\0';
}

void sk_limits_tick(struct sk_daemon *d)
{
    struct sk_limits *l = &d->limits;
    uint64_t with_wal = 0;
    uint64_t spare_bytes = 0;
    int64_t held = 0;

    look(d);
    l->wal_bytes = l->promised_bytes = 0;
    for (size_t i = 0; i < d->timeline_count; i++) {
        struct sk_timeline *tl = d->timelines[i];
        tl->promised_bytes = 0;
        if (tl->state != SK_ACTIVE)
            continue;
        promise(tl, sk_store_pending_bytes(tl->store, 0));
        tl->seen_disk_bytes = sk_store_disk_bytes(tl->store);
        l->wal_bytes += tl->seen_disk_bytes;
        spare_bytes += sk_store_spare_bytes(tl->store);
        with_wal += tl->seen_disk_bytes > 0;
    }
    l->fair_bytes = with_wal == 0 ? 0 : l->wal_bytes / with_wal;
    for (size_t i = 0; i < d->timeline_count; i++) {
        struct sk_timeline *tl = d->timelines[i];
        if (tl->state != SK_ACTIVE)
            continue;
        judge(tl,
              sk_store_pending_bytes(tl->store, tl->hold[0] != '\0' ? LOCH_WAL_CHUNK_BYTES : 0));
        held += tl->hold[0] != '\0';
    }
    tend_reserve(d);
    loch_metric_set(d->stats.wal_disk_bytes, (int64_t)l->wal_bytes);
    loch_metric_set(d->stats.spare_bytes, (int64_t)spare_bytes);
    loch_metric_set(d->stats.timelines_held, held);
}
