/* Ed25519 (RFC 8032): what a node says, provable to others. Any thread. */
#ifndef LOCH_CRYPTO_SIGN_H
#define LOCH_CRYPTO_SIGN_H

#include "loch/base/buf.h"
#include "loch/base/secret.h"

#define LOCH_SIGN_SEED_BYTES   32u
#define LOCH_SIGN_PUBLIC_BYTES 32u
#define LOCH_SIGNATURE_BYTES   64u

struct loch_sign_key;

/* The seed is the private key; the caller keeps and wipes its own. LOCH_E_INVALID: its length. */
LOCH_STATUS loch_sign_key_create(const struct loch_secret *seed, struct loch_sign_key **out);
/* Takes NULL. */
void loch_sign_key_destroy(struct loch_sign_key *key);
void loch_sign_public(const struct loch_sign_key *key, uint8_t out[static LOCH_SIGN_PUBLIC_BYTES]);
LOCH_STATUS loch_sign(const struct loch_sign_key *key, struct loch_slice message,
                      uint8_t out[static LOCH_SIGNATURE_BYTES]);
/* LOCH_E_CORRUPT when message, signature and public key do not belong together. */
LOCH_STATUS loch_sign_verify(const uint8_t public_key[static LOCH_SIGN_PUBLIC_BYTES],
                             struct loch_slice message,
                             const uint8_t signature[static LOCH_SIGNATURE_BYTES]);

#endif
