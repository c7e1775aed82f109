/* Whole directories, also such as somebody else writes in. */
#ifndef LOCH_IO_TREE_H
#define LOCH_IO_TREE_H

#include "loch/base/status.h"

/* Removes a file, or a directory with all in it, however deep; links are removed, not followed,
 * also when somebody puts them in a directory's place meanwhile (below `path`, whose own parents
 * are trusted). What can be removed is, also when something else cannot. What is not there, or goes
 * meanwhile, is no failure. LOCH_E_IO names the path. Nothing is synced. Any thread. */
LOCH_STATUS loch_remove_tree(const char *path);

#endif
