/* Objects and files of tenants and timelines that are to go. Blocking. */
#ifndef LOCH_PAGESERVER_CARE_TENANT_FILES_H
#define LOCH_PAGESERVER_CARE_TENANT_FILES_H

#include "../pageserver.h"
#include "store/manifest.h"

/* Removes every object and file of the timeline. Nothing there is fine. */
LOCH_STATUS tenant_remove_timeline(struct loch_pageserver *ps, const struct loch_id *tenant,
                                   const struct loch_id *timeline);
/* Whether the timeline has keys in the keyring held, or a directory: a removal that failed leaves
 * one or both. LOCH_E_UNAVAILABLE when no keyring is held: nobody can say. */
LOCH_STATUS tenant_look_for_remains(struct loch_pageserver *ps, const struct loch_id *tenant,
                                    const struct loch_id *timeline, bool *any);
/* Removes the local files of a timeline that is archived; one without an object of its size stays,
 * and is logged. */
LOCH_STATUS tenant_remove_files(struct loch_pageserver *ps, const struct loch_id *tenant,
                                const struct loch_id *timeline);
/* Removes all of the tenant: the keyring first, so that whatever is left cannot be read, then its
 * keys here and the pins of its branches (`manifest`; NULL: none is known). */
LOCH_STATUS tenant_remove(struct loch_pageserver *ps, const struct loch_id *tenant,
                          const struct loch_tenant_manifest *manifest);
/* Forgets the tenant's CMK, and those of its branches (`manifest`; NULL: none is known). */
LOCH_STATUS tenant_unpin(struct loch_pageserver *ps, const struct loch_id *tenant,
                         const struct loch_tenant_manifest *manifest);
/* A tenant that is being made has an empty file `unfinished` in its local directory, from before
 * its keys are made until its manifest names everything; one that is being removed, from when its
 * keyring is gone until all is. Idempotent. */
LOCH_STATUS tenant_mark_unfinished(struct loch_pageserver *ps, const struct loch_id *tenant);
LOCH_STATUS tenant_mark_finished(struct loch_pageserver *ps, const struct loch_id *tenant);
/* Removes what a crash left of tenants that were being made, or removed, and have no manifest;
 * `known` are those that have one. At the start. Logs failures. */
void tenant_sweep_unfinished(struct loch_pageserver *ps, const struct loch_id *known, size_t count);
/* Removes timelines that the manifest does not name: changes that a crash cut short. Logs failures.
 */
void tenant_sweep(struct loch_pageserver *ps, const struct loch_tenant_manifest *manifest);
/* As above, by the keyring: a timeline may have keys and nothing else yet. At the start only: later
 * on keys are made before the manifest names what they are for. */
void tenant_sweep_keys(struct loch_pageserver *ps, const struct loch_tenant_manifest *manifest);

#endif
