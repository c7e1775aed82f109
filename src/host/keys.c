/* Holds: the tenants whose keys this daemon has opened.
 *
 * A tenant's keys are one immutable object, replaced as a whole: `lock` is held only to look
 * something up or to swap, never across I/O; `change` lets one thread at a time read or write
 * a tenant's keyring. A keyring older than the one held is refused.
 */
#include "keys_internal.h"
#include "loch/base/check.h"
#include "loch/host/audit.h"
#include "loch/kms/kms.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How often a change is tried again when another writer was quicker. */
#define CHANGE_TRIES 8

static const struct loch_id none;

loch_status loch_keys_create(const struct loch_keys_options *options, struct loch_keys **out)
{
    if (loch_id_is_none(&options->cluster))
        return LOCH_FAIL(LOCH_E_INVALID, "a daemon's keys want the cluster id");
    struct loch_keys *keys = calloc(1, sizeof *keys);
    if (keys == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for the daemon's keys");
    keys->o = *options;
    if (pthread_rwlock_init(&keys->lock, NULL) != 0) {
        free(keys);
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no lock for the daemon's keys");
    }
    for (size_t i = 0; i < KEYS_CHANGE_LOCKS; i++)
        LOCH_ASSERT(pthread_mutex_init(&keys->change[i], NULL) == 0);
    LOCH_ASSERT(pthread_mutex_init(&keys->work_lock, NULL) == 0);
    *out = keys;
    return LOCH_OK;
}

void loch_keys_destroy(struct loch_keys *keys)
{
    if (keys == NULL)
        return;
    for (size_t i = 0; i < keys->count; i++)
        keys_tenant_destroy(keys->tenants[i]);
    for (size_t i = 0; i < keys->permit_count; i++)
        free(keys->permits[i]);
    free(keys->tenants);
    free(keys->permits);
    loch_id_map_fini(&keys->tenant_map);
    loch_id_map_fini(&keys->permit_map);
    (void)pthread_rwlock_destroy(&keys->lock);
    for (size_t i = 0; i < KEYS_CHANGE_LOCKS; i++)
        (void)pthread_mutex_destroy(&keys->change[i]);
    (void)pthread_mutex_destroy(&keys->work_lock);
    free(keys);
}

static void reading(struct loch_keys *keys)
{
    const int rc = pthread_rwlock_rdlock(&keys->lock);
    LOCH_ASSERT(rc == 0);
}

static void writing(struct loch_keys *keys)
{
    const int rc = pthread_rwlock_wrlock(&keys->lock);
    LOCH_ASSERT(rc == 0);
}

static void release(struct loch_keys *keys)
{
    (void)pthread_rwlock_unlock(&keys->lock);
}

struct keys_tenant *keys_tenant_find(const struct loch_keys *keys, const struct loch_id *tenant)
{
    return loch_id_map_get(&keys->tenant_map, tenant);
}

/* May `next` take the place of `held`? Equal generations must be the same object. */
static loch_status check_newer(const struct keys_tenant *held, const struct keys_tenant *next)
{
    if (next->ring.generation == held->ring.generation) {
        if (memcmp(next->hash, held->hash, sizeof next->hash) != 0)
            return LOCH_FAIL(LOCH_E_CORRUPT, "two keyrings of one generation differ");
        return LOCH_OK;
    }
    return loch_keyring_check_successor(&held->ring, held->hash, &next->ring);
}

/* Reads the keyring and refuses one older than the one held: nothing may be built upon it. */
loch_status keys_get_newest(struct loch_keys *keys, const struct loch_id *tenant,
                            const struct loch_id *ask, struct keys_tenant **out)
{
    struct keys_tenant *t = NULL;
    loch_status st = LOCH_OK;

    LOCH_TRY(keys_ring_get(&keys->o, tenant, keys_now_ns(keys) != 0 ? ask : NULL, &t));
    reading(keys);
    const struct keys_tenant *held = keys_tenant_find(keys, tenant);
    if (held != NULL)
        st = check_newer(held, t);
    if (loch_is_ok(st) && held != NULL)
        st = keys_lock_inherit(&keys->o, t, held, false);
    release(keys);
    if (loch_is_ok(st))
        st = keys_witness_check(&keys->o, t);
    if (!loch_is_ok(st)) {
        keys_tenant_destroy(t);
        return st;
    }
    *out = t;
    return LOCH_OK;
}

/* Under lock. For one more tenant. */
static loch_status make_room(struct loch_keys *keys)
{
    if (keys->count < keys->cap)
        return LOCH_OK;
    const size_t cap = keys->cap < 8 ? 8 : keys->cap * 2;
    struct keys_tenant **p = realloc(keys->tenants, cap * sizeof(struct keys_tenant *));
    if (p == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %zu tenants' keys", cap);
    keys->tenants = p;
    keys->cap = cap;
    return LOCH_OK;
}

/* Puts the tenant into the set, in place of an older one. */
static loch_status install(struct loch_keys *keys, struct keys_tenant *take_tenant)
{
    const struct loch_id tenant = take_tenant->ring.tenant;
    const uint32_t versions = take_tenant->ring.count;
    struct keys_tenant *gone = take_tenant;
    uint32_t before = 0;

    for (uint32_t k = 0; k < take_tenant->ring.count; k++)
        take_tenant->has_retired =
            take_tenant->has_retired || (take_tenant->keys[k].state == LOCH_STATE_RETIRED &&
                                         !loch_id_is_none(&take_tenant->keys[k].scope));
    loch_status st = keys_witness_note(&keys->o, take_tenant);

    if (!loch_is_ok(st)) {
        keys_tenant_destroy(take_tenant);
        return st;
    }
    (void)keys_notice_swap(keys, &take_tenant->ring, "/proc", "/sys");

    writing(keys);
    struct keys_tenant *held = keys_tenant_find(keys, &tenant);
    st = keys_change_check(keys, &tenant);
    const bool dropped = !loch_is_ok(st);
    if (loch_is_ok(st) && held != NULL)
        st = check_newer(held, take_tenant);
    if (loch_is_ok(st) && held != NULL)
        st = keys_lock_inherit(&keys->o, take_tenant, held, true);
    if (loch_is_ok(st) && held == NULL)
        st = make_room(keys);
    if (loch_is_ok(st) && held == NULL)
        st = loch_id_map_put(&keys->tenant_map, &tenant, take_tenant);
    else if (loch_is_ok(st))
        loch_id_map_replace(&keys->tenant_map, &tenant, take_tenant);
    if (loch_is_ok(st)) {
        take_tenant->at = held != NULL ? held->at : keys->count++;
        take_tenant->loads = held != NULL ? held->loads + 1 : 1;
        keys->tenants[take_tenant->at] = take_tenant;
        before = held != NULL ? held->ring.count : 0;
        gone = held;
    }
    release(keys);
    if (dropped)
        keys_witness_forget(&keys->o, &tenant); /* noted above, behind the drop's own back */
    keys_tenant_destroy(gone);
    if (loch_is_ok(st))
        (void)keys_notice_many(&tenant, before, versions);
    atomic_fetch_add(&keys->changes, 1);
    return st;
}

uint64_t loch_keys_changes(const struct loch_keys *keys)
{
    return atomic_load(&keys->changes);
}

static loch_status get_and_install(struct loch_keys *keys, const struct loch_id *tenant,
                                   const struct loch_id *ask)
{
    struct keys_tenant *t = NULL;

    LOCH_TRY(keys_get_newest(keys, tenant, ask, &t));
    return install(keys, t);
}

/* Fails for a blocked tenant: only a restore may open its keys. */
loch_status keys_check_open(struct loch_keys *keys, const struct loch_id *tenant)
{
    reading(keys);
    const struct keys_permit *permit = keys_permit_find(keys, tenant, &none);
    const loch_status st = permit != NULL && permit->block != LOCH_E_OK
                               ? LOCH_FAIL(permit->block, "%s", permit->why)
                               : LOCH_OK;
    release(keys);
    return st;
}

loch_status keys_load(struct loch_keys *keys, const struct loch_id *tenant,
                      const struct loch_id *ask)
{
    const uint64_t started_ns = keys_now_ns(keys);

    LOCH_TRY(keys_check_open(keys, tenant));
    return keys_permit_note(keys, tenant, started_ns, get_and_install(keys, tenant, ask), false);
}

/* Whether the last load opened what the branch's CMK holds. */
static loch_status check_lock(struct loch_keys *keys, const struct loch_id *tenant,
                              const struct loch_id *branch)
{
    loch_status st = LOCH_OK;

    reading(keys);
    const struct keys_tenant *t = keys_tenant_find(keys, tenant);
    const struct keys_lock *lock = t != NULL ? keys_lock_find(t, branch) : NULL;
    if (lock == NULL)
        st = LOCH_FAIL(LOCH_E_NOT_FOUND, "the branch has no CMK of its own any more");
    else if (lock->code != LOCH_E_OK)
        st = LOCH_FAIL(lock->code, "%s", lock->why);
    release(keys);
    return st;
}

loch_status loch_keys_restore(struct loch_keys *keys, const struct loch_id *tenant,
                              const struct loch_id *branch, uint64_t *started_ns)
{
    const uint64_t asked_ns = keys_now_ns(keys);

    if (!loch_id_is_none(branch)) {
        LOCH_TRY(keys_lock_open(keys, tenant, branch, asked_ns, true));
        *started_ns = asked_ns;
        return LOCH_OK;
    }
    keys_change_lock(keys, tenant);
    const uint64_t now_ns = keys_now_ns(keys);
    loch_status st = get_and_install(keys, tenant, &none);
    if (loch_is_ok(st)) {
        st = keys_permit_note(keys, tenant, now_ns, st, true);
        *started_ns = now_ns;
    }
    keys_change_unlock(keys, tenant);
    return st;
}

/* Brings PENDING keys to life: read back, unwrapped anew, then put as ACTIVE; and loads the result.
 */
loch_status keys_settle(struct loch_keys *keys, const struct loch_id *tenant,
                        const struct loch_id *ask)
{
    struct keys_tenant *t = NULL;
    bool changed = false;

    const uint64_t started_ns = keys_now_ns(keys);
    LOCH_TRY(keys_check_open(keys, tenant));
    LOCH_TRY(keys_get_newest(keys, tenant, ask, &t));
    const loch_status st = keys_ring_activate(&keys->o, t, &changed);
    if (!loch_is_ok(st) || changed) {
        keys_tenant_destroy(t);
        LOCH_TRY(st);
        return keys_load(keys, tenant, ask);
    }
    return keys_permit_note(keys, tenant, started_ns, install(keys, t), false);
}

static loch_status add_timelines(struct loch_keys *keys, const struct loch_id *tenant,
                                 const struct loch_id *timelines, size_t count,
                                 const struct loch_id *lock)
{
    /* A lock that is made is opened by its CMK; of a child's, the KEK that is open will do. */
    const struct loch_id *ask = count == 1 && loch_id_equal(&timelines[0], lock) ? lock : &none;
    struct keys_tenant *t = NULL;
    bool changed = false;

    LOCH_TRY(keys_check_open(keys, tenant));
    LOCH_TRY(keys_get_newest(keys, tenant, ask, &t));
    const loch_status st = keys_ring_add_timelines(&keys->o, t, timelines, count, lock, &changed);
    keys_tenant_destroy(t);
    LOCH_TRY(st);
    return keys_settle(keys, tenant, ask);
}

static void note_timeline(struct loch_keys *keys, const struct loch_id *tenant,
                          const struct loch_id *timeline, const char *event, loch_status st)
{
    char id[LOCH_ID_TEXT_BYTES];

    if (loch_is_ok(st))
        loch_audit_note(keys->o.audit, tenant, event, "keys of timeline %s",
                        loch_id_format(timeline, id));
}

loch_status loch_keys_tenant_create(struct loch_keys *keys, const struct loch_id *tenant)
{
    struct keys_work work;

    LOCH_ASSERT(!loch_id_is_none(tenant));
    keys_change_begin(keys, &work, tenant);
    loch_status st = keys_ring_create(&keys->o, tenant);
    if (loch_is_ok(st))
        st = keys_settle(keys, tenant, &none);
    if (loch_is_ok(st))
        loch_audit_note(keys->o.audit, tenant, "tenant_created", "KEKs and K_wire, CMK %s",
                        loch_kms_uri(loch_kms_for(keys->o.kms, tenant, NULL)));
    keys_change_end(keys, &work);
    return st;
}

/* Whether the tenant's keyring is refused for another reason than the last time (why; "": it is
 * not): who tries again and again is not to fill the audit log. */
static bool refusal_is_news(struct loch_keys *keys, const struct loch_id *tenant, const char *why)
{
    struct keys_refusal *r = NULL;

    writing(keys);
    for (size_t i = 0; i < KEYS_REFUSALS_KEPT && r == NULL; i++)
        if (loch_id_equal(&keys->refusals[i].tenant, tenant))
            r = &keys->refusals[i];
    if (r == NULL && why[0] != '\0') {
        r = &keys->refusals[keys->next_refusal++ % KEYS_REFUSALS_KEPT];
        *r = (struct keys_refusal){.tenant = *tenant};
    }
    const bool news = r != NULL && strncmp(r->why, why, sizeof r->why - 1) != 0;
    if (r != NULL)
        (void)snprintf(r->why, sizeof r->why, "%s", why);
    release(keys);
    return news;
}

/* Under the tenant's change lock. */
static loch_status load_noted(struct loch_keys *keys, const struct loch_id *tenant)
{
    const loch_status st = keys_load(keys, tenant, &none);
    char why[LOCH_KEYS_WHY_BYTES] = "";

    if (loch_is_ok(st)) {
        (void)refusal_is_news(keys, tenant, "");
        loch_audit_note(keys->o.audit, tenant, "opened", "keyring generation %" PRIu64,
                        loch_keys_generation(keys, tenant));
    } else if (st.code == LOCH_E_DENIED || st.code == LOCH_E_CORRUPT || st.code == LOCH_E_STALE) {
        (void)snprintf(why, sizeof why, "%s", loch_error_text());
        if (refusal_is_news(keys, tenant, why))
            loch_audit_note(keys->o.audit, tenant, "refused", "%s", why);
    }
    return st;
}

loch_status loch_keys_tenant_load(struct loch_keys *keys, const struct loch_id *tenant)
{
    struct keys_work work;

    keys_change_begin(keys, &work, tenant);
    const loch_status st = load_noted(keys, tenant);
    keys_change_end(keys, &work);
    return st;
}

static uint64_t loads_of(struct loch_keys *keys, const struct loch_id *tenant)
{
    reading(keys);
    const struct keys_tenant *t = keys_tenant_find(keys, tenant);
    const uint64_t loads = t != NULL ? t->loads : 0;
    release(keys);
    return loads;
}

loch_status loch_keys_tenant_need(struct loch_keys *keys, const struct loch_id *tenant)
{
    struct keys_work work;
    const uint64_t before = loads_of(keys, tenant);
    loch_status st = LOCH_OK;

    keys_change_begin(keys, &work, tenant);
    if (loads_of(keys, tenant) == before)
        st = load_noted(keys, tenant);
    else
        st = keys_check_open(keys, tenant);
    keys_change_end(keys, &work);
    return st;
}

void loch_keys_tenant_drop(struct loch_keys *keys, const struct loch_id *tenant)
{
    writing(keys);
    struct keys_tenant *gone = loch_id_map_remove(&keys->tenant_map, tenant);
    if (gone != NULL) {
        keys->tenants[gone->at] = keys->tenants[--keys->count];
        keys->tenants[gone->at]->at = gone->at;
    }
    keys_permit_forget(keys, tenant);
    keys_change_drop(keys, tenant);
    release(keys);
    keys_witness_forget(&keys->o, tenant);
    keys_tenant_destroy(gone);
}

static loch_status add_and_note(struct loch_keys *keys, const struct loch_id *tenant,
                                const struct loch_id *timelines, size_t count,
                                const struct loch_id *lock)
{
    struct keys_work work;
    loch_status st = LOCH_OK;

    for (size_t i = 0; i < count; i++)
        LOCH_ASSERT(!loch_id_is_none(&timelines[i]));
    keys_change_begin(keys, &work, tenant);
    for (int i = 0; i < CHANGE_TRIES; i++) {
        st = add_timelines(keys, tenant, timelines, count, lock);
        if (st.code != LOCH_E_STALE)
            break;
    }
    for (size_t i = 0; i < count; i++)
        note_timeline(keys, tenant, &timelines[i], "timeline_added", st);
    keys_change_end(keys, &work);
    return st;
}

loch_status loch_keys_add_timelines(struct loch_keys *keys, const struct loch_id *tenant,
                                    const struct loch_id *timelines, size_t count)
{
    return add_and_note(keys, tenant, timelines, count, &none);
}

loch_status loch_keys_add_locked(struct loch_keys *keys, const struct loch_id *tenant,
                                 const struct loch_id *timeline, const struct loch_id *lock)
{
    char id[LOCH_ID_TEXT_BYTES];
    struct loch_kms *kms = NULL;

    if (loch_id_equal(timeline, lock)) /* refused before anything is made */
        LOCH_TRY(keys_ring_kms(&keys->o, tenant, lock, &kms));
    LOCH_TRY(add_and_note(keys, tenant, timeline, 1, lock));
    if (kms != NULL)
        loch_audit_note(keys->o.audit, tenant, "branch_cmk", "KEKs of branch %s, CMK %s",
                        loch_id_format(lock, id), loch_kms_uri(kms));
    return loch_id_is_none(lock) ? LOCH_OK : check_lock(keys, tenant, lock);
}

struct loch_id loch_keys_lock(struct loch_keys *keys, const struct loch_id *tenant,
                              const struct loch_id *timeline)
{
    struct loch_id lock = none;

    reading(keys);
    const struct keys_tenant *t = keys_tenant_find(keys, tenant);
    if (t != NULL && t->lock_count > 0)
        lock = loch_keyring_lock(&t->ring, timeline);
    release(keys);
    return lock;
}

loch_status loch_keys_add_timeline(struct loch_keys *keys, const struct loch_id *tenant,
                                   const struct loch_id *timeline)
{
    return loch_keys_add_timelines(keys, tenant, timeline, 1);
}

static loch_status forget_timeline(struct loch_keys *keys, const struct loch_id *tenant,
                                   const struct loch_id *timeline)
{
    struct keys_tenant *t = NULL;
    bool changed = false;

    const uint64_t started_ns = keys_now_ns(keys);
    LOCH_TRY(keys_check_open(keys, tenant));
    LOCH_TRY(keys_get_newest(keys, tenant, &none, &t));
    const loch_status st = keys_ring_forget_timeline(&keys->o, t, timeline, &changed);
    if (!loch_is_ok(st) || changed) {
        keys_tenant_destroy(t);
        LOCH_TRY(st);
        return keys_load(keys, tenant, &none);
    }
    return keys_permit_note(keys, tenant, started_ns, install(keys, t), false);
}

loch_status loch_keys_forget_timeline(struct loch_keys *keys, const struct loch_id *tenant,
                                      const struct loch_id *timeline)
{
    struct keys_work work;
    loch_status st = LOCH_OK;

    LOCH_ASSERT(!loch_id_is_none(timeline));
    keys_change_begin(keys, &work, tenant);
    for (int i = 0; i < CHANGE_TRIES; i++) {
        st = forget_timeline(keys, tenant, timeline);
        if (st.code != LOCH_E_STALE)
            break;
    }
    note_timeline(keys, tenant, timeline, "timeline_destroyed", st);
    keys_change_end(keys, &work);
    return st;
}

/* Under lock. The active key's opened form, or NULL. */
static const struct opened_key *active_key(const struct keys_tenant *t, uint8_t level,
                                           uint8_t purpose, const struct loch_id *scope)
{
    for (uint32_t i = 0; i < t->ring.count; i++) {
        const struct opened_key *k = &t->keys[i];
        if (k->state == LOCH_STATE_ACTIVE && k->level == level && k->purpose == purpose &&
            loch_id_equal(&k->scope, scope))
            return k;
    }
    return NULL;
}

static bool has_open(const struct keys_tenant *t, uint8_t purpose, const struct loch_id *timeline)
{
    const struct opened_key *k = active_key(t, LOCH_LEVEL_TK, purpose, timeline);

    return k != NULL && k->secret.bytes != NULL;
}

static bool knows_timeline(const struct keys_tenant *t, const struct loch_id *timeline)
{
    return loch_id_is_none(timeline) ||
           (has_open(t, LOCH_PURPOSE_PAGE, timeline) && has_open(t, LOCH_PURPOSE_WAL, timeline));
}

bool loch_keys_has(struct loch_keys *keys, const struct loch_id *tenant,
                   const struct loch_id *timeline)
{
    reading(keys);
    const struct keys_tenant *t = keys_tenant_find(keys, tenant);
    const struct keys_permit *permit = keys_permit_find(keys, tenant, &none);
    const bool has =
        t != NULL && (permit == NULL || permit->block == LOCH_E_OK) && knows_timeline(t, timeline);
    release(keys);
    return has;
}

uint64_t loch_keys_generation(struct loch_keys *keys, const struct loch_id *tenant)
{
    reading(keys);
    const struct keys_tenant *t = keys_tenant_find(keys, tenant);
    const uint64_t generation = t != NULL ? t->ring.generation : 0;
    release(keys);
    return generation;
}

uint32_t loch_keys_versions(struct loch_keys *keys, const struct loch_id *tenant)
{
    reading(keys);
    const struct keys_tenant *t = keys_tenant_find(keys, tenant);
    const uint32_t versions = t != NULL ? t->ring.count : 0;
    release(keys);
    return versions;
}

static uint8_t sealing_level(enum loch_purpose purpose)
{
    return purpose == LOCH_PURPOSE_META ? LOCH_LEVEL_KEK : LOCH_LEVEL_TK;
}

loch_status loch_keys_wrap_key(struct loch_keys *keys, const struct loch_id *tenant,
                               const struct loch_id *timeline, enum loch_purpose purpose,
                               struct loch_wrap_key *out)
{
    const uint8_t level = sealing_level(purpose);
    struct loch_wrap_key key = {0};
    loch_status st;

    reading(keys);
    const struct keys_tenant *t = keys_tenant_find(keys, tenant);
    const struct opened_key *k =
        t == NULL ? NULL : active_key(t, level, (uint8_t)purpose, timeline);
    st = keys_permit_check(keys, tenant, k != NULL ? &k->lock : &none);
    if (!loch_is_ok(st)) {
        /* said already */
    } else if (t == NULL) {
        st = LOCH_FAIL(LOCH_E_NOT_FOUND, "the tenant's keys are not open");
    } else if (k == NULL) {
        st = LOCH_FAIL(LOCH_E_NOT_FOUND, "there is no active %s key for the timeline",
                       loch_purpose_name((uint8_t)purpose));
    } else if (k->secret.bytes == NULL) {
        st = keys_lock_failure(t, &k->lock);
    } else {
        key.key_id = k->key_id;
        key.version = k->version;
        st = loch_secret_copy(&key.secret, &k->secret);
    }
    release(keys);
    LOCH_TRY(st);
    *out = key;
    return LOCH_OK;
}

/* The purpose of the key that the writer of such a file asks loch_keys_wrap_key for. */
static enum loch_purpose purpose_of(const struct loch_place *place)
{
    switch (place->kind) {
    case LOCH_KIND_TENANT_MANIFEST:
        return LOCH_PURPOSE_META;
    case LOCH_KIND_LAYER:
    case LOCH_KIND_TIMELINE_MANIFEST:
        return LOCH_PURPOSE_PAGE;
    default:
        return LOCH_PURPOSE_WAL; /* what safekeepers write */
    }
}

static bool seals(const struct opened_key *k, const struct loch_place *place)
{
    const enum loch_purpose purpose = purpose_of(place);

    return k->level == sealing_level(purpose) && k->purpose == (uint8_t)purpose &&
           loch_id_equal(&k->scope, &place->timeline);
}

/* Whoever has one key of this daemon's can wrap with it for any place: so it has to be the place's.
 */
static loch_status find_key(void *arg, const struct loch_place *expected,
                            const struct loch_id *key_id, uint32_t version, struct loch_secret *out)
{
    struct loch_keys *keys = arg;
    const struct opened_key *found = NULL;
    loch_status st = LOCH_OK;

    reading(keys);
    const struct keys_tenant *owner = keys_tenant_find(keys, &expected->tenant);
    for (uint32_t k = 0; owner != NULL && k < owner->ring.count && found == NULL; k++)
        if (owner->keys[k].version == version && loch_id_equal(&owner->keys[k].key_id, key_id))
            found = &owner->keys[k];
    if (found != NULL)
        st = keys_permit_check(keys, &expected->tenant, &found->lock);
    if (!loch_is_ok(st))
        ; /* said already */
    else if (found == NULL)
        st = LOCH_FAIL(LOCH_E_NOT_FOUND, "the tenant's keyring, as it is open here, does not have "
                                         "the key that a file names");
    else if (!seals(found, expected))
        st = LOCH_FAIL(LOCH_E_CORRUPT, "a %s is sealed under a key that is not for it",
                       loch_kind_name(expected->kind));
    else if (found->state != LOCH_STATE_ACTIVE && found->state != LOCH_STATE_RETIRED)
        st = LOCH_FAIL(LOCH_E_DENIED, "the key that a file names is %s",
                       loch_key_state_name(found->state));
    else if (found->secret.bytes == NULL)
        st = keys_lock_failure(owner, &found->lock);
    else
        st = loch_secret_copy(out, &found->secret);
    release(keys);
    return st;
}

bool loch_keys_is_retired(struct loch_keys *keys, const struct loch_id *tenant,
                          const struct loch_id *key_id, uint32_t version)
{
    bool retired = false;

    reading(keys);
    const struct keys_tenant *t = keys_tenant_find(keys, tenant);
    for (uint32_t k = 0; t != NULL && t->has_retired && k < t->ring.count; k++) {
        const struct opened_key *key = &t->keys[k];
        if (key->version == version && loch_id_equal(&key->key_id, key_id))
            retired = key->state == LOCH_STATE_RETIRED;
    }
    release(keys);
    return retired;
}

struct loch_key_source loch_keys_source(struct loch_keys *keys)
{
    return (struct loch_key_source){find_key, keys};
}

/* Under lock. The tenant's wire key of that epoch, while it may be used: a pending one is known to
 * servers before clients get it. */
static const struct opened_key *wire_key(const struct keys_tenant *t, uint32_t epoch)
{
    for (uint32_t i = 0; i < t->ring.count; i++) {
        const struct opened_key *k = &t->keys[i];
        if (k->level == LOCH_LEVEL_TK && k->purpose == LOCH_PURPOSE_WIRE && k->version == epoch &&
            (k->state == LOCH_STATE_PENDING || k->state == LOCH_STATE_ACTIVE ||
             k->state == LOCH_STATE_RETIRED))
            return k;
    }
    return NULL;
}

bool loch_keys_epoch_lives(struct loch_keys *keys, const struct loch_id *tenant, uint32_t epoch)
{
    reading(keys);
    const struct keys_tenant *t = keys_tenant_find(keys, tenant);
    const bool lives = t == NULL || wire_key(t, epoch) != NULL; /* not known: no keys are used */
    release(keys);
    return lives;
}

/* Under lock. A client that knows of a later epoch than we do has it from a daemon that is further.
 */
static void note_later_epoch(struct loch_keys *keys, const struct keys_tenant *t, uint32_t epoch)
{
    struct keys_permit *permit = keys_permit_find(keys, &t->ring.tenant, &none);

    for (uint32_t i = 0; i < t->ring.count; i++)
        if (t->keys[i].level == LOCH_LEVEL_TK && t->keys[i].purpose == LOCH_PURPOSE_WIRE &&
            t->keys[i].version >= epoch)
            return;
    if (permit != NULL)
        atomic_store(&permit->behind, true);
}

loch_status loch_keys_psk(struct loch_keys *keys, struct loch_psk_identity *identity,
                          struct loch_secret *out)
{
    const struct opened_key *k = NULL;
    loch_status st;

    if (!loch_id_equal(&identity->cluster, &keys->o.cluster))
        return LOCH_FAIL(LOCH_E_INVALID, "the connection identity is of another cluster");
    reading(keys);
    const struct keys_tenant *t = keys_tenant_find(keys, &identity->tenant);
    if (t != NULL && identity->wire_epoch == 0)
        k = active_key(t, LOCH_LEVEL_TK, LOCH_PURPOSE_WIRE, &none);
    else if (t != NULL)
        k = wire_key(t, identity->wire_epoch);
    if (t != NULL && k == NULL && identity->wire_epoch != 0)
        note_later_epoch(keys, t, identity->wire_epoch);
    st = keys_permit_check(keys, &identity->tenant, &none);
    if (!loch_is_ok(st)) {
        /* said already */
    } else if (k == NULL) {
        st = LOCH_FAIL(LOCH_E_NOT_FOUND, "no wire key for the connection's tenant and epoch");
    } else {
        identity->wire_epoch = k->version;
        st = loch_psk_derive(&k->secret, identity, out);
    }
    release(keys);
    return st;
}

bool loch_keys_psk_lookup(void *arg, struct loch_slice identity, struct loch_secret *psk)
{
    struct loch_keys *keys = arg;
    struct loch_psk_identity id;

    if (!loch_is_ok(loch_psk_identity_decode(identity, &id)))
        return false;
    if (!loch_id_equal(&id.cluster, &keys->o.cluster) || id.server_role != keys->o.role ||
        !loch_id_equal(&id.server_node, &keys->o.node) ||
        loch_id_equal(&id.client_id, &keys->o.node))
        return false;
    /* It wakes a sleeper, but keeps nobody awake: that do connections that live. */
    if (loch_keys_asleep(keys, &id.tenant))
        loch_keys_want(keys, &id.tenant);
    if (!loch_keys_has(keys, &id.tenant, &id.timeline))
        return false;
    return loch_is_ok(loch_keys_psk(keys, &id, psk));
}
