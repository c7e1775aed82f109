/* The daemons' consoles as the command line sees them: one command, one table of text. */
#ifndef LOCH_TOOLS_CONSOLE_CLIENT_H
#define LOCH_TOOLS_CONSOLE_CLIENT_H

#include "cluster.h"

/* Runs one console command of the daemon whose console has `port`; *rows is an array of objects
 * with the columns' names. LOCH_E_UNAVAILABLE when the daemon does not answer; the daemon's own
 * code (as loch_pgv3_code reads it) and words when it refuses: LOCH_E_UNAVAILABLE there, too, is
 * what may pass. The caller decrefs *rows. */
LOCH_STATUS loch_console(const struct loch_cluster *c, int port, const char *command,
                         json_t **rows);
LOCH_STATUS loch_consolef(const struct loch_cluster *c, int port, json_t **rows, const char *fmt,
                          ...) __attribute__((format(printf, 4, 5)));
/* Waits until the daemon NAME answers on its console; names the cause from its log when it died. */
LOCH_STATUS loch_console_wait(const struct loch_cluster *c, const char *name, int port,
                              int timeout_ms);
/* Wakes the tenant on every safekeeper that answers and has it asleep. */
void loch_wake(const struct loch_cluster *c, const char *tenant);
/* A text member of a row, or "". */
const char *loch_field(const json_t *row, const char *name);

#endif
