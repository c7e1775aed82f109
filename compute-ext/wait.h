/* Waiting in a server process without making it deaf: cancel, termination, postmaster death. */
#ifndef LOCH_EXT_WAIT_H
#define LOCH_EXT_WAIT_H

#include "postgres.h"

/* Waits until fd is readable (or writable), or timeout_ms passed; fd -1: only time. Returns early
 * and without saying so when the process's latch was set. Raises ERROR for a cancel where that is
 * safe. */
void loch_wait_socket(int fd, bool for_write, long timeout_ms);
/* Gives back a latch that loch_wait_socket consumed: call when the whole wait is over. */
void loch_wait_done(void);

/* In loch_wait_socket, handling an interrupt: maybe amid a page's read, which others wait for. */
bool loch_wait_under_way(void);

/* What this process does between the slices of a wait, NULL: nothing. Must not wait itself. */
extern void (*loch_wait_idle)(void);

#endif
