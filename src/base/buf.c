/* Holds: growing buffers and bounded little-endian cursors. */
#include "loch/base/buf.h"
#include "loch/base/check.h"
#include "loch/base/large.h"

#include <stdlib.h>
#include <string.h>

void loch_buf_fini(struct loch_buf *buf)
{
    free(buf->data);
    *buf = (struct loch_buf){0};
}

loch_status loch_buf_reserve(struct loch_buf *buf, size_t extra)
{
    size_t want;
    size_t cap = buf->cap < 64 ? 64 : buf->cap;

    if (!loch_add_size(buf->len, extra, &want))
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "buffer of %zu bytes cannot grow by %zu", buf->len,
                         extra);
    if (want <= buf->cap)
        return LOCH_OK;
    while (cap < want)
        cap = cap > SIZE_MAX / 2 ? want : cap * 2;
    uint8_t *data = realloc(buf->data, cap);
    if (data == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a buffer of %zu bytes", cap);
    buf->data = data;
    buf->cap = cap;
    loch_large_pages(data, cap);
    return LOCH_OK;
}

loch_status loch_buf_append(struct loch_buf *buf, const void *bytes, size_t len)
{
    LOCH_TRY(loch_buf_reserve(buf, len));
    if (len > 0)
        memcpy(buf->data + buf->len, bytes, len);
    buf->len += len;
    return LOCH_OK;
}

void loch_buf_consume(struct loch_buf *buf, size_t n)
{
    LOCH_ASSERT(n <= buf->len);
    buf->len -= n;
    if (buf->len > 0 && n > 0)
        memmove(buf->data, buf->data + n, buf->len);
}

struct loch_id loch_read_id(struct loch_reader *r)
{
    struct loch_id id;
    loch_read_into(r, id.bytes, sizeof id.bytes);
    return id;
}

struct loch_slice loch_read_bytes(struct loch_reader *r, size_t n)
{
    const uint8_t *p = loch_reader_take(r, n);
    return p ? loch_slice_of(p, n) : loch_slice_of(NULL, 0);
}

void loch_read_into(struct loch_reader *r, void *out, size_t n)
{
    const uint8_t *p = loch_reader_take(r, n);
    if (n == 0)
        return;
    if (p)
        memcpy(out, p, n);
    else
        memset(out, 0, n);
}

struct loch_slice loch_read_lp(struct loch_reader *r, size_t max)
{
    uint32_t n = loch_read_u32(r);
    if (n > max)
        r->bad = true;
    return loch_read_bytes(r, n);
}

loch_status loch_reader_finish(const struct loch_reader *r, const char *what)
{
    if (r->bad)
        return LOCH_FAIL(LOCH_E_CORRUPT, "%s ends too early or has an absurd length", what);
    if (r->at != r->end)
        return LOCH_FAIL(LOCH_E_CORRUPT, "%s has %zu bytes too many", what, loch_reader_left(r));
    return LOCH_OK;
}

void loch_writer_init(struct loch_writer *w, struct loch_buf *buf)
{
    w->buf = buf;
    w->bad = false;
}

/* Room for n more bytes, or NULL: none wanted, or none to be had (then the writer is bad). */
static uint8_t *grow(struct loch_writer *w, size_t n)
{
    if (n == 0)
        return NULL;
    if (w->bad || !loch_is_ok(loch_buf_reserve(w->buf, n))) {
        w->bad = true;
        return NULL;
    }
    uint8_t *p = w->buf->data + w->buf->len;
    w->buf->len += n;
    return p;
}

void loch_write_u8(struct loch_writer *w, uint8_t v)
{
    uint8_t *p = grow(w, 1);
    if (p)
        p[0] = v;
}

void loch_write_u16(struct loch_writer *w, uint16_t v)
{
    uint8_t *p = grow(w, 2);
    if (p)
        loch_put_u16(p, v);
}

void loch_write_u32(struct loch_writer *w, uint32_t v)
{
    uint8_t *p = grow(w, 4);
    if (p)
        loch_put_u32(p, v);
}

void loch_write_u64(struct loch_writer *w, uint64_t v)
{
    uint8_t *p = grow(w, 8);
    if (p)
        loch_put_u64(p, v);
}

void loch_write_id(struct loch_writer *w, const struct loch_id *id)
{
    loch_write_bytes(w, id->bytes, sizeof id->bytes);
}

void loch_write_bytes(struct loch_writer *w, const void *bytes, size_t len)
{
    uint8_t *p = grow(w, len);
    if (p && len > 0)
        memcpy(p, bytes, len);
}

void loch_write_zeros(struct loch_writer *w, size_t len)
{
    uint8_t *p = grow(w, len);
    if (p && len > 0)
        memset(p, 0, len);
}

void loch_write_lp(struct loch_writer *w, struct loch_slice bytes)
{
    LOCH_ASSERT(bytes.len <= UINT32_MAX);
    loch_write_u32(w, (uint32_t)bytes.len);
    loch_write_bytes(w, bytes.data, bytes.len);
}

loch_status loch_writer_finish(const struct loch_writer *w)
{
    if (w->bad)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory while encoding a message");
    return LOCH_OK;
}
