/* What the free space maps say, kept in storage for the next compute (docs/protocol/free_space.md).
 *
 * PostgreSQL does not log them. A map that comes from a list may be old; PostgreSQL never follows
 * it beyond the relation's end and corrects it where it is wrong. */
#ifndef LOCH_EXT_FREE_SPACE_H
#define LOCH_EXT_FREE_SPACE_H

#include "postgres.h"

#include "storage/block.h"
#include "storage/relfilenode.h"

/* In the postmaster, before there is shared memory: reads the lists that came with the data
 * directory; every process inherits them. A list that makes no sense is left out. */
void loch_free_space_read(void);
/* Shared memory for what was read, and its making. */
Size loch_free_space_shared_bytes(void);
void loch_free_space_make(void);
/* Makes the relation's map out of the list, for `heap_blocks` blocks; false: the list does not have
 * it. Not in a critical section. */
bool loch_free_space_restore(RelFileNode rnode, BlockNumber heap_blocks);
/* The relation is gone: it is not listed again. */
void loch_free_space_forget(RelFileNode rnode);
/* In the worker: logs what has changed since the last time. `ask`: relations that nobody has used
 * here are looked for on the pageserver, and left out when they are gone. */
void loch_free_space_save(bool ask);

#endif
