/* Peers that a daemon's listener refused, in its audit log: one record a minute of each kind at
 * most, however many come, and one more at the daemon's end. Loop's thread.
 */
#ifndef LOCH_HOST_REFUSED_H
#define LOCH_HOST_REFUSED_H

#include "loch/base/status.h"
#include "loch/base/types.h"

struct loch_audit;
struct loch_env;
struct loch_refused;

enum loch_refused_kind {
    LOCH_REFUSED_HANDSHAKE, /* proved no key of ours */
    LOCH_REFUSED_MESSAGE,   /* proved one, but sends what is no message */
    LOCH_REFUSED_RIGHT,     /* wants what its key is not for: another tenant or timeline, a right */
    LOCH_REFUSED_STALE      /* its epoch, term or membership is over */
};

/* Hears of handshakes and messages from `env` by itself (loch_env_on_refused). Both are borrowed.
 * LOCH_E_NO_MEMORY. */
LOCH_STATUS loch_refused_create(struct loch_env *env, struct loch_audit *audit,
                                struct loch_refused **out);
/* Writes what was counted and is not in the log yet. Before the audit log is closed; takes NULL. */
void loch_refused_destroy(struct loch_refused *refused);
/* One more. `tenant`: as proven; NULL: nothing is. `peer`: who; only its first 79 bytes are kept.
 * `refused` NULL: nothing. */
void loch_refused_note(struct loch_refused *refused, enum loch_refused_kind kind,
                       const struct loch_id *tenant, const char *peer);
/* The same for a connection whose identity is proven and that is answered with `code`:
 * LOCH_E_DENIED, LOCH_E_STALE; with another code nothing is noted. */
void loch_refused_code(struct loch_refused *refused, enum loch_code code,
                       const struct loch_id *tenant, const struct loch_id *client);

#endif
