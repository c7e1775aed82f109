/* A daemon's keys against a real local store and the file KMS: creation, sharing between daemons,
 * PSKs, tampering with the keyring, an old keyring, the CMK gone. */
#include "../unit.h"

#include "../../../src/objstore/backend.h"

#include "loch/crypto/hkdf.h"
#include "loch/crypto/random.h"
#include "loch/crypto/tls.h"
#include "loch/format/sealed_object.h"
#include "loch/host/keys.h"
#include "loch/kms/kms.h"
#include "loch/objstore/objstore.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct site {
    char dir[64];
    char cmk[96];
    char name[80]; /* of the keyring object */
    struct loch_env *env;
    struct loch_objstore *store;
    struct loch_kms *kms;
    struct loch_id cluster, node, tenant, timeline;
};

static int site_up(void **state)
{
    struct site *s = calloc(1, sizeof *s);
    char path[128];
    char text[LOCH_ID_TEXT_BYTES];

    assert_non_null(s);
    (void)snprintf(s->dir, sizeof s->dir, "/tmp/loch-test-keys-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    (void)snprintf(s->cmk, sizeof s->cmk, "%s/cmk.key", s->dir);
    assert_ok(loch_kms_file_create(s->cmk));
    (void)snprintf(path, sizeof path, "file:%s", s->cmk);
    assert_ok(loch_kms_open(path, NULL, &s->kms));
    assert_ok(loch_env_real_create(&s->env));
    (void)snprintf(path, sizeof path, "%s/store", s->dir);
    assert_ok(loch_objstore_open_local(s->env, path, &s->store));
    assert_ok(loch_random_id(&s->cluster));
    assert_ok(loch_random_id(&s->node));
    assert_ok(loch_random_id(&s->tenant));
    assert_ok(loch_random_id(&s->timeline));
    (void)snprintf(s->name, sizeof s->name, "tenants/%s/keyring", loch_id_format(&s->tenant, text));
    *state = s;
    return 0;
}

static int site_down(void **state)
{
    struct site *s = *state;
    char command[128];

    loch_objstore_close(s->store);
    loch_env_real_destroy(s->env);
    loch_kms_close(s->kms);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", s->dir);
    assert_int_equal(system(command), 0);
    free(s);
    return 0;
}

static struct loch_keys *keys_of(struct site *s, uint8_t role, const struct loch_id *node)
{
    const struct loch_keys_options o = {
        .store = s->store, .kms = s->kms, .cluster = s->cluster, .node = *node, .role = role};
    struct loch_keys *keys = NULL;

    assert_ok(loch_keys_create(&o, &keys));
    return keys;
}

static struct loch_keys *created(struct site *s)
{
    struct loch_keys *keys = keys_of(s, LOCH_ROLE_PAGESERVER, &s->node);

    assert_ok(loch_keys_tenant_create(keys, &s->tenant));
    assert_ok(loch_keys_add_timeline(keys, &s->tenant, &s->timeline));
    return keys;
}

static const struct loch_id none;

static void create_add_and_share(void **state)
{
    struct site *s = *state;
    struct loch_keys *writer = keys_of(s, LOCH_ROLE_PAGESERVER, &s->node);
    struct loch_keys *reader;
    struct loch_id other_node;
    struct loch_wrap_key a = {0};
    struct loch_wrap_key b = {0};

    assert_code(loch_keys_tenant_load(writer, &s->tenant), LOCH_E_NOT_FOUND);
    assert_code(loch_keys_add_timeline(writer, &s->tenant, &s->timeline), LOCH_E_NOT_FOUND);
    assert_int_equal(loch_keys_generation(writer, &s->tenant), 0);
    assert_ok(loch_keys_tenant_create(writer, &s->tenant));
    assert_int_equal(loch_keys_generation(writer, &s->tenant), 2); /* pending, active */
    assert_code(loch_keys_tenant_create(writer, &s->tenant), LOCH_E_EXISTS);
    assert_true(loch_keys_has(writer, &s->tenant, &none));
    assert_false(loch_keys_has(writer, &s->tenant, &s->timeline));
    assert_ok(loch_keys_add_timeline(writer, &s->tenant, &s->timeline));
    assert_int_equal(loch_keys_generation(writer, &s->tenant), 4);
    assert_ok(loch_keys_add_timeline(writer, &s->tenant, &s->timeline));
    assert_int_equal(loch_keys_generation(writer, &s->tenant), 4); /* nothing to do */
    assert_true(loch_keys_has(writer, &s->tenant, &s->timeline));

    assert_ok(loch_random_id(&other_node));
    reader = keys_of(s, LOCH_ROLE_SAFEKEEPER, &other_node);
    assert_code(loch_keys_wrap_key(reader, &s->tenant, &s->timeline, LOCH_PURPOSE_WAL, &a),
                LOCH_E_NOT_FOUND);
    assert_ok(loch_keys_tenant_load(reader, &s->tenant));
    const enum loch_purpose purposes[] = {LOCH_PURPOSE_PAGE, LOCH_PURPOSE_WAL};
    for (size_t i = 0; i < 2; i++) {
        assert_ok(loch_keys_wrap_key(writer, &s->tenant, &s->timeline, purposes[i], &a));
        assert_ok(loch_keys_wrap_key(reader, &s->tenant, &s->timeline, purposes[i], &b));
        assert_true(loch_secret_equal(&a.secret, &b.secret));
        assert_true(loch_id_equal(&a.key_id, &b.key_id));
        loch_wrap_key_fini(&a);
        loch_wrap_key_fini(&b);
    }
    assert_ok(loch_keys_wrap_key(reader, &s->tenant, &none, LOCH_PURPOSE_META, &a));
    loch_wrap_key_fini(&a);
    assert_code(loch_keys_wrap_key(reader, &s->tenant, &none, LOCH_PURPOSE_PAGE, &a),
                LOCH_E_NOT_FOUND);
    loch_keys_tenant_drop(reader, &s->tenant);
    loch_keys_tenant_drop(reader, &s->tenant);
    assert_false(loch_keys_has(reader, &s->tenant, &none));
    loch_keys_destroy(reader);
    loch_keys_destroy(writer);
    loch_keys_destroy(NULL);
}

static void seals_with_the_source(void **state)
{
    struct site *s = *state;
    struct loch_keys *keys = created(s);
    const struct loch_key_source source = loch_keys_source(keys);
    const struct loch_place place = {.kind = LOCH_KIND_TIMELINE_MANIFEST,
                                     .tenant = s->tenant,
                                     .timeline = s->timeline,
                                     .generation = 3};
    struct loch_wrap_key key = {0};
    struct loch_buf sealed = {0};
    struct loch_buf plain = {0};
    uint64_t generation = 0;

    assert_ok(loch_keys_wrap_key(keys, &s->tenant, &s->timeline, LOCH_PURPOSE_PAGE, &key));
    assert_ok(loch_sealed_object_seal(&place, &key, loch_slice_of("m", 1), true, &sealed));
    assert_ok(
        loch_sealed_object_open(&place, &source, loch_buf_slice(&sealed), &plain, &generation));
    assert_int_equal(generation, 3);
    loch_keys_tenant_drop(keys, &s->tenant);
    assert_code(
        loch_sealed_object_open(&place, &source, loch_buf_slice(&sealed), &plain, &generation),
        LOCH_E_NOT_FOUND);
    loch_wrap_key_fini(&key);
    loch_buf_fini(&sealed);
    loch_buf_fini(&plain);
    loch_keys_destroy(keys);
}

struct kept_key {
    struct loch_id tenant, timeline; /* none: the tenant's own */
    enum loch_purpose purpose;
    struct loch_wrap_key key;
};
#define KEPT_KEYS 10u /* of two tenants: page and wal of two timelines, and the tenant's own */

static void keep_keys(struct loch_keys *keys, const struct loch_id tenants[static 2],
                      const struct loch_id timelines[static 4],
                      struct kept_key out[static KEPT_KEYS])
{
    for (size_t i = 0; i < KEPT_KEYS; i++) {
        const size_t of = i % 5;
        struct kept_key *k = &out[i];
        k->tenant = tenants[i / 5];
        k->timeline = of == 4 ? none : timelines[i / 5 * 2 + of / 2];
        k->purpose = of == 4       ? LOCH_PURPOSE_META
                     : of % 2 == 0 ? LOCH_PURPOSE_PAGE
                                   : LOCH_PURPOSE_WAL;
        assert_ok(loch_keys_wrap_key(keys, &k->tenant, &k->timeline, k->purpose, &k->key));
    }
}

/* Whoever has one of the keys seals a file for a place of the first tenant: it opens there when
 * that key is the place's own, and else not. */
static void opens_under_its_own(struct loch_keys *keys, const struct loch_place *place,
                                enum loch_purpose purpose, const struct kept_key *k)
{
    const struct loch_key_source source = loch_keys_source(keys);
    struct loch_secret found = {0};
    struct loch_buf sealed = {0};
    struct loch_buf plain = {0};
    uint64_t generation = 0;
    enum loch_code want = LOCH_E_OK;

    if (!loch_id_equal(&k->tenant, &place->tenant))
        want = LOCH_E_NOT_FOUND;
    else if (k->purpose != purpose || !loch_id_equal(&k->timeline, &place->timeline))
        want = LOCH_E_CORRUPT;
    assert_int_equal(source.find(source.arg, place, &k->key.key_id, k->key.version, &found).code,
                     want);
    loch_secret_fini(&found);
    if (place->kind == LOCH_KIND_LAYER || place->kind == LOCH_KIND_WAL)
        return; /* their readers ask the same way */
    assert_ok(loch_sealed_object_seal(place, &k->key, loch_slice_of("m", 1), true, &sealed));
    assert_int_equal(
        loch_sealed_object_open(place, &source, loch_buf_slice(&sealed), &plain, &generation).code,
        want);
    loch_buf_fini(&sealed);
    loch_buf_fini(&plain);
}

static void a_key_opens_its_own_place_only(void **state)
{
    static const struct {
        uint8_t kind;
        enum loch_purpose purpose;
    } files[] = {{LOCH_KIND_TENANT_MANIFEST, LOCH_PURPOSE_META},
                 {LOCH_KIND_LAYER, LOCH_PURPOSE_PAGE},
                 {LOCH_KIND_WAL, LOCH_PURPOSE_WAL},
                 {LOCH_KIND_TIMELINE_MANIFEST, LOCH_PURPOSE_PAGE},
                 {LOCH_KIND_CONTROL, LOCH_PURPOSE_WAL},
                 {LOCH_KIND_WAL_ARCHIVE, LOCH_PURPOSE_WAL},
                 {LOCH_KIND_MEMBERS, LOCH_PURPOSE_WAL}};
    struct site *s = *state;
    struct loch_keys *keys = created(s);
    struct loch_id tenants[2] = {s->tenant};
    struct loch_id timelines[4] = {s->timeline};
    struct kept_key first[KEPT_KEYS] = {0};
    struct kept_key second[KEPT_KEYS] = {0};
    struct loch_rotation_report report;

    assert_ok(loch_random_id(&tenants[1]));
    assert_ok(loch_keys_tenant_create(keys, &tenants[1]));
    for (size_t i = 1; i < 4; i++) {
        assert_ok(loch_random_id(&timelines[i]));
        assert_ok(loch_keys_add_timeline(keys, &tenants[i / 2], &timelines[i]));
    }
    keep_keys(keys, tenants, timelines, first);
    for (size_t i = 0; i < 2; i++) { /* the first ones are RETIRED now, and open as before */
        assert_ok(loch_keys_rotate(keys, &tenants[i], &none, LOCH_ROTATE_KEK, &report));
        assert_ok(loch_keys_rotate(keys, &tenants[i], &none, LOCH_ROTATE_TK, &report));
    }
    keep_keys(keys, tenants, timelines, second);
    for (size_t f = 0; f < sizeof files / sizeof files[0]; f++) {
        const bool of_tenant = files[f].purpose == LOCH_PURPOSE_META;
        const struct loch_place place = {.kind = files[f].kind,
                                         .tenant = s->tenant,
                                         .timeline = of_tenant ? none : s->timeline,
                                         .generation = 3};
        for (size_t i = 0; i < KEPT_KEYS; i++) {
            opens_under_its_own(keys, &place, files[f].purpose, &first[i]);
            opens_under_its_own(keys, &place, files[f].purpose, &second[i]);
        }
    }
    for (size_t i = 0; i < KEPT_KEYS; i++) {
        loch_wrap_key_fini(&first[i].key);
        loch_wrap_key_fini(&second[i].key);
    }
    loch_keys_destroy(keys);
}

static struct loch_psk_identity identity_of(struct site *s)
{
    struct loch_psk_identity id = {
        .version = 1,
        .client_role = LOCH_ROLE_COMPUTE,
        .server_role = LOCH_ROLE_PAGESERVER,
        .rights = LOCH_RIGHT_PAGES,
        .cluster = s->cluster,
        .tenant = s->tenant,
        .timeline = s->timeline,
        .server_node = s->node,
        .compute_epoch = 1,
    };
    assert_ok(loch_random_id(&id.client_id));
    assert_ok(loch_random_id(&id.client_boot));
    return id;
}

static bool looked_up(struct loch_keys *keys, const struct loch_psk_identity *id,
                      struct loch_secret *psk)
{
    struct loch_buf b = {0};

    assert_ok(loch_psk_identity_encode(id, &b));
    const bool found = loch_keys_psk_lookup(keys, loch_buf_slice(&b), psk);
    loch_buf_fini(&b);
    return found;
}

static void psks_are_found_by_their_server_only(void **state)
{
    struct site *s = *state;
    struct loch_keys *keys = created(s);
    struct loch_psk_identity id = identity_of(s);
    struct loch_psk_identity bad;
    struct loch_secret issued = {0};
    struct loch_secret found = {0};

    assert_ok(loch_keys_psk(keys, &id, &issued));
    assert_int_equal(id.wire_epoch, 1);
    assert_int_equal(issued.len, LOCH_PSK_BYTES);
    assert_true(looked_up(keys, &id, &found));
    assert_true(loch_secret_equal(&issued, &found));
    loch_secret_fini(&found);
    for (int i = 0; i < 7; i++) {
        bad = id;
        if (i == 0)
            bad.cluster.bytes[0] ^= 1;
        if (i == 1)
            bad.server_role = LOCH_ROLE_SAFEKEEPER;
        if (i == 2)
            bad.server_node.bytes[0] ^= 1;
        if (i == 3)
            bad.client_id = s->node; /* ourselves */
        if (i == 4)
            bad.tenant.bytes[0] ^= 1;
        if (i == 5)
            bad.timeline.bytes[0] ^= 1;
        if (i == 6)
            bad.wire_epoch = 2;
        assert_false(looked_up(keys, &bad, &found));
    }
    assert_false(loch_keys_psk_lookup(keys, loch_slice_of("junk", 4), &found));
    bad = id;
    bad.cluster.bytes[0] ^= 1;
    assert_code(loch_keys_psk(keys, &bad, &found), LOCH_E_INVALID);
    bad = id;
    bad.tenant.bytes[0] ^= 1;
    assert_code(loch_keys_psk(keys, &bad, &found), LOCH_E_NOT_FOUND);
    loch_secret_fini(&issued);
    loch_keys_destroy(keys);
}

static void get_ring(struct site *s, struct loch_buf *out)
{
    out->len = 0;
    assert_ok(loch_objstore_get(s->store, s->name, 1u << 20, out, NULL));
}

static void put_ring(struct site *s, const struct loch_buf *b)
{
    assert_ok(loch_objstore_put(s->store, s->name, loch_buf_slice(b), NULL));
}

#define TOMBSTONE_AT 14 /* docs/format/keyring.md */

static void altered_keyrings_are_refused(void **state)
{
    struct site *s = *state;
    struct loch_keys *keys = created(s);
    struct loch_keys *fresh = keys_of(s, LOCH_ROLE_SAFEKEEPER, &s->timeline);
    struct loch_buf b = {0};

    get_ring(s, &b);
    for (size_t at = 0; at < b.len; at += at < 124 ? 1 : 5) {
        b.data[at] ^= 1;
        put_ring(s, &b);
        const loch_status st = loch_keys_tenant_load(fresh, &s->tenant);
        if (loch_is_ok(st))
            fail_msg("byte %zu of the keyring went unnoticed", at);
        /* Of the head nothing is believed: least of all that the tenant has been shredded, which
         * would stand in the audit log as a denial. */
        if (at == TOMBSTONE_AT)
            assert_code(st, LOCH_E_CORRUPT);
        b.data[at] ^= 1;
    }
    for (size_t n = 0; n < b.len; n += 101) {
        struct loch_buf cut = b;
        cut.len = n;
        put_ring(s, &cut);
        assert_false(loch_is_ok(loch_keys_tenant_load(fresh, &s->tenant)));
    }
    assert_false(loch_keys_has(fresh, &s->tenant, &none));
    put_ring(s, &b);
    assert_ok(loch_keys_tenant_load(fresh, &s->tenant));
    loch_buf_fini(&b);
    loch_keys_destroy(fresh);
    loch_keys_destroy(keys);
}

static void an_old_keyring_is_refused(void **state)
{
    struct site *s = *state;
    struct loch_keys *keys = keys_of(s, LOCH_ROLE_PAGESERVER, &s->node);
    struct loch_buf old = {0};
    struct loch_buf now = {0};

    assert_ok(loch_keys_tenant_create(keys, &s->tenant));
    get_ring(s, &old);
    assert_ok(loch_keys_add_timeline(keys, &s->tenant, &s->timeline));
    get_ring(s, &now);
    put_ring(s, &old);
    assert_code(loch_keys_tenant_load(keys, &s->tenant), LOCH_E_STALE);
    assert_true(loch_keys_has(keys, &s->tenant, &s->timeline)); /* keeps what it has */
    /* Nor is anything built upon it. */
    assert_code(loch_keys_add_timeline(keys, &s->tenant, &s->node), LOCH_E_STALE);
    assert_code(loch_keys_forget_timeline(keys, &s->tenant, &s->timeline), LOCH_E_STALE);
    struct loch_buf kept = {0};
    get_ring(s, &kept);
    assert_int_equal(kept.len, old.len);
    assert_memory_equal(kept.data, old.data, old.len);
    loch_buf_fini(&kept);
    put_ring(s, &now);
    assert_ok(loch_keys_tenant_load(keys, &s->tenant));
    loch_buf_fini(&old);
    loch_buf_fini(&now);
    loch_keys_destroy(keys);
}

/* The keyring of one tenant in the place of another's. */
static void a_moved_keyring_is_refused(void **state)
{
    struct site *s = *state;
    struct loch_keys *keys = created(s);
    struct loch_id other;
    char name[80];
    char text[LOCH_ID_TEXT_BYTES];
    struct loch_buf b = {0};

    assert_ok(loch_random_id(&other));
    get_ring(s, &b);
    (void)snprintf(name, sizeof name, "tenants/%s/keyring", loch_id_format(&other, text));
    assert_ok(loch_objstore_put(s->store, name, loch_buf_slice(&b), NULL));
    assert_code(loch_keys_tenant_load(keys, &other), LOCH_E_CORRUPT);
    /* With the head forged too, the KMS refuses the context. */
    memcpy(b.data + 32, other.bytes, 16);
    assert_ok(loch_objstore_put(s->store, name, loch_buf_slice(&b), NULL));
    assert_code(loch_keys_tenant_load(keys, &other), LOCH_E_CORRUPT);
    loch_buf_fini(&b);
    loch_keys_destroy(keys);
}

static void the_cmk_decides(void **state)
{
    struct site *s = *state;
    struct loch_keys *keys = created(s);
    struct loch_keys *fresh = keys_of(s, LOCH_ROLE_SAFEKEEPER, &s->timeline);
    char away[128];

    (void)snprintf(away, sizeof away, "%s.away", s->cmk);
    assert_int_equal(rename(s->cmk, away), 0);
    assert_code(loch_keys_tenant_load(fresh, &s->tenant), LOCH_E_DENIED);
    assert_ok(loch_kms_file_create(s->cmk)); /* another CMK in its place */
    assert_code(loch_keys_tenant_load(fresh, &s->tenant), LOCH_E_DENIED);
    assert_int_equal(rename(away, s->cmk), 0);
    assert_int_equal(chmod(s->cmk, 0644), 0);
    assert_code(loch_keys_tenant_load(fresh, &s->tenant), LOCH_E_UNAVAILABLE);
    assert_int_equal(chmod(s->cmk, 0600), 0);
    assert_ok(loch_keys_tenant_load(fresh, &s->tenant));
    loch_keys_destroy(fresh);
    loch_keys_destroy(keys);
}

static void forgotten_keys_are_gone(void **state)
{
    struct site *s = *state;
    struct loch_keys *keys = created(s);
    struct loch_keys *other = keys_of(s, LOCH_ROLE_SAFEKEEPER, &s->timeline);
    const struct loch_key_source source = loch_keys_source(keys);
    struct loch_id second;
    struct loch_wrap_key key = {0};
    struct loch_secret secret = {0};

    assert_ok(loch_random_id(&second));
    assert_ok(loch_keys_add_timeline(keys, &s->tenant, &second));
    assert_ok(loch_keys_tenant_load(other, &s->tenant));
    assert_ok(loch_keys_wrap_key(keys, &s->tenant, &s->timeline, LOCH_PURPOSE_PAGE, &key));
    assert_ok(loch_keys_forget_timeline(keys, &s->tenant, &s->timeline));
    const uint64_t generation = loch_keys_generation(keys, &s->tenant);
    assert_ok(loch_keys_forget_timeline(keys, &s->tenant, &s->timeline));
    assert_int_equal(loch_keys_generation(keys, &s->tenant), generation);
    assert_false(loch_keys_has(keys, &s->tenant, &s->timeline));
    assert_true(loch_keys_has(keys, &s->tenant, &second));
    const struct loch_place place = {
        .kind = LOCH_KIND_LAYER, .tenant = s->tenant, .timeline = s->timeline};
    assert_code(source.find(source.arg, &place, &key.key_id, key.version, &secret),
                LOCH_E_NOT_FOUND);
    assert_true(loch_keys_has(other, &s->tenant, &s->timeline)); /* until it loads again */
    assert_ok(loch_keys_tenant_load(other, &s->tenant));
    assert_false(loch_keys_has(other, &s->tenant, &s->timeline));
    loch_wrap_key_fini(&key);
    loch_keys_destroy(other);
    loch_keys_destroy(keys);
}

struct busy {
    struct site *site;
    struct loch_keys *keys;
    const struct loch_psk_identity *identity;
    _Atomic bool stop;
};

static void *look_up(void *arg)
{
    struct busy *b = arg;

    while (!b->stop) {
        struct loch_wrap_key key = {0};
        struct loch_secret psk = {0};
        assert_ok(loch_keys_wrap_key(b->keys, &b->site->tenant, &b->site->timeline,
                                     LOCH_PURPOSE_WAL, &key));
        assert_true(looked_up(b->keys, b->identity, &psk));
        loch_wrap_key_fini(&key);
        loch_secret_fini(&psk);
    }
    return NULL;
}

static void lookups_go_on_while_keys_change(void **state)
{
    struct site *s = *state;
    struct loch_keys *keys = created(s);
    struct loch_psk_identity id = identity_of(s);
    struct loch_secret psk = {0};
    struct busy b = {.site = s, .keys = keys, .identity = &id};
    pthread_t threads[2];

    assert_ok(loch_keys_psk(keys, &id, &psk)); /* fills in the wire epoch */
    loch_secret_fini(&psk);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, look_up, &b), 0);
    for (size_t i = 0; i < 10; i++) {
        struct loch_id timeline;
        assert_ok(loch_random_id(&timeline));
        assert_ok(loch_keys_add_timeline(keys, &s->tenant, &timeline));
        assert_ok(loch_keys_forget_timeline(keys, &s->tenant, &timeline));
    }
    b.stop = true;
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    loch_keys_destroy(keys);
}

/* Two writers at once: both timelines are there in the end. */
static void writers_do_not_lose_keys(void **state)
{
    struct site *s = *state;
    struct loch_keys *a = created(s);
    struct loch_keys *b = keys_of(s, LOCH_ROLE_PAGESERVER, &s->timeline);
    struct loch_id timelines[6];

    assert_ok(loch_keys_tenant_load(b, &s->tenant));
    for (size_t i = 0; i < 6; i++) {
        assert_ok(loch_random_id(&timelines[i]));
        assert_ok(loch_keys_add_timeline(i % 2 == 0 ? a : b, &s->tenant, &timelines[i]));
    }
    assert_ok(loch_keys_tenant_load(a, &s->tenant));
    for (size_t i = 0; i < 6; i++)
        assert_true(loch_keys_has(a, &s->tenant, &timelines[i]));
    loch_keys_destroy(a);
    loch_keys_destroy(b);
}

/* In front of the store: the tenant is dropped when its keyring has been read, and before anything
 * is done with it. */
struct dropping {
    struct loch_objstore face; /* first */
    struct loch_objstore *real;
    struct loch_keys *keys;
    const struct loch_id *tenant;
    unsigned left; /* of the next reads: those that drop it */
};

static loch_status get_and_drop(struct loch_objstore *store, const char *name, size_t max_bytes,
                                struct loch_buf *out, struct loch_etag *etag)
{
    struct dropping *d = (struct dropping *)(void *)store;
    const loch_status st = loch_objstore_get(d->real, name, max_bytes, out, etag);

    if (d->left > 0) {
        d->left--;
        loch_keys_tenant_drop(d->keys, d->tenant);
    }
    return st;
}

static void expect_nothing(struct loch_keys *keys, const struct site *s, const char *witness)
{
    struct loch_keys_permit_view *permits = NULL;
    size_t count = 1;

    assert_int_equal(loch_keys_generation(keys, &s->tenant), 0);
    assert_false(loch_keys_has(keys, &s->tenant, &none));
    assert_ok(loch_keys_permits(keys, &permits, &count));
    assert_int_equal(count, 0);
    free(permits);
    assert_int_not_equal(access(witness, F_OK), 0);
}

/* Whatever its end would have been: a tenant that is gone leaves neither keys nor a lease. */
static void a_load_under_way_brings_no_dropped_tenant_back(void **state)
{
    struct site *s = *state;
    static const struct objstore_ops ops = {.get = get_and_drop};
    struct dropping d = {.face = {&ops}, .real = s->store, .tenant = &s->tenant};
    char seen[80], witness[128], away[112], id[LOCH_ID_TEXT_BYTES];
    uint64_t started_ns = 0;

    loch_keys_destroy(created(s));
    (void)snprintf(seen, sizeof seen, "%s/seen", s->dir);
    (void)snprintf(witness, sizeof witness, "%s/%s", seen, loch_id_format(&s->tenant, id));
    const struct loch_keys_options o = {.store = &d.face,
                                        .kms = s->kms,
                                        .cluster = s->cluster,
                                        .node = s->node,
                                        .role = LOCH_ROLE_SAFEKEEPER,
                                        .env = s->env,
                                        .lease_ms = 600000,
                                        .witness_dir = seen};
    assert_ok(loch_keys_create(&o, &d.keys));
    for (int held = 0; held < 2; held++) {
        d.left = 1;
        assert_code(loch_keys_tenant_load(d.keys, &s->tenant), LOCH_E_NOT_FOUND);
        expect_nothing(d.keys, s, witness);
        d.left = 1;
        assert_code(loch_keys_restore(d.keys, &s->tenant, &none, &started_ns), LOCH_E_NOT_FOUND);
        expect_nothing(d.keys, s, witness);
        /* Who asks for it afterwards gets it. */
        assert_ok(loch_keys_tenant_load(d.keys, &s->tenant));
        assert_true(loch_keys_has(d.keys, &s->tenant, &s->timeline));
        assert_ok(loch_keys_usable(d.keys, &s->tenant, NULL));
        assert_int_equal(access(witness, F_OK), 0);
    }
    loch_keys_tenant_drop(d.keys, &s->tenant);
    (void)snprintf(away, sizeof away, "%s.away", s->cmk);
    assert_int_equal(rename(s->cmk, away), 0);
    d.left = 1;
    assert_false(loch_is_ok(loch_keys_tenant_load(d.keys, &s->tenant)));
    expect_nothing(d.keys, s, witness);
    loch_keys_destroy(d.keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(create_add_and_share, site_up, site_down),
        cmocka_unit_test_setup_teardown(seals_with_the_source, site_up, site_down),
        cmocka_unit_test_setup_teardown(a_key_opens_its_own_place_only, site_up, site_down),
        cmocka_unit_test_setup_teardown(psks_are_found_by_their_server_only, site_up, site_down),
        cmocka_unit_test_setup_teardown(altered_keyrings_are_refused, site_up, site_down),
        cmocka_unit_test_setup_teardown(an_old_keyring_is_refused, site_up, site_down),
        cmocka_unit_test_setup_teardown(a_moved_keyring_is_refused, site_up, site_down),
        cmocka_unit_test_setup_teardown(the_cmk_decides, site_up, site_down),
        cmocka_unit_test_setup_teardown(forgotten_keys_are_gone, site_up, site_down),
        cmocka_unit_test_setup_teardown(lookups_go_on_while_keys_change, site_up, site_down),
        cmocka_unit_test_setup_teardown(writers_do_not_lose_keys, site_up, site_down),
        cmocka_unit_test_setup_teardown(a_load_under_way_brings_no_dropped_tenant_back, site_up,
                                        site_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
