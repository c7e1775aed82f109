/* Pages on the wire in fewer bytes: one LZ4 block each. It saves the cipher and the kernel, on both
 * ends, more than it costs wherever a page packs well. Twin: docs/protocol/wire.md. */
#ifndef LOCH_WIRE_PACKED_PAGE_H
#define LOCH_WIRE_PACKED_PAGE_H

#include "loch/base/buf.h"
#include "loch/pg/page.h"

/* A page that takes more goes as it is: above three eighths, packing and unpacking cost more than
 * is saved on a fast network. */
#define LOCH_PACKED_PAGE_MAX_BYTES (LOCH_PAGE_BYTES / 8u * 3u)

/* How many bytes at `out` are the page, packed; 0: it does not pay. */
size_t loch_page_pack(const uint8_t page[static LOCH_PAGE_BYTES],
                      uint8_t out[static LOCH_PACKED_PAGE_MAX_BYTES]);
/* LOCH_E_CORRUPT when `packed`, which may be any bytes, is not one page; `out` holds anything then.
 */
LOCH_STATUS loch_page_unpack(struct loch_slice packed, uint8_t out[static LOCH_PAGE_BYTES]);

#endif
