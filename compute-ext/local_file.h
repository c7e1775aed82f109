/* A relation fork's file on the scratch: the fork's length and the pages that must be kept, in one.
 *
 * The file has the real path and the real length; a page that is kept lies at its natural offset; a
 * hole means: ask the pageserver. md.c works on these files unchanged (sizes, unlink, truncation).
 */
#ifndef LOCH_EXT_LOCAL_FILE_H
#define LOCH_EXT_LOCAL_FILE_H

#include "postgres.h"

#include "common/relpath.h"
#include "storage/block.h"
#include "storage/relfilenode.h"

bool loch_local_exists(RelFileNode rnode, ForkNumber fork);
/* Length in blocks; 0 without a file. ERROR when a file cannot be looked at. */
BlockNumber loch_local_blocks(RelFileNode rnode, ForkNumber fork);
/* The block as the file has it, a hole as zeros; false when there is none. Never an ERROR. */
bool loch_local_read(RelFileNode rnode, ForkNumber fork, BlockNumber block, char *page);
/* Makes the fork end after `block`, without giving any page bytes. The caller holds the relation's
 * extension lock, as for smgrextend. ERROR when the file system refuses. */
void loch_local_extend(RelFileNode rnode, ForkNumber fork, BlockNumber block);
/* Bit i set: block + i is a hole. Only blocks of the file and of one segment; at most 64. 0 when
 * the file cannot be opened. Never an ERROR. */
uint64 loch_local_holes(RelFileNode rnode, ForkNumber fork, BlockNumber block, uint32 count);
/* Turns a page into a hole again. ERROR when the file system refuses. */
void loch_local_punch(RelFileNode rnode, ForkNumber fork, BlockNumber block);
/* Makes the file appear at once with its whole length: holes only, or the given pages. Nothing
 * happens when it is there already. Not in a critical section. */
void loch_local_publish(RelFileNode rnode, ForkNumber fork, BlockNumber blocks, const char *pages);

#endif
