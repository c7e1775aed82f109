/* Holds: the reading of a tar stream into files. Invariant: at most one file is open, `left` bytes
 * of it are still to come, then `pad` bytes up to the next block. */
#include "untar.h"

#include "loch/base/check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BLOCK_BYTES    512u
#define NAME_MAX_BYTES 256u

struct loch_untar {
    int dir_fd;
    int file_fd; /* -1: none */
    uid_t uid;
    gid_t gid;
    uint64_t size, left, pad;
    bool hole; /* the file's last bytes so far were skipped */
    size_t header_got;
    unsigned zero_blocks;
    uint8_t header[BLOCK_BYTES];
    char name[NAME_MAX_BYTES + 1];
};

/* Octal digits, then spaces or NULs to the field's end. */
static loch_status octal(const uint8_t *field, size_t len, uint64_t *out)
{
    uint64_t v = 0;
    size_t i = 0;

    while (i < len && field[i] == ' ')
        i++;
    for (; i < len && field[i] >= '0' && field[i] <= '7'; i++) {
        if (v >> 60 != 0)
            return LOCH_FAIL(LOCH_E_CORRUPT, "tar: a number is too large");
        v = v << 3 | (uint64_t)(field[i] - '0');
    }
    for (; i < len; i++)
        if (field[i] != ' ' && field[i] != '\0')
            return LOCH_FAIL(LOCH_E_CORRUPT, "tar: a number is not octal");
    *out = v;
    return LOCH_OK;
}

static loch_status check_sum(const uint8_t *h)
{
    uint64_t want;
    uint64_t sum = 0;

    LOCH_TRY(octal(h + 148, 8, &want));
    for (size_t i = 0; i < BLOCK_BYTES; i++)
        sum += i >= 148 && i < 156 ? (uint64_t)' ' : h[i];
    if (sum != want)
        return LOCH_FAIL(LOCH_E_CORRUPT, "tar: a header's checksum is wrong");
    return LOCH_OK;
}

/* prefix "/" name, checked to stay below the directory; a trailing slash is dropped. */
static loch_status read_name(struct loch_untar *u)
{
    const uint8_t *h = u->header;
    size_t prefix = strnlen((const char *)h + 345, 155);
    size_t name = strnlen((const char *)h, 100);
    size_t len = 0;

    if (prefix > 0) {
        memcpy(u->name, h + 345, prefix);
        u->name[prefix] = '/';
        len = prefix + 1;
    }
    memcpy(u->name + len, h, name);
    len += name;
    while (len > 0 && u->name[len - 1] == '/')
        len--;
    u->name[len] = '\0';
    if (len == 0 || u->name[0] == '/')
        return LOCH_FAIL(LOCH_E_CORRUPT, "tar: an empty or absolute name");
    for (const char *p = u->name; p != NULL; p = strchr(p, '/')) {
        p += *p == '/';
        size_t part = strcspn(p, "/");
        if (part == 0 || (part == 2 && p[0] == '.' && p[1] == '.'))
            return LOCH_FAIL(LOCH_E_CORRUPT, "tar: a name leaves its directory");
    }
    return LOCH_OK;
}

/* The directory that u->name is made in, which may be the server's user's by now: no link is
 * followed on the way. *last is the name in it. -1: errno. */
static int open_parent(const struct loch_untar *u, const char **last)
{
    const struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                                 .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    char parent[NAME_MAX_BYTES + 1];
    const char *slash = strrchr(u->name, '/');

    *last = slash != NULL ? slash + 1 : u->name;
    (void)snprintf(parent, sizeof parent, "%.*s", slash != NULL ? (int)(slash - u->name) : 1,
                   slash != NULL ? u->name : ".");
    return (int)syscall(SYS_openat2, u->dir_fd, parent, &how, sizeof how);
}

static loch_status own(const struct loch_untar *u, int dir, const char *name)
{
    if (geteuid() == 0 && fchownat(dir, name, u->uid, u->gid, AT_SYMLINK_NOFOLLOW) != 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot give %s to the server's user: %s", name,
                         strerror(errno));
    return LOCH_OK;
}

static loch_status make_dir(struct loch_untar *u)
{
    if (strcmp(u->name, ".") == 0)
        return LOCH_OK;
    const char *last;
    int dir = open_parent(u, &last);
    loch_status st = LOCH_OK;
    if (dir < 0 || mkdirat(dir, last, 0700) != 0)
        st = LOCH_FAIL(LOCH_E_IO, "cannot make %s in the data directory: %s", u->name,
                       strerror(errno));
    if (loch_is_ok(st))
        st = own(u, dir, last);
    if (dir >= 0)
        (void)close(dir);
    return st;
}

static loch_status close_file(struct loch_untar *u)
{
    int fd = u->file_fd;
    bool bad = u->hole && ftruncate(fd, (off_t)u->size) != 0;

    u->file_fd = -1;
    if (close(fd) != 0 || bad)
        return LOCH_FAIL(LOCH_E_IO, "cannot write %s: %s", u->name, strerror(errno));
    return LOCH_OK;
}

static loch_status open_file(struct loch_untar *u, uint64_t size)
{
    const char *last;
    int dir = open_parent(u, &last);
    loch_status st = LOCH_OK;
    if (dir >= 0)
        u->file_fd = openat(dir, last, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (u->file_fd < 0)
        st = LOCH_FAIL(LOCH_E_IO, "cannot make %s in the data directory: %s", u->name,
                       strerror(errno));
    else
        st = own(u, dir, last);
    if (dir >= 0)
        (void)close(dir);
    LOCH_TRY(st);
    u->size = u->left = size;
    u->hole = false;
    u->pad = (BLOCK_BYTES - size % BLOCK_BYTES) % BLOCK_BYTES;
    return size == 0 ? close_file(u) : LOCH_OK;
}

static bool all_zero(const uint8_t *block)
{
    for (size_t i = 0; i < BLOCK_BYTES; i++)
        if (block[i] != 0)
            return false;
    return true;
}

static loch_status take_header(struct loch_untar *u)
{
    uint64_t size;

    if (all_zero(u->header)) {
        u->zero_blocks++;
        return LOCH_OK;
    }
    if (u->zero_blocks > 0)
        return LOCH_FAIL(LOCH_E_CORRUPT, "tar: a header after the end mark");
    LOCH_TRY(check_sum(u->header));
    LOCH_TRY(octal(u->header + 124, 12, &size));
    LOCH_TRY(read_name(u));
    switch (u->header[156]) {
    case '0':
    case '\0':
        return open_file(u, size);
    case '5':
        return make_dir(u);
    default:
        return LOCH_FAIL(LOCH_E_CORRUPT, "tar: %s is neither file nor directory", u->name);
    }
}

static loch_status write_bytes(struct loch_untar *u, const uint8_t *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = write(u->file_fd, bytes, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return LOCH_FAIL(LOCH_E_IO, "cannot write %s on the scratch volume: %s", u->name,
                             n < 0 ? strerror(errno) : "no progress");
        bytes += n;
        len -= (size_t)n;
    }
    return LOCH_OK;
}

/* Takes some of the bytes; *taken says how many (never 0 while there are any). */
static loch_status step(struct loch_untar *u, struct loch_slice in, size_t *taken)
{
    if (u->left > 0) {
        *taken = (size_t)loch_min_u64(u->left, in.len);
        LOCH_TRY(write_bytes(u, in.data, *taken));
        u->hole = false;
        u->left -= *taken;
        return u->left == 0 ? close_file(u) : LOCH_OK;
    }
    if (u->pad > 0) {
        *taken = (size_t)loch_min_u64(u->pad, in.len);
        u->pad -= *taken;
        return LOCH_OK;
    }
    *taken = (size_t)loch_min_u64(BLOCK_BYTES - u->header_got, in.len);
    memcpy(u->header + u->header_got, in.data, *taken);
    u->header_got += *taken;
    if (u->header_got < BLOCK_BYTES)
        return LOCH_OK;
    u->header_got = 0;
    return take_header(u);
}

loch_status loch_untar_feed(struct loch_untar *u, struct loch_slice bytes)
{
    while (bytes.len > 0) {
        size_t taken = 0;
        LOCH_TRY(step(u, bytes, &taken));
        bytes.data += taken;
        bytes.len -= taken;
    }
    return LOCH_OK;
}

static loch_status skip(struct loch_untar *u, uint64_t count)
{
    if (lseek(u->file_fd, (off_t)count, SEEK_CUR) < 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot make a hole in %s: %s", u->name, strerror(errno));
    u->hole = true;
    u->left -= count;
    return u->left == 0 ? close_file(u) : LOCH_OK;
}

loch_status loch_untar_zeros(struct loch_untar *u, uint64_t count)
{
    static const uint8_t zeros[BLOCK_BYTES];

    while (count > 0) {
        uint64_t n = loch_min_u64(count, u->left);
        if (n > 0) {
            LOCH_TRY(skip(u, n));
        } else {
            n = loch_min_u64(count, BLOCK_BYTES);
            LOCH_TRY(loch_untar_feed(u, loch_slice_of(zeros, (size_t)n)));
        }
        count -= n;
    }
    return LOCH_OK;
}

loch_status loch_untar_finish(struct loch_untar *u)
{
    if (u->zero_blocks < 2 || u->left > 0 || u->header_got > 0)
        return LOCH_FAIL(LOCH_E_CORRUPT, "tar: the stream ends before its end mark");
    return LOCH_OK;
}

loch_status loch_untar_create(const char *dir, uid_t uid, gid_t gid, struct loch_untar **out)
{
    struct loch_untar *u = calloc(1, sizeof *u);

    if (u == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory to unpack the basebackup");
    u->file_fd = -1;
    u->uid = uid;
    u->gid = gid;
    u->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (u->dir_fd < 0) {
        loch_status st = LOCH_FAIL(LOCH_E_IO, "cannot open %s: %s", dir, strerror(errno));
        free(u);
        return st;
    }
    *out = u;
    return LOCH_OK;
}

void loch_untar_destroy(struct loch_untar *u)
{
    if (u == NULL)
        return;
    if (u->file_fd >= 0)
        (void)close(u->file_fd);
    (void)close(u->dir_fd);
    free(u);
}
