/* A tar stream (ustar) written through a buffer. Source: POSIX.1-2017 pax, ustar interchange
 * format. */
#ifndef LOCH_PAGESERVER_TAR_H
#define LOCH_PAGESERVER_TAR_H

#include "basebackup/basebackup.h"

#define TAR_BLOCK_BYTES  512u
#define TAR_BUFFER_BYTES (128u << 10)

struct tar {
    loch_basebackup_write_fn write;
    void *arg;
    int64_t time;
    uint8_t *buffer; /* TAR_BUFFER_BYTES */
    size_t used;
    uint64_t left;  /* bytes of the current file still to come */
    size_t padding; /* zeros after it */
};

LOCH_STATUS tar_init(struct tar *tar, loch_basebackup_write_fn write, void *arg, int64_t time);
void tar_fini(struct tar *tar);
/* A directory, mode 0700; the path has no trailing slash. */
LOCH_STATUS tar_dir(struct tar *tar, const char *path);
/* Begins a file of exactly `size` bytes, mode 0600; tar_put calls that add up to it must follow. */
LOCH_STATUS tar_file(struct tar *tar, const char *path, uint64_t size);
LOCH_STATUS tar_put(struct tar *tar, struct loch_slice bytes);
LOCH_STATUS tar_put_zeros(struct tar *tar, uint64_t count);
/* A whole small file. */
LOCH_STATUS tar_whole(struct tar *tar, const char *path, struct loch_slice contents);
/* The end marker; flushes. */
LOCH_STATUS tar_finish(struct tar *tar);

#endif
