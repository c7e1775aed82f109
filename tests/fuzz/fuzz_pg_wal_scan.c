/* The scanner on any bytes, in any chunks: never an overrun, position never behind the last
 * boundary, and both modes find the same boundaries, whatever the chunking. Input: byte 0 chunk
 * size, byte 1 where in the page and segment the stream begins, the rest the stream. A stream that
 * begins with 'R' has its CRCs, lengths' back links and page headers put right first, so that the
 * inner states are reached. */
#include "fuzz.h"

#include "loch/base/check.h"
#include "loch/base/crc32c.h"
#include "loch/pg/wal_record.h"
#include "loch/pg/wal_scan.h"

#include <stdlib.h>

#define SEGMENT (1u << 20)

static loch_lsn begin_of(uint8_t b)
{
    static const loch_lsn at[] = {0x1000000, 0x1000028, 0x1002000, 0x1002018, 0x1001FF8, 0x10FFFF8};

    return at[b % 6];
}

/* Writes true page headers over the stream, as far as the stream's own lengths tell where records
 * are. */
static void mend(uint8_t *d, size_t len, loch_lsn lsn)
{
    loch_lsn prev = lsn - 8;
    size_t at = 0;

    while (at + 40 < len) {
        loch_lsn here = lsn + at;
        uint32_t header = here % 8192 != 0 ? 0 : loch_wal_page_header_bytes(here, SEGMENT);
        uint32_t n;

        if (header != 0) {
            loch_put_u16(d + at, 0xD110);
            loch_put_u16(d + at + 2, header == 40 ? 2 : 0);
            loch_put_u64(d + at + 8, here);
            loch_put_u32(d + at + 16, 0);
            if (header == 40) {
                loch_put_u32(d + at + 32, SEGMENT);
                loch_put_u32(d + at + 36, 8192);
            }
            at += header;
        }
        if (at + 24 > len)
            return;
        n = 24 + loch_get_u16(d + at) % 300;
        if (n > len - at || (lsn + at) % 8192 + n > 8192)
            return;
        loch_put_u32(d + at, n);
        loch_put_u64(d + at + 8, prev);
        d[at + 17] %= 22;
        uint32_t crc = loch_crc32c_update(LOCH_CRC32C_INIT, d + at + 24, n - 24);
        loch_put_u32(d + at + 20, loch_crc32c_finish(loch_crc32c_update(crc, d + at, 20)));
        prev = lsn + at;
        at += (n + 7) & ~7u;
    }
}

struct result {
    uint64_t records;
    loch_lsn end, start;
    bool ok, ended;
};

static struct result scan(enum loch_wal_scan_mode mode, const uint8_t *d, size_t len, size_t chunk,
                          loch_lsn lsn)
{
    static struct loch_wal_record record;
    struct result r = {.ok = true};
    struct loch_wal_scan s;

    if (!loch_is_ok(loch_wal_scan_init(&s, mode, lsn, LOCH_LSN_NONE, SEGMENT)))
        return (struct result){0};
    for (size_t at = 0; at < len && r.ok && !s.ended; at += chunk) {
        size_t n = len - at < chunk ? len - at : chunk;
        uint8_t *copy = malloc(n);
        struct loch_slice in = loch_slice_of(copy, n);
        memcpy(copy, d + at, n);
        while (in.len > 0 && r.ok && !s.ended) {
            struct loch_wal_span span;
            bool found;
            r.ok = loch_is_ok(loch_wal_scan_next(&s, &in, &found, &span));
            LOCH_ASSERT(s.position >= s.last_end);
            if (found && mode == LOCH_WAL_SCAN_RECORDS) {
                loch_status st = loch_wal_record_decode(span.bytes, &record);
                (void)st;
            }
        }
        free(copy);
    }
    r.records = s.records;
    r.end = s.last_end;
    r.start = s.last_start;
    r.ended = s.ended;
    loch_wal_scan_fini(&s);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct result a, b, c;
    uint8_t *d;

    if (size < 3)
        return 0;
    loch_lsn lsn = begin_of(data[1]);
    d = malloc(size - 2);
    memcpy(d, data + 2, size - 2);
    if (d[0] % 2 == 0)
        mend(d, size - 2, lsn);
    a = scan(LOCH_WAL_SCAN_BOUNDARIES, d, size - 2, data[0] + 1u, lsn);
    b = scan(LOCH_WAL_SCAN_RECORDS, d, size - 2, data[0] + 1u, lsn);
    c = scan(LOCH_WAL_SCAN_RECORDS, d, size - 2, size, lsn);
    LOCH_ASSERT(a.records == b.records && a.end == b.end && a.start == b.start && a.ok == b.ok);
    LOCH_ASSERT(c.records == b.records && c.end == b.end && c.start == b.start && c.ok == b.ok);
    free(d);
    return 0;
}
