/* Inside a timeline. Private to store/: timeline.c, retention.c, compact.c.
 *
 * `lock` guards the pointers to the current list of layers, the LSNs that go with it, holds and
 * leases, and is never held over I/O. `commit` guards the manifest and is held while the next one
 * is put: flush, compaction and the cutoff commit one after the other. Taken in this order: commit,
 * lock. The writer alone touches the open layer's end. */
#ifndef LOCH_PAGESERVER_STORE_TIMELINE_IMPL_H
#define LOCH_PAGESERVER_STORE_TIMELINE_IMPL_H

#include "layer_set.h"
#include "manifest.h"
#include "retention.h"
#include "timeline.h"

#include <pthread.h>

/* A frozen layer and where ingest would go on behind it. */
struct frozen {
    struct loch_mem_layer *layer; /* may be empty: only LSN and control moved */
    loch_lsn end_lsn, prev_lsn;
    struct loch_buf control;
    struct frozen *newer;
    /* The flush's: once written it is a band of files, by key, whose manifest is still to be put.
     * A put that fails may have been done: the next one names the same files. */
    bool written;
    struct loch_layer *files[LOCH_FLUSH_PARTS_MAX];
    size_t file_count; /* 0: it was empty */
};

struct loch_hold {
    struct loch_timeline *timeline; /* retained */
    loch_lsn lsn;
    struct loch_hold *next, **prev;
};

struct loch_timeline {
    atomic_uint refs;
    struct loch_store store;
    struct loch_keys *keys;
    struct loch_timeline *parent;
    struct loch_hold *branch_point; /* in the ancestor that has it */
    struct loch_timeline_info info;
    uint64_t opened_ns; /* 0: created, not opened */
    atomic_bool settled;
    pthread_mutex_t flush; /* one at a time; taken before the others */

    pthread_mutex_t lock; /* guards what follows, up to the writer's part */
    struct loch_layer_set *set;
    struct frozen *oldest, *newest; /* to be written, oldest first */
    size_t frozen_bytes;
    loch_lsn last_record_lsn, prev_record_lsn;
    loch_lsn disk_consistent_lsn;
    struct loch_hold *holds;
    bool gathering;           /* of LSNs for the cutoff: */
    struct loch_hold *let_go; /* those released since it began; they retain nothing */
    struct loch_lsn_lease *leases;
    size_t lease_count;
    struct loch_pitr_window window; /* as the manifest's */

    /* the writer's */
    struct loch_mem_layer *open;

    loch_lsn quiet_lsn; /* upkeep's: its last record when that had last moved, and when */
    uint64_t quiet_since_ns;

    pthread_mutex_t commit; /* guards the rest */
    struct loch_manifest manifest;
    struct loch_etag etag;
    struct loch_manifest_doubt doubt; /* about the last put */
    /* Files that a manifest named whose put failed, and may have been done: once another is put
     * over the one before, or over that one, they are named no more. */
    struct loch_layer_desc *doubtful;
    size_t doubtful_count;
};

/* The current list, to be changed and installed; lock held. */
struct loch_layer_set_parts loch_timeline_parts(const struct loch_timeline *t);
/* Puts a list of the open layer, the frozen ones and parts->files in place; lock held. */
LOCH_STATUS loch_timeline_install(struct loch_timeline *t, struct loch_layer_set_parts *parts);
/* Puts `next` over the manifest; on success takes its contents. commit held. */
LOCH_STATUS loch_timeline_put_manifest(struct loch_timeline *t, struct loch_manifest *next);
/* Remembers files that a manifest names whose put failed; commit held. They go with the next put
 * that is done, as far as there is memory to remember them; else at the next opening. */
void loch_timeline_doubt(struct loch_timeline *t, struct loch_layer *const *files, size_t count);
/* Leases end with their timeline. */
void loch_timeline_free_leases(struct loch_timeline *t);

#endif
