/* Tenants and their timelines: opening them at start, creating, branching, dropping.
 *
 * The tenant's manifest is the commit point of each change; a change that did not reach it leaves
 * only objects and files that no manifest names, which opening sweeps. One change of a tenant at a
 * time. Loop's thread; blocking parts run on pool threads.
 */
#ifndef LOCH_PAGESERVER_CARE_TENANTS_H
#define LOCH_PAGESERVER_CARE_TENANTS_H

#include "../pageserver.h"
#include "store/manifest.h"

#include "loch/host/console.h"

struct loch_tenant {
    struct loch_tenant *next, **prev;
    struct loch_id id;
    struct loch_tenant_manifest manifest; /* empty name: could not be read */
    /* What is known of the manifest in the store. Of whoever has made the tenant busy, on any
     * thread. */
    struct loch_etag etag;
    struct loch_manifest_doubt doubt;
    uint64_t tried;     /* generation of the last put, done or not */
    bool busy;          /* a change is in progress */
    bool making_keys;   /* of its spare timelines */
    bool going;         /* being dropped, as a whole */
    bool dark;          /* its key is gone: nothing enters service before it comes back */
    unsigned darkening; /* windings-down that are not over: old jobs may still write */
    char problem[400];  /* why it is not served, or "" */
};

/* Opens every tenant of the store. Blocks: start-up. What is broken is marked and logged, not
 * fatal. */
LOCH_STATUS loch_tenants_open(struct loch_pageserver *ps);
void loch_tenants_close(struct loch_pageserver *ps);
/* Takes the tenant, which has its id, into the daemon's list, or out of it. LOCH_E_NO_MEMORY. */
LOCH_STATUS loch_tenant_enlist(struct loch_pageserver *ps, struct loch_tenant *tenant);
void loch_tenant_delist(struct loch_pageserver *ps, struct loch_tenant *tenant);
struct loch_tenant *loch_tenant_find(struct loch_pageserver *ps, const struct loch_id *id);
struct loch_tenant *loch_tenant_by_name(struct loch_pageserver *ps, const char *name);
/* The next of the same name behind the first, or NULL. */
const struct loch_tenant *loch_tenant_namesake(const struct loch_tenant *tenant);
const struct loch_tenant_timeline *loch_tenant_timeline_find(const struct loch_tenant *tenant,
                                                             const struct loch_id *timeline);

/* How the timeline begins; empty when its own manifest says it, or there is no such timeline. */
struct loch_slice loch_tenant_birth(const struct loch_tenant_manifest *m,
                                    const struct loch_id *timeline);
/* The manifest to be changed and put next: the same without the births that are over. *out is to be
 * fini'ed also on failure. */
LOCH_STATUS loch_tenant_next(struct loch_pageserver *ps, const struct loch_tenant *tenant,
                             struct loch_tenant_manifest *out);

/* Puts it over what is known to be there: the commit point of a change. Blocks; for whoever has
 * made the tenant busy. A put that failed and was done all the same is put over by the next change,
 * as if it had not been. */
LOCH_STATUS loch_tenant_put(struct loch_pageserver *ps, struct loch_tenant *tenant,
                            const struct loch_tenant_manifest *next);
/* The same; that it is the newest is not noted yet (loch_tenant_manifest_put_unnoted). */
LOCH_STATUS loch_tenant_put_unnoted(struct loch_pageserver *ps, struct loch_tenant *tenant,
                                    const struct loch_tenant_manifest *next,
                                    struct loch_manifest_note *later);
/* On the loop: what was put, or read, is the tenant's manifest now. */
void loch_tenant_take(struct loch_tenant *tenant, struct loch_tenant_manifest *take_next);

/* The timeline whose own WAL holds `lsn` in the history of `timeline`: itself, or an ancestor when
 * it lies before the branch point. *limit (may be NULL): up to where that timeline's WAL is part of
 * the history; LOCH_LSN_MAX for itself. LOCH_E_NOT_FOUND; a broken one fails with the reason. */
LOCH_STATUS loch_tenant_owner(struct loch_pageserver *ps, const struct loch_tenant *tenant,
                              const struct loch_id *timeline, loch_lsn lsn,
                              struct loch_served **out, loch_lsn *limit);

/* What creating answers with. */
struct loch_created {
    struct loch_timeline_info info;
    char name[LOCH_NAME_MAX_BYTES + 1];
    loch_lsn prev_lsn;
    char password[64]; /* of a new tenant's superuser, when initdb made it; else empty */
};
typedef void (*loch_created_fn)(void *arg, loch_status st, const struct loch_created *created);
typedef void (*loch_changed_fn)(void *arg, loch_status st);

struct loch_tenant_order {
    const char *name;
    const char *kms_uri;    /* of its CMK; NULL: the daemon's */
    const char *import_dir; /* a shut down data directory; NULL: initdb makes one */
};
/* Imports the directory, writes first layers, manifests, timeline `main`; then it is served. fn is
 * called later; the order is copied. */
void loch_tenant_create(struct loch_pageserver *ps, const struct loch_tenant_order *order,
                        loch_created_fn fn, void *arg);
struct loch_branch_order {
    const char *name;
    struct loch_id from;
    loch_lsn lsn;        /* at the boundary at or below it; LOCH_LSN_NONE: what is ingested now */
    bool keep_prepared;  /* else transactions prepared by then are rolled back in the branch */
    const char *kms_uri; /* of its own CMK; NULL: what holds its parent's keys holds its own */
};
void loch_branch_create(struct loch_pageserver *ps, struct loch_tenant *tenant,
                        const struct loch_branch_order *order, loch_created_fn fn, void *arg);
/* Gives the branch a new name. `taker` (may be NULL): another branch, which at the same moment
 * takes the name that this one had. LOCH_E_EXISTS, LOCH_E_NOT_FOUND, LOCH_E_INVALID (rename.c). */
void loch_branch_rename(struct loch_pageserver *ps, struct loch_tenant *tenant,
                        const struct loch_id *timeline, const char *name,
                        const struct loch_id *taker, loch_changed_fn fn, void *arg);
/* Makes a branch a root, with a copy of what it shares with its ancestors at its beginning; it and
 * what stands on it are not served meanwhile (detach.c). LOCH_E_INVALID: it has no parent. */
void loch_branch_detach(struct loch_pageserver *ps, struct loch_tenant *tenant,
                        const struct loch_id *timeline, loch_changed_fn fn, void *arg);
/* Writes all that the branch has up to `lsn`, puts its layers to the object store, and gives up its
 * memory and files (archive.c). Done already: LOCH_OK. LOCH_E_INVALID while a branch stands on it
 * that is not archived; LOCH_E_UNAVAILABLE while it is used. */
void loch_branch_archive(struct loch_pageserver *ps, struct loch_tenant *tenant,
                         const struct loch_id *timeline, loch_lsn lsn, loch_changed_fn fn,
                         void *arg);
/* Brings its layers back and serves it. Not archived: LOCH_OK. LOCH_E_INVALID while its parent is.
 */
void loch_branch_unarchive(struct loch_pageserver *ps, struct loch_tenant *tenant,
                           const struct loch_id *timeline, loch_changed_fn fn, void *arg);
/* LOCH_E_INVALID while it has branches of its own. While the key service does not answer it fails
 * and changes nothing; one that failed later, when no manifest names the timeline any more, is
 * gone on with. LOCH_E_NOT_FOUND: for certain, nothing is left of such a timeline. */
void loch_branch_drop(struct loch_pageserver *ps, struct loch_tenant *tenant,
                      const struct loch_id *timeline, loch_changed_fn fn, void *arg);
/* With all its timelines and its keyring: nothing of it can be read again. */
void loch_tenant_drop(struct loch_pageserver *ps, struct loch_tenant *tenant, loch_changed_fn fn,
                      void *arg);

/* The console's commands; handlers get struct loch_pageserver. */
extern const struct loch_console_command loch_pageserver_commands[];
extern const size_t loch_pageserver_command_count;

#endif
