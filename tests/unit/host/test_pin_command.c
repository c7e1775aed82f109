/* A CMK is pinned only after a round trip through it; the console commands are in tests/e2e/kms.sh.
 */
#include "../unit.h"

#include "loch/host/pin_command.h"
#include "loch/kms/kms.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void only_a_cmk_that_works(void **state)
{
    static const struct loch_id tenant = {{7}};
    char dir[] = "/tmp/loch-test-pin-XXXXXX";
    char uri[96], good[96], gone[96];
    struct loch_kms *kms = NULL;

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(uri, sizeof uri, "file:%s/a", dir);
    (void)snprintf(good, sizeof good, "file:%s/b", dir);
    (void)snprintf(gone, sizeof gone, "file:%s/c", dir);
    assert_ok(loch_kms_file_create(uri + 5));
    assert_ok(loch_kms_file_create(good + 5));
    assert_ok(loch_kms_open(uri, NULL, &kms));
    assert_code(loch_pin_checked(kms, &tenant, gone), LOCH_E_DENIED);
    assert_ptr_equal(loch_kms_for(kms, &tenant, NULL), kms);
    assert_code(loch_pin_checked(kms, &tenant, "nosuch:x"), LOCH_E_INVALID);
    assert_ptr_equal(loch_kms_for(kms, &tenant, NULL), kms);
    assert_ok(loch_pin_checked(kms, &tenant, good));
    assert_string_equal(loch_kms_uri(loch_kms_for(kms, &tenant, NULL)), good);
    /* One that was pinned before stays, whatever the check says now. */
    assert_int_equal(unlink(good + 5), 0);
    assert_code(loch_pin_checked(kms, &tenant, good), LOCH_E_DENIED);
    assert_string_equal(loch_kms_uri(loch_kms_for(kms, &tenant, NULL)), good);
    loch_kms_close(kms);
    assert_int_equal(unlink(uri + 5), 0);
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(only_a_cmk_that_works)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
