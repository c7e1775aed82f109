/* The newest copies of pages that are kept on the scratch, for the workers that save them; and the
 * forks there are files of. No locks of relations: what is dropped or truncated meanwhile is either
 * found or not. */
#ifndef LOCH_EXT_NEWEST_H
#define LOCH_EXT_NEWEST_H

#include "postgres.h"

#include "common/relpath.h"
#include "storage/block.h"
#include "storage/relfilenode.h"

/* The block as it is now, in shared buffers or else in the file; zeros when it is in neither. Only
 * for forks that are kept wholly. In a process that pins nothing else. */
void loch_newest_read(RelFileNode rnode, ForkNumber fork, BlockNumber block, char *page);
/* Calls `each` for every fork of this kind that has a file, outside of global/. */
void loch_newest_forks(ForkNumber fork, void (*each)(RelFileNode rnode, void *arg), void *arg);

#endif
