/* A key service that does not keep up: requests queue for it, on few connections, and none is lost;
 * one that is silent: the wait for a turn and the request end by one deadline. */
#include "../unit.h"

#include "http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS  100
#define ALLOWED  32
#define LATE_MS  300
#define QUEUED   8
#define LIMIT_MS 3000

/* Answers nobody before as many have come as may be under way, and then not before one more has, or
 * it has waited in vain for that. */
struct server {
    int listener;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int under_way, most, answered, connections; /* under lock */
    bool waited;                                /* nobody else comes */
    bool silent;                                /* answers nobody at all */
};

static void answer_one(struct server *s, int fd)
{
    static const char reply[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    struct timespec until;
    int rc = 0;
    pthread_mutex_lock(&s->lock);
    s->under_way++;
    s->most = s->under_way > s->most ? s->under_way : s->most;
    pthread_cond_broadcast(&s->changed);
    if (s->silent) {
        pthread_mutex_unlock(&s->lock);
        return;
    }
    while (!s->waited && s->under_way < ALLOWED)
        pthread_cond_wait(&s->changed, &s->lock);
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += LATE_MS * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (!s->waited && s->under_way <= ALLOWED && rc == 0)
        rc = pthread_cond_timedwait(&s->changed, &s->lock, &until);
    s->waited = true;
    s->under_way--;
    s->answered++;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    assert_int_equal(write(fd, reply, sizeof reply - 1), sizeof reply - 1);
}

struct connection {
    struct server *server;
    int fd;
};

static void *connection_main(void *arg)
{
    struct connection *c = arg;
    char text[4096];
    size_t len = 0;
    for (;;) {
        const ssize_t n = read(c->fd, text + len, sizeof text - 1 - len);
        if (n <= 0)
            break;
        len += (size_t)n;
        text[len] = '\0';
        if (strstr(text, "\r\n\r\n") == NULL)
            continue;
        len = 0;
        answer_one(c->server, c->fd);
    }
    close(c->fd);
    free(c);
    return NULL;
}

static void *server_main(void *arg)
{
    struct server *s = arg;
    for (;;) {
        const int fd = accept(s->listener, NULL, NULL);
        if (fd < 0)
            return NULL;
        struct connection *c = malloc(sizeof *c);
        pthread_t thread;
        *c = (struct connection){s, fd};
        pthread_mutex_lock(&s->lock);
        s->connections++;
        pthread_mutex_unlock(&s->lock);
        assert_int_equal(pthread_create(&thread, NULL, connection_main, c), 0);
        pthread_detach(thread);
    }
}

struct client {
    struct kms_http *http;
    const char *url;
    enum loch_code code;
    uint64_t took_ms;
};

struct rests {
    atomic_bool over;
    atomic_ulong lost_ms;
};

static uint64_t now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void *client_main(void *arg)
{
    struct client *c = arg;
    const uint64_t begun = now_ms();
    const char *const headers[] = {NULL};
    const struct kms_http_request request = {.method = "GET", .url = c->url, .headers = headers};
    struct kms_http_reply reply = {0};
    c->code = kms_http_do(c->http, &request, &reply).code;
    if (c->code == LOCH_E_OK)
        kms_http_reply_fini(&reply);
    c->took_ms = now_ms() - begun;
    return NULL;
}

static pthread_t serve(struct server *s, char url[static 64])
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    pthread_t server;
    s->listener = socket(AF_INET, SOCK_STREAM, 0);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    assert_int_equal(bind(s->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(s->listener, (struct sockaddr *)&address, &len), 0);
    assert_int_equal(listen(s->listener, 256), 0);
    snprintf(url, 64, "http://127.0.0.1:%u/x", ntohs(address.sin_port));
    assert_int_equal(pthread_create(&server, NULL, server_main, s), 0);
    return server;
}

static void end(struct server *s, pthread_t server)
{
    shutdown(s->listener, SHUT_RDWR);
    pthread_join(server, NULL);
    close(s->listener);
}

static void many_ask_on_few_connections(void **state)
{
    (void)state;
    struct server s = {0};
    char url[64];
    pthread_t threads[CLIENTS];
    const pthread_t server = serve(&s, url);
    struct client clients[CLIENTS];
    struct kms_http *http = NULL;
    const struct kms_http_options options = {.timeout_ms = 60000, .direct = true};
    assert_ok(kms_http_create(&options, &http));
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){.http = http, .url = url, .code = LOCH_E_INVALID};
        assert_int_equal(pthread_create(&threads[i], NULL, client_main, &clients[i]), 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(clients[i].code, LOCH_E_OK);
    }
    assert_int_equal(s.answered, CLIENTS);
    assert_int_equal(s.most, ALLOWED);
    assert_true(s.connections <= ALLOWED);
    kms_http_destroy(http);
    end(&s, server);
}

/* Adds up what the machine takes from who only sleeps. */
static void *rests_main(void *arg)
{
    struct rests *r = arg;
    const struct timespec slice = {.tv_nsec = 10000000};
    while (!atomic_load(&r->over)) {
        const uint64_t begun = now_ms();
        (void)nanosleep(&slice, NULL);
        const uint64_t took_ms = now_ms() - begun;
        if (took_ms > 50)
            atomic_fetch_add(&r->lost_ms, took_ms);
    }
    return NULL;
}

/* All handles are taken by requests that nobody answers. Who waits for one gets it when those give
 * up, at the end of its own time: it may not begin anew. */
static void a_wait_and_its_request_have_one_deadline(void **state)
{
    (void)state;
    struct server s = {.silent = true};
    char url[64];
    pthread_t threads[ALLOWED + QUEUED];
    const pthread_t server = serve(&s, url);
    struct client clients[ALLOWED + QUEUED];
    struct kms_http *http = NULL;
    const struct kms_http_options options = {.timeout_ms = LIMIT_MS, .direct = true};
    struct rests rests = {0};
    pthread_t watcher;
    assert_int_equal(pthread_create(&watcher, NULL, rests_main, &rests), 0);
    assert_ok(kms_http_create(&options, &http));
    for (int i = 0; i < ALLOWED + QUEUED; i++) {
        pthread_mutex_lock(&s.lock); /* who queues comes when all handles are in use */
        while (i >= ALLOWED && s.under_way < ALLOWED)
            pthread_cond_wait(&s.changed, &s.lock);
        pthread_mutex_unlock(&s.lock);
        clients[i] = (struct client){.http = http, .url = url, .code = LOCH_E_OK};
        assert_int_equal(pthread_create(&threads[i], NULL, client_main, &clients[i]), 0);
    }
    for (int i = 0; i < ALLOWED + QUEUED; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(clients[i].code, LOCH_E_UNAVAILABLE);
        if (clients[i].took_ms > LIMIT_MS * 3 / 2 + atomic_load(&rests.lost_ms))
            fail_msg("request %d took %lu ms of %d", i, (unsigned long)clients[i].took_ms,
                     LIMIT_MS);
    }
    atomic_store(&rests.over, true);
    pthread_join(watcher, NULL);
    kms_http_destroy(http);
    end(&s, server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(many_ask_on_few_connections),
                                       cmocka_unit_test(a_wait_and_its_request_have_one_deadline)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
