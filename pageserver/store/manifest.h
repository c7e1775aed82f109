/* The manifests in the object store: sealed objects, replaced by conditional put only.
 *
 * A timeline's manifest names its layers and is the commit point of a flush; a tenant's manifest
 * names its timelines and is the commit point of creating, naming and dropping them. Format:
 * docs/format/versions.md. Blocking; any thread.
 */
#ifndef LOCH_PAGESERVER_STORE_MANIFEST_H
#define LOCH_PAGESERVER_STORE_MANIFEST_H

#include "layer.h"
#include "timeline.h"

#include "loch/host/witness.h"
#include "loch/layers/retain.h"
#include "loch/objstore/objstore.h"

#define LOCH_NAME_MAX_BYTES 63u

/* Zero-initialised is valid; owns layers and control. */
struct loch_manifest {
    uint64_t generation; /* rises with every put */
    struct loch_timeline_info info;
    loch_lsn disk_consistent_lsn;
    loch_lsn prev_lsn;              /* start of the record that ends at disk_consistent_lsn */
    struct loch_buf control;        /* pg/control.h snapshot at disk_consistent_lsn */
    struct loch_layer_desc *layers; /* newest first; by key within a band */
    uint32_t layer_count;
    struct loch_lsn_mark cutoff;    /* history begins there; lsn LOCH_LSN_NONE: at the start */
    struct loch_pitr_window window; /* seconds UINT64_MAX: the pageserver's */
    loch_lsn *points;               /* below the cutoff, ascending, readable all the same */
    uint32_t point_count;
    struct loch_lsn_mark *marks; /* ascending; room for LOCH_MARKS_MAX when not NULL */
    uint32_t mark_count;
};

#define LOCH_WINDOW_DEFAULT ((struct loch_pitr_window){UINT64_MAX, UINT64_MAX})

void loch_manifest_fini(struct loch_manifest *m);
/* The same with the next generation; nothing is shared. *out is to be fini'ed also on failure. */
LOCH_STATUS loch_manifest_copy(const struct loch_manifest *m, struct loch_manifest *out);
LOCH_STATUS loch_manifest_encode(const struct loch_manifest *m, struct loch_buf *out);
/* LOCH_E_CORRUPT, LOCH_E_UNSUPPORTED. *out is to be fini'ed also on failure. */
LOCH_STATUS loch_manifest_decode(struct loch_slice bytes, struct loch_manifest *out);

/* LOCH_E_NOT_FOUND, LOCH_E_CORRUPT, LOCH_E_DENIED; LOCH_E_STALE: an older one than this pageserver
 * has seen (loch/host/witness.h). LOCH_E_CORRUPT also: under an older key than one it has seen. */
LOCH_STATUS loch_manifest_get(const struct loch_store *store, struct loch_keys *keys,
                              const struct loch_id *tenant, const struct loch_id *timeline,
                              struct loch_manifest *out, struct loch_etag *etag);
/* Seals and puts: if there is none when `etag` is empty (LOCH_E_EXISTS), else over exactly the one
 * it names (LOCH_E_STALE). *etag is then the new one. */
LOCH_STATUS loch_manifest_put(const struct loch_store *store, struct loch_keys *keys,
                              const struct loch_manifest *m, struct loch_etag *etag);
/* A put that failed and may have been done all the same. Zero-initialised: there is none. */
struct loch_manifest_doubt {
    bool any;
    uint8_t hash[LOCH_WITNESS_HASH_BYTES]; /* SHA-256 of what was to be put */
};
/* As loch_manifest_put, for whoever puts again after a failure: what an earlier put of the same
 * *doubt left is not taken for somebody else's, and is put over. `m` has a generation then that the
 * earlier one did not have. doubt may be NULL. */
LOCH_STATUS loch_manifest_put_anew(const struct loch_store *store, struct loch_keys *keys,
                                   const struct loch_manifest *m, struct loch_etag *etag,
                                   struct loch_manifest_doubt *doubt);

struct loch_tenant_timeline {
    char name[LOCH_NAME_MAX_BYTES + 1];
    struct loch_id timeline, ancestor; /* ancestor none: a root */
    loch_lsn ancestor_lsn;
    bool dropping;         /* being deleted: no longer served */
    bool archived;         /* its layers are in the object store alone; not served */
    struct loch_buf birth; /* owned: how it begins (loch_timeline_birth); empty once its own
                              manifest is in the store */
};

/* At most so many timeline ids are kept ready, with keys, for the branches to come. */
#define LOCH_SPARES_MAX 8u

struct loch_tenant_manifest {
    uint64_t generation;
    struct loch_id tenant;
    char name[LOCH_NAME_MAX_BYTES + 1];
    bool dropping;
    struct loch_tenant_timeline *timelines; /* owned */
    uint32_t count;
    struct loch_id spares[LOCH_SPARES_MAX]; /* ids of timelines to come */
    uint32_t spare_count;
};

void loch_tenant_manifest_fini(struct loch_tenant_manifest *m);
LOCH_STATUS loch_tenant_manifest_copy(struct loch_tenant_manifest *out,
                                      const struct loch_tenant_manifest *m);
/* Takes timeline->birth, also on failure. */
LOCH_STATUS loch_tenant_manifest_add(struct loch_tenant_manifest *m,
                                     struct loch_tenant_timeline *timeline);
void loch_tenant_manifest_remove(struct loch_tenant_manifest *m, size_t at);
/* LOCH_E_CORRUPT, LOCH_E_UNSUPPORTED. *m is to be fini'ed also on failure. */
LOCH_STATUS loch_tenant_manifest_decode(struct loch_slice bytes, struct loch_tenant_manifest *m);
LOCH_STATUS loch_tenant_manifest_get(const struct loch_store *store, struct loch_keys *keys,
                                     const struct loch_id *tenant, struct loch_tenant_manifest *out,
                                     struct loch_etag *etag);
/* As loch_manifest_put_anew. */
LOCH_STATUS loch_tenant_manifest_put(const struct loch_store *store, struct loch_keys *keys,
                                     const struct loch_tenant_manifest *m, struct loch_etag *etag,
                                     struct loch_manifest_doubt *doubt);
/* A tenant's manifest that was put. */
struct loch_manifest_note {
    struct loch_id tenant;
    uint64_t generation;
    uint32_t key_version; /* that it is sealed under */
    uint8_t hash[LOCH_WITNESS_HASH_BYTES];
};
/* The same, but that it is the newest is not noted yet when it returns: *later is for
 * loch_manifest_note, which the caller sees to. NULL: as loch_tenant_manifest_put. */
LOCH_STATUS loch_tenant_manifest_put_unnoted(const struct loch_store *store, struct loch_keys *keys,
                                             const struct loch_tenant_manifest *m,
                                             struct loch_etag *etag,
                                             struct loch_manifest_doubt *doubt,
                                             struct loch_manifest_note *later);
/* Remembers that this one was there, unless a newer one is remembered; a failure is logged. */
void loch_manifest_note(const struct loch_store *store, const struct loch_manifest_note *note);

/* Where this pageserver remembers the newest manifest it has seen of a timeline (NULL: tenant), and
 * with a suffix something else about it: below `dir`. */
void loch_manifest_witness_path(const char *data_dir, const struct loch_id *tenant,
                                const struct loch_id *timeline, char dir[LOCH_LAYER_PATH_BYTES],
                                char path[LOCH_LAYER_PATH_BYTES + 100], const char *suffix);
/* LOCH_E_STALE when a manifest of the timeline was ever seen here: one that is not in the store is
 * lost, not yet to come. */
LOCH_STATUS loch_manifest_unseen(const struct loch_store *store, const struct loch_id *tenant,
                                 const struct loch_id *timeline);
/* What is remembered of a deleted timeline's (timeline NULL: tenant's) manifest. */
void loch_manifest_forget(const struct loch_store *store, const struct loch_id *tenant,
                          const struct loch_id *timeline);

/* 1 to 63 characters of [A-Za-z0-9_-], beginning with a letter. LOCH_E_INVALID. */
LOCH_STATUS loch_name_check(const char *name);

#endif
