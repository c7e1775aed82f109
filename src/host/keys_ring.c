/* Holds: one tenant's keyring between object store, KMS and ciphers.
 *
 * The order in which a key comes to life (docs/format/keyring.md): PENDING is put, read back,
 * unwrapped anew and compared with its commitment, and only then put again as ACTIVE; nothing is
 * sealed under a key that is not ACTIVE. The CMK is one that this daemon's configuration or pins
 * name; what the keyring says about it chooses among the tenant's pins at most. The first KEKs are
 * made under the last pin, later ones under the CMK that holds those: only a move changes that.
 */
#include "keys_internal.h"
#include "loch/base/check.h"
#include "loch/crypto/hkdf.h"
#include "loch/crypto/random.h"
#include "loch/kms/kms.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RING_MAX_BYTES (96u << 20)
#define NAME_BYTES     64u
#define TK_PLACE_BYTES 77u

static const char mac_label[] = "loch keyring mac v1";
static const char tk_label[8] = "loch tk";
static const struct loch_id none;

static void object_name(const struct loch_id *tenant, char name[static NAME_BYTES])
{
    char text[LOCH_ID_TEXT_BYTES];

    (void)snprintf(name, NAME_BYTES, "tenants/%s/keyring", loch_id_format(tenant, text));
}

void keys_tenant_wipe(struct keys_tenant *t)
{
    for (uint32_t i = 0; t->keys != NULL && i < t->ring.count; i++)
        loch_secret_fini(&t->keys[i].secret);
    for (size_t i = 0; i < t->lock_count; i++)
        keys_lock_close(&t->locks[i]);
}

void keys_tenant_destroy(struct keys_tenant *t)
{
    if (t == NULL)
        return;
    keys_tenant_wipe(t);
    free(t->keys);
    free(t->locks);
    loch_keyring_fini(&t->ring);
    free(t);
}

static struct loch_kms_context kms_context(const struct loch_keyring *ring,
                                           const struct loch_keyring_entry *e)
{
    return (struct loch_kms_context){ring->cluster, ring->tenant, e->key_id,
                                     e->purpose,    e->scope,     e->version};
}

/* What the wrap of a TK is bound to: 8 label | 16 cluster | 16 tenant | 16 key id | 16 scope |
 * u32 version | u8 purpose. */
static struct loch_slice tk_place(const struct loch_keyring *ring,
                                  const struct loch_keyring_entry *e,
                                  uint8_t out[static TK_PLACE_BYTES])
{
    memcpy(out, tk_label, sizeof tk_label);
    memcpy(out + 8, ring->cluster.bytes, 16);
    memcpy(out + 24, ring->tenant.bytes, 16);
    memcpy(out + 40, e->key_id.bytes, 16);
    memcpy(out + 56, e->scope.bytes, 16);
    loch_put_u32(out + 72, e->version);
    out[76] = e->purpose;
    return loch_slice_of(out, TK_PLACE_BYTES);
}

/* ---- opening ---- */

const struct loch_secret *keys_ring_secret(const struct keys_tenant *t,
                                           const struct loch_id *key_id, uint32_t version)
{
    for (uint32_t i = 0; i < t->ring.count; i++)
        if (t->keys[i].version == version && loch_id_equal(&t->keys[i].key_id, key_id) &&
            t->keys[i].secret.bytes != NULL)
            return &t->keys[i].secret;
    return NULL;
}

loch_status keys_ring_kms(const struct loch_keys_options *o, const struct loch_id *tenant,
                          const struct loch_id *branch, struct loch_kms **out)
{
    const bool whole = loch_id_is_none(branch);
    struct loch_kms *kms = loch_kms_for(o->kms, whole ? tenant : branch, NULL);

    if (!whole && kms == o->kms)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "no CMK is pinned here for the branch (loch key pin with its id)");
    *out = kms;
    return LOCH_OK;
}

/* The CMK above a branch's KEK: exactly the one that the entry names, pinned for the branch. */
static loch_status branch_kms(const struct loch_keys_options *o, const struct loch_keyring_entry *e,
                              const char *uri, struct loch_kms **out)
{
    struct loch_kms *kms = loch_kms_for(o->kms, &e->scope, uri);

    if (kms == o->kms || strcmp(loch_kms_uri(kms), uri) != 0 ||
        e->provider != loch_kms_provider(kms))
        return LOCH_FAIL(LOCH_E_INVALID,
                         "the branch's keys are held by \"%s\", which is not pinned for it on this "
                         "daemon (loch key pin with the branch's id)",
                         uri);
    *out = kms;
    return LOCH_OK;
}

/* The CMK above a KEK: of those pinned for the tenant, the one that the entry names. */
static loch_status entry_kms(const struct loch_keys_options *o, const struct keys_tenant *t,
                             const struct loch_keyring_entry *e, struct loch_kms **out)
{
    char uri[LOCH_KEYRING_URI_MAX_BYTES + 1];
    const size_t n = e->cmk_uri.len < sizeof uri ? e->cmk_uri.len : sizeof uri - 1;

    if (n > 0)
        memcpy(uri, e->cmk_uri.data, n);
    uri[n] = '\0';
    if (!loch_id_is_none(&e->scope))
        return branch_kms(o, e, uri, out);
    struct loch_kms *kms = loch_kms_for(o->kms, &t->ring.tenant, uri);
    if (e->provider != loch_kms_provider(kms))
        return LOCH_FAIL(LOCH_E_INVALID,
                         "the tenant's keys are held by \"%s\", this daemon is configured for "
                         "\"%s\": pin the tenant's CMK here (loch key pin)",
                         uri, loch_kms_uri(kms));
    *out = kms;
    return LOCH_OK;
}

loch_status keys_ring_holder(const struct loch_keys_options *o, const struct keys_tenant *t,
                             const struct loch_id *branch, struct loch_kms **out)
{
    const enum loch_purpose purpose =
        loch_id_is_none(branch) ? LOCH_PURPOSE_META : LOCH_PURPOSE_PAGE;
    const struct loch_keyring_entry *e =
        loch_keyring_active(&t->ring, LOCH_LEVEL_KEK, purpose, branch);

    if (e == NULL)
        return LOCH_FAIL(LOCH_E_CORRUPT, "the keyring has no active %s KEK",
                         loch_purpose_name((uint8_t)purpose));
    return entry_kms(o, t, e, out);
}

loch_status keys_entry_unwrap(const struct loch_keys_options *o, const struct keys_tenant *t,
                              const struct loch_keyring_entry *e, struct loch_secret *out)
{
    uint8_t place[TK_PLACE_BYTES];
    uint8_t check[LOCH_COMMITMENT_BYTES];
    struct loch_secret s = {0};
    struct loch_kms *kms = NULL;
    const struct loch_slice salt = loch_slice_of(e->salt, sizeof e->salt);

    if (e->level == LOCH_LEVEL_KEK) {
        const struct loch_kms_context context = kms_context(&t->ring, e);
        LOCH_TRY(entry_kms(o, t, e, &kms));
        LOCH_TRY(loch_kms_unwrap(kms, &context, loch_buf_slice(&e->wrap), &s));
    } else {
        const struct loch_secret *kek = keys_ring_secret(t, &e->parent, e->parent_version);
        if (kek == NULL)
            return LOCH_FAIL(LOCH_E_DENIED, "the KEK above a %s key is revoked",
                             loch_purpose_name(e->purpose));
        LOCH_TRY(
            loch_dek_unwrap(kek, salt, tk_place(&t->ring, e, place), loch_buf_slice(&e->wrap), &s));
    }
    loch_status st = loch_key_commitment(&s, salt, check);
    if (loch_is_ok(st) && !loch_bytes_equal(check, e->commitment, sizeof check))
        st = LOCH_FAIL(LOCH_E_CORRUPT, "an unwrapped key is not the one the keyring commits to");
    if (!loch_is_ok(st)) {
        loch_secret_fini(&s);
        return st;
    }
    *out = s;
    return LOCH_OK;
}

loch_status keys_ring_prove(const struct loch_keys_options *o, const struct loch_keyring *ring,
                            const struct loch_id *branch)
{
    const struct keys_tenant t = {.ring = *ring};
    const enum loch_purpose purpose =
        loch_id_is_none(branch) ? LOCH_PURPOSE_META : LOCH_PURPOSE_PAGE;
    struct loch_secret s = {0};
    const struct loch_keyring_entry *e = loch_keyring_active(ring, LOCH_LEVEL_KEK, purpose, branch);

    for (uint32_t i = 0; i < ring->count && e == NULL && purpose == LOCH_PURPOSE_PAGE; i++)
        if (ring->entries[i].level == LOCH_LEVEL_KEK &&
            loch_id_equal(&ring->entries[i].scope, branch) &&
            ring->entries[i].state == LOCH_STATE_PENDING)
            e = &ring->entries[i]; /* its making was cut short */
    if (e == NULL)
        return LOCH_FAIL(LOCH_E_CORRUPT, "the keyring has no active %s KEK",
                         loch_purpose_name((uint8_t)purpose));
    LOCH_TRY(keys_entry_unwrap(o, &t, e, &s));
    loch_secret_fini(&s);
    return LOCH_OK;
}

/* Below a branch's CMK that is not asked, or does not open, nothing is; the rest of the keyring is
 * none the worse. */
static loch_status key_open(const struct loch_keys_options *o, struct keys_tenant *t,
                            const struct loch_keyring_entry *e, const struct loch_id *ask,
                            struct opened_key *k)
{
    struct keys_lock *lock = NULL;

    LOCH_TRY(keys_lock_above(t, &k->lock, ask, &lock));
    if (e->state == LOCH_STATE_REVOKED || e->state == LOCH_STATE_DESTROYED ||
        (lock != NULL && lock->code != LOCH_E_OK))
        return LOCH_OK;
    const loch_status st = keys_entry_unwrap(o, t, e, &k->secret);
    if (loch_is_ok(st) || lock == NULL || e->level != LOCH_LEVEL_KEK || st.code == LOCH_E_NO_MEMORY)
        return st;
    lock->granted = false;
    lock->code = st.code == LOCH_E_DENIED ? LOCH_E_DENIED : LOCH_E_UNAVAILABLE;
    (void)snprintf(lock->why, sizeof lock->why, "%s", loch_error_text());
    return LOCH_OK;
}

loch_status keys_ring_open(const struct loch_keys_options *o, struct keys_tenant *t,
                           const struct loch_id *ask, const struct loch_id *only)
{
    t->keys = calloc(t->ring.count > 0 ? t->ring.count : 1, sizeof *t->keys);
    if (t->keys == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %" PRIu32 " keys", t->ring.count);
    for (uint32_t i = 0; i < t->ring.count; i++) {
        const struct loch_keyring_entry *e = &t->ring.entries[i];
        struct opened_key *k = &t->keys[i];
        k->key_id = e->key_id;
        k->version = e->version;
        k->level = e->level;
        k->purpose = e->purpose;
        k->state = e->state;
        k->scope = e->scope;
        k->lock = loch_keyring_lock_of(&t->ring, e);
        if (only == NULL || loch_id_equal(only, &k->lock))
            LOCH_TRY(key_open(o, t, e, ask, k));
    }
    return LOCH_OK;
}

/* The MAC's key: from the META KEK that `ring` names; `t` has it opened. */
static loch_status mac_of(const struct loch_keyring *ring, const struct keys_tenant *t,
                          struct loch_slice body, uint8_t out[static LOCH_KEYRING_MAC_BYTES])
{
    const struct loch_keyring_entry *e = loch_keyring_mac_key(ring);
    const struct loch_secret *meta = e != NULL ? keys_ring_secret(t, &e->key_id, e->version) : NULL;
    struct loch_secret key = {0};

    if (meta == NULL)
        return LOCH_FAIL(LOCH_E_CORRUPT, "the keyring has no key for its own MAC");
    LOCH_TRY(loch_hkdf(LOCH_HASH_SHA256, meta, loch_slice_of(NULL, 0),
                       loch_slice_of(mac_label, sizeof mac_label), LOCH_SHA256_BYTES, &key));
    const loch_status st = loch_hmac_sha256(&key, body, out);
    loch_secret_fini(&key);
    return st;
}

/* The object as it was put: its MAC is still to be proven. The slices point into *bytes. */
static loch_status ring_read(const struct loch_keys_options *o, const struct loch_id *tenant,
                             struct keys_tenant *t, struct loch_buf *bytes, struct loch_slice *body,
                             struct loch_slice *mac)
{
    char name[NAME_BYTES];

    object_name(tenant, name);
    LOCH_TRY(loch_objstore_get(o->store, name, RING_MAX_BYTES, bytes, &t->etag));
    LOCH_TRY(
        loch_status_about(loch_keyring_decode(loch_buf_slice(bytes), &t->ring, body, mac), name));
    if (!loch_id_equal(&t->ring.cluster, &o->cluster) || !loch_id_equal(&t->ring.tenant, tenant))
        return LOCH_FAIL(LOCH_E_CORRUPT, "%s belongs to another cluster or tenant", name);
    return LOCH_OK;
}

loch_status keys_ring_generation(const struct loch_keys_options *o, const struct loch_id *tenant,
                                 uint64_t *out)
{
    struct loch_buf bytes = {0};
    struct loch_slice body, mac;
    struct keys_tenant t = {0};

    const loch_status st = ring_read(o, tenant, &t, &bytes, &body, &mac);
    *out = t.ring.generation;
    loch_keyring_fini(&t.ring);
    loch_buf_fini(&bytes);
    return st;
}

loch_status keys_ring_get(const struct loch_keys_options *o, const struct loch_id *tenant,
                          const struct loch_id *ask, struct keys_tenant **out)
{
    struct loch_buf bytes = {0};
    struct loch_slice body = {NULL, 0};
    struct loch_slice mac = {NULL, 0};
    uint8_t check[LOCH_KEYRING_MAC_BYTES];
    char name[NAME_BYTES];
    loch_status st;
    struct keys_tenant *t = calloc(1, sizeof *t);

    if (t == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a tenant's keys");
    LOCH_TRY_OUT(st, ring_read(o, tenant, t, &bytes, &body, &mac));
    LOCH_TRY_OUT(st, keys_ring_open(o, t, ask, NULL));
    LOCH_TRY_OUT(st, mac_of(&t->ring, t, body, check));
    if (!loch_bytes_equal(check, mac.data, sizeof check)) {
        object_name(tenant, name);
        st = LOCH_FAIL(LOCH_E_CORRUPT, "%s has been altered: its MAC does not match", name);
        goto out;
    }
    if (t->ring.tombstone) { /* not before: anybody who writes the bucket could say so */
        st = LOCH_FAIL(LOCH_E_DENIED, "the tenant has been shredded");
        goto out;
    }
    memcpy(t->mac, mac.data, sizeof t->mac);
    const struct loch_slice whole = loch_buf_slice(&bytes);
    LOCH_TRY_OUT(st, loch_sha256(&whole, 1, t->hash));
    *out = t;
    t = NULL;
out:
    keys_tenant_destroy(t);
    loch_buf_fini(&bytes);
    return st;
}

/* ---- changing ---- */

loch_status keys_ring_wrap_tk(const struct loch_keyring *ring, const struct loch_keyring_entry *e,
                              const struct loch_secret *kek, const struct loch_secret *tk,
                              struct loch_buf *out)
{
    uint8_t place[TK_PLACE_BYTES];
    struct loch_secret back = {0};
    const struct loch_slice salt = loch_slice_of(e->salt, sizeof e->salt);

    LOCH_TRY(loch_buf_reserve(out, LOCH_WRAPPED_DEK_BYTES));
    LOCH_TRY(loch_dek_wrap(kek, salt, tk_place(ring, e, place), tk, out->data));
    out->len = LOCH_WRAPPED_DEK_BYTES;
    loch_status st =
        loch_dek_unwrap(kek, salt, tk_place(ring, e, place), loch_buf_slice(out), &back);
    if (loch_is_ok(st) && !loch_bytes_equal(back.bytes, tk->bytes, tk->len))
        st = LOCH_FAIL(LOCH_E_CORRUPT, "a re-wrapped key does not unwrap to itself");
    loch_secret_fini(&back);
    return st;
}

loch_status keys_ring_wrap_kek(const struct loch_keyring *ring, const struct loch_keyring_entry *e,
                               struct loch_kms *kms, const struct loch_secret *kek,
                               struct loch_buf *out)
{
    const struct loch_kms_context context = kms_context(ring, e);
    struct loch_secret back = {0};

    LOCH_TRY(loch_kms_wrap(kms, &context, kek, out));
    LOCH_TRY(loch_kms_unwrap(kms, &context, loch_buf_slice(out), &back));
    const bool same = back.len == kek->len && loch_bytes_equal(back.bytes, kek->bytes, kek->len);
    loch_secret_fini(&back);
    if (!same)
        return LOCH_FAIL(LOCH_E_CORRUPT, "the key service does not give back what it wrapped");
    return LOCH_OK;
}

loch_status keys_ring_make(struct loch_keyring *ring, const struct keys_make *what,
                           struct loch_secret *secret)
{
    struct loch_keyring_entry e = {
        .version = 1, .purpose = what->purpose, .scope = what->scope, .key_id = what->key_id};
    uint8_t place[TK_PLACE_BYTES];
    struct loch_secret s = {0};
    loch_status st;

    if (loch_id_is_none(&e.key_id))
        LOCH_TRY_OUT(st, loch_random_id(&e.key_id));
    for (uint32_t i = 0; i < ring->count; i++)
        if (loch_id_equal(&ring->entries[i].key_id, &e.key_id))
            e.version = ring->entries[i].version + 1;
    LOCH_TRY_OUT(st, loch_random_bytes(e.salt, sizeof e.salt));
    LOCH_TRY_OUT(st, loch_random_secret(&s, LOCH_DEK_BYTES));
    const struct loch_slice salt = loch_slice_of(e.salt, sizeof e.salt);
    LOCH_TRY_OUT(st, loch_key_commitment(&s, salt, e.commitment));
    if (what->kek == NULL) {
        struct loch_kms *kms = what->kms;
        const char *uri = loch_kms_uri(kms);
        const struct loch_kms_context context = kms_context(ring, &e);
        e.level = LOCH_LEVEL_KEK;
        e.provider = loch_kms_provider(kms);
        LOCH_TRY_OUT(st, loch_buf_append(&e.cmk_uri, uri, strlen(uri)));
        LOCH_TRY_OUT(st, loch_kms_wrap(kms, &context, &s, &e.wrap));
    } else {
        e.level = LOCH_LEVEL_TK;
        e.parent = what->parent;
        e.parent_version = what->parent_version;
        LOCH_TRY_OUT(st, loch_buf_reserve(&e.wrap, LOCH_WRAPPED_DEK_BYTES));
        LOCH_TRY_OUT(st,
                     loch_dek_wrap(what->kek, salt, tk_place(ring, &e, place), &s, e.wrap.data));
        e.wrap.len = LOCH_WRAPPED_DEK_BYTES;
    }
    st = loch_keyring_add(ring, &e);
    e = (struct loch_keyring_entry){0};
    if (!loch_is_ok(st))
        goto out;
    *secret = s;
    s = (struct loch_secret){0};
out:
    loch_secret_fini(&s);
    loch_buf_fini(&e.cmk_uri);
    loch_buf_fini(&e.wrap);
    return st;
}

loch_status keys_ring_put(const struct loch_keys_options *o, const struct loch_keyring *ring,
                          const struct keys_tenant *signer, const struct loch_etag *expect)
{
    char name[NAME_BYTES];
    struct loch_buf bytes = {0};
    uint8_t mac[LOCH_KEYRING_MAC_BYTES];
    loch_status st;

    object_name(&ring->tenant, name);
    LOCH_TRY_OUT(st, loch_keyring_encode(ring, &bytes));
    LOCH_TRY_OUT(st, mac_of(ring, signer, loch_buf_slice(&bytes), mac));
    LOCH_TRY_OUT(st, loch_buf_append(&bytes, mac, sizeof mac));
    if (expect == NULL)
        st = loch_objstore_put_if_absent(o->store, name, loch_buf_slice(&bytes), NULL);
    else
        st = loch_objstore_put_if_match(o->store, name, expect, loch_buf_slice(&bytes), NULL);
out:
    loch_buf_fini(&bytes);
    return st;
}

loch_status keys_ring_create(const struct loch_keys_options *o, const struct loch_id *tenant)
{
    static const uint8_t purposes[] = {LOCH_PURPOSE_PAGE, LOCH_PURPOSE_WAL, LOCH_PURPOSE_WIRE,
                                       LOCH_PURPOSE_META};
    struct keys_tenant t = {0};
    struct opened_key opened[5] = {0};
    struct loch_kms *kms = NULL;
    loch_status st;

    loch_keyring_init(&t.ring, &o->cluster, tenant);
    LOCH_TRY_OUT(st, keys_ring_kms(o, tenant, &none, &kms));
    for (size_t i = 0; i < 4; i++)
        LOCH_TRY_OUT(st, keys_ring_make(&t.ring,
                                        &(struct keys_make){.purpose = purposes[i], .kms = kms},
                                        &opened[i].secret));
    /* The tenant's wire key, K_wire, hangs below the wire KEK (index 2). */
    const struct keys_make wire = {.purpose = LOCH_PURPOSE_WIRE,
                                   .parent = t.ring.entries[2].key_id,
                                   .parent_version = 1,
                                   .kek = &opened[2].secret};
    LOCH_TRY_OUT(st, keys_ring_make(&t.ring, &wire, &opened[4].secret));
    for (uint32_t i = 0; i < t.ring.count; i++) {
        opened[i].key_id = t.ring.entries[i].key_id;
        opened[i].version = 1;
        opened[i].level = t.ring.entries[i].level;
        opened[i].purpose = t.ring.entries[i].purpose;
        opened[i].state = LOCH_STATE_PENDING;
    }
    t.keys = opened;
    LOCH_TRY_OUT(st, keys_ring_put(o, &t.ring, &t, NULL));
out:
    for (size_t i = 0; i < 5; i++)
        loch_secret_fini(&opened[i].secret);
    loch_keyring_fini(&t.ring);
    return st;
}

loch_status keys_ring_successor(const struct keys_tenant *t, struct loch_keyring *next)
{
    LOCH_TRY(loch_keyring_copy(next, &t->ring));
    next->generation++;
    memcpy(next->previous_hash, t->hash, sizeof next->previous_hash);
    memcpy(next->previous_mac, t->mac, sizeof next->previous_mac);
    return LOCH_OK;
}

static bool has_live_tk(const struct loch_keyring *ring, uint8_t purpose,
                        const struct loch_id *scope)
{
    for (uint32_t i = 0; i < ring->count; i++) {
        const struct loch_keyring_entry *e = &ring->entries[i];
        if (e->level == LOCH_LEVEL_TK && e->purpose == purpose && loch_id_equal(&e->scope, scope) &&
            (e->state == LOCH_STATE_ACTIVE || e->state == LOCH_STATE_PENDING))
            return true;
    }
    return false;
}

/* A key of one purpose for the timeline, PENDING, where `next` has none: below the active KEK of
 * `lock`. */
static loch_status add_tk(const struct keys_tenant *t, struct loch_keyring *next,
                          enum loch_purpose purpose, const struct loch_id *timeline,
                          const struct loch_id *lock, bool *changed)
{
    struct loch_secret made = {0};

    if (has_live_tk(next, (uint8_t)purpose, timeline))
        return LOCH_OK;
    const struct loch_keyring_entry *kek =
        loch_keyring_active(&t->ring, LOCH_LEVEL_KEK, purpose, lock);
    const struct loch_secret *secret =
        kek == NULL ? NULL : keys_ring_secret(t, &kek->key_id, kek->version);
    if (secret == NULL)
        return LOCH_FAIL(LOCH_E_DENIED, "the %s has no active %s KEK that is open",
                         loch_id_is_none(lock) ? "tenant" : "branch",
                         loch_purpose_name((uint8_t)purpose));
    const struct keys_make tk = {.purpose = (uint8_t)purpose,
                                 .scope = *timeline,
                                 .parent = kek->key_id,
                                 .parent_version = kek->version,
                                 .kek = secret};
    LOCH_TRY(keys_ring_make(next, &tk, &made));
    loch_secret_fini(&made);
    *changed = true;
    return LOCH_OK;
}

/* A branch's own KEK of one purpose and its timeline key below, both PENDING. */
static loch_status add_lock(const struct loch_keys_options *o, struct loch_keyring *next,
                            enum loch_purpose purpose, const struct loch_id *branch)
{
    struct keys_make kek = {.purpose = (uint8_t)purpose, .scope = *branch};
    struct loch_secret secret = {0}, made = {0};

    LOCH_TRY(keys_ring_kms(o, &next->tenant, branch, &kek.kms));
    LOCH_TRY(loch_random_id(&kek.key_id));
    LOCH_TRY(keys_ring_make(next, &kek, &secret));
    const struct keys_make tk = {.purpose = (uint8_t)purpose,
                                 .scope = *branch,
                                 .parent = kek.key_id,
                                 .parent_version = 1,
                                 .kek = &secret};
    const loch_status st = keys_ring_make(next, &tk, &made);
    loch_secret_fini(&made);
    loch_secret_fini(&secret);
    return st;
}

static loch_status add_keys(const struct loch_keys_options *o, const struct keys_tenant *t,
                            struct loch_keyring *next, const struct loch_id *timeline,
                            const struct loch_id *lock, bool *changed)
{
    if (loch_id_equal(timeline, lock) && keys_lock_find(t, lock) == NULL) {
        LOCH_TRY(add_lock(o, next, LOCH_PURPOSE_PAGE, timeline));
        LOCH_TRY(add_lock(o, next, LOCH_PURPOSE_WAL, timeline));
        *changed = true;
        return LOCH_OK;
    }
    LOCH_TRY(add_tk(t, next, LOCH_PURPOSE_PAGE, timeline, lock, changed));
    return add_tk(t, next, LOCH_PURPOSE_WAL, timeline, lock, changed);
}

loch_status keys_ring_add_timelines(const struct loch_keys_options *o, const struct keys_tenant *t,
                                    const struct loch_id *timelines, size_t count,
                                    const struct loch_id *lock, bool *changed)
{
    struct loch_keyring next = {0};
    loch_status st;

    *changed = false;
    LOCH_TRY(keys_ring_successor(t, &next));
    for (size_t i = 0; i < count; i++)
        LOCH_TRY_OUT(st, add_keys(o, t, &next, &timelines[i], lock, changed));
    st = *changed ? keys_ring_put(o, &next, t, &t->etag) : LOCH_OK;
out:
    loch_keyring_fini(&next);
    return st;
}

loch_status keys_ring_forget_timeline(const struct loch_keys_options *o,
                                      const struct keys_tenant *t, const struct loch_id *timeline,
                                      bool *changed)
{
    struct loch_keyring next = {0};
    loch_status st = LOCH_OK;

    LOCH_TRY(keys_ring_successor(t, &next));
    *changed = loch_keyring_forget(&next, timeline) > 0;
    if (*changed)
        st = keys_ring_put(o, &next, t, &t->etag);
    loch_keyring_fini(&next);
    return st;
}

loch_status keys_ring_activate(const struct loch_keys_options *o, const struct keys_tenant *t,
                               bool *changed)
{
    struct loch_keyring next = {0};
    uint32_t rewrapped = 0;
    loch_status st = LOCH_OK;

    *changed = false;
    LOCH_TRY(keys_ring_successor(t, &next));
    LOCH_TRY_OUT(st, keys_ring_enliven(t, &next, changed));
    /* of a rotation that was cut off behind its KEKs */
    LOCH_TRY_OUT(st, keys_ring_rewrap(t, &next, &rewrapped));
    *changed = *changed || rewrapped > 0;
    if (*changed)
        st = keys_ring_put(o, &next, t, &t->etag);
out:
    loch_keyring_fini(&next);
    return st;
}
