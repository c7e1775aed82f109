/* Holds: whether a tenant's keys may be used now, as the daemon's leases say (leases.c). The checks
 * stand in the way of every use of a key; a daemon that keeps no leases never fails them. */
#include "keys_internal.h"
#include "loch/base/check.h"
#include "loch/base/stack.h"
#include "loch/io/env.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t keys_now_ns(const struct loch_keys *keys)
{
    return keys->o.env != NULL && keys->o.lease_ms > 0 ? loch_env_now_ns(keys->o.env) : 0;
}

static const struct loch_id none;

struct keys_permit *keys_permit_find(const struct loch_keys *keys, const struct loch_id *tenant,
                                     const struct loch_id *branch)
{
    const struct loch_id id = loch_id_within(tenant, branch);
    struct keys_permit *p = loch_id_map_get(&keys->permit_map, &id);
    const bool same =
        p != NULL && loch_id_equal(&p->tenant, tenant) && loch_id_equal(&p->branch, branch);
    return same ? p : NULL;
}

/* p NULL: nobody has noted a lease. Where leases are kept, nothing is used without one. */
static loch_status permit_check(const struct loch_keys *keys, const struct keys_permit *p)
{
    if (p == NULL && keys_now_ns(keys) == 0)
        return LOCH_OK;
    if (p == NULL)
        return LOCH_FAIL(LOCH_E_KMS_UNAVAILABLE, "no lease on the tenant's key is known here");
    if (p->block != LOCH_E_OK)
        return LOCH_FAIL(p->block, "%s", p->why);
    if (p->until_ns != UINT64_MAX && keys_now_ns(keys) >= p->until_ns)
        return LOCH_FAIL(LOCH_E_KMS_UNAVAILABLE,
                         "the lease on the tenant's key has run out: the key service must be asked "
                         "again first");
    return LOCH_OK;
}

loch_status keys_permit_check(const struct loch_keys *keys, const struct loch_id *tenant,
                              const struct loch_id *lock)
{
    struct keys_permit *p = keys_permit_find(keys, tenant, &none);

    if (p == NULL && keys_tenant_find(keys, tenant) == NULL)
        return LOCH_OK; /* there is nothing to be used */
    LOCH_TRY(permit_check(keys, p));
    return loch_id_is_none(lock) ? LOCH_OK
                                 : permit_check(keys, keys_permit_find(keys, tenant, lock));
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

/* ---- what is under way ---- */

void keys_work_begin(struct loch_keys *keys, struct keys_work *work, const struct loch_id *tenant,
                     const struct loch_id *branch)
{
    *work = (struct keys_work){.tenant = *tenant, .branch = *branch};
    (void)pthread_mutex_lock(&keys->work_lock);
    work->next = keys->work;
    work->prev = &keys->work;
    if (work->next != NULL)
        work->next->prev = &work->next;
    keys->work = work;
    (void)pthread_mutex_unlock(&keys->work_lock);
}

void keys_work_end(struct loch_keys *keys, struct keys_work *work)
{
    loch_stack_wipe();
    (void)pthread_mutex_lock(&keys->work_lock);
    *work->prev = work->next;
    if (work->next != NULL)
        work->next->prev = work->prev;
    (void)pthread_mutex_unlock(&keys->work_lock);
}

static size_t change_of(const struct loch_id *tenant)
{
    return tenant->bytes[0] % KEYS_CHANGE_LOCKS;
}

void keys_change_lock(struct loch_keys *keys, const struct loch_id *tenant)
{
    const size_t i = change_of(tenant);

    (void)pthread_mutex_lock(&keys->change[i]);
    (void)pthread_mutex_lock(&keys->work_lock);
    keys->changing[i] = (struct keys_change){.tenant = *tenant};
    (void)pthread_mutex_unlock(&keys->work_lock);
}

void keys_change_unlock(struct loch_keys *keys, const struct loch_id *tenant)
{
    (void)pthread_mutex_unlock(&keys->change[change_of(tenant)]);
}

void keys_change_drop(struct loch_keys *keys, const struct loch_id *tenant)
{
    struct keys_change *c = &keys->changing[change_of(tenant)];

    (void)pthread_mutex_lock(&keys->work_lock);
    c->dropped = c->dropped || loch_id_equal(&c->tenant, tenant);
    (void)pthread_mutex_unlock(&keys->work_lock);
}

loch_status keys_change_check(struct loch_keys *keys, const struct loch_id *tenant)
{
    const struct keys_change *c = &keys->changing[change_of(tenant)];

    (void)pthread_mutex_lock(&keys->work_lock);
    const bool dropped = c->dropped && loch_id_equal(&c->tenant, tenant);
    (void)pthread_mutex_unlock(&keys->work_lock);
    return dropped ? LOCH_FAIL(LOCH_E_NOT_FOUND, "the tenant was dropped meanwhile") : LOCH_OK;
}

void keys_change_begin(struct loch_keys *keys, struct keys_work *work, const struct loch_id *tenant)
{
    keys_change_lock(keys, tenant);
    keys_work_begin(keys, work, tenant, &none);
}

void keys_change_end(struct loch_keys *keys, struct keys_work *work)
{
    keys_work_end(keys, work);
    keys_change_unlock(keys, &work->tenant);
}

bool loch_keys_at_work(struct loch_keys *keys, const struct loch_id *tenant,
                       const struct loch_id *branch)
{
    bool any = false;

    (void)pthread_mutex_lock(&keys->work_lock);
    for (const struct keys_work *w = keys->work; w != NULL && !any; w = w->next)
        any = loch_id_equal(&w->tenant, tenant) &&
              (loch_id_is_none(branch) || loch_id_is_none(&w->branch) ||
               loch_id_equal(&w->branch, branch));
    (void)pthread_mutex_unlock(&keys->work_lock);
    return any;
}

/* Under lock. The tenant's keys, or those that the branch's CMK holds. */
static void wipe(struct loch_keys *keys, const struct loch_id *tenant, const struct loch_id *branch)
{
    struct keys_tenant *t = keys_tenant_find(keys, tenant);

    if (t != NULL && loch_id_is_none(branch))
        keys_tenant_wipe(t);
    else if (t != NULL)
        keys_tenant_wipe_branch(t, branch);
}

/* Under lock. */
static struct keys_permit *permit_make(struct loch_keys *keys, const struct loch_id *tenant,
                                       const struct loch_id *branch)
{
    struct keys_permit *p = keys_permit_find(keys, tenant, branch);

    if (p != NULL)
        return p;
    struct keys_permit **more =
        reallocarray(keys->permits, keys->permit_count + 1, sizeof(struct keys_permit *));
    if (more == NULL)
        return NULL;
    keys->permits = more;
    const struct loch_id id = loch_id_within(tenant, branch);
    p = malloc(sizeof *p);
    /* Another pair may have been made to look like this one: it keeps its place. */
    if (p == NULL || !loch_is_ok(loch_id_map_put(&keys->permit_map, &id, p))) {
        free(p);
        return NULL;
    }
    *p = (struct keys_permit){
        .tenant = *tenant, .branch = *branch, .until_ns = UINT64_MAX, .at = keys->permit_count++};
    keys->permits[p->at] = p;
    return p;
}

/* What a failed load means for the tenant: of what may pass, the lease asks until it has. */
static enum loch_code block_of(enum loch_code code)
{
    if (code == LOCH_E_DENIED)
        return LOCH_E_KEY_REVOKED;
    return code == LOCH_E_UNAVAILABLE || code == LOCH_E_IO || code == LOCH_E_NO_MEMORY
               ? LOCH_E_KMS_UNAVAILABLE
               : LOCH_E_OK;
}

void keys_permit_grant(const struct loch_keys *keys, struct keys_permit *p, uint64_t started_ns)
{
    const uint64_t until_ns = started_ns + keys->o.lease_ms * UINT64_C(1000000);

    if (p->block != LOCH_E_OK || p->until_ns == UINT64_MAX || until_ns > p->until_ns)
        p->until_ns = until_ns;
    p->granted_ns = started_ns;
    p->block = LOCH_E_OK;
    p->why[0] = '\0';
    p->asleep = p->unasked = false;
    atomic_store(&p->wanted, false);
}

/* Under lock. */
static void permit_drop(struct loch_keys *keys, struct keys_permit *p)
{
    const struct loch_id id = loch_id_within(&p->tenant, &p->branch);

    LOCH_ASSERT(loch_id_map_get(&keys->permit_map, &id) == p);
    (void)loch_id_map_remove(&keys->permit_map, &id);
    keys->permits[p->at] = keys->permits[--keys->permit_count];
    keys->permits[p->at]->at = p->at;
    free(p);
}

/* Under lock. The permits of branches end: all of the tenant's, or (t) those that are not there any
 * more. */
static void end_branches(struct loch_keys *keys, const struct loch_id *tenant,
                         const struct keys_tenant *t)
{
    for (size_t i = keys->permit_count; i-- > 0;) {
        struct keys_permit *p = keys->permits[i];
        if (loch_id_equal(&p->tenant, tenant) && !loch_id_is_none(&p->branch) &&
            (t == NULL || keys_lock_find(t, &p->branch) == NULL))
            permit_drop(keys, p);
    }
}

/* Under lock. After a load that began at started_ns: the permit of a lock, which may be new. Only a
 * lock whose CMK the load has asked is granted by it. */
static void note_lock(struct loch_keys *keys, struct keys_tenant *t, const struct keys_lock *l,
                      struct keys_permit *p, bool fresh, uint64_t started_ns)
{
    if (l->granted && p->block == LOCH_E_OK) {
        keys_permit_grant(keys, p, started_ns);
    } else if (fresh) {
        p->unasked = !l->asked;
        p->block = l->asked ? block_of(l->code) : LOCH_E_KMS_UNAVAILABLE;
        memcpy(p->why, l->why, sizeof p->why);
        keys_tenant_wipe_branch(t, &l->branch);
    } else if (p->block != LOCH_E_OK) {
        keys_tenant_wipe_branch(t, &l->branch);
    } else if (l->code != LOCH_E_OK) {
        atomic_store(&p->behind, true); /* there are new keys under it: its lease opens them */
    }
}

/* Under lock. False: no memory. */
static bool note_locks(struct loch_keys *keys, const struct loch_id *tenant, uint64_t started_ns)
{
    struct keys_tenant *t = keys_tenant_find(keys, tenant);

    if (t == NULL)
        return true;
    end_branches(keys, tenant, t);
    for (size_t i = 0; i < t->lock_count; i++) {
        const struct keys_lock l = t->locks[i];
        const bool fresh = keys_permit_find(keys, tenant, &l.branch) == NULL;
        struct keys_permit *p = permit_make(keys, tenant, &l.branch);
        if (p == NULL)
            return false;
        note_lock(keys, t, &l, p, fresh, started_ns);
    }
    return true;
}

loch_status keys_permit_note(struct loch_keys *keys, const struct loch_id *tenant,
                             uint64_t started_ns, loch_status st, bool lifts)
{
    bool memory = true;
    const enum loch_code block = block_of(st.code);
    char why[LOCH_KEYS_WHY_BYTES];

    if (started_ns == 0 || (!loch_is_ok(st) && block == LOCH_E_OK))
        return st;
    (void)snprintf(why, sizeof why, "%s", loch_is_ok(st) ? "" : loch_error_text());
    lock(keys, true);
    const loch_status gone = keys_change_check(keys, tenant);
    if (!loch_is_ok(gone)) {
        unlock(keys);
        return gone;
    }
    struct keys_permit *p = permit_make(keys, tenant, &none);
    if (p != NULL && loch_is_ok(st) && p->block != LOCH_E_OK && !lifts) {
        st = (loch_status){p->block}; /* revoked while it was loaded */
        memcpy(why, p->why, sizeof why);
        wipe(keys, tenant, &none);
    } else if (p != NULL && loch_is_ok(st)) {
        keys_permit_grant(keys, p, started_ns);
        memory = note_locks(keys, tenant, started_ns);
    } else if (p != NULL && p->granted_ns == 0) { /* one that was held is the leases' to end */
        p->block = block;
        memcpy(p->why, why, sizeof why);
    }
    unlock(keys);
    if (p == NULL || !memory)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no place for a tenant's lease: its keys stay unused");
    return loch_is_ok(st) ? st : LOCH_FAIL(st.code, "%s", why);
}

void keys_permit_forget(struct loch_keys *keys, const struct loch_id *tenant)
{
    end_branches(keys, tenant, NULL);
    struct keys_permit *p = keys_permit_find(keys, tenant, &none);
    if (p != NULL)
        permit_drop(keys, p);
}

/* Under lock. The branch whose CMK holds the timeline's keys; none: the tenant's does. */
static struct loch_id lock_above(const struct loch_keys *keys, const struct loch_id *tenant,
                                 const struct loch_id *timeline)
{
    const struct keys_tenant *t = timeline != NULL ? keys_tenant_find(keys, tenant) : NULL;

    return t != NULL && t->lock_count > 0 ? loch_keyring_lock(&t->ring, timeline) : none;
}

loch_status loch_keys_usable(struct loch_keys *keys, const struct loch_id *tenant,
                             const struct loch_id *timeline)
{
    lock(keys, false);
    const struct loch_id above = lock_above(keys, tenant, timeline);
    const loch_status st = keys_permit_check(keys, tenant, &above);
    unlock(keys);
    return st;
}

bool loch_keys_opening(struct loch_keys *keys, const struct loch_id *tenant,
                       const struct loch_id *timeline)
{
    lock(keys, false);
    const struct loch_id above = lock_above(keys, tenant, timeline);
    const struct keys_permit *p =
        loch_id_is_none(&above) ? NULL : keys_permit_find(keys, tenant, &above);
    const bool opening = p != NULL && p->unasked;
    unlock(keys);
    return opening;
}

loch_status loch_keys_blocked(struct loch_keys *keys, const struct loch_id *tenant,
                              const struct loch_id *timeline)
{
    loch_status st = LOCH_OK;

    lock(keys, false);
    const struct loch_id above = lock_above(keys, tenant, timeline);
    const struct keys_permit *p = keys_permit_find(keys, tenant, &none);
    if ((p == NULL || p->block == LOCH_E_OK) && !loch_id_is_none(&above))
        p = keys_permit_find(keys, tenant, &above);
    if (p != NULL && p->block != LOCH_E_OK)
        st = LOCH_FAIL(p->block, "%s", p->why);
    unlock(keys);
    return st;
}

void loch_keys_permit(struct loch_keys *keys, const struct loch_id *tenant,
                      const struct loch_id *branch, uint64_t until_ns)
{
    lock(keys, true);
    struct keys_permit *p = keys_permit_find(keys, tenant, branch);
    if (p != NULL && p->block == LOCH_E_OK)
        p->until_ns = until_ns;
    unlock(keys);
}

/* A branch's permit is blocked, never made: it ended with the tenant's. */
static void block(struct loch_keys *keys, const struct loch_id *tenant,
                  const struct loch_id *branch, enum loch_code code, const char *why, bool asleep)
{
    const bool whole = loch_id_is_none(branch);

    LOCH_ASSERT(code != LOCH_E_OK);
    lock(keys, true);
    if (whole)
        end_branches(keys, tenant, NULL);
    struct keys_permit *p =
        whole ? permit_make(keys, tenant, &none) : keys_permit_find(keys, tenant, branch);
    if (p != NULL) {
        p->asleep = asleep;
        p->unasked = false;
        p->blocked_ns = keys_now_ns(keys);
        atomic_store(&p->wanted, false);
        p->block = code;
        (void)snprintf(p->why, sizeof p->why, "%s", why);
    }
    wipe(keys, tenant, branch);
    unlock(keys);
}

void loch_keys_block(struct loch_keys *keys, const struct loch_id *tenant,
                     const struct loch_id *branch, enum loch_code code, const char *why)
{
    block(keys, tenant, branch, code, why, false);
}

void loch_keys_sleep(struct loch_keys *keys, const struct loch_id *tenant)
{
    block(
        keys, tenant, &none, LOCH_E_KMS_UNAVAILABLE,
        "the tenant is asleep: its keys were not used for kms.idle, and are fetched with the next "
        "use",
        true);
}

void loch_keys_want(struct loch_keys *keys, const struct loch_id *tenant)
{
    lock(keys, false);
    struct keys_permit *p = keys_permit_find(keys, tenant, &none);
    if (p != NULL)
        atomic_store(&p->wanted, true);
    unlock(keys);
}

bool loch_keys_asleep(struct loch_keys *keys, const struct loch_id *tenant)
{
    lock(keys, false);
    const struct keys_permit *p = keys_permit_find(keys, tenant, &none);
    const bool is = p != NULL && p->asleep;
    unlock(keys);
    return is;
}

bool loch_keys_behind(struct loch_keys *keys, const struct loch_id *tenant,
                      const struct loch_id *branch)
{
    lock(keys, false);
    struct keys_permit *p = keys_permit_find(keys, tenant, branch);
    const bool was = p != NULL && atomic_exchange(&p->behind, false);
    (void)pthread_rwlock_unlock(&keys->lock);
    return was;
}

bool loch_keys_wanted(struct loch_keys *keys, const struct loch_id *tenant)
{
    lock(keys, false);
    struct keys_permit *p = keys_permit_find(keys, tenant, &none);
    const bool was = p != NULL && atomic_exchange(&p->wanted, false);
    unlock(keys);
    return was;
}

bool loch_keys_outdated(struct loch_keys *keys, const struct loch_id *tenant)
{
    uint64_t stored = 0, held = 0;

    lock(keys, false);
    const struct keys_tenant *t = keys_tenant_find(keys, tenant);
    held = t != NULL ? t->ring.generation : 0;
    unlock(keys);
    return loch_is_ok(keys_ring_generation(&keys->o, tenant, &stored)) && stored > held;
}

/* The same by the keyring in the store, which is newer than the one held. */
static loch_status prove_newer(struct loch_keys *keys, const struct loch_id *tenant,
                               const struct loch_id *branch)
{
    struct keys_tenant *t = NULL;

    if (!loch_id_is_none(branch)) { /* the tenant is not dark: it may be taken over */
        LOCH_TRY(loch_keys_tenant_load(keys, tenant));
        return keys_lock_prove(keys, tenant, branch);
    }
    LOCH_TRY(keys_get_newest(keys, tenant, &none, &t));
    keys_tenant_destroy(t);
    return LOCH_OK;
}

static loch_status prove_held(struct loch_keys *keys, const struct loch_id *tenant,
                              const struct loch_id *branch)
{
    struct loch_keyring ring = {0};
    loch_status st = LOCH_OK;

    if (!loch_id_is_none(branch))
        return keys_lock_prove(keys, tenant, branch);
    lock(keys, false);
    const struct keys_tenant *held = keys_tenant_find(keys, tenant);
    const bool known = held != NULL;
    if (known)
        st = loch_keyring_copy(&ring, &held->ring);
    unlock(keys);
    LOCH_TRY(st);
    if (known) {
        st = keys_ring_prove(&keys->o, &ring, branch);
        loch_keyring_fini(&ring);
        return st;
    }
    struct keys_tenant *t = NULL;
    LOCH_TRY(keys_ring_get(&keys->o, tenant, &none, &t));
    keys_tenant_destroy(t);
    return LOCH_OK;
}

loch_status loch_keys_prove(struct loch_keys *keys, const struct loch_id *tenant,
                            const struct loch_id *branch)
{
    char why[LOCH_KEYS_WHY_BYTES];
    const loch_status st = prove_held(keys, tenant, branch);

    if (loch_is_ok(st) || st.code == LOCH_E_KMS_UNAVAILABLE || st.code == LOCH_E_UNAVAILABLE)
        return st;
    (void)snprintf(why, sizeof why, "%s", loch_error_text());
    lock(keys, false);
    const struct keys_permit *p = keys_permit_find(keys, tenant, branch);
    const bool dark = p != NULL && p->block != LOCH_E_OK;
    unlock(keys);
    /* What was rewrapped while this daemon did not look lies under another CMK: the one held would
     * be refused for ever. Not at the first refusal, which waits for no store. */
    if (dark && loch_keys_outdated(keys, tenant) && loch_is_ok(prove_newer(keys, tenant, branch)))
        return LOCH_OK;
    return LOCH_FAIL(st.code, "%s", why);
}

loch_status loch_keys_permits(struct loch_keys *keys, struct loch_keys_permit_view **out,
                              size_t *count)
{
    lock(keys, false);
    const size_t n = keys->permit_count;
    struct loch_keys_permit_view *views = calloc(n > 0 ? n : 1, sizeof *views);
    for (size_t i = 0; views != NULL && i < n; i++) {
        const struct keys_permit *p = keys->permits[i];
        views[i] = (struct loch_keys_permit_view){
            p->tenant, p->branch, p->granted_ns, p->until_ns, p->block, p->unasked, ""};
        memcpy(views[i].why, p->why, sizeof views[i].why);
    }
    unlock(keys);
    if (views == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a list of leases");
    *out = views;
    *count = n;
    return LOCH_OK;
}
