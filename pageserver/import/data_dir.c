/* Files of a data directory, read. */
#include "import/data_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

LOCH_STATUS import_path(const char *data_dir, const char *relative,
                        char out[static IMPORT_PATH_MAX])
{
    int n = snprintf(out, IMPORT_PATH_MAX, "%s/%s", data_dir, relative);

    if (n < 0 || n >= (int)IMPORT_PATH_MAX)
        return LOCH_FAIL(LOCH_E_LIMIT, "%s: the path is too long", relative);
    return LOCH_OK;
}

LOCH_STATUS import_open(const char *path, int *fd, uint64_t *bytes)
{
    struct stat st;
    int opened = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (opened < 0)
        return LOCH_FAIL(errno == ENOENT ? LOCH_E_NOT_FOUND : LOCH_E_IO, "%s: %s", path,
                         strerror(errno));
    if (fstat(opened, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(opened);
        return LOCH_FAIL(LOCH_E_INVALID, "%s is not a regular file", path);
    }
    *fd = opened;
    *bytes = (uint64_t)st.st_size;
    return LOCH_OK;
}

static LOCH_STATUS read_all(int fd, const char *path, size_t want, struct loch_buf *out)
{
    out->len = 0;
    LOCH_TRY(loch_buf_reserve(out, want + 1));
    while (out->len < want) {
        ssize_t got = read(fd, out->data + out->len, want - out->len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return LOCH_FAIL(LOCH_E_IO, "%s: %s", path, strerror(errno));
        if (got == 0)
            return LOCH_FAIL(LOCH_E_INVALID, "%s shrank while it was read", path);
        out->len += (size_t)got;
    }
    return LOCH_OK;
}

LOCH_STATUS import_read_file(const char *data_dir, const char *relative, size_t max,
                             struct loch_buf *out)
{
    char path[IMPORT_PATH_MAX];
    uint64_t bytes;
    loch_status st;
    int fd;

    LOCH_TRY(import_path(data_dir, relative, path));
    LOCH_TRY(import_open(path, &fd, &bytes));
    if (bytes > max)
        st = LOCH_FAIL(LOCH_E_LIMIT, "%s has %" PRIu64 " bytes, at most %zu are taken", path, bytes,
                       max);
    else
        st = read_all(fd, path, (size_t)bytes, out);
    close(fd);
    return st;
}

LOCH_STATUS import_each(const char *data_dir, const char *relative,
                        LOCH_STATUS (*fn)(void *arg, const char *name, const struct stat *st),
                        void *arg)
{
    char path[IMPORT_PATH_MAX];
    loch_status result = LOCH_OK;
    DIR *dir;

    LOCH_TRY(import_path(data_dir, relative, path));
    dir = opendir(path);
    if (dir == NULL)
        return LOCH_FAIL(errno == ENOENT ? LOCH_E_NOT_FOUND : LOCH_E_IO, "%s: %s", path,
                         strerror(errno));
    while (loch_is_ok(result)) {
        struct dirent *entry;
        struct stat st;

        errno = 0;
        entry = readdir(dir);
        if (entry == NULL) {
            if (errno != 0)
                result = LOCH_FAIL(LOCH_E_IO, "%s: %s", path, strerror(errno));
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            result = LOCH_FAIL(LOCH_E_IO, "%s/%s: %s", path, entry->d_name, strerror(errno));
        else
            result = fn(arg, entry->d_name, &st);
    }
    closedir(dir);
    return result;
}

const char *import_number(const char *text, uint32_t *out)
{
    uint64_t n = 0;
    const char *at = text;

    while (*at >= '0' && *at <= '9' && n <= UINT32_MAX)
        n = n * 10 + (uint64_t)(*at++ - '0');
    if (at == text || n > UINT32_MAX)
        return NULL;
    *out = (uint32_t)n;
    return at;
}
