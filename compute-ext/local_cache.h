/* The local file cache (LFC): pages of main forks that left shared buffers or came from the
 * pageserver, on the scratch, sealed. Never needed: whatever goes wrong switches it off.
 *
 * Rule (CORRECTNESS A14; the same as read-ahead's): bytes obtained while a page's last-written LSN
 * was x may be used only while it still is x. */
#ifndef LOCH_EXT_LOCAL_CACHE_H
#define LOCH_EXT_LOCAL_CACHE_H

#include "postgres.h"

#include "cache_file.h"

#include "access/xlogdefs.h"
#include "storage/block.h"
#include "storage/lwlock.h"
#include "storage/relfilenode.h"

/* Locks in the extension's tranche, from the first of which on loch_cache_make is told. */
#define LOCH_CACHE_PARTS 128

/* Shared memory for loch.cache_max_size. */
Size loch_cache_shared_bytes(void);
/* In the postmaster's start hook: shared memory, file and key. Never fails: without a file the
 * cache is off. */
void loch_cache_make(LWLockPadded *first_lock);
/* Puts loch.cache_size into force; after an error this tries anew. One process at a time. */
void loch_cache_apply_size(void);

/* True: `page` is what the pageserver would have to answer to a read of this page at `lsn`, its
 * last-written LSN now. No ERROR, no network, also in a critical section (as all below). */
bool loch_cache_get(RelFileNode rnode, BlockNumber block, XLogRecPtr lsn, char *page);
/* Whether a get would find it. */
bool loch_cache_has(RelFileNode rnode, BlockNumber block, XLogRecPtr lsn);
/* Remembers a page that is being written. `lsn`: its last-written LSN, looked up after the write
 * raised it. */
void loch_cache_put(RelFileNode rnode, BlockNumber block, XLogRecPtr lsn, const char *page);
/* The same for a page that was read, perhaps not under its buffer's lock, so that it may have been
 * kept in its file meanwhile: nothing happens if it was. `mark` was asked for before looking
 * whether the file keeps the page, and before `lsn`, that before the read was sent. True: it is in
 * the cache. */
uint32 loch_cache_mark(RelFileNode rnode, BlockNumber block);
bool loch_cache_put_marked(RelFileNode rnode, BlockNumber block, XLogRecPtr lsn, const char *page,
                           uint32 mark);
/* The page has been kept in its file. */
void loch_cache_forget(RelFileNode rnode, BlockNumber block);

struct loch_cache_state {
    bool on;
    uint64 size_bytes; /* in force */
    uint64 used_blocks;
    uint64 max_bytes;
    uint64 writes; /* blocks ever sealed in this boot */
};
void loch_cache_state(struct loch_cache_state *out);

/* The pages in the cache, hottest first by use within each part; at most `max`. Returns how many.
 */
size_t loch_cache_list(struct loch_cache_tag *out, size_t max);

#ifdef LOCH_TEST_SWITCHES
void loch_cache_test_counter(uint64 value);
void loch_cache_test_damage(void);
#endif

#endif
