/* The header that every sealed file begins with, and what follows from it: the data key and the
 * hash that every message of the file authenticates. */
#ifndef LOCH_FORMAT_HEADER_H
#define LOCH_FORMAT_HEADER_H

#include "loch/crypto/hkdf.h"
#include "loch/crypto/wrap.h"
#include "loch/format/place.h"

/* Nonce domains: kinds of messages within one file. */
enum header_domain {
    DOMAIN_LAYER_FRAME = 0,
    DOMAIN_LAYER_INDEX = 1,
    DOMAIN_LAYER_FOOTER = 2,
    DOMAIN_OBJECT = 3,
    DOMAIN_WAL = 4
};

enum header_codec { CODEC_NONE = 0, CODEC_ZSTD = 1, CODEC_LZ4 = 2 };
enum header_flag { FLAG_PADDED = 1 };

struct header_spec {
    uint8_t codec; /* what messages may use, beside CODEC_NONE */
    uint8_t flags;
    uint32_t block_bytes; /* most raw bytes in one message */
};

struct header_opened {
    struct loch_secret data_key;
    uint8_t hash[LOCH_SHA256_BYTES];
    struct header_spec spec;
    uint64_t generation;
};

void header_opened_fini(struct header_opened *h);

/* Draws DEK, salt and session, appends LOCH_FILE_HEADER_BYTES to *out. */
LOCH_STATUS header_seal(const struct loch_place *place, const struct header_spec *spec,
                        const struct loch_wrap_key *key, struct loch_buf *out,
                        struct header_opened *opened);
/* bytes.len >= LOCH_FILE_HEADER_BYTES. Compares everything of `expected` but the generation, which
 * is compared only when check_generation. */
LOCH_STATUS header_open(const struct loch_place *expected, bool check_generation,
                        const struct loch_key_source *keys, struct loch_slice bytes,
                        struct header_opened *opened);

#endif
