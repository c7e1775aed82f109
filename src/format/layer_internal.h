/* What layer writer and reader share. */
#ifndef LOCH_FORMAT_LAYER_INTERNAL_H
#define LOCH_FORMAT_LAYER_INTERNAL_H

#include "header.h"
#include "loch/crypto/aead.h"
#include "loch/format/layer_file.h"

/* Inner prefix of a frame, inside the ciphertext: u32 raw length, u8 codec, 3 zero. */
#define LAYER_INNER_BYTES 8u
/* Of a payload of LZ4: u32 bytes of the block, which may be followed by padding. */
#define LAYER_LZ4_HEAD_BYTES     4u
#define LAYER_FOOTER_PLAIN_BYTES 64u
#define LAYER_FOOTER_BYTES       (LAYER_FOOTER_PLAIN_BYTES + LOCH_AEAD_TAG_BYTES)
#define LAYER_FRAME_STORED_MIN   (LAYER_INNER_BYTES + LOCH_AEAD_TAG_BYTES)
#define LAYER_AAD_BYTES          16u

/* What a frame's message holds, `inner` (n proven bytes, prefix included), to raw bytes at the end
 * of *raw. file_codec: what the header allows beside CODEC_NONE. LOCH_E_CORRUPT, above max_bytes
 * too.
 */
LOCH_STATUS layer_unpack(uint8_t file_codec, const uint8_t *inner, size_t n, size_t max_bytes,
                         struct loch_buf *raw);

/* Beside the header hash: u64 number, u32 stored bytes, u8 domain, u8 final, u16 zero. */
static inline void layer_aad(enum header_domain domain, uint64_t number, uint32_t stored,
                             uint8_t out[static LAYER_AAD_BYTES])
{
    loch_put_u64(out, number);
    loch_put_u32(out + 8, stored);
    out[12] = (uint8_t)domain;
    out[13] = domain == DOMAIN_LAYER_FOOTER;
    out[14] = 0;
    out[15] = 0;
}

#endif
