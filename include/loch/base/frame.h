/* Frames on a byte stream: u32 length (little-endian, of what follows), u8 type, payload.
 * Twin: docs/protocol/wire.md. */
#ifndef LOCH_BASE_FRAME_H
#define LOCH_BASE_FRAME_H

#include "loch/base/buf.h"

#define LOCH_FRAME_HEADER_BYTES 5u
/* Largest length field accepted (type byte and payload). */
#define LOCH_FRAME_MAX_BYTES (2u << 20)

/* Begins a frame at the end of w->buf; returns the mark that loch_frame_end wants. */
size_t loch_frame_begin(struct loch_writer *w, uint8_t type);
void loch_frame_end(struct loch_writer *w, size_t mark);

/* Looks for one whole frame at the start of `bytes`. Not found (more bytes are needed): *found
 * false. LOCH_E_CORRUPT for a length of 0 or above the maximum. */
LOCH_STATUS loch_frame_next(struct loch_slice bytes, bool *found, uint8_t *type,
                            struct loch_slice *payload, size_t *consumed);

#endif
