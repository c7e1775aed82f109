/* Between the set of opened tenants (keys.c) and one tenant's keyring (keys_ring.c). */
#ifndef LOCH_HOST_KEYS_INTERNAL_H
#define LOCH_HOST_KEYS_INTERNAL_H

#include "loch/base/id_map.h"
#include "loch/host/keys.h"
#include "loch/objstore/objstore.h"

#include <pthread.h>
#include <stdatomic.h>

/* One version of a key; `secret` is empty for revoked and destroyed ones. */
struct opened_key {
    struct loch_id key_id;
    uint32_t version;
    uint8_t level, purpose, state;
    struct loch_id scope;
    struct loch_id lock; /* the branch whose CMK holds it; none: the tenant's */
    struct loch_secret secret;
};

/* A branch with a CMK of its own, as the keyring was opened: without it the rest still is. */
struct keys_lock {
    struct loch_id branch;
    bool asked;          /* its CMK, while this keyring was read */
    bool granted;        /* and that opened all there was below it */
    enum loch_code code; /* LOCH_E_OK: everything below it is open; else why not */
    char why[LOCH_KEYS_WHY_BYTES];
    uint32_t had, missing; /* private to keys_lock_inherit */
};

/* A keyring as it was read and proven, with its keys. Immutable once installed, but for secrets
 * that go (a wipe) and those of a lock that come when its CMK was asked: under lock, to write. */
struct keys_tenant {
    struct loch_keyring ring;
    uint8_t hash[LOCH_KEYRING_HASH_BYTES];
    uint8_t mac[LOCH_KEYRING_MAC_BYTES];
    struct loch_etag etag;
    struct opened_key *keys; /* as many as the ring has entries, same order */
    bool has_retired;        /* a timeline key of it is: else nobody need look for one */
    uint64_t loads;          /* how often it was read here */
    size_t at;               /* in the set's list */
    struct keys_lock *locks; /* owned; lock_count of them */
    size_t lock_count;
};

/* Whether a tenant's keys may be used, and until when. Exists before the keys when they could not
 * be opened, and after them when they were wiped. */
struct keys_permit {
    struct loch_id tenant;
    size_t at;             /* in the list */
    struct loch_id branch; /* none: the tenant's; else of what that branch's CMK holds, which
                              needs the tenant's as well, and exists only while that is not
                              blocked */
    uint64_t granted_ns;   /* start of the Decrypt that opened the keys */
    uint64_t blocked_ns;   /* when it was blocked last: what began before lifts nothing */
    uint64_t until_ns;     /* UINT64_MAX: no lease is kept */
    enum loch_code block;  /* LOCH_E_OK: none; else why nothing of the tenant opens */
    char why[LOCH_KEYS_WHY_BYTES];
    bool asleep;        /* the block is for want of use */
    bool unasked;       /* the block is because nobody has asked the CMK yet */
    atomic_bool wanted; /* by somebody, since it was asked last */
    atomic_bool behind; /* a client has a key of a later wire epoch than any of ours; a branch's:
                           there are keys below its CMK that are not open */
};

#define KEYS_CHANGE_LOCKS 64u

/* Why a tenant's keyring was not taken, as it stands in the audit log. */
struct keys_refusal {
    struct loch_id tenant;
    char why[LOCH_KEYS_WHY_BYTES]; /* "": none */
};
#define KEYS_REFUSALS_KEPT 64u

/* A load or change under way, on its thread's stack: it may hold opened keys that no wipe reaches.
 */
struct keys_work {
    struct loch_id tenant, branch; /* none: of the whole tenant */
    struct keys_work *next, **prev;
};

/* The change that holds a change lock. */
struct keys_change {
    struct loch_id tenant;
    bool dropped; /* the tenant, since it began: what it has read is not to be taken over */
};

struct loch_keys {
    struct loch_keys_options o;
    pthread_rwlock_t lock;
    pthread_mutex_t work_lock;
    struct keys_work *work; /* under work_lock */
    /* By tenant, so that the slow key service of one does not hold up another. */
    pthread_mutex_t change[KEYS_CHANGE_LOCKS];
    struct keys_change changing[KEYS_CHANGE_LOCKS]; /* under work_lock */
    struct keys_tenant **tenants;                   /* under lock, as all of these */
    size_t count;
    size_t cap;
    struct loch_id_map tenant_map; /* the same by id */
    _Atomic uint64_t changes;
    struct keys_permit **permits;
    size_t permit_count;
    struct loch_id_map permit_map;
    struct keys_refusal refusals[KEYS_REFUSALS_KEPT]; /* the last ones, in turn */
    size_t next_refusal;
    atomic_bool swap_judged;
};

/* Under lock. NULL: its keys were not read here yet. */
struct keys_tenant *keys_tenant_find(const struct loch_keys *keys, const struct loch_id *tenant);

/* keys_witness.c. LOCH_E_STALE, LOCH_E_CORRUPT when an older or another keyring than the newest
 * seen here is offered, or one that an older META KEK proves. */
LOCH_STATUS keys_witness_check(const struct loch_keys_options *o, const struct keys_tenant *t);
LOCH_STATUS keys_witness_note(const struct loch_keys_options *o, const struct keys_tenant *t);
void keys_witness_forget(const struct loch_keys_options *o, const struct loch_id *tenant);

/* keys_notice.c. Warns, once in this process, when there is a tenant whose CMK is customer-held and
 * memory may be swapped in the clear (loch/io/swap.h); whether it did. */
bool keys_notice_swap(struct loch_keys *keys, const struct loch_keyring *ring, const char *proc,
                      const char *sys);
/* Warns when a keyring has come to hold so many versions that it should be seen to, as a start may
 * find it, too (before 0); whether it did. */
bool keys_notice_many(const struct loch_id *tenant, uint32_t before, uint32_t count);

/* Reads the keyring and refuses one older than the one held: nothing may be built upon it. The CMK
 * of the branch `ask` is asked (none: no branch's); what others hold stays as it is open. Where no
 * leases are kept all are asked: nobody else would. */
LOCH_STATUS keys_get_newest(struct loch_keys *keys, const struct loch_id *tenant,
                            const struct loch_id *ask, struct keys_tenant **out);
/* Under the tenant's change lock: reads and installs; makes PENDING keys ACTIVE first. */
LOCH_STATUS keys_load(struct loch_keys *keys, const struct loch_id *tenant,
                      const struct loch_id *ask);
LOCH_STATUS keys_settle(struct loch_keys *keys, const struct loch_id *tenant,
                        const struct loch_id *ask);
/* Fails for a blocked tenant: only a restore may open its keys. */
LOCH_STATUS keys_check_open(struct loch_keys *keys, const struct loch_id *tenant);

/* Under lock. NULL when there is none. `branch` none: the tenant's. */
struct keys_permit *keys_permit_find(const struct loch_keys *keys, const struct loch_id *tenant,
                                     const struct loch_id *branch);
/* Under lock. Fails when the tenant's keys, or those of the branch whose CMK holds them (`lock`;
 * none: the tenant's does), are blocked or their lease has run out. */
LOCH_STATUS keys_permit_check(const struct loch_keys *keys, const struct loch_id *tenant,
                              const struct loch_id *lock);
/* The clock of leases; 0 when none are kept. */
uint64_t keys_now_ns(const struct loch_keys *keys);
/* After a load that began at started_ns: notes the lease, or why there is none. Passes st on, but
 * fails when the tenant was blocked meanwhile, unless the load may lift its block. */
LOCH_STATUS keys_permit_note(struct loch_keys *keys, const struct loch_id *tenant,
                             uint64_t started_ns, loch_status st, bool lifts);
/* Under lock. Its keys were opened by a Decrypt that started then. */
void keys_permit_grant(const struct loch_keys *keys, struct keys_permit *p, uint64_t started_ns);
/* The lock that one change of the tenant's keyring at a time holds, a load or restore too. */
void keys_change_lock(struct loch_keys *keys, const struct loch_id *tenant);
void keys_change_unlock(struct loch_keys *keys, const struct loch_id *tenant);
/* Under lock (to write). The tenant is dropped: a change of it that is under way, and has read its
 * keyring before, must not bring it back. */
void keys_change_drop(struct loch_keys *keys, const struct loch_id *tenant);
/* Under lock and in a change. LOCH_E_NOT_FOUND: the tenant was dropped since that began. */
LOCH_STATUS keys_change_check(struct loch_keys *keys, const struct loch_id *tenant);
/* Around all that may hold opened keys, before it looks whether they are blocked
 * (loch_keys_at_work); `work` is the caller's. Not around a restore: it is the leases' own. */
void keys_work_begin(struct loch_keys *keys, struct keys_work *work, const struct loch_id *tenant,
                     const struct loch_id *branch);
void keys_work_end(struct loch_keys *keys, struct keys_work *work);
/* The same, of the whole tenant, with its change lock. */
void keys_change_begin(struct loch_keys *keys, struct keys_work *work,
                       const struct loch_id *tenant);
void keys_change_end(struct loch_keys *keys, struct keys_work *work);
void keys_permit_forget(struct loch_keys *keys, const struct loch_id *tenant);
/* Wipes what was unwrapped; the keyring and its hash stay, so that no older one is taken later. */
void keys_tenant_wipe(struct keys_tenant *t);
/* Wipes what the branch's CMK holds. */
void keys_tenant_wipe_branch(struct keys_tenant *t, const struct loch_id *branch);
/* Unwraps one entry as keys_ring_get does: proves that the KMS still lets us, for the tenant's CMK
 * (branch none) or a branch's. */
LOCH_STATUS keys_ring_prove(const struct loch_keys_options *o, const struct loch_keyring *ring,
                            const struct loch_id *branch);

/* ---- keys_lock.c: branches with a CMK of their own ---- */
const struct keys_lock *keys_lock_find(const struct keys_tenant *t, const struct loch_id *branch);
/* Why a key whose secret is not there is not. */
LOCH_STATUS keys_lock_failure(const struct keys_tenant *t, const struct loch_id *lock);
void keys_lock_close(struct keys_lock *l);
/* The lock above an entry, made when it is the first of its branch, to be asked if it is `ask`, or
 * that is NULL; *out NULL: the tenant's. */
LOCH_STATUS keys_lock_above(struct keys_tenant *t, const struct loch_id *branch,
                            const struct loch_id *ask, struct keys_lock **out);
/* What is not open in `t` below branches' CMKs becomes so, as far as `old` has it, or a KEK above
 * it. asked_too: also where the CMK was asked in vain: the leases say when that ends. */
LOCH_STATUS keys_lock_inherit(const struct loch_keys_options *o, struct keys_tenant *t,
                              const struct keys_tenant *old, bool asked_too);
/* Asks the branch's CMK, which may take its time, and opens in the keyring held here all that it
 * holds: a grant since started_ns. Without `lift` a blocked one fails. */
LOCH_STATUS keys_lock_open(struct loch_keys *keys, const struct loch_id *tenant,
                           const struct loch_id *branch, uint64_t started_ns, bool lift);
/* loch_keys_prove of a branch: one Decrypt, or as many as open what is new below its CMK. */
LOCH_STATUS keys_lock_prove(struct loch_keys *keys, const struct loch_id *tenant,
                            const struct loch_id *branch);

void keys_tenant_destroy(struct keys_tenant *t);
/* Reads, unwraps and proves the tenant's keyring. Every key is unwrapped anew, but what the CMKs of
 * branches hold: of that what `ask` does (NULL: all; none: nothing). */
LOCH_STATUS keys_ring_get(const struct loch_keys_options *o, const struct loch_id *tenant,
                          const struct loch_id *ask, struct keys_tenant **out);
/* The generation of the keyring in the store, which nothing has proven. Asks no key service. */
LOCH_STATUS keys_ring_generation(const struct loch_keys_options *o, const struct loch_id *tenant,
                                 uint64_t *out);
/* Unwraps the entries of t->ring into t->keys, which it makes, as keys_ring_get does; `only`: those
 * below that branch's CMK alone (NULL: all). */
LOCH_STATUS keys_ring_open(const struct loch_keys_options *o, struct keys_tenant *t,
                           const struct loch_id *ask, const struct loch_id *only);
LOCH_STATUS keys_entry_unwrap(const struct loch_keys_options *o, const struct keys_tenant *t,
                              const struct loch_keyring_entry *e, struct loch_secret *out);
/* The opened secret of a version, or NULL. */
const struct loch_secret *keys_ring_secret(const struct keys_tenant *t,
                                           const struct loch_id *key_id, uint32_t version);
/* A copy of t's ring, numbered and chained as its successor. */
LOCH_STATUS keys_ring_successor(const struct keys_tenant *t, struct loch_keyring *next);
/* MACs with the META KEK that is active in `ring`, which `signer` has opened, and puts; expect
 * NULL: only when there is none yet. LOCH_E_STALE: somebody else was quicker. */
LOCH_STATUS keys_ring_put(const struct loch_keys_options *o, const struct loch_keyring *ring,
                          const struct keys_tenant *signer, const struct loch_etag *expect);
/* What is to be made: a TK, or (kek NULL) a KEK wrapped by the CMK at `kms`. */
struct keys_make {
    uint8_t purpose;
    struct loch_id scope;
    struct loch_id key_id; /* none: a new key; else its next version */
    struct loch_id parent;
    uint32_t parent_version;
    const struct loch_secret *kek;
    struct loch_kms *kms; /* of a KEK */
};
/* Makes a version, PENDING in the ring. The secret goes to *secret. */
LOCH_STATUS keys_ring_make(struct loch_keyring *ring, const struct keys_make *what,
                           struct loch_secret *secret);
/* Wraps a TK under a KEK, or a KEK by a CMK, in the place of entry e, and proves the wrap. */
LOCH_STATUS keys_ring_wrap_tk(const struct loch_keyring *ring, const struct loch_keyring_entry *e,
                              const struct loch_secret *kek, const struct loch_secret *tk,
                              struct loch_buf *out);
LOCH_STATUS keys_ring_wrap_kek(const struct loch_keyring *ring, const struct loch_keyring_entry *e,
                               struct loch_kms *kms, const struct loch_secret *kek,
                               struct loch_buf *out);
/* Puts the first keyring, all keys PENDING. LOCH_E_EXISTS. */
LOCH_STATUS keys_ring_create(const struct loch_keys_options *o, const struct loch_id *tenant);
/* The CMK for the first KEKs of the tenant (branch none) or a branch, which must have one pinned:
 * the last pin. */
LOCH_STATUS keys_ring_kms(const struct loch_keys_options *o, const struct loch_id *tenant,
                          const struct loch_id *branch, struct loch_kms **out);
/* The CMK that holds the active KEKs of the tenant (branch none) or the branch, whatever else is
 * pinned. Borrowed. */
LOCH_STATUS keys_ring_holder(const struct loch_keys_options *o, const struct keys_tenant *t,
                             const struct loch_id *branch, struct loch_kms **out);
/* Puts a successor of t with PENDING keys for each timeline that has neither active nor pending
 * ones, below the KEKs of `lock` (none: the tenant's); the lock of a timeline that is the lock
 * itself is made first. *changed says whether there was anything to put. LOCH_E_STALE: somebody
 * else was quicker.
 */
LOCH_STATUS keys_ring_add_timelines(const struct loch_keys_options *o, const struct keys_tenant *t,
                                    const struct loch_id *timelines, size_t count,
                                    const struct loch_id *lock, bool *changed);
/* Puts a successor of t without the timeline's keys. The same codes. */
LOCH_STATUS keys_ring_forget_timeline(const struct loch_keys_options *o,
                                      const struct keys_tenant *t, const struct loch_id *timeline,
                                      bool *changed);
/* In `next`, a successor of t: every TK that is open below the active version of its KEK. Counts
 * them. */
LOCH_STATUS keys_ring_rewrap(const struct keys_tenant *t, struct loch_keyring *next,
                             uint32_t *rewrapped);
/* In `next`, a successor of t: every PENDING key that is opened becomes ACTIVE; what a branch's
 * closed CMK holds waits. Wire epochs before the last two end. *any: whether there was one. */
LOCH_STATUS keys_ring_enliven(const struct keys_tenant *t, struct loch_keyring *next, bool *any);
/* Puts a successor of t in which every PENDING key that is opened is ACTIVE, and TKs are wrapped as
 * they should be. The same codes. */
LOCH_STATUS keys_ring_activate(const struct loch_keys_options *o, const struct keys_tenant *t,
                               bool *changed);

#endif
