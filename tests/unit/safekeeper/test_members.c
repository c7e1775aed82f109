/* Holds: the membership's object: codec, golden file, and each step with its refusals. */
#include "members.h"

#include "store_world.h"

#include "loch/objstore/objstore.h"

static const struct loch_member three[] = {
    {.id = {{1}}, .node = {{11}}, .in = LOCH_MEMBER_BOTH, .address = "127.0.0.1:7001"},
    {.id = {{2}}, .node = {{12}}, .in = LOCH_MEMBER_BOTH, .address = "127.0.0.1:7002"},
    {.id = {{3}}, .node = {{13}}, .in = LOCH_MEMBER_BOTH, .address = "127.0.0.1:7003"}};
static const struct loch_member four = {
    .id = {{4}}, .node = {{14}}, .in = LOCH_MEMBER_BOTH, .address = "127.0.0.1:7004"};

static struct sk_members_order order_of(enum sk_members_step step, uint64_t from)
{
    struct sk_members_order order = {.step = step, .from = from, .to_count = 3};

    memcpy(order.to, three, sizeof three);
    return order;
}

static void sealed_members_open(void **state)
{
    struct world w;
    struct loch_membership m = {0}, got = {0};
    struct loch_buf sealed = {0};
    const char *golden = LOCH_SOURCE_DIR "/tests/golden/format/members.bin";

    (void)state;
    world_init(&w, 1u << 20);
    assert_ok(loch_membership_first(three, 3, &m));
    m.members[2].in = LOCH_MEMBER_OLD;
    m.generation = 6;
    if (getenv("LOCH_GOLDEN_WRITE") != NULL) {
        assert_ok(sk_members_seal(&m, &w.sealer, &sealed));
        assert_ok(loch_env_replace_file(w.env, golden, loch_buf_slice(&sealed)));
        loch_buf_fini(&sealed);
    }
    assert_ok(loch_env_read_file(w.env, golden, 1u << 20, &sealed));
    assert_ok(sk_members_open(loch_buf_slice(&sealed), &w.sealer, &got));
    assert_true(loch_membership_equal(&m, &got));
    loch_membership_fini(&got);
    for (size_t i = 0; i < sealed.len; i += 7) {
        sealed.data[i] ^= 0x40;
        assert_false(loch_is_ok(sk_members_open(loch_buf_slice(&sealed), &w.sealer, &got)));
        sealed.data[i] ^= 0x40;
    }
    struct sk_sealer other = w.sealer; /* another timeline's */
    other.timeline.bytes[0] ^= 1;
    assert_false(loch_is_ok(sk_members_open(loch_buf_slice(&sealed), &other, &got)));
    loch_membership_fini(&m);
    loch_buf_fini(&sealed);
    world_fini(&w);
}

/* What no reader would take is not sealed: it would stand there for ever. */
static void unreadable_members_are_not_sealed(void **state)
{
    static const char *const addresses[] = {"127.0.0.1 7001", "127.0.0.1:7001\n",
                                            "caf\xc3\xa9:7001"};
    struct world w;
    struct loch_objstore *store;
    struct loch_membership m = {0};
    struct loch_buf sealed = {0};
    char dir[200];

    (void)state;
    world_init(&w, 1u << 20);
    (void)snprintf(dir, sizeof dir, "%s/store", w.dir);
    assert_ok(loch_objstore_open_local(w.env, dir, &store));
    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++) {
        struct sk_members_order order = order_of(SK_MEMBERS_FORM, 0);
        (void)snprintf(order.to[1].address, sizeof order.to[1].address, "%s", addresses[i]);
        assert_ok(loch_membership_first(order.to, 3, &m));
        assert_code(sk_members_seal(&m, &w.sealer, &sealed), LOCH_E_INVALID);
        assert_int_equal(sealed.len, 0);
        loch_membership_fini(&m);
        assert_code(sk_members_step(store, &w.sealer, &order, &m), LOCH_E_INVALID);
    }
    struct sk_members_order order = order_of(SK_MEMBERS_FORM, 0);
    assert_ok(sk_members_step(store, &w.sealer, &order, &m)); /* nothing is in the way */
    loch_membership_fini(&m);
    loch_objstore_close(store);
    world_fini(&w);
}

static void steps_are_taken_once(void **state)
{
    struct world w;
    struct loch_objstore *store;
    struct loch_membership m = {0};
    char dir[200];

    (void)state;
    world_init(&w, 1u << 20);
    (void)snprintf(dir, sizeof dir, "%s/store", w.dir);
    assert_ok(loch_objstore_open_local(w.env, dir, &store));
    struct sk_members_order order = order_of(SK_MEMBERS_READ, 0);
    assert_ok(sk_members_step(store, &w.sealer, &order, &m));
    assert_int_equal(m.generation, 0);
    order = order_of(SK_MEMBERS_CHANGE, 1);
    assert_code(sk_members_step(store, &w.sealer, &order, &m), LOCH_E_STALE);
    order = order_of(SK_MEMBERS_FORM, 0);
    for (int i = 0; i < 2; i++) { /* the second time it is there */
        assert_ok(sk_members_step(store, &w.sealer, &order, &m));
        assert_int_equal(m.generation, 1);
        assert_int_equal(m.count, 3);
        loch_membership_fini(&m);
    }
    order = order_of(SK_MEMBERS_CHANGE, 1);
    assert_code(sk_members_step(store, &w.sealer, &order, &m), LOCH_E_EXISTS);
    order.to[0] = four;
    assert_ok(sk_members_step(store, &w.sealer, &order, &m));
    assert_int_equal(m.generation, 2);
    assert_true(loch_membership_joint(&m));
    loch_membership_fini(&m);
    assert_code(sk_members_step(store, &w.sealer, &order, &m), LOCH_E_STALE); /* twice */
    order = order_of(SK_MEMBERS_FINISH, 2);
    assert_ok(sk_members_step(store, &w.sealer, &order, &m));
    assert_int_equal(m.generation, 3);
    assert_int_equal(loch_membership_find(&m, &three[0].id), 3);
    loch_membership_fini(&m);
    order = order_of(SK_MEMBERS_ABORT, 3);
    assert_code(sk_members_step(store, &w.sealer, &order, &m), LOCH_E_INVALID);
    order = order_of(SK_MEMBERS_CHANGE, 3);
    assert_ok(sk_members_step(store, &w.sealer, &order, &m));
    loch_membership_fini(&m);
    order = order_of(SK_MEMBERS_ABORT, 4);
    assert_ok(sk_members_step(store, &w.sealer, &order, &m));
    assert_true(loch_membership_find(&m, &four.id) < 3);
    loch_membership_fini(&m);
    loch_objstore_close(store);
    world_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sealed_members_open),
        cmocka_unit_test(unreadable_members_are_not_sealed),
        cmocka_unit_test(steps_are_taken_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
