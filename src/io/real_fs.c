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

/* Of a file that is made piece by piece: so much goes to the disk at a time. */
#define BEGIN_BYTES ((uint64_t)8 << 20)

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

static loch_status write_bytes(int fd, const char *path, struct loch_slice bytes)
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
    return LOCH_OK;
}

static loch_status sync_data(int fd, const char *path)
{
    return faulted() || fdatasync(fd) != 0 ? io_failure("cannot sync", path) : LOCH_OK;
}

static loch_status write_all(int fd, const char *path, struct loch_slice bytes)
{
    LOCH_TRY(write_bytes(fd, path, bytes));
    return sync_data(fd, path);
}

/* Opens <path>.tmp, empty. */
static loch_status open_tmp(const char *path, char tmp[static PATH_MAX], int *fd)
{
    int n = snprintf(tmp, PATH_MAX, "%s.tmp", path);

    if (n < 0 || n >= PATH_MAX)
        return LOCH_FAIL(LOCH_E_INVALID, "path too long: %.80s...", path);
    *fd = open_path(tmp, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    return *fd < 0 ? io_failure("cannot create", tmp) : LOCH_OK;
}

/* Nothing is left of it when `st` or the closing is a failure. */
static loch_status close_tmp(const char *tmp, int fd, loch_status st)
{
    if (close(fd) != 0 && loch_is_ok(st))
        st = io_failure("cannot close", tmp);
    if (!loch_is_ok(st))
        (void)unlink(tmp);
    return st;
}

/* Leaves a synced <path>.tmp; nothing of it on failure. */
static loch_status write_tmp(const char *path, struct loch_slice bytes, char tmp[static PATH_MAX])
{
    int fd = -1;

    LOCH_TRY(open_tmp(path, tmp, &fd));
    return close_tmp(tmp, fd, write_all(fd, tmp, bytes));
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

/* A synced tmp gets its name, which must be new. */
static loch_status link_tmp(struct loch_env *env, const char *tmp, const char *path)
{
    loch_status st = LOCH_OK;

    if (faulted() || link(tmp, path) != 0)
        st = errno == EEXIST ? LOCH_FAIL(LOCH_E_EXISTS, "%s exists", path)
                             : io_failure("cannot link to", path);
    (void)unlink(tmp);
    LOCH_TRY(st);
    return sync_parent(env, path);
}

loch_status real_create_file(struct loch_env *env, const char *path, struct loch_slice bytes)
{
    char tmp[PATH_MAX];

    LOCH_TRY(write_tmp(path, bytes, tmp));
    return link_tmp(env, tmp, path);
}

/* ---- piece by piece ---- */

struct real_new_file {
    struct loch_new_file base;
    int fd;
    uint64_t bytes, begun; /* written; of these, on their way to the disk */
    char *path;
    char tmp[PATH_MAX];
};

static struct real_new_file *real_new_file_of(struct loch_new_file *file)
{
    return (struct real_new_file *)file;
}

static void new_file_free(struct real_new_file *f)
{
    free(f->path);
    free(f);
}

loch_status real_new_file(struct loch_env *env, const char *path, struct loch_new_file **out)
{
    struct real_new_file *f = calloc(1, sizeof *f);

    if (f == NULL || (f->path = strdup(path)) == NULL) {
        free(f);
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a file");
    }
    f->base.env = env;
    loch_status st = open_tmp(path, f->tmp, &f->fd);
    if (!loch_is_ok(st)) {
        new_file_free(f);
        return st;
    }
    *out = &f->base;
    return LOCH_OK;
}

loch_status real_new_file_add(struct loch_new_file *file, struct loch_slice bytes)
{
    struct real_new_file *f = real_new_file_of(file);

    LOCH_TRY(write_bytes(f->fd, f->tmp, bytes));
    f->bytes += bytes.len;
    if (f->bytes - f->begun >= BEGIN_BYTES) { /* only a hint: the sync at the end is what counts */
        (void)sync_file_range(f->fd, (off_t)f->begun, (off_t)(f->bytes - f->begun),
                              SYNC_FILE_RANGE_WRITE);
        f->begun = f->bytes;
    }
    return LOCH_OK;
}

loch_status real_new_file_end(struct loch_new_file *file)
{
    struct real_new_file *f = real_new_file_of(file);
    loch_status st = close_tmp(f->tmp, f->fd, sync_data(f->fd, f->tmp));

    if (loch_is_ok(st))
        st = link_tmp(f->base.env, f->tmp, f->path);
    new_file_free(f);
    return st;
}

void real_new_file_abandon(struct loch_new_file *file)
{
    struct real_new_file *f = real_new_file_of(file);

    (void)close(f->fd);
    (void)unlink(f->tmp);
    new_file_free(f);
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
