/* Keys that wrap keys: a DEK is wrapped under a timeline key, bound to its place.
 *
 * wrap key = HKDF-SHA256(TK, salt, "loch dek wrap v1" | place); wrap = AES-256 key wrap (RFC 3394).
 * A wrapped DEK that is moved to another place or opened with another key does not unwrap.
 * Safe from any thread.
 */
#ifndef LOCH_CRYPTO_WRAP_H
#define LOCH_CRYPTO_WRAP_H

#include "loch/base/buf.h"
#include "loch/base/secret.h"
#include "loch/base/types.h"

#define LOCH_DEK_BYTES         32u
#define LOCH_SALT_BYTES        32u
#define LOCH_WRAPPED_DEK_BYTES 40u
#define LOCH_COMMITMENT_BYTES  32u

/* A named version of a key that wraps DEKs. Owns its secret. */
struct loch_wrap_key {
    struct loch_id key_id;
    uint32_t version;
    struct loch_secret secret;
};

void loch_wrap_key_fini(struct loch_wrap_key *key);

LOCH_STATUS loch_dek_wrap(const struct loch_secret *key, struct loch_slice salt,
                          struct loch_slice place, const struct loch_secret *dek,
                          uint8_t out[static LOCH_WRAPPED_DEK_BYTES]);
/* LOCH_E_CORRUPT when key, salt, place or wrap do not belong together. */
LOCH_STATUS loch_dek_unwrap(const struct loch_secret *key, struct loch_slice salt,
                            struct loch_slice place, struct loch_slice wrapped,
                            struct loch_secret *out);
/* What is stored beside a wrapped key so that no other key can be passed off as it:
 * HKDF-SHA256(key, salt, "loch commit v1"). */
LOCH_STATUS loch_key_commitment(const struct loch_secret *key, struct loch_slice salt,
                                uint8_t out[static LOCH_COMMITMENT_BYTES]);

#endif
