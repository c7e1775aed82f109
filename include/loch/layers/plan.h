/* Which layers a read needs: plain functions over what the manifest says about layers.
 *
 * The layers of one timeline form bands (layers/compact.h), newest first: those of a band share
 * their LSN range and ascend in keys, bands are disjoint in LSN. A read walks the bands in that
 * order, looks into at most one layer of each, and stops at the first base; then it goes on in the
 * ancestor, at the branch point. No I/O, no memory, no locks.
 */
#ifndef LOCH_LAYERS_PLAN_H
#define LOCH_LAYERS_PLAN_H

#include "loch/base/types.h"
#include "loch/pg/key.h"

/* Keys first..last, both inclusive; versions start_lsn < lsn <= end_lsn. An import has start_lsn ==
 * end_lsn and holds versions at exactly that LSN. */
struct loch_layer_span {
    struct loch_key first, last;
    loch_lsn start_lsn, end_lsn;
};

/* Whether the layer may hold versions of `key` with floor <= lsn <= `lsn`. */
bool loch_layer_span_needed(const struct loch_layer_span *span, const struct loch_key *key,
                            loch_lsn floor, loch_lsn lsn);
/* Whether it may hold keys in [first, end) with versions <= lsn. */
bool loch_layer_span_meets(const struct loch_layer_span *span, const struct loch_key *first,
                           const struct loch_key *end, loch_lsn lsn);
/* Nothing in this layer or in older ones is at or above `floor`: the walk can stop. */
bool loch_layer_span_below(const struct loch_layer_span *span, loch_lsn floor);
/* Spans newest first must follow each other without overlap, within a band in keys, else in LSN:
 * LOCH_E_CORRUPT naming the place. */
LOCH_STATUS loch_layers_check(const struct loch_layer_span *spans, size_t count);
/* The LSN at which a read at `lsn` goes on in the ancestor. */
loch_lsn loch_ancestor_read_lsn(loch_lsn lsn, loch_lsn ancestor_lsn);

/* A page's cut at `cut_lsn` from block `cut_block` on hides its older versions. */
bool loch_cut_hides(uint32_t cut_block, uint32_t block);

#endif
