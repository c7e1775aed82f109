/* pg_logical/replorigin_checkpoint: how far each replication origin has come.
 *
 * 0 magic u32 0x1257DADE, then per origin 16 bytes (u16 id, 6 zeros, u64 remote LSN), then crc32c
 * u32 of all before it. Source: PostgreSQL 15 src/backend/replication/logical/origin.c.
 */
#ifndef LOCH_PAGESERVER_ORIGINS_H
#define LOCH_PAGESERVER_ORIGINS_H

#include "loch/base/buf.h"
#include "loch/base/types.h"

/* LOCH_E_CORRUPT for a wrong magic, size or CRC; a failure of fn is returned. */
LOCH_STATUS loch_origins_parse(struct loch_slice file,
                               LOCH_STATUS (*fn)(void *arg, uint16_t origin, loch_lsn remote),
                               void *arg);

/* A file is made by begin, any number of adds, finish. */
LOCH_STATUS loch_origins_begin(struct loch_buf *file);
LOCH_STATUS loch_origins_add(struct loch_buf *file, uint16_t origin, loch_lsn remote);
LOCH_STATUS loch_origins_finish(struct loch_buf *file);

#endif
