/* Messages of the page service: compute -> pageserver requests, and their answers.
 *
 * Requests are pipelined: each carries an id that its answer repeats; answers may come in any
 * order. The identity proven by TLS-PSK names tenant, timeline and compute_epoch; `term` rises with
 * HELLO. Twin: docs/protocol/wire.md.
 */
#ifndef LOCH_WIRE_PAGE_H
#define LOCH_WIRE_PAGE_H

#include "loch/base/buf.h"
#include "loch/base/types.h"
#include "loch/pg/key.h"

#define LOCH_WIRE_PAGE_VERSION 2u
/* Who greets with this is answered by GET_REPLY alone, never by GET_REPLY_PACKED. */
#define LOCH_WIRE_PAGE_VERSION_PLAIN 1u

enum loch_page_type {
    LOCH_PAGE_HELLO = 1, /* first: version, tenant, timeline, term, compute_epoch */
    LOCH_PAGE_HELLO_REPLY = 2,
    LOCH_PAGE_GET = 3,
    LOCH_PAGE_GET_REPLY = 4,
    LOCH_PAGE_REL_SIZE = 5, /* also existence */
    LOCH_PAGE_REL_SIZE_REPLY = 6,
    LOCH_PAGE_DB_SIZE = 7,
    LOCH_PAGE_DB_SIZE_REPLY = 8,
    LOCH_PAGE_STATUS = 9, /* how far ingestion is */
    LOCH_PAGE_STATUS_REPLY = 10,
    LOCH_PAGE_BASEBACKUP = 11,
    LOCH_PAGE_BASEBACKUP_DATA = 12, /* bytes of a tar stream */
    LOCH_PAGE_BASEBACKUP_END = 13,
    LOCH_PAGE_BASEBACKUP_ZEROS = 14, /* that many zero bytes of the tar stream */
    LOCH_PAGE_GET_REPLY_PACKED = 15,
    LOCH_PAGE_ERROR = 31
};

struct loch_page_hello {
    uint32_t version;
    struct loch_id tenant, timeline;
    uint64_t term; /* the compute's elected term; 0: a tool or the agent before its election */
    uint64_t compute_epoch;
};

struct loch_page_hello_reply {
    uint64_t term; /* highest term start seen in the WAL */
    loch_lsn last_record_lsn;
};

/* Where to read: request_lsn LOCH_LSN_MAX means LATEST, answered at max(not_modified_since,
 * last_record_lsn); otherwise at exactly request_lsn, which must not be below the GC horizon. */
struct loch_page_at {
    loch_lsn request_lsn;
    loch_lsn not_modified_since;
};

struct loch_page_get {
    uint64_t request_id;
    struct loch_page_at at;
    struct loch_rel rel;
    uint8_t fork;
    uint32_t block;
};

struct loch_page_get_reply {
    uint64_t request_id;
    loch_lsn lsn; /* the LSN the page was read at */
    struct loch_slice
        page; /* borrowed; LOCH_PAGE_BYTES, zeros beyond the relation's end or in gaps */
};

/* The same in fewer bytes, padded on the wire so that its length tells less of the page. */
struct loch_page_get_reply_packed {
    uint64_t request_id;
    loch_lsn lsn;
    struct loch_slice packed; /* borrowed; loch/wire/packed_page.h */
};

struct loch_page_rel_size {
    uint64_t request_id;
    struct loch_page_at at;
    struct loch_rel rel; /* relation 0: any of the database in the tablespace, any fork */
    uint8_t fork;
};

struct loch_page_rel_size_reply {
    uint64_t request_id;
    bool exists;
    uint32_t blocks;
};

struct loch_page_db_size {
    uint64_t request_id;
    struct loch_page_at at;
    uint32_t spc, db; /* spc 0: all tablespaces of the database */
};

struct loch_page_db_size_reply {
    uint64_t request_id;
    uint64_t bytes;
};

struct loch_page_status {
    uint64_t request_id;
};

struct loch_page_status_reply {
    uint64_t request_id;
    loch_lsn last_record_lsn, disk_consistent_lsn, remote_consistent_lsn;
};

enum loch_basebackup_flags {
    LOCH_BASEBACKUP_FULL =
        1 /* every relation too: a data directory stock PostgreSQL starts alone */
};

struct loch_page_basebackup {
    uint64_t request_id;
    loch_lsn lsn;      /* waits until last_record_lsn >= lsn; exact; must be a record boundary */
    loch_lsn prev_lsn; /* start of the record that ends at lsn, LOCH_LSN_NONE: pageserver knows */
    uint32_t flags;
};

struct loch_page_basebackup_data {
    uint64_t request_id;
    struct loch_slice bytes; /* borrowed */
};

#define LOCH_BASEBACKUP_ZEROS_MAX (16u << 20)

struct loch_page_basebackup_zeros {
    uint64_t request_id;
    uint32_t count; /* 1..LOCH_BASEBACKUP_ZEROS_MAX */
};

struct loch_page_basebackup_end {
    uint64_t request_id;
    loch_lsn
        checkpoint_end; /* end of the synthetic checkpoint record: first LSN the server writes at */
};

struct loch_page_error {
    uint64_t request_id;    /* 0: the connection as a whole */
    uint32_t code;          /* enum loch_code */
    struct loch_slice text; /* borrowed */
};

/* A GET_REPLY whose page is written in place: room for LOCH_PAGE_BYTES in w's buffer, to be
 * filled before anything else is written; NULL: no memory. One that `end` is not
 * called for is undone by cutting the buffer at *mark. */
uint8_t *loch_page_get_reply_begin(struct loch_writer *w, uint64_t request_id, size_t *mark);
void loch_page_get_reply_end(struct loch_writer *w, size_t mark, loch_lsn lsn);

#define LOCH_PAGE_MESSAGES(X)                                                                      \
    X(hello)                                                                                       \
    X(hello_reply)                                                                                 \
    X(get)                                                                                         \
    X(get_reply)                                                                                   \
    X(get_reply_packed)                                                                            \
    X(rel_size)                                                                                    \
    X(rel_size_reply)                                                                              \
    X(db_size)                                                                                     \
    X(db_size_reply)                                                                               \
    X(status)                                                                                      \
    X(status_reply)                                                                                \
    X(basebackup)                                                                                  \
    X(basebackup_data)                                                                             \
    X(basebackup_zeros)                                                                            \
    X(basebackup_end)                                                                              \
    X(error)

#define LOCH_PAGE_DECLARE(name_)                                                                   \
    void loch_page_##name_##_encode(struct loch_writer *w, const struct loch_page_##name_ *m);     \
    LOCH_STATUS loch_page_##name_##_decode(struct loch_slice payload,                              \
                                           struct loch_page_##name_ *out);
LOCH_PAGE_MESSAGES(LOCH_PAGE_DECLARE)
#undef LOCH_PAGE_DECLARE

#endif
