/* Which pages of permanent main forks this server has put into their files since it began.
 *
 * A fixed array of bits indexed by a hash, each only ever set: conservative under collisions. By
 * the relation's number and the block alone, for a database that is copied file by file keeps both.
 */
#ifndef LOCH_EXT_KEPT_H
#define LOCH_EXT_KEPT_H

#include "postgres.h"

#include "storage/block.h"
#include "storage/relfilenode.h"

/* Before the page's bytes are written. No ERROR, also in a critical section. */
void loch_kept_note(RelFileNode rnode, BlockNumber block);
/* False: no page of that number was ever kept. */
bool loch_kept_maybe(RelFileNode rnode, BlockNumber block);

#endif
