/* AWS Signature Version 4: the Authorization header of a request. Pure; any thread. */
#ifndef LOCH_CRYPTO_SIGV4_H
#define LOCH_CRYPTO_SIGV4_H

#include "loch/base/buf.h"
#include "loch/base/secret.h"

#define LOCH_SIGV4_TIME_BYTES 17u /* "20150830T123600Z" and NUL */

struct loch_sigv4_header {
    const char *name;  /* lower case */
    const char *value; /* without spaces around it */
};

struct loch_sigv4_request {
    const char *method;
    const char *path;  /* encoded as it is sent, "/" at least */
    const char *query; /* canonical: encoded, sorted, without '?'; "" for none */
    const struct loch_sigv4_header *headers; /* what is signed, sorted by name; host among them */
    size_t header_count;
    struct loch_slice payload;
    const char *time; /* as in the header x-amz-date */
    const char *region, *service;
    const char *access_key;
    const struct loch_secret *secret_key; /* at most 60 bytes */
};

/* Seconds since 1970 as x-amz-date wants them. */
void loch_sigv4_time(int64_t seconds, char out[static LOCH_SIGV4_TIME_BYTES]);
/* Appends the header's value and a NUL to *out. LOCH_E_INVALID, LOCH_E_NO_MEMORY. */
LOCH_STATUS loch_sigv4_authorization(const struct loch_sigv4_request *request,
                                     struct loch_buf *out);

#endif
