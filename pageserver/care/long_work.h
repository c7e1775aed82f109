/* Work that may take minutes: what imports, detaches, archives and removes. It has threads of its
 * own, because pool threads are everybody's: ingest, flushes and reads of all tenants wait for
 * them. There are few at a time; the rest stands in line, first come first served. Loop's thread.
 */
#ifndef LOCH_PAGESERVER_CARE_LONG_WORK_H
#define LOCH_PAGESERVER_CARE_LONG_WORK_H

#include "../pageserver.h"

#include "loch/io/env.h"

/* At a time, and one more for what is in a hurry. */
#define LOCH_LONG_WORKS_MAX 3u

/* As loch_env_work, on such a thread, when its turn has come. `tenant`: whose it is, copied.
 * LOCH_E_NO_MEMORY: neither of the two is called. */
LOCH_STATUS loch_long_work(struct loch_pageserver *ps, const struct loch_id *tenant,
                           loch_call_fn work, loch_call_fn done, void *arg);
/* The tenant goes dark, or a branch of it: what it has in line holds what is to be wiped, and is
 * let in before all others. */
void loch_long_work_hurry(struct loch_pageserver *ps, const struct loch_id *tenant);
/* True while there is some that has not ended: what it uses may not be released. */
bool loch_long_work_any(const struct loch_pageserver *ps);

#endif
