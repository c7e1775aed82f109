/* Holds: the envelope around a key service's blob. Little-endian:
 *
 * u8 1 | u8 provider | u16 0 | u32 length of inner | 16 check | inner | u32 CRC-32C of all before.
 *
 * check: first half of the key's commitment, salted with the encryption context: a service that
 * gives back another key is noticed here. The CRC tells a damaged blob without asking anybody; it
 * proves nothing else. Twin: docs/format/keyring.md.
 */
#include "envelope.h"

#include "loch/base/crc32c.h"
#include "loch/crypto/hkdf.h"
#include "loch/crypto/wrap.h"
#include "loch/kms/kms.h"

#include <string.h>

#define HEAD_BYTES  24u
#define CHECK_BYTES 16u
#define AT_CHECK    8u

static loch_status check_of(const struct loch_secret *key, struct loch_slice context,
                            uint8_t out[static CHECK_BYTES])
{
    uint8_t whole[LOCH_COMMITMENT_BYTES];

    LOCH_TRY(loch_key_commitment(key, context, whole));
    memcpy(out, whole, CHECK_BYTES);
    return LOCH_OK;
}

static uint32_t crc_of(const uint8_t *bytes, size_t len)
{
    return loch_crc32c_finish(loch_crc32c_update(LOCH_CRC32C_INIT, bytes, len));
}

loch_status kms_envelope_write(uint8_t provider, struct loch_slice context,
                               const struct loch_secret *key, struct loch_slice inner,
                               struct loch_buf *out)
{
    const size_t mark = out->len;

    if (key->len != KMS_KEK_BYTES)
        return LOCH_FAIL(LOCH_E_INVALID, "a KEK has %u bytes, not %zu", KMS_KEK_BYTES, key->len);
    if (inner.len == 0 || inner.len > LOCH_KMS_WRAP_MAX_BYTES - HEAD_BYTES - 4)
        return LOCH_FAIL(LOCH_E_LIMIT, "the key service's blob has %zu bytes", inner.len);
    LOCH_TRY(loch_buf_reserve(out, HEAD_BYTES + inner.len + 4));
    uint8_t *at = out->data + mark;
    memset(at, 0, HEAD_BYTES);
    at[0] = 1;
    at[1] = provider;
    loch_put_u32(at + 4, (uint32_t)inner.len);
    LOCH_TRY(check_of(key, context, at + AT_CHECK));
    memcpy(at + HEAD_BYTES, inner.data, inner.len);
    loch_put_u32(at + HEAD_BYTES + inner.len, crc_of(at, HEAD_BYTES + inner.len));
    out->len = mark + HEAD_BYTES + inner.len + 4;
    return LOCH_OK;
}

loch_status kms_envelope_read(uint8_t provider, struct loch_slice blob, struct loch_slice *inner)
{
    const uint8_t *p = blob.data;

    if (blob.len <= HEAD_BYTES + 4 || p[0] != 1 || (p[2] | p[3]) != 0 ||
        loch_get_u32(p + 4) != blob.len - HEAD_BYTES - 4 ||
        loch_get_u32(p + blob.len - 4) != crc_of(p, blob.len - 4))
        return LOCH_FAIL(LOCH_E_CORRUPT, "a wrapped KEK is damaged");
    if (p[1] != provider)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a wrapped KEK is of another kind of key service");
    *inner = loch_slice_of(p + HEAD_BYTES, blob.len - HEAD_BYTES - 4);
    return LOCH_OK;
}

loch_status kms_envelope_prove(struct loch_slice blob, struct loch_slice context,
                               const struct loch_secret *key)
{
    uint8_t check[CHECK_BYTES];

    if (key->len != KMS_KEK_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "the key service gave back %zu bytes, not a KEK",
                         key->len);
    LOCH_TRY(check_of(key, context, check));
    if (!loch_bytes_equal(check, blob.data + AT_CHECK, sizeof check))
        return LOCH_FAIL(LOCH_E_CORRUPT,
                         "the key service gave back another key than the one that was wrapped");
    return LOCH_OK;
}
