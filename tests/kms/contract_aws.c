/* The contract of a KMS provider, kept by "aws-kms" against the double, and what only AWS does:
 * throttling, clock skew, delayed disable, rotation, roles. Usage: contract_aws PORT */
#include "double.h"

#include <stdlib.h>
#include <unistd.h>

static char base[64], uri[512], other_uri[512], role_uri[512];
static long calls; /* of Decrypt and Encrypt, and of the metadata, as the double counts them */
static long metadata_calls;
static long unanswered;      /* requests that the metadata left unanswered */
static _Atomic long later_s; /* by so much our monotonic clock is ahead of the machine's */

int __real_clock_gettime(clockid_t id, struct timespec *out);
int __wrap_clock_gettime(clockid_t id, struct timespec *out);

int __wrap_clock_gettime(clockid_t id, struct timespec *out)
{
    const int rc = __real_clock_gettime(id, out);

    if (id == CLOCK_MONOTONIC)
        out->tv_sec += later_s;
    return rc;
}

static void control(const char *order)
{
    json_t *json = double_order(base, order);

    const char *arn = json_string_value(json_object_get(json, "arn"));
    const char *other = json_string_value(json_object_get(json, "other"));
    (void)snprintf(uri, sizeof uri, "aws-kms:%s?endpoint=%s&credentials=environment", arn, base);
    (void)snprintf(other_uri, sizeof other_uri, "aws-kms:%s?endpoint=%s", other, base);
    (void)snprintf(role_uri, sizeof role_uri, "aws-kms:%s?endpoint=%s&credentials=metadata", arn,
                   base);
    calls = double_count(json, "Decrypt") + double_count(json, "Encrypt");
    metadata_calls = double_count(json, "metadata");
    unanswered = double_count(json, "unanswered");
    json_decref(json);
}

static int up(void **state)
{
    (void)state;
    assert_int_equal(setenv("AWS_ACCESS_KEY_ID", "AKIDLOCHTEST", 1), 0);
    assert_int_equal(setenv("AWS_SECRET_ACCESS_KEY", "loch/test+secret", 1), 0);
    control("{\"reset\": true}");
    provider.uri = uri;
    provider.other_uri = other_uri;
    return 0;
}

static int down(void **state)
{
    (void)state;
    double_calm();
    return 0;
}

static void disable(void)
{
    control("{\"key\": \"Disabled\"}");
}

static void enable(void)
{
    control("{\"key\": \"Enabled\"}");
}

static void destroy(void)
{
    control("{\"delete\": true}");
}

static void expire_credentials(bool on)
{
    control(on ? "{\"expired\": true}" : "{\"expired\": false}");
}

struct contract_provider provider = {.id = LOCH_PROVIDER_AWS_KMS,
                                     DOUBLE_HOOKS,
                                     .up = up,
                                     .down = down,
                                     .disable = disable,
                                     .enable = enable,
                                     .destroy = destroy,
                                     .expire_credentials = expire_credentials};

static void each_kind_of_no(void **state)
{
    static const struct double_no cases[] = {
        {"{\"key\": \"PendingDeletion\"}", "{\"key\": \"Enabled\"}", LOCH_E_DENIED},
        {"{\"denied\": true}", "{\"denied\": false}", LOCH_E_DENIED},
        {"{\"errors\": 99}", "{\"errors\": 0}", LOCH_E_UNAVAILABLE},
        {"{\"throttles\": 99}", "{\"throttles\": 0}", LOCH_E_UNAVAILABLE},
        {"{\"garbage\": true}", "{\"garbage\": false}", LOCH_E_UNAVAILABLE},
        {"{\"wrong_key\": true}", "{\"wrong_key\": false}", LOCH_E_CORRUPT},
    };

    (void)state;
    double_each_no(uri, cases, sizeof cases / sizeof *cases);
}

static void what_passes_is_tried_again(void **state)
{
    struct wrapped w;

    (void)state;
    wrapped_up(&w, uri);
    control("{\"errors\": 1, \"throttles\": 1}");
    const long before = calls;
    assert_ok(unwrap(&w, &contract_context));
    control("{}");
    assert_int_equal(calls, before + 3);
    control("{\"key\": \"Disabled\"}"); /* a verdict is not asked for twice */
    assert_code(unwrap(&w, &contract_context), LOCH_E_DENIED);
    control("{}");
    assert_int_equal(calls, before + 4);
    wrapped_down(&w);
}

static void a_wrong_clock_is_corrected(void **state)
{
    static const int skews[] = {3600, -3600, 86400};
    struct wrapped w;
    char order[64];

    (void)state;
    wrapped_up(&w, uri);
    for (size_t i = 0; i < sizeof skews / sizeof *skews; i++) {
        (void)snprintf(order, sizeof order, "{\"skew_s\": %d}", skews[i]);
        control(order);
        const long before = calls;
        assert_ok(unwrap(&w, &contract_context));
        assert_ok(unwrap(&w, &contract_context));
        control("{}");
        assert_int_equal(calls, before + 3); /* one refusal, then it is known */
    }
    wrapped_down(&w);
}

static void a_wrong_secret_is_no_verdict_on_the_key(void **state)
{
    struct loch_kms *kms = NULL;

    (void)state;
    assert_int_equal(setenv("AWS_SECRET_ACCESS_KEY", "wrong", 1), 0);
    assert_ok(loch_kms_open(uri, NULL, &kms));
    assert_code(loch_kms_check(kms, NULL, NULL), LOCH_E_UNAVAILABLE);
    assert_non_null(strstr(loch_error_text(), "InvalidSignatureException"));
    assert_null(strstr(loch_error_text(), "wrong"));
    loch_kms_close(kms);
    assert_int_equal(unsetenv("AWS_SECRET_ACCESS_KEY"), 0);
    assert_ok(loch_kms_open(uri, NULL, &kms));
    assert_code(loch_kms_check(kms, NULL, NULL), LOCH_E_UNAVAILABLE);
    assert_int_equal(setenv("AWS_SECRET_ACCESS_KEY", "loch/test+secret", 1), 0);
    assert_ok(loch_kms_check(kms, NULL, NULL));
    loch_kms_close(kms);
}

static void a_disabled_key_may_live_on_for_a_while(void **state)
{
    struct wrapped w;

    (void)state;
    wrapped_up(&w, uri);
    control("{\"delayed_disable_ms\": 3600000}");
    control("{\"key\": \"Disabled\"}");
    assert_ok(unwrap(&w, &contract_context));
    assert_ok(wrap_again(&w));
    control("{\"delayed_disable_ms\": 0}"); /* the while is over */
    assert_code(unwrap(&w, &contract_context), LOCH_E_DENIED);
    wrapped_down(&w);
}

static void rotated_keys_open_old_blobs(void **state)
{
    struct wrapped w;

    (void)state;
    wrapped_up(&w, uri);
    for (int i = 0; i < 3; i++) {
        control("{\"rotate\": true}");
        assert_ok(unwrap(&w, &contract_context));
        assert_ok(wrap_again(&w));
    }
    wrapped_down(&w);
}

static void roles_are_renewed(void **state)
{
    struct wrapped w;

    (void)state;
    assert_int_equal(setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", base, 1), 0);
    wrapped_up(&w, role_uri);
    for (int i = 0; i < 5; i++)
        assert_ok(unwrap(&w, &contract_context));
    control("{}");
    assert_int_equal(metadata_calls, 2); /* the role and its credentials, once */
    control("{\"forget_roles\": true}"); /* as if they had been revoked */
    assert_ok(unwrap(&w, &contract_context));
    control("{}");
    assert_int_equal(metadata_calls, 4);
    wrapped_down(&w);
    assert_int_equal(setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1", 1), 0);
    assert_ok(loch_kms_open(role_uri, NULL, &w.kms));
    assert_code(loch_kms_check(w.kms, NULL, NULL), LOCH_E_UNAVAILABLE);
    loch_kms_close(w.kms);
    assert_int_equal(unsetenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"), 0);
}

/* The metadata fall silent when it is time to renew the role's credentials: the old ones go on
 * until they expire, and more are asked for now and then. */
static void a_role_is_good_until_it_expires(void **state)
{
    struct wrapped w;

    (void)state;
    assert_int_equal(setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", base, 1), 0);
    control("{\"role_expires_s\": 200}");
    wrapped_up(&w, role_uri);
    control("{\"metadata_silent\": true}");
    later_s += 100;
    assert_ok(unwrap(&w, &contract_context));
    assert_ok(unwrap(&w, &contract_context));
    control("{}");
    assert_int_equal(unanswered, 1);
    later_s += 10;
    assert_ok(unwrap(&w, &contract_context));
    control("{}");
    assert_int_equal(unanswered, 2);
    later_s += 100;
    assert_code(unwrap(&w, &contract_context), LOCH_E_UNAVAILABLE);
    control("{\"metadata_silent\": false}");
    assert_ok(unwrap(&w, &contract_context));
    wrapped_down(&w);
    later_s = 0;
    assert_int_equal(unsetenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"), 0);
}

static void the_shared_file(void **state)
{
    char path[] = "/tmp/loch-test-aws-XXXXXX";
    char text[sizeof uri + 40];
    struct loch_kms *kms = NULL;

    (void)state;
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_true(dprintf(fd, "[default]\naws_access_key_id = nobody\naws_secret_access_key = no\n"
                            "[loch]\naws_access_key_id = AKIDLOCHTEST\n"
                            "aws_secret_access_key = loch/test+secret\n") > 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(setenv("AWS_SHARED_CREDENTIALS_FILE", path, 1), 0);
    assert_int_equal(unsetenv("AWS_ACCESS_KEY_ID"), 0);
    (void)snprintf(text, sizeof text, "%s&profile=loch", other_uri); /* no kind: the file is next */
    assert_ok(loch_kms_open(text, NULL, &kms));
    assert_ok(loch_kms_check(kms, NULL, NULL));
    loch_kms_close(kms);
    assert_ok(loch_kms_open(other_uri, NULL, &kms)); /* profile default: unknown to the service */
    assert_code(loch_kms_check(kms, NULL, NULL), LOCH_E_UNAVAILABLE);
    assert_non_null(strstr(loch_error_text(), "UnrecognizedClientException"));
    loch_kms_close(kms);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(unsetenv("AWS_SHARED_CREDENTIALS_FILE"), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define TEST(fn_) cmocka_unit_test_setup_teardown(fn_, up, down)
        TEST(each_kind_of_no),
        TEST(what_passes_is_tried_again),
        TEST(a_wrong_clock_is_corrected),
        TEST(a_wrong_secret_is_no_verdict_on_the_key),
        TEST(a_disabled_key_may_live_on_for_a_while),
        TEST(rotated_keys_open_old_blobs),
        TEST(roles_are_renewed),
        TEST(a_role_is_good_until_it_expires),
        TEST(the_shared_file),
#undef TEST
    };
    if (argc != 2)
        return 2;
    (void)snprintf(base, sizeof base, "http://127.0.0.1:%s", argv[1]);
    const int failed = contract_run();
    return failed + cmocka_run_group_tests(tests, NULL, NULL) == 0 ? 0 : 1;
}
