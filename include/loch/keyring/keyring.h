/* The keyring of a tenant: which keys exist, under which key each is wrapped, in which state.
 *
 * A pure machine: it holds wrapped keys and commitments, never a secret, and does no cryptography;
 * host feeds it what the KMS and the ciphers said. One writer: the generation holder. A version
 * goes PENDING -> (put, read back, unwrap matches its commitment) -> ACTIVE -> RETIRED -> REVOKED
 * or destroyed; only ACTIVE seals, ACTIVE and RETIRED open. Format: docs/format/keyring.md.
 */
#ifndef LOCH_KEYRING_KEYRING_H
#define LOCH_KEYRING_KEYRING_H

#include "loch/base/buf.h"
#include "loch/base/types.h"

#define LOCH_KEYRING_WRAP_MAX_BYTES 4096u
#define LOCH_KEYRING_URI_MAX_BYTES  1024u
#define LOCH_KEYRING_ENTRIES_MAX    16384u
#define LOCH_KEYRING_RESERVE        1024u  /* of these: for KEKs and K_wire alone */
#define LOCH_KEYRING_MANY           12288u /* from here on it should be said */
#define LOCH_KEYRING_MAC_BYTES      32u
#define LOCH_KEYRING_HASH_BYTES     32u

/* What is to be done about a keyring that fills up. */
#define LOCH_KEYRING_CURE                                                                          \
    "every rotation of tk adds two for each branch, and they stay as long as the branch: "         \
    "rotate tk less often, delete branches that are not needed (loch branch delete)"

/* On disk; values never change meaning. */
enum loch_purpose {
    LOCH_PURPOSE_PAGE = 1, /* layers, timeline manifests */
    LOCH_PURPOSE_WAL = 2,  /* safekeeper files */
    LOCH_PURPOSE_WIRE = 3, /* PSKs */
    LOCH_PURPOSE_META = 4  /* the keyring's MAC, the tenant's manifest */
};
enum loch_key_level {
    LOCH_LEVEL_KEK = 1, /* wrapped by the KMS */
    LOCH_LEVEL_TK = 2   /* wrapped by a KEK: timeline keys, K_wire */
};
enum loch_key_state {
    LOCH_STATE_PENDING = 1,
    LOCH_STATE_ACTIVE = 2,
    LOCH_STATE_RETIRED = 3,
    LOCH_STATE_REVOKED = 4,
    LOCH_STATE_DESTROYED = 5 /* the wrap is gone: shredded */
};
enum loch_provider {
    LOCH_PROVIDER_FILE = 1,
    LOCH_PROVIDER_PKCS11 = 2,
    LOCH_PROVIDER_AWS_KMS = 3,
    LOCH_PROVIDER_VAULT = 4
};

struct loch_keyring_entry {
    struct loch_id key_id;
    uint32_t version; /* from 1 */
    uint8_t level, purpose, state;
    struct loch_id scope;  /* timeline; none: the tenant. Of a KEK: the branch that has a CMK */
    struct loch_id parent; /* TK: the KEK's key_id; KEK: none */
    uint32_t parent_version;
    uint8_t provider;        /* KEK: enum loch_provider; TK: 0 */
    struct loch_buf cmk_uri; /* KEK: pinned again in the daemon's configuration */
    struct loch_buf wrap;
    uint8_t salt[32]; /* of commitment and wrap */
    uint8_t commitment[32];
};

struct loch_keyring {
    struct loch_id cluster, tenant;
    uint64_t generation;
    uint8_t previous_hash[LOCH_KEYRING_HASH_BYTES]; /* of the whole object before this one; 0 in the
                                                       first */
    uint8_t previous_mac[LOCH_KEYRING_MAC_BYTES];
    bool tombstone;
    struct loch_keyring_entry *entries; /* owned; count of them */
    uint32_t count;
    uint32_t cap;
};

void loch_keyring_init(struct loch_keyring *ring, const struct loch_id *cluster,
                       const struct loch_id *tenant);
void loch_keyring_fini(struct loch_keyring *ring);
LOCH_STATUS loch_keyring_copy(struct loch_keyring *out, const struct loch_keyring *ring);

/* Adds a version in state PENDING; takes the entry's buffers. LOCH_E_INVALID: parent unknown or of
 * another level or purpose, version not the next, fields that do not go together. LOCH_E_LIMIT: the
 * keyring is full; for timelines' keys before it is for KEKs and K_wire, so that what a lost
 * machine asks for (kek, wire-anew) can be done all the same. */
LOCH_STATUS loch_keyring_add(struct loch_keyring *ring, struct loch_keyring_entry *take_entry);
/* PENDING -> ACTIVE; the version active before becomes RETIRED. LOCH_E_INVALID, LOCH_E_NOT_FOUND.
 */
LOCH_STATUS loch_keyring_activate(struct loch_keyring *ring, const struct loch_id *key_id,
                                  uint32_t version);
/* To REVOKED, or to DESTROYED, which drops the wrap for good. */
LOCH_STATUS loch_keyring_revoke(struct loch_keyring *ring, const struct loch_id *key_id,
                                uint32_t version);
LOCH_STATUS loch_keyring_destroy_version(struct loch_keyring *ring, const struct loch_id *key_id,
                                         uint32_t version);
/* Destroyed versions of K_wire leave, but for the newest, so that its numbers go on; returns how
 * many that were. */
uint32_t loch_keyring_sweep(struct loch_keyring *ring);
/* Removes every TK of a timeline, wraps and all, and its own KEKs unless other timelines' keys hang
 * below them; returns how many versions that were: what was sealed under them is lost for good
 * wherever this keyring and its copies are gone. */
uint32_t loch_keyring_forget(struct loch_keyring *ring, const struct loch_id *timeline);
/* Replaces the wrap of a version (rotation of its parent): same key, same commitment. Takes wrap.
 */
LOCH_STATUS loch_keyring_rewrap(struct loch_keyring *ring, const struct loch_id *key_id,
                                uint32_t version, uint32_t parent_version,
                                struct loch_buf *take_wrap);
/* The same for a KEK that another CMK wraps from now on. LOCH_E_INVALID, LOCH_E_NOT_FOUND. */
LOCH_STATUS loch_keyring_move(struct loch_keyring *ring, const struct loch_id *key_id,
                              uint32_t version, uint8_t provider, struct loch_slice cmk_uri,
                              struct loch_buf *take_wrap);
/* The lookups return NULL when there is none; borrowed until the next change. */
const struct loch_keyring_entry *loch_keyring_find(const struct loch_keyring *ring,
                                                   const struct loch_id *key_id, uint32_t version);
const struct loch_keyring_entry *loch_keyring_active(const struct loch_keyring *ring,
                                                     enum loch_key_level level,
                                                     enum loch_purpose purpose,
                                                     const struct loch_id *scope);

/* The ACTIVE version of a key, or NULL. */
const struct loch_keyring_entry *loch_keyring_active_version(const struct loch_keyring *ring,
                                                             const struct loch_id *key_id);
/* The branch whose CMK holds the entry's key (a KEK: itself; a TK: the KEK above it); none: the
 * tenant's. The entry is one of the ring. */
struct loch_id loch_keyring_lock_of(const struct loch_keyring *ring,
                                    const struct loch_keyring_entry *entry);
/* The same for all keys of a timeline: they hang under one CMK. None: the tenant's, or the timeline
 * has no keys. */
struct loch_id loch_keyring_lock(const struct loch_keyring *ring, const struct loch_id *timeline);

/* Format 1; 2 when a branch has a CMK of its own; 3 when versions of K_wire have left. Appends head
 * and entries, without the MAC, which the caller computes over exactly these bytes with the
 * tenant's META key and appends. */
LOCH_STATUS loch_keyring_encode(const struct loch_keyring *ring, struct loch_buf *out);
/* `bytes` ends in the MAC; *body is what it covers, *mac points at it. Nothing is proven before the
 * caller has checked the MAC. LOCH_E_CORRUPT, LOCH_E_UNSUPPORTED. */
LOCH_STATUS loch_keyring_decode(struct loch_slice bytes, struct loch_keyring *out,
                                struct loch_slice *body, struct loch_slice *mac);
/* The META KEK under which a keyring's MAC is: the active one; in a keyring just made, the pending
 * first. NULL: there is none. */
const struct loch_keyring_entry *loch_keyring_mac_key(const struct loch_keyring *ring);
/* Whether `next`, whose MAC is proven, may follow `ring` (generation + 1, its hash): LOCH_E_STALE
 * when it is older; LOCH_E_CORRUPT also when a version that is known has gone back to an earlier
 * state, or a KEK of the tenant's is missing: an old META KEK's MAC proves nothing any more. */
LOCH_STATUS loch_keyring_check_successor(const struct loch_keyring *ring,
                                         const uint8_t hash[static LOCH_KEYRING_HASH_BYTES],
                                         const struct loch_keyring *next);
const char *loch_purpose_name(uint8_t purpose);
const char *loch_key_state_name(uint8_t state);

#endif
