/* Holds: the locks of a tenant's keyring: branches with a CMK of their own. What such a CMK holds
 * is opened by whoever asks it and by nobody else: the keyring is read without, so that a key
 * service which is slow or silent holds up nothing but its own branch.
 *
 * Between two readings of a keyring the opened keys go from one to the next (inherit); after a wipe
 * there is nothing to go. */
#include "keys_internal.h"
#include "loch/base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void keys_lock_close(struct keys_lock *l)
{
    l->granted = false;
    l->code = LOCH_E_UNAVAILABLE;
    (void)snprintf(l->why, sizeof l->why, "its key service is yet to be asked");
}

static struct keys_lock *lock_of(struct keys_tenant *t, const struct loch_id *branch)
{
    for (size_t i = 0; i < t->lock_count; i++)
        if (loch_id_equal(&t->locks[i].branch, branch))
            return &t->locks[i];
    return NULL;
}

const struct keys_lock *keys_lock_find(const struct keys_tenant *t, const struct loch_id *branch)
{
    for (size_t i = 0; i < t->lock_count; i++)
        if (loch_id_equal(&t->locks[i].branch, branch))
            return &t->locks[i];
    return NULL;
}

loch_status keys_lock_failure(const struct keys_tenant *t, const struct loch_id *lock)
{
    const struct keys_lock *l = keys_lock_find(t, lock);

    if (l == NULL || l->code == LOCH_E_OK)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the key is not open");
    return LOCH_FAIL(l->code == LOCH_E_DENIED ? LOCH_E_KEY_REVOKED : LOCH_E_KMS_UNAVAILABLE,
                     "the branch's CMK holds the key: %s", l->why);
}

loch_status keys_lock_above(struct keys_tenant *t, const struct loch_id *branch,
                            const struct loch_id *ask, struct keys_lock **out)
{
    *out = loch_id_is_none(branch) ? NULL : lock_of(t, branch);
    if (loch_id_is_none(branch) || *out != NULL)
        return LOCH_OK;
    struct keys_lock *more = reallocarray(t->locks, t->lock_count + 1, sizeof *more);
    if (more == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a branch's lock");
    t->locks = more;
    *out = &more[t->lock_count++];
    **out = (struct keys_lock){.branch = *branch, .code = LOCH_E_OK};
    (*out)->asked = (*out)->granted = ask == NULL || loch_id_equal(ask, branch);
    if (!(*out)->asked)
        keys_lock_close(*out);
    return LOCH_OK;
}

void keys_tenant_wipe_branch(struct keys_tenant *t, const struct loch_id *branch)
{
    struct keys_lock *l = lock_of(t, branch);

    for (uint32_t i = 0; t->keys != NULL && i < t->ring.count; i++)
        if (loch_id_equal(&t->keys[i].lock, branch))
            loch_secret_fini(&t->keys[i].secret);
    if (l != NULL)
        keys_lock_close(l);
}

static bool is_live(const struct loch_keyring_entry *e)
{
    return e->state != LOCH_STATE_REVOKED && e->state != LOCH_STATE_DESTROYED;
}

/* What `old` has opened of the entry. Keyrings mostly have their entries in one order: *at is where
 * the last one was. */
static const struct loch_secret *had(const struct keys_tenant *old,
                                     const struct loch_keyring_entry *e, uint32_t *at)
{
    for (uint32_t n = 0; n < old->ring.count; n++) {
        const struct opened_key *k = &old->keys[(*at + n) % old->ring.count];
        if (k->version != e->version || !loch_id_equal(&k->key_id, &e->key_id))
            continue;
        *at = (*at + n + 1) % old->ring.count;
        return k->secret.bytes != NULL ? &k->secret : NULL;
    }
    return NULL;
}

/* Of which locks `old` has anything opened: the others need no look. */
static void note_had(struct keys_tenant *t, const struct keys_tenant *old)
{
    for (size_t i = 0; i < t->lock_count; i++)
        t->locks[i].had = t->locks[i].missing = 0;
    for (uint32_t i = 0; i < old->ring.count; i++) {
        struct keys_lock *l = NULL;
        if (old->keys[i].secret.bytes != NULL && !loch_id_is_none(&old->keys[i].lock))
            l = lock_of(t, &old->keys[i].lock);
        if (l != NULL)
            l->had++;
    }
}

loch_status keys_lock_inherit(const struct loch_keys_options *o, struct keys_tenant *t,
                              const struct keys_tenant *old, bool asked_too)
{
    uint32_t at = 0;

    if (t->lock_count == 0)
        return LOCH_OK;
    note_had(t, old);
    for (uint32_t i = 0; i < t->ring.count; i++) {
        const struct loch_keyring_entry *e = &t->ring.entries[i];
        struct opened_key *k = &t->keys[i];
        struct keys_lock *l = loch_id_is_none(&k->lock) ? NULL : lock_of(t, &k->lock);
        if (l == NULL || l->code == LOCH_E_OK || k->secret.bytes != NULL || !is_live(e))
            continue;
        const struct loch_secret *secret =
            l->had > 0 && (asked_too || !l->asked) ? had(old, e, &at) : NULL;
        if (secret != NULL)
            LOCH_TRY(loch_secret_copy(&k->secret, secret));
        else if (e->level == LOCH_LEVEL_TK &&
                 keys_ring_secret(t, &e->parent, e->parent_version) != NULL)
            LOCH_TRY(keys_entry_unwrap(o, t, e, &k->secret));
        l->missing += k->secret.bytes == NULL;
    }
    for (size_t i = 0; i < t->lock_count; i++)
        if (t->locks[i].missing == 0 && t->locks[i].had > 0)
            t->locks[i].code = LOCH_E_OK;
    return LOCH_OK;
}

static void lock(struct loch_keys *keys, bool write)
{
    const int rc = write ? pthread_rwlock_wrlock(&keys->lock) : pthread_rwlock_rdlock(&keys->lock);
    LOCH_ASSERT(rc == 0);
}

static void unlock(struct loch_keys *keys)
{
    (void)pthread_rwlock_unlock(&keys->lock);
}

/* The branch's part of the keyring held here, its CMK asked: nothing is changed yet. */
static loch_status open_apart(struct loch_keys *keys, const struct loch_id *tenant,
                              const struct loch_id *branch, struct keys_tenant **out)
{
    struct keys_tenant *t = calloc(1, sizeof *t);
    loch_status st = LOCH_OK;

    if (t == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a branch's keys");
    lock(keys, false);
    const struct keys_tenant *held = keys_tenant_find(keys, tenant);
    st = held != NULL ? loch_keyring_copy(&t->ring, &held->ring)
                      : LOCH_FAIL(LOCH_E_NOT_FOUND, "the tenant's keys are not known here");
    unlock(keys);
    if (loch_is_ok(st))
        st = keys_ring_open(&keys->o, t, branch, branch);
    const struct keys_lock *l = keys_lock_find(t, branch);
    if (loch_is_ok(st) && l == NULL)
        st = LOCH_FAIL(LOCH_E_CORRUPT, "the keyring has no KEK of the branch");
    else if (loch_is_ok(st) && l->code != LOCH_E_OK)
        st = LOCH_FAIL(l->code, "%s", l->why);
    if (!loch_is_ok(st)) {
        keys_tenant_destroy(t);
        return st;
    }
    *out = t;
    return LOCH_OK;
}

/* Under lock. Whether what the branch's CMK opened since started_ns may be used. */
static loch_status may_open(const struct loch_keys *keys, const struct keys_permit *p,
                            uint64_t started_ns, bool lift)
{
    if (keys_now_ns(keys) == 0)
        return LOCH_OK; /* no leases are kept */
    if (p == NULL)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the tenant's own key is gone meanwhile");
    if (p->block != LOCH_E_OK && !lift)
        return LOCH_FAIL(p->block, "%s", p->why);
    if (p->blocked_ns > started_ns)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the branch's key was denied meanwhile");
    return LOCH_OK;
}

loch_status keys_lock_open(struct loch_keys *keys, const struct loch_id *tenant,
                           const struct loch_id *branch, uint64_t started_ns, bool lift)
{
    struct keys_tenant *apart = NULL;
    loch_status st;

    LOCH_TRY(open_apart(keys, tenant, branch, &apart));
    lock(keys, true);
    struct keys_tenant *t = keys_tenant_find(keys, tenant);
    struct keys_lock *l = t != NULL ? lock_of(t, branch) : NULL;
    struct keys_permit *p = keys_permit_find(keys, tenant, branch);
    st = l == NULL ? LOCH_FAIL(LOCH_E_NOT_FOUND, "the branch has no CMK of its own any more")
                   : may_open(keys, p, started_ns, lift);
    if (loch_is_ok(st))
        st = keys_lock_inherit(&keys->o, t, apart, true);
    if (loch_is_ok(st) && l->code != LOCH_E_OK)
        st = LOCH_FAIL(LOCH_E_UNAVAILABLE, "the branch's keys have changed meanwhile");
    if (loch_is_ok(st) && p != NULL)
        keys_permit_grant(keys, p, started_ns);
    unlock(keys);
    keys_tenant_destroy(apart);
    if (loch_is_ok(st))
        atomic_fetch_add(&keys->changes, 1);
    return st;
}

/* Whether the branch's keys are to be opened before a Decrypt says anything; `lift`: a block that
 * is no denial may go with it. */
static bool wants_opening(struct loch_keys *keys, const struct loch_id *tenant,
                          const struct loch_id *branch, bool lift)
{
    lock(keys, false);
    const struct keys_tenant *t = keys_tenant_find(keys, tenant);
    const struct keys_lock *l = t != NULL ? keys_lock_find(t, branch) : NULL;
    const struct keys_permit *p = keys_permit_find(keys, tenant, branch);
    const bool wants =
        l != NULL && l->code != LOCH_E_OK &&
        (p == NULL || p->block == LOCH_E_OK || (lift && p->block == LOCH_E_KMS_UNAVAILABLE));
    unlock(keys);
    return wants;
}

loch_status keys_lock_prove(struct loch_keys *keys, const struct loch_id *tenant,
                            const struct loch_id *branch)
{
    struct loch_keyring ring = {0};
    struct keys_work work;
    loch_status st = LOCH_OK;

    keys_work_begin(keys, &work, tenant, branch);
    const bool opens = wants_opening(keys, tenant, branch, false);
    if (opens)
        st = keys_lock_open(keys, tenant, branch, keys_now_ns(keys), false);
    keys_work_end(keys, &work);
    if (opens)
        return st;
    LOCH_TRY(loch_keys_ring(keys, tenant, &ring));
    st = keys_ring_prove(&keys->o, &ring, branch);
    loch_keyring_fini(&ring);
    return st;
}

loch_status loch_keys_open_lock(struct loch_keys *keys, const struct loch_id *tenant,
                                const struct loch_id *timeline)
{
    const struct loch_id branch = loch_keys_lock(keys, tenant, timeline);
    struct keys_work work;
    loch_status st = LOCH_OK;

    if (loch_id_is_none(&branch))
        return LOCH_OK;
    keys_work_begin(keys, &work, tenant, &branch);
    if (wants_opening(keys, tenant, &branch, true))
        st = keys_lock_open(keys, tenant, &branch, keys_now_ns(keys), true);
    keys_work_end(keys, &work);
    return st;
}

/* False: it was wanted, and failed. */
static bool open_new(struct loch_keys *keys, const struct loch_id *tenant,
                     const struct loch_id *branch)
{
    struct keys_work work;

    keys_work_begin(keys, &work, tenant, branch);
    const bool good = !wants_opening(keys, tenant, branch, false) ||
                      loch_is_ok(keys_lock_open(keys, tenant, branch, keys_now_ns(keys), false));
    keys_work_end(keys, &work);
    return good;
}

void loch_keys_open_news(struct loch_keys *keys, const struct loch_id *tenant)
{
    struct loch_keyring ring = {0};

    if (!loch_is_ok(loch_keys_ring(keys, tenant, &ring)))
        return;
    for (uint32_t i = 0; i < ring.count; i++) {
        const struct loch_keyring_entry *e = &ring.entries[i];
        if (e->level != LOCH_LEVEL_KEK || loch_id_is_none(&e->scope) ||
            e->purpose != LOCH_PURPOSE_PAGE || e->state != LOCH_STATE_ACTIVE)
            continue;
        if (!open_new(keys, tenant, &e->scope))
            break; /* one that does not answer is enough to wait for: their leases ask them */
    }
    loch_keyring_fini(&ring);
}

loch_status loch_keys_timeline_open(struct loch_keys *keys, const struct loch_id *tenant,
                                    const struct loch_id *timeline)
{
    const struct loch_id branch = loch_keys_lock(keys, tenant, timeline);
    char id[LOCH_ID_TEXT_BYTES];

    LOCH_TRY(loch_keys_usable(keys, tenant, timeline));
    if (loch_keys_has(keys, tenant, timeline))
        return LOCH_OK;
    if (loch_id_is_none(&branch))
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "the tenant's keyring has no keys of timeline %s",
                         loch_id_format(timeline, id));
    lock(keys, false);
    const struct keys_tenant *t = keys_tenant_find(keys, tenant);
    const loch_status st = t != NULL ? keys_lock_failure(t, &branch)
                                     : LOCH_FAIL(LOCH_E_KMS_UNAVAILABLE, "its keys are not open");
    unlock(keys);
    return st;
}
