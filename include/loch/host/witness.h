/* What this node remembers, outside of the object store, of the newest version of an object that
 * it has seen: a store that is wound back, also while the daemon is down, is noticed.
 *
 * One small file for each object, text: generation, space, SHA-256 of the whole object in hex; of a
 * keyring a space and the version of the META KEK that its MAC is under, of a manifest the version
 * of the key that it is sealed under (files from before have none: any will do); newline. It is no
 * secret and proves nothing against who can write this node's own disk as well. Blocking; any
 * thread; calls for one path do not overlap.
 */
#ifndef LOCH_HOST_WITNESS_H
#define LOCH_HOST_WITNESS_H

#include "loch/base/buf.h"
#include "loch/base/status.h"
#include "loch/io/env.h"

#include <stdint.h>

#define LOCH_WITNESS_HASH_BYTES 32u

struct loch_witness {
    uint64_t generation;
    uint8_t hash[LOCH_WITNESS_HASH_BYTES];
    uint32_t key_version; /* of the key that proves the object; 0: that of others never changes */
};

/* `what` names the object in the message. LOCH_E_STALE: an older generation than the one remembered
 * at `path`; LOCH_E_CORRUPT: another object of that generation, one that is proven by an older key
 * (who has that one may have made it), or the file is no witness's. Nothing remembered: OK. */
LOCH_STATUS loch_witness_check(struct loch_env *env, const char *path, const char *what,
                               const struct loch_witness *offered);
/* What is remembered. LOCH_E_NOT_FOUND: nothing; LOCH_E_CORRUPT: the file is no witness's. */
LOCH_STATUS loch_witness_read(struct loch_env *env, const char *path, struct loch_witness *out);
/* Remembers it from now on; durable on return; `dir` holds `path` and is made when it is not
 * there. Does nothing when it is remembered already. */
LOCH_STATUS loch_witness_note(struct loch_env *env, const char *dir, const char *path,
                              const struct loch_witness *newest);
/* The object is gone for good. */
void loch_witness_forget(struct loch_env *env, const char *path);

#endif
