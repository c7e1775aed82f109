/* Whole directories of files that only we write. */
#ifndef LOCH_IO_TREE_H
#define LOCH_IO_TREE_H

#include "loch/base/status.h"

/* Removes a file, or a directory with all in it; links are removed, not followed. What is not there, or
 * goes meanwhile, is no failure. LOCH_E_IO names the path. Nothing is synced. Any thread. */
LOCH_STATUS loch_remove_tree(const char *path);

#endif
