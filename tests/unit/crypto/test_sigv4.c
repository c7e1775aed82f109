/* AWS's published vectors: the examples of the signing documentation and of its test suite
 * (get-vanilla, post-vanilla, get-vanilla-query-order-key-case). */
#include "../unit.h"

#include "loch/crypto/sigv4.h"

static const char secret_text[] = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

static void assert_signature(struct loch_sigv4_request *r, const char *want)
{
    struct loch_secret secret = {0};
    struct loch_buf out = {0};

    assert_ok(loch_secret_from(&secret, secret_text, sizeof secret_text - 1));
    r->secret_key = &secret;
    r->access_key = "AKIDEXAMPLE";
    r->time = "20150830T123600Z";
    r->region = "us-east-1";
    assert_ok(loch_sigv4_authorization(r, &out));
    assert_non_null(strstr((const char *)out.data, "Credential=AKIDEXAMPLE/20150830/us-east-1/"));
    const char *at = strstr((const char *)out.data, "Signature=");
    assert_non_null(at);
    assert_string_equal(at + 10, want);
    loch_buf_fini(&out);
    loch_secret_fini(&secret);
}

static void published_vectors(void **state)
{
    const struct loch_sigv4_header iam[] = {
        {"content-type", "application/x-www-form-urlencoded; charset=utf-8"},
        {"host", "iam.amazonaws.com"},
        {"x-amz-date", "20150830T123600Z"}};
    const struct loch_sigv4_header plain[] = {{"host", "example.amazonaws.com"},
                                              {"x-amz-date", "20150830T123600Z"}};
    struct loch_sigv4_request r = {.method = "GET",
                                   .path = "/",
                                   .query = "Action=ListUsers&Version=2010-05-08",
                                   .headers = iam,
                                   .header_count = 3,
                                   .service = "iam"};

    (void)state;
    assert_signature(&r, "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7");
    r.headers = plain;
    r.header_count = 2;
    r.service = "service";
    r.query = "";
    assert_signature(&r, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
    r.query = "Param1=value1&Param2=value2";
    assert_signature(&r, "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500");
    r.query = "";
    r.method = "POST";
    assert_signature(&r, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
}

static void what_cannot_be_signed(void **state)
{
    struct loch_secret secret = {0};
    struct loch_buf out = {0};
    char time[LOCH_SIGV4_TIME_BYTES];
    struct loch_sigv4_request r = {.method = "GET",
                                   .path = "/",
                                   .query = "",
                                   .time = "yesterday",
                                   .region = "us-east-1",
                                   .service = "kms",
                                   .access_key = "A",
                                   .secret_key = &secret};

    (void)state;
    loch_sigv4_time(1440938160, time);
    assert_string_equal(time, "20150830T123600Z");
    assert_ok(loch_secret_create(&secret, 61));
    assert_code(loch_sigv4_authorization(&r, &out), LOCH_E_INVALID);
    r.time = time;
    assert_code(loch_sigv4_authorization(&r, &out), LOCH_E_INVALID);
    secret.len = 60;
    assert_ok(loch_sigv4_authorization(&r, &out));
    loch_buf_fini(&out);
    loch_secret_fini(&secret);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(published_vectors),
                                       cmocka_unit_test(what_cannot_be_signed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
