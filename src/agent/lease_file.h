/* The compute's lease as its backends see it: until when they may go on, in a file of the boot that
 * they have mapped. When the agent itself is stopped, they end by themselves.
 *
 * File `lease` beside the data directory: u64 little-endian, CLOCK_BOOTTIME in nanoseconds. Loop's
 * thread.
 */
#ifndef LOCH_AGENT_LEASE_FILE_H
#define LOCH_AGENT_LEASE_FILE_H

#include "loch/base/status.h"

struct loch_lease_file;

/* Makes it, readable to the server's user; `pgdata` is the boot's data directory. LOCH_E_IO. */
LOCH_STATUS loch_lease_file_create(const char *pgdata, uint64_t until_ns,
                                   struct loch_lease_file **out);
void loch_lease_file_renew(struct loch_lease_file *file, uint64_t until_ns);
/* The file itself goes with the boot. Takes NULL. */
void loch_lease_file_close(struct loch_lease_file *file);

#endif
