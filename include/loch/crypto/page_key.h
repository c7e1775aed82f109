/* The key to the pageserver, as the agent hands it to its server over a pipe: at the start, and
 * again when the wire epoch has moved on. A frame of a fixed size, so that one read takes one
 * frame.
 */
#ifndef LOCH_CRYPTO_PAGE_KEY_H
#define LOCH_CRYPTO_PAGE_KEY_H

#include "loch/base/secret.h"
#include "loch/crypto/tls.h"

/* u16 length of the identity, the identity padded with zeros, the PSK. */
#define LOCH_PAGE_KEY_BYTES (2u + LOCH_PSK_IDENTITY_MAX_BYTES + LOCH_PSK_BYTES)

/* The identity has 1 to LOCH_PSK_IDENTITY_MAX_BYTES bytes, the PSK LOCH_PSK_BYTES. The caller wipes
 * the frame. */
void loch_page_key_encode(struct loch_slice identity, const struct loch_secret *psk,
                          uint8_t frame[static LOCH_PAGE_KEY_BYTES]);
/* Both borrow the frame. LOCH_E_CORRUPT. */
LOCH_STATUS loch_page_key_decode(const uint8_t frame[static LOCH_PAGE_KEY_BYTES],
                                 struct loch_slice *identity, struct loch_slice *psk);

#endif
