/* Secret bytes: the only place where key material may live.
 *
 * A secret is a fixed-size slot in a slab that the process keeps in memfd_secret(2) memory where
 * the kernel has it, else in mlock'ed, MADV_DONTDUMP memory; wiped when freed. A fork()ed child
 * must not use secrets of its parent (memfd_secret slabs are not inherited); exec first. Slabs, not
 * one mapping each, because RLIMIT_MEMLOCK is commonly 8 MiB; as many as the secrets need: beyond
 * that limit they are plain memory.
 */
#ifndef LOCH_BASE_SECRET_H
#define LOCH_BASE_SECRET_H

#include "loch/base/status.h"

#include <stddef.h>
#include <stdint.h>

#define LOCH_SECRET_MAX_BYTES 64u

/* Owned by whoever created it. `len` is 0 for an empty secret. */
struct loch_secret {
    uint8_t *bytes; /* in secret memory, LOCH_SECRET_MAX_BYTES long; NULL when empty */
    size_t len;
};

/* Allocates a zeroed slot of `len` (1..LOCH_SECRET_MAX_BYTES) bytes. LOCH_E_NO_MEMORY,
 * LOCH_E_INVALID. */
LOCH_STATUS loch_secret_create(struct loch_secret *out, size_t len);
/* Copies `bytes` into a fresh slot; the caller wipes its own copy. */
LOCH_STATUS loch_secret_from(struct loch_secret *out, const void *bytes, size_t len);
/* A copy with a slot of its own. */
LOCH_STATUS loch_secret_copy(struct loch_secret *out, const struct loch_secret *from);
/* Wipes and frees; leaves *s empty. Takes an empty secret. */
void loch_secret_fini(struct loch_secret *s);
/* Constant-time comparison; different lengths are unequal. */
_Bool loch_secret_equal(const struct loch_secret *a, const struct loch_secret *b);
/* Overwrites memory that held secret bytes in a way the compiler keeps. */
void loch_wipe(void *bytes, size_t len);
/* PR_SET_DUMPABLE 0, RLIMIT_CORE 0, and nothing in a core that is made all the same: call at the
 * start of every process (exec resets it). */
LOCH_STATUS loch_process_harden(void);
/* For a process whose fork()ed children need its secrets (a postmaster): slabs become private
 * locked memory that children inherit as copies. Call before the first secret is created. */
void loch_secret_keep_across_fork(void);
/* How secret memory is kept here, where it is kept worst: "memfd_secret", "mlock" or "plain" (when
 * even mlock was refused). */
const char *loch_secret_backing(void);
/* How many there are in this process. */
size_t loch_secrets_in_use(void);

#endif
