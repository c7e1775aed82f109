/* Holds: pieces of archived WAL.
 *
 * Content of the sealed object, little-endian:
 *    0 u32 version (1)   4 u32 codec (0 none, 1 zstd)   8 u32 pg_version   12 u32 segment_bytes
 *   16 u64 system_id    24 u64 begin                   32 u64 end         40 the bytes
 * Twin: docs/format/wal-archive.md.
 */
#include "loch/format/wal_archive.h"

#include "loch/base/check.h"
#include "loch/format/sealed_object.h"

#include <zstd.h>

#define VERSION     1u
#define HEAD_BYTES  40u
#define CODEC_PLAIN 0u
#define CODEC_ZSTD1 1u
#define ZSTD_LEVEL  1

/* Appends head and bytes; compressed only when that is shorter. */
static loch_status encode(const struct loch_wal_piece *piece, struct loch_slice wal,
                          struct loch_buf *out)
{
    uint8_t head[HEAD_BYTES] = {0};
    size_t bound = ZSTD_compressBound(wal.len);

    LOCH_TRY(loch_buf_reserve(out, HEAD_BYTES + loch_max_u64(bound, wal.len)));
    uint8_t *body = out->data + out->len + HEAD_BYTES;
    size_t n = ZSTD_compress(body, bound, wal.data, wal.len, ZSTD_LEVEL);
    bool packed = ZSTD_isError(n) == 0 && n < wal.len;
    if (!packed) {
        memcpy(body, wal.data, wal.len);
        n = wal.len;
    }
    loch_put_u32(head, VERSION);
    loch_put_u32(head + 4, packed ? CODEC_ZSTD1 : CODEC_PLAIN);
    loch_put_u32(head + 8, piece->pg_version);
    loch_put_u32(head + 12, piece->segment_bytes);
    loch_put_u64(head + 16, piece->system_id);
    loch_put_u64(head + 24, piece->begin);
    loch_put_u64(head + 32, piece->end);
    memcpy(out->data + out->len, head, HEAD_BYTES);
    out->len += HEAD_BYTES + n;
    return LOCH_OK;
}

loch_status loch_wal_archive_seal(const struct loch_place *place, const struct loch_wrap_key *key,
                                  const struct loch_wal_piece *piece, struct loch_slice wal,
                                  struct loch_buf *out)
{
    struct loch_place at = *place;
    struct loch_buf plain = {0};
    loch_status st;

    LOCH_ASSERT(place->kind == LOCH_KIND_WAL_ARCHIVE);
    LOCH_ASSERT(piece->begin < piece->end);
    LOCH_ASSERT(wal.len == piece->end - piece->begin);
    if (wal.len > LOCH_WAL_ARCHIVE_MAX_BYTES)
        return LOCH_FAIL(LOCH_E_LIMIT, "%zu bytes of WAL are too many for one object", wal.len);
    at.generation = piece->begin;
    LOCH_TRY_OUT(st, encode(piece, wal, &plain));
    st = loch_sealed_object_seal(&at, key, loch_buf_slice(&plain), true, out);
out:
    loch_buf_fini(&plain);
    return st;
}

static loch_status decode(struct loch_slice plain, loch_lsn begin, struct loch_wal_piece *piece,
                          struct loch_buf *wal)
{
    const uint8_t *p = plain.data;
    struct loch_wal_piece is;

    if (plain.len < HEAD_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "archived WAL of %zu bytes", plain.len);
    if (loch_get_u32(p) != VERSION || loch_get_u32(p + 4) > CODEC_ZSTD1)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED, "archived WAL of version %" PRIu32 ", codec %" PRIu32,
                         loch_get_u32(p), loch_get_u32(p + 4));
    is = (struct loch_wal_piece){.pg_version = loch_get_u32(p + 8),
                                 .segment_bytes = loch_get_u32(p + 12),
                                 .system_id = loch_get_u64(p + 16),
                                 .begin = loch_get_u64(p + 24),
                                 .end = loch_get_u64(p + 32)};
    if (is.begin != begin || is.end <= begin || is.end - begin > LOCH_WAL_ARCHIVE_MAX_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT,
                         "archived WAL " LOCH_LSN_FMT " to " LOCH_LSN_FMT ", want " LOCH_LSN_FMT,
                         LOCH_LSN_ARG(is.begin), LOCH_LSN_ARG(is.end), LOCH_LSN_ARG(begin));
    const struct loch_slice body = loch_slice_of(p + HEAD_BYTES, plain.len - HEAD_BYTES);
    const size_t len = (size_t)(is.end - is.begin);
    if (loch_get_u32(p + 4) == CODEC_PLAIN) {
        if (body.len != len)
            return LOCH_FAIL(LOCH_E_CORRUPT, "archived WAL holds %zu bytes, not %zu", body.len,
                             len);
        LOCH_TRY(loch_buf_append(wal, body.data, len));
    } else {
        LOCH_TRY(loch_buf_reserve(wal, len));
        size_t n = ZSTD_decompress(wal->data + wal->len, len, body.data, body.len);
        if (ZSTD_isError(n) != 0 || n != len)
            return LOCH_FAIL(LOCH_E_CORRUPT, "archived WAL does not decompress to %zu bytes", len);
        wal->len += len;
    }
    *piece = is;
    return LOCH_OK;
}

loch_status loch_wal_archive_open(const struct loch_place *expected,
                                  const struct loch_key_source *keys, struct loch_slice sealed,
                                  struct loch_wal_piece *piece, struct loch_buf *wal)
{
    struct loch_buf plain = {0};
    uint64_t generation = 0;
    loch_status st;

    LOCH_ASSERT(expected->kind == LOCH_KIND_WAL_ARCHIVE);
    LOCH_TRY_OUT(st, loch_sealed_object_open(expected, keys, sealed, &plain, &generation));
    if (generation != expected->generation)
        st = LOCH_FAIL(LOCH_E_CORRUPT, "archived WAL of " LOCH_LSN_FMT ", want " LOCH_LSN_FMT,
                       LOCH_LSN_ARG(generation), LOCH_LSN_ARG(expected->generation));
    else
        st = decode(loch_buf_slice(&plain), expected->generation, piece, wal);
out:
    loch_buf_fini(&plain);
    return st;
}
