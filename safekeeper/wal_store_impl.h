/* What wal_store.c and wal_store_read.c share. */
#ifndef LOCH_SAFEKEEPER_WAL_STORE_IMPL_H
#define LOCH_SAFEKEEPER_WAL_STORE_IMPL_H

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
    struct loch_buf bytes;   /* WRITE: WAL; PERSIST: the sealed control file */
};

/* A record boundary and the start of the record that ends there. */
struct point {
    loch_lsn lsn, prev;
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
    size_t reads;

    struct sk_wal_files files;
    struct loch_wal_writer *writer; /* NULL: the next write begins a file */
    struct loch_file *file;
    struct loch_buf out;      /* sealed frames of the write in flight */
    uint64_t write_offset;    /* where they go */
    uint32_t unsynced_frames; /* since the last sync */
    uint64_t started_ns;
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

#endif
