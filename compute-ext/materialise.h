/* Makes a relation fork's local file on its first use, with the size the pageserver says.
 *
 * Done in exists, nblocks and the first access, never in a critical section: later operations, such
 * as a truncation inside one, find the file there. */
#ifndef LOCH_EXT_MATERIALISE_H
#define LOCH_EXT_MATERIALISE_H

#include "postgres.h"

#include "storage/smgr.h"

/* True when the fork exists; its file is there then. May wait for the pageserver. */
bool loch_materialise(SMgrRelation reln, ForkNumber fork);

/* Whether this relation lives on the scratch only, so that md.c does everything: temporary, shared
 * (global/: walsender authentication must never need a page) and, once materialised, unlogged ones.
 */
bool loch_relation_is_local(SMgrRelation reln, ForkNumber fork);

/* Whether the pageserver has this fork, for a relation file number about to be used anew. */
bool loch_remote_exists(RelFileNode rnode, ForkNumber fork);

#endif
