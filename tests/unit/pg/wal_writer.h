/* Test helper: writes WAL as PostgreSQL lays it out, into memory. */
#ifndef LOCH_TESTS_PG_WAL_WRITER_H
#define LOCH_TESTS_PG_WAL_WRITER_H

#include "loch/base/buf.h"
#include "loch/base/crc32c.h"
#include "loch/base/types.h"
#include "loch/pg/wal_scan.h"

#define WRITER_SEGMENT     (1u << 20)
#define WRITER_MAX_RECORDS 4096u

struct wal_writer {
    loch_lsn begin; /* LSN of bytes.data[0] */
    loch_lsn at;    /* next byte */
    loch_lsn prev;  /* start of the last record */
    struct loch_buf bytes;
    size_t count;
    loch_lsn starts[WRITER_MAX_RECORDS], ends[WRITER_MAX_RECORDS];
    uint32_t lens[WRITER_MAX_RECORDS];
};

static void writer_put(struct wal_writer *w, const void *bytes, size_t len)
{
    assert_ok(loch_buf_append(&w->bytes, bytes, len));
    w->at += len;
}

static void writer_header(struct wal_writer *w, uint16_t info, uint32_t rem)
{
    uint8_t h[40] = {0};
    bool is_long = w->at % WRITER_SEGMENT == 0;

    loch_put_u16(h, 0xD110);
    loch_put_u16(h + 2, (uint16_t)(info | (is_long ? 2u : 0u)));
    loch_put_u32(h + 4, 1);
    loch_put_u64(h + 8, w->at);
    loch_put_u32(h + 16, rem);
    loch_put_u64(h + 24, 4711);
    loch_put_u32(h + 32, WRITER_SEGMENT);
    loch_put_u32(h + 36, 8192);
    writer_put(w, h, is_long ? 40 : 24);
}

static void writer_init(struct wal_writer *w, loch_lsn at, loch_lsn prev)
{
    memset(w, 0, sizeof *w);
    w->begin = w->at = at;
    w->prev = prev;
}

/* One record with `len` bytes in all, a body of a pattern. */
static void writer_record(struct wal_writer *w, uint8_t rmid, uint8_t info, uint32_t xid,
                          uint32_t len, const uint8_t *body)
{
    uint8_t *r = calloc(1, len);
    uint32_t put = 0;

    loch_put_u32(r, len);
    loch_put_u32(r + 4, xid);
    loch_put_u64(r + 8, w->prev);
    r[16] = info;
    r[17] = rmid;
    for (uint32_t i = 24; i < len; i++)
        r[i] = body != NULL ? body[i - 24] : (uint8_t)(i * 7 + xid);
    uint32_t crc = loch_crc32c_update(LOCH_CRC32C_INIT, r + 24, len - 24);
    loch_put_u32(r + 20, loch_crc32c_finish(loch_crc32c_update(crc, r, 20)));
    if (w->at % 8192 == 0)
        writer_header(w, 0, 0);
    w->prev = w->at;
    w->starts[w->count] = w->at;
    w->lens[w->count] = len;
    while (put < len) {
        uint32_t room, n;
        if (w->at % 8192 == 0)
            writer_header(w, 1, len - put);
        room = 8192 - (uint32_t)(w->at % 8192);
        n = len - put < room ? len - put : room;
        writer_put(w, r + put, n);
        put += n;
    }
    while (w->at % 8 != 0)
        writer_put(w, "", 1);
    if (rmid == 0 && (info & 0xF0) == 0x40)
        while (w->at % WRITER_SEGMENT != 0) {
            if (w->at % 8192 == 0)
                writer_header(w, 0, 0);
            else
                writer_put(w, "", 1);
        }
    w->ends[w->count++] = w->at;
    free(r);
}

static void writer_fini(struct wal_writer *w)
{
    loch_buf_fini(&w->bytes);
}

#endif
