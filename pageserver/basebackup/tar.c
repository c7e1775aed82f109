#include "basebackup/tar.h"

#include "loch/base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

LOCH_STATUS tar_init(struct tar *tar, loch_basebackup_write_fn write, void *arg, int64_t time)
{
    uint8_t *buffer = malloc(TAR_BUFFER_BYTES);

    if (buffer == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "tar buffer");
    *tar = (struct tar){.write = write, .arg = arg, .time = time < 0 ? 0 : time, .buffer = buffer};
    return LOCH_OK;
}

void tar_fini(struct tar *tar)
{
    free(tar->buffer);
    tar->buffer = NULL;
}

static LOCH_STATUS flush(struct tar *tar)
{
    size_t used = tar->used;

    if (used == 0)
        return LOCH_OK;
    tar->used = 0;
    return tar->write(tar->arg, loch_slice_of(tar->buffer, used));
}

/* bytes NULL: zeros */
static LOCH_STATUS raw(struct tar *tar, const uint8_t *bytes, uint64_t len)
{
    while (len > 0) {
        size_t room = TAR_BUFFER_BYTES - tar->used;
        size_t n = len < room ? (size_t)len : room;

        if (bytes != NULL) {
            memcpy(tar->buffer + tar->used, bytes, n);
            bytes += n;
        } else {
            memset(tar->buffer + tar->used, 0, n);
        }
        tar->used += n;
        len -= n;
        if (tar->used == TAR_BUFFER_BYTES)
            LOCH_TRY(flush(tar));
    }
    return LOCH_OK;
}

/* Offsets: 0 name 100, 100 mode 8, 108 uid 8, 116 gid 8, 124 size 12, 136 mtime 12, 148 checksum 8,
 * 156 type, 257 "ustar\0" "00"; numbers in octal. */
static LOCH_STATUS header(struct tar *tar, const char *path, char type, unsigned mode,
                          uint64_t size)
{
    char block[TAR_BLOCK_BYTES] = {0};
    unsigned sum = 0;

    LOCH_ASSERT(tar->left == 0);
    if (strlen(path) > 99 || size >= UINT64_C(1) << 33)
        return LOCH_FAIL(LOCH_E_LIMIT, "%s does not fit a tar header", path);
    memcpy(block, path, strlen(path));
    snprintf(block + 100, 8, "%07o", mode & 07777u);
    snprintf(block + 108, 8, "%07o", 0u);
    snprintf(block + 116, 8, "%07o", 0u);
    snprintf(block + 124, 12, "%011llo", (unsigned long long)size);
    snprintf(block + 136, 12, "%011llo", (unsigned long long)tar->time & 077777777777ull);
    memset(block + 148, ' ', 8);
    block[156] = type;
    memcpy(block + 257, "ustar", 6);
    memcpy(block + 263, "00", 2);
    for (size_t i = 0; i < sizeof block; i++)
        sum += (unsigned char)block[i];
    snprintf(block + 148, 8, "%06o", sum);
    return raw(tar, (const uint8_t *)block, sizeof block);
}

LOCH_STATUS tar_dir(struct tar *tar, const char *path)
{
    char name[128];

    snprintf(name, sizeof name, "%s/", path);
    return header(tar, name, '5', 0700, 0);
}

LOCH_STATUS tar_file(struct tar *tar, const char *path, uint64_t size)
{
    LOCH_TRY(header(tar, path, '0', 0600, size));
    tar->left = size;
    tar->padding = (size_t)((TAR_BLOCK_BYTES - size % TAR_BLOCK_BYTES) % TAR_BLOCK_BYTES);
    return LOCH_OK;
}

static LOCH_STATUS advance(struct tar *tar, uint64_t len)
{
    tar->left -= len;
    if (tar->left == 0 && tar->padding != 0) {
        size_t padding = tar->padding;
        tar->padding = 0;
        return raw(tar, NULL, padding);
    }
    return LOCH_OK;
}

LOCH_STATUS tar_put(struct tar *tar, struct loch_slice bytes)
{
    LOCH_ASSERT(bytes.len <= tar->left);
    LOCH_TRY(raw(tar, bytes.data, bytes.len));
    return advance(tar, bytes.len);
}

LOCH_STATUS tar_put_zeros(struct tar *tar, uint64_t count)
{
    LOCH_ASSERT(count <= tar->left);
    LOCH_TRY(raw(tar, NULL, count));
    return advance(tar, count);
}

LOCH_STATUS tar_whole(struct tar *tar, const char *path, struct loch_slice contents)
{
    LOCH_TRY(tar_file(tar, path, contents.len));
    return tar_put(tar, contents);
}

LOCH_STATUS tar_finish(struct tar *tar)
{
    LOCH_ASSERT(tar->left == 0);
    LOCH_TRY(raw(tar, NULL, 2 * TAR_BLOCK_BYTES));
    return flush(tar);
}
