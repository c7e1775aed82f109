/* A map of ids, against a plain array. */
#include "../unit.h"

#include "loch/base/id_map.h"

#define IDS   500u
#define STEPS 200000u

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static struct loch_id id_of(uint32_t n)
{
    struct loch_id id = {{0}};
    memcpy(id.bytes + (n % 2) * 12, &n, sizeof n); /* ids that differ in few bits */
    return id;
}

static void holds_what_an_array_holds(void **state)
{
    (void)state;
    struct loch_id_map map = {0};
    static char values[IDS][2];
    char *held[IDS] = {0};
    uint32_t seed = 7;
    size_t count = 0;
    for (uint32_t i = 0; i < STEPS; i++) {
        const uint32_t n = next_random(&seed) % IDS, what = next_random(&seed) % 16;
        const struct loch_id id = id_of(n);
        /* It fills up, is emptied, and fills up again. */
        if (what < (i / 5000 % 2 == 0 ? 10u : 4u)) {
            char *value = values[n] + what % 2;
            const bool another = held[n] != NULL && held[n] != value;
            count += held[n] == NULL;
            if (another)
                assert_code(loch_id_map_put(&map, &id, value), LOCH_E_EXISTS);
            else
                assert_ok(loch_id_map_put(&map, &id, value));
            assert_ptr_equal(loch_id_map_get(&map, &id), another ? held[n] : value);
            if (another)
                loch_id_map_replace(&map, &id, value);
            held[n] = value;
        } else {
            assert_ptr_equal(loch_id_map_remove(&map, &id), held[n]);
            count -= held[n] != NULL;
            held[n] = NULL;
        }
        assert_int_equal(map.count, count);
        for (uint32_t k = n; k < n + 8; k++) {
            const struct loch_id other = id_of(k % IDS);
            assert_ptr_equal(loch_id_map_get(&map, &other), held[k % IDS]);
        }
    }
    for (uint32_t n = 0; n < IDS; n++) {
        const struct loch_id id = id_of(n);
        assert_ptr_equal(loch_id_map_get(&map, &id), held[n]);
    }
    loch_id_map_fini(&map);
}

static void empty_has_nothing(void **state)
{
    (void)state;
    struct loch_id_map map = {0};
    const struct loch_id id = id_of(1), none = {{0}};
    char value = 0;
    assert_null(loch_id_map_get(&map, &id));
    assert_null(loch_id_map_remove(&map, &id));
    assert_ok(loch_id_map_put(&map, &none, &value));
    assert_ptr_equal(loch_id_map_get(&map, &none), &value);
    assert_null(loch_id_map_remove(&map, &id));
    loch_id_map_fini(&map);
    assert_null(loch_id_map_get(&map, &none));
}

static void two_owners_may_have_one_id(void **state)
{
    (void)state;
    struct loch_id_map map = {0};
    const struct loch_id a = id_of(1), b = id_of(2), inner = id_of(3), none = {{0}};
    const struct loch_id in_a = loch_id_within(&a, &inner), in_b = loch_id_within(&b, &inner);
    const struct loch_id a_itself = loch_id_within(&a, &none), own = loch_id_within(&a, &a);
    char values[3];
    assert_true(loch_id_equal(&a, &a_itself));
    assert_false(loch_id_is_none(&own));
    assert_ok(loch_id_map_put(&map, &in_a, &values[0]));
    assert_ok(loch_id_map_put(&map, &in_b, &values[1]));
    assert_ok(loch_id_map_put(&map, &a_itself, &values[2]));
    assert_ptr_equal(loch_id_map_get(&map, &in_a), &values[0]);
    assert_ptr_equal(loch_id_map_get(&map, &in_b), &values[1]);
    assert_ptr_equal(loch_id_map_get(&map, &a), &values[2]);
    /* Whoever chooses both ids can make a pair alike: it does not take the place of the other. */
    struct loch_id other = a, alike = inner;
    other.bytes[5] ^= 0x40;
    alike.bytes[6] ^= 0x40;
    const struct loch_id forged = loch_id_within(&other, &alike);
    assert_true(loch_id_equal(&forged, &in_a));
    assert_code(loch_id_map_put(&map, &forged, &values[1]), LOCH_E_EXISTS);
    assert_ptr_equal(loch_id_map_get(&map, &in_a), &values[0]);
    loch_id_map_fini(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(holds_what_an_array_holds),
                                       cmocka_unit_test(empty_has_nothing),
                                       cmocka_unit_test(two_owners_may_have_one_id)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
