/* The local cache's file: sealed blocks at numbered places, in a file without a name on the scratch
 * (or in loch.cache_directory), under a key that exists only in this boot's memory.
 *
 * AES-256-GCM; the nonce is a counter shared by all processes, never used twice. Its upper half
 * names the key, which so changes every 2^32 writes (KEYS_DESIGN). The associated data are the
 * page's tag, its last-written LSN and the place; counter and authentication tag lie in shared
 * memory, not in the file: an old or foreign block put back into a place does not open. */
#ifndef LOCH_EXT_CACHE_FILE_H
#define LOCH_EXT_CACHE_FILE_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "port/atomics.h"
#include "storage/block.h"

#include "loch/base/status.h"
#include "loch/crypto/aead.h"

struct loch_cache_tag {
    Oid spc, db, rel; /* rel 0: of no page */
    BlockNumber block;
};

/* What opens a block. */
struct loch_cache_seal {
    uint64 counter;
    uint8 tag[LOCH_AEAD_TAG_BYTES];
};

/* In the postmaster, once: makes the key and the file. */
LOCH_STATUS loch_cache_file_create(const char *directory);

/* A page under seal, in this process's memory until the next call; *seal is what opens it. */
LOCH_STATUS loch_cache_file_seal(pg_atomic_uint64 *counter, const struct loch_cache_tag *tag,
                                 XLogRecPtr lsn, uint64 place, const char *page,
                                 struct loch_cache_seal *seal);
/* Writes what was sealed last to the place. LOCH_E_IO. */
LOCH_STATUS loch_cache_file_write(uint64 place);
/* Reads a place into this process's memory. LOCH_E_IO. */
LOCH_STATUS loch_cache_file_read(uint64 place);
/* Opens what was read last. LOCH_E_CORRUPT when it is not what was sealed. */
LOCH_STATUS loch_cache_file_open(const struct loch_cache_tag *tag, XLogRecPtr lsn, uint64 place,
                                 const struct loch_cache_seal *seal, char *page);

/* Whether the file system has room for a larger file and for what else lives on it. */
bool loch_cache_file_may_grow(void);
/* Gives back the space of all places from `places` on. */
LOCH_STATUS loch_cache_file_shrink(uint64 places);

#ifdef LOCH_TEST_SWITCHES
/* The n-th write or read from now on, by any process, fails with this errno; 0: none. */
void loch_cache_file_test_fault(uint64 n, int err);
/* Turns a bit of a place around. */
void loch_cache_file_test_damage(uint64 place);
#endif

#endif
