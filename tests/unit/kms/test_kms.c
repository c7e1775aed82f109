/* The file provider: context binding, DENIED against UNAVAILABLE against damage, permissions,
 * place. */
#include "../unit.h"

#include "loch/crypto/random.h"
#include "loch/kms/kms.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];
static char cmk[128];
static char uri[160];

static int up(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/loch-test-kms-XXXXXX");
    assert_non_null(mkdtemp(dir));
    (void)snprintf(cmk, sizeof cmk, "%s/cmk.key", dir);
    (void)snprintf(uri, sizeof uri, "file:%s", cmk);
    assert_ok(loch_kms_file_create(cmk));
    return 0;
}

static int down(void **state)
{
    char command[128];

    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf '%s' '%s.away'", dir, dir);
    assert_int_equal(system(command), 0);
    return 0;
}

static const struct loch_kms_context context = {{{1}}, {{2}}, {{3}}, LOCH_PURPOSE_PAGE, {{4}}, 5};

static void wraps_under_its_context(void **state)
{
    struct loch_kms *kms = NULL;
    struct loch_secret key = {0};
    struct loch_secret back = {0};
    struct loch_buf blob = {0};
    struct loch_buf again = {0};

    (void)state;
    assert_ok(loch_kms_open(uri, NULL, &kms));
    assert_string_equal(loch_kms_uri(kms), uri);
    assert_int_equal(loch_kms_provider(kms), LOCH_PROVIDER_FILE);
    assert_false(loch_kms_customer_held(kms));
    assert_ok(loch_random_secret(&key, 16));
    assert_code(loch_kms_wrap(kms, &context, &key, &blob), LOCH_E_INVALID);
    loch_secret_fini(&key);
    assert_ok(loch_random_secret(&key, 32));
    assert_ok(loch_kms_wrap(kms, &context, &key, &blob));
    assert_ok(loch_kms_wrap(kms, &context, &key, &again));
    assert_memory_not_equal(blob.data + 20, again.data + 20, 80); /* salt and sealed key */
    assert_ok(loch_kms_unwrap(kms, &context, loch_buf_slice(&blob), &back));
    assert_true(loch_secret_equal(&key, &back));
    loch_secret_fini(&back);
    for (int i = 0; i < 6; i++) {
        struct loch_kms_context c = context;
        if (i == 0)
            c.cluster.bytes[0] ^= 1;
        if (i == 1)
            c.tenant.bytes[0] ^= 1;
        if (i == 2)
            c.key_id.bytes[0] ^= 1;
        if (i == 3)
            c.purpose = LOCH_PURPOSE_WAL;
        if (i == 4)
            c.scope.bytes[0] ^= 1;
        if (i == 5)
            c.version++;
        assert_code(loch_kms_unwrap(kms, &c, loch_buf_slice(&blob), &back), LOCH_E_CORRUPT);
    }
    for (size_t at = 0; at < blob.len; at++) {
        blob.data[at] ^= 1;
        assert_code(loch_kms_unwrap(kms, &context, loch_buf_slice(&blob), &back), LOCH_E_CORRUPT);
        blob.data[at] ^= 1;
    }
    blob.len--;
    assert_code(loch_kms_unwrap(kms, &context, loch_buf_slice(&blob), &back), LOCH_E_CORRUPT);
    loch_secret_fini(&key);
    loch_buf_fini(&blob);
    loch_buf_fini(&again);
    loch_kms_close(kms);
    loch_kms_close(NULL);
}

static void no_is_not_no_answer(void **state)
{
    struct loch_kms *kms = NULL;
    struct loch_secret key = {0};
    struct loch_secret back = {0};
    struct loch_buf blob = {0};
    char away[160];

    (void)state;
    assert_ok(loch_kms_open(uri, NULL, &kms));
    assert_ok(loch_random_secret(&key, 32));
    assert_ok(loch_kms_wrap(kms, &context, &key, &blob));
    const struct loch_slice b = loch_buf_slice(&blob);
    (void)snprintf(away, sizeof away, "%s.away", cmk);
    assert_int_equal(rename(cmk, away), 0);
    assert_code(loch_kms_unwrap(kms, &context, b, &back), LOCH_E_DENIED);
    assert_ok(loch_kms_file_create(cmk));
    assert_code(loch_kms_file_create(cmk), LOCH_E_EXISTS);
    assert_code(loch_kms_unwrap(kms, &context, b, &back), LOCH_E_DENIED); /* another CMK */
    assert_int_equal(rename(away, cmk), 0);
    assert_ok(loch_kms_unwrap(kms, &context, b, &back)); /* back again */
    loch_secret_fini(&back);
    (void)snprintf(away, sizeof away, "%s.away", dir);
    assert_int_equal(rename(dir, away), 0);
    assert_code(loch_kms_unwrap(kms, &context, b, &back), LOCH_E_UNAVAILABLE); /* not mounted */
    assert_int_equal(rename(away, dir), 0);
    assert_int_equal(truncate(cmk, 31), 0);
    assert_code(loch_kms_unwrap(kms, &context, b, &back), LOCH_E_UNAVAILABLE);
    loch_secret_fini(&key);
    loch_buf_fini(&blob);
    loch_kms_close(kms);
}

static void the_file_must_be_private(void **state)
{
    struct loch_kms *kms = NULL;
    const char *const inside[] = {"/nonexistent", dir, NULL};
    const char *const beside[] = {"/usr/lib", NULL};
    char link[160];

    (void)state;
    assert_code(loch_kms_open("file:relative", NULL, &kms), LOCH_E_INVALID);
    assert_code(loch_kms_open("vault:x", NULL, &kms), LOCH_E_INVALID);
    assert_code(loch_kms_open(uri, inside, &kms), LOCH_E_INVALID);
    assert_int_equal(chmod(cmk, 0640), 0);
    assert_code(loch_kms_open(uri, NULL, &kms), LOCH_E_INVALID);
    assert_int_equal(chmod(cmk, 0400), 0);
    assert_ok(loch_kms_open(uri, beside, &kms));
    loch_kms_close(kms);
    (void)snprintf(link, sizeof link, "file:%s/link", dir);
    assert_int_equal(symlink(cmk, link + 5), 0);
    assert_code(loch_kms_open(link, NULL, &kms), LOCH_E_INVALID);
    (void)snprintf(link, sizeof link, "file:%s", dir);
    assert_code(loch_kms_open(link, NULL, &kms), LOCH_E_INVALID);
    assert_code(loch_kms_open("file:/nonexistent/cmk", NULL, &kms), LOCH_E_UNAVAILABLE);
    assert_code(loch_kms_file_create("/nonexistent/cmk"), LOCH_E_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(wraps_under_its_context, up, down),
        cmocka_unit_test_setup_teardown(no_is_not_no_answer, up, down),
        cmocka_unit_test_setup_teardown(the_file_must_be_private, up, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
