/* The file provider's own rules (permissions, place) and the pins of tenants; what every provider
 * keeps is in contract.h. */
#include "../unit.h"

#include "loch/crypto/random.h"
#include "loch/io/env.h"
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
    assert_code(loch_kms_open("nosuch:x", NULL, &kms), LOCH_E_INVALID);
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

static const struct loch_id mine = {{7}};
static const struct loch_id theirs = {{8}};

/* A key wrapped for `tenant` through `kms` opens at the CMK `uri` alone. */
static void assert_wraps_at(struct loch_kms *kms, const struct loch_id *tenant, const char *at)
{
    struct loch_kms_context c = context;
    struct loch_kms *direct = NULL;
    struct loch_secret key = {0};
    struct loch_secret back = {0};
    struct loch_buf blob = {0};

    c.tenant = *tenant;
    assert_ok(loch_random_secret(&key, 32));
    assert_ok(loch_kms_wrap(kms, &c, &key, &blob));
    assert_ok(loch_kms_open(at, NULL, &direct));
    assert_ok(loch_kms_unwrap(direct, &c, loch_buf_slice(&blob), &back));
    loch_secret_fini(&back);
    assert_ok(loch_kms_unwrap(kms, &c, loch_buf_slice(&blob), &back));
    assert_true(loch_secret_equal(&key, &back));
    loch_secret_fini(&back);
    loch_secret_fini(&key);
    loch_buf_fini(&blob);
    loch_kms_close(direct);
}

static void count_pin(void *arg, const struct loch_id *tenant, const struct loch_kms *cmk)
{
    assert_true(loch_id_equal(tenant, &mine));
    assert_false(loch_kms_customer_held(cmk));
    ++*(int *)arg;
}

static int count_pins(struct loch_kms *kms)
{
    int count = 0;

    loch_kms_each_pin(kms, count_pin, &count);
    return count;
}

static void a_pin_chooses_the_cmk(void **state)
{
    struct loch_env *env = NULL;
    struct loch_kms *kms = NULL;
    char second[160], third[160], pins[160];
    const char *const dirs[] = {dir, NULL};

    (void)state;
    (void)snprintf(second, sizeof second, "file:%s/second.key", dir);
    (void)snprintf(third, sizeof third, "file:%s/third.key", dir);
    (void)snprintf(pins, sizeof pins, "%s/kms.pins", dir);
    assert_ok(loch_kms_file_create(second + 5));
    assert_ok(loch_kms_file_create(third + 5));
    assert_ok(loch_env_real_create(&env));
    assert_ok(loch_kms_open(uri, NULL, &kms));
    assert_ok(loch_kms_pins_open(kms, env, pins));
    assert_ptr_equal(loch_kms_for(kms, &mine, NULL), kms);
    assert_ok(loch_kms_pin(kms, &mine, second));
    assert_ok(loch_kms_pin(kms, &mine, second)); /* the same again */
    assert_code(loch_kms_pin(kms, &mine, "nosuch:x"), LOCH_E_INVALID);
    assert_code(loch_kms_pin(kms, &mine, "file:/a b"), LOCH_E_INVALID);
    assert_wraps_at(kms, &mine, second);
    assert_wraps_at(kms, &theirs, uri);
    loch_kms_close(kms);

    /* After a restart; then a move: the later pin wraps, both can be asked for. */
    assert_ok(loch_kms_open(uri, NULL, &kms));
    assert_ok(loch_kms_pins_open(kms, env, pins));
    assert_wraps_at(kms, &mine, second);
    assert_int_equal(count_pins(kms), 1);
    assert_ok(loch_kms_pin(kms, &mine, third));
    assert_int_equal(count_pins(kms), 2);
    assert_wraps_at(kms, &mine, third);
    assert_string_equal(loch_kms_uri(loch_kms_for(kms, &mine, second)), second);
    assert_string_equal(loch_kms_uri(loch_kms_for(kms, &mine, uri)), third); /* not pinned */
    assert_ok(loch_kms_unpin(kms, &mine, second));
    assert_string_equal(loch_kms_uri(loch_kms_for(kms, &mine, second)), third);
    assert_ok(loch_kms_unpin(kms, &mine, NULL));
    assert_ok(loch_kms_unpin(kms, &mine, NULL));
    assert_ptr_equal(loch_kms_for(kms, &mine, second), kms);
    loch_kms_close(kms);

    /* A pin obeys the rule of the place as the daemon's own CMK does. */
    assert_ok(loch_kms_file_create("/tmp/loch-test-kms-elsewhere.key"));
    assert_ok(loch_kms_open("file:/tmp/loch-test-kms-elsewhere.key", dirs, &kms));
    assert_code(loch_kms_pin(kms, &mine, second), LOCH_E_INVALID);
    loch_kms_close(kms);
    assert_int_equal(unlink("/tmp/loch-test-kms-elsewhere.key"), 0);
    loch_env_real_destroy(env);
}

static void bad_pins_name_their_line(void **state)
{
    static const char *const bad[] = {"zz file:/x", "07000000000000000000000000000000",
                                      "00000000000000000000000000000000 file:/x",
                                      "07000000000000000000000000000000 nosuch:x"};
    struct loch_env *env = NULL;
    char pins[160], text[200];

    (void)state;
    (void)snprintf(pins, sizeof pins, "%s/kms.pins", dir);
    assert_ok(loch_env_real_create(&env));
    for (size_t i = 0; i <= sizeof bad / sizeof *bad; i++) {
        struct loch_kms *kms = NULL;
        const bool binary = i == sizeof bad / sizeof *bad;
        (void)snprintf(text, sizeof text, "# comment\n\n%s\n", binary ? "" : bad[i]);
        assert_ok(
            loch_env_replace_file(env, pins, loch_slice_of(text, strlen(text) + (binary ? 1 : 0))));
        assert_ok(loch_kms_open(uri, NULL, &kms));
        assert_code(loch_kms_pins_open(kms, env, pins), LOCH_E_INVALID);
        if (!binary)
            assert_non_null(strstr(loch_error_text(), "kms.pins:3: "));
        loch_kms_close(kms);
    }
    loch_env_real_destroy(env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_is_not_no_answer, up, down),
        cmocka_unit_test_setup_teardown(the_file_must_be_private, up, down),
        cmocka_unit_test_setup_teardown(a_pin_chooses_the_cmk, up, down),
        cmocka_unit_test_setup_teardown(bad_pins_name_their_line, up, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
