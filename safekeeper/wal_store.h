/* A timeline's disk: carries out the acceptor's disk effects strictly in token order, and serves
 * what was written to readers.
 *
 * Group commit falls out of the order: while a sync is in flight WRITEs queue up; then one sealed
 * write and one fdatasync cover them all. Stores of different timelines work at the same time.
 * A failed write or sync is final: `failed` is called once, and the process must end. A cut that
 * cannot be ends this store only (`uncut`).
 * Loop thread only, unless said otherwise. Events never run before the call that causes them
 * returns.
 */
#ifndef LOCH_SAFEKEEPER_WAL_STORE_H
#define LOCH_SAFEKEEPER_WAL_STORE_H

#include "control.h"
#include "sealer.h"
#include "wal_files.h"

#include "loch/host/metrics.h"

struct sk_journal;
struct sk_memory;
struct sk_store;

struct sk_store_events {
    void (*persisted)(void *arg, uint64_t token);
    void (*truncated)(void *arg, uint64_t token, loch_lsn prev_lsn);
    void (*synced)(void *arg, uint64_t token, loch_lsn flush_lsn, loch_lsn prev_lsn);
    void (*failed)(void *arg, loch_status st);
    /* A TRUNCATE that cannot be: it begins inside a record, or what is below is damaged. Nothing
     * was changed on disk; the store carries out nothing more, and has to be opened anew. NULL:
     * `failed` instead. */
    void (*uncut)(void *arg, loch_status st);
};

/* Shared by all timelines; series may be NULL in tests. */
struct sk_store_stats {
    struct loch_metric *writes, *write_bytes, *syncs, *sync_latency, *files, *recycled,
        *zeroed_bytes, *trimmed_bytes;
};

struct sk_store_options {
    const char *dir; /* copied */
    struct sk_sealer sealer;
    uint32_t segment_bytes; /* PostgreSQL's */
    uint64_t file_bytes;    /* a WAL file is preallocated to this, and the next begun beyond it */
    const struct sk_store_stats *stats;
    struct sk_journal *journal; /* of the node; NULL: none. Lives longer */
    struct sk_memory *memory;   /* likewise; NULL: without limit */
    const struct sk_store_events *events;
    void *arg;
};

/* Takes what recovery found (a fresh timeline: no files, flush = start). `anchor` as in the control
 * file. */
LOCH_STATUS sk_store_create(const struct sk_store_options *options, struct sk_wal_found *take_found,
                            loch_lsn anchor_lsn, loch_lsn anchor_prev_lsn, struct sk_store **out);
/* Nothing may be in flight (sk_store_idle). Takes NULL. */
void sk_store_destroy(struct sk_store *store);
/* Nothing queued (unless it failed), nothing in flight, no read under way. */
bool sk_store_idle(const struct sk_store *store);

/* ---- disk effects; tokens ascend ---- */
/* Replaces the control file by these (sealed) bytes. */
void sk_store_persist(struct sk_store *store, uint64_t token, struct loch_buf *take_sealed);
void sk_store_truncate(struct sk_store *store, uint64_t token, loch_lsn begin, uint64_t term);
/* `begin` is where the last one ended. A SYNC must follow, now or when the one in flight is done:
 * it sets the writing going. The bytes are copied, and fed to the boundary scanner: LOCH_E_CORRUPT
 * when they are not WAL. If they began at a record boundary nothing of them was taken, and
 * sk_store_end says so; else they are queued all the same, and a truncation must follow. */
LOCH_STATUS sk_store_write(struct sk_store *store, uint64_t token, loch_lsn begin, uint64_t term,
                           struct loch_slice bytes);
/* Where the next WRITE must begin. */
loch_lsn sk_store_end(const struct sk_store *store);
void sk_store_sync(struct sk_store *store, uint64_t token);

/* Bytes queued and not yet written: senders are paused above a limit. */
size_t sk_store_queued(const struct sk_store *store);
/* The best record boundary at or below `commit` to restart from; forgets those before it. */
void sk_store_anchor(struct sk_store *store, loch_lsn commit, loch_lsn *lsn, loch_lsn *prev_lsn);
/* About once a second: a timeline that has been idle for a minute gives back its memory, its open
 * file, its spare files and what was preallocated. */
void sk_store_tick(struct sk_store *store);
/* Sequence number of the newest WAL file, 0 when there is none. */
uint64_t sk_store_last_seq(const struct sk_store *store);
size_t sk_store_file_count(const struct sk_store *store);
/* What its WAL files take on disk, preallocation and spare files included. */
uint64_t sk_store_disk_bytes(const struct sk_store *store);
/* What files that are not there yet will take: for WAL that is queued, for `more` bytes of it, and
 * for a file that is being preallocated. A multiple of the size of a file. */
uint64_t sk_store_pending_bytes(const struct sk_store *store, size_t more);
/* Where the oldest WAL on disk begins; its end when there is no file. */
loch_lsn sk_store_first_lsn(const struct sk_store *store);
/* The first LSN that would stay if all below `lsn` were trimmed: files are kept whole. */
loch_lsn sk_store_trim_point(const struct sk_store *store, loch_lsn lsn);
/* Deletes the files below `lsn` on a pool thread, or keeps some of them as spare ones, which new
 * files are made of: as many as were begun since the last trim, 16 and `spare_bytes` at most. The
 * control file that says so is durable. */
LOCH_STATUS sk_store_trim(struct sk_store *store, loch_lsn lsn, uint64_t spare_bytes);
uint64_t sk_store_spare_bytes(const struct sk_store *store);
/* Deletes the spare files. */
void sk_store_drop_spares(struct sk_store *store);

/* A copy of the list of WAL files as it is now, to read by: what is written now stays readable
 * while WAL behind it is cut off. */
LOCH_STATUS sk_store_files(const struct sk_store *store, struct sk_wal_files *out);

/* ---- reading ---- */
/* From memory; as sk_tail_read. */
bool sk_store_tail(const struct sk_store *store, loch_lsn from, loch_lsn upto, size_t max,
                   struct loch_slice *out);
/* Changes when a truncation begins and when it has ended: bytes read from files before may be void,
 * and files on a list of before may be gone. */
uint64_t sk_store_cuts(const struct sk_store *store);
/* Reads [from, upto) or the first part of it from files on a pool thread. `wal` is the callee's. */
typedef void (*sk_store_read_fn)(void *arg, loch_status st, struct loch_buf *take_wal);
LOCH_STATUS sk_store_read(struct sk_store *store, loch_lsn from, loch_lsn upto, size_t max,
                          sk_store_read_fn done, void *arg);

#endif
