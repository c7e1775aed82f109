/* A timeline (branch) of the pageserver: the versions of its keys, in memory and in layer files.
 *
 * One writer at a time puts versions in LSN order (the loop's thread: ingest; or one pool thread:
 * an import into a timeline that nobody else knows yet). Any thread may read through a view
 * (read/view.h). A record is visible to readers when loch_timeline_advance has passed its end.
 *
 * Everything up to disk_consistent_lsn is in sealed immutable layer files named by the manifest in
 * the object store; what is newer is in memory and comes again from the safekeepers after a crash.
 */
#ifndef LOCH_PAGESERVER_STORE_TIMELINE_H
#define LOCH_PAGESERVER_STORE_TIMELINE_H

#include "loch/base/buf.h"
#include "loch/base/types.h"
#include "loch/pg/key.h"

#include <stdatomic.h>

struct loch_env;
struct loch_keys;        /* loch/host/keys.h */
struct loch_objstore;    /* loch/objstore/objstore.h */
struct loch_frame_cache; /* store/frame_cache.h */
struct loch_heal_stats;  /* store/layer_copy.h */
struct loch_page_cache;  /* read/page_cache.h */
struct loch_redo_pool;   /* redo_pool/redo_pool.h */
struct loch_redo_use;    /* read/redo_chain.h */
struct loch_timeline;

/* What reads of pages cost; any thread. */
struct loch_read_stats {
    atomic_uint_least64_t records; /* applied */
    atomic_uint_least64_t most;    /* by one read */
};

/* What all timelines of a process share. Borrowed; outlives them. */
struct loch_store {
    struct loch_env *env;
    struct loch_objstore *objstore;
    const char *dir; /* the pageserver's data directory */
    struct loch_id node;
    struct loch_redo_pool *redo;
    const struct loch_redo_use *redo_use; /* may be NULL: native redo on, not counted */
    struct loch_page_cache *cache;        /* may be NULL */
    struct loch_frame_cache *frames;      /* may be NULL */
    struct loch_read_stats *reads;        /* may be NULL */
    struct loch_heal_stats *heals;        /* may be NULL */
    bool copies;                          /* each layer in the object store too (layer_copy.h) */
    bool zstd;                            /* new layers are compressed with it, not with LZ4 */
    uint32_t flush_parts;                 /* a flush writes at most so many files at once; 0: one */
    size_t flush_part_bytes;    /* of memory, in each to begin with; 0: LOCH_FLUSH_PART_BYTES */
    bool one_thread;            /* the world is not for several threads: one part after the other */
    size_t open_layer_bytes;    /* freeze the open layer at this size */
    uint32_t image_records_max; /* a read applies at most so many records from layers ... */
    uint64_t image_bytes_max;   /* ... or so many bytes of them; 0: LOCH_IMAGE_* below */
    bool no_memory_images;      /* images at flushes and merges only */
    uint64_t lease_max_ms;      /* 0: LOCH_LEASE_MAX_MS */
    uint64_t copy_max_bytes;    /* of a database that one record copies; 0: LOCH_COPY_MAX_BYTES */
};

#define LOCH_FLUSH_PARTS_MAX   8u
#define LOCH_FLUSH_PART_BYTES  ((size_t)8 << 20)
#define LOCH_IMAGE_RECORDS_MAX 32u
#define LOCH_IMAGE_BYTES_MAX   (UINT64_C(16) << 10)
#define LOCH_COPY_MAX_BYTES    (UINT64_C(1) << 30)

/* Never changes after creation. */
struct loch_timeline_info {
    struct loch_id tenant, timeline;
    uint64_t system_id;
    uint32_t pg_version;
    uint32_t segment_bytes;
    loch_lsn start_lsn;      /* where its own WAL begins: the import's end, or the branch point */
    struct loch_id ancestor; /* none: a root */
    loch_lsn ancestor_lsn;   /* == start_lsn of a branch, else LOCH_LSN_NONE */
};

/* Creates a timeline that is not yet in the object store: put versions at LSNs <= info->start_lsn,
 * then loch_timeline_commit. `parent` (retained) iff info->ancestor is set. Any thread. */
LOCH_STATUS loch_timeline_create(const struct loch_store *store, struct loch_keys *keys,
                                 const struct loch_timeline_info *info,
                                 struct loch_timeline *parent, struct loch_timeline **out);
/* Opens what the manifest names; sweeps files that it does not. LOCH_E_NOT_FOUND, LOCH_E_CORRUPT,
 * LOCH_E_DENIED. Blocks (start-up or pool thread). */
LOCH_STATUS loch_timeline_open(const struct loch_store *store, struct loch_keys *keys,
                               const struct loch_id *tenant, const struct loch_id *timeline,
                               struct loch_timeline *parent, struct loch_timeline **out);
/* As loch_timeline_open; `birth` (loch_timeline_birth, may be empty) is what it begins with as long
 * as it has no manifest of its own. */
LOCH_STATUS loch_timeline_open_born(const struct loch_store *store, struct loch_keys *keys,
                                    const struct loch_id *tenant, const struct loch_id *timeline,
                                    struct loch_timeline *parent, struct loch_slice birth,
                                    struct loch_timeline **out);
struct loch_timeline *loch_timeline_retain(struct loch_timeline *t);
/* The last release frees it. Takes NULL. */
void loch_timeline_release(struct loch_timeline *t);
/* True when the caller's reference is the only one. */
bool loch_timeline_is_last(const struct loch_timeline *t);

const struct loch_timeline_info *loch_timeline_info(const struct loch_timeline *t);
loch_lsn loch_timeline_last_record_lsn(const struct loch_timeline *t);
/* Start of the record that ends at last_record_lsn. */
loch_lsn loch_timeline_prev_record_lsn(const struct loch_timeline *t);
loch_lsn loch_timeline_disk_consistent_lsn(const struct loch_timeline *t);
/* True when the versions at `lsn` can be read: ingested here and, for a branch, up to the branch
 * point in every ancestor (an ancestor that restarted ingests again what was not yet on disk). */
bool loch_timeline_ready(const struct loch_timeline *t, loch_lsn lsn);

/* ---- the writer's side ---- */
/* A whole value: a page image (LOCH_PAGE_BYTES), or the bytes of any other key; empty means absent
 * from this LSN on. `lsn` must not be below that of an earlier put. LOCH_E_NO_MEMORY; LOCH_E_LIMIT
 * above LOCH_VERSION_MAX_BYTES (as with all puts). */
LOCH_STATUS loch_timeline_put_value(struct loch_timeline *t, const struct loch_key *key,
                                    loch_lsn lsn, struct loch_slice bytes);

/* One page that a WAL record changes. will_init: the record makes the page from nothing. */
struct loch_put_ref {
    struct loch_key key;
    bool will_init;
};
/* A WAL record's bytes as one version of each page it changes, at its end LSN. */
LOCH_STATUS loch_timeline_put_record(struct loch_timeline *t, const struct loch_put_ref *refs,
                                     size_t count, loch_lsn start_lsn, loch_lsn end_lsn,
                                     struct loch_slice record);
/* A small change to a page that this store applies itself (visibility map, SLRU): the bytes mean
 * what pg/effects.h says for that kind of key. */
LOCH_STATUS loch_timeline_put_op(struct loch_timeline *t, const struct loch_key *key, loch_lsn lsn,
                                 struct loch_slice op);
/* Whatever was put above last_record_lsn is put no more: of a record that failed half-way. */
void loch_timeline_take_back(struct loch_timeline *t);
/* Everything of the records up to `end` has been put; the last of them starts at `start`. */
void loch_timeline_advance(struct loch_timeline *t, loch_lsn end, loch_lsn start);
/* True when the open layer has reached its size: the writer then calls loch_timeline_freeze at the
 * record boundary it has just advanced to. */
bool loch_timeline_wants_freeze(const struct loch_timeline *t);
/* Closes the open layer at last_record_lsn; `control`: the control snapshot there (pg/control.h),
 * which the manifest keeps so that ingest can resume. No-op when nothing was put or advanced.
 * LOCH_E_NO_MEMORY: all is as it was. */
LOCH_STATUS loch_timeline_freeze(struct loch_timeline *t, struct loch_slice control);
/* Memory held by frozen layers that wait to be written: ingest pauses above its limit. Any thread.
 */
size_t loch_timeline_frozen_bytes(const struct loch_timeline *t);
/* Memory held by the open layer. Any thread. */
size_t loch_timeline_open_bytes(const struct loch_timeline *t);
/* Writes every frozen layer and commits the manifest; pool thread. */
LOCH_STATUS loch_timeline_flush(struct loch_timeline *t);
/* The same with the oldest of them alone, and those behind it that hold nothing: its memory is free
 * when this returns. Pool thread. */
LOCH_STATUS loch_timeline_flush_oldest(struct loch_timeline *t);
/* ---- a new root's values, in parts, so that memory need not hold them all ---- */
/* Parts lie below one another in LSNs that nobody reads at, just below info->start_lsn. */
#define LOCH_TIMELINE_PARTS_MAX 65536u
/* After loch_timeline_create, before anything is put. */
LOCH_STATUS loch_timeline_parts_begin(struct loch_timeline *t);
/* What the part's values are put at. */
loch_lsn loch_timeline_part_lsn(const struct loch_timeline *t);
/* Writes the part that was put and begins the next. LOCH_E_LIMIT after LOCH_TIMELINE_PARTS_MAX. The
 * rest is loch_timeline_commit's. Blocks. */
LOCH_STATUS loch_timeline_part_end(struct loch_timeline *t, struct loch_slice control);
/* For a new timeline: puts `control` (pg/control.h) as its first control snapshot, freezes at
 * info->start_lsn with prev_lsn (start of the record that ends there), flushes, and puts the first
 * manifest (LOCH_E_EXISTS when there is one). Blocks. */
LOCH_STATUS loch_timeline_commit(struct loch_timeline *t, loch_lsn prev_lsn,
                                 struct loch_slice control);
/* The key whose newest version says up to where prepared transactions are forgotten: put at the
 * beginning of a branch, whose parent will end them. No transaction has the number 0. */
#define LOCH_TWOPHASE_FORGET_KEY ((struct loch_key){.kind = LOCH_KEY_TWOPHASE})
/* For a new branch: as loch_timeline_commit, but nothing is written. The bytes of `birth` are
 * enough to begin it again (loch_timeline_open_born), and are to be kept until
 * loch_timeline_settled. What its ancestors had prepared is rolled back in it if forget_prepared.
 */
LOCH_STATUS loch_timeline_birth(struct loch_timeline *t, loch_lsn prev_lsn,
                                struct loch_slice control, bool forget_prepared,
                                struct loch_buf *birth);
/* It has a manifest of its own in the store. Any thread. */
bool loch_timeline_settled(const struct loch_timeline *t);
/* The control snapshot at disk_consistent_lsn. */
LOCH_STATUS loch_timeline_control(const struct loch_timeline *t, struct loch_buf *out);

#endif
