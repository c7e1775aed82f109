/* Holds: whole files and directories, synchronously. Invariant: what returned LOCH_OK survives a
 * power cut: file synced before it gets its name, directory synced after. Any thread. */
#include "loch/io/fault.h"
#include "real.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* An injected fault looks like the failed call it stands for. */
static bool faulted(void)
{
    int err = loch_io_fault();

    if (err == 0)
        return false;
    errno = err;
    return true;
}

static loch_status io_failure(const char *what, const char *path)
{
    int err = errno;

    return LOCH_FAIL(err == ENOENT ? LOCH_E_NOT_FOUND : LOCH_E_IO, "%s %s: %s", what, path,
                     strerrordesc_np(err));
}

static int open_path(const char *path, int flags, mode_t mode)
{
    int fd;

    if (faulted())
        return -1;
    do
        fd = open(path, flags | O_CLOEXEC, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

loch_status real_sync_dir(struct loch_env *env, const char *path)
{
    (void)env;
    int fd = open_path(path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return io_failure("cannot open directory", path);
    int rc = faulted() ? -1 : fsync(fd);
    loch_status st = rc == 0 ? LOCH_OK : io_failure("cannot sync directory", path);
    (void)close(fd);
    return st;
}

/* The directory that holds `path`: "." when there is no slash. */
static loch_status parent_of(const char *path, char out[static PATH_MAX])
{
    size_t n = strlen(path);

    if (n == 0 || n >= PATH_MAX - 8)
        return LOCH_FAIL(LOCH_E_INVALID, "a path of %zu bytes", n);
    memcpy(out, path, n + 1);
    char *slash = strrchr(out, '/');
    if (slash == NULL)
        memcpy(out, ".", 2);
    else if (slash == out)
        slash[1] = '\0';
    else
        *slash = '\0';
    return LOCH_OK;
}

static loch_status sync_parent(struct loch_env *env, const char *path)
{
    char dir[PATH_MAX];

    LOCH_TRY(parent_of(path, dir));
    return real_sync_dir(env, dir);
}

static loch_status read_all(int fd, const char *path, size_t max_bytes, struct loch_buf *out)
{
    size_t start = out->len;

    for (;;) {
        /* One byte more than allowed, so that a file that is too long is noticed. */
        size_t left = max_bytes - (out->len - start);
        size_t want = left < (1u << 20) ? left + 1 : (1u << 20);
        LOCH_TRY(loch_buf_reserve(out, want));
        ssize_t n = faulted() ? -1 : read(fd, out->data + out->len, want);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return io_failure("cannot read", path);
        if (n == 0)
            return LOCH_OK;
        if ((size_t)n > left)
            return LOCH_FAIL(LOCH_E_LIMIT, "%s is longer than %zu bytes", path, max_bytes);
        out->len += (size_t)n;
    }
}

loch_status real_read_file(struct loch_env *env, const char *path, size_t max_bytes,
                           struct loch_buf *out)
{
    (void)env;
    int fd = open_path(path, O_RDONLY, 0);
    if (fd < 0)
        return io_failure("cannot open", path);
    size_t start = out->len;
    loch_status st = read_all(fd, path, max_bytes, out);
    if (!loch_is_ok(st))
        out->len = start;
    (void)close(fd);
    return st;
}

static loch_status write_all(int fd, const char *path, struct loch_slice bytes)
{
    size_t done = 0;

    while (done < bytes.len) {
        ssize_t n = faulted() ? -1 : write(fd, bytes.data + done, bytes.len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return io_failure("cannot write", path);
        done += (size_t)n;
    }
    if (faulted() || fdatasync(fd) != 0)
        return io_failure("cannot sync", path);
    return LOCH_OK;
}

/* Leaves a synced <path>.tmp; nothing of it on failure. */
static loch_status write_tmp(const char *path, struct loch_slice bytes, char tmp[static PATH_MAX])
{
    int n = snprintf(tmp, PATH_MAX, "%s.tmp", path);

    if (n < 0 || n >= PATH_MAX)
        return LOCH_FAIL(LOCH_E_INVALID, "path too long: %.80s...", path);
    int fd = open_path(tmp, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0)
        return io_failure("cannot create", tmp);
    loch_status st = write_all(fd, tmp, bytes);
    if (close(fd) != 0 && loch_is_ok(st))
        st = io_failure("cannot close", tmp);
    if (!loch_is_ok(st))
        (void)unlink(tmp);
    return st;
}

loch_status real_replace_file(struct loch_env *env, const char *path, struct loch_slice bytes)
{
    char tmp[PATH_MAX];

    LOCH_TRY(write_tmp(path, bytes, tmp));
    if (faulted() || rename(tmp, path) != 0) {
        loch_status st = io_failure("cannot rename to", path);
        (void)unlink(tmp);
        return st;
    }
    return sync_parent(env, path);
}

loch_status real_create_file(struct loch_env *env, const char *path, struct loch_slice bytes)
{
    char tmp[PATH_MAX];
    loch_status st = LOCH_OK;

    LOCH_TRY(write_tmp(path, bytes, tmp));
    if (faulted() || link(tmp, path) != 0)
        st = errno == EEXIST ? LOCH_FAIL(LOCH_E_EXISTS, "%s exists", path)
                             : io_failure("cannot link to", path);
    (void)unlink(tmp);
    LOCH_TRY(st);
    return sync_parent(env, path);
}

loch_status real_fs_space(struct loch_env *env, const char *path, uint64_t *free_bytes,
                          uint64_t *all_bytes)
{
    struct statvfs vfs;

    (void)env;
    if (statvfs(path, &vfs) != 0)
        return io_failure("cannot look at the file system of", path);
    *free_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
    *all_bytes = (uint64_t)vfs.f_blocks * vfs.f_frsize;
    return LOCH_OK;
}

loch_status real_patch_file(struct loch_env *env, const char *path, uint64_t offset,
                            struct loch_slice bytes)
{
    (void)env;
    if (offset > INT64_MAX || bytes.len > (uint64_t)INT64_MAX - offset)
        return LOCH_FAIL(LOCH_E_INVALID, "write to %s at %" PRIu64, path, offset);
    int fd = open_path(path, O_WRONLY, 0);
    if (fd < 0)
        return io_failure("cannot open", path);
    loch_status st = LOCH_OK;
    if (faulted() || lseek(fd, (off_t)offset, SEEK_SET) < 0)
        st = io_failure("cannot seek in", path);
    else
        st = write_all(fd, path, bytes);
    (void)close(fd);
    return st;
}

loch_status real_truncate_file(struct loch_env *env, const char *path, uint64_t size)
{
    (void)env;
    if (size > INT64_MAX)
        return LOCH_FAIL(LOCH_E_INVALID, "cannot truncate %s to %" PRIu64 " bytes", path, size);
    int fd = open_path(path, O_WRONLY, 0);
    if (fd < 0)
        return io_failure("cannot open", path);
    loch_status st = LOCH_OK;
    if (faulted() || ftruncate(fd, (off_t)size) != 0)
        st = io_failure("cannot truncate", path);
    else if (faulted() || fsync(fd) != 0)
        st = io_failure("cannot sync", path);
    (void)close(fd);
    return st;
}

loch_status real_unlink(struct loch_env *env, const char *path)
{
    if (faulted() || unlink(path) != 0)
        return io_failure("cannot remove", path);
    return sync_parent(env, path);
}

loch_status real_rename(struct loch_env *env, const char *from, const char *to)
{
    if (faulted() || renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) != 0)
        return errno == EEXIST ? LOCH_FAIL(LOCH_E_EXISTS, "%s exists", to)
                               : io_failure("cannot rename", from);
    return sync_parent(env, to);
}

loch_status real_mkdirs(struct loch_env *env, const char *path)
{
    char part[PATH_MAX];
    size_t n = strlen(path);
    struct stat sb;

    if (n == 0 || n >= sizeof part)
        return LOCH_FAIL(LOCH_E_INVALID, "a path of %zu bytes", n);
    memcpy(part, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i] != '\0')
            continue;
        char keep = part[i];
        part[i] = '\0';
        bool made = !faulted() && mkdir(part, 0700) == 0;
        if (!made && errno != EEXIST)
            return io_failure("cannot make directory", part);
        if (made)
            LOCH_TRY(sync_parent(env, part));
        part[i] = keep;
    }
    if (stat(path, &sb) != 0)
        return io_failure("cannot look at", path);
    if (!S_ISDIR(sb.st_mode))
        return LOCH_FAIL(LOCH_E_IO, "%s is not a directory", path);
    return LOCH_OK;
}

static int wanted(const struct dirent *entry)
{
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

loch_status real_list_dir(struct loch_env *env, const char *path,
                          bool (*fn)(void *arg, const char *name), void *arg)
{
    struct dirent **names = NULL;
    bool on = true;

    (void)env;
    int n = faulted() ? -1 : scandir(path, &names, wanted, by_bytes);
    if (n < 0)
        return io_failure("cannot list", path);
    for (int i = 0; i < n; i++) {
        on = on && fn(arg, names[i]->d_name);
        free(names[i]);
    }
    free(names);
    return LOCH_OK;
}
