/* One version of a key, and a growing list of them: what layers hold and what reads collect.
 *
 * Bytes of a version are borrowed from a memory layer or from a frame of a layer file; the list
 * holds a reference on each frame it borrows from, and the view that collects keeps the layers
 * alive.
 */
#ifndef LOCH_PAGESERVER_STORE_VERSION_H
#define LOCH_PAGESERVER_STORE_VERSION_H

#include "loch/base/buf.h"
#include "loch/base/types.h"
#include "loch/pg/key.h"

/* On disk in layer files: values never change meaning. */
enum loch_version_kind {
    LOCH_VERSION_VALUE = 1,       /* the whole value; empty: absent from here on */
    LOCH_VERSION_RECORD = 2,      /* a WAL record that changes the page */
    LOCH_VERSION_RECORD_INIT = 3, /* a WAL record that makes the page from nothing */
    LOCH_VERSION_OP = 4           /* a small change this store applies itself (pg/effects.h) */
};

/* The most bytes of one version: such a one fills a frame (layer_build.h). */
#define LOCH_VERSION_MAX_BYTES ((size_t)(256u << 20) - ((size_t)64 << 10))

struct loch_version {
    loch_lsn lsn;       /* end of the record that made it */
    loch_lsn start_lsn; /* start of that record for the record kinds, else LOCH_LSN_NONE */
    enum loch_version_kind kind;
    struct loch_slice bytes;
};

struct loch_frame;

struct loch_passing;

/* Zero-initialised is empty and valid. Newest first while collecting. */
struct loch_versions {
    struct loch_version *items;
    size_t count, cap;
    struct loch_frame **frames; /* references held */
    size_t frame_count, frame_cap;
    struct loch_version *spare; /* memory for whoever puts versions in between (pushdown.h) */
    size_t spare_cap;
    bool at_once;                 /* fail rather than wait for a disk */
    struct loch_passing *passing; /* NULL: frames come from the cache and stay there */
    uint64_t passed;              /* newer versions looked at in memory, on the way to these */
};

/* True for a version that needs nothing older. */
static inline bool loch_version_is_base(const struct loch_version *v)
{
    return v->kind == LOCH_VERSION_VALUE || v->kind == LOCH_VERSION_RECORD_INIT;
}

LOCH_STATUS loch_versions_add(struct loch_versions *list, const struct loch_version *version);
/* Turns round the order of the versions from index `first` on. */
void loch_versions_reverse(struct loch_versions *list, size_t first);
/* Takes over one reference on the frame, also on failure. */
LOCH_STATUS loch_versions_hold(struct loch_versions *list, struct loch_frame *take_frame);
void loch_versions_fini(struct loch_versions *list);
/* Empty again, with its memory for the next ones. */
void loch_versions_clear(struct loch_versions *list);

/* Bytes of a layer file's frame, opened and decompressed; shared by reference counting. Any thread.
 */
LOCH_STATUS loch_frame_create(struct loch_buf *take_bytes, struct loch_frame **out);
struct loch_frame *loch_frame_retain(struct loch_frame *frame);
void loch_frame_release(struct loch_frame *frame);
struct loch_slice loch_frame_bytes(const struct loch_frame *frame);

#endif
