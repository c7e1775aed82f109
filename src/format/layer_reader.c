/* Holds: the reader of layer files (layout: layer_writer.c, docs/format/layer.md).
 *
 * Invariants: nothing of a file is used before header, footer and index have been proven; after
 * open the reader is immutable, so any number of threads read frames at once.
 */
#include "layer_internal.h"
#include "loch/base/check.h"
#include "loch/base/secret.h"

#include <lz4.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

/* A frame of at most this size is read onto the stack: an image of a page, and more. */
#define FRAME_LOCAL_BYTES 10240u

struct loch_layer_reader {
    struct loch_aead_pool pool;
    uint8_t hash[LOCH_SHA256_BYTES];
    loch_read_at_fn read_at;
    void *arg;
    uint32_t frames;
    uint32_t index_stored;
    uint64_t index_offset;
    uint8_t index_hash[LOCH_SHA256_BYTES];
    uint8_t codec;
    struct loch_buf index;
};

/* Decompression contexts, borrowed for a call: making one costs more than most frames. What they
 * decompressed last stays in them (docs/keys.md); LZ4 needs none. */
#define ZSTD_KEPT 8u
static _Atomic(ZSTD_DCtx *) zstd_kept[ZSTD_KEPT];

static ZSTD_DCtx *zstd_take(void)
{
    for (size_t i = 0; i < ZSTD_KEPT; i++) {
        ZSTD_DCtx *ctx = atomic_exchange(&zstd_kept[i], NULL);
        if (ctx != NULL)
            return ctx;
    }
    return ZSTD_createDCtx();
}

static void zstd_give(ZSTD_DCtx *ctx)
{
    for (size_t i = 0; i < ZSTD_KEPT; i++) {
        ZSTD_DCtx *empty = NULL;
        if (atomic_compare_exchange_strong(&zstd_kept[i], &empty, ctx))
            return;
    }
    ZSTD_freeDCtx(ctx);
}

static loch_status message_open(struct loch_layer_reader *r, enum header_domain domain,
                                uint64_t number, struct loch_slice stored, uint8_t *out)
{
    uint8_t aad_bytes[LAYER_AAD_BYTES];
    struct loch_aead *aead = NULL;

    layer_aad(domain, number, (uint32_t)stored.len, aad_bytes);
    const struct loch_slice aad[2] = {loch_slice_of(r->hash, sizeof r->hash),
                                      loch_slice_of(aad_bytes, sizeof aad_bytes)};
    LOCH_TRY(loch_aead_pool_take(&r->pool, &aead));
    const loch_status st =
        loch_aead_open(aead, (struct loch_nonce){domain, number}, aad, 2, stored, out);
    loch_aead_pool_give(&r->pool, aead);
    return st;
}

static loch_status damaged(void)
{
    return LOCH_FAIL(LOCH_E_CORRUPT, "a layer frame's compressed bytes are damaged");
}

/* payload (n bytes) to `len` bytes at `out`. */
static loch_status unpack_zstd(const uint8_t *payload, size_t n, uint8_t *out, size_t len)
{
    const size_t frame = ZSTD_findFrameCompressedSize(payload, n);
    if (ZSTD_isError(frame) != 0)
        return damaged();
    ZSTD_DCtx *ctx = zstd_take();
    if (ctx == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for decompression");
    const size_t got = ZSTD_decompressDCtx(ctx, out, len, payload, frame);
    zstd_give(ctx);
    return ZSTD_isError(got) != 0 || got != len ? damaged() : LOCH_OK;
}

static loch_status unpack_lz4(const uint8_t *payload, size_t n, uint8_t *out, size_t len)
{
    if (n < LAYER_LZ4_HEAD_BYTES)
        return damaged();
    const uint32_t block = loch_get_u32(payload);
    if (block > n - LAYER_LZ4_HEAD_BYTES)
        return damaged();
    const int got = LZ4_decompress_safe((const char *)payload + LAYER_LZ4_HEAD_BYTES, (char *)out,
                                        (int)block, (int)len);
    return got < 0 || (size_t)got != len ? damaged() : LOCH_OK;
}

loch_status layer_unpack(uint8_t file_codec, const uint8_t *inner, size_t n, size_t max_bytes,
                         struct loch_buf *raw)
{
    LOCH_ASSERT(n >= LAYER_INNER_BYTES);
    const size_t len = loch_get_u32(inner);
    const uint8_t codec = inner[4];

    if (len > max_bytes || (codec != CODEC_NONE && codec != file_codec) ||
        (inner[5] | inner[6] | inner[7]) != 0)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a layer frame's prefix is absurd");
    if (codec == CODEC_NONE) {
        if (n - LAYER_INNER_BYTES != len)
            return LOCH_FAIL(LOCH_E_CORRUPT, "a layer frame's length is wrong");
        return loch_buf_append(raw, inner + LAYER_INNER_BYTES, len);
    }
    if (len == 0) /* nobody compresses nothing */
        return LOCH_FAIL(LOCH_E_CORRUPT, "a layer frame's prefix is absurd");
    LOCH_TRY(loch_buf_reserve(raw, len));
    const uint8_t *payload = inner + LAYER_INNER_BYTES;
    uint8_t *out = raw->data + raw->len;
    if (codec == CODEC_ZSTD)
        LOCH_TRY(unpack_zstd(payload, n - LAYER_INNER_BYTES, out, len));
    else
        LOCH_TRY(unpack_lz4(payload, n - LAYER_INNER_BYTES, out, len));
    raw->len += len;
    return LOCH_OK;
}

/* Opens a frame or index in place, in the caller's `stored`, and unpacks it to the end of *raw. */
static loch_status packed_open(struct loch_layer_reader *r, enum header_domain domain,
                               uint64_t number, uint8_t *stored, size_t len, size_t max_bytes,
                               struct loch_buf *raw)
{
    LOCH_TRY(message_open(r, domain, number, loch_slice_of(stored, len), stored));
    return layer_unpack(r->codec, stored, len - LOCH_AEAD_TAG_BYTES, max_bytes, raw);
}

static loch_status footer_open(struct loch_layer_reader *r, uint64_t file_bytes)
{
    uint8_t stored[LAYER_FOOTER_BYTES];
    uint8_t p[LAYER_FOOTER_PLAIN_BYTES];

    LOCH_TRY(r->read_at(r->arg, file_bytes - LAYER_FOOTER_BYTES, stored, sizeof stored));
    LOCH_TRY(message_open(r, DOMAIN_LAYER_FOOTER, 0, loch_slice_of(stored, sizeof stored), p));
    r->frames = loch_get_u32(p);
    r->index_stored = loch_get_u32(p + 4);
    r->index_offset = loch_get_u64(p + 8);
    memcpy(r->index_hash, p + 32, sizeof r->index_hash);
    if (loch_get_u64(p + 16) != file_bytes)
        return LOCH_FAIL(LOCH_E_CORRUPT,
                         "the layer has %" PRIu64 " bytes, its footer says %" PRIu64, file_bytes,
                         loch_get_u64(p + 16));
    if (r->index_stored < LAYER_FRAME_STORED_MIN || r->index_offset < LOCH_FILE_HEADER_BYTES ||
        r->index_offset > file_bytes ||
        r->index_offset + r->index_stored + LAYER_FOOTER_BYTES != file_bytes)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a layer's footer is absurd");
    return LOCH_OK;
}

static loch_status index_open(struct loch_layer_reader *r)
{
    struct loch_buf stored = {0};
    uint8_t hash[LOCH_SHA256_BYTES];
    loch_status st;

    LOCH_TRY(loch_buf_reserve(&stored, r->index_stored));
    LOCH_TRY_OUT(st, r->read_at(r->arg, r->index_offset, stored.data, r->index_stored));
    stored.len = r->index_stored;
    const struct loch_slice bytes = loch_buf_slice(&stored);
    LOCH_TRY_OUT(st, loch_sha256(&bytes, 1, hash));
    if (!loch_bytes_equal(hash, r->index_hash, sizeof hash)) {
        st = LOCH_FAIL(LOCH_E_CORRUPT, "a layer's index is not the one its footer names");
        goto out;
    }
    LOCH_TRY_OUT(st, packed_open(r, DOMAIN_LAYER_INDEX, 0, stored.data, stored.len,
                                 LOCH_LAYER_INDEX_MAX_BYTES, &r->index));
out:
    loch_buf_fini(&stored);
    return st;
}

loch_status loch_layer_reader_open(const struct loch_place *expected,
                                   const struct loch_key_source *keys, uint64_t file_bytes,
                                   loch_read_at_fn read_at, void *arg,
                                   struct loch_layer_reader **out)
{
    uint8_t head[LOCH_FILE_HEADER_BYTES];
    struct header_opened h = {0};
    loch_status st;

    LOCH_ASSERT(expected->kind == LOCH_KIND_LAYER);
    if (file_bytes < LOCH_FILE_HEADER_BYTES + LAYER_FRAME_STORED_MIN + LAYER_FOOTER_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a layer of %" PRIu64 " bytes is too short", file_bytes);
    struct loch_layer_reader *r = calloc(1, sizeof *r);
    if (r == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a layer reader");
    r->read_at = read_at;
    r->arg = arg;
    LOCH_TRY_OUT(st, read_at(arg, 0, head, sizeof head));
    LOCH_TRY_OUT(st, header_open(expected, true, keys, loch_slice_of(head, sizeof head), &h));
    memcpy(r->hash, h.hash, sizeof r->hash);
    r->codec = h.spec.codec;
    LOCH_TRY_OUT(st, loch_aead_pool_init(&r->pool, &h.data_key, LOCH_AEAD_OPEN));
    LOCH_TRY_OUT(st, footer_open(r, file_bytes));
    LOCH_TRY_OUT(st, index_open(r));
    *out = r;
    r = NULL;
out:
    header_opened_fini(&h);
    loch_layer_reader_destroy(r);
    return st;
}

void loch_layer_reader_destroy(struct loch_layer_reader *reader)
{
    if (reader == NULL)
        return;
    loch_aead_pool_fini(&reader->pool);
    loch_buf_fini(&reader->index);
    free(reader);
}

struct loch_slice loch_layer_reader_index(const struct loch_layer_reader *reader)
{
    return loch_buf_slice(&reader->index);
}

uint32_t loch_layer_reader_frames(const struct loch_layer_reader *reader)
{
    return reader->frames;
}

static loch_status ref_check(const struct loch_layer_reader *r, const struct loch_layer_ref *ref)
{
    if (ref->frame >= r->frames || ref->stored_bytes < LAYER_FRAME_STORED_MIN ||
        ref->stored_bytes > LOCH_LAYER_FRAME_MAX_BYTES + 1024u ||
        ref->offset < LOCH_FILE_HEADER_BYTES || ref->offset > r->index_offset ||
        ref->stored_bytes > r->index_offset - ref->offset)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a reference to a frame that the layer does not have");
    return LOCH_OK;
}

loch_status loch_layer_reader_open_in_place(struct loch_layer_reader *reader,
                                            const struct loch_layer_ref *ref, uint8_t *stored,
                                            size_t len, struct loch_buf *raw)
{
    LOCH_TRY(ref_check(reader, ref));
    if (len != ref->stored_bytes)
        return LOCH_FAIL(LOCH_E_CORRUPT, "%zu bytes for a frame of %u", len, ref->stored_bytes);
    return packed_open(reader, DOMAIN_LAYER_FRAME, ref->frame, stored, len,
                       LOCH_LAYER_FRAME_MAX_BYTES, raw);
}

loch_status loch_layer_reader_open_frame(struct loch_layer_reader *reader,
                                         const struct loch_layer_ref *ref, struct loch_slice stored,
                                         struct loch_buf *raw)
{
    struct loch_buf copy = {0};
    loch_status st;
    LOCH_TRY_OUT(st, loch_buf_append(&copy, stored.data, stored.len));
    LOCH_TRY_OUT(st, loch_layer_reader_open_in_place(reader, ref, copy.data, copy.len, raw));
out:
    loch_wipe(copy.data, copy.len); /* it was opened in place */
    loch_buf_fini(&copy);
    return st;
}

loch_status loch_layer_reader_frame(struct loch_layer_reader *reader,
                                    const struct loch_layer_ref *ref, struct loch_buf *raw)
{
    uint8_t local[FRAME_LOCAL_BYTES];
    struct loch_buf large = {0};
    uint8_t *stored = local;
    loch_status st;

    LOCH_TRY(ref_check(reader, ref));
    if (ref->stored_bytes > sizeof local) {
        LOCH_TRY(loch_buf_reserve(&large, ref->stored_bytes));
        stored = large.data;
    }
    LOCH_TRY_OUT(st, reader->read_at(reader->arg, ref->offset, stored, ref->stored_bytes));
    LOCH_TRY_OUT(st, loch_layer_reader_open_in_place(reader, ref, stored, ref->stored_bytes, raw));
out:
    loch_wipe(stored, ref->stored_bytes);
    loch_buf_fini(&large);
    return st;
}
