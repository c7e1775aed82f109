/* The frame of a WAL file, shared by writer, reader and scanner. */
#ifndef LOCH_FORMAT_WAL_FRAME_H
#define LOCH_FORMAT_WAL_FRAME_H

#include "header.h"
#include "loch/crypto/aead.h"
#include "loch/format/wal_file.h"

enum wal_frame_type { WAL_FRAME_DATA = 1, WAL_FRAME_BEGIN = 2 };

#define WAL_BEGIN_PAYLOAD_BYTES 32u
#define WAL_BEGIN_STORED_BYTES  (LOCH_WAL_HEAD_BYTES - LOCH_FILE_HEADER_BYTES)

struct wal_prefix {
    uint32_t mark;
    uint32_t len;
    uint64_t seq;
    loch_lsn lsn;
    uint64_t term;
    loch_lsn boundary_lsn;
    uint8_t previous_tag[LOCH_AEAD_TAG_BYTES];
    uint32_t unsynced;
    uint8_t type;
};

void wal_prefix_encode(const struct wal_prefix *p, uint8_t out[static LOCH_WAL_FRAME_PREFIX_BYTES]);
/* False when the bytes cannot be a prefix (unknown type, reserved bytes not zero, absurd length).
 */
bool wal_prefix_decode(const uint8_t in[static LOCH_WAL_FRAME_PREFIX_BYTES],
                       struct wal_prefix *out);

/* Prefix, ciphertext, tag, zeros up to 8: what a frame of len bytes takes. */
static inline uint32_t wal_stored_bytes(uint32_t len)
{
    return (LOCH_WAL_FRAME_PREFIX_BYTES + len + LOCH_AEAD_TAG_BYTES + 7u) & ~7u;
}

/* What stands at the start of every frame of a file; never 0, so that zeros are no frame. */
static inline uint32_t wal_mark_of(const uint8_t hash[static LOCH_SHA256_BYTES])
{
    return loch_get_u32(hash) | 1u;
}

struct loch_wal_reader {
    struct loch_aead_pool pool;
    uint8_t hash[LOCH_SHA256_BYTES];
    uint8_t begin_tag[LOCH_AEAD_TAG_BYTES];
    uint32_t mark;
    struct loch_wal_begin begin;
};

/* The simulator's own build of the reader can be told to take a recycled file's old frames for its
 * own, which its checkers must see. The product's reader has no such code. */
#ifdef LOCH_SIM_MUTATIONS
extern bool wal_takes_stale_frames;
#else
#define wal_takes_stale_frames false
#endif

/* Opens the frame whose whole stored bytes are given (prefix already decoded) into `out` (p->len
 * bytes). LOCH_E_CORRUPT also for alignment bytes that are not zero. */
LOCH_STATUS wal_frame_open(struct loch_aead *aead, const uint8_t hash[static LOCH_SHA256_BYTES],
                           const struct wal_prefix *p, struct loch_slice stored, uint8_t *out);

#endif
