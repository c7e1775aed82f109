/* Layer files: immutable, written once from front to back, read at random from any thread.
 *
 *   header | frame 0 | frame 1 | ... | index | footer
 *
 * A frame is one AEAD message (an image, a run of deltas, a block of an index: the engine's choice)
 * with its number as the nonce, optionally compressed. The sealed index (the engine's bytes) and
 * the sealed footer (frame count, length, hash of the index) make truncation and splicing visible.
 * A retry of an upload sends the same bytes; a new attempt at a file is a new file id and DEK.
 * Format: docs/format/layer.md.
 */
#ifndef LOCH_FORMAT_LAYER_FILE_H
#define LOCH_FORMAT_LAYER_FILE_H

#include "loch/crypto/wrap.h"
#include "loch/format/place.h"

#define LOCH_LAYER_FRAME_MAX_BYTES (256u << 20) /* raw */
#define LOCH_LAYER_INDEX_MAX_BYTES (256u << 20)
#define LOCH_LAYER_REF_BYTES       16u /* encoded */

/* Names a frame within its file. 16 bytes, for use in the engine's index. */
struct loch_layer_ref {
    uint64_t offset;
    uint32_t stored_bytes; /* ciphertext and tag */
    uint32_t frame;        /* number, from 0 */
};

void loch_layer_ref_encode(const struct loch_layer_ref *ref,
                           uint8_t out[static LOCH_LAYER_REF_BYTES]);
struct loch_layer_ref loch_layer_ref_decode(const uint8_t in[static LOCH_LAYER_REF_BYTES]);

struct loch_layer_writer;

/* How frames are compressed, one at a time, where it saves at least an eighth. On disk: values
 * never change meaning. */
enum loch_layer_codec {
    LOCH_LAYER_STORED = 0,
    LOCH_LAYER_ZSTD = 1, /* level 1: the smallest files */
    LOCH_LAYER_LZ4 = 2   /* written and read some three times as fast */
};

struct loch_layer_options {
    enum loch_layer_codec codec;
    bool pad; /* compressed frames to multiples of 512 bytes, so that sizes tell less */
};

/* Appends the header to *out. Writers only append to `out`; the caller moves the bytes to the file
 * when it likes (loch_buf_consume) and calls with any buffer: offsets are kept inside.
 * place: kind LAYER, tenant, timeline, file_id (fresh), generation. One thread at a time. */
LOCH_STATUS loch_layer_writer_create(const struct loch_place *place,
                                     const struct loch_wrap_key *key,
                                     const struct loch_layer_options *options, struct loch_buf *out,
                                     struct loch_layer_writer **writer);
void loch_layer_writer_destroy(struct loch_layer_writer *writer);
/* LZ4 (else it means nothing): frames from here on are compressed sooner, and a little less. */
void loch_layer_writer_hurry(struct loch_layer_writer *writer, bool hurry);
/* Seals one frame and says where it is. LOCH_E_LIMIT above LOCH_LAYER_FRAME_MAX_BYTES. */
LOCH_STATUS loch_layer_writer_frame(struct loch_layer_writer *writer, struct loch_slice raw,
                                    struct loch_buf *out, struct loch_layer_ref *ref);
/* Seals index and footer: the file is complete; *file_bytes is its whole length. Nothing may
 * follow. */
LOCH_STATUS loch_layer_writer_finish(struct loch_layer_writer *writer, struct loch_slice index,
                                     struct loch_buf *out, uint64_t *file_bytes);
/* Bytes of the file produced so far. */
uint64_t loch_layer_writer_bytes(const struct loch_layer_writer *writer);

/* Exactly `len` bytes at `offset`, from any thread; LOCH_E_CORRUPT when the file is shorter. */
typedef LOCH_STATUS (*loch_read_at_fn)(void *arg, uint64_t offset, void *out, size_t len);

struct loch_layer_reader;

/* Reads and checks header, footer and index. `read_at` and `arg` are kept until destroy.
 * LOCH_E_CORRUPT, LOCH_E_UNSUPPORTED, LOCH_E_NOT_FOUND/LOCH_E_DENIED (keys), or read_at's failure.
 */
LOCH_STATUS loch_layer_reader_open(const struct loch_place *expected,
                                   const struct loch_key_source *keys, uint64_t file_bytes,
                                   loch_read_at_fn read_at, void *arg,
                                   struct loch_layer_reader **out);
/* No frame may be being read. Takes NULL. */
void loch_layer_reader_destroy(struct loch_layer_reader *reader);
/* Borrowed, lives with the reader. */
struct loch_slice loch_layer_reader_index(const struct loch_layer_reader *reader);
uint32_t loch_layer_reader_frames(const struct loch_layer_reader *reader);
/* Appends the frame's raw bytes to *raw. Any thread, many at once. */
LOCH_STATUS loch_layer_reader_frame(struct loch_layer_reader *reader,
                                    const struct loch_layer_ref *ref, struct loch_buf *raw);
/* The same on bytes the caller read itself (ref->stored_bytes at ref->offset), which are opened
 * where they stand: what is in `stored` afterwards is of no use. */
LOCH_STATUS loch_layer_reader_open_in_place(struct loch_layer_reader *reader,
                                            const struct loch_layer_ref *ref, uint8_t *stored,
                                            size_t len, struct loch_buf *raw);
/* The same, leaving the caller's bytes alone. */
LOCH_STATUS loch_layer_reader_open_frame(struct loch_layer_reader *reader,
                                         const struct loch_layer_ref *ref, struct loch_slice stored,
                                         struct loch_buf *raw);

#endif
