/* Compaction of a timeline: neighbouring bands of layers become one, partitioned by key, without
 * what nobody can read any more, with images where chains are long.
 *
 * New files are durable before the manifest names them by conditional put; the old ones go after
 * that, and opening sweeps what a crash left. Where the put failed, which may have been done all
 * the same, the new ones go with the next put of the timeline that is done. A flush may commit
 * meanwhile; one compaction of a timeline at a time. Reads go on: a view keeps the files that it
 * shows.
 */
#ifndef LOCH_PAGESERVER_STORE_COMPACT_H
#define LOCH_PAGESERVER_STORE_COMPACT_H

#include "timeline.h"

#include "loch/layers/compact.h"

struct loch_compaction {
    struct loch_compact_settings settings;
    uint64_t file_bytes; /* a merged file is ended at about this size: what a merge needs of memory,
                            beside one key's history */
    uint64_t key_bytes;  /* the most of one key's history that is loaded; 0: no limit */
    /* Called often, between keys and within a key's history: waits as long as it sees fit; a
     * failure ends the merge, which then leaves nothing. NULL: never waits. */
    LOCH_STATUS (*pace)(void *arg);
    void *arg;
    bool everything; /* all bands into one, whatever the plan says */
    /* When there is nothing else: bands of at most idle_bytes together, so that reads of pages as
     * they are now apply at most idle_records. 0: not now. */
    uint32_t idle_records;
    uint64_t idle_bytes;
};

struct loch_compaction_stats {
    uint64_t read_bytes, written_bytes; /* of files */
    uint32_t files_read, files_written;
    uint64_t dropped_bytes; /* of versions, before compression */
    uint64_t idle_images;
};

/* Does the next merge, if there is one (*done); when there is none, the oldest band with a file
 * under a retired key is written anew. Blocks: pool thread. LOCH_E_STALE, LOCH_E_EXISTS: another
 * pageserver writes the timeline; LOCH_E_CORRUPT names the block; LOCH_E_LIMIT names the key whose
 * history is too long to be loaded: nothing was read then; LOCH_E_UNAVAILABLE: an ancestor has not
 * ingested up to the branch point again (loch_timeline_ready). */
LOCH_STATUS loch_timeline_compact(struct loch_timeline *t, const struct loch_compaction *compaction,
                                  bool *done, struct loch_compaction_stats *stats);
/* What the timeline's files hold now. Any thread, cheap. */
struct loch_layers_summary {
    size_t layers, bands;
    uint64_t file_bytes;
    struct loch_layer_weight weight;
    size_t old_layers; /* under retired keys: to be written anew */
    uint64_t old_bytes;
};
void loch_timeline_summary(struct loch_timeline *t, struct loch_layers_summary *out);
/* For how long, as seen by whoever asks from time to time, no record has come. One thread. */
uint64_t loch_timeline_quiet_ns(struct loch_timeline *t, uint64_t now_ns);
/* Bands that idle time's images would merge; 0 also when all that can be made were. Any thread. */
size_t loch_timeline_idle_backlog(struct loch_timeline *t, uint32_t idle_records,
                                  uint64_t idle_bytes);
/* Bands that wait to be merged or written anew (0: nothing to do). Any thread, cheap. */
size_t loch_timeline_backlog(struct loch_timeline *t, const struct loch_compact_settings *settings);

#endif
