/* Frames of layer files, opened and decompressed, for the next read of the same run of keys: the
 * sizes, cuts and databases that every page read asks for, and neighbouring pages.
 *
 * Bounded by a budget of bytes; a frame larger than LOCH_FRAME_CACHED_MAX_BYTES is never kept. Any
 * thread.
 */
#ifndef LOCH_PAGESERVER_STORE_FRAME_CACHE_H
#define LOCH_PAGESERVER_STORE_FRAME_CACHE_H

#include "version.h"

#define LOCH_FRAME_CACHED_MAX_BYTES ((size_t)64 << 10)

struct loch_frame_cache;

LOCH_STATUS loch_frame_cache_create(size_t budget_bytes, struct loch_frame_cache **out);
/* Takes NULL. */
void loch_frame_cache_destroy(struct loch_frame_cache *cache);
/* The frame with a reference of its own, or NULL. */
struct loch_frame *loch_frame_cache_get(struct loch_frame_cache *cache, const struct loch_id *file,
                                        uint32_t number);
/* Takes a reference of its own, if it keeps the frame. */
void loch_frame_cache_put(struct loch_frame_cache *cache, const struct loch_id *file,
                          uint32_t number, struct loch_frame *frame);
/* Forgets all frames of a file (it is closed, or its key was revoked). */
void loch_frame_cache_drop(struct loch_frame_cache *cache, const struct loch_id *file);

#endif
