/* Holds: the codec of the page key's frame. */
#include "loch/crypto/page_key.h"

#include "loch/base/buf.h"
#include "loch/base/check.h"

#include <string.h>

#define IDENTITY_AT 2u
#define PSK_AT      (IDENTITY_AT + LOCH_PSK_IDENTITY_MAX_BYTES)

void loch_page_key_encode(struct loch_slice identity, const struct loch_secret *psk,
                          uint8_t frame[static LOCH_PAGE_KEY_BYTES])
{
    LOCH_ASSERT(identity.len > 0 && identity.len <= LOCH_PSK_IDENTITY_MAX_BYTES);
    LOCH_ASSERT(psk->len == LOCH_PSK_BYTES);
    memset(frame, 0, LOCH_PAGE_KEY_BYTES);
    loch_put_u16(frame, (uint16_t)identity.len);
    memcpy(frame + IDENTITY_AT, identity.data, identity.len);
    memcpy(frame + PSK_AT, psk->bytes, LOCH_PSK_BYTES);
}

loch_status loch_page_key_decode(const uint8_t frame[static LOCH_PAGE_KEY_BYTES],
                                 struct loch_slice *identity, struct loch_slice *psk)
{
    const uint16_t len = loch_get_u16(frame);

    if (len == 0 || len > LOCH_PSK_IDENTITY_MAX_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a page key with an identity of %u bytes", len);
    *identity = loch_slice_of(frame + IDENTITY_AT, len);
    *psk = loch_slice_of(frame + PSK_AT, LOCH_PSK_BYTES);
    return LOCH_OK;
}
