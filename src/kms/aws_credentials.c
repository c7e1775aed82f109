/* Holds: where AWS credentials come from, and for how long they are kept.
 *
 * Environment and file are read anew every minute, so that changed ones are noticed. Those of the
 * instance metadata are kept until five minutes before they expire; then more are asked for, every
 * few seconds, and until there are some the old ones do as long as they are good.
 */
#include "aws_credentials.h"

#include "http.h"
#include "loch/base/check.h"
#include "loch/base/log.h"
#include "wiped.h"

#include <ini.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KEEP_S          60
#define EARLY_S         300
#define RETRY_S         5
#define METADATA_MS     1500u
#define ROLE_MAX_BYTES  256u
#define TOKEN_MAX_BYTES 4096u

struct aws_source {
    char kind[16];
    char profile[128];
    struct kms_http *http;
    pthread_mutex_t asking;      /* held by who asks for more: that may take its time */
    pthread_mutex_t lock;        /* held for moments only, also under `asking` */
    struct aws_credentials have; /* under lock, as what follows */
    int64_t until;               /* CLOCK_MONOTONIC seconds; then more are asked for */
    int64_t expires;             /* likewise; then they are good for nothing. 0: there are none */
    bool warned;                 /* that more are not to be had */
};

void aws_credentials_fini(struct aws_credentials *c)
{
    loch_secret_fini(&c->secret_key);
    kms_wiped_free(c->session_token);
    *c = (struct aws_credentials){0};
}

loch_status aws_source_create(const char *kind, const char *profile, struct aws_source **out)
{
    const struct kms_http_options options = {.timeout_ms = METADATA_MS, .direct = true};

    if (*kind != '\0' && strcmp(kind, "environment") != 0 && strcmp(kind, "file") != 0 &&
        strcmp(kind, "metadata") != 0)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "credentials=%s is not known (environment, file, metadata)", kind);
    struct aws_source *s = calloc(1, sizeof *s);
    if (s == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for AWS credentials");
    (void)snprintf(s->kind, sizeof s->kind, "%s", kind);
    (void)snprintf(s->profile, sizeof s->profile, "%s", profile);
    const loch_status st = kms_http_create(&options, &s->http);
    if (!loch_is_ok(st)) {
        free(s);
        return st;
    }
    int rc = pthread_mutex_init(&s->lock, NULL);
    LOCH_ASSERT(rc == 0);
    rc = pthread_mutex_init(&s->asking, NULL);
    LOCH_ASSERT(rc == 0);
    *out = s;
    return LOCH_OK;
}

void aws_source_destroy(struct aws_source *source)
{
    if (source == NULL)
        return;
    aws_credentials_fini(&source->have);
    kms_http_destroy(source->http);
    (void)pthread_mutex_destroy(&source->asking);
    (void)pthread_mutex_destroy(&source->lock);
    free(source);
}

static int64_t now_s(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec + 1; /* never 0 */
}

/* `token` may be NULL or empty. */
static loch_status make(const char *access, const char *secret, const char *token,
                        struct aws_credentials *out)
{
    struct aws_credentials c = {0};

    if (strlen(access) >= sizeof c.access_key || strlen(secret) == 0 || strlen(secret) > 60)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the AWS credentials are malformed");
    (void)snprintf(c.access_key, sizeof c.access_key, "%s", access);
    LOCH_TRY(loch_secret_from(&c.secret_key, secret, strlen(secret)));
    if (token != NULL && *token != '\0') {
        c.session_token = kms_wiped_strdup(token);
        if (c.session_token == NULL) {
            aws_credentials_fini(&c);
            return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for AWS credentials");
        }
    }
    *out = c;
    return LOCH_OK;
}

/* ---- environment ---- */

static bool in_environment(void)
{
    const char *access = getenv("AWS_ACCESS_KEY_ID");
    const char *secret = getenv("AWS_SECRET_ACCESS_KEY");

    return access != NULL && *access != '\0' && secret != NULL && *secret != '\0';
}

static loch_status from_environment(struct aws_credentials *out)
{
    const char *access = getenv("AWS_ACCESS_KEY_ID");
    const char *secret = getenv("AWS_SECRET_ACCESS_KEY");

    if (access == NULL || *access == '\0' || secret == NULL || *secret == '\0')
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "there are no AWS credentials in the environment "
                                             "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)");
    return make(access, secret, getenv("AWS_SESSION_TOKEN"), out);
}

/* ---- the shared file ---- */

struct profile {
    const char *name;
    char access[130], secret[64], token[TOKEN_MAX_BYTES];
};

static void keep(char *out, size_t size, const char *value)
{
    (void)snprintf(out, size, "%s", strlen(value) < size ? value : "");
}

static int take_line(void *arg, const char *section, const char *name, const char *value)
{
    struct profile *p = arg;

    if (name == NULL || value == NULL || strcmp(section, p->name) != 0)
        return 1;
    if (strcmp(name, "aws_access_key_id") == 0)
        keep(p->access, sizeof p->access, value);
    if (strcmp(name, "aws_secret_access_key") == 0)
        keep(p->secret, sizeof p->secret, value);
    if (strcmp(name, "aws_session_token") == 0)
        keep(p->token, sizeof p->token, value);
    return 1;
}

static bool file_path(char *out, size_t size)
{
    const char *path = getenv("AWS_SHARED_CREDENTIALS_FILE");
    const char *home = getenv("HOME");

    if (path != NULL && *path != '\0')
        (void)snprintf(out, size, "%s", path);
    else
        (void)snprintf(out, size, "%s/.aws/credentials", home != NULL ? home : "");
    FILE *f = fopen(out, "re");
    if (f != NULL)
        (void)fclose(f);
    return f != NULL;
}

static loch_status from_file(const struct aws_source *s, struct aws_credentials *out)
{
    const char *wanted = s->profile[0] != '\0' ? s->profile : getenv("AWS_PROFILE");
    struct profile p = {.name = wanted != NULL && *wanted != '\0' ? wanted : "default"};
    char path[1024];
    loch_status st;

    if (!file_path(path, sizeof path))
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the AWS credentials file %s cannot be read", path);
    (void)ini_parse(path, take_line, &p);
    if (p.access[0] == '\0' || p.secret[0] == '\0')
        st = LOCH_FAIL(LOCH_E_UNAVAILABLE, "%s has no credentials in profile [%s]", path, p.name);
    else
        st = make(p.access, p.secret, p.token, out);
    loch_wipe(&p, sizeof p);
    return st;
}

/* ---- instance metadata ---- */

static loch_status metadata(const struct aws_source *s, const char *method, const char *path,
                            const char *header, struct loch_buf *out)
{
    const char *base = getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    char url[700];
    const char *const headers[] = {header, NULL};
    struct kms_http_reply reply = {0};

    if (base == NULL || *base == '\0')
        base = "http://169.254.169.254";
    const size_t n = strlen(base);
    (void)snprintf(url, sizeof url, "%.*s%s", (int)(base[n - 1] == '/' ? n - 1 : n), base, path);
    const struct kms_http_request request = {.method = method, .url = url, .headers = headers};
    LOCH_TRY(kms_http_do(s->http, &request, &reply));
    loch_status st = loch_buf_append(&reply.body, "", 1);
    if (loch_is_ok(st) && reply.status != 200)
        st = LOCH_FAIL(LOCH_E_UNAVAILABLE, "the instance metadata answers %u to %s", reply.status,
                       path);
    if (!loch_is_ok(st)) {
        kms_http_reply_fini(&reply);
        return st;
    }
    *out = reply.body;
    return LOCH_OK;
}

/* "2026-11-28T15:00:00Z" as seconds since 1970; 0: malformed. */
static int64_t instant(const char *text)
{
    struct tm tm = {0};
    const char *end = text == NULL ? NULL : strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);

    return end == NULL || *end != '\0' ? 0 : (int64_t)timegm(&tm);
}

/* *good_s: for how long from now they are good; may be negative. */
static loch_status parse_metadata(const char *text, struct aws_credentials *out, int64_t *good_s)
{
    json_t *json = json_loads(text, 0, NULL);
    const char *access = json_string_value(json_object_get(json, "AccessKeyId"));
    const char *secret = json_string_value(json_object_get(json, "SecretAccessKey"));
    const char *token = json_string_value(json_object_get(json, "Token"));
    const int64_t expires = instant(json_string_value(json_object_get(json, "Expiration")));
    loch_status st;

    if (access == NULL || secret == NULL || expires == 0) {
        st = LOCH_FAIL(LOCH_E_UNAVAILABLE, "the instance metadata gives no credentials");
    } else {
        *good_s = expires - (int64_t)time(NULL);
        st = make(access, secret, token, out);
    }
    json_decref(json);
    return st;
}

static loch_status from_metadata(const struct aws_source *s, struct aws_credentials *out,
                                 int64_t *good_s)
{
    static const char where[] = "/latest/meta-data/iam/security-credentials/";
    struct loch_buf token = {0}, role = {0}, json = {0};
    char header[TOKEN_MAX_BYTES], path[sizeof where + ROLE_MAX_BYTES];
    loch_status st;

    LOCH_TRY_OUT(st, metadata(s, "PUT", "/latest/api/token",
                              "X-aws-ec2-metadata-token-ttl-seconds: 21600", &token));
    (void)snprintf(header, sizeof header, "X-aws-ec2-metadata-token: %.4000s",
                   (const char *)token.data);
    LOCH_TRY_OUT(st, metadata(s, "GET", where, header, &role));
    const char *name = (const char *)role.data;
    const size_t n = strcspn(name, "\r\n");
    if (n == 0 || n >= ROLE_MAX_BYTES) {
        st = LOCH_FAIL(LOCH_E_UNAVAILABLE, "the instance has no role");
        goto out;
    }
    (void)snprintf(path, sizeof path, "%s%.*s", where, (int)n, name);
    LOCH_TRY_OUT(st, metadata(s, "GET", path, header, &json));
    st = parse_metadata((const char *)json.data, out, good_s);
out:
    loch_wipe(header, sizeof header);
    kms_wiped_buf_fini(&token);
    kms_wiped_buf_fini(&role);
    kms_wiped_buf_fini(&json);
    return st;
}

/* ---- the one that is kept ---- */

/* Under asking. */
static loch_status refresh(struct aws_source *s)
{
    struct aws_credentials c = {0};
    int64_t good_s = KEEP_S; /* where nothing says how long */
    char path[1024];
    loch_status st;

    const char *kind = s->kind;
    if (*kind == '\0')
        kind = in_environment()               ? "environment"
               : file_path(path, sizeof path) ? "file"
                                              : "metadata";
    if (*kind == 'e')
        st = from_environment(&c);
    else if (*kind == 'f')
        st = from_file(s, &c);
    else
        st = from_metadata(s, &c, &good_s);
    LOCH_TRY(st);
    const int64_t keep_s = good_s - EARLY_S > KEEP_S ? good_s - EARLY_S : KEEP_S;
    (void)pthread_mutex_lock(&s->lock);
    aws_credentials_fini(&s->have);
    s->have = c;
    s->until = now_s() + keep_s;
    s->expires = now_s() + good_s;
    s->warned = false;
    (void)pthread_mutex_unlock(&s->lock);
    return LOCH_OK;
}

/* Under lock. */
static loch_status copy_out(const struct aws_source *s, struct aws_credentials *out)
{
    struct aws_credentials c = {0};

    memcpy(c.access_key, s->have.access_key, sizeof c.access_key);
    LOCH_TRY(loch_secret_copy(&c.secret_key, &s->have.secret_key));
    if (s->have.session_token != NULL) {
        c.session_token = kms_wiped_strdup(s->have.session_token);
        if (c.session_token == NULL) {
            aws_credentials_fini(&c);
            return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for AWS credentials");
        }
    }
    *out = c;
    return LOCH_OK;
}

/* Whether it is not time yet to ask for more, and whether those that are there are still good. */
static bool look(struct aws_source *s, bool *good)
{
    (void)pthread_mutex_lock(&s->lock);
    const int64_t now = now_s();
    const bool fresh = s->until >= now;
    *good = s->expires > now;
    (void)pthread_mutex_unlock(&s->lock);
    return fresh;
}

/* Under asking; those that are there are good. */
static void put_off(struct aws_source *s)
{
    (void)pthread_mutex_lock(&s->lock);
    s->until = now_s() + RETRY_S;
    const bool news = !s->warned;
    s->warned = true;
    (void)pthread_mutex_unlock(&s->lock);
    if (news)
        LOCH_WARN("the AWS credentials are not renewed, the old ones are used until they expire: "
                  "%s",
                  loch_error_text());
}

/* One thread asks; the others wait for it only where they have nothing to go on with. */
static loch_status renew(struct aws_source *s)
{
    loch_status st = LOCH_OK;
    bool good = false;

    if (look(s, &good))
        return LOCH_OK;
    if (!good)
        (void)pthread_mutex_lock(&s->asking);
    else if (pthread_mutex_trylock(&s->asking) != 0)
        return LOCH_OK;
    if (!look(s, &good))
        st = refresh(s);
    if (!loch_is_ok(st) && !look(s, &good) && good) {
        put_off(s);
        st = LOCH_OK;
    }
    (void)pthread_mutex_unlock(&s->asking);
    return st;
}

loch_status aws_source_get(struct aws_source *source, struct aws_credentials *out)
{
    LOCH_TRY(renew(source));
    (void)pthread_mutex_lock(&source->lock);
    const loch_status st = copy_out(source, out);
    (void)pthread_mutex_unlock(&source->lock);
    return st;
}

void aws_source_forget(struct aws_source *source)
{
    (void)pthread_mutex_lock(&source->lock);
    source->until = 0;
    source->expires = 0;
    (void)pthread_mutex_unlock(&source->lock);
}
