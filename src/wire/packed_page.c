/* Holds: packing and unpacking of one page. The library's state is on the stack and holds
 * positions, no bytes of the page. */
#include "loch/wire/packed_page.h"

#include <limits.h>
#include <lz4.h>

size_t loch_page_pack(const uint8_t page[static LOCH_PAGE_BYTES],
                      uint8_t out[static LOCH_PACKED_PAGE_MAX_BYTES])
{
    const int n = LZ4_compress_default((const char *)page, (char *)out, LOCH_PAGE_BYTES,
                                       LOCH_PACKED_PAGE_MAX_BYTES);
    return n > 0 ? (size_t)n : 0;
}

loch_status loch_page_unpack(struct loch_slice packed, uint8_t out[static LOCH_PAGE_BYTES])
{
    if (packed.len > INT_MAX ||
        LZ4_decompress_safe((const char *)packed.data, (char *)out, (int)packed.len,
                            LOCH_PAGE_BYTES) != (int)LOCH_PAGE_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a packed page of %zu bytes is damaged", packed.len);
    return LOCH_OK;
}
