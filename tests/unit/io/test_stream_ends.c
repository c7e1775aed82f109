/* Streams whose peers do nothing: silent ones before they are anybody, and ones that do not read
 * when the stream is cut. */
#include "../kernel_queue.h"
#include "../unit.h"

#include "loch/base/frame.h"
#include "loch/crypto/tls.h"
#include "loch/io/env.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static char address[32];
static uint16_t port;
static struct loch_env *env;
static struct loch_tls_server *server_tls;
static struct loch_tls_client *client_tls;
static struct loch_listener *listener;
static struct loch_stream *served; /* the server's end; NULL: none */
static struct loch_secret psk;

static struct {
    struct loch_stream *stream;
    unsigned frames;
    bool tried, closed;
    loch_status end;
} client;

static bool find_psk(void *arg, struct loch_slice identity, struct loch_secret *out)
{
    (void)arg;
    (void)identity;
    return loch_is_ok(loch_secret_copy(out, &psk));
}

static void stop(void *arg)
{
    (void)arg;
    loch_env_stop(env);
}

static void run_a_while(uint64_t ms)
{
    struct loch_timer *t = NULL;
    assert_ok(loch_env_timer(env, ms, &t, stop, NULL));
    loch_env_run(env);
}

/* Two minutes at most, for the machine may have other things to do. */
#define RUN_UNTIL(condition_)                                                                      \
    do {                                                                                           \
        for (int turns_ = 0; turns_ < 24000 && !(condition_); turns_++)                            \
            run_a_while(5);                                                                        \
        assert_true(condition_);                                                                   \
    } while (0)

static loch_status ignore_frame(void *arg, uint8_t type, struct loch_slice payload)
{
    (void)arg;
    (void)type;
    (void)payload;
    return LOCH_OK;
}

static void served_closed(void *arg, loch_status st)
{
    (void)arg;
    (void)st;
    served = NULL;
}

static void accepted(void *arg, struct loch_stream *stream)
{
    static const struct loch_stream_events events = {.frame = ignore_frame,
                                                     .closed = served_closed};
    (void)arg;
    served = stream;
    loch_stream_attach(stream, &events, NULL);
}

static loch_status client_frame(void *arg, uint8_t type, struct loch_slice payload)
{
    (void)arg;
    (void)type;
    (void)payload;
    client.frames++;
    return LOCH_OK;
}

static void client_closed(void *arg, loch_status st)
{
    (void)arg;
    client.closed = true;
    client.end = st;
    client.stream = NULL;
}

static void client_connected(void *arg, loch_status st, struct loch_stream *stream)
{
    static const struct loch_stream_events events = {.frame = client_frame,
                                                     .closed = client_closed};
    (void)arg;
    client.tried = true;
    client.stream = stream;
    if (loch_is_ok(st))
        loch_stream_attach(stream, &events, NULL);
}

static void open_client(void)
{
    memset(&client, 0, sizeof client);
    assert_ok(loch_env_connect(env, address, client_tls, 120000, client_connected, NULL));
    RUN_UNTIL(client.tried);
    assert_non_null(client.stream);
    RUN_UNTIL(served != NULL);
}

static int begin(void **state)
{
    loch_status st = LOCH_OK;
    (void)state;
    assert_ok(loch_env_real_create(&env));
    assert_ok(loch_secret_create(&psk, LOCH_PSK_BYTES));
    memset(psk.bytes, 7, psk.len);
    assert_ok(loch_tls_server_create(find_psk, NULL, &server_tls));
    assert_ok(loch_tls_client_create(loch_slice_of("alice", 5), &psk, &client_tls));
    for (int tries = 0; tries < 20; tries++) { /* on a port that is free */
        struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof sa;
        const int fd = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
        (void)close(fd);
        port = ntohs(sa.sin_port);
        (void)snprintf(address, sizeof address, "127.0.0.1:%u", port);
        st = loch_env_listen(env, address, server_tls, &listener, accepted, NULL);
        if (loch_is_ok(st))
            break;
    }
    assert_ok(st);
    return 0;
}

static int end(void **state)
{
    (void)state;
    loch_listener_close(listener);
    loch_env_real_destroy(env);
    loch_tls_server_destroy(server_tls);
    loch_tls_client_destroy(client_tls);
    loch_secret_fini(&psk);
    return 0;
}

static void serve_frame(size_t len)
{
    static const uint8_t bytes[1u << 20];
    struct loch_buf out = {0};
    struct loch_writer w;
    loch_writer_init(&w, &out);
    size_t mark = loch_frame_begin(&w, 31);
    loch_write_bytes(&w, bytes, len);
    loch_frame_end(&w, mark);
    assert_ok(loch_writer_finish(&w));
    loch_stream_send(served, &out);
}

/* As many as may be there at once keep nobody out. */
static void silent_peers(void **state)
{
    enum { MANY = 256 };
    struct sockaddr_in sa = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fds[MANY];
    (void)state;
    for (int i = 0; i < MANY; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(fds[i], (struct sockaddr *)&sa, sizeof sa), 0);
        if (i % 32 == 31) /* no more than the kernel keeps for who accepts */
            run_a_while(5);
    }
    open_client();
    for (int i = 0; i < MANY; i++)
        (void)close(fds[i]);
}

static void a_peer_that_reads_hears_the_last_word(void **state)
{
    (void)state;
    open_client();
    serve_frame(1u << 20);
    serve_frame(10);
    RUN_UNTIL(client.frames == 2);
    serve_frame(10);
    loch_stream_cut(served);
    RUN_UNTIL(client.closed && served == NULL);
    assert_int_equal(client.frames, 3);
    assert_ok(client.end);
}

/* What the kernel holds for one that does not read never leaves. */
static void a_peer_that_does_not_read_is_reset(void **state)
{
    (void)state;
    open_client();
    loch_stream_read(client.stream, false);
    for (int i = 0; i < 64; i++)
        serve_frame(1u << 20);
    size_t before = 0;
    do { /* until the kernel takes no more */
        before = loch_stream_queued(served);
        run_a_while(100);
    } while (loch_stream_queued(served) < before);
    assert_true(loch_stream_queued(served) > 0 && kernel_has_bytes_from(port));
    loch_stream_cut(served);
    RUN_UNTIL(served == NULL);
    assert_false(kernel_has_bytes_from(port));
    loch_stream_read(client.stream, true);
    RUN_UNTIL(client.closed);
    assert_code(client.end, LOCH_E_UNAVAILABLE);
}

int main(void)
{
#define T(name_) cmocka_unit_test_setup_teardown(name_, begin, end)
    const struct CMUnitTest tests[] = {
        T(silent_peers),
        T(a_peer_that_reads_hears_the_last_word),
        T(a_peer_that_does_not_read_is_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
