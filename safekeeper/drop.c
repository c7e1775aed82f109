/* Holds: the deletion of timelines. Invariants: a mark made durable first says that the deletion
 * has begun, so that a restart finishes it instead of finding a damaged timeline; nothing is
 * deleted while it is in use; a timeline is known until its last file is gone, so that nobody is
 * told that it is and no other one is made there. */
#include "drop.h"

#include "service.h"

#include "loch/base/check.h"
#include "loch/base/log.h"

#include <stdio.h>
#include <stdlib.h>

#define POLL_MS 10u

struct drop {
    struct sk_daemon *daemon;
    struct loch_id tenant;
    bool whole_tenant;
    struct loch_console_request *request;
    struct sk_timeline *current;
    struct sk_failure failure;
};

struct deletion {
    struct loch_env *env;
    const char *dir;
    char (*names)[256];
    size_t count, cap;
    bool no_memory;
};

static bool take_name(void *arg, const char *name)
{
    struct deletion *d = arg;

    if (strcmp(name, SK_DROPPED_NAME) == 0 || strlen(name) > 255)
        return true;
    if (d->count == d->cap) {
        size_t cap = d->cap == 0 ? 64 : d->cap * 2;
        char(*more)[256] = realloc(d->names, cap * sizeof *more);
        if (more == NULL) {
            d->no_memory = true;
            return false;
        }
        d->names = more;
        d->cap = cap;
    }
    (void)snprintf(d->names[d->count++], 256, "%s", name);
    return true;
}

static bool see_name(void *arg, const char *name)
{
    struct sk_dir_content *seen = arg;
    const size_t len = strlen(name);

    seen->dropped |= strcmp(name, SK_DROPPED_NAME) == 0;
    seen->any |= len < 4 || strcmp(name + len - 4, ".tmp") != 0;
    return true;
}

loch_status sk_dir_look(struct loch_env *env, const char *dir, struct sk_dir_content *out)
{
    *out = (struct sk_dir_content){0};
    return loch_env_list_dir(env, dir, see_name, out);
}

loch_status sk_drop_files(struct loch_env *env, const char *dir)
{
    struct deletion d = {.env = env, .dir = dir};
    char path[SK_PATH_BYTES + 257];
    loch_status st;

    (void)snprintf(path, sizeof path, "%s/" SK_DROPPED_NAME, dir);
    LOCH_TRY(loch_env_replace_file(env, path, loch_slice_of("dropped\n", 8)));
    LOCH_TRY_OUT(st, loch_env_list_dir(env, dir, take_name, &d));
    if (d.no_memory) {
        st = LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory to list %s", dir);
        goto out;
    }
    for (size_t i = 0; i < d.count; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", dir, d.names[i]);
        st = loch_env_unlink(env, path);
        if (!loch_is_ok(st) && st.code != LOCH_E_NOT_FOUND)
            goto out;
    }
    LOCH_TRY_OUT(st, loch_env_sync_dir(env, dir));
    (void)snprintf(path, sizeof path, "%s/" SK_DROPPED_NAME, dir);
    LOCH_TRY_OUT(st, loch_env_unlink(env, path));
    st = loch_env_sync_dir(env, dir);
out:
    free(d.names);
    return st;
}

loch_status sk_timeline_on_disk(const struct sk_timeline *tl, bool *there)
{
    struct sk_dir_content seen;
    loch_status st = sk_dir_look(tl->daemon->env, tl->dir, &seen);

    if (st.code != LOCH_E_NOT_FOUND)
        LOCH_TRY(st);
    if (seen.dropped) {
        LOCH_INFO("timeline %s: its drop is finished", tl->timeline_text);
        LOCH_TRY(sk_drop_files(tl->daemon->env, tl->dir));
        seen.any = false;
    }
    *there = seen.any;
    return LOCH_OK;
}

static void next(struct drop *d);

static void work(void *arg)
{
    struct drop *d = arg;
    const char *dir = d->current->dir;
    struct sk_dir_content seen;
    loch_status st = sk_dir_look(d->daemon->env, dir, &seen);

    if (loch_is_ok(st))
        st = sk_drop_files(d->daemon->env, dir);
    else if (st.code == LOCH_E_NOT_FOUND) /* its creation came to nothing */
        st = LOCH_OK;
    sk_failure_take(&d->failure, st);
}

static void refuse(struct drop *d, loch_status st)
{
    loch_console_fail(d->request, st);
    free(d);
}

/* It stays, DROPPING: the next drop goes on. */
static void failed(struct drop *d, loch_status st)
{
    struct sk_timeline *tl = d->current;

    (void)snprintf(tl->why, sizeof tl->why, "cannot be dropped: %s", loch_error_text());
    LOCH_ERROR("timeline %s of tenant %s %s", tl->timeline_text, tl->tenant_text, tl->why);
    tl->dropping = false;
    refuse(d, st);
}

static void done(void *arg)
{
    struct drop *d = arg;
    struct sk_timeline *tl = d->current;

    tl->job = false; /* which a revocation may have waited for */
    sk_daemon_wiped(d->daemon, &tl->tenant, &tl->timeline);
    loch_status st = sk_failure_raise(&d->failure);
    if (!loch_is_ok(st)) {
        failed(d, st);
        return;
    }
    LOCH_INFO("dropped %s", tl->dir);
    sk_daemon_forget(d->daemon, tl);
    sk_timeline_destroy(tl);
    next(d);
}

static void finish(struct drop *d)
{
    if (d->whole_tenant)
        loch_keys_tenant_drop(d->daemon->keys, &d->tenant);
    loch_console_done(d->request, d->whole_tenant ? "DROP TENANT" : "DROP TIMELINE");
    free(d);
}

/* Waits until nothing uses the timeline, then deletes its files. */
static void poll(void *arg)
{
    struct drop *d = arg;
    struct sk_timeline *tl = d->current;
    struct loch_timer *timer;
    loch_status st;

    if (!tl->job && tl->state != SK_DROPPING) {
        tl->state = SK_DROPPING;
        sk_timeline_quiesce(tl, "the timeline is dropped");
    }
    if (!sk_timeline_idle(tl)) {
        st = loch_env_timer(d->daemon->env, POLL_MS, &timer, poll, d);
        if (!loch_is_ok(st))
            sk_daemon_fail_stop("cannot start a timer", st);
        return;
    }
    sk_timeline_empty(tl);
    sk_daemon_wiped(d->daemon, &tl->tenant, &tl->timeline);
    st = loch_env_work(d->daemon->env, work, done, d);
    if (!loch_is_ok(st)) {
        failed(d, st);
        return;
    }
    tl->job = true;
}

static void next(struct drop *d)
{
    bool others = false;

    for (size_t i = 0; d->whole_tenant && i < d->daemon->timeline_count; i++) {
        struct sk_timeline *tl = d->daemon->timelines[i];
        if (!loch_id_equal(&tl->tenant, &d->tenant))
            continue;
        if (!tl->dropping) {
            tl->dropping = true;
            d->current = tl;
            poll(d);
            return;
        }
        others = true;
    }
    if (others)
        refuse(d, LOCH_FAIL(LOCH_E_UNAVAILABLE, "a timeline of the tenant is being dropped"));
    else
        finish(d);
}

loch_status sk_drop(struct sk_daemon *daemon, const struct loch_id *tenant,
                    const struct loch_id *timeline, struct loch_console_request *request)
{
    struct drop *d = calloc(1, sizeof *d);

    if (d == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a drop");
    d->daemon = daemon;
    d->tenant = *tenant;
    d->whole_tenant = timeline == NULL;
    d->request = request;
    if (timeline != NULL) {
        d->current = sk_daemon_find(daemon, tenant, timeline);
        if (d->current != NULL && d->current->dropping) {
            free(d);
            return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the timeline is being dropped");
        }
    }
    if (d->current != NULL) {
        d->current->dropping = true;
        poll(d);
    } else {
        next(d);
    }
    return LOCH_OK;
}
