/* Tells every safekeeper of a timeline how far the pageserver has persisted its WAL, so that each
 * of them may trim.
 *
 * The receiver's feedback reaches only the safekeeper that it reads from. The herald calls on the
 * others in turn, each with a connection of a moment, when the persisted position has crossed a
 * multiple of LOCH_HERALD_BYTES since they were told last; whom it cannot reach it tries again. An
 * idle timeline says nothing. Loop's thread.
 */
#ifndef LOCH_PAGESERVER_INGEST_WAL_HERALD_H
#define LOCH_PAGESERVER_INGEST_WAL_HERALD_H

#include "wal_receiver.h"

#define LOCH_HERALD_BYTES (16u << 20)

struct loch_wal_herald;

/* Of the options' events only `positions` is used. LOCH_E_NO_MEMORY. */
LOCH_STATUS loch_wal_herald_create(const struct loch_wal_receiver_options *options,
                                   struct loch_wal_herald **out);
/* Takes NULL. */
void loch_wal_herald_destroy(struct loch_wal_herald *herald);
/* Positions may have moved. */
void loch_wal_herald_moved(struct loch_wal_herald *herald);

#endif
