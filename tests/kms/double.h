/* Orders to a double: POST /_control. */
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

#endif
