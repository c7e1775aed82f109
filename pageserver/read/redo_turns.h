/* Turns of the requests whose pages take a redo process.
 *
 * A pool thread that asks one may wait long: for the tenant's other chains, or for a worker that
 * hangs. So a request is read without one at first, and where that is not enough again in a turn.
 * Of turns there are LOCH_REDO_TURNS_MAX at a time, which leaves threads for everything else, and
 * of one tenant one more than it may have workers. Its connections take theirs one after the other.
 * Loop's thread.
 */
#ifndef LOCH_PAGESERVER_READ_REDO_TURNS_H
#define LOCH_PAGESERVER_READ_REDO_TURNS_H

#include "loch/base/types.h"
#include "loch/io/env.h"

#include <stddef.h>

#define LOCH_REDO_TURNS_MAX (LOCH_WORK_THREADS - 2u)

struct page_conn;

/* Embedded in the pageserver; zero-initialised is idle. Its insides are private to redo_turns.c. */
struct loch_redo_turns {
    struct page_conn *first, *last;              /* connections that wait for a turn */
    struct loch_id tenants[LOCH_REDO_TURNS_MAX]; /* whose turns are under way */
    size_t count;
};

#endif
