/* Orders to a double: POST /_control; and what providers tested against one have in common. */
#ifndef LOCH_TESTS_KMS_DOUBLE_H
#define LOCH_TESTS_KMS_DOUBLE_H

#include "../unit/kms/contract.h"

#include <curl/curl.h>
#include <jansson.h>

static size_t double_take(char *bytes, size_t size, size_t count, void *arg)
{
    struct loch_buf *out = arg;

    return loch_is_ok(loch_buf_append(out, bytes, size * count)) ? size * count : 0;
}

/* The answer; the caller releases it. */
static json_t *double_order(const char *base, const char *order)
{
    CURL *curl = curl_easy_init();
    struct loch_buf out = {0};
    char url[128];

    (void)snprintf(url, sizeof url, "%s/_control", base);
    assert_non_null(curl);
    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, order);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, double_take);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, &out);
    assert_int_equal(curl_easy_perform(curl), CURLE_OK);
    curl_easy_cleanup(curl);
    json_t *json = json_loadb((const char *)out.data, out.len, 0, NULL);
    assert_non_null(json);
    loch_buf_fini(&out);
    return json;
}

static long double_count(const json_t *json, const char *name)
{
    return (long)json_integer_value(json_object_get(json_object_get(json, "counts"), name));
}

/* The including test's: gives an order, and notes what it wants of the answer. */
static void control(const char *order);

static void double_silence(bool on)
{
    control(on ? "{\"silent\": true}" : "{\"silent\": false}");
}

static void double_wrong_plaintext(bool on)
{
    control(on ? "{\"wrong_plaintext\": true}" : "{\"wrong_plaintext\": false}");
}

static void double_slow(unsigned ms)
{
    char order[64];

    (void)snprintf(order, sizeof order, "{\"latency_ms\": %u}", ms);
    control(order);
}

static void double_calm(void)
{
    control("{\"silent\": false, \"latency_ms\": 0}");
}

/* For a struct contract_provider whose other hooks are the test's own. */
#define DOUBLE_HOOKS                                                                               \
    .customer_held = true, .silence = double_silence, .wrong_plaintext = double_wrong_plaintext,   \
    .slow = double_slow

struct double_no {
    const char *on, *off;
    enum loch_code code;
};

/* Each order makes unwrapping fail with its code, and taken back it works again. */
static void double_each_no(const char *uri, const struct double_no *cases, size_t count)
{
    struct wrapped w;

    wrapped_up(&w, uri);
    for (size_t i = 0; i < count; i++) {
        control(cases[i].on);
        assert_code(unwrap(&w, &contract_context), cases[i].code);
        control(cases[i].off);
        assert_ok(unwrap(&w, &contract_context));
    }
    wrapped_down(&w);
}

#endif
