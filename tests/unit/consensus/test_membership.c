/* Holds: one test for each function on configurations. */
#include "../unit.h"
#include "loch/consensus/membership.h"

static struct loch_member member(uint8_t id)
{
    return (struct loch_member){.id = {{id}}, .node = {{(uint8_t)(id + 100)}}};
}

static struct loch_membership stable(uint8_t first, uint32_t count)
{
    struct loch_member members[LOCH_MEMBERS_MAX];
    struct loch_membership m = {0};

    for (uint32_t i = 0; i < count; i++)
        members[i] = member((uint8_t)(first + i));
    assert_ok(loch_membership_first(members, count, &m));
    return m;
}

static void a_change_goes_over_a_joint_configuration(void **state)
{
    (void)state;
    struct loch_membership old = stable(1, 3), joint, next, back;
    struct loch_member to[] = {member(1), member(2), member(4)};
    const struct loch_id four = {{4}}, nine = {{9}};

    assert_int_equal(old.generation, 1);
    assert_false(loch_membership_joint(&old));
    assert_ok(loch_membership_begin(&old, to, 3, &joint));
    assert_int_equal(joint.generation, 2);
    assert_int_equal(joint.count, 4);
    assert_true(loch_membership_joint(&joint));
    assert_int_equal(loch_membership_find(&joint, &four), 3);
    assert_int_equal(loch_membership_find(&joint, &nine), 4);
    assert_int_equal(joint.members[2].in, LOCH_MEMBER_OLD);
    assert_int_equal(joint.members[3].in, LOCH_MEMBER_NEW);
    assert_ok(loch_membership_end(&joint, false, &next));
    assert_int_equal(next.generation, 3);
    assert_int_equal(next.count, 3);
    assert_int_equal(loch_membership_find(&next, &four), 2);
    assert_ok(loch_membership_end(&joint, true, &back));
    assert_int_equal(loch_membership_find(&back, &four), back.count);
    assert_false(loch_membership_equal(&next, &back));
    assert_true(loch_membership_equal(&next, &next));
    assert_code(loch_membership_begin(&joint, to, 3, &next), LOCH_E_INVALID);
    assert_code(loch_membership_end(&old, false, &next), LOCH_E_INVALID);
    loch_membership_fini(&old);
    loch_membership_fini(&joint);
    loch_membership_fini(&next);
    loch_membership_fini(&back);
}

static void impossible_sets_are_refused(void **state)
{
    (void)state;
    struct loch_membership m, out;
    struct loch_member many[LOCH_MEMBERS_MAX];

    for (uint8_t i = 0; i < LOCH_MEMBERS_MAX; i++)
        many[i] = member((uint8_t)(20 + i));
    assert_code(loch_membership_first(many, 0, &out), LOCH_E_INVALID);
    many[1] = many[0];
    assert_code(loch_membership_first(many, 3, &out), LOCH_E_INVALID);
    many[1] = member(21);
    m = stable(1, 3);
    assert_code(loch_membership_begin(&m, many, 7, &out), LOCH_E_INVALID);
    assert_code(loch_membership_begin(&m, m.members, 3, &out), LOCH_E_EXISTS);
    loch_membership_fini(&m);
}

static void a_quorum_is_a_majority_of_each_set(void **state)
{
    (void)state;
    struct loch_membership old = stable(1, 3), joint;
    struct loch_member to[] = {member(1), member(4), member(5)};
    const bool two[] = {true, true, false, false, false};
    const bool old_only[] = {false, true, true, true, false};
    const bool each[] = {true, true, false, true, false};

    assert_true(loch_membership_quorum(&old, two));
    assert_false(loch_membership_quorum(&old, (const bool[3]){true}));
    assert_ok(loch_membership_begin(&old, to, 3, &joint));
    assert_false(loch_membership_quorum(&joint, two));
    assert_false(loch_membership_quorum(&joint, old_only));
    assert_true(loch_membership_quorum(&joint, each));
    assert_false(loch_membership_quorum(&(struct loch_membership){0}, each));
    loch_membership_fini(&old);
    loch_membership_fini(&joint);
}

static void a_change_ends_when_the_new_set_has_caught_up(void **state)
{
    (void)state;
    struct loch_membership old = stable(1, 1), joint;
    struct loch_member to[] = {member(2)};
    struct loch_member_state s[] = {{true, 2, 7, 5, 1000}, {true, 2, 7, 5, 1000}};
    const char *why;

    assert_ok(loch_membership_begin(&old, to, 1, &joint));
    assert_true(loch_membership_may_finish(&joint, s, s, &why));
    s[0].generation = 1;
    assert_false(loch_membership_may_finish(&joint, s, s, &why));
    s[0].generation = 2;
    s[1].known = false;
    assert_false(loch_membership_may_finish(&joint, s, s, &why));
    s[1].known = true;
    s[1].flush_lsn = 992;
    assert_false(loch_membership_may_finish(&joint, s, s, &why));
    s[1] = (struct loch_member_state){true, 2, 7, 4, 2000}; /* longer, but of an older term */
    assert_false(loch_membership_may_finish(&joint, s, s, &why));
    s[1] = (struct loch_member_state){true, 2, 6, 5, 1000}; /* promised less */
    assert_false(loch_membership_may_finish(&joint, s, s, &why));
    assert_non_null(why);
    loch_membership_fini(&old);
    loch_membership_fini(&joint);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_change_goes_over_a_joint_configuration),
        cmocka_unit_test(impossible_sets_are_refused),
        cmocka_unit_test(a_quorum_is_a_majority_of_each_set),
        cmocka_unit_test(a_change_ends_when_the_new_set_has_caught_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
