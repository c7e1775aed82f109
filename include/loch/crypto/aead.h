/* AES-256-GCM with a context that keeps its key: no allocation and no key schedule per message.
 *
 * A nonce is (domain, counter), 4 and 8 bytes little-endian. Whoever holds a key guarantees that no
 * pair is ever sealed twice under it: here every key is fresh per file, object write or session.
 * A context is used by one thread at a time.
 */
#ifndef LOCH_CRYPTO_AEAD_H
#define LOCH_CRYPTO_AEAD_H

#include "loch/base/buf.h"
#include "loch/base/secret.h"

#define LOCH_AEAD_KEY_BYTES 32u
#define LOCH_AEAD_TAG_BYTES 16u
/* What files name as their cipher. A build with LOCH_NULL_CIPHER (CMake) encrypts nothing, at rest
 * or on the wire, to measure what the cipher costs; by this id, by its keyrings' magic and by its
 * ALPN it neither opens what others wrote nor talks to them, and they not to it. */
#ifdef LOCH_NULL_CIPHER
#define LOCH_AEAD_ID 255u
#else
#define LOCH_AEAD_ID 1u
#endif

struct loch_aead;

enum loch_aead_use { LOCH_AEAD_SEAL = 1, LOCH_AEAD_OPEN = 2 };

struct loch_nonce {
    uint32_t domain;
    uint64_t counter;
};

/* `key` (LOCH_AEAD_KEY_BYTES) is copied into the context. LOCH_E_INVALID, LOCH_E_NO_MEMORY. */
LOCH_STATUS loch_aead_create(const struct loch_secret *key, enum loch_aead_use use,
                             struct loch_aead **out);
void loch_aead_destroy(struct loch_aead *aead);

/* Writes plain.len bytes of ciphertext and then the tag (LOCH_AEAD_TAG_BYTES) to `out`, which may
 * be plain.data itself. The associated data are the `aad_count` slices one after the other. */
LOCH_STATUS loch_aead_seal(struct loch_aead *aead, struct loch_nonce nonce,
                           const struct loch_slice *aad, size_t aad_count, struct loch_slice plain,
                           uint8_t *out);
/* `sealed` is ciphertext and tag; `out` may be sealed.data itself; writes sealed.len -
 * LOCH_AEAD_TAG_BYTES bytes, which hold nothing (zeros) when it fails. LOCH_E_CORRUPT when the tag
 * does not match or sealed is too short. */
LOCH_STATUS loch_aead_open(struct loch_aead *aead, struct loch_nonce nonce,
                           const struct loch_slice *aad, size_t aad_count, struct loch_slice sealed,
                           uint8_t *out);

/* Keyed contexts for many threads: each borrows one for a call. Lock-free; keeps a few, makes more
 * when they are out. Embedded. */
#define LOCH_AEAD_POOL_KEPT 4u
struct loch_aead_pool {
    struct loch_secret key;
    enum loch_aead_use use;
    _Atomic(struct loch_aead *) kept[LOCH_AEAD_POOL_KEPT];
};

/* Copies the key. Nothing may be borrowed at fini. */
LOCH_STATUS loch_aead_pool_init(struct loch_aead_pool *pool, const struct loch_secret *key,
                                enum loch_aead_use use);
void loch_aead_pool_fini(struct loch_aead_pool *pool);
LOCH_STATUS loch_aead_pool_take(struct loch_aead_pool *pool, struct loch_aead **out);
void loch_aead_pool_give(struct loch_aead_pool *pool, struct loch_aead *take_aead);

#endif
