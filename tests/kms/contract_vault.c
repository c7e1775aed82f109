/* The contract of a KMS provider, kept by "vault" against the double, and what only Vault does:
 * untyped errors, tokens that end and are renewed, namespaces. Usage: contract_vault PORT */
#include "double.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char base[64], dir[64], token_file[128], uri[512], other_uri[512];
static long calls, renewals, oldest_ms; /* the oldest token that was renewed */

static void control(const char *order)
{
    json_t *json = double_order(base, order);

    calls = double_count(json, "encrypt") + double_count(json, "decrypt");
    renewals = double_count(json, "renew");
    oldest_ms = double_count(json, "oldest_ms");
    json_decref(json);
}

static void put_token(const char *token)
{
    FILE *f = fopen(token_file, "we");

    assert_non_null(f);
    assert_true(fprintf(f, "%s\n", token) > 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(token_file, 0600), 0);
}

static int up(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/loch-test-vault-XXXXXX");
    assert_non_null(mkdtemp(dir));
    (void)snprintf(token_file, sizeof token_file, "%s/token", dir);
    put_token("hvs.forever");
    (void)snprintf(uri, sizeof uri, "vault:%s/transit/cmk-1?token-file=%s", base, token_file);
    (void)snprintf(other_uri, sizeof other_uri, "vault:%s/transit/cmk-2?token-file=%s", base,
                   token_file);
    control("{\"reset\": true}");
    provider.uri = uri;
    provider.other_uri = other_uri;
    return 0;
}

static int down(void **state)
{
    (void)state;
    double_calm();
    (void)unlink(token_file);
    assert_int_equal(rmdir(dir), 0);
    return 0;
}

static void disable(void)
{
    control("{\"policy_denies\": true}");
}

static void enable(void)
{
    control("{\"policy_denies\": false}");
}

static void destroy(void)
{
    control("{\"delete\": \"cmk-1\"}");
}

static void expire_credentials(bool on)
{
    control(on ? "{\"end_token\": \"hvs.forever\"}" : "{\"begin_token\": \"hvs.forever\"}");
}

struct contract_provider provider = {.id = LOCH_PROVIDER_VAULT,
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
        {"{\"sealed\": true}", "{\"sealed\": false}", LOCH_E_UNAVAILABLE},
        {"{\"errors\": 99}", "{\"errors\": 0}", LOCH_E_UNAVAILABLE},
        {"{\"throttles\": 99}", "{\"throttles\": 0}", LOCH_E_UNAVAILABLE},
        {"{\"garbage\": true}", "{\"garbage\": false}", LOCH_E_UNAVAILABLE},
        {"{\"unknown_error\": true}", "{\"unknown_error\": false}", LOCH_E_UNAVAILABLE},
        {"{\"unmounted\": true}", "{\"unmounted\": false}", LOCH_E_DENIED},
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
    control("{\"policy_denies\": true}"); /* a verdict is not asked for twice */
    assert_int_equal(calls, before + 1);
    assert_code(unwrap(&w, &contract_context), LOCH_E_DENIED);
    control("{}");
    assert_int_equal(calls, before + 2);
    wrapped_down(&w);
}

static void rotated_keys_open_old_blobs_until_forbidden(void **state)
{
    struct wrapped w;

    (void)state;
    wrapped_up(&w, uri);
    control("{\"rotate\": true}");
    assert_ok(unwrap(&w, &contract_context));
    assert_ok(wrap_again(&w));
    control("{\"least\": 2}"); /* min_decryption_version */
    assert_code(unwrap(&w, &contract_context), LOCH_E_DENIED);
    control("{\"least\": 1}");
    assert_ok(unwrap(&w, &contract_context));
    wrapped_down(&w);
}

static long now_ms(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* A token of 2 s, which the double leaves alone for 3 s more. It is renewed at half its time, that
 * is when its user comes next after that. */
static void a_token_is_renewed(void **state)
{
    const struct timespec slice = {0, 100000000};
    struct wrapped w;
    long longest_ms = 0; /* between two uses */

    (void)state;
    control("{\"token\": \"hvs.short\", \"period\": 2}");
    put_token("hvs.short");
    const long begun = now_ms();
    long last = begun;
    wrapped_up(&w, uri);
    while (renewals < 3 || now_ms() - begun < 5500) { /* not renewed it would have ended */
        (void)nanosleep(&slice, NULL);
        assert_ok(unwrap(&w, &contract_context));
        control("{}");
        longest_ms = now_ms() - last > longest_ms ? now_ms() - last : longest_ms;
        last = now_ms();
        assert_true(last - begun < 120000);
    }
    assert_true(oldest_ms < 2000 + longest_ms);
    control("{\"end_token\": \"hvs.short\"}");
    assert_code(unwrap(&w, &contract_context), LOCH_E_UNAVAILABLE);
    put_token("hvs.forever"); /* as an agent beside us would */
    assert_ok(unwrap(&w, &contract_context));
    assert_int_equal(chmod(token_file, 0640), 0);
    assert_code(unwrap(&w, &contract_context), LOCH_E_UNAVAILABLE);
    wrapped_down(&w);
}

static void namespaces_and_tokens_of_the_environment(void **state)
{
    char text[512];
    struct loch_kms *kms = NULL;

    (void)state;
    (void)snprintf(text, sizeof text,
                   "vault:%s/transit/cmk-1?token-env=LOCH_TEST_VAULT&namespace=team%%2Floch", base);
    assert_ok(loch_kms_open(text, NULL, &kms));
    assert_int_equal(unsetenv("LOCH_TEST_VAULT"), 0);
    assert_code(loch_kms_check(kms, NULL, NULL), LOCH_E_UNAVAILABLE);
    assert_int_equal(setenv("LOCH_TEST_VAULT", "hvs.team", 1), 0);
    assert_ok(loch_kms_check(kms, NULL, NULL));
    loch_kms_close(kms);
    put_token("hvs.team");
    assert_ok(loch_kms_open(uri, NULL, &kms)); /* without its namespace: a policy's no */
    assert_code(loch_kms_check(kms, NULL, NULL), LOCH_E_DENIED);
    assert_null(strstr(loch_error_text(), "hvs."));
    loch_kms_close(kms);
}

static void bad_uris_are_refused(void **state)
{
    static const char *const bad[] = {
        "vault:",
        "vault:https://h:8200/transit/k",
        "vault:https://h:8200/k?token-file=/t",
        "vault:https://h:8200/transit/?token-file=/t",
        "vault:https://h:8200//k?token-file=/t",
        "vault:https://h:8200/a/../k?token-file=/t",
        "vault:https://h:8200/transit/k%20?token-file=/t",
        "vault:http://elsewhere:8200/transit/k?token-file=/t",
        "vault:https://h:8200/transit/k?token-file=t",
        "vault:https://h:8200/transit/k?token-file=/t&token-env=T",
        "vault:https://h:8200/transit/k?token-file=/t&derived=maybe",
        "vault:https://h:8200/transit/k?token-file=/t&namespace=a%0d%0ab",
    };
    struct loch_kms *kms = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_code(loch_kms_open(bad[i], NULL, &kms), LOCH_E_INVALID);
    assert_ok(
        loch_kms_open("vault:https://h:8200/a/transit/k?token-file=/t&derived=true", NULL, &kms));
    loch_kms_close(kms);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define TEST(fn_) cmocka_unit_test_setup_teardown(fn_, up, down)
        TEST(each_kind_of_no),
        TEST(what_passes_is_tried_again),
        TEST(rotated_keys_open_old_blobs_until_forbidden),
        TEST(a_token_is_renewed),
        TEST(namespaces_and_tokens_of_the_environment),
        TEST(bad_uris_are_refused),
#undef TEST
    };
    if (argc != 2)
        return 2;
    (void)snprintf(base, sizeof base, "http://127.0.0.1:%s", argv[1]);
    const int failed = contract_run();
    return failed + cmocka_run_group_tests(tests, NULL, NULL) == 0 ? 0 : 1;
}
