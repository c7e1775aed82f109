/* The daemon's own AWS credentials: environment, shared file or instance metadata (IMDSv2). */
#ifndef LOCH_KMS_AWS_CREDENTIALS_H
#define LOCH_KMS_AWS_CREDENTIALS_H

#include "loch/base/secret.h"

#include <stdint.h>

/* Owned by whoever got it. */
struct aws_credentials {
    char access_key[130];
    struct loch_secret secret_key;
    char *session_token; /* NULL: long-lived credentials; wiped when freed */
};

void aws_credentials_fini(struct aws_credentials *c);

struct aws_source; /* caches; any thread */

/* `kind`: "environment", "file", "metadata", or "" for the first of these that has some. `profile`:
 * of the shared file; "" for $AWS_PROFILE or "default". LOCH_E_INVALID: kind. */
LOCH_STATUS aws_source_create(const char *kind, const char *profile, struct aws_source **out);
void aws_source_destroy(struct aws_source *source); /* takes NULL */
/* LOCH_E_UNAVAILABLE: there are none to be had. */
LOCH_STATUS aws_source_get(struct aws_source *source, struct aws_credentials *out);
/* The service called them expired or unknown: the next get asks anew. */
void aws_source_forget(struct aws_source *source);

#endif
