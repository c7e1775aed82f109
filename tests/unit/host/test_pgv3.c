/* PostgreSQL's protocol on a port: libpq with certificates, clear text, garbage, unusable files. */
#include "../kernel_queue.h"
#include "../unit.h"

#include "flush.h"

#include "loch/host/pgv3.h"

#include <arpa/inet.h>
#include <libpq-fe.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define QUEUE_MAX_BYTES (2u << 20) /* the port's own */
#define MUCH_BYTES      (256u << 10)
#define MUCH_COUNT      64u

static struct loch_env *env;
static struct loch_pgv3_port *port;
static char dir[64];
static char address[32];
static char paths[3][128]; /* certificate, key, authority */
static unsigned begun, messages, closes;
static size_t most_queued; /* when a message came */

static loch_status begin(void *arg, struct loch_pgv3_conn *conn, void **state)
{
    (void)arg;
    begun++;
    assert_string_equal(loch_pgv3_peer(conn), "client");
    assert_null(loch_pgv3_param(conn, "no such thing"));
    if (strcmp(loch_pgv3_param(conn, "user"), "friend") != 0)
        return LOCH_FAIL(LOCH_E_DENIED, "friends only");
    *state = conn;
    return LOCH_OK;
}

static void cut(void *state)
{
    loch_pgv3_cut(state);
}

static void send_much(struct loch_pgv3_conn *conn)
{
    static const uint8_t zeros[MUCH_BYTES];
    struct loch_buf out = {0};
    struct loch_writer w;

    loch_writer_init(&w, &out);
    size_t mark = loch_pgv3_begin(&w, 'd');
    loch_write_bytes(&w, zeros, sizeof zeros);
    loch_pgv3_end(&w, mark);
    assert_ok(loch_writer_finish(&w));
    loch_pgv3_send(conn, &out);
}

static void message(void *state, char type, struct loch_slice body)
{
    struct loch_buf out = {0};
    struct loch_writer w;

    messages++;
    assert_int_equal(type, 'Q');
    if (loch_pgv3_queued(state) > most_queued)
        most_queued = loch_pgv3_queued(state);
    if (strcmp((const char *)body.data, "much") == 0) {
        send_much(state);
        return;
    }
    if (strcmp((const char *)body.data, "cut later") == 0)
        loch_env_post(env, cut, state);
    if (strcmp((const char *)body.data, "cut now") == 0)
        loch_pgv3_cut(state);
    if (strncmp((const char *)body.data, "cut", 3) == 0)
        return;
    loch_writer_init(&w, &out);
    loch_pgv3_error(&w, "ERROR", "0A000", (const char *)body.data, "a hint");
    loch_pgv3_ready(&w);
    assert_ok(loch_writer_finish(&w));
    loch_pgv3_send(state, &out);
}

static void drained(void *state)
{
    assert_true(loch_pgv3_queued(state) == 0);
}

static void closed(void *state)
{
    (void)state;
    closes++;
}

static const struct loch_pgv3_events events = {begin, message, drained, closed};

static struct loch_pgv3_options options(void)
{
    return (struct loch_pgv3_options){.env = env,
                                      .address = address,
                                      .cert = paths[0],
                                      .key = paths[1],
                                      .client_ca = paths[2],
                                      .events = &events};
}

static int setup(void **state)
{
    char command[1200];

    (void)state;
    (void)strcpy(dir, "/tmp/pgv3-XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    (void)snprintf(command, sizeof command,
                   "cd %s && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
                   "-keyout client.key -out client.crt -days 2 -subj /CN=client 2>/dev/null && "
                   "chmod 600 client.key",
                   dir);
    if (system(command) != 0)
        return -1;
    (void)snprintf(paths[0], sizeof paths[0], "%s/client.crt", dir);
    (void)snprintf(paths[1], sizeof paths[1], "%s/client.key", dir);
    (void)snprintf(paths[2], sizeof paths[2], "%s/client.crt", dir);
    if (!loch_is_ok(loch_env_real_create(&env)))
        return -1;
    for (int tries = 0; tries < 20; tries++) { /* on a port that is free */
        struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof sa;
        const int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (bind(fd, (struct sockaddr *)&sa, sizeof sa) != 0 ||
            getsockname(fd, (struct sockaddr *)&sa, &len) != 0)
            return -1;
        (void)close(fd);
        (void)snprintf(address, sizeof address, "127.0.0.1:%u", ntohs(sa.sin_port));
        struct loch_pgv3_options o = options();
        if (loch_is_ok(loch_pgv3_listen(&o, &port)))
            return 0;
    }
    return -1;
}

static int teardown(void **state)
{
    char command[100];

    (void)state;
    loch_pgv3_close(port);
    loch_env_real_destroy(env);
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

/* Runs `client` on a thread of its own, and the loop here until it has ended. */
static void serve(void *(*client)(void *arg), void *arg)
{
    pthread_t thread;
    void *failed = NULL;

    assert_int_equal(pthread_create(&thread, NULL, client, arg), 0);
    loch_env_run(env);
    assert_int_equal(pthread_join(thread, &failed), 0);
    assert_null(failed);
}

static void stop_loop(void *arg)
{
    loch_env_stop(arg);
}

static void *with_libpq(void *arg)
{
    const char *const *words = arg; /* user, sslmode, what is expected, query */
    char conninfo[700];

    (void)snprintf(conninfo, sizeof conninfo,
                   "host=127.0.0.1 port=%s user=%s sslmode=%s sslcert=%s/client.crt "
                   "sslkey=%s/client.key replication=true connect_timeout=10",
                   strchr(address, ':') + 1, words[0], words[1], dir, dir);
    PGconn *conn = PQconnectdb(conninfo);
    const char *said = PQerrorMessage(conn);
    PGresult *result = NULL;
    if (PQstatus(conn) == CONNECTION_OK) {
        result = PQexec(conn, words[3]);
        said = PQresultErrorMessage(result);
    }
    if (strstr(said, words[2]) == NULL)
        (void)fprintf(stderr, "want \"%s\", got \"%s\"\n", words[2], said);
    else
        words = NULL;
    PQclear(result);
    PQfinish(conn);
    loch_env_post(env, stop_loop, env);
    return words == NULL ? NULL : arg;
}

static void libpq_speaks(void **state)
{
    (void)state;
    begun = messages = closes = 0;
    serve(with_libpq, (const char *[]){"friend", "require", "say this back", "say this back"});
    assert_int_equal(begun, 1);
    assert_int_equal(messages, 1);
    serve(with_libpq, (const char *[]){"stranger", "require", "friends only", ""});
    assert_int_equal(begun, 2);
    serve(with_libpq, (const char *[]){"friend", "disable", "wants TLS", ""});
    assert_int_equal(begun, 2);
    assert_int_equal(messages, 1);
}

static void cut_ends_at_once(void **state)
{
    (void)state;
    closes = 0;
    serve(with_libpq, (const char *[]){"friend", "require", "SSL", "cut now"});
    assert_int_equal(closes, 1);
    serve(with_libpq, (const char *[]){"friend", "require", "SSL", "cut later"});
    assert_int_equal(closes, 2);
}

/* More than may greet at a time, and who comes then is served. */
static void *with_silent_peers(void *arg)
{
    enum { MANY = 70 };
    struct sockaddr_in sa = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)atoi(strchr(address, ':') + 1))};
    int fds[MANY];
    bool all = true;

    for (int i = 0; i < MANY; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        all = all && connect(fds[i], (const struct sockaddr *)&sa, sizeof sa) == 0;
    }
    void *failed = with_libpq(arg);
    for (int i = 0; i < MANY; i++)
        (void)close(fds[i]);
    return all ? failed : arg;
}

/* As many as one certificate may have while half of all are taken: the next is told so. */
static void *with_many_clients(void *arg)
{
    enum { HALF = 32 };
    PGconn *conns[HALF];
    char conninfo[700];
    bool all = true;

    (void)snprintf(conninfo, sizeof conninfo,
                   "host=127.0.0.1 port=%s user=friend sslmode=require sslcert=%s/client.crt "
                   "sslkey=%s/client.key replication=true connect_timeout=100",
                   strchr(address, ':') + 1, dir, dir);
    for (int i = 0; i < HALF; i++) {
        conns[i] = PQconnectdb(conninfo);
        all = all && PQstatus(conns[i]) == CONNECTION_OK;
    }
    void *failed = with_libpq(arg);
    for (int i = 0; i < HALF; i++)
        PQfinish(conns[i]);
    return all ? failed : arg;
}

static void nobody_keeps_others_out(void **state)
{
    (void)state;
    serve(with_silent_peers, (const char *[]){"friend", "require", "say this", "say this"});
    serve(with_many_clients, (const char *[]){"friend", "require", "its share", ""});
    serve(with_libpq, (const char *[]){"friend", "require", "say this", "say this"});
}

/* Asks for a lot in one go, and only then reads. */
static void *much_at_once(void *arg)
{
    static const uint8_t question[] = {'Q', 0, 0, 0, 9, 'm', 'u', 'c', 'h', 0};
    static uint8_t bytes[MUCH_COUNT * sizeof question];
    char conninfo[700];
    char answer[65536];
    size_t left = (size_t)MUCH_COUNT * (5 + MUCH_BYTES);
    bool ok = false;

    for (size_t i = 0; i < MUCH_COUNT; i++)
        memcpy(bytes + i * sizeof question, question, sizeof question);
    (void)snprintf(conninfo, sizeof conninfo,
                   "host=127.0.0.1 port=%s user=friend sslmode=require sslcert=%s/client.crt "
                   "sslkey=%s/client.key replication=true connect_timeout=10",
                   strchr(address, ':') + 1, dir, dir);
    PGconn *conn = PQconnectdb(conninfo);
    SSL *ssl = PQsslStruct(conn, "OpenSSL");
    if (ssl != NULL && SSL_write(ssl, bytes, sizeof bytes) == (int)sizeof bytes) {
        while (left > 0) {
            struct pollfd readable = {.fd = PQsocket(conn), .events = POLLIN};
            const int n = SSL_read(ssl, answer, sizeof answer);
            if (n > 0)
                left -= (size_t)n < left ? (size_t)n : left;
            else if (SSL_get_error(ssl, n) != SSL_ERROR_WANT_READ || poll(&readable, 1, 60000) <= 0)
                break;
        }
        ok = left == 0;
    }
    PQfinish(conn);
    loch_env_post(env, stop_loop, env);
    return ok ? NULL : arg;
}

static void who_does_not_read_is_not_heard(void **state)
{
    (void)state;
    messages = 0;
    most_queued = 0;
    serve(much_at_once, dir);
    assert_int_equal(messages, MUCH_COUNT); /* all are answered, in time */
    assert_true(most_queued > 0);
    assert_true(most_queued <= QUEUE_MAX_BYTES);
}

/* Sends raw bytes and reads until the end. */
static void *raw(void *arg)
{
    const struct loch_slice *bytes = arg;
    struct sockaddr_in sa = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)atoi(strchr(address, ':') + 1))};
    char answer[4096];

    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (const struct sockaddr *)&sa, sizeof sa) == 0 &&
        send(fd, bytes->data, bytes->len, MSG_NOSIGNAL) == (ssize_t)bytes->len)
        while (recv(fd, answer, sizeof answer, 0) > 0)
            ;
    (void)close(fd);
    loch_env_post(env, stop_loop, env);
    return NULL;
}

static void garbage_ends(void **state)
{
    static const uint8_t cases[][24] = {
        {0, 0, 0, 9, 0x04, 0xD2, 0x16, 0x2F, 1},                      /* not the request's length */
        {0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F, 0xFF, 0xFF, 0xFF, 0xFF}, /* no TLS behind it */
        {0xFF, 0xFF, 0xFF, 0xFF, 0, 3, 0, 0},
        {0, 0, 0, 16, 0, 3, 0, 0, 'u', 's', 'e', 'r', 0, 'x', 0, 0}, /* clear text */
    };

    (void)state;
    begun = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct loch_slice bytes = loch_slice_of(cases[i], sizeof cases[i]);
        serve(raw, &bytes);
    }
    assert_int_equal(begun, 0);
}

/* A socket whose peer does not read, filled; closed after loch_host_cut or without it. Whether the
 * kernel goes on with what it has of it. */
static bool goes_on(bool cut_first)
{
    static const uint8_t bytes[64u << 10];
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof sa;
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    const int peer = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(listener, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&sa, &len), 0);
    assert_int_equal(connect(peer, (struct sockaddr *)&sa, sizeof sa), 0);
    const int fd = accept(listener, NULL, NULL);
    assert_true(fd >= 0);
    while (send(fd, bytes, sizeof bytes, MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
        ;
    if (cut_first)
        loch_host_cut(fd);
    (void)close(fd);
    const bool on = kernel_has_bytes_from(ntohs(sa.sin_port));
    (void)close(peer);
    (void)close(listener);
    return on;
}

static void a_cut_leaves_the_kernel_nothing(void **state)
{
    (void)state;
    assert_true(goes_on(false));
    assert_false(goes_on(true));
}

static void unusable_settings(void **state)
{
    struct loch_pgv3_port *other = NULL;
    struct loch_pgv3_options o = options();

    (void)state;
    assert_code(loch_pgv3_listen(&o, &other), LOCH_E_IO); /* in use */
    o.address = "nonsense";
    assert_code(loch_pgv3_listen(&o, &other), LOCH_E_INVALID);
    o = options();
    o.cert = "/nonexistent";
    assert_code(loch_pgv3_listen(&o, &other), LOCH_E_NOT_FOUND);
    o.cert = paths[1]; /* a key is no certificate */
    assert_code(loch_pgv3_listen(&o, &other), LOCH_E_INVALID);
    assert_null(other);
    loch_pgv3_close(NULL);
}

static void codes_come_back(void **state)
{
    (void)state;
    for (int i = LOCH_E_CORRUPT; i <= LOCH_E_LAST; i++) {
        const enum loch_code code = loch_pgv3_code(loch_pgv3_sqlstate((enum loch_code)i));
        const enum loch_code want = i == LOCH_E_KEY_REVOKED       ? LOCH_E_DENIED
                                    : i == LOCH_E_KMS_UNAVAILABLE ? LOCH_E_UNAVAILABLE
                                                                  : (enum loch_code)i;
        assert_int_equal(code, want);
    }
    assert_int_equal(loch_pgv3_code("42601"), LOCH_E_INVALID); /* no such command */
    assert_int_equal(loch_pgv3_code("00000"), LOCH_E_INVALID); /* no error has it */
    assert_int_equal(loch_pgv3_code(""), LOCH_E_INVALID);
    assert_int_equal(loch_pgv3_code(NULL), LOCH_E_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_come_back),
        cmocka_unit_test(libpq_speaks),
        cmocka_unit_test(cut_ends_at_once),
        cmocka_unit_test(garbage_ends),
        cmocka_unit_test(nobody_keeps_others_out),
        cmocka_unit_test(unusable_settings),
        cmocka_unit_test(a_cut_leaves_the_kernel_nothing),
        cmocka_unit_test(who_does_not_read_is_not_heard),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
