/* Where a compute's plaintext may lie: data directory, WAL, temporary files, server log.
 *
 * On tmpfs, on an encrypted volume, or on a file system that encrypts a directory under a key of
 * this start alone (fscrypt); and nowhere with swap that could carry the server's memory, or tmpfs,
 * to a disk in the clear. Anything else is refused for a tenant whose CMK is customer-held, and
 * warned about for one whose CMK is a file. */
#ifndef LOCH_AGENT_SCRATCH_H
#define LOCH_AGENT_SCRATCH_H

#include "loch/base/types.h"

#define LOCH_SCRATCH_KEY_ID_BYTES 16u
/* Of the last server that did not end cleanly, beside the boots: it holds statements. */
#define LOCH_SCRATCH_KEPT_LOG "postgres-last.log"

enum loch_scratch_kind {
    LOCH_SCRATCH_PLAIN,
    LOCH_SCRATCH_TMPFS,
    LOCH_SCRATCH_VOLUME, /* dm-crypt below the file system */
    LOCH_SCRATCH_POLICY, /* the directory was encrypted (fscrypt) by whoever made it */
    LOCH_SCRATCH_OURS    /* fscrypt, set up here, with a key that dies with this process */
};

struct loch_scratch {
    enum loch_scratch_kind kind;
    char dir[300];   /* as configured */
    char files[320]; /* where the server's files go: dir, or a directory below it */
    uint8_t key_id[LOCH_SCRATCH_KEY_ID_BYTES];
};

/* Decides, and sets up fscrypt where that is what it takes. LOCH_E_INVALID says what is wrong with
 * the scratch and what would do. */
LOCH_STATUS loch_scratch_prepare(const char *dir, bool customer_held, struct loch_scratch *out);
/* Removes what an agent that has died left in `dir` of its tenant's: its boots, and the sealed
 * directory with its key; kept_log: that too. No agent may run there: the caller holds the lock of
 * `dir` (loch_daemon_lock_dir). LOCH_E_IO says what stays; the rest is gone. */
LOCH_STATUS loch_scratch_clear(const char *dir, bool kept_log);
/* Removes the key, if it is ours: what is left on the disk is noise. Takes a zeroed one. */
void loch_scratch_end(struct loch_scratch *scratch);
const char *loch_scratch_kind_name(enum loch_scratch_kind kind);

/* The same by another /proc and /sys, for tests. */
LOCH_STATUS loch_scratch_prepare_at(const char *proc, const char *sys, const char *dir,
                                    bool customer_held, struct loch_scratch *out);

#endif
