/* A layer file: what a frozen memory layer becomes. Immutable, sealed (loch/format/layer_file.h).
 *
 * Its index stays in memory while it is open: 32 bytes a run, where a run is the versions of one
 * key within one frame. Frames are read, opened and decompressed on demand. Format:
 * docs/format/layer.md.
 */
#ifndef LOCH_PAGESERVER_STORE_LAYER_H
#define LOCH_PAGESERVER_STORE_LAYER_H

#include "mem_layer.h"
#include "version.h"

#include "loch/layers/compact.h"
#include "loch/layers/plan.h"

struct loch_layer;
struct loch_keys;
struct loch_store;
struct loch_timeline_info;

/* What the manifest says about a layer. */
struct loch_layer_desc {
    struct loch_id file_id;
    uint64_t generation;
    uint64_t file_bytes;
    struct loch_layer_span span;
    uint8_t level; /* enum loch_layer_level */
    uint32_t keys; /* counts, at most UINT32_MAX */
    uint32_t versions, images;
    struct loch_layer_weight weight;
};

/* On disk: values never change meaning. */
enum loch_layer_level {
    LOCH_LAYER_FLUSHED = 0, /* L0: what a flush made of all keys of a range of LSNs */
    LOCH_LAYER_MERGED = 1   /* L1: a part of the keys */
};

/* Room for a layer file's path. */
#define LOCH_LAYER_PATH_BYTES 4096u

/* "<dir>/tenants/<tenant>/timelines/<timeline>" */
LOCH_STATUS loch_timeline_dir(const struct loch_store *store, const struct loch_id *tenant,
                              const struct loch_id *timeline, char path[LOCH_LAYER_PATH_BYTES]);
LOCH_STATUS loch_layer_path(const struct loch_store *store, const struct loch_timeline_info *info,
                            const struct loch_layer_desc *desc, char path[LOCH_LAYER_PATH_BYTES]);

struct loch_imager; /* store/pushdown.h */

/* Writes a frozen layer as a sealed file, durable on return, with images where chains are long
 * (imager NULL: none). The file is nobody's until the manifest names it. Blocks. */
LOCH_STATUS loch_layer_write(const struct loch_store *store, struct loch_keys *keys,
                             const struct loch_timeline_info *info, struct loch_mem_layer *mem,
                             const struct loch_imager *imager, struct loch_layer_desc *out);

/* The same as several files at once, each of a stretch of the keys: with how many to begin, at most
 * store->flush_parts, each of flush_part_bytes of memory or more. */
size_t loch_layer_parts(const struct loch_store *store, const struct loch_mem_layer *mem);
/* As loch_layer_write, as `parts` files to begin with (1 to LOCH_FLUSH_PARTS_MAX, a thread each),
 * by key; imagers: one for each of them, or NULL. A thread that is done goes on with half of what
 * is left of another's, as one more file. `out` has room for LOCH_FLUSH_PARTS_MAX, *count: how many
 * there are, at most twice `parts`. A failure leaves none. */
LOCH_STATUS loch_layer_write_parts(const struct loch_store *store, struct loch_keys *keys,
                                   const struct loch_timeline_info *info,
                                   struct loch_mem_layer *mem, const struct loch_imager *imagers,
                                   size_t parts, struct loch_layer_desc *out, size_t *count);

/* Opens and checks header, footer and index. Blocks. LOCH_E_CORRUPT, LOCH_E_NOT_FOUND (file or
 * key). */
LOCH_STATUS loch_layer_open(const struct loch_store *store, struct loch_keys *keys,
                            const struct loch_timeline_info *info,
                            const struct loch_layer_desc *desc, struct loch_layer **out);
struct loch_layer *loch_layer_retain(struct loch_layer *layer);
void loch_layer_release(struct loch_layer *layer);

const struct loch_layer_desc *loch_layer_desc(const struct loch_layer *layer);
/* Its DEK is wrapped by a retired version of the timeline's key. */
bool loch_layer_is_old(struct loch_layer *layer, struct loch_keys *keys);
/* The most records that a read of a page's newest version here applies, older layers' included. */
uint32_t loch_layer_longest(const struct loch_layer *layer);
/* It was written for idle time's images: what stands in it without one cannot have one. Any thread.
 */
void loch_layer_set_imaged(struct loch_layer *layer);
bool loch_layer_is_imaged(const struct loch_layer *layer);
/* A block of the file was found damaged: it is to be healed (store/heal.h). Any thread. */
bool loch_layer_is_harmed(const struct loch_layer *layer);
size_t loch_layer_index_bytes(const struct loch_layer *layer);

/* As loch_mem_layer_collect. Any thread; blocks on the file. */
LOCH_STATUS loch_layer_collect(struct loch_layer *layer, const struct loch_key *key, loch_lsn floor,
                               loch_lsn lsn, struct loch_versions *out, bool *base);
/* As loch_mem_layer_keys. */
LOCH_STATUS loch_layer_keys(struct loch_layer *layer, const struct loch_key *first,
                            const struct loch_key *end, struct loch_key **out, size_t *count);
/* The chain of the key's newest version here, older layers' part included, as it was known when
 * this layer was written. False when the key is not here. No I/O. */
bool loch_layer_chain(struct loch_layer *layer, const struct loch_key *key, struct loch_chain *out);

/* All that a layer holds, key by key. Zero-initialise, then set `layer` (borrowed); one thread. */
struct loch_layer_cursor {
    struct loch_layer *layer;
    uint32_t run;
    uint32_t frame_number;
    struct loch_frame *frame; /* held; NULL: none */
};
/* The key it stands at; false at the end. */
bool loch_layer_cursor_key(const struct loch_layer_cursor *cursor, struct loch_key *out);
/* Appends every version of that key, oldest first, and moves behind it. Reads past the frame cache.
 */
LOCH_STATUS loch_layer_cursor_take(struct loch_layer_cursor *cursor, struct loch_versions *out);
/* Moves behind that key without reading. How many bytes of frames taking it would hold in memory,
 * as far as the index tells. */
uint64_t loch_layer_cursor_skip(struct loch_layer_cursor *cursor);
void loch_layer_cursor_fini(struct loch_layer_cursor *cursor);

#endif
