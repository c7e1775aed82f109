/* What a daemon warns about when it takes a keyring over. */
#include "../made_proc.h"

#include "keys_internal.h"

static struct loch_keyring_entry keks[2] = {
    {.level = LOCH_LEVEL_KEK, .provider = LOCH_PROVIDER_VAULT},
    {.level = LOCH_LEVEL_KEK, .state = LOCH_STATE_ACTIVE, .provider = LOCH_PROVIDER_FILE},
};

/* Once in a process, and only where a tenant's CMK is a customer's. */
static void swap_in_the_clear(void **state)
{
    const struct loch_keyring ring = {.entries = keks, .count = 2};
    struct loch_keys keys = {0};
    struct loch_keys other = {0};

    (void)state;
    put(proc, "swaps", "Filename Type\n/dev/nosuch partition 1 0 -2\n");
    keks[0].state = LOCH_STATE_RETIRED; /* it was moved from there to a file */
    assert_false(keys_notice_swap(&keys, &ring, proc, sys));
    keks[0].state = LOCH_STATE_ACTIVE;
    assert_true(keys_notice_swap(&keys, &ring, proc, sys));
    assert_false(keys_notice_swap(&keys, &ring, proc, sys));
    put(sys, "fs/cgroup/a.slice/b.service/memory.swap.max", "0\n");
    assert_false(keys_notice_swap(&other, &ring, proc, sys));
}

/* When it comes to be so, and at a start. */
static void many_versions(void **state)
{
    const struct loch_id tenant = {{7}};

    (void)state;
    assert_false(keys_notice_many(&tenant, 0, LOCH_KEYRING_MANY - 1));
    assert_true(keys_notice_many(&tenant, 0, LOCH_KEYRING_MANY));
    assert_true(keys_notice_many(&tenant, LOCH_KEYRING_MANY - 1, LOCH_KEYRING_MANY + 5));
    assert_false(keys_notice_many(&tenant, LOCH_KEYRING_MANY, LOCH_KEYRING_MANY + 5));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(swap_in_the_clear, up, down),
        cmocka_unit_test(many_versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
