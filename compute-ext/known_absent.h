/* Forks that the pageserver is known not to have, so that it is asked once and not at every insert
 * (heaps look for their free space map all the time). That is only a cache: forgetting is always
 * right, because the compute is the only writer and a fork appears by smgr create here first.
 *
 * And when relations were made, which is not: each process's last one is never forgotten. */
#ifndef LOCH_EXT_KNOWN_ABSENT_H
#define LOCH_EXT_KNOWN_ABSENT_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "common/relpath.h"
#include "storage/relfilenode.h"

struct known_absent {
    RelFileNode rnode; /* the key: first */
    uint32 forks;      /* bit per ForkNumber */
    XLogRecPtr born;   /* when it was made; InvalidXLogRecPtr: nobody is making it any more */
};

#define LOCH_FORK_BIT(fork_) (UINT32_C(1) << (uint32)(fork_))

bool loch_absent_known(RelFileNode rnode, ForkNumber fork);
/* Adds the forks in `forks` (LOCH_FORK_BIT); may forget all other forks to make room. */
void loch_absent_add(RelFileNode rnode, uint32 forks);
void loch_absent_remove(RelFileNode rnode, ForkNumber fork);
/* The relation was made at lsn, without the forks in `forks`: a page of it that is older came from
 * elsewhere and was not logged as its own (the metapage of an unlogged index that is moved, before
 * its init fork is there). */
void loch_absent_born(RelFileNode rnode, uint32 forks, XLogRecPtr lsn);
/* Whether it is known to have been made after lsn: until its process makes another one. */
bool loch_absent_born_after(RelFileNode rnode, XLogRecPtr lsn);
/* For changes behind the storage manager's back (databases created, moved or dropped). */
void loch_absent_clear(void);

#endif
