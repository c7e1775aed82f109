/* A cluster's directory D and its scratch, as places: where a cluster may be made, what a wipe
 * removes, and who owns what. */
#ifndef LOCH_TOOLS_DIRECTORY_H
#define LOCH_TOOLS_DIRECTORY_H

#include "cluster.h"

/* Whether D's path can stand in the daemons' configuration, in libpq's list of hosts, and before a
 * socket's name. LOCH_E_INVALID or LOCH_E_LIMIT says why not. */
LOCH_STATUS loch_dir_check_path(const char *dir);
/* Whether D may become c's: it is not there, or empty (a volume's lost+found and empty directories
 * with the names of D's parts do not count), or has what a creation that was cut short left.
 * LOCH_E_EXISTS says what is in the way, and what to do. *has_key: D/cmk.key is there, whole, and
 * nothing can have been wrapped under it yet. c's dir and kms_uri are read. */
LOCH_STATUS loch_dir_check_new(const struct loch_cluster *c, bool *has_key);
/* Makes D's parts, for their owner alone whatever the umask. */
LOCH_STATUS loch_dir_make_parts(const struct loch_cluster *c);
/* Waits for the exclusive lock of a directory; closing *fd gives it back. */
LOCH_STATUS loch_dir_lock(const char *path, int *fd);

#define LOCH_DIR_LEFT_BYTES 400u
/* Removes what a cluster makes of D, D/cluster.json last, then D if that was all; `left` says what
 * stays ("": nothing). What cannot be removed is a failure: then cluster.json stays, for another
 * try. Nothing of c may run. */
LOCH_STATUS loch_dir_wipe(const struct loch_cluster *c, char left[static LOCH_DIR_LEFT_BYTES]);

/* Makes the scratch, or takes the one that is there if it is ours: a directory of this user (for
 * root also of D's owner) that nobody else may write. Others may pass through it, whatever the
 * umask is, or was when it was made. Else LOCH_E_INVALID. */
LOCH_STATUS loch_scratch_own(const struct loch_cluster *c);
/* Makes a directory at `path`. Of one in the scratch the mode is set also when it is there already.
 */
LOCH_STATUS loch_scratch_part(const struct loch_cluster *c, const char *path, mode_t mode);
/* Whether a directory of the scratch is one of ours that nobody else may write. */
bool loch_scratch_is_ours(const struct loch_cluster *c, const char *path);
/* Removes the scratch with all in it; ok when it is not there. LOCH_E_INVALID, and nothing is
 * removed, when cluster.json names another place than `loch` makes, or it is not ours. */
LOCH_STATUS loch_scratch_remove(const struct loch_cluster *c);

#endif
