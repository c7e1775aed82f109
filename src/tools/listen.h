/* Where a server that listens on some addresses is reached from its own machine. */
#ifndef LOCH_TOOLS_LISTEN_H
#define LOCH_TOOLS_LISTEN_H

#include <stddef.h>

#define LOCH_LISTEN_HOST_BYTES 256u

/* The host for a URL: loopback when `listen` (as PostgreSQL's listen_addresses, separated by
 * commas; "" is 127.0.0.1) has it or everything, else the first address. One that does not fit is
 * cut. */
void loch_listen_host(const char *listen, char out[static LOCH_LISTEN_HOST_BYTES]);

#endif
