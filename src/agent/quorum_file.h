/* What the server may tell its users about the safekeepers: PGDATA/loch.quorum, replaced as a
 * whole.
 *
 * One line for each: number from 1, address, state, seconds since it is unreachable (0: it is not),
 * write and flush LSN, why; separated by tabs. Read by the extension (compute-ext/lag.c). */
#ifndef LOCH_AGENT_QUORUM_FILE_H
#define LOCH_AGENT_QUORUM_FILE_H

#include "quorum.h"

/* The file lies on a tmpfs, or is worth nothing after this boot: no sync. LOCH_E_IO. */
LOCH_STATUS loch_quorum_file_write(const char *pgdata, const struct loch_quorum *q);

#endif
