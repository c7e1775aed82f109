/* Sealed objects: small files and objects that are always written whole (control file, manifests).
 *
 * Every write takes a fresh DEK; the whole object is one AEAD message, bound to its place. An old
 * but once valid object opens: who needs more compares the generation with what a witness
 * remembers. Format: docs/format/sealed-object.md. Any thread.
 */
#ifndef LOCH_FORMAT_SEALED_OBJECT_H
#define LOCH_FORMAT_SEALED_OBJECT_H

#include "loch/crypto/wrap.h"
#include "loch/format/place.h"

#define LOCH_SEALED_OBJECT_MAX_BYTES (64u << 20)

/* Appends the sealed object to *out. place->generation is what a reader gets back. The size is
 * padded to a multiple of 512 bytes when `pad`. LOCH_E_LIMIT above LOCH_SEALED_OBJECT_MAX_BYTES. */
LOCH_STATUS loch_sealed_object_seal(const struct loch_place *place, const struct loch_wrap_key *key,
                                    struct loch_slice plain, bool pad, struct loch_buf *out);
/* Appends the plaintext to *plain and sets *generation, which is authenticated but NOT compared
 * with expected->generation (that is the caller's: it knows what it has seen before).
 * LOCH_E_CORRUPT: damaged, or belongs elsewhere; LOCH_E_UNSUPPORTED: a newer format;
 * LOCH_E_NOT_FOUND, LOCH_E_DENIED: from the key source. */
LOCH_STATUS loch_sealed_object_open(const struct loch_place *expected,
                                    const struct loch_key_source *keys, struct loch_slice sealed,
                                    struct loch_buf *plain, uint64_t *generation);

#endif
