/* Holds: the journal file's bytes. Invariants: a record counts only whole, with its checksum and
 * its journal's id; records are written one at a time, each synced before the next, so that a good
 * one proves that all needed ones before it had been durable.
 *
 *   head                                 record                              piece
 *    0  8  "LOCHJRNL"                     0  4  "LJR1"                        0 16  tenant
 *    8 16  node                           4  4  bytes, without the padding   16 16  timeline
 *   24 16  id                             8  8  number                       32  8  file's sequence
 *   40  4  version, 1                    16  8  needed                       40  8  file's head
 * hash 44  4  bytes of a half               24 16  id                           48  8  offset 48  8
 * XXH3-64 of the 48 before      40  4  pieces                       56  4  bytes 44  4  zero 60  4
 * zero 48  8  XXH3-64 (below)              64  n  bytes, to 8
 *
 * A record's checksum: XXH3-64 of what follows its head, seeded with that of its first 48 bytes.
 */
#include "journal_file.h"

#include "loch/base/check.h"

#include <stdlib.h>
#include <xxhash.h>

#define HEAD_MARK   UINT64_C(0x4C4E524A48434F4C) /* "LOCHJRNL" */
#define HEAD_BYTES  56u
#define RECORD_MARK 0x31524A4Cu /* "LJR1" */
#define VERSION     1u
#define CHECKSUM_AT 48u

static size_t padded(size_t n)
{
    return (n + 7) & ~(size_t)7;
}

uint64_t sk_journal_file_hash(struct loch_slice head)
{
    return XXH3_64bits(head.data, head.len);
}

void sk_journal_head_encode(const struct sk_journal_head *head, uint8_t out[SK_JOURNAL_PAGE])
{
    memset(out, 0, SK_JOURNAL_PAGE);
    loch_put_u64(out, HEAD_MARK);
    memcpy(out + 8, head->node.bytes, sizeof head->node.bytes);
    memcpy(out + 24, head->id.bytes, sizeof head->id.bytes);
    loch_put_u32(out + 40, VERSION);
    loch_put_u32(out + 44, head->half_bytes);
    loch_put_u64(out + 48, XXH3_64bits(out, 48));
}

loch_status sk_journal_head_decode(struct loch_slice file, struct sk_journal_head *out)
{
    struct sk_journal_head head;

    if (file.len < HEAD_BYTES || loch_get_u64(file.data) != HEAD_MARK ||
        loch_get_u64(file.data + 48) != XXH3_64bits(file.data, 48))
        return LOCH_FAIL(LOCH_E_CORRUPT, "the journal's head is damaged");
    if (loch_get_u32(file.data + 40) != VERSION)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED, "a journal of version %" PRIu32 ", known is %u",
                         loch_get_u32(file.data + 40), VERSION);
    memcpy(head.node.bytes, file.data + 8, sizeof head.node.bytes);
    memcpy(head.id.bytes, file.data + 24, sizeof head.id.bytes);
    head.half_bytes = loch_get_u32(file.data + 44);
    if (head.half_bytes < 2 * SK_JOURNAL_PAGE || head.half_bytes > SK_JOURNAL_HALF_MAX ||
        head.half_bytes % SK_JOURNAL_PAGE != 0 ||
        file.len != SK_JOURNAL_PAGE + 2 * (size_t)head.half_bytes)
        return LOCH_FAIL(LOCH_E_CORRUPT, "the journal has %zu bytes, its halves %" PRIu32, file.len,
                         head.half_bytes);
    *out = head;
    return LOCH_OK;
}

/* Of a record without its padding; the checksum itself is left out. */
static uint64_t checksum(struct loch_slice record)
{
    return XXH3_64bits_withSeed(record.data + SK_JOURNAL_RECORD_HEAD,
                                record.len - SK_JOURNAL_RECORD_HEAD,
                                XXH3_64bits(record.data, CHECKSUM_AT));
}

/* ---- writing ---- */

size_t sk_journal_piece_stored(size_t bytes)
{
    return SK_JOURNAL_PIECE_BYTES + padded(bytes);
}

loch_status sk_journal_record_begin(struct loch_buf *out)
{
    out->len = 0;
    LOCH_TRY(loch_buf_reserve(out, SK_JOURNAL_PAGE));
    memset(out->data, 0, SK_JOURNAL_RECORD_HEAD);
    out->len = SK_JOURNAL_RECORD_HEAD;
    return LOCH_OK;
}

loch_status sk_journal_record_add(struct loch_buf *out, const struct sk_journal_piece *piece)
{
    const size_t stored = sk_journal_piece_stored(piece->bytes.len);

    LOCH_ASSERT(out->len + stored <= SK_JOURNAL_RECORD_MAX);
    LOCH_TRY(loch_buf_reserve(out, stored));
    uint8_t *p = out->data + out->len;
    memcpy(p, piece->tenant.bytes, sizeof piece->tenant.bytes);
    memcpy(p + 16, piece->timeline.bytes, sizeof piece->timeline.bytes);
    loch_put_u64(p + 32, piece->seq);
    loch_put_u64(p + 40, piece->file_hash);
    loch_put_u64(p + 48, piece->offset);
    loch_put_u32(p + 56, (uint32_t)piece->bytes.len);
    loch_put_u32(p + 60, 0);
    memcpy(p + SK_JOURNAL_PIECE_BYTES, piece->bytes.data, piece->bytes.len);
    memset(p + SK_JOURNAL_PIECE_BYTES + piece->bytes.len, 0,
           stored - SK_JOURNAL_PIECE_BYTES - piece->bytes.len);
    out->len += stored;
    loch_put_u32(out->data + 40, loch_get_u32(out->data + 40) + 1);
    return LOCH_OK;
}

loch_status sk_journal_record_end(struct loch_buf *out, const struct loch_id *id, uint64_t number,
                                  uint64_t needed)
{
    const size_t len = out->len;
    const size_t rest = (SK_JOURNAL_PAGE - len % SK_JOURNAL_PAGE) % SK_JOURNAL_PAGE;
    uint8_t *p;

    LOCH_ASSERT(needed <= number);
    LOCH_TRY(loch_buf_reserve(out, rest));
    p = out->data;
    loch_put_u32(p, RECORD_MARK);
    loch_put_u32(p + 4, (uint32_t)len);
    loch_put_u64(p + 8, number);
    loch_put_u64(p + 16, needed);
    memcpy(p + 24, id->bytes, sizeof id->bytes);
    loch_put_u64(p + CHECKSUM_AT, checksum(loch_slice_of(p, len)));
    memset(p + len, 0, rest);
    out->len += rest;
    return LOCH_OK;
}

/* ---- reading ---- */

struct found {
    uint64_t number, needed;
    struct loch_slice bytes;
};

/* Is there a whole record at the front of `at`? */
static bool record_at(struct loch_slice at, const struct loch_id *id, struct found *out)
{
    if (at.len < SK_JOURNAL_RECORD_HEAD || loch_get_u32(at.data) != RECORD_MARK ||
        memcmp(at.data + 24, id->bytes, sizeof id->bytes) != 0)
        return false;
    const size_t len = loch_get_u32(at.data + 4);
    if (len < SK_JOURNAL_RECORD_HEAD || len > SK_JOURNAL_RECORD_MAX || len > at.len)
        return false;
    if (checksum(loch_slice_of(at.data, len)) != loch_get_u64(at.data + CHECKSUM_AT))
        return false;
    out->number = loch_get_u64(at.data + 8);
    out->needed = loch_get_u64(at.data + 16);
    out->bytes = loch_slice_of(at.data, len);
    return out->needed <= out->number;
}

static int by_number(const void *a, const void *b)
{
    const struct found *x = a;
    const struct found *y = b;

    return (x->number > y->number) - (x->number < y->number);
}

/* All whole records of the file, ascending. */
static loch_status find_records(struct loch_slice file, const struct sk_journal_head *head,
                                struct found **out, size_t *count)
{
    struct found *all = NULL;
    size_t n = 0;
    size_t cap = 0;

    for (size_t at = SK_JOURNAL_PAGE; at < file.len; at += SK_JOURNAL_PAGE) {
        const size_t half_end = at < SK_JOURNAL_PAGE + (size_t)head->half_bytes
                                    ? SK_JOURNAL_PAGE + (size_t)head->half_bytes
                                    : file.len;
        struct found one;
        if (!record_at(loch_slice_of(file.data + at, half_end - at), &head->id, &one))
            continue;
        if (n == cap) {
            cap = cap == 0 ? 256 : cap * 2;
            struct found *more = realloc(all, cap * sizeof *more);
            if (more == NULL) {
                free(all);
                return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory to read a journal");
            }
            all = more;
        }
        all[n++] = one;
    }
    if (n > 0)
        qsort(all, n, sizeof *all, by_number);
    *out = all;
    *count = n;
    return LOCH_OK;
}

static loch_status record_pieces(const struct found *r, sk_journal_piece_fn fn, void *arg)
{
    const uint8_t *p = r->bytes.data + SK_JOURNAL_RECORD_HEAD;
    size_t left = r->bytes.len - SK_JOURNAL_RECORD_HEAD;

    for (uint32_t n = loch_get_u32(r->bytes.data + 40); n > 0; n--) {
        struct sk_journal_piece piece;
        if (left < SK_JOURNAL_PIECE_BYTES)
            return LOCH_FAIL(LOCH_E_CORRUPT, "record %" PRIu64 " of the journal is no record",
                             r->number);
        memcpy(piece.tenant.bytes, p, sizeof piece.tenant.bytes);
        memcpy(piece.timeline.bytes, p + 16, sizeof piece.timeline.bytes);
        piece.seq = loch_get_u64(p + 32);
        piece.file_hash = loch_get_u64(p + 40);
        piece.offset = loch_get_u64(p + 48);
        const size_t len = loch_get_u32(p + 56);
        const size_t stored = sk_journal_piece_stored(len);
        if (stored > left || piece.offset > INT64_MAX - len)
            return LOCH_FAIL(LOCH_E_CORRUPT, "record %" PRIu64 " of the journal is no record",
                             r->number);
        piece.bytes = loch_slice_of(p + SK_JOURNAL_PIECE_BYTES, len);
        LOCH_TRY(fn(arg, &piece));
        p += stored;
        left -= stored;
    }
    return LOCH_OK;
}

loch_status sk_journal_pieces(struct loch_slice file, const struct sk_journal_head *head,
                              sk_journal_piece_fn fn, void *arg)
{
    struct found *all = NULL;
    size_t count = 0;
    loch_status st = LOCH_OK;

    LOCH_ASSERT(file.len == SK_JOURNAL_PAGE + 2 * (size_t)head->half_bytes);
    LOCH_TRY(find_records(file, head, &all, &count));
    if (count == 0)
        goto out;
    const uint64_t newest = all[count - 1].number;
    const uint64_t span = newest - all[count - 1].needed;
    size_t first = 0;
    if (span < count)
        first = count - 1 - (size_t)span;
    for (size_t i = first; i < count; i++)
        if (span >= count || all[i].number != newest - (count - 1 - i)) {
            st = LOCH_FAIL(LOCH_E_CORRUPT,
                           "records %" PRIu64 " to %" PRIu64
                           " of the journal had been durable, not all of them are there",
                           newest - span, newest);
            goto out;
        }
    for (size_t i = first; i < count && loch_is_ok(st); i++)
        st = record_pieces(&all[i], fn, arg);
out:
    free(all);
    return st;
}
