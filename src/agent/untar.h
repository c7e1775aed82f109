/* Unpacks a tar stream (ustar, regular files and directories only) below one directory.
 *
 * The stream comes from storage and is trusted no further than its place: names are relative,
 * without
 * "..", nothing is overwritten, no link is followed, anything else in it is an error.
 * Source: POSIX.1-2017, pax, "ustar Interchange Format".
 */
#ifndef LOCH_AGENT_UNTAR_H
#define LOCH_AGENT_UNTAR_H

#include "loch/base/buf.h"

#include <sys/types.h>

struct loch_untar;

/* `dir` exists. What is made belongs to uid and gid (when we are root) and is private to them. */
LOCH_STATUS loch_untar_create(const char *dir, uid_t uid, gid_t gid, struct loch_untar **out);
/* Takes any number of bytes. LOCH_E_CORRUPT, LOCH_E_IO (a full scratch is named). */
LOCH_STATUS loch_untar_feed(struct loch_untar *u, struct loch_slice bytes);
/* As if that many zero bytes had been fed; inside a file they become a hole. */
LOCH_STATUS loch_untar_zeros(struct loch_untar *u, uint64_t count);
/* LOCH_E_CORRUPT when the stream ended before its end mark. */
LOCH_STATUS loch_untar_finish(struct loch_untar *u);
/* Takes NULL. */
void loch_untar_destroy(struct loch_untar *u);

#endif
