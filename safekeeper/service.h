/* Connections of the safekeeper: proposers that push, readers that pull. Loop thread only. */
#ifndef LOCH_SAFEKEEPER_SERVICE_H
#define LOCH_SAFEKEEPER_SERVICE_H

#include "timeline.h"

#include "loch/crypto/psk.h"

enum sk_conn_kind { SK_CONN_NEW = 1, SK_CONN_PUSH, SK_CONN_PULL };

/* What a reader was told by PULL_STATE. */
struct sk_told {
    uint64_t term, promised, compute_epoch, generation;
    loch_lsn term_start, start_lsn;
};

struct sk_conn {
    struct sk_conn *next, **link;               /* in the daemon's list */
    struct sk_conn *next_beside, **link_beside; /* in its timeline's */
    struct sk_daemon *daemon;
    struct loch_stream *stream;
    struct loch_psk_identity identity;
    enum sk_conn_kind kind;
    struct sk_timeline *timeline; /* NULL while NEW; it lives as long as the connection */
    uint64_t since_ns;
    uint32_t *counted; /* the daemon's count of its kind; NULL: one too many, refused at once */
    bool closing;      /* an error was sent; closed when it has left */
    bool gone;         /* the stream is closed; freed when no read is under way */

    uint64_t number;           /* PUSH: the acceptor's name for it */
    struct loch_buf waiting;   /* PUSH: an APPEND that waits until the timeline is no longer held */
    uint64_t waits_ns;         /* PUSH: since when */
    uint64_t stamp_ms;         /* PUSH: echoed: of an APPEND that was read here; 0: none */
    uint64_t stamped_ns;       /* PUSH: when it was read */
    struct loch_id pageserver; /* PUSH: the compute's */
    uint32_t told_epoch;       /* PUSH: of the newest wire keys that it was sent here; 0: none */
    bool told_fenced;          /* PUSH: the log knows that it was */

    /* PULL */
    enum loch_pull_mode mode;
    uint64_t term;
    uint64_t generation; /* of the asker's membership; PUSH: the highest that it spoke of */
    loch_lsn position;   /* next to send */
    bool reading;
    bool archived;       /* the read under way is from the archive */
    struct loch_buf wal; /* read from files or the archive: begins at wal_lsn */
    loch_lsn wal_lsn;
    size_t wal_counted; /* of it, and of what is being read, in the daemon's memory */
    bool holds_piece;   /* of the archive: counted by the daemon */
    uint64_t wal_cuts;
    uint64_t state_ns; /* when it was last told how we stand */
    bool state_due;
    loch_lsn state_commit;
    bool stated; /* it was told all of it once */
    struct sk_told told;
};

/* loch_accept_fn; arg is struct sk_daemon. */
void sk_service_accept(void *arg, struct loch_stream *stream);
/* Sends an error frame, and closes when it has left. */
void sk_conn_refuse(struct sk_conn *conn, enum loch_code code, const char *text);
/* When its stream is closed and no read is under way. */
void sk_conn_free(struct sk_conn *conn);
/* A message of the acceptor to one of the timeline's proposers; number 0: to all of them. */
void sk_service_send(struct sk_timeline *tl, uint64_t number,
                     const struct loch_acceptor_message *message);
void sk_service_close(struct sk_timeline *tl, uint64_t number, enum loch_code code,
                      const char *text);
/* The authority's newest generation is this one: proposers that speak of a later one are refused.
 */
void sk_service_generation(struct sk_timeline *tl, uint64_t generation);
/* Closes every connection of the timeline. */
void sk_service_drop(struct sk_timeline *tl, enum loch_code code, const char *text);
/* The same at once: what is queued for a peer that does not read never leaves. */
void sk_service_cut(struct sk_timeline *tl, enum loch_code code, const char *text);
/* True when a connection still refers to the timeline. */
bool sk_service_uses(const struct sk_timeline *tl);
/* True while a connection of the tenant's is there, greeted or not. */
bool sk_service_knows(const struct sk_daemon *daemon, const struct loch_id *tenant);
/* Stops or resumes reading from the timeline's proposers. */
void sk_service_pause(struct sk_timeline *tl, bool paused);
/* The timeline is no longer held: takes the APPENDs that wait, and reads on. */
void sk_service_release(struct sk_timeline *tl);
/* Once a second: how we stand, connections that say nothing, new wire keys. */
void sk_service_tick(struct sk_daemon *daemon);

/* ---- what computes connect with (compute_keys.c) ---- */
/* The membership, with the compute's keys for each member. */
void sk_conn_send_members(struct sk_conn *conn, const struct loch_membership *m);
/* Keys under the wire epoch of now, unless the compute has them. */
void sk_conn_renew(struct sk_conn *conn);

/* ---- pull side (sender.c) ---- */
/* The first PULL of a connection. */
LOCH_STATUS sk_sender_begin(struct sk_conn *conn, const struct loch_wal_pull *m);
LOCH_STATUS sk_sender_frame(struct sk_conn *conn, uint8_t type, struct loch_slice payload);
/* WAL has advanced, or (state) term, history or epoch changed: sends what may be sent. */
void sk_sender_kick(struct sk_timeline *tl, bool state);
void sk_sender_pump(struct sk_conn *conn);
/* What was read for the reader and not sent is wiped. */
void sk_sender_forget(struct sk_conn *conn);
void sk_sender_tick(struct sk_conn *conn, uint64_t now_ns);

/* ---- a safekeeper's own pulls from its peers (recovery.c) ---- */
/* The acceptor's RECOVER effect. begin == end stops. */
void sk_recovery_order(struct sk_timeline *tl, uint64_t term, loch_lsn begin, loch_lsn end);
/* Looks around: follows a peer whose log is further, while no compute leads. Until every peer was
 * asked in vain. */
void sk_recovery_look(struct sk_timeline *tl);
void sk_recovery_pause(struct sk_timeline *tl, bool paused);
/* About once a second: leaves a peer that has gone silent. */
void sk_recovery_tick(struct sk_timeline *tl);
/* Stops; true when nothing is under way any more, then it may be destroyed. */
bool sk_recovery_stop(struct sk_timeline *tl);
bool sk_recovery_idle(const struct sk_timeline *tl);
void sk_recovery_destroy(struct sk_timeline *tl);

#endif
