/* Holds: sealed objects.
 *
 *   header (272) | AEAD of { u64 length | bytes | zeros } | tag (16)
 *
 * nonce (DOMAIN_OBJECT, 0) under a DEK of its own; authenticated beside: header hash, u64 object
 * size. Twin: docs/format/sealed-object.md.
 */
#include "loch/format/sealed_object.h"
#include "header.h"
#include "loch/base/check.h"
#include "loch/crypto/aead.h"

#define PAD_TO      512u
#define INNER_BYTES 8u

loch_status loch_sealed_object_seal(const struct loch_place *place, const struct loch_wrap_key *key,
                                    struct loch_slice plain, bool pad, struct loch_buf *out)
{
    const struct header_spec spec = {CODEC_NONE, pad ? FLAG_PADDED : 0,
                                     LOCH_SEALED_OBJECT_MAX_BYTES};
    struct header_opened h = {0};
    struct loch_aead *aead = NULL;
    const size_t mark = out->len;
    uint8_t size_bytes[8];
    loch_status st;

    LOCH_ASSERT(place->kind != LOCH_KIND_LAYER && place->kind != LOCH_KIND_WAL);
    if (plain.len > LOCH_SEALED_OBJECT_MAX_BYTES)
        return LOCH_FAIL(LOCH_E_LIMIT, "an object of %zu bytes is too large to seal", plain.len);
    size_t total = LOCH_FILE_HEADER_BYTES + INNER_BYTES + plain.len + LOCH_AEAD_TAG_BYTES;
    if (pad)
        total = (total + PAD_TO - 1) / PAD_TO * PAD_TO;
    const size_t inner = total - LOCH_FILE_HEADER_BYTES - LOCH_AEAD_TAG_BYTES;
    LOCH_TRY(loch_buf_reserve(out, total));
    LOCH_TRY_OUT(st, header_seal(place, &spec, key, out, &h));
    LOCH_TRY_OUT(st, loch_aead_create(&h.data_key, LOCH_AEAD_SEAL, &aead));
    uint8_t *p = out->data + out->len;
    memset(p, 0, inner);
    loch_put_u64(p, plain.len);
    if (plain.len > 0)
        memcpy(p + INNER_BYTES, plain.data, plain.len);
    loch_put_u64(size_bytes, total);
    const struct loch_slice aad[2] = {loch_slice_of(h.hash, sizeof h.hash),
                                      loch_slice_of(size_bytes, sizeof size_bytes)};
    LOCH_TRY_OUT(st, loch_aead_seal(aead, (struct loch_nonce){DOMAIN_OBJECT, 0}, aad, 2,
                                    loch_slice_of(p, inner), p));
    out->len = mark + total;
out:
    if (!loch_is_ok(st)) {
        loch_wipe(out->data + mark, out->cap - mark);
        out->len = mark;
    }
    loch_aead_destroy(aead);
    header_opened_fini(&h);
    return st;
}

/* The proven inner bytes: a length that fits, and nothing but zeros after it. */
static loch_status inner_check(const uint8_t *p, size_t inner, uint64_t *len)
{
    const uint64_t n = loch_get_u64(p);

    if (n > inner - INNER_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a sealed object's length is absurd");
    for (size_t i = INNER_BYTES + (size_t)n; i < inner; i++)
        if (p[i] != 0)
            return LOCH_FAIL(LOCH_E_CORRUPT, "a sealed object's padding is not zero");
    *len = n;
    return LOCH_OK;
}

loch_status loch_sealed_object_open(const struct loch_place *expected,
                                    const struct loch_key_source *keys, struct loch_slice sealed,
                                    struct loch_buf *plain, uint64_t *generation)
{
    struct header_opened h = {0};
    struct loch_aead *aead = NULL;
    const size_t mark = plain->len;
    uint8_t size_bytes[8];
    uint64_t len = 0;
    loch_status st;

    if (sealed.len < LOCH_FILE_HEADER_BYTES + INNER_BYTES + LOCH_AEAD_TAG_BYTES ||
        sealed.len > LOCH_SEALED_OBJECT_MAX_BYTES + 2 * PAD_TO)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a sealed object of %zu bytes", sealed.len);
    const size_t inner = sealed.len - LOCH_FILE_HEADER_BYTES - LOCH_AEAD_TAG_BYTES;
    LOCH_TRY(header_open(expected, false, keys, sealed, &h));
    LOCH_TRY_OUT(st, loch_buf_reserve(plain, inner));
    LOCH_TRY_OUT(st, loch_aead_create(&h.data_key, LOCH_AEAD_OPEN, &aead));
    loch_put_u64(size_bytes, sealed.len);
    const struct loch_slice aad[2] = {loch_slice_of(h.hash, sizeof h.hash),
                                      loch_slice_of(size_bytes, sizeof size_bytes)};
    uint8_t *p = plain->data + mark;
    LOCH_TRY_OUT(st, loch_aead_open(aead, (struct loch_nonce){DOMAIN_OBJECT, 0}, aad, 2,
                                    loch_slice_of(sealed.data + LOCH_FILE_HEADER_BYTES,
                                                  inner + LOCH_AEAD_TAG_BYTES),
                                    p));
    LOCH_TRY_OUT(st, inner_check(p, inner, &len));
    memmove(p, p + INNER_BYTES, (size_t)len);
    plain->len = mark + (size_t)len;
    *generation = h.generation;
out:
    loch_aead_destroy(aead);
    header_opened_fini(&h);
    return st;
}
