/* Holds: the removal of directories.
 *
 * What is removed may belong to a user who is not trusted and still changes it: every step is by an
 * open directory and one name, which is never followed. A directory deeper than DEPTH_MAX is
 * moved up, for the next pass, so that neither the depth nor a path's length has a limit; no
 * earlier, as nothing can be moved in a directory that is encrypted and has lost its key. */
#include "loch/io/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DEPTH_MAX  32u
#define PASSES_MAX 65536u /* one for DEPTH_MAX levels; more if somebody goes on making files */

struct removal {
    unsigned depth;
    int top;        /* the directory that is being removed */
    unsigned moved; /* names given to directories that were moved up */
    bool progress;
    int failure; /* errno of the pass's first one */
};

static int open_directory(int at, const char *name)
{
    return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Removes a file, a link or an empty directory; else says why not. */
static bool removed(struct removal *r, int at, const char *name)
{
    if (unlinkat(at, name, 0) == 0 || errno == ENOENT) {
        r->progress = true;
        return true;
    }
    const int why = errno;
    if (unlinkat(at, name, AT_REMOVEDIR) == 0) {
        r->progress = true;
        return true;
    }
    if (errno == ENOTDIR) /* no directory: what the first try said */
        errno = why;
    return false;
}

static void remove_name(struct removal *r, int at, const char *name);

/* Takes the descriptor; once for every name but itself and its parent. */
static void remove_content(struct removal *r, int take_fd)
{
    DIR *dir = fdopendir(take_fd);
    const struct dirent *entry;

    if (dir == NULL) {
        r->failure = errno;
        (void)close(take_fd);
        return;
    }
    while ((entry = readdir(dir)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            remove_name(r, take_fd, entry->d_name);
    (void)closedir(dir);
}

static void go_into(struct removal *r, int at, const char *name)
{
    const int fd = open_directory(at, name);

    if (fd < 0)
        return;
    r->depth++;
    remove_content(r, fd);
    r->depth--;
}

static void remove_name(struct removal *r, int at, const char *name)
{
    char up[40];

    if (removed(r, at, name))
        return;
    int why = errno;
    if ((why == ENOTEMPTY || why == EEXIST) && r->depth < DEPTH_MAX) {
        go_into(r, at, name);
        if (removed(r, at, name))
            return;
        why = errno;
    } else if (why == ENOTEMPTY || why == EEXIST) {
        (void)snprintf(up, sizeof up, ".loch-removed-%u", r->moved++);
        if (renameat(at, name, r->top, up) == 0) {
            r->progress = true;
            return;
        }
        why = errno;
    }
    r->failure = r->failure != 0 ? r->failure : why;
}

static int remove_directory(const char *path, int take_top)
{
    struct removal r = {.top = take_top, .progress = true};

    for (unsigned pass = 0; pass < PASSES_MAX && r.progress; pass++) {
        const int fd = open_directory(r.top, ".");
        r.progress = false;
        r.failure = fd < 0 ? errno : 0;
        if (fd >= 0)
            remove_content(&r, fd);
    }
    (void)close(take_top);
    if (rmdir(path) == 0 || errno == ENOENT)
        return 0;
    return r.failure != 0 ? r.failure : errno;
}

loch_status loch_remove_tree(const char *path)
{
    const int fd = open_directory(AT_FDCWD, path);
    int why = fd < 0 ? errno : 0;

    if (fd >= 0)
        why = remove_directory(path, fd);
    else if (why == ENOTDIR || why == ELOOP)
        why = unlink(path) == 0 ? 0 : errno;
    if (why != 0 && why != ENOENT)
        return LOCH_FAIL(LOCH_E_IO, "cannot remove %s: %s", path, strerror(why));
    return LOCH_OK;
}
