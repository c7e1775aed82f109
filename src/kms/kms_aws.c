/* Holds: the provider "aws-kms": the CMK is a symmetric key of AWS KMS.
 *
 * URI:
 * aws-kms:arn:aws:kms:REGION:ACCOUNT:key/ID[?endpoint=URL&credentials=KIND&profile=P&ca=/path]. An
 * ARN, not an alias: what is pinned must not be moved by who may move aliases. Calls: Encrypt and
 * Decrypt with the encryption context; Decrypt names the key and the answer must name it too. Our
 * clock may be wrong: the service's Date corrects it. What may pass by itself (throttling, 5xx, no
 * answer) is tried again for a few seconds. Inner blob: KMS's own ciphertext.
 */
#include "attributes.h"
#include "aws_credentials.h"
#include "base64.h"
#include "envelope.h"
#include "http.h"
#include "provider.h"
#include "wiped.h"

#include "loch/base/check.h"
#include "loch/crypto/random.h"
#include "loch/crypto/sigv4.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define REQUEST_MS     4000u /* of one request, the wait for its turn included */
#define TRIES_MAX      4
#define TOTAL_MS       6000u /* of all tries: no request begins that may end later */
#define SKEW_S         240
#define BODY_BYTES     8192u
#define KMS_BLOB_BYTES 3072u
#define ARN_BYTES      256u

struct aws_state {
    char arn[ARN_BYTES];
    char region[32];
    char endpoint[512];
    char host[300]; /* as in the Host header */
    struct kms_http *http;
    struct aws_source *source;
    atomic_llong skew_s; /* the service's clock less ours */
};

/* ---- the URI ---- */

/* arn:aws:kms:REGION:ACCOUNT:key/ID */
static loch_status parse_arn(struct aws_state *s, const char *suffix[static 1])
{
    char partition[24] = "", id[128] = "";
    int end = 0;

    if (sscanf(s->arn, "arn:%23[a-z-]:kms:%31[a-z0-9-]:%*12[0-9]:key/%127[A-Za-z0-9-]%n", partition,
               s->region, id, &end) != 3 ||
        s->arn[end] != '\0')
        return LOCH_FAIL(LOCH_E_INVALID,
                         "\"%s\" is not a key's ARN (arn:aws:kms:REGION:ACCOUNT:key/ID; an alias "
                         "will not do, for it can be moved to another key)",
                         s->arn);
    *suffix = strcmp(partition, "aws-cn") == 0 ? "amazonaws.com.cn" : "amazonaws.com";
    return LOCH_OK;
}

static loch_status configure(struct aws_state *s, const char *location)
{
    char kind[32] = "", profile[128] = "", ca[512] = "";
    const struct kms_attribute query[] = {{"endpoint", s->endpoint, sizeof s->endpoint, NULL},
                                          {"credentials", kind, sizeof kind, NULL},
                                          {"profile", profile, sizeof profile, NULL},
                                          {"ca", ca, sizeof ca, NULL}};
    const char *mark = strchr(location, '?');
    const char *suffix = NULL;
    const size_t len = mark == NULL ? strlen(location) : (size_t)(mark - location);

    if (len >= sizeof s->arn)
        return LOCH_FAIL(LOCH_E_INVALID, "the key's ARN is too long");
    memcpy(s->arn, location, len);
    LOCH_TRY(parse_arn(s, &suffix));
    if (mark != NULL)
        LOCH_TRY(kms_attributes_parse(mark + 1, strlen(mark + 1), '&', query, 4));
    if (s->endpoint[0] == '\0')
        (void)snprintf(s->endpoint, sizeof s->endpoint, "https://kms.%s.%s", s->region, suffix);
    LOCH_TRY(kms_http_check_url(s->endpoint));
    const char *host = strstr(s->endpoint, "://") + 3;
    (void)snprintf(s->host, sizeof s->host, "%.*s", (int)strcspn(host, "/"), host);
    if (host[strcspn(host, "/")] != '\0' && strcmp(host + strcspn(host, "/"), "/") != 0)
        return LOCH_FAIL(LOCH_E_INVALID, "the endpoint \"%s\" has a path", s->endpoint);
    const struct kms_http_options options = {.ca_file = ca[0] != '\0' ? ca : NULL,
                                             .timeout_ms = REQUEST_MS};
    LOCH_TRY(kms_http_create(&options, &s->http));
    return aws_source_create(kind, profile, &s->source);
}

static void aws_close(void *state)
{
    struct aws_state *s = state;

    kms_http_destroy(s->http);
    aws_source_destroy(s->source);
    free(s);
}

static loch_status aws_open(const char *location, const char *const *data_dirs, void **state)
{
    struct aws_state *s = calloc(1, sizeof *s);

    (void)data_dirs;
    if (s == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a KMS");
    const loch_status st = configure(s, location);
    if (!loch_is_ok(st)) {
        aws_close(s);
        return st;
    }
    *state = s;
    return LOCH_OK;
}

/* ---- what an error means ---- */

enum next { GIVE_UP, TRY_AGAIN, FRESH_CREDENTIALS, CHECK_CLOCK };

static const struct {
    const char *type;
    enum loch_code code;
    enum next next;
} meanings[] = {
    {"DisabledException", LOCH_E_DENIED, GIVE_UP},
    {"KMSInvalidStateException", LOCH_E_DENIED, GIVE_UP}, /* pending deletion, for one */
    {"AccessDeniedException", LOCH_E_DENIED, GIVE_UP},
    {"NotFoundException", LOCH_E_DENIED, GIVE_UP},
    {"IncorrectKeyException", LOCH_E_DENIED, GIVE_UP},
    {"InvalidCiphertextException", LOCH_E_CORRUPT, GIVE_UP},
    {"InvalidKeyUsageException", LOCH_E_INVALID, GIVE_UP},
    {"InvalidArnException", LOCH_E_INVALID, GIVE_UP},
    {"ValidationException", LOCH_E_INVALID, GIVE_UP},
    {"ExpiredTokenException", LOCH_E_UNAVAILABLE, FRESH_CREDENTIALS},
    {"UnrecognizedClientException", LOCH_E_UNAVAILABLE, FRESH_CREDENTIALS},
    {"InvalidClientTokenIdException", LOCH_E_UNAVAILABLE, FRESH_CREDENTIALS},
    {"MissingAuthenticationTokenException", LOCH_E_UNAVAILABLE, FRESH_CREDENTIALS},
    {"InvalidSignatureException", LOCH_E_UNAVAILABLE, CHECK_CLOCK},
    {"SignatureDoesNotMatch", LOCH_E_UNAVAILABLE, CHECK_CLOCK},
    {"RequestExpired", LOCH_E_UNAVAILABLE, CHECK_CLOCK},
    {"ThrottlingException", LOCH_E_UNAVAILABLE, TRY_AGAIN},
    {"KeyUnavailableException", LOCH_E_UNAVAILABLE, TRY_AGAIN},
    {"DependencyTimeoutException", LOCH_E_UNAVAILABLE, TRY_AGAIN},
    {"KMSInternalException", LOCH_E_UNAVAILABLE, TRY_AGAIN},
};

/* The type stands in the body, "namespace#Type" or bare. A status alone is no verdict. */
static loch_status fail_by_type(const struct kms_http_reply *reply, enum next *next)
{
    json_t *json = json_loadb((const char *)reply->body.data, reply->body.len, 0, NULL);
    const char *type = json_string_value(json_object_get(json, "__type"));
    const char *text = json_string_value(json_object_get(json, "message"));
    const char *hash = type == NULL ? NULL : strchr(type, '#');
    enum loch_code code = LOCH_E_UNAVAILABLE;

    type = hash != NULL ? hash + 1 : type;
    if (text == NULL)
        text = json_string_value(json_object_get(json, "Message"));
    *next = reply->status >= 500 || reply->status == 429 ? TRY_AGAIN : GIVE_UP;
    for (size_t i = 0; type != NULL && i < sizeof meanings / sizeof *meanings; i++) {
        if (strcmp(type, meanings[i].type) == 0) {
            code = meanings[i].code;
            *next = meanings[i].next;
        }
    }
    const loch_status st = LOCH_FAIL(code, "AWS KMS answers %u %.60s: %.200s", reply->status,
                                     type != NULL ? type : "without a type", text ? text : "");
    json_decref(json);
    return st;
}

/* ---- a call ---- */

static int64_t now_ms(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static loch_status line_of(struct loch_buf *line, const char *name, const char *value)
{
    LOCH_TRY(loch_buf_append(line, name, strlen(name)));
    LOCH_TRY(loch_buf_append(line, ": ", 2));
    return loch_buf_append(line, value, strlen(value) + 1);
}

static loch_status send_signed(struct aws_state *s, const struct aws_credentials *c,
                               const char *target, struct loch_slice body,
                               struct kms_http_reply *reply)
{
    char time_text[LOCH_SIGV4_TIME_BYTES], target_line[80], date_line[40], target_value[64];
    struct loch_buf authorization = {0}, auth_line = {0}, token_line = {0};
    loch_status st;

    loch_sigv4_time((int64_t)time(NULL) + atomic_load(&s->skew_s), time_text);
    (void)snprintf(target_value, sizeof target_value, "TrentService.%s", target);
    const struct loch_sigv4_header headers[] = {
        {"content-type", "application/x-amz-json-1.1"},
        {"host", s->host},
        {"x-amz-date", time_text},
        {c->session_token != NULL ? "x-amz-security-token" : "x-amz-target",
         c->session_token != NULL ? c->session_token : target_value},
        {"x-amz-target", target_value}};
    const struct loch_sigv4_request sign = {.method = "POST",
                                            .path = "/",
                                            .query = "",
                                            .headers = headers,
                                            .header_count = c->session_token != NULL ? 5 : 4,
                                            .payload = body,
                                            .time = time_text,
                                            .region = s->region,
                                            .service = "kms",
                                            .access_key = c->access_key,
                                            .secret_key = &c->secret_key};
    LOCH_TRY_OUT(st, loch_sigv4_authorization(&sign, &authorization));
    LOCH_TRY_OUT(st, line_of(&auth_line, "Authorization", (const char *)authorization.data));
    if (c->session_token != NULL)
        LOCH_TRY_OUT(st, line_of(&token_line, "X-Amz-Security-Token", c->session_token));
    (void)snprintf(target_line, sizeof target_line, "X-Amz-Target: %s", target_value);
    (void)snprintf(date_line, sizeof date_line, "X-Amz-Date: %s", time_text);
    const char *const lines[] = {"Content-Type: application/x-amz-json-1.1",
                                 target_line,
                                 date_line,
                                 (const char *)auth_line.data,
                                 (const char *)token_line.data, /* NULL ends the list */
                                 NULL};
    const struct kms_http_request request = {
        .method = "POST", .url = s->endpoint, .headers = lines, .body = body};
    st = kms_http_do(s->http, &request, reply);
out:
    loch_buf_fini(&authorization);
    loch_buf_fini(&auth_line);
    kms_wiped_buf_fini(&token_line);
    return st;
}

static loch_status attempt(struct aws_state *s, const char *target, struct loch_slice body,
                           struct kms_http_reply *out, enum next *next)
{
    struct aws_credentials c = {0};
    struct kms_http_reply reply = {0};

    *next = GIVE_UP;
    LOCH_TRY(aws_source_get(s->source, &c));
    loch_status st = send_signed(s, &c, target, body, &reply);
    aws_credentials_fini(&c);
    if (!loch_is_ok(st)) {
        *next = st.code == LOCH_E_UNAVAILABLE ? TRY_AGAIN : GIVE_UP;
        return st;
    }
    if (reply.status == 200) {
        *out = reply;
        return LOCH_OK;
    }
    st = fail_by_type(&reply, next);
    if (*next == CHECK_CLOCK) {
        const int64_t skew = reply.date == 0 ? 0 : reply.date - (int64_t)time(NULL);
        const int64_t known = (int64_t)atomic_load(&s->skew_s);
        *next = GIVE_UP;
        if (skew - known > SKEW_S || known - skew > SKEW_S) {
            atomic_store(&s->skew_s, skew);
            *next = TRY_AGAIN;
        }
    }
    kms_http_reply_fini(&reply);
    return st;
}

static void pause_before(int turn)
{
    uint8_t jitter = 128;

    if (!loch_is_ok(loch_random_bytes(&jitter, 1)))
        jitter = 128;
    const long ms = (50L << turn) * (128 + jitter) / 256;
    const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&t, NULL);
}

static loch_status call(struct aws_state *s, const char *target, struct loch_slice body,
                        struct kms_http_reply *out)
{
    const int64_t begun = now_ms();
    bool fresh = false;

    for (int turn = 0;; turn++) {
        enum next next = GIVE_UP;
        const loch_status st = attempt(s, target, body, out, &next);
        if (loch_is_ok(st))
            return LOCH_OK;
        if (next == FRESH_CREDENTIALS && !fresh) {
            aws_source_forget(s->source);
            fresh = true;
        } else if (next != TRY_AGAIN) {
            return st;
        }
        if (turn + 1 >= TRIES_MAX || now_ms() - begun > (int64_t)TOTAL_MS - REQUEST_MS)
            return st;
        pause_before(turn);
    }
}

/* ---- requests and answers ---- */

static size_t context_json(struct loch_slice context, char *out, size_t size)
{
    const struct loch_kms_context c = kms_context_decode(context);
    char cluster[LOCH_ID_TEXT_BYTES], tenant[LOCH_ID_TEXT_BYTES];
    char key[LOCH_ID_TEXT_BYTES], scope[LOCH_ID_TEXT_BYTES];

    return (size_t)snprintf(
        out, size,
        "{\"loch:cluster\":\"%s\",\"loch:tenant\":\"%s\",\"loch:key\":\"%s\","
        "\"loch:purpose\":\"%s\",\"loch:scope\":\"%s\",\"loch:version\":\"%" PRIu32 "\"}",
        loch_id_format(&c.cluster, cluster), loch_id_format(&c.tenant, tenant),
        loch_id_format(&c.key_id, key), loch_purpose_name(c.purpose),
        loch_id_format(&c.scope, scope), c.version);
}

/* The answer's base64 member `name`, and that it came from our key. */
static loch_status read_answer(const struct aws_state *s, const struct kms_http_reply *reply,
                               const char *name, uint8_t *out, size_t size, size_t *len)
{
    json_t *json = json_loadb((const char *)reply->body.data, reply->body.len, 0, NULL);
    const char *text = json_string_value(json_object_get(json, name));
    const char *key = json_string_value(json_object_get(json, "KeyId"));
    loch_status st;

    if (text == NULL || key == NULL)
        st = LOCH_FAIL(LOCH_E_UNAVAILABLE, "AWS KMS answers 200 without %s and KeyId", name);
    else if (strcmp(key, s->arn) != 0)
        st = LOCH_FAIL(LOCH_E_CORRUPT, "AWS KMS answers with another key than %s", s->arn);
    else
        st = kms_base64_decode(text, out, size, len);
    json_decref(json);
    return st;
}

static loch_status aws_wrap(void *state, struct loch_slice context, const struct loch_secret *key,
                            struct loch_buf *out)
{
    struct aws_state *s = state;
    struct kms_http_reply reply = {0};
    char body[BODY_BYTES], where[512], plain[KMS_BASE64_BYTES(LOCH_SECRET_MAX_BYTES)];
    uint8_t blob[KMS_BLOB_BYTES];
    size_t len = 0;

    if (key->len != KMS_KEK_BYTES)
        return LOCH_FAIL(LOCH_E_INVALID, "a KEK has %u bytes, not %zu", KMS_KEK_BYTES, key->len);
    (void)context_json(context, where, sizeof where);
    kms_base64_encode(loch_slice_of(key->bytes, key->len), plain);
    const int n = snprintf(body, sizeof body,
                           "{\"KeyId\":\"%s\",\"Plaintext\":\"%s\",\"EncryptionContext\":%s}",
                           s->arn, plain, where);
    LOCH_ASSERT(n > 0 && (size_t)n < sizeof body);
    loch_status st = call(s, "Encrypt", loch_slice_of(body, (size_t)n), &reply);
    loch_wipe(plain, sizeof plain);
    loch_wipe(body, sizeof body);
    LOCH_TRY(st);
    st = read_answer(s, &reply, "CiphertextBlob", blob, sizeof blob, &len);
    kms_http_reply_fini(&reply);
    LOCH_TRY(st);
    return kms_envelope_write(LOCH_PROVIDER_AWS_KMS, context, key, loch_slice_of(blob, len), out);
}

static loch_status aws_unwrap(void *state, struct loch_slice context, struct loch_slice blob,
                              struct loch_secret *out)
{
    struct aws_state *s = state;
    struct kms_http_reply reply = {0};
    char body[BODY_BYTES], where[512], text[KMS_BASE64_BYTES(KMS_BLOB_BYTES)];
    struct loch_slice inner;
    struct loch_secret key = {0};
    loch_status st;

    LOCH_TRY(kms_envelope_read(LOCH_PROVIDER_AWS_KMS, blob, &inner));
    if (inner.len > KMS_BLOB_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a wrapped KEK is too long for AWS KMS");
    (void)context_json(context, where, sizeof where);
    kms_base64_encode(inner, text);
    const int n = snprintf(body, sizeof body,
                           "{\"KeyId\":\"%s\",\"CiphertextBlob\":\"%s\",\"EncryptionContext\":%s}",
                           s->arn, text, where);
    LOCH_ASSERT(n > 0 && (size_t)n < sizeof body);
    LOCH_TRY(call(s, "Decrypt", loch_slice_of(body, (size_t)n), &reply));
    LOCH_TRY_OUT(st, loch_secret_create(&key, LOCH_SECRET_MAX_BYTES));
    LOCH_TRY_OUT(st,
                 read_answer(s, &reply, "Plaintext", key.bytes, LOCH_SECRET_MAX_BYTES, &key.len));
    LOCH_TRY_OUT(st, kms_envelope_prove(blob, context, &key));
    *out = key;
    key = (struct loch_secret){0};
out:
    loch_secret_fini(&key);
    kms_http_reply_fini(&reply);
    return st;
}

const struct kms_provider kms_aws_provider = {
    .id = LOCH_PROVIDER_AWS_KMS,
    .customer_held = true,
    .scheme = "aws-kms:",
    .open = aws_open,
    .close = aws_close,
    .wrap = aws_wrap,
    .unwrap = aws_unwrap,
};
