/* What layer writer and reader share. */
#ifndef LOCH_FORMAT_LAYER_INTERNAL_H
#define LOCH_FORMAT_LAYER_INTERNAL_H

#include "header.h"
#include "loch/crypto/aead.h"
#include "loch/format/layer_file.h"

/* Inner prefix of a frame, inside the ciphertext: u32 raw length, u8 codec, 3 zero. */
#define LAYER_INNER_BYTES        8u
#define LAYER_FOOTER_PLAIN_BYTES 64u
#define LAYER_FOOTER_BYTES       (LAYER_FOOTER_PLAIN_BYTES + LOCH_AEAD_TAG_BYTES)
#define LAYER_FRAME_STORED_MIN   (LAYER_INNER_BYTES + LOCH_AEAD_TAG_BYTES)
#define LAYER_AAD_BYTES          16u

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
