/* Credentials of computes: finished, boot-scoped PSKs, one per server, and a fresh compute_epoch.
 *
 * A compute never sees the wire key they are derived from. The epoch is advanced by conditional
 * put, so that of two credentials one is always the later; storage refuses the epochs of the
 * earlier.
 */
#ifndef LOCH_PAGESERVER_CARE_CREDENTIAL_H
#define LOCH_PAGESERVER_CARE_CREDENTIAL_H

#include "../config.h"

#include "loch/host/keys.h"
#include "loch/objstore/objstore.h"

struct loch_credential_order {
    const struct loch_pageserver_config *config;
    struct loch_keys *keys;
    struct loch_objstore *store;
    struct loch_env *env;
    const char *dir; /* the data directory, where the last epoch is remembered (host/witness.h) */
    struct loch_id tenant, timeline, compute;
    uint64_t system_id;
    uint32_t pg_version;
    uint32_t segment_bytes;
    bool customer_held; /* the tenant's CMK: computes then refuse a scratch in the clear */
    struct loch_peer safekeepers[LOCH_SAFEKEEPERS_MAX]; /* the timeline's */
    size_t safekeeper_count;
};

/* Appends the JSON text to *out (NUL-ended, the NUL not counted); the caller wipes it. Blocks: pool
 * thread. LOCH_E_NOT_FOUND, LOCH_E_DENIED (keys), LOCH_E_UNAVAILABLE; LOCH_E_STALE, LOCH_E_CORRUPT:
 * the store's epoch is below the last one issued here, or absurdly far above it. */
LOCH_STATUS loch_credential_issue(const struct loch_credential_order *order, struct loch_buf *out);
/* The last epoch issued for the timeline, 0 when none was. Blocks. */
LOCH_STATUS loch_compute_epoch_read(struct loch_objstore *store, const struct loch_id *tenant,
                                    const struct loch_id *timeline, uint64_t *out);

#endif
