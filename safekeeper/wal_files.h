/* A timeline's WAL files on disk: their list, reading them, and finding out after a restart what
 * they hold. Everything here but the list blocks: start-up and pool threads.
 *
 * Files are <sequence, 16 hex digits>.wal; a later file supersedes what earlier ones hold at and
 * after its begin (format/wal_file.h), so a truncation is one durable creation.
 */
#ifndef LOCH_SAFEKEEPER_WAL_FILES_H
#define LOCH_SAFEKEEPER_WAL_FILES_H

#include "control.h"
#include "sealer.h"

#include "loch/format/wal_file.h"

struct sk_wal_file {
    uint64_t seq;
    loch_lsn begin; /* ends where the next one begins */
    uint64_t bytes; /* it takes on disk; in a list to read by, all that may be read of it */
};

/* Ascending in seq and begin. Zero-initialised is empty. */
struct sk_wal_files {
    struct sk_wal_file *items;
    size_t count;
    uint64_t next_seq; /* never used before */
};

void sk_wal_files_fini(struct sk_wal_files *files);
LOCH_STATUS sk_wal_files_copy(struct sk_wal_files *out, const struct sk_wal_files *files);
/* Adds a file that supersedes those that begin at or after it; these are handed to `gone`. */
LOCH_STATUS sk_wal_files_add(struct sk_wal_files *files, uint64_t seq, loch_lsn begin,
                             struct sk_wal_files *gone);
/* Takes those that lie wholly below `lsn` off the list, never the last one; handed to `gone`. */
LOCH_STATUS sk_wal_files_trim(struct sk_wal_files *files, loch_lsn lsn, struct sk_wal_files *gone);
void sk_wal_file_path(const char *dir, uint64_t seq, char out[static SK_PATH_BYTES]);

/* Spare files (wal_spares.c): a trimmed file's name from then on, what such a name looks like, and
 * the deletion of all of them at a start. */
void sk_spare_path(const char *dir, uint64_t seq, char out[static SK_PATH_BYTES]);
bool sk_spare_is_name(const char *name);
LOCH_STATUS sk_spares_clear(struct loch_env *env, const char *dir);

/* Frees a buffer of WAL, which holds users' rows. */
void sk_wal_wipe(struct loch_buf *wal);
/* Appends WAL [from, upto) to *out, or less: as much as the file that holds `from` has, at most
 * about `max` bytes. LOCH_E_CORRUPT when the file does not hold what it should; LOCH_E_NOT_FOUND
 * when `from` lies before the first file. */
LOCH_STATUS sk_wal_read(const char *dir, const struct sk_sealer *sealer,
                        const struct sk_wal_files *files, loch_lsn from, loch_lsn upto, size_t max,
                        struct loch_buf *out);

/* Checks every frame of the index-th file, which is not the newest. LOCH_E_CORRUPT names file and
 * offset; LOCH_E_NOT_FOUND when the file is gone. */
LOCH_STATUS sk_wal_verify(const char *dir, const struct sk_sealer *sealer,
                          const struct sk_wal_files *files, size_t index);

/* The start of the record that ends at `at`, found by scanning on from an anchor at or below it. */
LOCH_STATUS sk_wal_find_prev(const char *dir, const struct sk_sealer *sealer,
                             const struct sk_wal_files *files, uint32_t segment_bytes,
                             loch_lsn anchor, loch_lsn anchor_prev, loch_lsn at, loch_lsn *prev);

/* What a restart finds. */
struct sk_wal_found {
    struct sk_wal_files files; /* owned */
    loch_lsn flush_lsn;        /* end of the last whole record, durable */
    loch_lsn prev_lsn;         /* its start */
    uint64_t cut_bytes;        /* torn tail and partial record that were dropped */
};

/* Checks every frame and record from the control file's anchor on, drops void files and a torn
 * tail, makes what stays durable, be it in the page cache only. LOCH_E_CORRUPT names file and
 * offset. */
LOCH_STATUS sk_wal_recover(const char *dir, const struct sk_sealer *sealer,
                           const struct sk_control *control, struct sk_wal_found *out);

#endif
