/* The archive of committed WAL in the object store, and the trimming of WAL files that it allows.
 *
 * A timeline's WAL is cut at multiples of SK_PIECE_BYTES of LSN; a piece is put, if absent, when it
 * is committed whole (docs/format/wal-archive.md). Committed WAL is the same on every safekeeper,
 * so there is no owner to elect: one of them, by its rank, begins at once, the others only look,
 * and step in when the object is not there after a while. WAL files go when the pageserver has
 * persisted what they hold and the archive has it. Loop thread only.
 */
#ifndef LOCH_SAFEKEEPER_ARCHIVE_H
#define LOCH_SAFEKEEPER_ARCHIVE_H

#include "wal_store.h"

#define SK_PIECE_BYTES (16u << 20)

struct sk_daemon;
struct sk_timeline;

/* Embedded in a timeline. */
struct sk_archive {
    loch_lsn lsn;        /* all below it is in the object store, as far as we know */
    uint64_t next_ns;    /* not looked at again before */
    uint64_t put_ns;     /* from then on we put what nobody else has; 0: not counting yet */
    bool busy;           /* a pool thread works on it */
    size_t reads;        /* under way */
    char why[160];       /* the last attempt failed; "" otherwise */
    uint64_t trim_token; /* the PERSIST that says what is trimmed is under way; 0: none */
};

/* The timeline has just become ACTIVE. */
void sk_archive_open(struct sk_timeline *tl);
bool sk_archive_idle(const struct sk_timeline *tl);
/* True while a whole piece is committed that is not known to be archived. */
bool sk_archive_owes(const struct sk_timeline *tl);
/* About once a second: begins with the next piece, if any. One is made at a time. */
void sk_archive_tick(struct sk_daemon *daemon);
/* Reads archived WAL from `from` on, at most a piece of it, on a pool thread. LOCH_E_NOT_FOUND,
 * LOCH_E_CORRUPT name the object. */
LOCH_STATUS sk_archive_read(struct sk_timeline *tl, loch_lsn from, sk_store_read_fn done,
                            void *arg);

/* ---- trimming ---- */
/* About once a second, before the acceptor's tick. */
void sk_trim_tick(struct sk_timeline *tl);
/* A control file is written under `token`: what it says of trimming. */
void sk_trim_persist(struct sk_timeline *tl, uint64_t token, struct sk_control *control);
/* It is durable: files may go. */
void sk_trim_persisted(struct sk_timeline *tl, uint64_t token);

#endif
