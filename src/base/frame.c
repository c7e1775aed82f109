/* Holds: length-prefixed frames. */
#include "loch/base/frame.h"
#include "loch/base/check.h"

size_t loch_frame_begin(struct loch_writer *w, uint8_t type)
{
    size_t mark = w->buf->len;

    loch_write_u32(w, 0);
    loch_write_u8(w, type);
    return mark;
}

void loch_frame_end(struct loch_writer *w, size_t mark)
{
    if (w->bad)
        return;
    size_t len = w->buf->len - mark - 4;
    LOCH_ASSERT(len >= 1);
    LOCH_ASSERT(len <= LOCH_FRAME_MAX_BYTES);
    loch_put_u32(w->buf->data + mark, (uint32_t)len);
}

loch_status loch_frame_next(struct loch_slice bytes, bool *found, uint8_t *type,
                            struct loch_slice *payload, size_t *consumed)
{
    *found = false;
    if (bytes.len < LOCH_FRAME_HEADER_BYTES)
        return LOCH_OK;
    uint32_t len = loch_get_u32(bytes.data);
    if (len == 0 || len > LOCH_FRAME_MAX_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "frame of %u bytes (1 to %u are allowed)", len,
                         LOCH_FRAME_MAX_BYTES);
    if (bytes.len < 4 + (size_t)len)
        return LOCH_OK;
    *found = true;
    *type = bytes.data[4];
    *payload = loch_slice_of(bytes.data + LOCH_FRAME_HEADER_BYTES, len - 1);
    *consumed = 4 + (size_t)len;
    return LOCH_OK;
}
