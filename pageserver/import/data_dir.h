/* Reading files of a data directory, for the import's own files. */
#ifndef LOCH_PAGESERVER_IMPORT_DATA_DIR_H
#define LOCH_PAGESERVER_IMPORT_DATA_DIR_H

#include "import/import.h"

#include <sys/stat.h>

#define IMPORT_PATH_MAX 4096u
/* The directory of a version below a tablespace. */
#define IMPORT_TABLESPACE_VERSION_DIR "PG_15_202209061"

struct import {
    const char *data_dir;
    const struct loch_import_facts *facts;
    loch_import_put_fn put;
    void *arg;
    struct loch_import_stats *stats;
    struct loch_buf value; /* reused */
};

/* Joins data_dir and a relative path. LOCH_E_LIMIT. */
LOCH_STATUS import_path(const char *data_dir, const char *relative,
                        char out[static IMPORT_PATH_MAX]);
/* Reads a whole regular file of at most `max` bytes into *out (replaced). LOCH_E_NOT_FOUND. */
LOCH_STATUS import_read_file(const char *data_dir, const char *relative, size_t max,
                             struct loch_buf *out);
/* Opens a regular file for reading, not through a symbolic link and without waiting for anybody:
 * the path may have become another thing since it was listed. LOCH_E_NOT_FOUND, LOCH_E_INVALID: no
 * regular file, LOCH_E_IO. The caller closes *fd. */
LOCH_STATUS import_open(const char *path, int *fd, uint64_t *bytes);
/* Calls fn for each entry of the directory but "." and "..", unsorted. LOCH_E_NOT_FOUND. */
LOCH_STATUS import_each(const char *data_dir, const char *relative,
                        LOCH_STATUS (*fn)(void *arg, const char *name, const struct stat *st),
                        void *arg);
/* Whole decimal number up to UINT32_MAX, no sign or space; returns the first character behind it,
 * NULL when there is no number. */
const char *import_number(const char *text, uint32_t *out);

/* ---- relations.c ---- */
#define IMPORT_SEGMENT_BYTES (UINT64_C(131072) * LOCH_PAGE_BYTES)

/* Bytes of a fork, counted from its segment files as PostgreSQL counts blocks (mdnblocks): whole
 * segments up to the first that is not full or not there; truncation leaves empty ones behind it.
 * Begins zeroed. */
struct import_fork_size {
    uint64_t bytes;
    uint32_t segments; /* counted so far */
    bool ended;
};
/* The next segment file, in order of their numbers; at most IMPORT_SEGMENT_BYTES. False: it does
 * not join, there is something in it behind the fork's end, or the first segment is missing. */
bool import_fork_size_add(struct import_fork_size *fork, uint32_t segment, uint64_t bytes);

/* Relation files, maps and PG_VERSION of one database directory (relative path). */
LOCH_STATUS import_database(struct import *import, const char *relative, uint32_t spc, uint32_t db);
/* ---- slru.c ---- */
LOCH_STATUS import_slrus(struct import *import);
LOCH_STATUS import_twophase(struct import *import);
LOCH_STATUS import_origins(struct import *import);

#endif
