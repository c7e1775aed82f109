/* What the console and the port of PostgreSQL's protocol share: writing to a socket. */
#ifndef LOCH_HOST_FLUSH_H
#define LOCH_HOST_FLUSH_H

#include "loch/base/buf.h"

#include <stdbool.h>

/* Hands the kernel as much of `out` as it takes without waiting; what is left stays. False when the
 * connection is broken. */
bool loch_host_flush(int fd, struct loch_buf *out);

/* Before close(fd): what the kernel has taken and could not send, because the peer does not read,
 * never leaves. */
void loch_host_cut(int fd);

#endif
