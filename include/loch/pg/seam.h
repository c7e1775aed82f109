/* Finds a table of pointers to functions in the running main executable: smgr.c's smgrsw[], or, as
 * a table of one, the address that the loader noted for calls of a library's function.
 *
 * The table is a static const array, or bound at start, so it lies in PT_GNU_RELRO. The search is
 * for one exact sequence of pointers and demands exactly one hit. Used inside PostgreSQL only,
 * before it forks.
 */
#ifndef LOCH_PG_SEAM_H
#define LOCH_PG_SEAM_H

#include "loch/base/status.h"

#include <stddef.h>

/* wanted: `count` pointers in the table's order (NULL is a wanted value too). *table: the address
 * of the first. LOCH_E_NOT_FOUND: no hit; LOCH_E_UNSUPPORTED: more than one, or no RELRO segment.
 */
LOCH_STATUS loch_seam_find(const void *const *wanted, size_t count, void ***table);

/* Overwrites count pointers at `table` (pages made writable for the moment, then read-only again).
 * LOCH_E_IO when mprotect refuses. */
LOCH_STATUS loch_seam_write(void **table, const void *const *pointers, size_t count);

#endif
