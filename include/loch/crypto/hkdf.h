/* Hashes, HMAC and HKDF (RFC 5869) over SHA-256 and SHA-384. Safe from any thread. */
#ifndef LOCH_CRYPTO_HKDF_H
#define LOCH_CRYPTO_HKDF_H

#include "loch/base/buf.h"
#include "loch/base/secret.h"

#define LOCH_SHA256_BYTES 32u
#define LOCH_SHA384_BYTES 48u

enum loch_hash { LOCH_HASH_SHA256 = 1, LOCH_HASH_SHA384 = 2 };

/* SHA-256 of the parts, one after the other. LOCH_E_NO_MEMORY. */
LOCH_STATUS loch_sha256(const struct loch_slice *parts, size_t count,
                        uint8_t out[static LOCH_SHA256_BYTES]);
LOCH_STATUS loch_hmac_sha256(const struct loch_secret *key, struct loch_slice message,
                             uint8_t out[static LOCH_SHA256_BYTES]);
/* Extract and expand into a fresh secret of `len` (1..LOCH_SECRET_MAX_BYTES) bytes. */
LOCH_STATUS loch_hkdf(enum loch_hash hash, const struct loch_secret *ikm, struct loch_slice salt,
                      struct loch_slice info, size_t len, struct loch_secret *out);
/* Constant-time; true when equal. */
bool loch_bytes_equal(const void *a, const void *b, size_t len);

#endif
