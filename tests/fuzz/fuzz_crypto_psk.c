/* Connection identities: what decodes must encode to the same bytes. */
#include "fuzz.h"

#include "loch/base/check.h"
#include "loch/crypto/psk.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct loch_psk_identity id;
    struct loch_buf back = {0};

    if (!loch_is_ok(loch_psk_identity_decode(loch_slice_of(data, size), &id)))
        return 0;
    const loch_status st = loch_psk_identity_encode(&id, &back);
    LOCH_ASSERT(loch_is_ok(st));
    LOCH_ASSERT(back.len == size);
    LOCH_ASSERT(memcmp(back.data, data, size) == 0);
    loch_buf_fini(&back);
    return 0;
}
