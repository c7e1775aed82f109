/* Holds: a WAL file's frame, little-endian.
 *
 *  off len
 *    0   4  mark: first 4 bytes of the header hash, lowest bit set
 *    4   4  length of the payload
 *    8   8  number: BEGIN 0, then 1, 2, ...; also the nonce
 *   16   8  LSN of the first byte           24   8  term
 *   32   8  end of the last whole record at or below this frame's end
 *   40  16  tag of the frame before; zeros in BEGIN
 *   56   4  frames before this one not known durable when it was sealed
 *   60   1  type: 1 DATA, 2 BEGIN           61   3  zero
 *   64   n  ciphertext
 * 64+n  16  tag, then zeros up to a multiple of 8
 *
 * Authenticated beside the ciphertext: header hash, the 64 bytes of the prefix.
 * BEGIN's payload: u64 incarnation, 24 zero bytes; its LSN is the start of the file.
 * Twin: docs/format/wal.md.
 */
#include "wal_frame.h"

#include <string.h>

void wal_prefix_encode(const struct wal_prefix *p, uint8_t out[static LOCH_WAL_FRAME_PREFIX_BYTES])
{
    loch_put_u32(out, p->mark);
    loch_put_u32(out + 4, p->len);
    loch_put_u64(out + 8, p->seq);
    loch_put_u64(out + 16, p->lsn);
    loch_put_u64(out + 24, p->term);
    loch_put_u64(out + 32, p->boundary_lsn);
    memcpy(out + 40, p->previous_tag, LOCH_AEAD_TAG_BYTES);
    loch_put_u32(out + 56, p->unsynced);
    loch_put_u32(out + 60, p->type);
}

bool wal_prefix_decode(const uint8_t in[static LOCH_WAL_FRAME_PREFIX_BYTES], struct wal_prefix *out)
{
    const uint32_t type = loch_get_u32(in + 60);

    out->mark = loch_get_u32(in);
    out->len = loch_get_u32(in + 4);
    out->seq = loch_get_u64(in + 8);
    out->lsn = loch_get_u64(in + 16);
    out->term = loch_get_u64(in + 24);
    out->boundary_lsn = loch_get_u64(in + 32);
    memcpy(out->previous_tag, in + 40, LOCH_AEAD_TAG_BYTES);
    out->unsynced = loch_get_u32(in + 56);
    out->type = (uint8_t)type;
    if (type != WAL_FRAME_DATA && type != WAL_FRAME_BEGIN)
        return false;
    return out->len > 0 && out->len <= LOCH_WAL_FRAME_MAX_BYTES &&
           out->lsn <= UINT64_MAX - out->len;
}

loch_status wal_frame_open(struct loch_aead *aead, const uint8_t hash[static LOCH_SHA256_BYTES],
                           const struct wal_prefix *p, struct loch_slice stored, uint8_t *out)
{
    const struct loch_slice aad[2] = {loch_slice_of(hash, LOCH_SHA256_BYTES),
                                      loch_slice_of(stored.data, LOCH_WAL_FRAME_PREFIX_BYTES)};
    const size_t sealed = (size_t)p->len + LOCH_AEAD_TAG_BYTES;

    if (stored.len != wal_stored_bytes(p->len))
        return LOCH_FAIL(LOCH_E_CORRUPT, "a WAL frame of %zu bytes", stored.len);
    for (size_t i = LOCH_WAL_FRAME_PREFIX_BYTES + sealed; i < stored.len; i++)
        if (stored.data[i] != 0)
            return LOCH_FAIL(LOCH_E_CORRUPT, "a WAL frame is followed by stray bytes");
    return loch_aead_open(aead, (struct loch_nonce){DOMAIN_WAL, p->seq}, aad, 2,
                          loch_slice_of(stored.data + LOCH_WAL_FRAME_PREFIX_BYTES, sealed), out);
}
