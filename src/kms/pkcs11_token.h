/* A token of a PKCS#11 module: loading, login, sessions, and what the module's answers mean. */
#ifndef LOCH_KMS_PKCS11_TOKEN_H
#define LOCH_KMS_PKCS11_TOKEN_H

#include "loch/base/secret.h"
#include "loch/base/status.h"

#include <p11-kit/pkcs11.h>

#include <stdint.h>

struct p11_config {
    char token[33], serial[17];
    char object[256];
    char id[256];
    size_t id_len;
    char type[32];
    char module[1024];
    char pin_source[1024]; /* file:/path or env:NAME */
};

struct p11_token;

/* Copies the config; touches nothing yet. */
LOCH_STATUS p11_token_create(const struct p11_config *config, struct p11_token **out);
void p11_token_destroy(struct p11_token *token); /* takes NULL */

/* A session of a call: loads, finds the token and logs in where that has not been done.
 * LOCH_E_UNAVAILABLE. Leave with p11_leave: until then the module stays as it is. */
struct p11_session {
    struct p11_token *token;
    struct module *module;
    CK_FUNCTION_LIST *f;
    CK_SESSION_HANDLE handle;
    CK_SLOT_ID slot;
    uint64_t generation; /* of the login */
};
LOCH_STATUS p11_enter(struct p11_token *token, struct p11_session *out);
void p11_leave(struct p11_session *session);
/* The login of that session is lost: the next p11_enter makes a new one. */
void p11_forget(const struct p11_session *session);
/* Is the session's user still logged in? A key that is private is invisible otherwise. */
bool p11_logged_in(const struct p11_session *session);

/* True for answers that a new login may mend. */
bool p11_is_lost(CK_RV rv);
/* DENIED, UNAVAILABLE, CORRUPT or INVALID, with the answer's name in the text. */
LOCH_STATUS p11_fail(CK_RV rv, const char *what);

#endif
