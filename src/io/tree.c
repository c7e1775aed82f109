/* Holds: the removal of directories. */
#include "loch/io/tree.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>

#define DESCRIPTORS 32

static int remove_entry(const char *path, const struct stat *sb, int type, struct FTW *ftw)
{
    (void)sb;
    (void)type;
    (void)ftw;
    return remove(path) == 0 || errno == ENOENT ? 0 : -1;
}

loch_status loch_remove_tree(const char *path)
{
    if (nftw(path, remove_entry, DESCRIPTORS, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
        return LOCH_FAIL(LOCH_E_IO, "cannot remove %s: %s", path, strerror(errno));
    return LOCH_OK;
}
