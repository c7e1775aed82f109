/* Configuration files that users change (ALTER SYSTEM, pg_hba.conf) go into the WAL, so that they
 * survive the compute: the pageserver keeps them and the next basebackup brings them.
 *
 * They travel as non-transactional logical messages with prefix "loch.file" and without a database,
 * which no SQL function can emit: path, NUL, contents. */
#ifndef LOCH_EXT_CONFIG_FILES_H
#define LOCH_EXT_CONFIG_FILES_H

#include "loch/base/buf.h"

/* In a process without a database: logs `contents` (at most 1 MiB) as the file's newest version. */
void loch_config_file_log(const char *path, struct loch_slice contents);
/* In the worker, about ten times a second: logs what has changed since the last look. The first
 * look, in the postmaster before there is anybody to change them, only takes note: the files have
 * just come from storage. */
void loch_config_files_look(void);
/* After ALTER SYSTEM: waits until a look that began later has ended and the quorum has what was
 * logged. */
void loch_config_files_wait(void);

#endif
