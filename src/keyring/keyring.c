/* Holds: the keyring's entries, their rules, and the life of a version.
 *
 * Invariants: versions of a key id are 1, 2, 3, ... in order and agree in level, purpose and scope;
 * of K_wire those may have left that are destroyed, as long as a newer one is there;
 * a TK's parent is a KEK of the same purpose that stands before it; at most one version of a key id
 * is ACTIVE; a DESTROYED version has no wrap. A KEK whose scope is a branch (its own CMK wraps it)
 * is for PAGE or WAL, and holds timelines' keys only; all keys of a timeline hang under one CMK.
 */
#include "loch/keyring/keyring.h"
#include "keyring_internal.h"
#include "loch/base/check.h"
#include "loch/base/secret.h"

#include <stdlib.h>
#include <string.h>

const char *loch_purpose_name(uint8_t purpose)
{
    switch (purpose) {
    case LOCH_PURPOSE_PAGE:
        return "page";
    case LOCH_PURPOSE_WAL:
        return "wal";
    case LOCH_PURPOSE_WIRE:
        return "wire";
    case LOCH_PURPOSE_META:
        return "meta";
    }
    return "unknown";
}

const char *loch_key_state_name(uint8_t state)
{
    switch (state) {
    case LOCH_STATE_PENDING:
        return "pending";
    case LOCH_STATE_ACTIVE:
        return "active";
    case LOCH_STATE_RETIRED:
        return "retired";
    case LOCH_STATE_REVOKED:
        return "revoked";
    case LOCH_STATE_DESTROYED:
        return "destroyed";
    }
    return "unknown";
}

void loch_keyring_init(struct loch_keyring *ring, const struct loch_id *cluster,
                       const struct loch_id *tenant)
{
    *ring = (struct loch_keyring){.cluster = *cluster, .tenant = *tenant, .generation = 1};
}

void keyring_entry_fini(struct loch_keyring_entry *entry)
{
    loch_buf_fini(&entry->cmk_uri);
    loch_buf_fini(&entry->wrap);
}

void loch_keyring_fini(struct loch_keyring *ring)
{
    for (uint32_t i = 0; i < ring->count; i++)
        keyring_entry_fini(&ring->entries[i]);
    free(ring->entries);
    *ring = (struct loch_keyring){0};
}

static loch_status entries_reserve(struct loch_keyring *ring, uint32_t want)
{
    if (want <= ring->cap)
        return LOCH_OK;
    const uint32_t cap = ring->cap < 8 ? 8 : ring->cap * 2;
    struct loch_keyring_entry *entries = realloc(ring->entries, cap * sizeof *entries);
    if (entries == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %" PRIu32 " keyring entries", cap);
    ring->entries = entries;
    ring->cap = cap;
    return LOCH_OK;
}

loch_status loch_keyring_copy(struct loch_keyring *out, const struct loch_keyring *ring)
{
    struct loch_keyring copy = *ring;
    loch_status st;

    copy.entries = NULL;
    copy.count = 0;
    copy.cap = 0;
    for (uint32_t i = 0; i < ring->count; i++) {
        struct loch_keyring_entry e = ring->entries[i];
        e.cmk_uri = (struct loch_buf){0};
        e.wrap = (struct loch_buf){0};
        LOCH_TRY_OUT(st, entries_reserve(&copy, i + 1));
        copy.entries[copy.count++] = e;
        LOCH_TRY_OUT(st, loch_buf_append(&copy.entries[i].cmk_uri, ring->entries[i].cmk_uri.data,
                                         ring->entries[i].cmk_uri.len));
        LOCH_TRY_OUT(st, loch_buf_append(&copy.entries[i].wrap, ring->entries[i].wrap.data,
                                         ring->entries[i].wrap.len));
    }
    *out = copy;
    return LOCH_OK;
out:
    loch_keyring_fini(&copy);
    return st;
}

const struct loch_keyring_entry *loch_keyring_find(const struct loch_keyring *ring,
                                                   const struct loch_id *key_id, uint32_t version)
{
    for (uint32_t i = 0; i < ring->count; i++)
        if (ring->entries[i].version == version && loch_id_equal(&ring->entries[i].key_id, key_id))
            return &ring->entries[i];
    return NULL;
}

const struct loch_keyring_entry *loch_keyring_active(const struct loch_keyring *ring,
                                                     enum loch_key_level level,
                                                     enum loch_purpose purpose,
                                                     const struct loch_id *scope)
{
    for (uint32_t i = 0; i < ring->count; i++) {
        const struct loch_keyring_entry *e = &ring->entries[i];
        if (e->state == LOCH_STATE_ACTIVE && e->level == level && e->purpose == purpose &&
            loch_id_equal(&e->scope, scope))
            return e;
    }
    return NULL;
}

const struct loch_keyring_entry *loch_keyring_active_version(const struct loch_keyring *ring,
                                                             const struct loch_id *key_id)
{
    for (uint32_t i = 0; i < ring->count; i++)
        if (ring->entries[i].state == LOCH_STATE_ACTIVE &&
            loch_id_equal(&ring->entries[i].key_id, key_id))
            return &ring->entries[i];
    return NULL;
}

struct loch_id loch_keyring_lock_of(const struct loch_keyring *ring,
                                    const struct loch_keyring_entry *e)
{
    if (e->level == LOCH_LEVEL_KEK)
        return e->scope;
    const struct loch_keyring_entry *parent =
        loch_keyring_find(ring, &e->parent, e->parent_version);
    return parent != NULL ? parent->scope : (struct loch_id){{0}};
}

struct loch_id loch_keyring_lock(const struct loch_keyring *ring, const struct loch_id *timeline)
{
    for (uint32_t i = 0; i < ring->count; i++)
        if (ring->entries[i].level == LOCH_LEVEL_TK &&
            loch_id_equal(&ring->entries[i].scope, timeline))
            return loch_keyring_lock_of(ring, &ring->entries[i]);
    return (struct loch_id){{0}};
}

/* Whether fields of one entry go together, without looking at others. */
static bool fields_agree(const struct loch_keyring_entry *e)
{
    if (loch_id_is_none(&e->key_id) || e->version == 0 || e->purpose < LOCH_PURPOSE_PAGE ||
        e->purpose > LOCH_PURPOSE_META || e->state < LOCH_STATE_PENDING ||
        e->state > LOCH_STATE_DESTROYED)
        return false;
    if ((e->wrap.len == 0) != (e->state == LOCH_STATE_DESTROYED) ||
        e->wrap.len > LOCH_KEYRING_WRAP_MAX_BYTES || e->cmk_uri.len > LOCH_KEYRING_URI_MAX_BYTES)
        return false;
    if (e->level == LOCH_LEVEL_KEK && !loch_id_is_none(&e->scope) &&
        e->purpose != LOCH_PURPOSE_PAGE && e->purpose != LOCH_PURPOSE_WAL)
        return false;
    if (e->level == LOCH_LEVEL_KEK)
        return loch_id_is_none(&e->parent) && e->parent_version == 0 && e->cmk_uri.len > 0 &&
               e->provider >= LOCH_PROVIDER_FILE && e->provider <= LOCH_PROVIDER_VAULT;
    return e->level == LOCH_LEVEL_TK && e->cmk_uri.len == 0 && e->provider == 0 &&
           !loch_id_is_none(&e->parent);
}

/* A TK below its parent: of the same purpose; a branch's KEK holds timelines' keys, and all those
 * of a timeline. */
static loch_status parent_check(const struct loch_keyring *ring, const struct loch_keyring_entry *e)
{
    const struct loch_keyring_entry *parent =
        loch_keyring_find(ring, &e->parent, e->parent_version);

    if (parent == NULL || parent->level != LOCH_LEVEL_KEK || parent->purpose != e->purpose)
        return LOCH_FAIL(LOCH_E_INVALID, "a timeline key's parent is not a KEK of its purpose");
    if (loch_id_is_none(&e->scope))
        return loch_id_is_none(&parent->scope)
                   ? LOCH_OK
                   : LOCH_FAIL(LOCH_E_INVALID, "a tenant's key hangs under a branch's CMK");
    for (uint32_t i = 0; i < ring->count; i++) {
        const struct loch_keyring_entry *other = &ring->entries[i];
        if (other->level != LOCH_LEVEL_TK || !loch_id_equal(&other->scope, &e->scope))
            continue;
        const struct loch_id lock = loch_keyring_lock_of(ring, other);
        if (!loch_id_equal(&lock, &parent->scope))
            return LOCH_FAIL(LOCH_E_INVALID, "a timeline's keys hang under two CMKs");
        break;
    }
    return LOCH_OK;
}

static bool is_wire_key(const struct loch_keyring_entry *e)
{
    return e->level == LOCH_LEVEL_TK && e->purpose == LOCH_PURPOSE_WIRE;
}

loch_status keyring_entry_check(const struct loch_keyring *ring, const struct loch_keyring_entry *e,
                                bool is_new)
{
    uint32_t last = 0;

    if (!fields_agree(e))
        return LOCH_FAIL(LOCH_E_INVALID, "a key's fields do not go together");
    for (uint32_t i = 0; i < ring->count; i++) {
        const struct loch_keyring_entry *other = &ring->entries[i];
        if (!loch_id_equal(&other->key_id, &e->key_id))
            continue;
        if (other->level != e->level || other->purpose != e->purpose ||
            !loch_id_equal(&other->scope, &e->scope))
            return LOCH_FAIL(LOCH_E_INVALID, "versions of a key differ in what they are for");
        if (other->state == LOCH_STATE_ACTIVE && e->state == LOCH_STATE_ACTIVE)
            return LOCH_FAIL(LOCH_E_INVALID, "two versions of a key are active");
        last = other->version;
    }
    const bool follows = is_wire_key(e) && !is_new ? e->version > last : e->version == last + 1;
    if (!follows)
        return LOCH_FAIL(LOCH_E_INVALID, "version %" PRIu32 " of a key follows %" PRIu32,
                         e->version, last);
    return e->level == LOCH_LEVEL_TK ? parent_check(ring, e) : LOCH_OK;
}

/* How many versions a keyring may have before one of this kind is added. */
static uint32_t room_of(const struct loch_keyring_entry *e)
{
    return e->level == LOCH_LEVEL_TK && !is_wire_key(e)
               ? LOCH_KEYRING_ENTRIES_MAX - LOCH_KEYRING_RESERVE
               : LOCH_KEYRING_ENTRIES_MAX;
}

loch_status keyring_entry_append(struct loch_keyring *ring, struct loch_keyring_entry *take_entry,
                                 bool is_new)
{
    const uint32_t room = is_new ? room_of(take_entry) : LOCH_KEYRING_ENTRIES_MAX;
    loch_status st;

    if (ring->count >= room) {
        st = LOCH_FAIL(LOCH_E_LIMIT,
                       "the tenant's keyring has %" PRIu32 " key versions, and from %" PRIu32
                       " on takes none of this kind: " LOCH_KEYRING_CURE,
                       ring->count, room);
        goto out;
    }
    LOCH_TRY_OUT(st, keyring_entry_check(ring, take_entry, is_new));
    LOCH_TRY_OUT(st, entries_reserve(ring, ring->count + 1));
    ring->entries[ring->count++] = *take_entry;
    *take_entry = (struct loch_keyring_entry){0};
out:
    keyring_entry_fini(take_entry);
    *take_entry = (struct loch_keyring_entry){0};
    return st;
}

loch_status loch_keyring_add(struct loch_keyring *ring, struct loch_keyring_entry *take_entry)
{
    const bool is_kek = take_entry->level == LOCH_LEVEL_KEK;

    take_entry->state = LOCH_STATE_PENDING;
    LOCH_TRY(keyring_entry_append(ring, take_entry, true));
    /* KEKs stand before what hangs below them, so that a reader meets parents first. */
    for (uint32_t i = ring->count - 1; is_kek && i > 0; i--) {
        if (ring->entries[i - 1].level == LOCH_LEVEL_KEK)
            break;
        const struct loch_keyring_entry swap = ring->entries[i - 1];
        ring->entries[i - 1] = ring->entries[i];
        ring->entries[i] = swap;
    }
    return LOCH_OK;
}

static struct loch_keyring_entry *find_mutable(struct loch_keyring *ring,
                                               const struct loch_id *key_id, uint32_t version)
{
    const struct loch_keyring_entry *e = loch_keyring_find(ring, key_id, version);

    return e == NULL ? NULL : &ring->entries[e - ring->entries];
}

loch_status loch_keyring_activate(struct loch_keyring *ring, const struct loch_id *key_id,
                                  uint32_t version)
{
    struct loch_keyring_entry *e = find_mutable(ring, key_id, version);

    if (e == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "the keyring has no such key version");
    if (e->state != LOCH_STATE_PENDING)
        return LOCH_FAIL(LOCH_E_INVALID, "a %s key version cannot become active",
                         loch_key_state_name(e->state));
    for (uint32_t i = 0; i < ring->count; i++)
        if (ring->entries[i].state == LOCH_STATE_ACTIVE &&
            loch_id_equal(&ring->entries[i].key_id, key_id))
            ring->entries[i].state = LOCH_STATE_RETIRED;
    e->state = LOCH_STATE_ACTIVE;
    return LOCH_OK;
}

loch_status loch_keyring_revoke(struct loch_keyring *ring, const struct loch_id *key_id,
                                uint32_t version)
{
    struct loch_keyring_entry *e = find_mutable(ring, key_id, version);

    if (e == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "the keyring has no such key version");
    if (e->state == LOCH_STATE_DESTROYED)
        return LOCH_FAIL(LOCH_E_INVALID, "a destroyed key version cannot be revoked");
    e->state = LOCH_STATE_REVOKED;
    return LOCH_OK;
}

loch_status loch_keyring_destroy_version(struct loch_keyring *ring, const struct loch_id *key_id,
                                         uint32_t version)
{
    struct loch_keyring_entry *e = find_mutable(ring, key_id, version);

    if (e == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "the keyring has no such key version");
    if (e->wrap.len > 0)
        loch_wipe(e->wrap.data, e->wrap.len);
    loch_buf_fini(&e->wrap);
    e->state = LOCH_STATE_DESTROYED;
    return LOCH_OK;
}

/* Versions of a key stand in order. */
static bool has_newer(const struct loch_keyring *ring, uint32_t at)
{
    for (uint32_t i = at + 1; i < ring->count; i++)
        if (loch_id_equal(&ring->entries[i].key_id, &ring->entries[at].key_id))
            return true;
    return false;
}

uint32_t loch_keyring_sweep(struct loch_keyring *ring)
{
    const uint32_t before = ring->count;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < before; i++) {
        struct loch_keyring_entry *e = &ring->entries[i];
        if (is_wire_key(e) && e->state == LOCH_STATE_DESTROYED && has_newer(ring, i))
            keyring_entry_fini(e);
        else
            ring->entries[kept++] = *e;
    }
    ring->count = kept;
    return before - kept;
}

bool keyring_is_gapped(const struct loch_keyring *ring)
{
    for (uint32_t i = 0; i < ring->count; i++) {
        const struct loch_keyring_entry *e = &ring->entries[i];
        if (is_wire_key(e) && e->version > 1 &&
            loch_keyring_find(ring, &e->key_id, e->version - 1) == NULL)
            return true;
    }
    return false;
}

/* Whether keys of other timelines hang under the branch's own CMK. */
static bool holds_others(const struct loch_keyring *ring, const struct loch_id *branch)
{
    for (uint32_t i = 0; i < ring->count; i++) {
        const struct loch_keyring_entry *e = &ring->entries[i];
        const struct loch_id lock = loch_keyring_lock_of(ring, e);
        if (e->level == LOCH_LEVEL_TK && !loch_id_equal(&e->scope, branch) &&
            loch_id_equal(&lock, branch))
            return true;
    }
    return false;
}

uint32_t loch_keyring_forget(struct loch_keyring *ring, const struct loch_id *timeline)
{
    uint32_t kept = 0;

    LOCH_ASSERT(!loch_id_is_none(timeline)); /* none is the tenant's own scope */
    const bool held = holds_others(ring, timeline);
    const uint32_t before = ring->count;
    for (uint32_t i = 0; i < before; i++) {
        struct loch_keyring_entry *e = &ring->entries[i];
        const bool goes = e->level == LOCH_LEVEL_TK || !held;
        if (goes && loch_id_equal(&e->scope, timeline)) {
            if (e->wrap.len > 0)
                loch_wipe(e->wrap.data, e->wrap.len);
            keyring_entry_fini(e);
        } else {
            ring->entries[kept++] = *e;
        }
    }
    ring->count = kept;
    return before - kept;
}

loch_status loch_keyring_rewrap(struct loch_keyring *ring, const struct loch_id *key_id,
                                uint32_t version, uint32_t parent_version,
                                struct loch_buf *take_wrap)
{
    struct loch_keyring_entry *e = find_mutable(ring, key_id, version);
    loch_status st = LOCH_OK;

    if (e == NULL)
        st = LOCH_FAIL(LOCH_E_NOT_FOUND, "the keyring has no such key version");
    else if (e->state == LOCH_STATE_DESTROYED || take_wrap->len == 0 ||
             take_wrap->len > LOCH_KEYRING_WRAP_MAX_BYTES)
        st = LOCH_FAIL(LOCH_E_INVALID, "the key version cannot take this wrap");
    else if (e->level == LOCH_LEVEL_TK &&
             loch_keyring_find(ring, &e->parent, parent_version) == NULL)
        st = LOCH_FAIL(LOCH_E_NOT_FOUND, "the keyring has no such parent version");
    else if (e->level == LOCH_LEVEL_KEK && parent_version != 0)
        st = LOCH_FAIL(LOCH_E_INVALID, "a KEK has no parent version");
    if (loch_is_ok(st)) {
        loch_buf_fini(&e->wrap);
        e->wrap = *take_wrap;
        *take_wrap = (struct loch_buf){0};
        e->parent_version = parent_version;
    }
    loch_buf_fini(take_wrap);
    return st;
}

loch_status loch_keyring_move(struct loch_keyring *ring, const struct loch_id *key_id,
                              uint32_t version, uint8_t provider, struct loch_slice cmk_uri,
                              struct loch_buf *take_wrap)
{
    struct loch_keyring_entry *e = find_mutable(ring, key_id, version);
    struct loch_buf uri = {0};
    loch_status st = LOCH_OK;

    if (e == NULL || e->level != LOCH_LEVEL_KEK)
        st = LOCH_FAIL(LOCH_E_NOT_FOUND, "the keyring has no such KEK version");
    else if (provider < LOCH_PROVIDER_FILE || provider > LOCH_PROVIDER_VAULT || cmk_uri.len == 0 ||
             cmk_uri.len > LOCH_KEYRING_URI_MAX_BYTES)
        st = LOCH_FAIL(LOCH_E_INVALID, "not a CMK that a KEK can move to");
    else
        st = loch_buf_append(&uri, cmk_uri.data, cmk_uri.len);
    if (loch_is_ok(st))
        st = loch_keyring_rewrap(ring, key_id, version, 0, take_wrap);
    if (loch_is_ok(st)) {
        loch_buf_fini(&e->cmk_uri);
        e->cmk_uri = uri;
        uri = (struct loch_buf){0};
        e->provider = provider;
    }
    loch_buf_fini(&uri);
    loch_buf_fini(take_wrap);
    return st;
}

static bool is_tenants_kek(const struct loch_keyring_entry *e)
{
    return e->level == LOCH_LEVEL_KEK && loch_id_is_none(&e->scope);
}

/* The entry of the same key and version; where there is none, the newest of that key; or NULL.
 * Keyrings that follow each other are in nearly the same order: it is looked for from *at on. */
static const struct loch_keyring_entry *
entry_like(const struct loch_keyring *ring, const struct loch_keyring_entry *like, uint32_t *at)
{
    const struct loch_keyring_entry *newest = NULL;

    for (uint32_t n = 0; n < ring->count; n++) {
        const uint32_t i = (*at + n) % ring->count;
        const struct loch_keyring_entry *e = &ring->entries[i];
        if (!loch_id_equal(&e->key_id, &like->key_id))
            continue;
        if (e->version == like->version) {
            *at = i + 1;
            return e;
        }
        if (newest == NULL || e->version > newest->version)
            newest = e;
    }
    return newest;
}

/* Versions are only added, and their states only go on; a KEK of the tenant's stays. Otherwise
 * whoever has a KEK of before a rotation could make it the one that counts. */
static loch_status check_goes_on(const struct loch_keyring *ring, const struct loch_keyring *next)
{
    uint32_t missing = 0, at = 0;

    for (uint32_t i = 0; i < ring->count; i++)
        missing += is_tenants_kek(&ring->entries[i]) ? 1 : 0;
    for (uint32_t i = 0; i < next->count; i++) {
        const struct loch_keyring_entry *is = &next->entries[i];
        const struct loch_keyring_entry *was = entry_like(ring, is, &at);
        if (was == NULL || is->version > was->version)
            continue;
        if (is->version < was->version)
            return LOCH_FAIL(LOCH_E_CORRUPT,
                             "version %" PRIu32 " of a %s key is in the keyring again: it had left",
                             is->version, loch_purpose_name(is->purpose));
        if (is->state < was->state)
            return LOCH_FAIL(LOCH_E_CORRUPT,
                             "version %" PRIu32
                             " of a %s key is %s in the keyring, but is known to "
                             "be %s: somebody who has old keys has made it",
                             is->version, loch_purpose_name(is->purpose),
                             loch_key_state_name(is->state), loch_key_state_name(was->state));
        missing -= is_tenants_kek(was) ? 1 : 0;
    }
    if (missing != 0)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a KEK that is known is not in the keyring");
    return LOCH_OK;
}

const struct loch_keyring_entry *loch_keyring_mac_key(const struct loch_keyring *ring)
{
    const struct loch_keyring_entry *first = NULL;

    for (uint32_t i = 0; i < ring->count; i++) {
        const struct loch_keyring_entry *e = &ring->entries[i];
        if (!is_tenants_kek(e) || e->purpose != LOCH_PURPOSE_META)
            continue;
        if (e->state == LOCH_STATE_ACTIVE)
            return e;
        if (e->state == LOCH_STATE_PENDING && e->version == 1)
            first = e;
    }
    return first;
}

loch_status loch_keyring_check_successor(const struct loch_keyring *ring,
                                         const uint8_t hash[static LOCH_KEYRING_HASH_BYTES],
                                         const struct loch_keyring *next)
{
    if (!loch_id_equal(&ring->cluster, &next->cluster) ||
        !loch_id_equal(&ring->tenant, &next->tenant))
        return LOCH_FAIL(LOCH_E_CORRUPT, "the keyring belongs to another cluster or tenant");
    if (next->generation <= ring->generation)
        return LOCH_FAIL(LOCH_E_STALE,
                         "keyring generation %" PRIu64 " where %" PRIu64 " has been seen",
                         next->generation, ring->generation);
    if (next->generation == ring->generation + 1 &&
        memcmp(next->previous_hash, hash, LOCH_KEYRING_HASH_BYTES) != 0)
        return LOCH_FAIL(LOCH_E_CORRUPT, "the keyring does not follow the one before it");
    return check_goes_on(ring, next);
}
