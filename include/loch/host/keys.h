/* The opened keys of a daemon's tenants: keyring in the object store, KEKs through the KMS,
 * timeline keys and wire keys unwrapped in secret memory.
 *
 * What a branch's own CMK holds is opened apart from the tenant's keys, when that CMK has been
 * asked for it: where leases are kept, by the branch's lease, and a load never waits for it. Where
 * none are, a load asks all.
 *
 * Any thread may call anything here; load, create and add_timeline block (object store and KMS):
 * pool threads or start-up only. The others never block on I/O.
 */
#ifndef LOCH_HOST_KEYS_H
#define LOCH_HOST_KEYS_H

#include "loch/base/buf.h"
#include "loch/base/secret.h"
#include "loch/base/types.h"
#include "loch/crypto/psk.h"
#include "loch/crypto/wrap.h"
#include "loch/format/place.h"
#include "loch/keyring/keyring.h"

struct loch_audit;
struct loch_env;
struct loch_keys;
struct loch_kms;
struct loch_objstore;

#define LOCH_KEYS_WHY_BYTES 240u

struct loch_keys_options {
    struct loch_objstore *store; /* borrowed */
    struct loch_kms *kms;        /* borrowed */
    struct loch_id cluster;
    struct loch_id node; /* this daemon's; none: a tool that only reads */
    uint8_t role;        /* enum loch_role: as which server PSK identities must name us */
    /* Leases (host/leases.h renews them): every key use checks this clock. NULL, 0: none are kept,
     * keys once opened stay. */
    struct loch_env *env; /* borrowed */
    uint64_t lease_ms;
    struct loch_audit *audit; /* borrowed; NULL: changes are not noted */
    /* Borrowed; NULL: none. The daemon's own directory of the newest keyring seen of each tenant:
     * an older one in the store is refused with LOCH_E_STALE, also after a restart. */
    const char *witness_dir;
};

LOCH_STATUS loch_keys_create(const struct loch_keys_options *options, struct loch_keys **out);
/* Wipes every key. */
void loch_keys_destroy(struct loch_keys *keys);

/* Makes a tenant's keyring: KEKs page, wal, wire, meta and K_wire. LOCH_E_EXISTS. Pageserver only.
 */
LOCH_STATUS loch_keys_tenant_create(struct loch_keys *keys, const struct loch_id *tenant);
/* Reads (again) the keyring and opens its keys. An older generation than the one held is refused
 * with LOCH_E_STALE. LOCH_E_NOT_FOUND, LOCH_E_CORRUPT, LOCH_E_DENIED, LOCH_E_UNAVAILABLE. */
LOCH_STATUS loch_keys_tenant_load(struct loch_keys *keys, const struct loch_id *tenant);
/* The same, unless somebody else has read it while this waited for its turn: for many at once that
 * lack a key. */
LOCH_STATUS loch_keys_tenant_need(struct loch_keys *keys, const struct loch_id *tenant);
/* Wipes a tenant's keys; nothing of it opens any more until it is loaded again. What is loading it
 * already fails with LOCH_E_NOT_FOUND. */
void loch_keys_tenant_drop(struct loch_keys *keys, const struct loch_id *tenant);
/* Adds the timeline's keys (page, wal) to the keyring; existing ones are left (idempotent).
 * Pageserver only. */
LOCH_STATUS loch_keys_add_timeline(struct loch_keys *keys, const struct loch_id *tenant,
                                   const struct loch_id *timeline);
/* The same below the CMK of the branch `lock`; that branch itself: its KEKs are made too, under the
 * CMK that is pinned for its id. LOCH_E_INVALID: none is. Also when this fails keys may stand in
 * the keyring (loch_keys_forget_timeline). */
LOCH_STATUS loch_keys_add_locked(struct loch_keys *keys, const struct loch_id *tenant,
                                 const struct loch_id *timeline, const struct loch_id *lock);
/* The branch whose own CMK holds the timeline's keys; none: the tenant's does, or they are not
 * known here. Also while they are blocked. */
struct loch_id loch_keys_lock(struct loch_keys *keys, const struct loch_id *tenant,
                              const struct loch_id *timeline);
/* Whether the loss of a CMK, the tenant's (branch none) or a branch's, takes a timeline with it
 * whose keys `lock` holds. */
static inline bool loch_lock_covers(const struct loch_id *lock, const struct loch_id *branch)
{
    return loch_id_is_none(branch) || loch_id_equal(lock, branch);
}
/* loch_keys_add_timeline for several at once, in one change of the keyring. */
LOCH_STATUS loch_keys_add_timelines(struct loch_keys *keys, const struct loch_id *tenant,
                                    const struct loch_id *timelines, size_t count);
/* Removes the timeline's keys from the keyring (idempotent): nothing sealed under them opens any
 * more. The caller has made sure that no branch stands on the timeline. Pageserver only. */
LOCH_STATUS loch_keys_forget_timeline(struct loch_keys *keys, const struct loch_id *tenant,
                                      const struct loch_id *timeline);
/* Has what a branch's own CMK holds above the timeline opened, if it is not: asks that CMK, blocks.
 * Lifts an outage, never a denial. LOCH_OK also where no branch's CMK is above it. */
LOCH_STATUS loch_keys_open_lock(struct loch_keys *keys, const struct loch_id *tenant,
                                const struct loch_id *timeline);
/* After a load: the same for every branch whose CMK may be used and holds keys that are new here;
 * up to the first that does not answer. */
void loch_keys_open_news(struct loch_keys *keys, const struct loch_id *tenant);
/* LOCH_OK when the timeline's keys are open and may be used; else why not: LOCH_E_KEY_REVOKED,
 * LOCH_E_KMS_UNAVAILABLE, LOCH_E_NOT_FOUND. Never blocks. */
LOCH_STATUS loch_keys_timeline_open(struct loch_keys *keys, const struct loch_id *tenant,
                                    const struct loch_id *timeline);
/* True when the tenant is loaded and (timeline not none) has active keys for the timeline. */
bool loch_keys_has(struct loch_keys *keys, const struct loch_id *tenant,
                   const struct loch_id *timeline);
uint64_t loch_keys_generation(struct loch_keys *keys,
                              const struct loch_id *tenant); /* 0: not loaded */
/* How many key versions the keyring held here has, of LOCH_KEYRING_ENTRIES_MAX; 0: not loaded. */
uint32_t loch_keys_versions(struct loch_keys *keys, const struct loch_id *tenant);

/* The key to seal with now: timeline key for PAGE or WAL; timeline none and META: the tenant's own
 * objects. A copy, owned by the caller (loch_wrap_key_fini). LOCH_E_NOT_FOUND, LOCH_E_DENIED. */
LOCH_STATUS loch_keys_wrap_key(struct loch_keys *keys, const struct loch_id *tenant,
                               const struct loch_id *timeline, enum loch_purpose purpose,
                               struct loch_wrap_key *out);
/* Where readers of all loaded tenants find keys; lives as long as `keys`. What loch_keys_wrap_key
 * gives out, or gave out before it was RETIRED, for the place's tenant, timeline and kind opens a
 * file there, and no other key does. */
struct loch_key_source loch_keys_source(struct loch_keys *keys);
/* True when that version of the key is known and RETIRED: what it wraps should be written anew. */
bool loch_keys_is_retired(struct loch_keys *keys, const struct loch_id *tenant,
                          const struct loch_id *key_id, uint32_t version);

/* ---- rotation; pageserver only, blocks ---- */
enum loch_rotation {
    LOCH_ROTATE_CMK = 1,  /* every KEK wrapped anew by the CMK that holds the active ones */
    LOCH_ROTATE_KEK,      /* a new version of each KEK, every TK wrapped anew below it */
    LOCH_ROTATE_TK,       /* a new version of each timeline key, for new files from now on */
    LOCH_ROTATE_WIRE,     /* a new wire epoch, PENDING: loch_keys_settle when servers have it */
    LOCH_ROTATE_WIRE_ANEW /* two at once, PENDING: with their settling every epoch of before ends,
                             and nobody who proves one of those is handed the new ones */
};
struct loch_rotation_report {
    uint32_t made, rewrapped; /* versions */
    uint64_t generation;
    uint64_t bytes_written; /* keyring objects: all that a rotation writes */
};
/* Of what the tenant's CMK holds (branch none), or of what a branch's own does; the other keys stay
 * as they are. Nothing is lost when it is interrupted; the same again finishes or does it once
 * more. No data object is touched. LOCH_E_STALE: others write this keyring. LOCH_E_NOT_FOUND: the
 * branch has no CMK of its own. */
LOCH_STATUS loch_keys_rotate(struct loch_keys *keys, const struct loch_id *tenant,
                             const struct loch_id *branch, enum loch_rotation what,
                             struct loch_rotation_report *out);
/* Every KEK wrapped anew by the CMK at `uri`, which must be pinned here for the tenant, or the
 * branch: LOCH_E_INVALID. Else as loch_keys_rotate. Nothing but this moves keys to another CMK. */
LOCH_STATUS loch_keys_move(struct loch_keys *keys, const struct loch_id *tenant,
                           const struct loch_id *branch, const char *uri,
                           struct loch_rotation_report *out);
/* Every PENDING version becomes ACTIVE, after it was read back and proven. */
LOCH_STATUS loch_keys_settle(struct loch_keys *keys, const struct loch_id *tenant);
/* A copy of the keyring held (wrapped keys only); the caller loch_keyring_fini's it. */
LOCH_STATUS loch_keys_ring(struct loch_keys *keys, const struct loch_id *tenant,
                           struct loch_keyring *out);

/* ---- leases: for host/leases.h; `branch` none: the tenant's, else of a branch with a CMK ---- */
/* LOCH_OK while the tenant's keys, and (not NULL) those of the timeline, may be used, or there are
 * none here; else LOCH_E_KEY_REVOKED or LOCH_E_KMS_UNAVAILABLE: also for what was opened with them
 * before, and when no lease on them is noted. Cheap; before every send. */
LOCH_STATUS loch_keys_usable(struct loch_keys *keys, const struct loch_id *tenant,
                             const struct loch_id *timeline);
/* Whether the timeline's keys wait for the first answer of a branch's own CMK (after a start, or
 * when a tenant wakes): its lease asks now. Never blocks. */
bool loch_keys_opening(struct loch_keys *keys, const struct loch_id *tenant,
                       const struct loch_id *timeline);
/* The same, but for a block only: a lease that has run out may be renewed any moment, a block ends
 * with a restore, which is told (light). */
LOCH_STATUS loch_keys_blocked(struct loch_keys *keys, const struct loch_id *tenant,
                              const struct loch_id *timeline);
/* One real Decrypt of a KEK: the tenant's META, a branch's PAGE; blocks. LOCH_E_DENIED,
 * LOCH_E_UNAVAILABLE, ... */
LOCH_STATUS loch_keys_prove(struct loch_keys *keys, const struct loch_id *tenant,
                            const struct loch_id *branch);
void loch_keys_permit(struct loch_keys *keys, const struct loch_id *tenant,
                      const struct loch_id *branch, uint64_t until_ns);
/* Whether a load or a change is under way that began before the block, and so may hold opened keys
 * of the tenant, or of what the branch's CMK holds. None begins while they are blocked. */
bool loch_keys_at_work(struct loch_keys *keys, const struct loch_id *tenant,
                       const struct loch_id *branch);
/* Wipes every opened key of the tenant, or of what the branch's CMK holds; all uses fail with
 * `code` and `why` until a restore. With the tenant the permits of its branches end. */
void loch_keys_block(struct loch_keys *keys, const struct loch_id *tenant,
                     const struct loch_id *branch, enum loch_code code, const char *why);
/* The same for want of use: fails as KMS_UNAVAILABLE, and remembers who wants the keys. */
void loch_keys_sleep(struct loch_keys *keys, const struct loch_id *tenant);
bool loch_keys_asleep(struct loch_keys *keys, const struct loch_id *tenant);
/* Somebody is about to use the tenant's keys. So is the client whose wire key a listener looks up
 * while they are asleep. Never blocks. */
void loch_keys_want(struct loch_keys *keys, const struct loch_id *tenant);
/* Whether anybody wanted them since this was asked last, or they were put to sleep. */
bool loch_keys_wanted(struct loch_keys *keys, const struct loch_id *tenant);
/* Loads the keys of a blocked tenant, or opens those of a branch, and lifts the block; blocks the
 * thread. *started_ns: when its Decrypts began. */
LOCH_STATUS loch_keys_restore(struct loch_keys *keys, const struct loch_id *tenant,
                              const struct loch_id *branch, uint64_t *started_ns);
struct loch_keys_permit_view {
    struct loch_id tenant, branch;
    uint64_t granted_ns, until_ns;
    enum loch_code block;
    bool
        unasked; /* blocked because the branch's CMK was not asked yet: whoever keeps leases does */
    char why[LOCH_KEYS_WHY_BYTES];
};
/* A copy of every tenant's permit (the caller frees *out); count of them. */
LOCH_STATUS loch_keys_permits(struct loch_keys *keys, struct loch_keys_permit_view **out,
                              size_t *count);

/* Whether connections under that wire epoch may go on: false once it has ended, however long ago
 * they were made. */
bool loch_keys_epoch_lives(struct loch_keys *keys, const struct loch_id *tenant, uint32_t epoch);
/* The PSK for an identity whose tenant is loaded. An identity's wire_epoch 0 is replaced by the
 * tenant's active one. The identity must be of this cluster. */
LOCH_STATUS loch_keys_psk(struct loch_keys *keys, struct loch_psk_identity *identity,
                          struct loch_secret *out);
/* Whether a client came with a wire epoch above all that the keyring held here has, since this was
 * asked last: then the keyring should be read again. Of a branch: whether a keyring came with keys
 * below its CMK that are not open: then it should be asked at once (loch_keys_prove opens them). */
bool loch_keys_behind(struct loch_keys *keys, const struct loch_id *tenant,
                      const struct loch_id *branch);
/* Whether the store has a later generation of the keyring than the one held here. Reads the store,
 * asks no key service, and proves nothing. */
bool loch_keys_outdated(struct loch_keys *keys, const struct loch_id *tenant);
/* Rises whenever a keyring is taken over or opened anew: cheap, to see that something changed. */
uint64_t loch_keys_changes(const struct loch_keys *keys);
/* loch_psk_lookup_fn for listeners: arg is struct loch_keys. Refuses another cluster, server role
 * or node than ours, ourselves as client, an unknown tenant or wire epoch, a timeline the tenant
 * lacks. */
bool loch_keys_psk_lookup(void *arg, struct loch_slice identity, struct loch_secret *psk);

#endif
