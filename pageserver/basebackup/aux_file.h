/* Auxiliary files: the small files of a data directory that WAL says nothing about (PG_VERSION,
 * configuration). Stored under LOCH_KEY_AUX_FILE with rel = a hash of the path, and this value:
 *
 *   0 u16 length of the path, 2 the path (relative to the data directory, no NUL), then the
 * contents
 *
 * Two paths of one hash cannot both be stored; the few that are, are checked when they are put.
 */
#ifndef LOCH_PAGESERVER_AUX_FILE_H
#define LOCH_PAGESERVER_AUX_FILE_H

#include "loch/base/buf.h"
#include "loch/pg/key.h"

#define LOCH_AUX_PATH_MAX 99u /* what a tar header holds */
#define LOCH_AUX_FILE_MAX (1u << 20)

/* The key of a path. */
struct loch_key loch_aux_key(const char *path);
/* Replaces *out by the value. LOCH_E_LIMIT, LOCH_E_INVALID (a path that leaves the directory). */
LOCH_STATUS loch_aux_encode(const char *path, struct loch_slice contents, struct loch_buf *out);
/* Contents borrow from `value`. LOCH_E_CORRUPT. */
LOCH_STATUS loch_aux_decode(struct loch_slice value, char path[static LOCH_AUX_PATH_MAX + 1],
                            struct loch_slice *contents);

#endif
