/* What wal_store.c, wal_begin.c, wal_store_read.c, wal_spares.c and wal_ahead.c share. */
#ifndef LOCH_SAFEKEEPER_WAL_STORE_IMPL_H
#define LOCH_SAFEKEEPER_WAL_STORE_IMPL_H

#include "journal.h"
#include "wal_store.h"
#include "wal_tail.h"

#include "loch/pg/wal_scan.h"

enum op_kind { OP_PERSIST, OP_TRUNCATE, OP_WRITE, OP_SYNC };

struct op {
    struct op *next;
    enum op_kind kind;
    uint64_t token; /* of the last effect it stands for */
    uint64_t term;
    loch_lsn begin;
    loch_lsn boundary, prev; /* WRITE, SYNC: the scanner's when the effect was received */
    struct loch_buf bytes;   /* WRITE: WAL, or sealed frames; PERSIST: the sealed control file */
    bool sealed;             /* WRITE: into the newest file's session, when it was received */
    uint32_t frames;         /* WRITE: sealed into `bytes` */
    size_t wal_bytes;        /* WRITE: of WAL */
};

struct read_job; /* wal_store_read.c */

/* A record boundary and the start of the record that ends there. */
struct point {
    loch_lsn lsn, prev;
};

/* Zeros ahead of the newest file's end. Zero-initialised: none yet. */
struct sk_ahead {
    struct loch_file *file; /* the newest file once more */
    uint64_t from, end;     /* offsets of the last piece; it is under way while `running` */
    bool running;
};

/* A file that was trimmed, kept under another name until it becomes a new one. */
struct sk_spare {
    uint64_t seq; /* it had; 0: none */
    uint64_t bytes;
};

#define SK_SPARES_MAX 16u

/* A defect for the simulator's own build: a spare file gets its name before its head. */
#ifdef LOCH_SIM_MUTATIONS
extern bool sk_head_comes_last;
#else
#define sk_head_comes_last false
#endif

struct sk_spares {
    struct sk_spare items[SK_SPARES_MAX];
    size_t count;
    unsigned begun; /* files since the last trim that took some: as many spares are of use */
};

struct sk_store {
    char *dir;
    struct sk_sealer sealer;
    uint32_t segment_bytes;
    uint64_t file_bytes;
    struct sk_store_stats stats;
    const struct sk_store_events *events;
    void *arg;

    struct op *head, *tail_op;
    size_t queued;
    bool busy, failed, posted;
    size_t reads;                /* files are used on pool threads */
    unsigned trims;              /* so are files that are trimmed */
    bool resting;                /* the newest file is being cut to what it holds */
    struct read_job *after_rest; /* reads that wait for that, newest first */

    struct sk_wal_files files;
    struct loch_wal_writer *writer; /* NULL: the next write begins a file */
    struct loch_file *file;
    struct loch_buf out;     /* sealed frames of the write in flight */
    struct loch_buf spare;   /* what `out` was before: memory for the next ones */
    uint64_t write_offset;   /* where the next ones go */
    uint32_t out_frames;     /* in `out` */
    uint32_t written_frames; /* written, not synced */
    uint32_t
        unsynced_frames;  /* sealed, not known durable: those, and what is queued or in flight */
    unsigned truncations; /* queued */
    uint64_t started_ns;
    struct sk_ahead ahead;
    struct sk_spares spares;
    bool allocating; /* the newest file's room is being made */
    bool recycled;   /* the newest file was a spare one: behind its end lies what it was before */
    struct sk_journal_client client;
    bool journaled; /* the write in flight */
    loch_lsn written, received;
    loch_lsn written_boundary; /* end of the last whole record at or below `written` */
    uint64_t cuts;

    struct loch_wal_scan scan;
    struct sk_tail tail;
    loch_lsn ticked; /* `received` at the last tick */
    unsigned idle_ticks;
    struct point *points;
    size_t point_count, point_cap;
};

/* wal_store.c: what ended unexpectedly ends the store, once; the queue goes on. */
void sk_store_fail(struct sk_store *store, loch_status st);
void sk_store_pump(struct sk_store *store);

LOCH_STATUS sk_store_add_point(struct sk_store *store, loch_lsn lsn, loch_lsn prev);
struct op *sk_store_dequeue(struct sk_store *store);
void sk_op_free(struct op *op);

/* wal_begin.c: a new file from `begin` on; what older files hold from there is void. */
LOCH_STATUS sk_begin_start(struct sk_store *store, struct loch_wal_begin begin, bool truncation);

/* wal_spares.c */
/* Of files that are trimmed, how many of the first ones are to become spares, at most `bytes`. */
size_t sk_spares_wanted(struct sk_store *store, const struct sk_wal_files *gone, uint64_t bytes);
void sk_spares_add(struct sk_store *store, struct sk_spare spare);
/* *out is untouched when there is none. */
void sk_spares_take(struct sk_store *store, struct sk_spare *out);

/* wal_ahead.c: after `written_bytes` were written to the newest file, more zeros ahead if due. */
void sk_ahead_go_on(struct sk_store *store, size_t written_bytes);
/* How many bytes may be written at the newest file's end now. */
uint64_t sk_ahead_room(const struct sk_store *store);
/* The newest file is left. Nothing may be under way. */
void sk_ahead_close(struct sk_store *store);

#endif
