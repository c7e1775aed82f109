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
};

/* Room for a layer file's path. */
#define LOCH_LAYER_PATH_BYTES 4096u

/* "<dir>/tenants/<tenant>/timelines/<timeline>" */
LOCH_STATUS loch_timeline_dir(const struct loch_store *store, const struct loch_id *tenant,
                              const struct loch_id *timeline, char path[LOCH_LAYER_PATH_BYTES]);
LOCH_STATUS loch_layer_path(const struct loch_store *store, const struct loch_timeline_info *info,
                            const struct loch_layer_desc *desc, char path[LOCH_LAYER_PATH_BYTES]);

/* Makes the image of page `key` at `lsn`; *made false: no image is wanted or can be made. */
typedef LOCH_STATUS (*loch_layer_image_fn)(void *arg, const struct loch_key *key, loch_lsn lsn,
                                           uint8_t page[LOCH_PAGE_BYTES], bool *made);
struct loch_layer_imager {
    loch_layer_image_fn make; /* NULL: no images */
    void *arg;
    size_t chain_max;       /* a page with more records than this since its last image gets one */
    size_t chain_bytes_max; /* or with more bytes of them */
};

/* Writes a frozen layer as a sealed file, durable on return. The file is nobody's until the
 * manifest names it. Blocks. */
LOCH_STATUS loch_layer_write(const struct loch_store *store, struct loch_keys *keys,
                             const struct loch_timeline_info *info, struct loch_mem_layer *mem,
                             const struct loch_layer_imager *imager, struct loch_layer_desc *out);

/* Opens and checks header, footer and index. Blocks. LOCH_E_CORRUPT, LOCH_E_NOT_FOUND (file or
 * key). */
LOCH_STATUS loch_layer_open(const struct loch_store *store, struct loch_keys *keys,
                            const struct loch_timeline_info *info,
                            const struct loch_layer_desc *desc, struct loch_layer **out);
struct loch_layer *loch_layer_retain(struct loch_layer *layer);
void loch_layer_release(struct loch_layer *layer);

const struct loch_layer_desc *loch_layer_desc(const struct loch_layer *layer);
size_t loch_layer_index_bytes(const struct loch_layer *layer);

/* As loch_mem_layer_collect. Any thread; blocks on the file. */
LOCH_STATUS loch_layer_collect(struct loch_layer *layer, const struct loch_key *key, loch_lsn floor,
                               loch_lsn lsn, struct loch_versions *out, bool *base);
/* As loch_mem_layer_keys. */
LOCH_STATUS loch_layer_keys(struct loch_layer *layer, const struct loch_key *first,
                            const struct loch_key *end, struct loch_key **out, size_t *count);

#endif
