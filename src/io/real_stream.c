/* Holds: streams of frames over TCP and TLS: reading, writing, ending.
 *
 * Invariants: what is queued in one turn of the loop is sealed and written in one go, unless it is
 * much; one uv_write at a time; `closed` is called exactly once, last; what a peer sends before it
 * is authenticated is bounded by the TLS engine and a time-out.
 */
#include "real_stream.h"

#include "loch/base/frame.h"
#include "loch/base/log.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define SEAL_BYTES    (256u << 10) /* sealed at a time: bounds the second copy of a long queue */
#define PUSH_BYTES    (64u << 10)  /* of one turn: more do not wait for its end */
#define SPARE_BYTES   (512u << 10) /* more memory than that goes back to the heap */
#define REFUSED_LINES 10u          /* log lines about refused peers a second */

unsigned real_stream_dead_ms = 30000;

static void dirty_add(struct real_stream *s)
{
    struct real_env *env = real_env_of(s->base.env);

    if (s->is_dirty)
        return;
    s->is_dirty = true;
    s->next_dirty = env->dirty;
    s->prev_dirty = &env->dirty;
    if (env->dirty != NULL)
        env->dirty->prev_dirty = &s->next_dirty;
    env->dirty = s;
    real_env_wake(env);
}

static void dirty_remove(struct real_stream *s)
{
    if (!s->is_dirty)
        return;
    s->is_dirty = false;
    *s->prev_dirty = s->next_dirty;
    if (s->next_dirty != NULL)
        s->next_dirty->prev_dirty = s->prev_dirty;
}

static size_t unsealed(const struct real_stream *s);
static loch_status seal_some(struct real_stream *s);

/* ---- plaintext: rows, and in some messages keys ---- */
static void wipe_fini(struct loch_buf *buf)
{
    if (buf->data != NULL)
        loch_wipe(buf->data, buf->len);
    loch_buf_fini(buf);
}

/* As loch_buf_consume; nothing of what was taken, or stood behind it, is left. */
static void wipe_consume(struct loch_buf *buf, size_t n)
{
    const size_t was = buf->len;
    loch_buf_consume(buf, n);
    if (n > 0)
        loch_wipe(buf->data + buf->len, was - buf->len);
}

/* ---- memory: a stream that rests has none ---- */
static void give_back(struct loch_buf *spare, struct loch_buf *empty)
{
    if (spare->cap == 0 && empty->cap <= SPARE_BYTES) {
        *spare = *empty;
        *empty = (struct loch_buf){0};
    } else {
        loch_buf_fini(empty);
    }
}

static void take_spare(struct loch_buf *spare, struct loch_buf *buf)
{
    if (buf->cap > 0)
        return;
    *buf = *spare;
    *spare = (struct loch_buf){0};
}

/* ---- birth and death ---- */
static void stream_free(struct real_stream *s)
{
    loch_tls_destroy(s->tls);
    wipe_fini(&s->plain);
    wipe_fini(&s->queue);
    loch_buf_fini(&s->wire);
    loch_buf_fini(&s->flight);
    free(s);
}

void stream_handle_gone(struct real_stream *s)
{
    if (--s->handles > 0)
        return;
    bool dying = real_env_of(s->base.env)->dying;
    loch_status st = s->end;
    if (!loch_is_ok(st))
        st = LOCH_FAIL(st.code, "%s", s->end_text);
    if (!dying && s->connected != NULL)
        s->connected(s->connected_arg, st, NULL);
    else if (!dying && s->base.events != NULL)
        s->base.events->closed(s->base.arg, st);
    stream_free(s);
}

static void handle_closed(uv_handle_t *handle)
{
    stream_handle_gone(((struct real_owner *)handle->data)->self);
}

/* Bytes that the kernel has not sent: the peer's window, or the network's, is full. */
static bool has_unsent(const struct real_stream *s)
{
    uv_os_fd_t fd;
    int bytes = 0;

    return uv_fileno((const uv_handle_t *)&s->tcp, &fd) == 0 &&
           ioctl(fd, SIOCOUTQNSD, &bytes) == 0 && bytes > 0;
}

void stream_end(struct real_stream *s, loch_status st)
{
    bool was_open = s->state == STREAM_OPEN;
    if (s->state == STREAM_CLOSING)
        return;
    s->state = STREAM_CLOSING;
    s->end = st;
    if (!loch_is_ok(st)) {
        size_t n = strnlen(loch_error_text(), sizeof s->end_text - 1);
        memcpy(s->end_text, loch_error_text(), n);
    }
    dirty_remove(s);
    stream_leave_listener(s);
    /* What can go at once goes: an error message, a TLS alert. */
    if (was_open && !s->in_flight && unsealed(s) > 0 && !loch_is_ok(seal_some(s)))
        s->wire.len = 0;
    if (was_open && !s->in_flight && unsealed(s) == 0)
        (void)loch_tls_close(s->tls, &s->wire).code;
    if (!s->in_flight && s->wire.len > 0) {
        uv_buf_t last = uv_buf_init((char *)s->wire.data, (unsigned)s->wire.len);
        (void)uv_try_write((uv_stream_t *)&s->tcp, &last, 1);
    }
    if (s->is_resolving)
        (void)uv_cancel((uv_req_t *)&s->resolving);
    if (!s->is_cut || !has_unsent(s) || uv_tcp_close_reset(&s->tcp, handle_closed) != 0)
        uv_close((uv_handle_t *)&s->tcp, handle_closed);
    uv_close((uv_handle_t *)&s->timer, handle_closed);
}

/* At loch_env_real_destroy. */
static void end_owner(void *self)
{
    stream_end(self, LOCH_OK);
}

loch_status stream_create(struct real_env *env, struct real_stream **out)
{
    struct real_stream *s = calloc(1, sizeof *s);

    if (s == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a stream");
    s->base.env = &env->base;
    s->owner = (struct real_owner){s, end_owner};
    s->want_read = true;
    s->handles = 2;
    LOCH_ASSERT(uv_tcp_init(&env->loop, &s->tcp) == 0);
    LOCH_ASSERT(uv_timer_init(&env->loop, &s->timer) == 0);
    s->tcp.data = &s->owner;
    s->timer.data = &s->owner;
    *out = s;
    return LOCH_OK;
}

void stream_no_delay(struct real_stream *s)
{
    const int interval_s = 5;
    const int count = 4;
    uv_os_fd_t fd;

    (void)uv_tcp_nodelay(&s->tcp, 1);
    (void)uv_tcp_keepalive(&s->tcp, 1, 10);
    if (uv_fileno((uv_handle_t *)&s->tcp, &fd) != 0)
        return;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

/* Keepalive finds a dead peer only while nothing is under way, and TCP_USER_TIMEOUT would also end
 * a stream whose living peer does not read for a while. So: several retransmissions or window
 * probes without an answer, and no acknowledgement for long. */
static void look_at_peer(uv_timer_t *timer)
{
    struct real_stream *s = ((struct real_owner *)timer->data)->self;
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    uv_os_fd_t fd;

    if (s->state != STREAM_OPEN || uv_fileno((uv_handle_t *)&s->tcp, &fd) != 0 ||
        getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0)
        return;
    bool unanswered = info.tcpi_retransmits >= 4 || info.tcpi_probes >= 4;
    if (unanswered && info.tcpi_last_ack_recv > real_stream_dead_ms)
        stream_end(s, LOCH_FAIL(LOCH_E_UNAVAILABLE, "%s does not answer for %u ms", s->peer,
                                info.tcpi_last_ack_recv));
}

void stream_watch_peer(struct real_stream *s)
{
    uint64_t period_ms = real_stream_dead_ms / 3;

    LOCH_ASSERT(uv_timer_start(&s->timer, look_at_peer, period_ms, period_ms) == 0);
}

void real_on_refused(struct loch_env *base, loch_refused_fn fn, void *arg)
{
    struct real_env *env = real_env_of(base);

    env->refused = fn;
    env->refused_arg = arg;
}

void stream_log_refused(struct real_stream *s, const char *why)
{
    struct real_env *env = real_env_of(s->base.env);
    uint64_t second = env->base.ops->now_ns(&env->base) / UINT64_C(1000000000);

    if (env->refused != NULL)
        env->refused(env->refused_arg, s->state == STREAM_OPEN, s->peer);
    if (second != env->log_second) {
        if (env->log_dropped > 0)
            LOCH_WARN("%u more peers were refused", env->log_dropped);
        env->log_second = second;
        env->log_lines = 0;
        env->log_dropped = 0;
    }
    if (env->log_lines >= REFUSED_LINES) {
        env->log_dropped++;
        return;
    }
    env->log_lines++;
    LOCH_WARN("peer %s is refused: %s", s->peer, why);
}

/* ---- writing ---- */
static void written(uv_write_t *write, int status)
{
    struct real_stream *s = write->data;

    s->in_flight = false;
    s->flight.len = 0;
    give_back(&real_env_of(s->base.env)->spare_wire, &s->flight);
    if (s->state == STREAM_CLOSING)
        return;
    if (status != 0) {
        stream_end(s, LOCH_FAIL(LOCH_E_UNAVAILABLE, "cannot write to %s: %s", s->peer,
                                uv_strerror(status)));
        return;
    }
    dirty_add(s); /* more may have been queued; else `drained` is due */
}

/* Hands s->wire to the kernel; what it does not take goes in flight. False: the stream has ended.
 */
static bool write_wire(struct real_stream *s)
{
    uv_buf_t buf = uv_buf_init((char *)s->wire.data, (unsigned)s->wire.len);
    int n = uv_try_write((uv_stream_t *)&s->tcp, &buf, 1);

    if (n < 0 && n != UV_EAGAIN) {
        stream_end(
            s, LOCH_FAIL(LOCH_E_UNAVAILABLE, "cannot write to %s: %s", s->peer, uv_strerror(n)));
        return false;
    }
    if (n > 0)
        loch_buf_consume(&s->wire, (size_t)n);
    if (s->wire.len == 0) {
        give_back(&real_env_of(s->base.env)->spare_wire, &s->wire);
        return true;
    }
    s->flight = s->wire;
    s->wire = (struct loch_buf){0};
    buf = uv_buf_init((char *)s->flight.data, (unsigned)s->flight.len);
    s->write.data = s;
    int rc = uv_write(&s->write, (uv_stream_t *)&s->tcp, &buf, 1, written);
    if (rc != 0) {
        stream_end(
            s, LOCH_FAIL(LOCH_E_UNAVAILABLE, "cannot write to %s: %s", s->peer, uv_strerror(rc)));
        return false;
    }
    s->in_flight = true;
    return true;
}

static size_t unsealed(const struct real_stream *s)
{
    return s->queue.len - s->queue_at;
}

/* Seals the next piece of the queue into s->wire. */
static loch_status seal_some(struct real_stream *s)
{
    size_t n = unsealed(s) < SEAL_BYTES ? unsealed(s) : SEAL_BYTES;

    struct real_env *env = real_env_of(s->base.env);

    take_spare(&env->spare_wire, &s->wire);
    LOCH_TRY(loch_tls_tick(s->tls, loch_env_now_ns(s->base.env), &s->wire));
    LOCH_TRY(loch_tls_send(s->tls, loch_slice_of(s->queue.data + s->queue_at, n), &s->wire));
    s->queue_at += n;
    if (unsealed(s) == 0) {
        wipe_consume(&s->queue, s->queue.len);
        s->queue_at = 0;
        give_back(&env->spare_queue, &s->queue);
    } else if (s->queue_at > s->queue.len / 2) {
        wipe_consume(&s->queue, s->queue_at);
        s->queue_at = 0;
    }
    return LOCH_OK;
}

/* Seals and writes what is queued, until the kernel takes no more. False: the stream has ended. */
static bool push_out(struct real_stream *s)
{
    while (!s->in_flight) {
        if (s->state == STREAM_OPEN && unsealed(s) > 0) {
            loch_status st = seal_some(s);
            if (!loch_is_ok(st)) {
                stream_end(s, st);
                return false;
            }
        }
        if (s->wire.len == 0)
            break;
        if (!write_wire(s))
            return false;
    }
    return true;
}

static void stream_flush(struct real_stream *s)
{
    if (s->state == STREAM_CONNECTING || s->state == STREAM_CLOSING || !push_out(s))
        return;
    if (!s->in_flight && unsealed(s) == 0 && s->owes_drained) {
        s->owes_drained = false;
        if (s->base.events != NULL && s->base.events->drained != NULL)
            s->base.events->drained(s->base.arg);
    }
}

/* Into the queue, with the queue's memory back where it is empty. */
void real_stream_trade(struct loch_stream *stream, struct loch_buf *frames)
{
    struct real_stream *s = real_stream_of(stream);

    if (s->state == STREAM_CLOSING || frames->len == 0) {
        wipe_consume(frames, frames->len);
        return;
    }
    /* Rather than copy much behind much, what is there goes first; the peer has it sooner, too. */
    if (s->state == STREAM_OPEN && unsealed(s) >= PUSH_BYTES && !push_out(s)) {
        wipe_consume(frames, frames->len);
        return;
    }
    if (unsealed(s) == 0) { /* and so it has no memory */
        s->queue = *frames;
        *frames = (struct loch_buf){0};
        take_spare(&real_env_of(s->base.env)->spare_queue, frames);
    } else {
        loch_status st = loch_buf_append(&s->queue, frames->data, frames->len);
        wipe_consume(frames, frames->len);
        if (!loch_is_ok(st)) {
            stream_end(s, st);
            return;
        }
    }
    s->owes_drained = true;
    if (!s->in_flight)
        dirty_add(s);
}

void real_stream_send(struct loch_stream *stream, struct loch_buf *take_frames)
{
    real_stream_trade(stream, take_frames);
    loch_buf_fini(take_frames); /* what came back */
}

size_t real_stream_queued(const struct loch_stream *stream)
{
    const struct real_stream *s = real_stream_of(stream);

    return unsealed(s) + s->wire.len + (s->in_flight ? s->flight.len : 0);
}

/* ---- reading ---- */
static void give_bytes(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct real_stream *s = ((struct real_owner *)handle->data)->self;
    struct real_env *env = real_env_of(s->base.env);

    (void)suggested;
    /* Shared by all streams: libuv fills it and calls got_bytes at once. */
    *buf = uv_buf_init((char *)env->read_bytes, sizeof env->read_bytes);
}

/* Hands out whole frames while the owner wants them. */
static void give_frames(struct real_stream *s)
{
    bool any = false;
    if (s->in_frames)
        return;
    s->in_frames = true;
    while (s->state == STREAM_OPEN && s->want_read) {
        struct loch_slice rest =
            loch_slice_of(s->plain.data + s->plain_at, s->plain.len - s->plain_at);
        bool found = false;
        uint8_t type = 0;
        struct loch_slice payload = {0};
        size_t consumed = 0;
        loch_status st = LOCH_OK;
        if (rest.len > 0)
            st = loch_frame_next(rest, &found, &type, &payload, &consumed);
        if (loch_is_ok(st) && !found)
            break;
        if (!loch_is_ok(st)) {
            char why[200];
            (void)snprintf(why, sizeof why, "%s", loch_error_text());
            stream_log_refused(s, why);
            st = LOCH_FAIL(st.code, "%s", why);
        }
        s->plain_at += consumed;
        any = true;
        if (loch_is_ok(st) && s->base.events != NULL)
            st = s->base.events->frame(s->base.arg, type, payload);
        if (!loch_is_ok(st))
            stream_end(s, st);
    }
    if (any && s->state == STREAM_OPEN && s->base.events != NULL && s->base.events->given != NULL)
        s->base.events->given(s->base.arg);
    wipe_consume(&s->plain, s->plain_at);
    s->plain_at = 0;
    if (s->plain.len == 0 && s->plain.cap > SEAL_BYTES)
        loch_buf_fini(&s->plain);
    s->in_frames = false;
}

static void peer_gone(struct real_stream *s, ssize_t n)
{
    if (n != UV_EOF)
        stream_end(
            s, LOCH_FAIL(LOCH_E_UNAVAILABLE, "connection to %s: %s", s->peer, uv_strerror((int)n)));
    else if (s->state != STREAM_OPEN)
        stream_end(s, LOCH_FAIL(LOCH_E_UNAVAILABLE, "%s hung up during the handshake", s->peer));
    else if (s->plain.len > s->plain_at && s->want_read)
        stream_end(s, LOCH_FAIL(LOCH_E_UNAVAILABLE, "%s hung up inside a message", s->peer));
    else
        stream_end(s, LOCH_OK);
}

/* Ciphertext in; wire bytes, frames and changes of state out. */
static void take_cipher(struct real_stream *s, struct loch_slice cipher)
{
    bool closed = false;
    bool greeting = s->state == STREAM_HANDSHAKE;
    loch_status st = loch_tls_receive(s->tls, cipher, &s->plain, &s->wire, &closed);

    if (!loch_is_ok(st)) {
        char why[200];
        size_t n = strnlen(loch_error_text(), sizeof why - 1);
        memcpy(why, loch_error_text(), n);
        why[n] = '\0';
        if (s->connected == NULL)
            stream_log_refused(s, why);
        stream_end(s, LOCH_FAIL(st.code, "TLS with %s: %s", s->peer, why));
        return;
    }
    if (s->wire.len > 0)
        dirty_add(s);
    if (greeting && loch_tls_ready(s->tls))
        stream_opened(s);
    if (s->state == STREAM_OPEN)
        give_frames(s);
    if (closed && s->state != STREAM_CLOSING)
        peer_gone(s, UV_EOF);
}

static void got_bytes(uv_stream_t *tcp, ssize_t n, const uv_buf_t *buf)
{
    struct real_stream *s = ((struct real_owner *)tcp->data)->self;

    if (s->state == STREAM_CLOSING || n == 0)
        return;
    if (n < 0)
        peer_gone(s, n);
    else
        take_cipher(s, loch_slice_of(buf->base, (size_t)n));
}

static void set_reading(struct real_stream *s)
{
    bool on = s->state == STREAM_HANDSHAKE || (s->state == STREAM_OPEN && s->want_read);

    if (s->state == STREAM_CLOSING || s->state == STREAM_CONNECTING || on == s->is_reading)
        return;
    s->is_reading = on;
    if (on)
        LOCH_ASSERT(uv_read_start((uv_stream_t *)&s->tcp, give_bytes, got_bytes) == 0);
    else
        (void)uv_read_stop((uv_stream_t *)&s->tcp);
}

void real_stream_read(struct loch_stream *stream, bool on)
{
    struct real_stream *s = real_stream_of(stream);

    if (s->want_read == on || s->state == STREAM_CLOSING)
        return;
    s->want_read = on;
    set_reading(s);
    if (on && s->plain.len > 0)
        dirty_add(s); /* frames that lie here already */
}

void stream_begin(struct real_stream *s)
{
    s->state = STREAM_HANDSHAKE;
    set_reading(s);
    if (s->connected != NULL) /* the client speaks first */
        take_cipher(s, loch_slice_of(NULL, 0));
}

/* ---- the face's other steps ---- */
void real_streams_flush(struct real_env *env)
{
    struct real_stream *s = env->dirty;

    /* Those that become dirty again meanwhile come in the next turn: the list is taken as it is. */
    env->dirty = NULL;
    if (s != NULL)
        s->prev_dirty = &s;
    while (s != NULL) {
        struct real_stream *one = s;
        dirty_remove(one);
        stream_flush(one);
        if (one->state == STREAM_OPEN && one->want_read && one->plain.len > 0)
            give_frames(one);
    }
}

struct loch_slice real_stream_identity(const struct loch_stream *stream)
{
    return loch_tls_identity(real_stream_of(stream)->tls);
}

void real_stream_close(struct loch_stream *stream)
{
    stream_end(real_stream_of(stream), LOCH_OK);
}

void real_stream_cut(struct loch_stream *stream)
{
    struct real_stream *s = real_stream_of(stream);

    s->is_cut = true;
    stream_end(s, LOCH_OK);
}
