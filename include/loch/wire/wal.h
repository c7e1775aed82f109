/* Messages of the WAL service: proposer <-> safekeeper (push), reader <-> safekeeper (pull).
 *
 * The identity proven by TLS-PSK names tenant, timeline and compute_epoch; every message's tenant
 * and timeline are checked against it. consensus/ works on these structs directly. Twin:
 * docs/protocol/wire.md.
 */
#ifndef LOCH_WIRE_WAL_H
#define LOCH_WIRE_WAL_H

#include "loch/base/buf.h"
#include "loch/base/types.h"

#define LOCH_WIRE_WAL_VERSION      4u /* of HELLO: 3 had no stamps, 2 no pageserver either */
#define LOCH_WIRE_PULL_VERSION     3u /* 2 had no PULL_POSITIONS */
#define LOCH_TERM_HISTORY_MAX      65536u
#define LOCH_WAL_CHUNK_BYTES       (128u << 10) /* most WAL in one APPEND or PULL_DATA */
#define LOCH_MEMBERS_MAX           9u /* of both sets together while a change is under way */
#define LOCH_WAL_KEYS_MAX          (LOCH_MEMBERS_MAX + 1u)
#define LOCH_MEMBER_ADDRESS_BYTES  128u
#define LOCH_WIRE_ERROR_TEXT_BYTES 1000u

enum loch_wal_type {
    LOCH_WAL_HELLO = 1, /* proposer -> safekeeper, first */
    LOCH_WAL_HELLO_REPLY = 2,
    LOCH_WAL_VOTE = 3,
    LOCH_WAL_VOTE_REPLY = 4,
    LOCH_WAL_ELECTED = 5,
    LOCH_WAL_ELECTED_REPLY = 6,
    LOCH_WAL_APPEND = 7,
    LOCH_WAL_APPEND_REPLY = 8,
    LOCH_WAL_FENCED = 9,   /* safekeeper -> proposer: a higher term or epoch; final */
    LOCH_WAL_MEMBERS = 10, /* safekeeper -> proposer: the configuration it knows */
    LOCH_WAL_KEYS = 11,    /* safekeeper -> proposer: its keys under a newer wire epoch */
    LOCH_WAL_PULL = 16,    /* reader -> safekeeper, first */
    LOCH_WAL_PULL_DATA = 17,
    LOCH_WAL_PULL_STATE = 18,     /* safekeeper -> reader, at start and when more than positions
                                     changed */
    LOCH_WAL_PULL_FEEDBACK = 19,  /* reader -> safekeeper: how far the reader is */
    LOCH_WAL_PULL_POSITIONS = 20, /* safekeeper -> reader, once a second: the rest is as it was */
    LOCH_WAL_ERROR = 31           /* either way: code and text, then close */
};

struct loch_term_start {
    uint64_t term;
    loch_lsn start;
};

/* Ascending in term and start. Owned by whoever holds it; entries malloc'ed. */
struct loch_term_history {
    struct loch_term_start *entries;
    uint32_t count;
    uint32_t room; /* for so many, at least `count` */
};

/* Who keeps a timeline's WAL. `in` says which sets a member belongs to: all members of a stable
 * configuration are in both; in a joint one, while a change is under way, the old and the new set
 * differ. Whatever needs a quorum needs a majority of each set. A member is a timeline's directory
 * on a node's disk, named at its creation: what comes back without its disk is another member. */
enum { LOCH_MEMBER_OLD = 1, LOCH_MEMBER_NEW = 2, LOCH_MEMBER_BOTH = 3 };

struct loch_member {
    struct loch_id id, node;
    uint8_t in;
    char address[LOCH_MEMBER_ADDRESS_BYTES]; /* NUL-ended */
};

/* Owned by whoever holds it; members malloc'ed. Generation 0 has no members: nothing is known. */
struct loch_membership {
    uint64_t generation;
    struct loch_member *members;
    uint32_t count;
};

struct loch_wal_hello {
    uint32_t version;
    struct loch_id tenant, timeline;
    uint64_t generation; /* of the membership the proposer knows */
    uint64_t system_id;  /* PostgreSQL's */
    uint32_t pg_version; /* such as 150020 */
    uint32_t segment_bytes;
    /* The node that it gets its pages from: it wants keys for it too. */
    struct loch_id pageserver;
};

struct loch_wal_hello_reply {
    struct loch_id member;
    uint64_t term;
    uint64_t generation;
    uint64_t min_compute_epoch;
    loch_lsn start_lsn, flush_lsn, commit_lsn;
};

struct loch_wal_vote {
    uint64_t term;
    uint64_t compute_epoch;
    uint64_t generation;
};

struct loch_wal_vote_reply {
    bool granted;
    uint64_t term; /* the safekeeper's, after the vote */
    uint64_t generation;
    loch_lsn flush_lsn, commit_lsn, start_lsn;
    loch_lsn prev_lsn; /* start of the last record before flush_lsn: xl_prev of what follows */
    struct loch_term_history history; /* cut to starts <= flush_lsn */
};

struct loch_wal_elected {
    uint64_t term;
    uint64_t generation;
    struct loch_term_history history; /* ends in (term, L) */
};

struct loch_wal_elected_reply {
    uint64_t term;
    uint64_t generation;
    loch_lsn flush_lsn;
};

struct loch_wal_append {
    uint64_t term;
    uint64_t generation;
    loch_lsn begin; /* bytes start here; may be mid-record */
    loch_lsn commit_lsn;
    uint64_t stamp_ms; /* the proposer's clock when it was sent, from 1; the reply echoes it */
    struct loch_slice bytes; /* borrowed; may be empty */
};

struct loch_wal_append_reply {
    uint64_t term;
    uint64_t generation;
    loch_lsn flush_lsn; /* durable record boundary */
    loch_lsn write_lsn; /* where the next APPEND must begin */
    loch_lsn commit_lsn;
    loch_lsn reader_lsn;    /* the pageserver's ingested position as this safekeeper knows it:
                               backpressure */
    loch_lsn persisted_lsn; /* the pageserver's disk_consistent_lsn likewise */
    /* The safekeeper was there, and had the tenant's keys, at echo_ms + since_ms of the proposer's
     * clock: the stamp of an APPEND that it has read on this connection, and how long ago that was,
     * by its own clock less a thousandth. echo_ms 0: it has read none here. */
    uint64_t echo_ms;
    uint32_t since_ms;
};

struct loch_wal_fenced {
    uint64_t term;
    uint64_t min_compute_epoch;
    uint64_t generation;
};

/* What connects a compute to one server: its PSK is the compute's own, made for this server. */
struct loch_wal_server_key {
    struct loch_slice identity, psk; /* borrowed; empty when the sender makes none */
};

struct loch_wal_members {
    struct loch_membership membership;
    struct loch_wal_server_key keys[LOCH_MEMBERS_MAX];
};

/* What its credential held, under the wire epoch of now: for each server that it knows. */
struct loch_wal_keys {
    uint32_t count; /* from 1 */
    struct loch_wal_server_key keys[LOCH_WAL_KEYS_MAX];
};

/* upto: committed WAL only (a pageserver), up to flush under exactly `term` (a peer or an elected
 * proposer fetching L's prefix), or nothing but PULL_STATE (a peer that looks around). */
enum loch_pull_mode { LOCH_PULL_COMMITTED = 1, LOCH_PULL_FLUSHED = 2, LOCH_PULL_LOOK = 3 };

struct loch_wal_pull {
    uint32_t version;
    struct loch_id tenant, timeline;
    uint8_t mode;        /* enum loch_pull_mode */
    uint64_t term;       /* for FLUSHED: refuse unless this term's history is installed or voted */
    uint64_t generation; /* FLUSHED, LOOK: the asker's; refused unless it is the asked one's too */
    loch_lsn from;
};

struct loch_wal_pull_data {
    loch_lsn begin;
    struct loch_slice bytes; /* borrowed */
};

struct loch_wal_pull_state {
    uint64_t term;     /* last term whose history is installed */
    uint64_t promised; /* the highest promised one */
    loch_lsn term_start;
    uint64_t compute_epoch; /* smallest epoch still accepted */
    loch_lsn flush_lsn, commit_lsn, start_lsn;
    struct loch_term_history history;
    struct loch_membership membership;
};

/* What may have moved since the last PULL_STATE; all else that it said still holds. */
struct loch_wal_pull_positions {
    loch_lsn flush_lsn, commit_lsn;
};

struct loch_wal_pull_feedback {
    loch_lsn last_record_lsn, disk_consistent_lsn, remote_consistent_lsn;
};

struct loch_wire_error {
    uint32_t code;          /* enum loch_code */
    struct loch_slice text; /* borrowed, LOCH_WIRE_ERROR_TEXT_BYTES count, no secrets */
};

void loch_term_history_fini(struct loch_term_history *h);
LOCH_STATUS loch_term_history_copy(struct loch_term_history *out,
                                   const struct loch_term_history *h);
/* Appends; term and start must not be below the last entry's. */
LOCH_STATUS loch_term_history_add(struct loch_term_history *h, uint64_t term, loch_lsn start);
void loch_write_term_history(struct loch_writer *w, const struct loch_term_history *h);
/* LOCH_E_CORRUPT when not ascending or absurdly long. */
LOCH_STATUS loch_read_term_history(struct loch_reader *r, struct loch_term_history *out);

/* When the safekeeper gave this answer, at the earliest, by the clock of the stamps, on which it is
 * now_ms: whoever held the answer back cannot have it seem later. 0: the answer does not tell. */
uint64_t loch_wal_said_ms(const struct loch_wal_append_reply *m, uint64_t now_ms);

void loch_wal_pull_state_fini(struct loch_wal_pull_state *m);

void loch_membership_fini(struct loch_membership *m);
LOCH_STATUS loch_membership_copy(struct loch_membership *out, const struct loch_membership *m);
void loch_write_membership(struct loch_writer *w, const struct loch_membership *m);
/* Can it be a member's address: printable ASCII without a blank, shorter than
 * LOCH_MEMBER_ADDRESS_BYTES? An empty one can. */
bool loch_member_address_valid(struct loch_slice address);
/* LOCH_E_CORRUPT when a member comes twice, a set is empty, or an address is not printable. */
LOCH_STATUS loch_read_membership(struct loch_reader *r, struct loch_membership *out);

/* Each appends one whole frame to w; decoders take the frame's payload and check all of it.
 * Decoded slices borrow the payload; decoded histories are owned by the struct. */
#define LOCH_WAL_MESSAGES(X)                                                                       \
    X(hello)                                                                                       \
    X(hello_reply)                                                                                 \
    X(vote)                                                                                        \
    X(vote_reply)                                                                                  \
    X(elected)                                                                                     \
    X(elected_reply)                                                                               \
    X(append)                                                                                      \
    X(append_reply)                                                                                \
    X(fenced)                                                                                      \
    X(members)                                                                                     \
    X(keys)                                                                                        \
    X(pull)                                                                                        \
    X(pull_data)                                                                                   \
    X(pull_state)                                                                                  \
    X(pull_positions)                                                                              \
    X(pull_feedback)

#define LOCH_WAL_DECLARE(name_)                                                                    \
    void loch_wal_##name_##_encode(struct loch_writer *w, const struct loch_wal_##name_ *m);       \
    LOCH_STATUS loch_wal_##name_##_decode(struct loch_slice payload, struct loch_wal_##name_ *out);
LOCH_WAL_MESSAGES(LOCH_WAL_DECLARE)
#undef LOCH_WAL_DECLARE

/* The error frame of the WAL protocol; the page protocol has its own with a request id (type 31 in
 * both). A longer text is cut when it is encoded, refused when it is decoded. */
struct loch_slice loch_wire_error_text(struct loch_slice text);
void loch_wire_error_encode(struct loch_writer *w, const struct loch_wire_error *m);
LOCH_STATUS loch_wire_error_decode(struct loch_slice payload, struct loch_wire_error *out);

#endif
