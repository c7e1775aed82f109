/* Holds: the writer of layer files.
 *
 *   header (272) | frames | index | footer (80)
 *
 * A frame or the index: AEAD of { u32 raw length | u8 codec | 3 zero | payload | zeros } and tag,
 * where a payload of LZ4 is u32 length and the block;
 * nonce (domain, number); authenticated beside: header hash, u64 number, u32 stored bytes, u8
 * domain, u8 final, u16 zero. The footer: AEAD of { u32 frames | u32 index bytes stored | u64 index
 * offset | u64 file bytes | 8 zero | SHA-256 of the stored index }, final = 1. Twin:
 * docs/format/layer.md.
 *
 * Invariants: a number is sealed once; nothing follows the footer.
 */
#include "layer_internal.h"
#include "loch/base/check.h"

#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define PAD_TO     512u
#define ZSTD_LEVEL 1
/* LZ4's "acceleration": its default, and one that finds less in less time. */
#define LZ4_THOROUGH 1
#define LZ4_HURRIED  4
/* Below this a frame is stored as it is: compression would win nothing. */
#define COMPRESS_FROM_BYTES 256u

struct loch_layer_writer {
    struct loch_aead *aead;
    uint8_t hash[LOCH_SHA256_BYTES];
    ZSTD_CCtx *zstd; /* that of the codec, or neither */
    void *lz4;       /* positions of what was compressed, none of its bytes */
    int lz4_speed;
    bool pad;
    bool finished;
    uint32_t frames;
    uint64_t bytes;
};

void loch_layer_ref_encode(const struct loch_layer_ref *ref,
                           uint8_t out[static LOCH_LAYER_REF_BYTES])
{
    loch_put_u64(out, ref->offset);
    loch_put_u32(out + 8, ref->stored_bytes);
    loch_put_u32(out + 12, ref->frame);
}

struct loch_layer_ref loch_layer_ref_decode(const uint8_t in[static LOCH_LAYER_REF_BYTES])
{
    return (struct loch_layer_ref){loch_get_u64(in), loch_get_u32(in + 8), loch_get_u32(in + 12)};
}

loch_status loch_layer_writer_create(const struct loch_place *place,
                                     const struct loch_wrap_key *key,
                                     const struct loch_layer_options *options, struct loch_buf *out,
                                     struct loch_layer_writer **writer)
{
    const bool pad = options->codec != LOCH_LAYER_STORED && options->pad;
    const struct header_spec spec = {(uint8_t)options->codec, pad ? FLAG_PADDED : 0,
                                     LOCH_LAYER_FRAME_MAX_BYTES};
    const size_t mark = out->len;
    struct header_opened h = {0};
    loch_status st;

    LOCH_ASSERT(place->kind == LOCH_KIND_LAYER);
    LOCH_ASSERT(!loch_id_is_none(&place->file_id));
    struct loch_layer_writer *w = calloc(1, sizeof *w);
    if (w == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a layer writer");
    w->pad = pad;
    w->lz4_speed = LZ4_THOROUGH;
    if (options->codec == LOCH_LAYER_ZSTD)
        w->zstd = ZSTD_createCCtx();
    if (options->codec == LOCH_LAYER_LZ4)
        w->lz4 = malloc((size_t)LZ4_sizeofState());
    if (options->codec != LOCH_LAYER_STORED && w->zstd == NULL && w->lz4 == NULL) {
        st = LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for compression");
        goto out;
    }
    LOCH_TRY_OUT(st, header_seal(place, &spec, key, out, &h));
    LOCH_TRY_OUT(st, loch_aead_create(&h.data_key, LOCH_AEAD_SEAL, &w->aead));
    memcpy(w->hash, h.hash, sizeof w->hash);
    w->bytes = LOCH_FILE_HEADER_BYTES;
    *writer = w;
    w = NULL;
out:
    if (!loch_is_ok(st))
        out->len = mark;
    header_opened_fini(&h);
    loch_layer_writer_destroy(w);
    return st;
}

void loch_layer_writer_destroy(struct loch_layer_writer *writer)
{
    if (writer == NULL)
        return;
    loch_aead_destroy(writer->aead);
    ZSTD_freeCCtx(writer->zstd);
    free(writer->lz4);
    free(writer);
}

uint64_t loch_layer_writer_bytes(const struct loch_layer_writer *writer)
{
    return writer->bytes;
}

void loch_layer_writer_hurry(struct loch_layer_writer *writer, bool hurry)
{
    writer->lz4_speed = hurry ? LZ4_HURRIED : LZ4_THOROUGH;
}

/* The frame compressed behind its prefix at `p`, which learns of it; bytes with the prefix, or 0
 * where it does not pay. */
static size_t pack(struct loch_layer_writer *w, struct loch_slice raw, uint8_t *p)
{
    const size_t most = raw.len - raw.len / 8;
    uint8_t *payload = p + LAYER_INNER_BYTES;

    if (w->zstd != NULL) {
        const size_t n = ZSTD_compressCCtx(w->zstd, payload, most, raw.data, raw.len, ZSTD_LEVEL);
        if (ZSTD_isError(n) != 0)
            return 0;
        p[4] = CODEC_ZSTD;
        return LAYER_INNER_BYTES + n;
    }
    if (w->lz4 == NULL)
        return 0;
    const int n = LZ4_compress_fast_extState(w->lz4, (const char *)raw.data,
                                             (char *)payload + LAYER_LZ4_HEAD_BYTES, (int)raw.len,
                                             (int)(most - LAYER_LZ4_HEAD_BYTES), w->lz4_speed);
    if (n <= 0)
        return 0;
    p[4] = CODEC_LZ4;
    loch_put_u32(payload, (uint32_t)n);
    return LAYER_INNER_BYTES + LAYER_LZ4_HEAD_BYTES + (size_t)n;
}

/* Puts prefix and payload (compressed where it pays) at `p`; returns their length, padding
 * included. */
static size_t inner_fill(struct loch_layer_writer *w, struct loch_slice raw, uint8_t *p)
{
    memset(p, 0, LAYER_INNER_BYTES);
    loch_put_u32(p, (uint32_t)raw.len);
    size_t len = raw.len < COMPRESS_FROM_BYTES ? 0 : pack(w, raw, p);
    if (len == 0) {
        if (raw.len > 0)
            memcpy(p + LAYER_INNER_BYTES, raw.data, raw.len);
        return LAYER_INNER_BYTES + raw.len;
    }
    if (w->pad) {
        const size_t total = (len + LOCH_AEAD_TAG_BYTES + PAD_TO - 1) / PAD_TO * PAD_TO;
        memset(p + len, 0, total - LOCH_AEAD_TAG_BYTES - len);
        len = total - LOCH_AEAD_TAG_BYTES;
    }
    return len;
}

static loch_status message_seal(struct loch_layer_writer *w, enum header_domain domain,
                                uint64_t number, size_t inner, struct loch_buf *out)
{
    uint8_t aad_bytes[LAYER_AAD_BYTES];
    const size_t stored = inner + LOCH_AEAD_TAG_BYTES;
    uint8_t *p = out->data + out->len;

    layer_aad(domain, number, (uint32_t)stored, aad_bytes);
    const struct loch_slice aad[2] = {loch_slice_of(w->hash, sizeof w->hash),
                                      loch_slice_of(aad_bytes, sizeof aad_bytes)};
    LOCH_TRY(loch_aead_seal(w->aead, (struct loch_nonce){domain, number}, aad, 2,
                            loch_slice_of(p, inner), p));
    out->len += stored;
    w->bytes += stored;
    return LOCH_OK;
}

loch_status loch_layer_writer_frame(struct loch_layer_writer *writer, struct loch_slice raw,
                                    struct loch_buf *out, struct loch_layer_ref *ref)
{
    const uint32_t number = writer->frames;
    const uint64_t offset = writer->bytes;

    LOCH_ASSERT(!writer->finished);
    if (raw.len > LOCH_LAYER_FRAME_MAX_BYTES || number == UINT32_MAX)
        return LOCH_FAIL(LOCH_E_LIMIT, "a layer frame of %zu bytes", raw.len);
    LOCH_TRY(loch_buf_reserve(out, LAYER_FRAME_STORED_MIN + raw.len + PAD_TO));
    const size_t inner = inner_fill(writer, raw, out->data + out->len);
    writer->frames++; /* spent, whatever happens */
    LOCH_TRY(message_seal(writer, DOMAIN_LAYER_FRAME, number, inner, out));
    *ref = (struct loch_layer_ref){offset, (uint32_t)(inner + LOCH_AEAD_TAG_BYTES), number};
    return LOCH_OK;
}

loch_status loch_layer_writer_finish(struct loch_layer_writer *writer, struct loch_slice index,
                                     struct loch_buf *out, uint64_t *file_bytes)
{
    const uint64_t index_offset = writer->bytes;

    LOCH_ASSERT(!writer->finished);
    writer->finished = true;
    loch_layer_writer_hurry(writer, false); /* every opening reads it */
    if (index.len > LOCH_LAYER_INDEX_MAX_BYTES)
        return LOCH_FAIL(LOCH_E_LIMIT, "a layer index of %zu bytes", index.len);
    LOCH_TRY(
        loch_buf_reserve(out, LAYER_FRAME_STORED_MIN + index.len + PAD_TO + LAYER_FOOTER_BYTES));
    const size_t at = out->len;
    const size_t inner = inner_fill(writer, index, out->data + at);
    LOCH_TRY(message_seal(writer, DOMAIN_LAYER_INDEX, 0, inner, out));
    const struct loch_slice stored = loch_slice_of(out->data + at, out->len - at);
    uint8_t *p = out->data + out->len;
    memset(p, 0, LAYER_FOOTER_PLAIN_BYTES);
    loch_put_u32(p, writer->frames);
    loch_put_u32(p + 4, (uint32_t)stored.len);
    loch_put_u64(p + 8, index_offset);
    loch_put_u64(p + 16, writer->bytes + LAYER_FOOTER_BYTES);
    LOCH_TRY(loch_sha256(&stored, 1, p + 32));
    LOCH_TRY(message_seal(writer, DOMAIN_LAYER_FOOTER, 0, LAYER_FOOTER_PLAIN_BYTES, out));
    *file_bytes = writer->bytes;
    return LOCH_OK;
}
