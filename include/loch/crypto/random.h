/* Random bytes for keys, salts, nonces and ids: the operating system's generator through OpenSSL's.
 *
 * Tests of golden files replace the generator by a deterministic one; production code never does.
 * Safe from any thread, except the override.
 */
#ifndef LOCH_CRYPTO_RANDOM_H
#define LOCH_CRYPTO_RANDOM_H

#include "loch/base/secret.h"
#include "loch/base/status.h"
#include "loch/base/types.h"

#include <stddef.h>
#include <stdint.h>

/* LOCH_E_UNAVAILABLE when the generator fails: then nothing may be sealed. */
LOCH_STATUS loch_random_bytes(void *out, size_t len);
/* A fresh random id, never "none". */
LOCH_STATUS loch_random_id(struct loch_id *out);
/* A fresh secret of `len` (1..LOCH_SECRET_MAX_BYTES) bytes, owned by the caller. */
LOCH_STATUS loch_random_secret(struct loch_secret *out, size_t len);

/* For golden tests only: from now on bytes follow from `seed` alone. 0 returns to the real
 * generator. The process must be single-threaded. */
void loch_random_test_seed(uint64_t seed);

#endif
