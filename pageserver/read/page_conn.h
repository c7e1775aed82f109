/* Inside of the page service: a connection and a request. Private to read/. Loop's thread. */
#ifndef LOCH_PAGESERVER_READ_PAGE_CONN_H
#define LOCH_PAGESERVER_READ_PAGE_CONN_H

#include "../pageserver.h"
#include "care/history.h"
#include "care/served.h"
#include "read/view.h"
#include "store/passing.h"
#include "store/version.h"

#include "loch/crypto/psk.h"
#include "loch/host/keys.h"
#include "loch/io/env.h"
#include "loch/wire/page.h"

struct basebackup;
struct page_request;

/* Requests for one relation's blocks, upwards. */
struct page_scan {
    struct loch_key last;
    unsigned run;
    unsigned pack_rest; /* so many of its pages go as they are before one is packed again */
};

/* Requests in order, each in one queue at most. */
struct page_queue {
    struct page_request *first, *last;
};

/* A relation's fork of which pages took a redo process; so many more are taken to do so too. */
struct page_likely {
    struct loch_key key;
    unsigned left;
};

struct page_conn {
    struct loch_pageserver *ps;
    struct page_conn *next, **link; /* in the pageserver's list */
    uint64_t since_ns;              /* when it came, or began to close */
    struct loch_stream *stream;     /* NULL once closed */
    struct loch_psk_identity identity;
    struct loch_served *served; /* after HELLO; NULL when it is gone */
    struct loch_served_watch watch;
    bool greeted;
    bool unpacks; /* it takes packed pages */
    bool closing; /* an error is on its way out; nothing more is taken in */
    bool paused;  /* not read from */
    bool clogged; /* its answers wait for the kernel */
    bool held;    /* not to be freed now */
    uint64_t term;
    uint64_t keys_seen;            /* loch_keys_changes when its wire epoch was looked at last */
    struct page_request *requests; /* all that are not answered */
    unsigned count;
    struct page_queue ready; /* their LSN is there */
    unsigned jobs;           /* pieces of pool work for them in flight */
    struct page_queue redo;  /* they take a redo process; redo_turns.c */
    struct page_conn *line_next, *line_prev;
    bool in_line; /* for a turn: with something in `redo` */
    struct page_likely likely;
    /* Of the frames that are being given, and gone when they all were: */
    struct loch_view *view; /* what answers at once read; or NULL */
    struct loch_buf answers;
    struct page_scan scan;
    struct loch_passing passing; /* of the scan */
    struct basebackup *backup;   /* basebackup_stream.c */
    struct loch_timer *patience; /* page_wait.c: set while the connection is open */
};

struct page_request {
    struct page_conn *conn;
    struct page_request *next, **prev;
    uint8_t type; /* enum loch_page_type */
    uint64_t id;
    struct loch_page_at at;
    struct loch_key key; /* GET: the page; REL_SIZE: the fork; DB_SIZE and REL_SIZE 0: spc, db */
    struct loch_waiter waiter;
    bool waiting;
    struct page_request *queue_next;
    uint64_t began_ns;
    struct loch_view *view;
    loch_lsn lsn; /* read at */
    /* results */
    struct loch_failure result;
    bool wants_redo; /* no result: it takes a redo process */
    uint8_t *page;
    bool exists;
    uint32_t blocks;
    uint64_t bytes;
};

/* Queues frames; drops them when the connection is gone. Takes the buffer. */
void page_conn_send(struct page_conn *conn, struct loch_buf *take_frames);
/* An error answer; request_id 0 concerns the whole connection, which is then closed. */
void page_conn_error(struct page_conn *conn, uint64_t request_id, loch_status st);
/* LOCH_E_UNAVAILABLE while a lease on the keys has run out; the connection is greeted. */
LOCH_STATUS page_conn_usable(const struct page_conn *conn);
/* Links a request; *out NULL and an error sent when there is no memory. */
struct page_request *page_request_create(struct page_conn *conn, uint8_t type, uint64_t id);
/* Whether its wire epoch has not ended. Keys are looked through only when they have changed. */
static inline bool page_conn_epoch_lives(struct page_conn *conn)
{
    const uint64_t changes = loch_keys_changes(conn->ps->keys);
    if (conn->keys_seen == changes)
        return true;
    if (!loch_keys_epoch_lives(conn->ps->keys, &conn->identity.tenant, conn->identity.wire_epoch))
        return false;
    conn->keys_seen = changes;
    return true;
}

/* Answered: unlinks and frees; frees the connection too if it is closed and this was its last. */
void page_request_destroy(struct page_request *request);

static inline void page_queue_push(struct page_queue *queue, struct page_request *r)
{
    r->queue_next = NULL;
    *(queue->last != NULL ? &queue->last->queue_next : &queue->first) = r;
    queue->last = r;
}

/* NULL when it is empty. */
static inline struct page_request *page_queue_pop(struct page_queue *queue)
{
    struct page_request *r = queue->first;
    if (r != NULL)
        queue->first = r->queue_next;
    if (queue->first == NULL)
        queue->last = NULL;
    return r;
}

/* Begins one piece of pool work for the front of the ready requests, or in a turn for that of those
 * that take a redo process; page_turn_end follows it. False: it could not, and all of them were
 * answered so. */
bool page_job_start(struct page_conn *conn, bool turn);

/* redo_turns.c. Pool thread: reads what is asked for. Not in a turn: a page that takes a redo
 * process fails, with wants_redo. */
LOCH_STATUS page_request_read(struct page_request *r, struct loch_view *view, bool turn);
/* It waits for a turn; the connection is open. */
void page_turn_wait(struct page_request *r);
void page_turn_end(struct loch_pageserver *ps, const struct loch_id *tenant);
/* The connection has closed: what waits for a turn goes. */
void page_turn_drop(struct page_conn *conn);
/* Its page took a redo process; whether another's may be expected to. */
void page_turn_learn(const struct page_request *r);
bool page_turn_likely(const struct page_request *r);

/* page_limits.c. False: there are too many connections; the peer was told so and is gone. */
bool page_limits_admit(struct loch_pageserver *ps, const struct loch_id *tenant,
                       struct loch_stream *stream);
/* From when the connection is there until it is freed: one that does not greet, or does not take
 * its last word, is closed. */
void page_limits_begin(struct page_conn *conn);
void page_limits_end(struct page_conn *conn);
/* A line in the log about what a peer was refused, at most a few hundred a minute. */
void page_limits_say(struct loch_pageserver *ps, const char *text);

/* page_wait.c: a request of the connection has begun to wait for its LSN. */
void page_wait_begin(struct page_conn *conn);
/* The connection has closed. */
void page_wait_end(struct page_conn *conn);

/* basebackup_stream.c */
void page_basebackup(struct page_conn *conn, const struct loch_page_basebackup *m);
/* The socket drained, or the connection closes or has closed. */
void page_basebackup_moved(struct page_conn *conn);

#endif
