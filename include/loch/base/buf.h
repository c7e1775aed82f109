/* Bytes: a slice borrows, a buf owns. Cursors read and write little-endian fields with bounds.
 *
 * A reader that runs past its end becomes `bad`, returns zeros from then on, and is checked once at
 * the end of a message (loch_reader_finish). A writer grows its buf; growth that fails on memory
 * makes it `bad`, checked once (loch_writer_finish).
 */
#ifndef LOCH_BASE_BUF_H
#define LOCH_BASE_BUF_H

#include "loch/base/status.h"
#include "loch/base/types.h"

#include <stddef.h>
#include <stdint.h>

struct loch_slice {
    const uint8_t *data;
    size_t len;
};

/* Owns `data` (malloc). Zero-initialised is empty and valid. */
struct loch_buf {
    uint8_t *data;
    size_t len;
    size_t cap;
};

void loch_buf_fini(struct loch_buf *buf);
/* Makes room for `extra` more bytes beyond len. LOCH_E_NO_MEMORY. */
LOCH_STATUS loch_buf_reserve(struct loch_buf *buf, size_t extra);
LOCH_STATUS loch_buf_append(struct loch_buf *buf, const void *bytes, size_t len);
/* Drops the first n bytes (n <= len), moving the rest to the front. */
void loch_buf_consume(struct loch_buf *buf, size_t n);

static inline struct loch_slice loch_slice_of(const void *data, size_t len)
{
    return (struct loch_slice){data, len};
}

static inline struct loch_slice loch_buf_slice(const struct loch_buf *buf)
{
    return (struct loch_slice){buf->data, buf->len};
}

/* Unaligned little-endian access for fixed layouts (PostgreSQL's own formats on x86-64, our
 * headers). Inline: redo and page reads live on them. */
static inline uint16_t loch_get_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t loch_get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t loch_get_u64(const uint8_t *p)
{
    return (uint64_t)loch_get_u32(p) | (uint64_t)loch_get_u32(p + 4) << 32;
}

static inline void loch_put_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline void loch_put_u32(uint8_t *p, uint32_t v)
{
    loch_put_u16(p, (uint16_t)v);
    loch_put_u16(p + 2, (uint16_t)(v >> 16));
}

static inline void loch_put_u64(uint8_t *p, uint64_t v)
{
    loch_put_u32(p, (uint32_t)v);
    loch_put_u32(p + 4, (uint32_t)(v >> 32));
}

struct loch_reader {
    const uint8_t *at;
    const uint8_t *end;
    bool bad;
};

static inline void loch_reader_init(struct loch_reader *r, struct loch_slice bytes)
{
    r->at = bytes.data;
    r->end = bytes.len > 0 ? bytes.data + bytes.len : bytes.data;
    r->bad = false;
}

static inline size_t loch_reader_left(const struct loch_reader *r)
{
    return (size_t)(r->end - r->at);
}

/* The next n bytes, or NULL (and a bad reader) when there are fewer. */
static inline const uint8_t *loch_reader_take(struct loch_reader *r, size_t n)
{
    if (r->bad || loch_reader_left(r) < n) {
        r->bad = true;
        return NULL;
    }
    const uint8_t *p = r->at;
    if (n > 0)
        r->at += n;
    return p;
}

static inline uint8_t loch_read_u8(struct loch_reader *r)
{
    const uint8_t *p = loch_reader_take(r, 1);
    return p ? p[0] : 0;
}

static inline uint16_t loch_read_u16(struct loch_reader *r)
{
    const uint8_t *p = loch_reader_take(r, 2);
    return (uint16_t)(p ? loch_get_u16(p) : 0);
}

static inline uint32_t loch_read_u32(struct loch_reader *r)
{
    const uint8_t *p = loch_reader_take(r, 4);
    return p ? loch_get_u32(p) : 0;
}

static inline uint64_t loch_read_u64(struct loch_reader *r)
{
    const uint8_t *p = loch_reader_take(r, 8);
    return p ? loch_get_u64(p) : 0;
}

struct loch_id loch_read_id(struct loch_reader *r);
/* Borrows the next n bytes; an empty slice when there are fewer. */
struct loch_slice loch_read_bytes(struct loch_reader *r, size_t n);
/* Copies the next n bytes, or zeros when there are fewer. */
void loch_read_into(struct loch_reader *r, void *out, size_t n);
/* u32 length and that many bytes, at most `max`; more is bad. */
struct loch_slice loch_read_lp(struct loch_reader *r, size_t max);

/* LOCH_E_CORRUPT naming `what` when the reader went bad or bytes are left over. */
LOCH_STATUS loch_reader_finish(const struct loch_reader *r, const char *what);

struct loch_writer {
    struct loch_buf *buf; /* borrowed; bytes are appended */
    bool bad;
};

void loch_writer_init(struct loch_writer *w, struct loch_buf *buf);
void loch_write_u8(struct loch_writer *w, uint8_t v);
void loch_write_u16(struct loch_writer *w, uint16_t v);
void loch_write_u32(struct loch_writer *w, uint32_t v);
void loch_write_u64(struct loch_writer *w, uint64_t v);
void loch_write_id(struct loch_writer *w, const struct loch_id *id);
void loch_write_bytes(struct loch_writer *w, const void *bytes, size_t len);
void loch_write_zeros(struct loch_writer *w, size_t len);
/* u32 length and the bytes. */
void loch_write_lp(struct loch_writer *w, struct loch_slice bytes);
/* LOCH_E_NO_MEMORY when growth failed. */
LOCH_STATUS loch_writer_finish(const struct loch_writer *w);

#endif
