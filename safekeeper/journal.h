/* The journal: one sync for small appends of many timelines (docs/decisions/014).
 *
 * While only few timelines write, or a record takes long, each syncs its own file. When many do,
 * what waits in all of them is put into one record of one file and made durable by one sync; the
 * same bytes go into their own files unsynced, which are synced later, all that half a journal
 * names at once. After a crash sk_journal_replay puts what the journal holds where it belongs
 * before any timeline is looked at.
 *
 * Loop thread only, unless said otherwise.
 */
#ifndef LOCH_SAFEKEEPER_JOURNAL_H
#define LOCH_SAFEKEEPER_JOURNAL_H

#include "journal_file.h"

#include "loch/host/metrics.h"
#include "loch/io/env.h"

struct sk_journal;
struct sk_journal_touched; /* journal.c */

struct sk_journal_options {
    struct loch_env *env;
    const char *dir; /* the data directory; lives longer */
    struct loch_id cluster, node;
    uint64_t incarnation;
    uint32_t half_bytes;                 /* 0: 32 MiB */
    uint32_t least_busy;                 /* so many timelines must write; 0: 4 */
    uint64_t slow_ns;                    /* 0: 1.5 ms */
    struct loch_metric *records, *bytes; /* may be NULL */
};

/* A writer of WAL files; embedded in a store. Zero-initialised: uses no journal. */
struct sk_journal_client {
    struct sk_journal *journal;
    struct loch_id tenant, timeline;
    struct loch_file *file; /* the newest WAL file; NULL: none is open */
    char *path;             /* its */
    uint64_t seq, file_hash;
    struct sk_journal_touched *touched[2]; /* it, in what each half of the journal names */
    unsigned recent;                       /* of the last writes */
    /* The write under way. */
    struct sk_journal_client *next;
    uint64_t offset;
    struct loch_slice bytes;
    loch_done_fn done;
    void *arg;
};

LOCH_STATUS sk_journal_create(const struct sk_journal_options *options, struct sk_journal **out);
/* Nothing may be under way (sk_journal_idle), all clients have left. Takes NULL. */
void sk_journal_destroy(struct sk_journal *journal);
bool sk_journal_idle(const struct sk_journal *journal);

/* `journal` may be NULL: everything below then does nothing. */
void sk_journal_enter(struct sk_journal_client *client, struct sk_journal *journal,
                      const struct loch_id *tenant, const struct loch_id *timeline);
/* No write of its may be under way. */
void sk_journal_leave(struct sk_journal_client *client);
/* The client's newest file from now on; `file` is borrowed until it leaves it. No write of its may
 * be under way. */
LOCH_STATUS sk_journal_file(struct sk_journal_client *client, struct loch_file *file,
                            const char *path, uint64_t seq, uint64_t file_hash);
void sk_journal_file_left(struct sk_journal_client *client);
/* To be asked once for each write that has to be durable: should the journal do it? */
bool sk_journal_takes(struct sk_journal_client *client, size_t bytes);
/* As loch_file_write_sync into the client's newest file. */
void sk_journal_write(struct sk_journal_client *client, uint64_t offset, struct loch_slice bytes,
                      loch_done_fn done, void *arg);

/* At the start, before any timeline is looked at: puts what the journal holds into its files,
 * durably. `id`: of the journal that the node file says there is; none when it is zero.
 * LOCH_E_CORRUPT when that is missing, damaged or another one: WAL that was acknowledged is lost.
 * Blocks. */
LOCH_STATUS sk_journal_replay(struct loch_env *env, const char *dir, const struct loch_id *node,
                              const struct loch_id *id);
/* Deletes the file, of which the node file does not speak any more. Blocks. */
LOCH_STATUS sk_journal_discard(struct loch_env *env, const char *dir);

#endif
