/* Between the set of opened tenants (keys.c) and one tenant's keyring (keys_ring.c). */
#ifndef LOCH_HOST_KEYS_INTERNAL_H
#define LOCH_HOST_KEYS_INTERNAL_H

#include "loch/host/keys.h"
#include "loch/objstore/objstore.h"

/* One version of a key; `secret` is empty for revoked and destroyed ones. */
struct opened_key {
    struct loch_id key_id;
    uint32_t version;
    uint8_t level, purpose, state;
    struct loch_id scope;
    struct loch_secret secret;
};

/* A keyring as it was read and proven, with its keys. Immutable once installed. */
struct keys_tenant {
    struct loch_keyring ring;
    uint8_t hash[LOCH_KEYRING_HASH_BYTES];
    uint8_t mac[LOCH_KEYRING_MAC_BYTES];
    struct loch_etag etag;
    struct opened_key *keys; /* as many as the ring has entries, same order */
};

void keys_tenant_destroy(struct keys_tenant *t);
/* Reads, unwraps and proves the tenant's keyring. Every key is unwrapped anew. */
LOCH_STATUS keys_ring_get(const struct loch_keys_options *o, const struct loch_id *tenant,
                          struct keys_tenant **out);
/* Puts the first keyring, all keys PENDING. LOCH_E_EXISTS. */
LOCH_STATUS keys_ring_create(const struct loch_keys_options *o, const struct loch_id *tenant);
/* Puts a successor of t with PENDING keys for the timeline where it has neither active nor pending
 * ones. *changed says whether there was anything to put. LOCH_E_STALE: somebody else was quicker.
 */
LOCH_STATUS keys_ring_add_timeline(const struct loch_keys_options *o, const struct keys_tenant *t,
                                   const struct loch_id *timeline, bool *changed);
/* Puts a successor of t without the timeline's keys. The same codes. */
LOCH_STATUS keys_ring_forget_timeline(const struct loch_keys_options *o,
                                      const struct keys_tenant *t, const struct loch_id *timeline,
                                      bool *changed);
/* Puts a successor of t in which every PENDING key is ACTIVE. The same codes. */
LOCH_STATUS keys_ring_activate(const struct loch_keys_options *o, const struct keys_tenant *t,
                               bool *changed);

#endif
