/* Makes valid PostgreSQL 15 WAL out of nothing: XLOG_NOOP records with CRC, prev links and page
 * headers, for tests of the safekeeper and for its synthetic proposer. The payload of record n is a
 * function of (seed, n), so that a reader can tell whose bytes it holds.
 */
#ifndef LOCH_TESTS_WAL_GEN_H
#define LOCH_TESTS_WAL_GEN_H

#include "loch/base/buf.h"
#include "loch/base/crc32c.h"
#include "loch/base/types.h"

#include <stdlib.h>

#define WAL_GEN_SEGMENT_BYTES (16u << 20)

struct wal_gen {
    loch_lsn lsn;  /* where the next byte goes */
    loch_lsn prev; /* start of the last record */
    uint64_t system_id;
    uint64_t seed;
    uint64_t count;
};

static inline void wal_gen_init(struct wal_gen *g, loch_lsn lsn, loch_lsn prev, uint64_t system_id,
                                uint64_t seed)
{
    *g = (struct wal_gen){.lsn = lsn, .prev = prev, .system_id = system_id, .seed = seed};
}

static inline void wal_gen_put(struct loch_buf *out, const void *bytes, size_t len)
{
    if (!loch_is_ok(loch_buf_append(out, bytes, len)))
        abort();
}

/* Appends `len` bytes of a record of which `left` remain, with page headers where pages begin. */
static inline void wal_gen_bytes(struct wal_gen *g, struct loch_buf *out, const uint8_t *bytes,
                                 size_t len)
{
    size_t done = 0;

    while (done < len) {
        if (g->lsn % LOCH_PAGE_BYTES == 0) {
            uint8_t head[40] = {0};
            bool first = g->lsn % WAL_GEN_SEGMENT_BYTES == 0;
            size_t head_bytes = first ? 40 : 24;

            loch_put_u16(head, 0xD110);
            loch_put_u16(head + 2, (uint16_t)((first ? 2 : 0) | (done > 0 ? 1 : 0)));
            loch_put_u32(head + 4, 1);
            loch_put_u64(head + 8, g->lsn);
            loch_put_u32(head + 16, done > 0 ? (uint32_t)(len - done) : 0);
            if (first) {
                loch_put_u64(head + 24, g->system_id);
                loch_put_u32(head + 32, WAL_GEN_SEGMENT_BYTES);
                loch_put_u32(head + 36, LOCH_PAGE_BYTES);
            }
            wal_gen_put(out, head, head_bytes);
            g->lsn += head_bytes;
        }
        size_t room = LOCH_PAGE_BYTES - (size_t)(g->lsn % LOCH_PAGE_BYTES);
        size_t take = len - done < room ? len - done : room;
        wal_gen_put(out, bytes + done, take);
        g->lsn += take;
        done += take;
    }
}

/* One record with `payload` (1..8 MiB) bytes of main data, aligned; returns its end. */
static inline loch_lsn wal_gen_record(struct wal_gen *g, struct loch_buf *out, uint32_t payload)
{
    size_t prefix = payload < 256 ? 2 : 5;
    size_t total = 24 + prefix + payload;
    uint8_t *rec = calloc(1, total + 8);
    uint64_t x = g->seed * UINT64_C(0x9E3779B97F4A7C15) + g->count + 1;
    uint8_t pad[8] = {0};

    if (rec == NULL)
        abort();
    loch_put_u32(rec, (uint32_t)total);
    loch_put_u64(rec + 8, g->prev);
    rec[16] = 0x20; /* XLOG_NOOP of resource manager 0 */
    if (prefix == 2) {
        rec[24] = 0xFF;
        rec[25] = (uint8_t)payload;
    } else {
        rec[24] = 0xFE;
        loch_put_u32(rec + 25, payload);
    }
    for (size_t i = 0; i < payload; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        rec[24 + prefix + i] = (uint8_t)x;
    }
    uint32_t crc = loch_crc32c_update(LOCH_CRC32C_INIT, rec + 24, total - 24);
    loch_put_u32(rec + 20, loch_crc32c_finish(loch_crc32c_update(crc, rec, 20)));
    /* A record starts after the header of its page. */
    loch_lsn start = g->lsn;
    if (start % LOCH_PAGE_BYTES == 0)
        start += start % WAL_GEN_SEGMENT_BYTES == 0 ? 40 : 24;
    wal_gen_bytes(g, out, rec, total);
    free(rec);
    if (g->lsn % 8 != 0) {
        size_t fill = (size_t)(8 - g->lsn % 8);
        wal_gen_put(out, pad, fill);
        g->lsn += fill;
    }
    g->prev = start;
    g->count++;
    return g->lsn;
}

#endif
