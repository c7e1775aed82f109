/* The keyring's rules, its life of versions, its bytes. */
#include "../unit.h"

#include "loch/keyring/keyring.h"

#include <stdio.h>
#include <stdlib.h>

static const struct loch_id cluster = {{1}};
static const struct loch_id tenant = {{2}};
static const struct loch_id none;

static struct loch_id id_of(uint8_t b)
{
    struct loch_id id = {{0}};

    id.bytes[0] = b;
    return id;
}

static struct loch_keyring_entry kek(uint8_t id, uint32_t version, uint8_t purpose)
{
    struct loch_keyring_entry e = {.key_id = id_of(id),
                                   .version = version,
                                   .level = LOCH_LEVEL_KEK,
                                   .purpose = purpose,
                                   .provider = LOCH_PROVIDER_FILE};

    assert_ok(loch_buf_append(&e.cmk_uri, "file:/x", 7));
    assert_ok(loch_buf_append(&e.wrap, "wrapped", 7));
    memset(e.salt, id, sizeof e.salt);
    memset(e.commitment, id + 1, sizeof e.commitment);
    return e;
}

static struct loch_keyring_entry tk(uint8_t id, uint32_t version, uint8_t purpose, uint8_t parent)
{
    struct loch_keyring_entry e = kek(id, version, purpose);

    e.level = LOCH_LEVEL_TK;
    e.provider = 0;
    loch_buf_fini(&e.cmk_uri);
    e.parent = id_of(parent);
    e.parent_version = 1;
    e.scope = id_of(0x77);
    return e;
}

static loch_status add(struct loch_keyring *ring, struct loch_keyring_entry take_entry)
{
    return loch_keyring_add(ring, &take_entry);
}

/* KEK 10 (page), KEK 11 (wal), TK 20 below 10, version 2 of KEK 10; 10/1 and 20/1 active. */
static void ring_fill(struct loch_keyring *ring)
{
    const struct loch_id k10 = id_of(10);
    const struct loch_id k20 = id_of(20);

    loch_keyring_init(ring, &cluster, &tenant);
    assert_ok(add(ring, kek(10, 1, LOCH_PURPOSE_PAGE)));
    assert_ok(add(ring, kek(11, 1, LOCH_PURPOSE_WAL)));
    assert_ok(add(ring, tk(20, 1, LOCH_PURPOSE_PAGE, 10)));
    assert_ok(add(ring, kek(10, 2, LOCH_PURPOSE_PAGE)));
    assert_ok(loch_keyring_activate(ring, &k10, 1));
    assert_ok(loch_keyring_activate(ring, &k20, 1));
}

static void entries_must_fit(void **state)
{
    struct loch_keyring ring;
    struct loch_keyring_entry e;

    (void)state;
    ring_fill(&ring);
    assert_code(add(&ring, kek(10, 2, LOCH_PURPOSE_PAGE)), LOCH_E_INVALID); /* there already */
    assert_code(add(&ring, kek(10, 4, LOCH_PURPOSE_PAGE)), LOCH_E_INVALID); /* leaves one out */
    assert_code(add(&ring, kek(10, 3, LOCH_PURPOSE_WAL)), LOCH_E_INVALID);  /* another purpose */
    assert_code(add(&ring, kek(12, 2, LOCH_PURPOSE_WAL)), LOCH_E_INVALID);  /* begins at 2 */
    assert_code(add(&ring, kek(0, 1, LOCH_PURPOSE_WAL)), LOCH_E_INVALID);
    assert_code(add(&ring, kek(12, 1, 9)), LOCH_E_INVALID);
    assert_code(add(&ring, tk(21, 1, LOCH_PURPOSE_WAL, 10)), LOCH_E_INVALID);  /* page KEK above */
    assert_code(add(&ring, tk(21, 1, LOCH_PURPOSE_PAGE, 20)), LOCH_E_INVALID); /* TK above */
    assert_code(add(&ring, tk(21, 1, LOCH_PURPOSE_PAGE, 99)), LOCH_E_INVALID);
    e = kek(12, 1, LOCH_PURPOSE_WAL);
    e.provider = 0;
    assert_code(add(&ring, e), LOCH_E_INVALID);
    e = kek(12, 1, LOCH_PURPOSE_WAL);
    e.parent = id_of(10);
    assert_code(add(&ring, e), LOCH_E_INVALID);
    e = kek(12, 1, LOCH_PURPOSE_WAL);
    loch_buf_fini(&e.wrap);
    assert_code(add(&ring, e), LOCH_E_INVALID);
    assert_int_equal(ring.count, 4);
    loch_keyring_fini(&ring);
}

static void versions_live_and_die(void **state)
{
    struct loch_keyring ring;
    const struct loch_id k10 = id_of(10);
    const struct loch_id k99 = id_of(99);

    (void)state;
    ring_fill(&ring);
    assert_int_equal(loch_keyring_active(&ring, LOCH_LEVEL_KEK, LOCH_PURPOSE_PAGE, &none)->version,
                     1);
    assert_null(loch_keyring_active(&ring, LOCH_LEVEL_KEK, LOCH_PURPOSE_WAL, &none));
    assert_ok(loch_keyring_activate(&ring, &k10, 2));
    assert_int_equal(loch_keyring_find(&ring, &k10, 1)->state, LOCH_STATE_RETIRED);
    assert_int_equal(loch_keyring_active(&ring, LOCH_LEVEL_KEK, LOCH_PURPOSE_PAGE, &none)->version,
                     2);
    assert_code(loch_keyring_activate(&ring, &k10, 1), LOCH_E_INVALID);
    assert_code(loch_keyring_activate(&ring, &k99, 1), LOCH_E_NOT_FOUND);
    assert_ok(loch_keyring_revoke(&ring, &k10, 1));
    assert_int_equal(loch_keyring_find(&ring, &k10, 1)->state, LOCH_STATE_REVOKED);
    assert_code(loch_keyring_revoke(&ring, &k99, 1), LOCH_E_NOT_FOUND);
    assert_ok(loch_keyring_destroy_version(&ring, &k10, 1));
    assert_int_equal(loch_keyring_find(&ring, &k10, 1)->wrap.len, 0);
    assert_code(loch_keyring_revoke(&ring, &k10, 1), LOCH_E_INVALID);
    assert_code(loch_keyring_destroy_version(&ring, &k99, 1), LOCH_E_NOT_FOUND);
    assert_string_equal(loch_key_state_name(LOCH_STATE_DESTROYED), "destroyed");
    assert_string_equal(loch_key_state_name(0), "unknown");
    assert_string_equal(loch_purpose_name(LOCH_PURPOSE_META), "meta");
    assert_string_equal(loch_purpose_name(0), "unknown");
    loch_keyring_fini(&ring);
}

static void timelines_are_forgotten(void **state)
{
    struct loch_keyring ring;
    const struct loch_id timeline = id_of(0x77);
    const struct loch_id k20 = id_of(20);

    (void)state;
    ring_fill(&ring);
    assert_ok(add(&ring, tk(20, 2, LOCH_PURPOSE_PAGE, 10)));
    assert_ok(add(&ring, tk(21, 1, LOCH_PURPOSE_WAL, 11)));
    assert_int_equal(loch_keyring_forget(&ring, &k20), 0);
    assert_int_equal(loch_keyring_forget(&ring, &timeline), 3);
    assert_int_equal(loch_keyring_forget(&ring, &timeline), 0);
    assert_int_equal(ring.count, 3);
    assert_null(loch_keyring_find(&ring, &k20, 1));
    assert_ok(add(&ring, tk(22, 1, LOCH_PURPOSE_WAL, 11)));
    loch_keyring_fini(&ring);
}

static struct loch_buf text(const char *s)
{
    struct loch_buf b = {0};

    assert_ok(loch_buf_append(&b, s, strlen(s)));
    return b;
}

static void rotation_rewraps(void **state)
{
    struct loch_keyring ring;
    const struct loch_id k10 = id_of(10);
    const struct loch_id k20 = id_of(20);
    const struct loch_id k99 = id_of(99);
    struct loch_buf b;

    (void)state;
    ring_fill(&ring);
    b = text("anew");
    assert_ok(loch_keyring_rewrap(&ring, &k20, 1, 2, &b));
    assert_null(b.data);
    assert_int_equal(loch_keyring_find(&ring, &k20, 1)->parent_version, 2);
    assert_memory_equal(loch_keyring_find(&ring, &k20, 1)->wrap.data, "anew", 4);
    b = text("anew");
    assert_code(loch_keyring_rewrap(&ring, &k20, 1, 3, &b), LOCH_E_NOT_FOUND);
    assert_null(b.data); /* taken on failure too */
    b = text("anew");
    assert_code(loch_keyring_rewrap(&ring, &k99, 1, 1, &b), LOCH_E_NOT_FOUND);
    b = text("anew");
    assert_code(loch_keyring_rewrap(&ring, &k10, 1, 1, &b), LOCH_E_INVALID);
    b = text("");
    assert_code(loch_keyring_rewrap(&ring, &k10, 1, 0, &b), LOCH_E_INVALID);
    b = text("kms");
    assert_ok(loch_keyring_rewrap(&ring, &k10, 1, 0, &b));
    loch_keyring_fini(&ring);
}

static void encoded(const struct loch_keyring *ring, struct loch_buf *out)
{
    uint8_t mac[LOCH_KEYRING_MAC_BYTES];

    out->len = 0;
    memset(mac, 0x5A, sizeof mac);
    assert_ok(loch_keyring_encode(ring, out));
    assert_ok(loch_buf_append(out, mac, sizeof mac));
}

static void keks_stand_first_and_move(void **state)
{
    const struct loch_id k10 = id_of(10);
    const struct loch_id k20 = id_of(20);
    const struct loch_slice uri = loch_slice_of("vault:there", 11);
    struct loch_keyring ring;
    struct loch_buf wrap = {0};

    (void)state;
    ring_fill(&ring);
    assert_int_equal(ring.entries[2].level, LOCH_LEVEL_KEK); /* 10/2, added after TK 20 */
    assert_int_equal(ring.entries[3].level, LOCH_LEVEL_TK);
    assert_ok(loch_buf_append(&wrap, "anew", 4));
    assert_ok(loch_keyring_move(&ring, &k10, 1, LOCH_PROVIDER_VAULT, uri, &wrap));
    const struct loch_keyring_entry *e = loch_keyring_find(&ring, &k10, 1);
    assert_int_equal(e->provider, LOCH_PROVIDER_VAULT);
    assert_memory_equal(e->cmk_uri.data, "vault:there", 11);
    assert_memory_equal(e->wrap.data, "anew", 4);
    assert_ok(loch_buf_append(&wrap, "anew", 4));
    assert_code(loch_keyring_move(&ring, &k20, 1, LOCH_PROVIDER_VAULT, uri, &wrap),
                LOCH_E_NOT_FOUND); /* no KEK */
    assert_int_equal(wrap.len, 0);
    assert_ok(loch_buf_append(&wrap, "anew", 4));
    assert_code(loch_keyring_move(&ring, &k10, 1, 9, uri, &wrap), LOCH_E_INVALID);
    assert_code(loch_keyring_move(&ring, &k10, 1, LOCH_PROVIDER_VAULT, uri, &wrap),
                LOCH_E_INVALID); /* no wrap */
    loch_keyring_fini(&ring);
}

static void bytes_round_trip(void **state)
{
    struct loch_keyring ring;
    struct loch_keyring back = {0};
    struct loch_keyring copy = {0};
    struct loch_buf a = {0};
    struct loch_buf b = {0};
    struct loch_slice body;
    struct loch_slice mac;
    const struct loch_id k10 = id_of(10);

    (void)state;
    ring_fill(&ring);
    ring.tombstone = true;
    ring.generation = 77;
    memset(ring.previous_hash, 3, 32);
    memset(ring.previous_mac, 4, 32);
    assert_ok(loch_keyring_activate(&ring, &k10, 2));
    assert_ok(loch_keyring_destroy_version(&ring, &k10, 1));
    encoded(&ring, &a);
    assert_ok(loch_keyring_decode(loch_buf_slice(&a), &back, &body, &mac));
    assert_int_equal(body.len, a.len - 32);
    assert_int_equal(mac.data[31], 0x5A);
    assert_ok(loch_keyring_copy(&copy, &back));
    loch_keyring_fini(&back);
    encoded(&copy, &b);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    loch_keyring_fini(&copy);
    loch_keyring_fini(&ring);
    loch_buf_fini(&a);
    loch_buf_fini(&b);
}

static void bad_bytes_are_refused(void **state)
{
    struct loch_keyring ring;
    struct loch_keyring back = {0};
    struct loch_buf a = {0};
    struct loch_slice body;
    struct loch_slice mac;

    (void)state;
    ring_fill(&ring);
    encoded(&ring, &a);
    for (size_t n = 0; n < a.len; n++) {
        const loch_status st = loch_keyring_decode(loch_slice_of(a.data, n), &back, &body, &mac);
        assert_code(st, LOCH_E_CORRUPT);
    }
    for (size_t at = 8; at < 16; at++) {
        a.data[at] ^= 0x40;
        assert_code(loch_keyring_decode(loch_buf_slice(&a), &back, &body, &mac),
                    at <= 9 ? LOCH_E_OK : LOCH_E_UNSUPPORTED); /* a newer format may be readable */
        loch_keyring_fini(&back);
        a.data[at] ^= 0x40;
    }
    assert_ok(loch_buf_append(&a, "x", 1));
    assert_code(loch_keyring_decode(loch_buf_slice(&a), &back, &body, &mac), LOCH_E_CORRUPT);
    loch_keyring_fini(&ring);
    loch_buf_fini(&a);
}

/* ring_fill and a branch 0x78 with a CMK of its own: KEKs 30 (page), 31 (wal), its TKs 40, 41; its
 * child 0x79 has TK 42 below them. */
static void ring_fill_branch(struct loch_keyring *ring)
{
    struct loch_keyring_entry e;

    ring_fill(ring);
    for (uint8_t i = 0; i < 2; i++) {
        const uint8_t purpose = i == 0 ? LOCH_PURPOSE_PAGE : LOCH_PURPOSE_WAL;
        const struct loch_id id = id_of((uint8_t)(30 + i));
        e = kek((uint8_t)(30 + i), 1, purpose);
        e.scope = id_of(0x78);
        assert_ok(add(ring, e));
        assert_ok(loch_keyring_activate(ring, &id, 1));
        e = tk((uint8_t)(40 + i), 1, purpose, (uint8_t)(30 + i));
        e.scope = id_of(0x78);
        assert_ok(add(ring, e));
    }
    e = tk(42, 1, LOCH_PURPOSE_PAGE, 30);
    e.scope = id_of(0x79);
    assert_ok(add(ring, e));
}

static void assert_lock(const struct loch_keyring *ring, uint8_t timeline, uint8_t branch)
{
    const struct loch_id id = id_of(timeline), want = id_of(branch);
    const struct loch_id lock = loch_keyring_lock(ring, &id);

    assert_true(loch_id_equal(&lock, &want));
}

static void a_branch_has_a_lock(void **state)
{
    struct loch_keyring ring;
    struct loch_keyring_entry e;
    const struct loch_id branch = id_of(0x78), child = id_of(0x79), k30 = id_of(30);

    (void)state;
    ring_fill_branch(&ring);
    assert_lock(&ring, 0x77, 0);
    assert_lock(&ring, 0x78, 0x78);
    assert_lock(&ring, 0x79, 0x78);
    assert_lock(&ring, 0x7A, 0); /* no keys */
    assert_int_equal(loch_keyring_active_version(&ring, &k30)->version, 1);
    assert_null(loch_keyring_active_version(&ring, &branch));
    e = kek(32, 1, LOCH_PURPOSE_META);
    e.scope = branch;
    assert_code(add(&ring, e), LOCH_E_INVALID); /* only page and wal */
    e = tk(43, 1, LOCH_PURPOSE_PAGE, 30);
    e.scope = none;
    assert_code(add(&ring, e), LOCH_E_INVALID); /* a tenant's key */
    e = tk(43, 1, LOCH_PURPOSE_WAL, 11);
    e.scope = child;
    assert_code(add(&ring, e), LOCH_E_INVALID);               /* one timeline, two CMKs */
    assert_int_equal(loch_keyring_forget(&ring, &branch), 2); /* its child needs the KEKs */
    assert_int_equal(loch_keyring_forget(&ring, &branch), 0);
    assert_int_equal(loch_keyring_forget(&ring, &child), 1);
    assert_int_equal(loch_keyring_forget(&ring, &branch), 2);
    assert_int_equal(ring.count, 4);
    loch_keyring_fini(&ring);
}

/* Format 2 only where a branch has a CMK; format 1 has none. */
static void formats_differ(void **state)
{
    struct loch_keyring ring, back = {0};
    struct loch_buf a = {0}, b = {0};
    struct loch_slice body, mac;

    (void)state;
    ring_fill(&ring);
    encoded(&ring, &a);
    assert_int_equal(a.data[8], 1);
    assert_int_equal(a.data[10], 1);
    loch_keyring_fini(&ring);
    ring_fill_branch(&ring);
    encoded(&ring, &a);
    assert_int_equal(a.data[8], 2);
    assert_int_equal(a.data[10], 2);
    assert_ok(loch_keyring_decode(loch_buf_slice(&a), &back, &body, &mac));
    encoded(&back, &b);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    loch_keyring_fini(&back);
    a.data[8] = a.data[10] = 1;
    assert_code(loch_keyring_decode(loch_buf_slice(&a), &back, &body, &mac), LOCH_E_CORRUPT);
    a.data[8] = a.data[10] = 4;
    assert_code(loch_keyring_decode(loch_buf_slice(&a), &back, &body, &mac), LOCH_E_UNSUPPORTED);
    loch_keyring_fini(&ring);
    loch_buf_fini(&a);
    loch_buf_fini(&b);
}

static struct loch_keyring_entry wire(uint32_t version)
{
    struct loch_keyring_entry e = tk(50, version, LOCH_PURPOSE_WIRE, 13);

    e.scope = none;
    return e;
}

/* ring_fill, the wire KEK 13, and K_wire 50: version 3 retired, 4 active, 1 and 2 have left. */
static void ring_fill_gapped(struct loch_keyring *ring)
{
    const struct loch_id k50 = id_of(50);

    ring_fill(ring);
    assert_ok(add(ring, kek(13, 1, LOCH_PURPOSE_WIRE)));
    for (uint32_t version = 1; version <= 4; version++) {
        assert_ok(add(ring, wire(version)));
        assert_ok(loch_keyring_activate(ring, &k50, version));
        if (version >= 3)
            assert_ok(loch_keyring_destroy_version(ring, &k50, version - 2));
    }
    assert_int_equal(loch_keyring_sweep(ring), 2);
}

static void destroyed_epochs_leave(void **state)
{
    const struct loch_id k20 = id_of(20), k50 = id_of(50);
    struct loch_keyring ring, back = {0};
    struct loch_buf a = {0}, b = {0};
    struct loch_slice body, mac;

    (void)state;
    ring_fill_gapped(&ring);
    assert_int_equal(loch_keyring_sweep(&ring), 0);
    assert_null(loch_keyring_find(&ring, &k50, 2));
    assert_int_equal(loch_keyring_find(&ring, &k50, 3)->state, LOCH_STATE_RETIRED);
    assert_code(add(&ring, wire(2)), LOCH_E_INVALID);
    assert_code(add(&ring, wire(6)), LOCH_E_INVALID);
    encoded(&ring, &a);
    assert_int_equal(a.data[8], 3);
    assert_int_equal(a.data[10], 3);
    assert_ok(loch_keyring_decode(loch_buf_slice(&a), &back, &body, &mac));
    encoded(&back, &b);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    loch_keyring_fini(&back);
    a.data[8] = a.data[10] = 2;
    assert_code(loch_keyring_decode(loch_buf_slice(&a), &back, &body, &mac), LOCH_E_CORRUPT);
    assert_ok(add(&ring, wire(5)));
    /* The newest stays, whatever it is, and so does every other key's. */
    assert_ok(loch_keyring_destroy_version(&ring, &k50, 5));
    assert_ok(add(&ring, tk(20, 2, LOCH_PURPOSE_PAGE, 10)));
    assert_ok(loch_keyring_destroy_version(&ring, &k20, 1));
    assert_int_equal(loch_keyring_sweep(&ring), 0);
    loch_keyring_fini(&ring);
    loch_buf_fini(&a);
    loch_buf_fini(&b);
}

/* Timelines' keys leave room for what a lost machine asks for. */
static void the_last_room_is_kept(void **state)
{
    const uint32_t room = LOCH_KEYRING_ENTRIES_MAX - LOCH_KEYRING_RESERVE;
    struct loch_keyring ring;

    (void)state;
    ring_fill(&ring);
    assert_ok(add(&ring, kek(13, 1, LOCH_PURPOSE_WIRE)));
    assert_ok(add(&ring, wire(1)));
    ring.entries = realloc(ring.entries, LOCH_KEYRING_ENTRIES_MAX * sizeof *ring.entries);
    assert_non_null(ring.entries);
    memset(ring.entries + ring.count, 0,
           (LOCH_KEYRING_ENTRIES_MAX - ring.count) * sizeof *ring.entries);
    ring.cap = LOCH_KEYRING_ENTRIES_MAX;
    ring.count = room - 1; /* as if of others */
    assert_ok(add(&ring, tk(21, 1, LOCH_PURPOSE_PAGE, 10)));
    assert_code(add(&ring, tk(22, 1, LOCH_PURPOSE_PAGE, 10)), LOCH_E_LIMIT);
    assert_non_null(strstr(loch_error_text(), "loch branch delete"));
    assert_ok(add(&ring, wire(2)));
    assert_ok(add(&ring, wire(3)));
    assert_ok(add(&ring, kek(10, 3, LOCH_PURPOSE_PAGE)));
    ring.count = LOCH_KEYRING_ENTRIES_MAX;
    assert_code(add(&ring, kek(10, 4, LOCH_PURPOSE_PAGE)), LOCH_E_LIMIT);
    loch_keyring_fini(&ring);
}

static void successors_follow(void **state)
{
    struct loch_keyring ring;
    struct loch_keyring next = {0};
    uint8_t hash[32];

    (void)state;
    ring_fill(&ring);
    memset(hash, 9, sizeof hash);
    assert_ok(loch_keyring_copy(&next, &ring));
    assert_code(loch_keyring_check_successor(&ring, hash, &next), LOCH_E_STALE);
    next.generation = ring.generation + 1;
    assert_code(loch_keyring_check_successor(&ring, hash, &next), LOCH_E_CORRUPT);
    memcpy(next.previous_hash, hash, sizeof hash);
    assert_ok(loch_keyring_check_successor(&ring, hash, &next));
    next.generation++; /* versions in between were not seen here */
    memset(next.previous_hash, 0, sizeof hash);
    assert_ok(loch_keyring_check_successor(&ring, hash, &next));
    next.tenant.bytes[3] = 1;
    assert_code(loch_keyring_check_successor(&ring, hash, &next), LOCH_E_CORRUPT);
    loch_keyring_fini(&next);
    loch_keyring_fini(&ring);
}

/* A keyring that does not go on where the one before it was: by whoever has keys of before. */
static void successors_do_not_go_back(void **state)
{
    const struct loch_id k10 = id_of(10), k20 = id_of(20), timeline = id_of(0x77);
    struct loch_keyring ring, next = {0}, old;
    const uint8_t hash[32] = {9};

    (void)state;
    ring_fill(&ring);
    ring_fill(&old);
    old.generation = ring.generation + 2;
    assert_ok(loch_keyring_check_successor(&ring, hash, &old));
    assert_ok(loch_keyring_activate(&ring, &k10, 2)); /* 10/1 is retired: old says active */
    assert_code(loch_keyring_check_successor(&ring, hash, &old), LOCH_E_CORRUPT);
    assert_non_null(strstr(loch_error_text(), "version 1 of a page key is active"));
    assert_ok(loch_keyring_revoke(&old, &k10, 1)); /* 10/2 is active: old says pending */
    assert_code(loch_keyring_check_successor(&ring, hash, &old), LOCH_E_CORRUPT);
    loch_keyring_fini(&old);

    assert_ok(loch_keyring_copy(&next, &ring));
    next.generation += 2;
    assert_ok(add(&next, kek(10, 3, LOCH_PURPOSE_PAGE)));
    assert_ok(loch_keyring_activate(&next, &k10, 3));
    assert_ok(add(&next, tk(20, 2, LOCH_PURPOSE_PAGE, 10)));
    assert_ok(loch_keyring_activate(&next, &k20, 2));
    assert_ok(loch_keyring_check_successor(&ring, hash, &next));
    assert_int_equal(loch_keyring_forget(&next, &timeline), 2);
    assert_ok(loch_keyring_check_successor(&ring, hash, &next));
    loch_keyring_fini(&next);

    loch_keyring_init(&next, &cluster, &tenant); /* KEKs are missing */
    next.generation = ring.generation + 2;
    assert_ok(add(&next, kek(11, 1, LOCH_PURPOSE_WAL)));
    assert_code(loch_keyring_check_successor(&ring, hash, &next), LOCH_E_CORRUPT);
    loch_keyring_fini(&next);
    loch_keyring_fini(&ring);
}

static void the_mac_is_under_meta(void **state)
{
    const struct loch_id k12 = id_of(12);
    struct loch_keyring ring;

    (void)state;
    ring_fill(&ring);
    assert_null(loch_keyring_mac_key(&ring));
    assert_ok(add(&ring, kek(12, 1, LOCH_PURPOSE_META)));
    assert_int_equal(loch_keyring_mac_key(&ring)->version, 1); /* just made */
    assert_ok(loch_keyring_activate(&ring, &k12, 1));
    assert_ok(add(&ring, kek(12, 2, LOCH_PURPOSE_META)));
    assert_int_equal(loch_keyring_mac_key(&ring)->version, 1);
    assert_ok(loch_keyring_activate(&ring, &k12, 2));
    assert_int_equal(loch_keyring_mac_key(&ring)->version, 2);
    assert_ok(loch_keyring_revoke(&ring, &k12, 2));
    assert_null(loch_keyring_mac_key(&ring));
    loch_keyring_fini(&ring);
}

static void golden(void (*fill)(struct loch_keyring *ring), const char *path)
{
    struct loch_keyring ring;
    struct loch_buf a = {0};
    uint8_t was[4096];

    fill(&ring);
    encoded(&ring, &a);
    FILE *f = fopen(path, getenv("LOCH_GOLDEN_WRITE") != NULL ? "wb" : "rb");
    assert_non_null(f);
    if (getenv("LOCH_GOLDEN_WRITE") != NULL) {
        assert_int_equal(fwrite(a.data, 1, a.len, f), a.len);
    } else {
        assert_int_equal(fread(was, 1, sizeof was, f), a.len);
        assert_memory_equal(was, a.data, a.len);
    }
    assert_int_equal(fclose(f), 0);
    loch_keyring_fini(&ring);
    loch_buf_fini(&a);
}

static void golden_keyrings(void **state)
{
    (void)state;
    golden(ring_fill, LOCH_SOURCE_DIR "/tests/golden/format/keyring.bin");
    golden(ring_fill_branch, LOCH_SOURCE_DIR "/tests/golden/format/keyring-2.bin");
    golden(ring_fill_gapped, LOCH_SOURCE_DIR "/tests/golden/format/keyring-3.bin");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_must_fit),          cmocka_unit_test(versions_live_and_die),
        cmocka_unit_test(rotation_rewraps),          cmocka_unit_test(timelines_are_forgotten),
        cmocka_unit_test(keks_stand_first_and_move), cmocka_unit_test(bytes_round_trip),
        cmocka_unit_test(bad_bytes_are_refused),     cmocka_unit_test(successors_follow),
        cmocka_unit_test(a_branch_has_a_lock),       cmocka_unit_test(formats_differ),
        cmocka_unit_test(successors_do_not_go_back), cmocka_unit_test(the_mac_is_under_meta),
        cmocka_unit_test(destroyed_epochs_leave),    cmocka_unit_test(the_last_room_is_kept),
        cmocka_unit_test(golden_keyrings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
