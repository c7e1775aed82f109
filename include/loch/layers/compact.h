/* Which layers to merge: plain functions over what the manifest says about them.
 *
 * Layers come in bands, newest first: the files of a band share their LSN range and are disjoint in
 * keys; bands are disjoint in LSN. A flush makes a band (L0) of one file
 * or a few. A merge takes bands that
 * lie side by side and makes one of them, partitioned by key, so that a read looks into one file a
 * band, and the number of bands grows with the logarithm of what is kept.
 */
#ifndef LOCH_LAYERS_COMPACT_H
#define LOCH_LAYERS_COMPACT_H

#include "loch/layers/plan.h"

#include <stdbool.h>

/* What is in a layer, in bytes before compression. */
struct loch_layer_weight {
    uint64_t raw;  /* all versions */
    uint64_t past; /* superseded within the layer, and above the cutoff when it was written: goes
                      when the cutoff has passed */
    uint64_t held; /* superseded, kept for a branch or a lease alone */
};

struct loch_band {
    loch_lsn start_lsn, end_lsn;
    uint64_t bytes; /* of its files */
    struct loch_layer_weight weight;
    size_t first, count; /* its files within the list */
};

/* Adds a layer behind the ones that are in bands[0..count): to the last band if it is of the same
 * LSN range, else as a new one; bands has room for it. index: its place in the list. Returns the
 * new count. */
size_t loch_bands_add(struct loch_band *bands, size_t count, const struct loch_layer_span *span,
                      uint64_t bytes, const struct loch_layer_weight *weight, size_t index);

struct loch_compact_settings {
    uint32_t fan_in;       /* at least so many neighbours of like size are merged; 2 or more */
    uint64_t band_bytes;   /* a band up to this size is of the first tier; each further tier is
                              fan_in times larger */
    uint32_t base_percent; /* bands below the cutoff are merged into the oldest when together they
                              are so many percent of it, or so many percent of it all are past */
};

struct loch_compact_plan {
    size_t first, count; /* bands, newest first; count 0: nothing to do */
};

/* What to merge next. First what is new (reads profit most), then what the cutoff has passed. The
 * merge of a single band rewrites it without what is past. */
struct loch_compact_plan loch_compact_next(const struct loch_band *bands, size_t count,
                                           const struct loch_compact_settings *settings,
                                           loch_lsn cutoff);

/* What to merge while nothing is written, so that long chains of pages get images: the newest bands
 * down to the last one that has such (long_chains[i]), as far as all of them together have at most
 * `bytes`. */
struct loch_compact_plan loch_compact_idle(const struct loch_band *bands, size_t count,
                                           const bool *long_chains, uint64_t bytes);

/* Flushes leave so much of either of a page's limits unused at its newest version: so much its
 * chain may grow by in the next layer before anybody asks the older ones how long it is there. */
#define LOCH_CHAIN_ROOM(max_) ((max_) / 4)

/* Whether a page whose last `records` records of `bytes` bytes stand on no image gets one. */
static inline bool loch_image_wanted(uint32_t records, uint64_t bytes, uint32_t records_max,
                                     uint64_t bytes_max)
{
    return records > records_max || bytes > bytes_max;
}

#endif
