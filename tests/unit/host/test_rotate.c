/* Rotation of a tenant's keys against a real store and file CMKs: what was sealed before opens
 * after, in this daemon and in one that reads anew; interruptions; a CMK that does not do it. */
#include "../unit.h"

#include "keys_internal.h"
#include "loch/base/buf.h"
#include "loch/crypto/random.h"
#include "loch/host/audit.h"
#include "loch/host/keys.h"
#include "loch/kms/kms.h"
#include "loch/objstore/objstore.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct site {
    char dir[64], cmk[2][96];
    struct loch_env *env;
    struct loch_objstore *store;
    struct loch_kms *kms;
    struct loch_keys *keys;
    struct loch_id cluster, node, tenant, timeline;
};

static const struct loch_id none;

/* env: NULL: no leases are kept. */
static struct loch_keys *open_keys_with(struct site *s, uint8_t role, struct loch_env *env)
{
    const struct loch_keys_options o = {.store = s->store,
                                        .kms = s->kms,
                                        .env = env,
                                        .lease_ms = 600000,
                                        .cluster = s->cluster,
                                        .node = s->node,
                                        .role = role};
    struct loch_keys *keys = NULL;

    assert_ok(loch_keys_create(&o, &keys));
    return keys;
}

static struct loch_keys *open_keys(struct site *s, uint8_t role)
{
    return open_keys_with(s, role, NULL);
}

static int site_up(void **state)
{
    struct site *s = calloc(1, sizeof *s);
    char path[160];

    assert_non_null(s);
    (void)snprintf(s->dir, sizeof s->dir, "/tmp/loch-test-rotate-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    for (int i = 0; i < 2; i++) {
        (void)snprintf(s->cmk[i], sizeof s->cmk[i], "%s/cmk-%d.key", s->dir, i);
        assert_ok(loch_kms_file_create(s->cmk[i]));
    }
    (void)snprintf(path, sizeof path, "file:%s", s->cmk[0]);
    assert_ok(loch_kms_open(path, NULL, &s->kms));
    assert_ok(loch_env_real_create(&s->env));
    (void)snprintf(path, sizeof path, "%s/pins", s->dir);
    assert_ok(loch_kms_pins_open(s->kms, s->env, path));
    (void)snprintf(path, sizeof path, "%s/store", s->dir);
    assert_ok(loch_objstore_open_local(s->env, path, &s->store));
    assert_ok(loch_random_id(&s->cluster));
    assert_ok(loch_random_id(&s->node));
    assert_ok(loch_random_id(&s->tenant));
    assert_ok(loch_random_id(&s->timeline));
    s->keys = open_keys(s, LOCH_ROLE_PAGESERVER);
    assert_ok(loch_keys_tenant_create(s->keys, &s->tenant));
    assert_ok(loch_keys_add_timeline(s->keys, &s->tenant, &s->timeline));
    *state = s;
    return 0;
}

static int site_down(void **state)
{
    struct site *s = *state;
    char command[128];

    loch_keys_destroy(s->keys);
    loch_objstore_close(s->store);
    loch_env_real_destroy(s->env);
    loch_kms_close(s->kms);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", s->dir);
    assert_int_equal(system(command), 0);
    free(s);
    return 0;
}

static void active_of(struct site *s, enum loch_purpose purpose, struct loch_wrap_key *out)
{
    assert_ok(loch_keys_wrap_key(
        s->keys, &s->tenant, purpose == LOCH_PURPOSE_META ? &none : &s->timeline, purpose, out));
}

/* The version opens to the same bytes as before, here and in a daemon that reads the keyring anew.
 */
static void still_opens(struct site *s, enum loch_purpose purpose,
                        const struct loch_wrap_key *before)
{
    struct loch_keys *other = open_keys(s, LOCH_ROLE_SAFEKEEPER);
    struct loch_place place = {.kind = LOCH_KIND_LAYER, .tenant = s->tenant};

    if (purpose == LOCH_PURPOSE_META)
        place.kind = LOCH_KIND_TENANT_MANIFEST;
    else
        place.timeline = s->timeline;
    if (purpose == LOCH_PURPOSE_WAL)
        place.kind = LOCH_KIND_WAL;

    assert_ok(loch_keys_tenant_load(other, &s->tenant));
    struct loch_keys *both[] = {s->keys, other};
    for (size_t i = 0; i < 2; i++) {
        struct loch_secret found = {0};
        struct loch_key_source source = loch_keys_source(both[i]);
        assert_ok(source.find(source.arg, &place, &before->key_id, before->version, &found));
        assert_int_equal(found.len, before->secret.len);
        assert_memory_equal(found.bytes, before->secret.bytes, found.len);
        loch_secret_fini(&found);
    }
    loch_keys_destroy(other);
}

static uint32_t version_of(struct site *s, enum loch_purpose purpose)
{
    struct loch_wrap_key key = {0};

    active_of(s, purpose, &key);
    const uint32_t version = key.version;
    loch_wrap_key_fini(&key);
    return version;
}

static void every_kind(void **state)
{
    static const enum loch_purpose purposes[] = {LOCH_PURPOSE_PAGE, LOCH_PURPOSE_WAL,
                                                 LOCH_PURPOSE_META};
    struct site *s = *state;
    struct loch_wrap_key before[3] = {0};
    struct loch_rotation_report r;

    for (size_t i = 0; i < 3; i++)
        active_of(s, purposes[i], &before[i]);
    for (int round = 1; round <= 3; round++) {
        assert_ok(loch_keys_rotate(s->keys, &s->tenant, &none, LOCH_ROTATE_KEK, &r));
        assert_int_equal(r.made, 4);
        /* Every live version is wrapped anew: of the first round K_wire, page, wal. */
        assert_true(r.rewrapped >= 3);
        assert_true(r.bytes_written > 0 && r.bytes_written < 65536);
        assert_int_equal(version_of(s, LOCH_PURPOSE_META), round + 1);
        assert_int_equal(version_of(s, LOCH_PURPOSE_PAGE), round);
        assert_ok(loch_keys_rotate(s->keys, &s->tenant, &none, LOCH_ROTATE_TK, &r));
        assert_int_equal(r.made, 2);
        assert_int_equal(r.rewrapped, 0);
        assert_int_equal(version_of(s, LOCH_PURPOSE_PAGE), round + 1);
        assert_ok(loch_keys_rotate(s->keys, &s->tenant, &none, LOCH_ROTATE_CMK, &r));
        assert_int_equal(r.made, 0);
        assert_int_equal(r.rewrapped, 4 * (round + 1));
        for (size_t i = 0; i < 3; i++)
            still_opens(s, purposes[i], &before[i]);
    }
    for (size_t i = 0; i < 3; i++)
        loch_wrap_key_fini(&before[i]);
    /* New timelines and everything else go on. */
    assert_ok(loch_keys_add_timeline(s->keys, &s->tenant, &s->node));
    assert_true(loch_keys_has(s->keys, &s->tenant, &s->node));
}

/* A daemon that did not hear of the move: its keyring is refused for ever, but the store has the
 * one that is not. */
static void missed_it(struct site *s, struct loch_keys *late)
{
    uint64_t started_ns = 0;

    assert_true(loch_keys_outdated(late, &s->tenant));
    assert_false(loch_is_ok(loch_keys_prove(late, &s->tenant, &none)));
    loch_keys_block(late, &s->tenant, &none, LOCH_E_KEY_REVOKED, "a test says so");
    assert_ok(loch_keys_prove(late, &s->tenant, &none));
    assert_ok(loch_keys_restore(late, &s->tenant, &none, &started_ns));
    assert_true(loch_keys_has(late, &s->tenant, &s->timeline));
    assert_false(loch_keys_outdated(late, &s->tenant));
    /* with nothing newer a denial stays one */
    loch_keys_block(late, &s->tenant, &none, LOCH_E_KEY_REVOKED, "a test says so");
    assert_int_equal(rename(s->cmk[1], s->cmk[0]), 0);
    assert_code(loch_keys_prove(late, &s->tenant, &none), LOCH_E_DENIED);
    assert_int_equal(rename(s->cmk[0], s->cmk[1]), 0);
}

/* Every KEK of the tenant, or the branch, is wrapped by the CMK at that URI. */
static void hang_below(struct site *s, const struct loch_id *branch, const char *uri)
{
    struct loch_keyring ring = {0};
    uint32_t keks = 0;

    assert_ok(loch_keys_ring(s->keys, &s->tenant, &ring));
    for (uint32_t i = 0; i < ring.count; i++) {
        const struct loch_keyring_entry *e = &ring.entries[i];
        if (e->level != LOCH_LEVEL_KEK || !loch_id_equal(&e->scope, branch))
            continue;
        keks++;
        assert_int_equal(e->cmk_uri.len, strlen(uri));
        assert_memory_equal(e->cmk_uri.data, uri, strlen(uri));
    }
    assert_true(keks > 0);
    loch_keyring_fini(&ring);
}

static void to_another_cmk(void **state)
{
    struct site *s = *state;
    struct loch_keys *late = open_keys_with(s, LOCH_ROLE_SAFEKEEPER, s->env);
    struct loch_wrap_key before = {0};
    struct loch_rotation_report r;
    struct loch_keyring ring = {0};
    char uri[2][128];

    assert_ok(loch_keys_tenant_load(late, &s->tenant));
    assert_false(loch_keys_outdated(late, &s->tenant));
    active_of(s, LOCH_PURPOSE_PAGE, &before);
    for (int i = 0; i < 2; i++) {
        (void)snprintf(uri[i], sizeof uri[i], "file:%s", s->cmk[i]);
        assert_ok(loch_kms_pin(s->kms, &s->tenant, uri[i]));
    }
    assert_ok(loch_keys_move(s->keys, &s->tenant, &none, uri[1], &r));
    assert_int_equal(unlink(s->cmk[0]), 0);
    assert_ok(loch_kms_unpin(s->kms, &s->tenant, uri[0]));
    assert_ok(loch_keys_prove(s->keys, &s->tenant, &none));
    still_opens(s, LOCH_PURPOSE_PAGE, &before);
    missed_it(s, late);
    loch_keys_destroy(late);
    hang_below(s, &none, uri[1]);
    loch_wrap_key_fini(&before);
    assert_code(loch_keys_ring(s->keys, &s->node, &ring), LOCH_E_NOT_FOUND);
}

static void has(struct loch_keys *keys, const struct site *s, bool timeline, bool branch)
{
    assert_int_equal(loch_keys_has(keys, &s->tenant, &s->timeline), timeline);
    assert_int_equal(loch_keys_has(keys, &s->tenant, &s->node), branch);
}

/* Both CMKs are pinned, the second last, as a move leaves it that found too few daemons which can
 * use it: what is made and wrapped from then on is still the first one's, until a move says
 * otherwise. */
static void a_pin_moves_nothing(void **state)
{
    struct site *s = *state;
    struct loch_rotation_report r;
    const struct loch_id *const holders[] = {&s->tenant, &s->node};
    const struct loch_id *const branches[] = {&none, &s->node};
    char uri[2][128];

    for (int i = 0; i < 2; i++)
        (void)snprintf(uri[i], sizeof uri[i], "file:%s", s->cmk[i]);
    assert_ok(loch_kms_pin(s->kms, &s->node, uri[0]));
    assert_ok(loch_keys_add_locked(s->keys, &s->tenant, &s->node, &s->node));
    for (size_t i = 0; i < 2; i++) {
        assert_code(loch_keys_move(s->keys, &s->tenant, branches[i], uri[1], &r), LOCH_E_INVALID);
        assert_ok(loch_kms_pin(s->kms, holders[i], uri[0]));
        assert_ok(loch_kms_pin(s->kms, holders[i], uri[1]));
        assert_ok(loch_keys_rotate(s->keys, &s->tenant, branches[i], LOCH_ROTATE_KEK, &r));
        hang_below(s, branches[i], uri[0]);
        assert_ok(loch_keys_rotate(s->keys, &s->tenant, branches[i], LOCH_ROTATE_CMK, &r));
        hang_below(s, branches[i], uri[0]);
        assert_ok(loch_keys_move(s->keys, &s->tenant, branches[i], uri[1], &r));
        hang_below(s, branches[i], uri[1]);
        assert_ok(loch_keys_rotate(s->keys, &s->tenant, branches[i], LOCH_ROTATE_KEK, &r));
        hang_below(s, branches[i], uri[1]);
    }
}

/* The branch `node` with the second CMK: what that holds turns with it alone, and does not open
 * without it, whatever becomes of the tenant's. */
static void a_branch_with_its_own_cmk(void **state)
{
    struct site *s = *state;
    struct loch_rotation_report r;
    struct loch_wrap_key key = {0};
    struct loch_id child;
    char uri[128];

    assert_ok(loch_random_id(&child));
    assert_code(loch_keys_add_locked(s->keys, &s->tenant, &s->node, &s->node), LOCH_E_INVALID);
    (void)snprintf(uri, sizeof uri, "file:%s", s->cmk[1]);
    assert_ok(loch_kms_pin(s->kms, &s->node, uri));
    assert_ok(loch_keys_add_locked(s->keys, &s->tenant, &s->node, &s->node));
    assert_ok(loch_keys_add_locked(s->keys, &s->tenant, &child, &s->node));
    const struct loch_id lock = loch_keys_lock(s->keys, &s->tenant, &child);
    assert_true(loch_id_equal(&lock, &s->node));
    has(s->keys, s, true, true);
    assert_ok(loch_keys_prove(s->keys, &s->tenant, &s->node));
    assert_ok(loch_keys_rotate(s->keys, &s->tenant, &s->node, LOCH_ROTATE_CMK, &r));
    assert_int_equal(r.rewrapped, 2);
    assert_ok(loch_keys_rotate(s->keys, &s->tenant, &s->node, LOCH_ROTATE_KEK, &r));
    assert_int_equal(r.made, 2);
    assert_int_equal(r.rewrapped, 4);
    assert_code(loch_keys_rotate(s->keys, &s->tenant, &s->node, LOCH_ROTATE_WIRE, &r),
                LOCH_E_INVALID);
    assert_code(loch_keys_rotate(s->keys, &s->tenant, &s->timeline, LOCH_ROTATE_CMK, &r),
                LOCH_E_NOT_FOUND);

    assert_int_equal(unlink(s->cmk[1]), 0);
    struct loch_keys *other = open_keys(s, LOCH_ROLE_SAFEKEEPER);
    assert_ok(loch_keys_tenant_load(other, &s->tenant)); /* the rest is none the worse */
    has(other, s, true, false);
    assert_false(loch_keys_has(other, &s->tenant, &child));
    assert_code(loch_keys_wrap_key(other, &s->tenant, &s->node, LOCH_PURPOSE_WAL, &key),
                LOCH_E_KEY_REVOKED);
    assert_code(loch_keys_prove(other, &s->tenant, &s->node), LOCH_E_DENIED);
    loch_keys_destroy(other);
    has(s->keys, s, true, true); /* opened before: the leases end it */
    assert_ok(loch_keys_rotate(s->keys, &s->tenant, &none, LOCH_ROTATE_KEK, &r));
    assert_int_equal(r.made, 4);
    assert_int_equal(r.rewrapped, 3); /* K_wire and the timeline's two */
    assert_ok(loch_keys_add_timeline(s->keys, &s->tenant, &s->cluster));
    has(s->keys, s, true, true);
    assert_ok(loch_keys_forget_timeline(s->keys, &s->tenant, &child));
    assert_ok(loch_keys_forget_timeline(s->keys, &s->tenant, &s->node));
    has(s->keys, s, true, false);
    assert_code(loch_keys_prove(s->keys, &s->tenant, &s->node), LOCH_E_CORRUPT);
}

/* A branch's KEKs are new and its timeline keys below the old ones: a rotation was cut off there.
 * With the branch's CMK away the tenant's keys turn all the same; the next rotation with it
 * finishes. */
static void a_branch_that_was_cut_off_blocks_nobody(void **state)
{
    struct site *s = *state;
    struct loch_rotation_report r;
    struct keys_tenant *t = NULL;
    struct loch_keyring next = {0};
    struct loch_kms *kms = NULL;
    char uri[128], away[140];

    (void)snprintf(uri, sizeof uri, "file:%s", s->cmk[1]);
    (void)snprintf(away, sizeof away, "%s.away", s->cmk[1]);
    assert_ok(loch_kms_pin(s->kms, &s->node, uri));
    assert_ok(loch_keys_add_locked(s->keys, &s->tenant, &s->node, &s->node));
    assert_ok(keys_ring_kms(&s->keys->o, &s->tenant, &s->node, &kms));
    for (int step = 0; step < 2; step++) { /* made, then active */
        assert_ok(keys_get_newest(s->keys, &s->tenant, &s->node, &t));
        assert_ok(keys_ring_successor(t, &next));
        for (uint32_t i = 0; step == 1 && i < next.count; i++)
            if (next.entries[i].state == LOCH_STATE_PENDING)
                assert_ok(
                    loch_keyring_activate(&next, &next.entries[i].key_id, next.entries[i].version));
        for (int p = LOCH_PURPOSE_PAGE; step == 0 && p <= LOCH_PURPOSE_WAL; p++) {
            struct loch_secret made = {0};
            const struct loch_keyring_entry *e =
                loch_keyring_active(&t->ring, LOCH_LEVEL_KEK, (enum loch_purpose)p, &s->node);
            const struct keys_make what = {
                .purpose = (uint8_t)p, .scope = s->node, .key_id = e->key_id, .kms = kms};
            assert_ok(keys_ring_make(&next, &what, &made));
            loch_secret_fini(&made);
        }
        assert_ok(keys_ring_put(&s->keys->o, &next, t, &t->etag));
        loch_keyring_fini(&next);
        keys_tenant_destroy(t);
    }
    assert_ok(loch_keys_tenant_load(s->keys, &s->tenant));
    assert_int_equal(rename(s->cmk[1], away), 0);
    assert_ok(loch_keys_rotate(s->keys, &s->tenant, &none, LOCH_ROTATE_KEK, &r));
    assert_int_equal(r.rewrapped, 3);
    assert_ok(loch_keys_rotate(s->keys, &s->tenant, &none, LOCH_ROTATE_TK, &r));
    assert_int_equal(rename(away, s->cmk[1]), 0);
    assert_ok(loch_keys_settle(s->keys, &s->tenant)); /* wraps what was left */
    assert_ok(loch_keys_ring(s->keys, &s->tenant, &next));
    for (uint32_t i = 0; i < next.count; i++) {
        const struct loch_keyring_entry *e = &next.entries[i];
        if (e->level == LOCH_LEVEL_TK && loch_id_equal(&e->scope, &s->node))
            assert_int_equal(e->parent_version, 2);
    }
    loch_keyring_fini(&next);
}

/* Without the new CMK nothing is put: the old keyring goes on. */
static void a_cmk_that_denies_changes_nothing(void **state)
{
    struct site *s = *state;
    struct loch_wrap_key before = {0};
    struct loch_rotation_report r;
    char uri[128];
    const uint64_t generation = loch_keys_generation(s->keys, &s->tenant);

    active_of(s, LOCH_PURPOSE_PAGE, &before);
    (void)snprintf(uri, sizeof uri, "file:%s", s->cmk[0]);
    assert_ok(loch_kms_pin(s->kms, &s->tenant, uri));
    (void)snprintf(uri, sizeof uri, "file:%s", s->cmk[1]);
    assert_ok(loch_kms_pin(s->kms, &s->tenant, uri));
    assert_int_equal(unlink(s->cmk[1]), 0);
    assert_code(loch_keys_move(s->keys, &s->tenant, &none, uri, &r), LOCH_E_DENIED);
    assert_int_equal(loch_keys_generation(s->keys, &s->tenant), generation);
    still_opens(s, LOCH_PURPOSE_PAGE, &before);
    loch_wrap_key_fini(&before);
}

static struct loch_psk_identity identity(const struct site *s, uint32_t epoch)
{
    return (struct loch_psk_identity){.version = 1,
                                      .client_role = LOCH_ROLE_SAFEKEEPER,
                                      .server_role = LOCH_ROLE_PAGESERVER,
                                      .wire_epoch = epoch,
                                      .rights = LOCH_RIGHT_WAL_PULL,
                                      .cluster = s->cluster,
                                      .tenant = s->tenant,
                                      .client_id = {{9}},
                                      .client_boot = {{8}},
                                      .server_node = s->node};
}

static void wire_epochs(void **state)
{
    struct site *s = *state;
    struct loch_rotation_report r;
    struct loch_secret psk = {0};

    assert_ok(loch_keys_rotate(s->keys, &s->tenant, &none, LOCH_ROTATE_WIRE, &r));
    assert_int_equal(r.made, 1);
    struct loch_psk_identity id = identity(s, 0);
    assert_ok(loch_keys_psk(s->keys, &id, &psk)); /* issued: still the first */
    loch_secret_fini(&psk);
    assert_int_equal(id.wire_epoch, 1);
    id = identity(s, 2); /* known already */
    assert_ok(loch_keys_psk(s->keys, &id, &psk));
    loch_secret_fini(&psk);
    assert_ok(loch_keys_settle(s->keys, &s->tenant));
    id = identity(s, 0);
    assert_ok(loch_keys_psk(s->keys, &id, &psk));
    loch_secret_fini(&psk);
    assert_int_equal(id.wire_epoch, 2);
    id = identity(s, 1); /* the one before still opens connections */
    assert_ok(loch_keys_psk(s->keys, &id, &psk));
    loch_secret_fini(&psk);
    /* The third epoch ends the first. */
    assert_ok(loch_keys_rotate(s->keys, &s->tenant, &none, LOCH_ROTATE_WIRE, &r));
    id = identity(s, 1);
    assert_code(loch_keys_psk(s->keys, &id, &psk), LOCH_E_NOT_FOUND);
    id = identity(s, 2);
    assert_ok(loch_keys_psk(s->keys, &id, &psk));
    loch_secret_fini(&psk);
}

/* Two epochs at once: those of before end with the settling, the new ones nobody had before. */
static void wire_anew(void **state)
{
    struct site *s = *state;
    struct loch_rotation_report r;
    struct loch_secret psk = {0};

    assert_true(loch_keys_epoch_lives(s->keys, &s->tenant, 1));
    assert_false(loch_keys_epoch_lives(s->keys, &s->tenant, 2));
    assert_false(loch_keys_epoch_lives(s->keys, &s->tenant, 0));
    assert_true(loch_keys_epoch_lives(s->keys, &s->node, 7)); /* no tenant of ours */
    assert_ok(loch_keys_rotate(s->keys, &s->tenant, &none, LOCH_ROTATE_WIRE, &r));
    assert_ok(loch_keys_settle(s->keys, &s->tenant));
    assert_true(loch_keys_epoch_lives(s->keys, &s->tenant, 1));

    assert_ok(loch_keys_rotate(s->keys, &s->tenant, &none, LOCH_ROTATE_WIRE_ANEW, &r));
    assert_int_equal(r.made, 2);
    struct loch_psk_identity id = identity(s, 0);
    assert_ok(loch_keys_psk(s->keys, &id, &psk));
    loch_secret_fini(&psk);
    assert_int_equal(id.wire_epoch, 2); /* until servers know the new ones */
    assert_ok(loch_keys_settle(s->keys, &s->tenant));
    for (uint32_t epoch = 1; epoch <= 4; epoch++)
        assert_int_equal(loch_keys_epoch_lives(s->keys, &s->tenant, epoch), epoch > 2);
    id = identity(s, 0);
    assert_ok(loch_keys_psk(s->keys, &id, &psk));
    loch_secret_fini(&psk);
    assert_int_equal(id.wire_epoch, 4);
    assert_code(loch_keys_rotate(s->keys, &s->tenant, &s->node, LOCH_ROTATE_WIRE_ANEW, &r),
                LOCH_E_INVALID);

    /* However often, it leaves two versions behind: the keyring does not fill up. */
    const uint32_t versions = loch_keys_versions(s->keys, &s->tenant);
    for (uint32_t epoch = 5; epoch <= 8; epoch++) {
        assert_ok(loch_keys_rotate(s->keys, &s->tenant, &none, LOCH_ROTATE_WIRE, &r));
        assert_ok(loch_keys_settle(s->keys, &s->tenant));
        assert_int_equal(loch_keys_versions(s->keys, &s->tenant), versions);
    }
    id = identity(s, 0);
    assert_ok(loch_keys_psk(s->keys, &id, &psk));
    loch_secret_fini(&psk);
    assert_int_equal(id.wire_epoch, 8);
    struct loch_keys *other = open_keys(s, LOCH_ROLE_SAFEKEEPER); /* reads it anew */
    assert_ok(loch_keys_tenant_load(other, &s->tenant));
    assert_false(loch_keys_epoch_lives(other, &s->tenant, 6));
    assert_true(loch_keys_epoch_lives(other, &s->tenant, 7));
    loch_keys_destroy(other);
}

/* Cut off after its first keyring: PENDING versions are there; the next rotation, or any other
 * change, brings them to life, and nothing that was sealed is lost. */
static void an_interrupted_rotation_is_finished(void **state)
{
    struct site *s = *state;
    struct loch_wrap_key before = {0};
    struct loch_rotation_report r;
    struct keys_tenant *t = NULL;
    struct loch_keyring next = {0};
    struct loch_secret made = {0};

    active_of(s, LOCH_PURPOSE_META, &before);
    assert_ok(keys_get_newest(s->keys, &s->tenant, &none, &t));
    assert_ok(keys_ring_successor(t, &next));
    const struct keys_make what = {
        .purpose = LOCH_PURPOSE_META, .key_id = before.key_id, .kms = s->kms};
    assert_ok(keys_ring_make(&next, &what, &made));
    loch_secret_fini(&made);
    assert_ok(keys_ring_put(&s->keys->o, &next, t, &t->etag));
    assert_code(keys_ring_put(&s->keys->o, &next, t, &t->etag), LOCH_E_STALE); /* once */
    loch_keyring_fini(&next);
    keys_tenant_destroy(t);
    assert_int_equal(version_of(s, LOCH_PURPOSE_META), 1);
    assert_ok(loch_keys_rotate(s->keys, &s->tenant, &none, LOCH_ROTATE_KEK, &r));
    assert_int_equal(version_of(s, LOCH_PURPOSE_META), 3);
    still_opens(s, LOCH_PURPOSE_META, &before);
    loch_wrap_key_fini(&before);
}

/* A daemon with a memory, whose audit log is in the site's directory. */
static struct loch_keys *open_witness(struct site *s, const char *witness, struct loch_audit *audit)
{
    const struct loch_keys_options o = {.store = s->store,
                                        .kms = s->kms,
                                        .cluster = s->cluster,
                                        .node = s->node,
                                        .role = LOCH_ROLE_SAFEKEEPER,
                                        .env = s->env,
                                        .audit = audit,
                                        .witness_dir = witness};
    struct loch_keys *keys = NULL;

    assert_ok(loch_keys_create(&o, &keys));
    return keys;
}

/* A store that is wound back while the daemon is down: the next start remembers. */
static void an_older_keyring_is_refused_after_a_restart(void **state)
{
    struct site *s = *state;
    char command[256], witness[96], id[LOCH_ID_TEXT_BYTES], path[192];
    struct loch_rotation_report r;
    struct loch_keys *daemon = NULL;

    (void)snprintf(witness, sizeof witness, "%s/seen", s->dir);
    (void)snprintf(command, sizeof command, "cp -r '%s/store' '%s/old'", s->dir, s->dir);
    assert_int_equal(system(command), 0);
    assert_ok(loch_keys_rotate(s->keys, &s->tenant, &none, LOCH_ROTATE_KEK, &r));
    daemon = open_witness(s, witness, NULL);
    assert_ok(loch_keys_tenant_load(daemon, &s->tenant));
    loch_keys_destroy(daemon);
    (void)snprintf(command, sizeof command, "cp -r '%s/old/.' '%s/store/'", s->dir, s->dir);
    assert_int_equal(system(command), 0);
    daemon = open_witness(s, witness, NULL);
    assert_code(loch_keys_tenant_load(daemon, &s->tenant), LOCH_E_STALE);
    assert_false(loch_keys_has(daemon, &s->tenant, &none));
    /* A memory that is damaged is no memory to trust. */
    (void)snprintf(path, sizeof path, "%s/%s", witness, loch_id_format(&s->tenant, id));
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    assert_true(fputs("7 zz\n", f) >= 0);
    assert_int_equal(fclose(f), 0);
    assert_code(loch_keys_tenant_load(daemon, &s->tenant), LOCH_E_CORRUPT);
    /* The same generation, but not the same keyring. */
    f = fopen(path, "we");
    assert_non_null(f);
    assert_true(fprintf(f, "4 %064d\n", 0) > 0);
    assert_int_equal(fclose(f), 0);
    assert_code(loch_keys_tenant_load(daemon, &s->tenant), LOCH_E_CORRUPT);
    /* Dropped, and with it its memory. */
    loch_keys_tenant_drop(daemon, &s->tenant);
    assert_int_equal(access(path, F_OK), -1);
    assert_ok(loch_keys_tenant_load(daemon, &s->tenant));
    assert_int_equal(access(path, F_OK), 0);
    loch_keys_destroy(daemon);
}

static void see_refused(void *arg, const struct loch_audit_record *record)
{
    if (strcmp(record->event, "refused") == 0)
        ++*(int *)arg;
}

static int refusals(const struct site *s)
{
    struct loch_audit_summary sum;
    int n = 0;

    assert_ok(loch_audit_verify(s->dir, see_refused, &n, &sum));
    return n;
}

/* Cuts the number of the META KEK off the daemon's memory, as it was before one was noted. */
static void forget_meta(const struct site *s, const char *witness)
{
    char path[192], id[LOCH_ID_TEXT_BYTES], text[128] = "";

    (void)snprintf(path, sizeof path, "%s/%s", witness, loch_id_format(&s->tenant, id));
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    assert_non_null(fgets(text, sizeof text, f));
    assert_int_equal(fclose(f), 0);
    char *last = strrchr(text, ' ');
    assert_non_null(last);
    assert_string_equal(last, " 2\n");
    *last = '\0';
    f = fopen(path, "we");
    assert_non_null(f);
    assert_true(fprintf(f, "%s\n", text) > 0);
    assert_int_equal(fclose(f), 0);
}

/* Whoever had the KEKs of before a rotation, and writes the bucket, puts a keyring in which they
 * are active again, with their old wraps and a MAC by the old META KEK. */
static void old_keks_make_no_keyring(void **state)
{
    struct site *s = *state;
    struct loch_rotation_report r;
    struct keys_tenant *stolen = NULL, *newest = NULL;
    struct loch_keyring forged = {0};
    struct loch_audit *audit = NULL;
    char witness[96];

    (void)snprintf(witness, sizeof witness, "%s/seen", s->dir);
    assert_ok(loch_audit_open(s->dir, "test", &s->node, &audit));
    assert_ok(keys_get_newest(s->keys, &s->tenant, &none, &stolen));
    assert_ok(loch_keys_rotate(s->keys, &s->tenant, &none, LOCH_ROTATE_KEK, &r));
    struct loch_keys *daemon = open_witness(s, witness, audit);
    assert_ok(loch_keys_tenant_load(daemon, &s->tenant));
    loch_keys_destroy(daemon);
    forget_meta(s, witness);
    daemon = open_witness(s, witness, audit);
    assert_ok(loch_keys_tenant_load(daemon, &s->tenant)); /* and it is noted */

    assert_ok(keys_get_newest(s->keys, &s->tenant, &none, &newest));
    assert_ok(loch_keyring_copy(&forged, &stolen->ring));
    forged.generation = newest->ring.generation + 1;
    memcpy(forged.previous_hash, newest->hash, sizeof forged.previous_hash);
    memcpy(forged.previous_mac, newest->mac, sizeof forged.previous_mac);
    assert_ok(keys_ring_put(&s->keys->o, &forged, stolen, &newest->etag));
    assert_code(loch_keys_tenant_load(s->keys, &s->tenant), LOCH_E_CORRUPT);
    assert_int_equal(refusals(s), 0);
    assert_code(loch_keys_tenant_load(daemon, &s->tenant), LOCH_E_CORRUPT);
    assert_int_equal(refusals(s), 1);
    assert_true(loch_keys_has(daemon, &s->tenant, &s->timeline)); /* by the keyring it has */
    loch_keys_destroy(daemon);
    daemon = open_witness(s, witness, audit); /* a restart */
    assert_code(loch_keys_tenant_load(daemon, &s->tenant), LOCH_E_CORRUPT);
    assert_non_null(strstr(loch_error_text(), "version 1 of its key"));
    assert_int_equal(refusals(s), 2);
    assert_false(loch_keys_has(daemon, &s->tenant, &none));
    loch_keys_destroy(daemon);
    loch_keyring_fini(&forged);
    keys_tenant_destroy(stolen);
    keys_tenant_destroy(newest);
    loch_audit_close(audit);
}

int main(void)
{
#define SITE(test_) cmocka_unit_test_setup_teardown(test_, site_up, site_down)
    const struct CMUnitTest tests[] = {
        SITE(every_kind),
        SITE(to_another_cmk),
        SITE(a_pin_moves_nothing),
        SITE(a_cmk_that_denies_changes_nothing),
        SITE(a_branch_with_its_own_cmk),
        SITE(a_branch_that_was_cut_off_blocks_nobody),
        SITE(wire_epochs),
        SITE(wire_anew),
        SITE(an_interrupted_rotation_is_finished),
        SITE(an_older_keyring_is_refused_after_a_restart),
        SITE(old_keks_make_no_keyring),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
