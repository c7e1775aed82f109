/* Merging bands into files: the versions of each key from all of them, in order, without what
 * retention lets go. Private to store/. */
#ifndef LOCH_PAGESERVER_STORE_MERGE_H
#define LOCH_PAGESERVER_STORE_MERGE_H

#include "compact.h"
#include "layer_set.h"

struct loch_merge {
    struct loch_timeline *timeline;
    const struct loch_compaction *compaction;
    struct loch_layer_set *set;      /* what is merged ... */
    struct loch_compact_plan plan;   /* ... of it */
    struct loch_retention retention; /* as the manifest says */
    const struct loch_imager *imager;
    bool idle; /* for images at the tip */
    struct loch_compaction_stats stats;
    /* results: files, durable, that no manifest names; owned */
    struct loch_layer **files;
    size_t file_count;
};

LOCH_STATUS loch_merge_run(struct loch_merge *merge);
/* Closes the files; they stay on disk. */
void loch_merge_fini(struct loch_merge *merge);

#endif
