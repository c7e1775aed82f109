/* Holds: libcurl behind a small face. Handles are kept for their connections. At most as many
 * requests as handles are under way; others wait for one: a thousand tenants that ask at once are a
 * queue at their key service, not a thousand connections, most of which it cannot serve in time.
 * One deadline covers the wait and the request, so that an answer is never older than that. */
#include "http.h"

#include "loch/base/check.h"
#include "wiped.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define AT_ONCE_MAX    32
#define BODY_MAX_BYTES (256u << 10)
#define CONNECT_MS     3000L

struct kms_http {
    char *ca_file;
    unsigned timeout_ms;
    bool direct;
    pthread_mutex_t lock;
    pthread_cond_t freed;
    CURL *kept[AT_ONCE_MAX]; /* under lock, as the counts */
    size_t kept_count, busy;
};

loch_status kms_http_create(const struct kms_http_options *options, struct kms_http **out)
{
    kms_wiped_setup();
    struct kms_http *h = calloc(1, sizeof *h);
    if (h == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for HTTP");
    h->timeout_ms = options->timeout_ms;
    h->direct = options->direct;
    if (options->ca_file != NULL) {
        h->ca_file = strdup(options->ca_file);
        if (h->ca_file == NULL) {
            free(h);
            return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for HTTP");
        }
    }
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    int rc = pthread_mutex_init(&h->lock, NULL);
    LOCH_ASSERT(rc == 0);
    rc = pthread_cond_init(&h->freed, &attr);
    LOCH_ASSERT(rc == 0);
    (void)pthread_condattr_destroy(&attr);
    *out = h;
    return LOCH_OK;
}

void kms_http_destroy(struct kms_http *http)
{
    if (http == NULL)
        return;
    for (size_t i = 0; i < http->kept_count; i++)
        curl_easy_cleanup(http->kept[i]);
    (void)pthread_cond_destroy(&http->freed);
    (void)pthread_mutex_destroy(&http->lock);
    free(http->ca_file);
    free(http);
}

static struct timespec after_ms(unsigned ms)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_nsec -= 1000000000;
        t.tv_sec++;
    }
    return t;
}

/* At least 1: to libcurl 0 is no limit. */
static long ms_until(const struct timespec *t)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    const long ms = (long)(t->tv_sec - now.tv_sec) * 1000 + (t->tv_nsec - now.tv_nsec) / 1000000;
    return ms > 1 ? ms : 1;
}

/* Every handle that was taken is given back, whole or not. */
static loch_status handle_take(struct kms_http *h, const struct timespec *until, CURL **out)
{
    CURL *curl = NULL;
    int rc = 0;

    (void)pthread_mutex_lock(&h->lock);
    while (h->busy >= AT_ONCE_MAX && rc == 0)
        rc = pthread_cond_timedwait(&h->freed, &h->lock, until);
    const bool mine = h->busy < AT_ONCE_MAX;
    h->busy += mine;
    if (mine && h->kept_count > 0)
        curl = h->kept[--h->kept_count];
    (void)pthread_mutex_unlock(&h->lock);
    if (!mine)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                         "the key service does not keep up: %d requests are under way for longer "
                         "than %u ms",
                         AT_ONCE_MAX, h->timeout_ms);
    *out = curl != NULL ? curl : curl_easy_init();
    return LOCH_OK;
}

static void handle_give(struct kms_http *h, CURL *curl)
{
    if (curl != NULL)
        curl_easy_reset(curl); /* connections stay */
    (void)pthread_mutex_lock(&h->lock);
    h->busy--;
    if (curl != NULL)
        h->kept[h->kept_count++] = curl;
    (void)pthread_cond_signal(&h->freed);
    (void)pthread_mutex_unlock(&h->lock);
}

static size_t take_body(char *bytes, size_t size, size_t count, void *arg)
{
    struct kms_http_reply *reply = arg;
    const size_t len = size * count;

    /* Reserved once, so that growing leaves no copies behind. */
    if (reply->body.cap == 0 && !loch_is_ok(loch_buf_reserve(&reply->body, BODY_MAX_BYTES)))
        return 0;
    if (len > BODY_MAX_BYTES - reply->body.len)
        return 0;
    memcpy(reply->body.data + reply->body.len, bytes, len);
    reply->body.len += len;
    return len;
}

static size_t take_header(char *bytes, size_t size, size_t count, void *arg)
{
    struct kms_http_reply *reply = arg;
    const size_t len = size * count;
    char date[64];

    if (len > 6 && len - 6 < sizeof date && strncasecmp(bytes, "Date: ", 6) == 0) {
        memcpy(date, bytes + 6, len - 6);
        date[len - 6] = '\0';
        const time_t t = curl_getdate(date, NULL);
        reply->date = t > 0 ? (int64_t)t : 0;
    }
    return len;
}

static bool set_options(const struct kms_http *h, CURL *curl, const struct kms_http_request *r,
                        struct curl_slist *headers, long left_ms, struct kms_http_reply *reply)
{
    bool ok =
        curl_easy_setopt(curl, CURLOPT_URL, r->url) == CURLE_OK &&
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, r->method) == CURLE_OK &&
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers) == CURLE_OK &&
        curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
        curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
        curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS) == CURLE_OK &&
        curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, left_ms) == CURLE_OK &&
        curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) == CURLE_OK &&
        curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body) == CURLE_OK &&
        curl_easy_setopt(curl, CURLOPT_WRITEDATA, reply) == CURLE_OK &&
        curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header) == CURLE_OK &&
        curl_easy_setopt(curl, CURLOPT_HEADERDATA, reply) == CURLE_OK;

    if (r->body.len > 0 || strcmp(r->method, "POST") == 0)
        ok = ok && curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)r->body.len) == CURLE_OK &&
             curl_easy_setopt(curl, CURLOPT_POSTFIELDS,
                              r->body.len > 0 ? (const char *)r->body.data : "") == CURLE_OK;
    if (h->direct)
        ok = ok && curl_easy_setopt(curl, CURLOPT_NOPROXY, "*") == CURLE_OK;
    if (h->ca_file != NULL)
        ok = ok && curl_easy_setopt(curl, CURLOPT_CAINFO, h->ca_file) == CURLE_OK;
    return ok;
}

static loch_status perform(struct kms_http *h, CURL *curl, const struct kms_http_request *r,
                           const struct timespec *until, struct kms_http_reply *reply)
{
    struct curl_slist *headers = NULL;
    loch_status st = LOCH_OK;
    long status = 0;

    for (size_t i = 0; r->headers[i] != NULL; i++) {
        struct curl_slist *more = curl_slist_append(headers, r->headers[i]);
        if (more == NULL) {
            curl_slist_free_all(headers);
            return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for HTTP");
        }
        headers = more;
    }
    if (!set_options(h, curl, r, headers, ms_until(until), reply)) {
        st = LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for HTTP");
    } else {
        const CURLcode rc = curl_easy_perform(curl);
        if (rc != CURLE_OK)
            st = LOCH_FAIL(LOCH_E_UNAVAILABLE, "%s: %s", r->url, curl_easy_strerror(rc));
        else
            (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    }
    curl_slist_free_all(headers);
    reply->status = (unsigned)status;
    return st;
}

loch_status kms_http_do(struct kms_http *http, const struct kms_http_request *request,
                        struct kms_http_reply *out)
{
    const struct timespec until = after_ms(http->timeout_ms);
    struct kms_http_reply reply = {0};
    CURL *curl = NULL;

    LOCH_TRY(handle_take(http, &until, &curl));
    const loch_status st = curl != NULL ? perform(http, curl, request, &until, &reply)
                                        : LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for HTTP");
    handle_give(http, curl);
    if (!loch_is_ok(st)) {
        kms_http_reply_fini(&reply);
        return st;
    }
    *out = reply;
    return LOCH_OK;
}

void kms_http_reply_fini(struct kms_http_reply *reply)
{
    kms_wiped_buf_fini(&reply->body);
}

loch_status kms_http_check_url(const char *url)
{
    static const char *const local[] = {"http://127.0.0.1", "http://localhost", "http://[::1]"};

    if (strncmp(url, "https://", 8) == 0 && url[8] != '\0')
        return LOCH_OK;
    for (size_t i = 0; i < sizeof local / sizeof *local; i++) {
        const size_t n = strlen(local[i]);
        if (strncmp(url, local[i], n) == 0 && (url[n] == ':' || url[n] == '/' || url[n] == '\0'))
            return LOCH_OK;
    }
    return LOCH_FAIL(
        LOCH_E_INVALID,
        "the key service's address \"%s\" is not https:// (http:// is for this machine "
        "itself only)",
        url);
}
