/* One WAL file opened for reading; shared by reads and recovery. */
#ifndef LOCH_SAFEKEEPER_WAL_OPEN_H
#define LOCH_SAFEKEEPER_WAL_OPEN_H

#include "wal_files.h"

/* A defect for the simulator's own build: a restart takes what it reads for what the disk has. */
#ifdef LOCH_SIM_MUTATIONS
extern bool sk_recovery_trusts_cache;
#else
#define sk_recovery_trusts_cache false
#endif

struct sk_wal_opened {
    char path[SK_PATH_BYTES];
    struct loch_file *file;
    uint64_t bytes;
    struct loch_wal_reader *reader;
};

/* Header and BEGIN frame are checked; LOCH_E_CORRUPT names the file. */
LOCH_STATUS sk_wal_open(const char *dir, const struct sk_sealer *sealer, uint64_t seq,
                        struct sk_wal_opened *out);
void sk_wal_opened_close(struct sk_wal_opened *opened);
/* loch_wal_read_at_fn over a loch_file. */
LOCH_STATUS sk_wal_read_at(void *arg, uint64_t offset, void *out, size_t len);

#endif
