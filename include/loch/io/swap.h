/* Where memory and files may end on a disk in the clear: block devices and swap. `proc` and `sys`
 * are "/proc" and "/sys", but for tests. Reads small files; any thread. */
#ifndef LOCH_IO_SWAP_H
#define LOCH_IO_SWAP_H

#include "loch/base/status.h"

/* Is the block device (or all that it stands on) dm-crypt? */
bool loch_device_encrypted(const char *sys, unsigned major, unsigned minor);
/* LOCH_E_INVALID: pages of this process may be written to a disk in the clear; what to do about it.
 */
LOCH_STATUS loch_swap_check(const char *proc, const char *sys);

#endif
