/* Holds: AWS Signature Version 4 ("Signature Version 4 signing process" in AWS's documentation).
 *
 * canonical request = method, path, query, headers, names of the headers, SHA-256 of the payload;
 * string to sign = algorithm, time, scope, SHA-256 of the canonical request;
 * key = HMAC chain over date, region, service, "aws4_request" from "AWS4" + secret.
 */
#include "loch/crypto/sigv4.h"

#include "loch/base/types.h"
#include "loch/crypto/hkdf.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define HASH_TEXT_BYTES  65u
#define SECRET_MAX_BYTES 60u /* "AWS4" before it must fit a secret */

void loch_sigv4_time(int64_t seconds, char out[static LOCH_SIGV4_TIME_BYTES])
{
    const time_t t = (time_t)seconds;
    struct tm tm;

    (void)gmtime_r(&t, &tm);
    if (strftime(out, LOCH_SIGV4_TIME_BYTES, "%Y%m%dT%H%M%SZ", &tm) == 0)
        out[0] = '\0';
}

static loch_status add(struct loch_buf *buf, const char *text)
{
    return loch_buf_append(buf, text, strlen(text));
}

static loch_status hash_text(struct loch_slice bytes, char out[static HASH_TEXT_BYTES])
{
    uint8_t hash[LOCH_SHA256_BYTES];

    LOCH_TRY(loch_sha256(&bytes, 1, hash));
    loch_hex_format(hash, sizeof hash, out);
    return LOCH_OK;
}

static loch_status add_header_names(const struct loch_sigv4_request *r, struct loch_buf *out)
{
    for (size_t i = 0; i < r->header_count; i++) {
        if (i > 0)
            LOCH_TRY(add(out, ";"));
        LOCH_TRY(add(out, r->headers[i].name));
    }
    return LOCH_OK;
}

static loch_status canonical_request(const struct loch_sigv4_request *r, struct loch_buf *out)
{
    char payload[HASH_TEXT_BYTES];
    const char *const head[] = {r->method, "\n", r->path, "\n", r->query, "\n"};

    for (size_t i = 0; i < sizeof head / sizeof *head; i++)
        LOCH_TRY(add(out, head[i]));
    for (size_t i = 0; i < r->header_count; i++) {
        const char *const line[] = {r->headers[i].name, ":", r->headers[i].value, "\n"};
        for (size_t k = 0; k < 4; k++)
            LOCH_TRY(add(out, line[k]));
    }
    LOCH_TRY(add(out, "\n"));
    LOCH_TRY(add_header_names(r, out));
    LOCH_TRY(add(out, "\n"));
    LOCH_TRY(hash_text(r->payload, payload));
    return add(out, payload);
}

/* key = HMAC(key, text) */
static loch_status step(struct loch_secret *key, const char *text, size_t len)
{
    uint8_t mac[LOCH_SHA256_BYTES];
    struct loch_secret next = {0};

    LOCH_TRY(loch_hmac_sha256(key, loch_slice_of(text, len), mac));
    const loch_status st = loch_secret_from(&next, mac, sizeof mac);
    loch_wipe(mac, sizeof mac);
    LOCH_TRY(st);
    loch_secret_fini(key);
    *key = next;
    return LOCH_OK;
}

static loch_status signing_key(const struct loch_sigv4_request *r, struct loch_secret *out)
{
    struct loch_secret key = {0};
    loch_status st;

    LOCH_TRY(loch_secret_create(&key, r->secret_key->len + 4));
    memcpy(key.bytes, "AWS4", 4);
    memcpy(key.bytes + 4, r->secret_key->bytes, r->secret_key->len);
    LOCH_TRY_OUT(st, step(&key, r->time, 8));
    LOCH_TRY_OUT(st, step(&key, r->region, strlen(r->region)));
    LOCH_TRY_OUT(st, step(&key, r->service, strlen(r->service)));
    LOCH_TRY_OUT(st, step(&key, "aws4_request", 12));
    *out = key;
    return LOCH_OK;
out:
    loch_secret_fini(&key);
    return st;
}

static loch_status signature(const struct loch_sigv4_request *r, const char *scope,
                             char out[static HASH_TEXT_BYTES])
{
    struct loch_buf canonical = {0};
    struct loch_buf text = {0};
    struct loch_secret key = {0};
    uint8_t mac[LOCH_SHA256_BYTES];
    char hash[HASH_TEXT_BYTES];
    loch_status st;

    LOCH_TRY_OUT(st, canonical_request(r, &canonical));
    LOCH_TRY_OUT(st, hash_text(loch_buf_slice(&canonical), hash));
    const char *const parts[] = {"AWS4-HMAC-SHA256\n", r->time, "\n", scope, "\n", hash};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        LOCH_TRY_OUT(st, add(&text, parts[i]));
    LOCH_TRY_OUT(st, signing_key(r, &key));
    LOCH_TRY_OUT(st, loch_hmac_sha256(&key, loch_buf_slice(&text), mac));
    loch_hex_format(mac, sizeof mac, out);
out:
    loch_secret_fini(&key);
    loch_buf_fini(&canonical);
    loch_buf_fini(&text);
    return st;
}

loch_status loch_sigv4_authorization(const struct loch_sigv4_request *request, struct loch_buf *out)
{
    char scope[160], sign[HASH_TEXT_BYTES];

    if (strlen(request->time) != LOCH_SIGV4_TIME_BYTES - 1 || request->secret_key->len == 0 ||
        request->secret_key->len > SECRET_MAX_BYTES)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "a signature wants a time and a secret key of at most %u "
                         "bytes",
                         SECRET_MAX_BYTES);
    const int n = snprintf(scope, sizeof scope, "%.8s/%s/%s/aws4_request", request->time,
                           request->region, request->service);
    if (n < 0 || (size_t)n >= sizeof scope)
        return LOCH_FAIL(LOCH_E_INVALID, "a region's or service's name is too long");
    LOCH_TRY(signature(request, scope, sign));
    LOCH_TRY(add(out, "AWS4-HMAC-SHA256 Credential="));
    LOCH_TRY(add(out, request->access_key));
    LOCH_TRY(add(out, "/"));
    LOCH_TRY(add(out, scope));
    LOCH_TRY(add(out, ", SignedHeaders="));
    LOCH_TRY(add_header_names(request, out));
    LOCH_TRY(add(out, ", Signature="));
    return loch_buf_append(out, sign, sizeof sign);
}
