/* HTTP requests to a key service: blocking, bounded in time and size. Any thread. */
#ifndef LOCH_KMS_HTTP_H
#define LOCH_KMS_HTTP_H

#include "loch/base/buf.h"

struct kms_http;

struct kms_http_options {
    const char *ca_file; /* copied; NULL: the system's */
    unsigned timeout_ms; /* of a whole request, the wait for its turn included */
    bool direct;         /* no proxy, whatever the environment says */
};

struct kms_http_request {
    const char *method, *url;
    const char *const *headers; /* "Name: value", NULL-ended */
    struct loch_slice body;
};

struct kms_http_reply {
    unsigned status;
    int64_t date; /* of the Date header, seconds since 1970; 0: none */
    struct loch_buf body;
};

LOCH_STATUS kms_http_create(const struct kms_http_options *options, struct kms_http **out);
void kms_http_destroy(struct kms_http *http); /* takes NULL; no request may be running */
/* Ok for every status. LOCH_E_UNAVAILABLE: no whole answer. The body is wiped with
 * kms_http_reply_fini. Redirects are not followed. */
LOCH_STATUS kms_http_do(struct kms_http *http, const struct kms_http_request *request,
                        struct kms_http_reply *out);
void kms_http_reply_fini(struct kms_http_reply *reply);

/* https, or http to this machine itself: plaintext keys do not travel in the clear. LOCH_E_INVALID.
 */
LOCH_STATUS kms_http_check_url(const char *url);

#endif
