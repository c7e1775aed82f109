/* The second copy of a layer file, in the object store:
 * tenants/<tenant>/timelines/<timeline>/layers/<file id>-<generation>.layer, the same bytes.
 *
 * With store->copies every layer has one from before a manifest names it until after none does; a
 * timeline that is archived has nothing else. Copies heal local files and the other way round:
 * whatever is taken as good has been opened block by block first. An object that an unfinished
 * change left has a local file of the same name, with which it is swept. Blocks: pool threads, or
 * at start-up.
 */
#ifndef LOCH_PAGESERVER_STORE_LAYER_COPY_H
#define LOCH_PAGESERVER_STORE_LAYER_COPY_H

#include "layer.h"

#include <stdatomic.h>

struct loch_objstore; /* loch/objstore/objstore.h */

/* What healing did; any thread. */
struct loch_heal_stats {
    atomic_uint_least64_t blocks; /* read from the copy because the local one was damaged */
    atomic_uint_least64_t files;  /* local files replaced */
    atomic_uint_least64_t copies; /* objects replaced */
    atomic_uint_least64_t lost;   /* damage for which there was nothing to heal it from */
};

LOCH_STATUS loch_layer_copy_name(const struct loch_id *tenant, const struct loch_id *timeline,
                                 const char *file, char name[LOCH_LAYER_PATH_BYTES]);
/* Puts the bytes of a layer that was just written. */
LOCH_STATUS loch_layer_copy_put(const struct loch_store *store,
                                const struct loch_timeline_info *info,
                                const struct loch_layer_desc *desc, struct loch_slice bytes);
/* LOCH_OK also when there is none. */
LOCH_STATUS loch_layer_copy_remove(const struct loch_store *store,
                                   const struct loch_timeline_info *info,
                                   const struct loch_layer_desc *desc);
/* A file that nobody names (any more) goes, its copy before it; what cannot be removed is said in
 * the log and stays until the next start. */
void loch_layer_discard(const struct loch_store *store, const struct loch_timeline_info *info,
                        const struct loch_layer_desc *desc);
/* Writes the local file anew from the copy, durable and whole or not at all. LOCH_E_NOT_FOUND:
 * there is no copy; LOCH_E_CORRUPT: it is damaged too. */
LOCH_STATUS loch_layer_copy_fetch(const struct loch_store *store, struct loch_keys *keys,
                                  const struct loch_timeline_info *info,
                                  const struct loch_layer_desc *desc);
/* Opens every block of the local file and of the copy. A damaged or missing one is replaced by the
 * other; a copy that is missing is put if `wanted`. LOCH_E_CORRUPT, LOCH_E_NOT_FOUND: neither is
 * good, nothing was changed. *healed: the local file is another now. */
LOCH_STATUS loch_layer_copy_check(const struct loch_store *store, struct loch_keys *keys,
                                  const struct loch_timeline_info *info,
                                  const struct loch_layer_desc *desc, bool wanted, bool *healed);
/* The failure `copied` (loch_status_passes) of a copy that was asked because of `why`, and both
 * texts. */
LOCH_STATUS loch_layer_copy_away(loch_status copied, const char *why);
/* One block's stored bytes out of the copy, not checked yet. */
LOCH_STATUS loch_layer_copy_block(struct loch_objstore *objstore, const struct loch_id *tenant,
                                  const struct loch_id *timeline,
                                  const struct loch_layer_desc *desc, uint64_t offset, size_t len,
                                  struct loch_buf *out);

#endif
