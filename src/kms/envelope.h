/* What Loch puts around the blob of a key service that is not our own code. */
#ifndef LOCH_KMS_ENVELOPE_H
#define LOCH_KMS_ENVELOPE_H

#include "loch/base/buf.h"
#include "loch/base/secret.h"

#define KMS_KEK_BYTES 32u

/* Appends the envelope of `inner` to *out. LOCH_E_INVALID: not a KEK; LOCH_E_LIMIT: too long. */
LOCH_STATUS kms_envelope_write(uint8_t provider, struct loch_slice context,
                               const struct loch_secret *key, struct loch_slice inner,
                               struct loch_buf *out);
/* LOCH_E_CORRUPT unless it is an undamaged envelope of this provider. *inner borrows from blob. */
LOCH_STATUS kms_envelope_read(uint8_t provider, struct loch_slice blob, struct loch_slice *inner);
/* LOCH_E_CORRUPT when `key` is not the one that was wrapped: the service answered wrongly. */
LOCH_STATUS kms_envelope_prove(struct loch_slice blob, struct loch_slice context,
                               const struct loch_secret *key);

#endif
