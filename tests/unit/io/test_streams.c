/* Streams: TLS over loopback, order and completeness of frames, backpressure, every way to end. */
#include "../unit.h"

#include "loch/base/frame.h"
#include "loch/crypto/tls.h"
#include "loch/io/env.h"

#include "real_stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the machine may take for what it does in a moment. */
#define LONG_MS 120000u

static char address[32]; /* of our listener, on a port that was free */
static uint16_t port;
static struct loch_env *env;
static struct loch_tls_server *server_tls;
static struct loch_tls_client *client_tls;
static struct loch_tls_client *stranger_tls; /* the right identity, a wrong key */
static struct loch_listener *listener;
static struct loch_secret psk;

static bool find_psk(void *arg, struct loch_slice identity, struct loch_secret *out)
{
    (void)arg;
    if (identity.len != 5 || memcmp(identity.data, "alice", 5) != 0)
        return false;
    return loch_is_ok(loch_secret_copy(out, &psk));
}

static void stop(void *arg)
{
    (void)arg;
    loch_env_stop(env);
}

static void give_up(void *arg)
{
    (void)arg;
    fail_msg("not done in time");
}

static void run_for(uint64_t limit_ms)
{
    struct loch_timer *limit = NULL;
    assert_ok(loch_env_timer(env, limit_ms, &limit, give_up, NULL));
    loch_env_run(env);
    loch_timer_cancel(limit);
}

static void run_a_while(uint64_t ms)
{
    struct loch_timer *t = NULL;
    assert_ok(loch_env_timer(env, ms, &t, stop, NULL));
    loch_env_run(env);
}

/* Until it is so: two minutes at most, for the machine may have other things to do. */
#define RUN_UNTIL(condition_)                                                                      \
    for (int turns_ = 0; turns_ < 12000 && !(condition_); turns_++)                                \
    run_a_while(10)

/* A socket on a free port of its own, on which nobody listens yet. */
static int bound_socket(uint16_t *out)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof sa;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    *out = ntohs(sa.sin_port);
    return fd;
}

static void frames_of(struct loch_buf *out, uint8_t type, const void *bytes, size_t len)
{
    struct loch_writer w;
    loch_writer_init(&w, out);
    size_t mark = loch_frame_begin(&w, type);
    loch_write_bytes(&w, bytes, len);
    loch_frame_end(&w, mark);
    assert_ok(loch_writer_finish(&w));
}

/* ---- the server: echoes each frame with type + 1 ---- */
struct served {
    struct loch_stream *stream;
    bool quiet; /* takes, but does not echo */
};

static unsigned accepted_count;
static unsigned served_closed;
static unsigned served_frames;
static unsigned served_given;        /* times that all there was had been given */
static unsigned served_given_frames; /* frames until the last of them */
static loch_status served_end;
static struct served *last_served;
static bool serve_quietly;

static loch_status serve_frame(void *arg, uint8_t type, struct loch_slice payload)
{
    struct served *c = arg;
    struct loch_buf out = {0};
    served_frames++;
    if (type == 99)
        return LOCH_FAIL(LOCH_E_INVALID, "type 99 is not for me");
    if (type == 98) { /* says why, then fails */
        frames_of(&out, 31, "because", 7);
        loch_stream_send(c->stream, &out);
        return LOCH_FAIL(LOCH_E_INVALID, "type 98");
    }
    if (c->quiet)
        return LOCH_OK;
    frames_of(&out, (uint8_t)(type + 1), payload.data, payload.len);
    loch_stream_send(c->stream, &out);
    assert_null(out.data);
    return LOCH_OK;
}

static void serve_closed(void *arg, loch_status st)
{
    served_closed++;
    served_end = st;
    free(arg);
    last_served = NULL;
    if (serve_quietly)
        loch_env_stop(env);
}

static void serve_given(void *arg)
{
    (void)arg;
    served_given++;
    assert_true(served_frames > served_given_frames);
    served_given_frames = served_frames;
}

static const struct loch_stream_events serve_events = {
    .frame = serve_frame, .closed = serve_closed, .given = serve_given};

static void accepted(void *arg, struct loch_stream *stream)
{
    struct served *c = calloc(1, sizeof *c);
    (void)arg;
    assert_non_null(c);
    assert_int_equal(loch_stream_identity(stream).len, 5);
    assert_memory_equal(loch_stream_identity(stream).data, "alice", 5);
    c->stream = stream;
    c->quiet = serve_quietly;
    accepted_count++;
    last_served = c;
    loch_stream_attach(stream, &serve_events, c);
}

/* Somebody else may take the port between our asking for it and using it. */
static void listen_anywhere(void)
{
    loch_status st = LOCH_OK;

    for (int tries = 0; tries < 20; tries++) {
        (void)close(bound_socket(&port));
        (void)snprintf(address, sizeof address, "127.0.0.1:%u", port);
        st = loch_env_listen(env, address, server_tls, &listener, accepted, NULL);
        if (loch_is_ok(st))
            break;
    }
    assert_ok(st);
}

static int begin(void **state)
{
    struct loch_secret wrong = {0};
    (void)state;
    accepted_count = served_closed = served_frames = served_given = served_given_frames = 0;
    serve_quietly = false;
    served_end = LOCH_OK;
    assert_ok(loch_env_real_create(&env));
    assert_ok(loch_secret_create(&psk, LOCH_PSK_BYTES));
    assert_ok(loch_secret_create(&wrong, LOCH_PSK_BYTES));
    memset(psk.bytes, 7, psk.len);
    memset(wrong.bytes, 8, wrong.len);
    assert_ok(loch_tls_server_create(find_psk, NULL, &server_tls));
    assert_ok(loch_tls_client_create(loch_slice_of("alice", 5), &psk, &client_tls));
    assert_ok(loch_tls_client_create(loch_slice_of("alice", 5), &wrong, &stranger_tls));
    loch_secret_fini(&wrong);
    listen_anywhere();
    return 0;
}

static int end(void **state)
{
    (void)state;
    loch_listener_close(listener);
    loch_env_real_destroy(env);
    loch_tls_server_destroy(server_tls);
    loch_tls_client_destroy(client_tls);
    loch_tls_client_destroy(stranger_tls);
    loch_secret_fini(&psk);
    return 0;
}

/* ---- the client ---- */
struct client {
    struct loch_stream *stream;
    loch_status connect_st;
    loch_status end_st;
    char why[256];
    unsigned connected, closed, frames, drained;
    size_t bytes;
    uint64_t next;    /* of the numbered frames expected back */
    unsigned stop_at; /* frames after which the loop stops */
    uint8_t last_type;
};

static loch_status client_frame(void *arg, uint8_t type, struct loch_slice payload)
{
    struct client *c = arg;
    c->last_type = type;
    c->bytes += payload.len;
    c->frames++;
    if (payload.len >= 8 && type == 2) {
        assert_true(loch_get_u64(payload.data) == c->next);
        c->next++;
    }
    if (c->frames == c->stop_at)
        loch_env_stop(env);
    return LOCH_OK;
}

static void client_closed(void *arg, loch_status st)
{
    struct client *c = arg;
    c->closed++;
    c->end_st = st;
    (void)snprintf(c->why, sizeof c->why, "%s", loch_is_ok(st) ? "" : loch_error_text());
    c->stream = NULL;
    loch_env_stop(env);
}

static void client_drained(void *arg)
{
    struct client *c = arg;
    c->drained++;
}

static const struct loch_stream_events client_events = {
    .frame = client_frame, .closed = client_closed, .drained = client_drained};

static void client_connected(void *arg, loch_status st, struct loch_stream *stream)
{
    struct client *c = arg;
    c->connected++;
    c->connect_st = st;
    c->stream = stream;
    if (loch_is_ok(st))
        loch_stream_attach(stream, &client_events, c);
    else
        (void)snprintf(c->why, sizeof c->why, "%s", loch_error_text());
    loch_env_stop(env);
}

static void open_client(struct client *c)
{
    assert_ok(loch_env_connect(env, address, client_tls, LONG_MS, client_connected, c));
    assert_int_equal(c->connected, 0);
    run_for(LONG_MS);
    assert_int_equal(c->connected, 1);
    if (c->stream == NULL)
        fail_msg("%s", c->why);
}

static void send_numbered(struct client *c, uint64_t n, size_t len)
{
    struct loch_buf out = {0};
    uint8_t *bytes = calloc(1, len);
    assert_non_null(bytes);
    loch_put_u64(bytes, n);
    frames_of(&out, 1, bytes, len);
    loch_stream_send(c->stream, &out);
    free(bytes);
}

static void close_client(struct client *c)
{
    loch_stream_close(c->stream);
    loch_stream_close(c->stream);
    assert_int_equal(c->closed, 0); /* later, not now */
    run_for(LONG_MS);
    assert_int_equal(c->closed, 1);
    assert_ok(c->end_st);
}

static void echo_many_frames(void **state)
{
    struct client c = {0};
    (void)state;
    open_client(&c);
    c.stop_at = 3000;
    for (uint64_t i = 0; i < 3000; i++)
        send_numbered(&c, i, 8 + i % 100);
    assert_true(loch_stream_queued(c.stream) > 3000 * 8);
    run_for(LONG_MS);
    assert_int_equal(c.frames, 3000);
    assert_int_equal(served_given_frames, 3000);
    assert_in_range(served_given, 1, 1500); /* many at a time */
    assert_int_equal(loch_stream_queued(c.stream), 0);
    assert_true(c.drained >= 1);
    close_client(&c);
    RUN_UNTIL(served_closed == 1);
    assert_int_equal(served_closed, 1);
    assert_ok(served_end);
}

/* A sender that keeps its buffer gets it back empty and wiped; what it sent comes in order. */
static void traded_buffers(void **state)
{
    struct client c = {0};
    struct loch_buf frames = {0};
    uint8_t bytes[3000];
    (void)state;
    open_client(&c);
    for (c.stop_at = 1; c.stop_at <= 300; c.stop_at++) {
        memset(bytes, 0xa5, sizeof bytes);
        loch_put_u64(bytes, c.stop_at - 1);
        frames_of(&frames, 1, bytes, sizeof bytes);
        loch_stream_trade(c.stream, &frames);
        assert_int_equal(frames.len, 0);
        assert_true(frames.cap < 3000 || memmem(frames.data, 3000, bytes + 8, 64) == NULL);
        if (c.stop_at % 3 == 0)
            run_for(LONG_MS);
    }
    assert_int_equal(c.frames, 300);
    loch_buf_fini(&frames);
    close_client(&c);
}

static void echo_large_frames(void **state)
{
    struct client c = {0};
    (void)state;
    open_client(&c);
    c.stop_at = 12;
    for (uint64_t i = 0; i < 12; i++)
        send_numbered(&c, i, LOCH_FRAME_MAX_BYTES - 1);
    run_for(LONG_MS);
    assert_int_equal(c.frames, 12);
    assert_true(c.bytes == (size_t)12 * (LOCH_FRAME_MAX_BYTES - 1));
    close_client(&c);
}

static unsigned sum_of(const struct client *c, size_t count, bool frames)
{
    unsigned n = 0;
    for (size_t i = 0; i < count; i++)
        n += frames ? (unsigned)c[i].frames : (unsigned)c[i].connected;
    return n;
}

static void many_connections(void **state)
{
    enum { MANY = 60 };
    static struct client c[MANY];
    (void)state;
    memset(c, 0, sizeof c);
    for (size_t i = 0; i < MANY; i++)
        assert_ok(loch_env_connect(env, address, client_tls, LONG_MS, client_connected, &c[i]));
    while (sum_of(c, MANY, false) < MANY)
        run_for(LONG_MS);
    for (size_t i = 0; i < MANY; i++) {
        assert_non_null(c[i].stream);
        c[i].stop_at = 10;
        for (uint64_t n = 0; n < 10; n++)
            send_numbered(&c[i], n, 1000);
    }
    while (sum_of(c, MANY, true) < MANY * 10)
        run_for(LONG_MS);
    for (size_t i = 0; i < MANY; i++)
        loch_stream_close(c[i].stream);
    RUN_UNTIL(served_closed == MANY);
    assert_int_equal(accepted_count, MANY);
    assert_int_equal(served_closed, MANY);
    for (size_t i = 0; i < MANY; i++)
        assert_int_equal(c[i].closed, 1);
}

/* A reader that does not read: the sender's queue stays, and comes through once it does. */
static void slow_reader(void **state)
{
    struct client c = {0};
    enum { FRAMES = 64, LEN = 1 << 20 };
    (void)state;
    serve_quietly = true;
    open_client(&c);
    RUN_UNTIL(last_served != NULL);
    assert_non_null(last_served);
    loch_stream_read(last_served->stream, false);
    for (uint64_t i = 0; i < FRAMES; i++)
        send_numbered(&c, i, LEN);
    run_a_while(300);
    assert_int_equal(served_frames, 0);
    assert_true(loch_stream_queued(c.stream) > (size_t)FRAMES * LEN / 2);
    assert_int_equal(c.drained, 0);
    loch_stream_read(last_served->stream, true);
    RUN_UNTIL(served_frames == FRAMES && c.drained > 0);
    assert_int_equal(served_frames, FRAMES);
    assert_int_equal(loch_stream_queued(c.stream), 0);
    assert_int_equal(c.drained, 1);
    close_client(&c);
}

/* Pausing inside a frame callback holds back the frames that have already arrived. */
static unsigned paused_frames;

static loch_status pause_frame(void *arg, uint8_t type, struct loch_slice payload)
{
    struct client *c = arg;
    (void)type;
    (void)payload;
    if (++paused_frames % 2 == 0)
        loch_stream_read(c->stream, false);
    return LOCH_OK;
}

static void pause_inside_a_frame(void **state)
{
    static const struct loch_stream_events events = {.frame = pause_frame, .closed = client_closed};
    struct client c = {0};
    (void)state;
    paused_frames = 0;
    open_client(&c);
    loch_stream_attach(c.stream, &events, &c);
    for (uint64_t i = 0; i < 6; i++)
        send_numbered(&c, i, 10);
    RUN_UNTIL(paused_frames == 2);
    run_a_while(50); /* and no more come */
    assert_int_equal(paused_frames, 2);
    loch_stream_read(c.stream, true);
    assert_int_equal(paused_frames, 2); /* not before the call returns */
    RUN_UNTIL(paused_frames == 4);
    run_a_while(50);
    assert_int_equal(paused_frames, 4);
    loch_stream_read(c.stream, true);
    RUN_UNTIL(paused_frames == 6);
    assert_int_equal(paused_frames, 6);
    close_client(&c);
}

static void frame_refused(void **state)
{
    struct client c = {0};
    struct loch_buf out = {0};
    (void)state;
    open_client(&c);
    frames_of(&out, 99, "x", 1);
    loch_stream_send(c.stream, &out);
    run_for(LONG_MS);
    assert_int_equal(c.closed, 1);
    RUN_UNTIL(served_closed == 1);
    assert_int_equal(served_closed, 1);
    assert_code(served_end, LOCH_E_INVALID);
}

static void last_words_arrive(void **state)
{
    struct client c = {0};
    struct loch_buf out = {0};
    (void)state;
    open_client(&c);
    frames_of(&out, 98, "x", 1);
    loch_stream_send(c.stream, &out);
    run_for(LONG_MS);
    assert_int_equal(c.closed, 1);
    assert_int_equal(c.frames, 1);
    assert_int_equal(c.last_type, 31);
}

/* A frame that claims to be too long ends the stream. */
static void absurd_frame(void **state)
{
    struct client c = {0};
    struct loch_buf out = {0};
    (void)state;
    open_client(&c);
    assert_ok(loch_buf_append(&out, "\xff\xff\xff\xff\x01", 5));
    loch_stream_send(c.stream, &out);
    run_for(LONG_MS);
    assert_int_equal(c.closed, 1);
    RUN_UNTIL(served_closed == 1);
    assert_code(served_end, LOCH_E_CORRUPT);
}

static void connect_refused(void **state)
{
    struct client c = {0};
    char closed[32];
    uint16_t closed_port;
    (void)state;
    int fd = bound_socket(&closed_port);
    (void)snprintf(closed, sizeof closed, "127.0.0.1:%u", closed_port);
    assert_ok(loch_env_connect(env, closed, client_tls, LONG_MS, client_connected, &c));
    run_for(LONG_MS);
    (void)close(fd);
    assert_code(c.connect_st, LOCH_E_UNAVAILABLE);
    assert_null(c.stream);
    assert_non_null(strstr(c.why, closed));
    assert_code(loch_env_connect(env, "nonsense", client_tls, 1, client_connected, &c),
                LOCH_E_INVALID);
    assert_code(loch_env_connect(env, "127.0.0.1:99999", client_tls, 1, client_connected, &c),
                LOCH_E_INVALID);
    assert_code(loch_env_connect(env, ":5", client_tls, 1, client_connected, &c), LOCH_E_INVALID);
    assert_code(loch_env_connect(env, "1:2:3:5", client_tls, 1, client_connected, &c),
                LOCH_E_INVALID);
    assert_int_equal(c.connected, 1);
}

static void names_are_resolved(void **state)
{
    struct client c = {0};
    char local[32];
    (void)state;
    (void)snprintf(local, sizeof local, "localhost:%u", port);
    assert_ok(loch_env_connect(env, local, client_tls, LONG_MS, client_connected, &c));
    run_for(LONG_MS);
    /* localhost may be ::1 first, where nobody listens. */
    if (c.stream != NULL)
        close_client(&c);
    else
        assert_code(c.connect_st, LOCH_E_UNAVAILABLE);
    memset(&c, 0, sizeof c);
    assert_ok(
        loch_env_connect(env, "no-such-host.invalid:1", client_tls, 3000, client_connected, &c));
    run_for(LONG_MS);
    assert_code(c.connect_st, LOCH_E_UNAVAILABLE);
    assert_non_null(strstr(c.why, "no-such-host.invalid"));
}

static void listen_twice(void **state)
{
    struct loch_listener *second = NULL;
    (void)state;
    assert_code(loch_env_listen(env, address, server_tls, &second, accepted, NULL), LOCH_E_IO);
    assert_non_null(strstr(loch_error_text(), address));
    assert_code(loch_env_listen(env, "localhost:1", server_tls, &second, accepted, NULL),
                LOCH_E_INVALID);
}

static void wrong_key(void **state)
{
    struct client c = {0};
    (void)state;
    assert_ok(loch_env_connect(env, address, stranger_tls, 5000, client_connected, &c));
    run_for(LONG_MS);
    assert_false(loch_is_ok(c.connect_st));
    assert_null(c.stream);
    assert_int_equal(accepted_count, 0);
}

static int raw_connect(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    return fd;
}

/* Reads what there is. */
static bool has_ended(int fd)
{
    char got[100];
    ssize_t n;

    while ((n = recv(fd, got, sizeof got, MSG_DONTWAIT)) > 0)
        ;
    return n == 0 || (errno != EAGAIN && errno != EINTR);
}

static void garbage(void **state)
{
    char bytes[3000];
    struct client c = {0};
    (void)state;
    for (int round = 0; round < 20; round++) {
        int fd = raw_connect();
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (char)((unsigned)round * 77 + i * 31);
        assert_true(send(fd, bytes, sizeof bytes, MSG_NOSIGNAL) > 0);
        RUN_UNTIL(has_ended(fd)); /* after an alert */
        assert_true(has_ended(fd));
        (void)close(fd);
    }
    int fd = raw_connect(); /* leaves without a word */
    (void)close(fd);
    run_a_while(20);
    assert_int_equal(accepted_count, 0);
    open_client(&c); /* and the server still serves */
    close_client(&c);
}

/* Somebody who connects and says nothing is sent away after five seconds. */
static void silent_peer(void **state)
{
    const uint64_t before = loch_env_now_ns(env);
    int fd = raw_connect();
    (void)state;
    RUN_UNTIL(has_ended(fd));
    assert_true(has_ended(fd));
    assert_true(loch_env_now_ns(env) - before >= UINT64_C(4900000000));
    (void)close(fd);
}

/* A server that accepts TCP and never answers: the client's time-out holds, and is each one's own.
 */
static void silent_server(void **state)
{
    struct client c = {0}, patient = {0};
    char silent[32];
    uint16_t silent_port;
    int fd = bound_socket(&silent_port);
    (void)state;
    assert_int_equal(listen(fd, 2), 0);
    (void)snprintf(silent, sizeof silent, "127.0.0.1:%u", silent_port);
    const uint64_t before = loch_env_now_ns(env);
    assert_ok(loch_env_connect(env, silent, client_tls, 20000, client_connected, &patient));
    assert_ok(loch_env_connect(env, silent, client_tls, 200, client_connected, &c));
    run_for(LONG_MS);
    assert_int_equal(c.connected, 1);
    assert_code(c.connect_st, LOCH_E_UNAVAILABLE);
    assert_true(loch_env_now_ns(env) - before >= UINT64_C(190000000));
    assert_int_equal(patient.connected, 0);
    (void)close(fd);
    run_for(LONG_MS); /* its connection is reset */
    assert_int_equal(patient.connected, 1);
}

/* The peer's process is gone (its kernel resets): closed comes once, sends go nowhere, nothing
 * leaks. */
static void peer_killed(void **state)
{
    struct client c = {0};
    struct loch_buf out = {0};
    (void)state;
    open_client(&c);
    RUN_UNTIL(last_served != NULL);
    loch_stream_close(last_served->stream);
    run_for(LONG_MS);
    assert_int_equal(c.closed, 1);
    assert_null(c.stream);
    RUN_UNTIL(served_closed == 1);
    assert_int_equal(served_closed, 1);
    /* Sending on a stream that is closing is harmless. */
    memset(&c, 0, sizeof c);
    open_client(&c);
    loch_stream_close(c.stream);
    frames_of(&out, 1, "late", 4);
    loch_stream_send(c.stream, &out);
    assert_null(out.data);
    run_for(LONG_MS);
    assert_int_equal(c.closed, 1);
}

/* In a network of our own whose loopback goes down: nothing is answered any more. */
static void set_loopback(bool up)
{
    struct ifreq request = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    request.ifr_flags = up ? IFF_UP | IFF_RUNNING : 0;
    assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &request), 0);
    (void)close(fd);
}

static void vanished_peer_inside(void **state)
{
    (void)state;
    struct client c = {0};
    real_stream_dead_ms = 1500;
    set_loopback(true);
    (void)begin(NULL);
    open_client(&c);
    c.stop_at = 1;
    send_numbered(&c, 0, 100);
    run_for(LONG_MS);
    set_loopback(false);
    const uint64_t before = loch_env_now_ns(env);
    send_numbered(&c, 1, 100);
    c.stop_at = 0;
    run_for(LONG_MS);
    assert_int_equal(c.closed, 1);
    assert_code(c.end_st, LOCH_E_UNAVAILABLE);
    assert_true(loch_env_now_ns(env) - before > UINT64_C(1000000000));
    (void)end(NULL);
}

static void vanished_peer(void **state)
{
    int status = 0;
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        char self[] = "/proc/self/exe";
        char what[] = "vanished";
        char *argv[] = {self, what, NULL};
        if (unshare(CLONE_NEWNET) != 0)
            _exit(77);
        (void)execv(self, argv); /* secrets are not inherited by a fork */
        _exit(1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip(); /* needs to be root */
    assert_int_equal(status, 0);
}

/* A peer that lives but does not read for longer than a dead one would be given keeps its stream.
 */
static void patient_with_a_slow_reader(void **state)
{
    struct client c = {0};
    (void)state;
    real_stream_dead_ms = 1000;
    serve_quietly = true;
    open_client(&c);
    RUN_UNTIL(last_served != NULL);
    loch_stream_read(last_served->stream, false);
    for (uint64_t i = 0; i < 40; i++)
        send_numbered(&c, i, 1 << 20);
    run_a_while(6000);
    assert_int_equal(c.closed, 0);
    loch_stream_read(last_served->stream, true);
    RUN_UNTIL(served_frames == 40);
    assert_int_equal(served_frames, 40);
    close_client(&c);
    real_stream_dead_ms = 30000;
}

/* Streams, timers and connects that are there at the end vanish without events. */
static void destroy_with_everything_open(void **state)
{
    static struct client c;
    static struct client d;
    (void)state;
    memset(&c, 0, sizeof c);
    open_client(&c);
    send_numbered(&c, 0, 1 << 20);
    assert_ok(loch_env_connect(env, address, client_tls, LONG_MS, client_connected, &d));
    struct served *s = last_served;
    loch_listener_close(listener);
    loch_env_real_destroy(env);
    free(s);
    assert_int_equal(c.closed, 0);
    assert_int_equal(d.connected, 0);
    assert_ok(loch_env_real_create(&env));
    assert_ok(loch_env_listen(env, address, server_tls, &listener, accepted, NULL));
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "vanished") == 0) {
        const struct CMUnitTest one[] = {cmocka_unit_test(vanished_peer_inside)};
        return cmocka_run_group_tests(one, NULL, NULL);
    }
#define T(name_) cmocka_unit_test_setup_teardown(name_, begin, end)
    const struct CMUnitTest tests[] = {
        T(echo_many_frames),
        T(traded_buffers),
        T(echo_large_frames),
        T(many_connections),
        T(slow_reader),
        T(pause_inside_a_frame),
        T(frame_refused),
        T(last_words_arrive),
        T(absurd_frame),
        T(connect_refused),
        T(names_are_resolved),
        T(listen_twice),
        T(wrong_key),
        T(garbage),
        T(silent_peer),
        T(silent_server),
        T(peer_killed),
        T(patient_with_a_slow_reader),
        cmocka_unit_test(vanished_peer),
        T(destroy_with_everything_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
