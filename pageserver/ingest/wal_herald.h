/* Tells every safekeeper of a timeline how far the pageserver has persisted its WAL, so that each
 * of them may trim.
 *
 * The receiver's feedback reaches only the safekeeper that it reads from. The herald calls on all
 * of them in turn, each with a connection of a moment, when the persisted position has crossed a
 * multiple of LOCH_HERALD_BYTES since they were told last; whom it cannot reach it tries again. All
 * are told once more from time to time, a minute after it moved, then ever more rarely (down to
 * every eighth): a safekeeper keeps the position in memory only. Loop's thread.
 */
#ifndef LOCH_PAGESERVER_INGEST_WAL_HERALD_H
#define LOCH_PAGESERVER_INGEST_WAL_HERALD_H

#include "wal_receiver.h"

#define LOCH_HERALD_BYTES (16u << 20)

struct loch_wal_herald;

/* The timeline's safekeepers as they are known now, at most LOCH_SAFEKEEPERS_MAX; read at once. */
typedef const struct loch_peer *(*loch_wal_herald_peers)(void *arg, size_t *count);

/* Of the options' events only `positions` is used; `peers` gets the options' arg.
 * LOCH_E_NO_MEMORY. */
LOCH_STATUS loch_wal_herald_create(const struct loch_wal_receiver_options *options,
                                   loch_wal_herald_peers peers, struct loch_wal_herald **out);
/* Takes NULL. */
void loch_wal_herald_destroy(struct loch_wal_herald *herald);
/* Positions may have moved. */
void loch_wal_herald_moved(struct loch_wal_herald *herald);
/* Every safekeeper knows the last whole multiple of LOCH_HERALD_BYTES that is persisted. */
bool loch_wal_herald_all_told(const struct loch_wal_herald *herald);

#endif
