/* Holds: the reading and renewing of a Vault token, and a request that carries it.
 *
 * Another process (Vault Agent, say) may replace the file: it is read at every call, and a changed
 * token is looked up anew. A renewal that fails is tried again; calls go on with what there is.
 */
#include "vault_token.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/base/secret.h"
#include "wiped.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NEVER       INT64_MAX
#define RETRY_S     10
#define URL_BYTES   1024u
#define SOON_BYTES  40u
#define LEAST_TTL_S 2

struct vault_token {
    struct vault_server server;
    char file[512], variable[128];
    pthread_mutex_t lock;
    char known[VAULT_TOKEN_BYTES]; /* under lock: whose renewal is planned; wiped at the end */
    int64_t renew_at;              /* under lock: CLOCK_MONOTONIC seconds */
};

loch_status vault_token_create(const struct vault_server *server, const char *file,
                               const char *variable, struct vault_token **out)
{
    if ((file[0] == '\0') == (variable[0] == '\0') || (file[0] != '\0' && file[0] != '/'))
        return LOCH_FAIL(LOCH_E_INVALID, "the KMS URI does not say where the Vault token is "
                                         "(token-file=/path or token-env=NAME)");
    struct vault_token *t = calloc(1, sizeof *t);
    if (t == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a Vault token");
    t->server = *server;
    (void)snprintf(t->file, sizeof t->file, "%s", file);
    (void)snprintf(t->variable, sizeof t->variable, "%s", variable);
    const int rc = pthread_mutex_init(&t->lock, NULL);
    LOCH_ASSERT(rc == 0);
    *out = t;
    return LOCH_OK;
}

void vault_token_destroy(struct vault_token *token)
{
    if (token == NULL)
        return;
    (void)pthread_mutex_destroy(&token->lock);
    loch_wipe(token->known, sizeof token->known);
    free(token);
}

static loch_status read_file(const char *path, char out[static VAULT_TOKEN_BYTES])
{
    struct stat sb;

    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the Vault token's file %s does not open: %s", path,
                         strerror(errno));
    const bool fine = fstat(fd, &sb) == 0 && S_ISREG(sb.st_mode) && (sb.st_mode & 077) == 0;
    const ssize_t n = fine ? read(fd, out, VAULT_TOKEN_BYTES - 1) : 0;
    (void)close(fd);
    if (!fine)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                         "the Vault token's file %s is open to others (mode 0600 is demanded)",
                         path);
    out[n > 0 ? n : 0] = '\0';
    return LOCH_OK;
}

/* A header's value: one line of printable characters. */
static loch_status read_token(const struct vault_token *t, char out[static VAULT_TOKEN_BYTES])
{
    const char *value = t->variable[0] == '\0' ? NULL : getenv(t->variable);

    out[0] = '\0';
    if (t->file[0] != '\0')
        LOCH_TRY(read_file(t->file, out));
    else if (value != NULL && strlen(value) < VAULT_TOKEN_BYTES)
        (void)snprintf(out, VAULT_TOKEN_BYTES, "%s", value);
    out[strcspn(out, " \t\r\n")] = '\0';
    for (const char *p = out; *p != '\0'; p++)
        if (*p < '!' || *p > '~')
            out[0] = '\0';
    if (out[0] == '\0')
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "there is no Vault token in %s",
                         t->file[0] != '\0' ? t->file : t->variable);
    return LOCH_OK;
}

loch_status vault_request(const struct vault_server *server, const char *token, const char *method,
                          const char *path, const char *body, struct kms_http_reply *out)
{
    char url[URL_BYTES], token_line[VAULT_TOKEN_BYTES + SOON_BYTES], space_line[300];
    const char *lines[] = {token_line, "X-Vault-Request: true", "Content-Type: application/json",
                           NULL, NULL};

    const int n = snprintf(url, sizeof url, "%s/v1/%s", server->base, path);
    LOCH_ASSERT(n > 0 && (size_t)n < sizeof url);
    (void)snprintf(token_line, sizeof token_line, "X-Vault-Token: %s", token);
    (void)snprintf(space_line, sizeof space_line, "X-Vault-Namespace: %s", server->name_space);
    if (server->name_space[0] != '\0')
        lines[3] = space_line;
    const struct kms_http_request request = {
        .method = method,
        .url = url,
        .headers = lines,
        .body = loch_slice_of(body, body == NULL ? 0 : strlen(body))};
    const loch_status st = kms_http_do(server->http, &request, out);
    loch_wipe(token_line, sizeof token_line);
    return st;
}

static int64_t now_s(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec;
}

/* When to renew, by a reply's object with `ttl_name` and "renewable". */
static int64_t plan(const struct kms_http_reply *reply, const char *object, const char *ttl_name)
{
    json_t *json = json_loadb((const char *)reply->body.data, reply->body.len, 0, NULL);
    const json_t *o = json_object_get(json, object);
    const int64_t ttl = (int64_t)json_integer_value(json_object_get(o, ttl_name));
    const bool renewable = json_is_true(json_object_get(o, "renewable"));

    json_decref(json);
    if (!renewable || ttl <= 0)
        return NEVER;
    return now_s() + (ttl < LEAST_TTL_S ? ttl : ttl / 2);
}

/* Of a token not seen before: how long does it live? */
static int64_t look_up(const struct vault_token *t, const char *token)
{
    struct kms_http_reply reply = {0};

    if (!loch_is_ok(
            vault_request(&t->server, token, "GET", "auth/token/lookup-self", NULL, &reply)))
        return now_s() + RETRY_S;
    const int64_t at = reply.status == 200 ? plan(&reply, "data", "ttl") : now_s() + RETRY_S;
    kms_http_reply_fini(&reply);
    return at;
}

static int64_t renew(const struct vault_token *t, const char *token)
{
    struct kms_http_reply reply = {0};
    int64_t at = now_s() + RETRY_S;

    const loch_status st =
        vault_request(&t->server, token, "POST", "auth/token/renew-self", "{}", &reply);
    if (loch_is_ok(st) && reply.status == 200)
        at = plan(&reply, "auth", "lease_duration");
    else
        LOCH_WARN("the Vault token is not renewed: %s",
                  loch_is_ok(st) ? "the server refuses" : loch_error_text());
    kms_http_reply_fini(&reply);
    return at;
}

loch_status vault_token_get(struct vault_token *token, char out[static VAULT_TOKEN_BYTES])
{
    LOCH_TRY(read_token(token, out));
    (void)pthread_mutex_lock(&token->lock);
    const bool fresh = strcmp(out, token->known) != 0;
    const bool due = fresh || now_s() >= token->renew_at;
    if (fresh)
        memcpy(token->known, out, VAULT_TOKEN_BYTES);
    if (due)
        token->renew_at = NEVER; /* ours to do; other threads go on */
    (void)pthread_mutex_unlock(&token->lock);
    if (!due)
        return LOCH_OK;
    const int64_t at = fresh ? look_up(token, out) : renew(token, out);
    (void)pthread_mutex_lock(&token->lock);
    if (strcmp(out, token->known) == 0)
        token->renew_at = at;
    (void)pthread_mutex_unlock(&token->lock);
    return LOCH_OK;
}

bool vault_token_is_good(struct vault_token *token)
{
    char text[VAULT_TOKEN_BYTES];
    struct kms_http_reply reply = {0};

    if (!loch_is_ok(read_token(token, text)))
        return false;
    const loch_status st =
        vault_request(&token->server, text, "GET", "auth/token/lookup-self", NULL, &reply);
    const bool good = loch_is_ok(st) && reply.status == 200;
    loch_wipe(text, sizeof text);
    kms_http_reply_fini(&reply);
    return good;
}
