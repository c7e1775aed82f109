/* The daemon's own Vault token: read from where it stands at every call, renewed before it ends. */
#ifndef LOCH_KMS_VAULT_TOKEN_H
#define LOCH_KMS_VAULT_TOKEN_H

#include "http.h"

#define VAULT_TOKEN_BYTES 2048u

/* What every request needs; borrowed. */
struct vault_server {
    struct kms_http *http;
    const char *base;       /* "https://host:8200" */
    const char *name_space; /* "" for none */
};

struct vault_token;

/* `file`: absolute path; or `variable` of the environment; the other one is "". */
LOCH_STATUS vault_token_create(const struct vault_server *server, const char *file,
                               const char *variable, struct vault_token **out);
void vault_token_destroy(struct vault_token *token); /* takes NULL */
/* Copies the token; the caller wipes it. Renews it when half its time is over. LOCH_E_UNAVAILABLE.
 */
LOCH_STATUS vault_token_get(struct vault_token *token, char out[static VAULT_TOKEN_BYTES]);
/* Does the server know the token? Tells a token that has ended from a policy that says no. */
bool vault_token_is_good(struct vault_token *token);

/* One request. `body` may be NULL. */
LOCH_STATUS vault_request(const struct vault_server *server, const char *token, const char *method,
                          const char *path, const char *body, struct kms_http_reply *out);

#endif
