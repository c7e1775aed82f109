/* Recent WAL in memory: a ring of bytes addressed by LSN, [start, end). */
#ifndef LOCH_AGENT_WAL_WINDOW_H
#define LOCH_AGENT_WAL_WINDOW_H

#include "loch/base/buf.h"
#include "loch/base/types.h"

struct loch_wal_window {
    uint8_t *bytes;
    uint64_t cap; /* a power of two */
    loch_lsn start, end;
};

/* Room for at least `bytes`. LOCH_E_NO_MEMORY. */
LOCH_STATUS loch_wal_window_init(struct loch_wal_window *w, uint64_t bytes);
void loch_wal_window_fini(struct loch_wal_window *w);
/* Empties it: the next bytes begin at lsn. */
void loch_wal_window_begin(struct loch_wal_window *w, loch_lsn lsn);
/* Appends, dropping the oldest bytes for it, but never those at `keep_from` and above.
 * LOCH_E_LIMIT when that leaves no room. */
LOCH_STATUS loch_wal_window_push(struct loch_wal_window *w, struct loch_slice bytes,
                                 loch_lsn keep_from);
/* How much can still be pushed when everything from keep_from on must be kept. */
uint64_t loch_wal_window_room(const struct loch_wal_window *w, loch_lsn keep_from);
/* [begin, begin + len), which must lie within the window, in one or two pieces. */
void loch_wal_window_get(const struct loch_wal_window *w, loch_lsn begin, uint64_t len,
                         struct loch_slice out[static 2]);

#endif
