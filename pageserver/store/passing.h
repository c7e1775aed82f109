/* What a scan keeps to itself. Its pages go by: nobody else will want them soon, and the next ones
 * stand behind them in the same file. So the caches keep what they have, the frame it was given
 * last stays here (the next pages often stand in it too), and the file's bytes are read in
 * stretches.
 *
 * Zero-initialised is empty and valid. One thread at a time.
 */
#ifndef LOCH_PAGESERVER_STORE_PASSING_H
#define LOCH_PAGESERVER_STORE_PASSING_H

#include "loch/base/types.h"
#include "loch/format/layer_file.h"
#include "loch/io/env.h"

struct loch_frame;

struct loch_passing {
    struct loch_id file; /* of the frame */
    uint32_t number;
    struct loch_frame *frame; /* NULL: none; a reference */
    /* Stored bytes that were read and not taken: of stretch_file, from stretch_offset on. */
    struct loch_id stretch_file;
    uint64_t stretch_offset;
    size_t at, end; /* where they stand in `bytes` */
    uint8_t *bytes; /* NULL until the first stretch */
    /* Bytes taken one behind the other, up to now and before the scan last went elsewhere: a
     * parallel scan's process is given runs of blocks of like length. */
    uint64_t run, run_before;
};

/* One more reference on the frame for the caller; NULL when it is another. */
struct loch_frame *loch_passing_frame(const struct loch_passing *passing,
                                      const struct loch_id *file, uint32_t number);
/* Keeps it, with a reference of its own, in the place of the one before. */
void loch_passing_keep(struct loch_passing *passing, const struct loch_id *file, uint32_t number,
                       struct loch_frame *frame);
/* The frame's stored bytes out of the OS cache, for the caller to open in place and to wipe before
 * the next call; those that follow them in the file are read with them when the frame follows the
 * one taken last. NULL: not in memory (or a fault, or a frame larger than a stretch). */
uint8_t *loch_passing_take(struct loch_passing *passing, struct loch_file *source,
                           const struct loch_id *file, const struct loch_layer_ref *ref);
void loch_passing_fini(struct loch_passing *passing);

#endif
