/* Holds: a TCP connection under TLS, shared by real_stream.c (its life and bytes) and
 * real_connect.c (how it comes to be). */
#ifndef LOCH_IO_REAL_STREAM_H
#define LOCH_IO_REAL_STREAM_H

#include "real.h"

#define PEER_TEXT_BYTES 64u

struct real_listener;

enum stream_state {
    STREAM_CONNECTING, /* client: no TCP connection yet */
    STREAM_HANDSHAKE,
    STREAM_OPEN,
    STREAM_CLOSING
};

struct real_stream {
    struct loch_stream base;
    struct real_owner owner;
    enum stream_state state;
    uv_tcp_t tcp;
    uv_timer_t timer; /* connect and handshake time-out */
    unsigned handles; /* of the two not yet closed, and a name being resolved */
    struct loch_tls *tls;
    char peer[PEER_TEXT_BYTES];

    /* Server side: the listener while the handshake runs, NULL after or when it is closed. */
    struct real_listener *listener;
    struct real_stream *next_greeting, **prev_greeting;

    /* Client side: pending until connected has been called. */
    loch_connected_fn connected;
    void *connected_arg;
    uv_connect_t connecting;
    uv_getaddrinfo_t resolving;
    bool is_resolving;

    /* Reading. */
    bool want_read;  /* what the owner asked for */
    bool is_reading; /* what libuv does */
    bool in_frames;  /* frames are being handed out: no nesting */
    struct loch_buf plain;
    size_t plain_at; /* frames before this were handed out */

    /* Writing: `queue` in clear, `wire` sealed and not yet taken by the kernel, `flight` in
     * uv_write. */
    struct loch_buf queue;
    size_t queue_at; /* bytes before this are sealed */
    struct loch_buf wire;
    struct loch_buf flight;
    uv_write_t write;
    bool in_flight;
    bool owes_drained;
    bool is_cut; /* what the kernel could not send is not to leave later */

    bool is_dirty;
    struct real_stream *next_dirty, **prev_dirty;

    loch_status end; /* why it closes, with its text */
    char end_text[256];
};

static inline struct real_stream *real_stream_of(const struct loch_stream *stream)
{
    union {
        const struct loch_stream *borrowed;
        struct real_stream *real;
    } p = {stream};
    return p.real;
}

/* A peer whose kernel does not answer for so long is gone. Tests change it. */
extern unsigned real_stream_dead_ms;

LOCH_STATUS stream_create(struct real_env *env, struct real_stream **out);
/* Begins to read; on the client, to greet. */
void stream_begin(struct real_stream *s);
/* Ends the stream for `st`, whose text is loch_error_text(). Idempotent. */
void stream_end(struct real_stream *s, loch_status st);
/* A line about a peer that was refused, at most a few a second. */
void stream_log_refused(struct real_stream *s, const char *why);
void stream_no_delay(struct real_stream *s);
/* From now on a peer that is gone is noticed also while bytes are under way. */
void stream_watch_peer(struct real_stream *s);
/* The handshake is done and checked: hands the stream to its owner. */
void stream_opened(struct real_stream *s);
/* One of `handles` is gone; with the last one the stream is. */
void stream_handle_gone(struct real_stream *s);
/* Takes it off its listener's list of greetings. */
void stream_leave_listener(struct real_stream *s);

#endif
