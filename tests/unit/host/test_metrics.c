/* Metrics: their text, their limits, and HTTP on loopback. */
#include "../unit.h"

#include "loch/base/buf.h"
#include "loch/host/metrics.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static struct loch_metrics *metrics;

static int begin(void **state)
{
    (void)state;
    assert_ok(loch_metrics_create("loch-test", &metrics));
    return 0;
}

static int end(void **state)
{
    (void)state;
    loch_metrics_destroy(metrics);
    loch_metrics_destroy(NULL);
    return 0;
}

static void assert_text(const char *want, bool there)
{
    struct loch_buf buf = {0};
    assert_ok(loch_metrics_text(metrics, &buf));
    assert_ok(loch_buf_append(&buf, "", 1));
    if ((strstr((char *)buf.data, want) != NULL) != there)
        fail_msg("\"%s\" is %s in:\n%s", want, there ? "not" : "still", (char *)buf.data);
    loch_buf_fini(&buf);
}

static void text_form(void **state)
{
    const struct loch_label a[] = {{"tenant", "t\"1\\\n"}, {"op", "get"}};
    const struct loch_label b[] = {{"tenant", "t2"}, {"op", "get"}};
    (void)state;
    struct loch_metric *c = loch_metrics_counter(metrics, "loch_pages_total", "Pages.", a, 2);
    struct loch_metric *d = loch_metrics_counter(metrics, "loch_pages_total", "Pages.", b, 2);
    struct loch_metric *g = loch_metrics_gauge(metrics, "loch_lag_bytes", "Lag.", NULL, 0);
    loch_metric_add(c, 3);
    loch_metric_add(d, 5);
    loch_metric_set(g, -7);
    loch_metric_move(g, 2);
    assert_int_equal(loch_metric_value(g), -5);
    assert_text("# HELP loch_pages_total Pages.\n# TYPE loch_pages_total counter\n"
                "loch_pages_total{tenant=\"t\\\"1\\\\\\n\",op=\"get\"} 3\n"
                "loch_pages_total{tenant=\"t2\",op=\"get\"} 5\n",
                true);
    assert_text("# TYPE loch_lag_bytes gauge\nloch_lag_bytes -5\n", true);
    assert_text("# TYPE loch_secrets gauge\nloch_secrets 0\n", true);
    assert_ptr_equal(loch_metrics_counter(metrics, "loch_pages_total", "Pages.", b, 2), d);
    loch_metrics_drop(metrics, d);
    assert_text("tenant=\"t2\"", true); /* registered twice, dropped once */
    loch_metrics_drop(metrics, d);
    assert_text("tenant=\"t2\"", false);
    loch_metrics_drop(metrics, NULL);
    d = loch_metrics_counter(metrics, "loch_pages_total", "Pages.", b, 2);
    assert_int_equal(loch_metric_value(d), 0);
}

static void histogram(void **state)
{
    const struct loch_label a[] = {{"op", "get"}};
    (void)state;
    struct loch_metric *h = loch_metrics_histogram(metrics, "loch_get_seconds", "Get.", a, 1);
    loch_metric_observe_ns(h, 10000);
    loch_metric_observe_ns(h, 10001);
    loch_metric_observe_ns(h, UINT64_C(100000000000));
    assert_int_equal(loch_metric_value(h), 3);
    assert_text("loch_get_seconds_bucket{op=\"get\",le=\"1e-05\"} 1\n"
                "loch_get_seconds_bucket{op=\"get\",le=\"2e-05\"} 2\n",
                true);
    assert_text(
        "le=\"20.97152\"} 2\nloch_get_seconds_bucket{op=\"get\",le=\"+Inf\"} 3\n"
        "loch_get_seconds_sum{op=\"get\"} 100.000020001\nloch_get_seconds_count{op=\"get\"} 3\n",
        true);
}

static void too_many(void **state)
{
    char value[16];
    struct loch_metric *last = NULL;
    (void)state;
    for (unsigned i = 0; i < LOCH_METRIC_SERIES_MAX + 2; i += 1) {
        /* Families of 64 series, so that this test is not quadratic. */
        char name[32];
        (void)snprintf(name, sizeof name, "loch_x%u", i / 64);
        (void)snprintf(value, sizeof value, "%u", i);
        last = loch_metrics_counter(metrics, name, "X.", &(struct loch_label){"i", value}, 1);
        assert_non_null(last);
    }
    loch_metric_add(last, 1);
    loch_metrics_drop(metrics, last);
    assert_text("loch_metrics_overflow_total 2\n", true);
}

static void *adder(void *arg)
{
    for (int i = 0; i < 100000; i++)
        loch_metric_add(arg, 1);
    return NULL;
}

static void threads(void **state)
{
    pthread_t t[3];
    (void)state;
    struct loch_metric *c = loch_metrics_counter(metrics, "loch_n", "N.", NULL, 0);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&t[i], NULL, adder, c), 0);
    for (size_t i = 0; i < 3; i++)
        (void)pthread_join(t[i], NULL);
    assert_int_equal(loch_metric_value(c), 300000);
}

static char http_text[8192];

static const char *http(const char *request)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(loch_metrics_port(metrics))};
    size_t n = 0;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_true(send(fd, request, strlen(request), MSG_NOSIGNAL) > 0);
    for (ssize_t got = 1; got > 0 && n<sizeof http_text - 1; n += got> 0 ? (size_t)got : 0)
        got = recv(fd, http_text + n, sizeof http_text - 1 - n, 0);
    http_text[n] = '\0';
    (void)close(fd);
    return http_text;
}

#define GET(path_) http("GET " path_ " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

static void over_http(void **state)
{
    (void)state;
    assert_code(loch_metrics_serve(metrics, "0.0.0.0:0"), LOCH_E_INVALID);
    assert_code(loch_metrics_serve(metrics, "10.0.0.1:1"), LOCH_E_INVALID);
    assert_code(loch_metrics_serve(metrics, "127.0.0.1"), LOCH_E_INVALID);
    assert_code(loch_metrics_serve(metrics, "127.0.0.1:x"), LOCH_E_INVALID);
    assert_ok(loch_metrics_serve(metrics, "127.0.0.1:0"));
    assert_true(loch_metrics_port(metrics) > 0);
    loch_metric_add(loch_metrics_counter(metrics, "loch_n", "N.", NULL, 0), 9);
    assert_non_null(strstr(GET("/metrics"), "loch_n 9\n"));
    assert_non_null(strstr(GET("/healthz"), "503"));
    assert_non_null(strstr(http_text, "starting\n"));
    loch_metrics_health(metrics, true, "fine");
    assert_non_null(strstr(GET("/healthz"), "200 OK"));
    loch_metrics_fact(metrics, "a <b>", "x");
    loch_metrics_fact(metrics, "a <b>", "y & z");
    loch_metrics_fact(metrics, "gone", "x");
    loch_metrics_fact(metrics, "gone", NULL);
    loch_metrics_fact(metrics, "never", NULL);
    assert_non_null(strstr(GET("/"), "<td>a &lt;b></td><td>y &amp; z</td>"));
    assert_null(strstr(http_text, "gone"));
    assert_non_null(strstr(GET("/other"), "404"));
    assert_non_null(strstr(http("POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: "
                                "close\r\nContent-Length: 3\r\n\r\nabc"),
                           "405"));
    (void)http("\x16\x03\x01 garbage\r\n\r\n");
    assert_non_null(strstr(GET("/metrics"), "200 OK"));
}

/* A daemon has a descriptor for every open layer: more than select(2) can name. */
static void over_http_with_many_descriptors(void **state)
{
    enum { MANY = 1200 };
    static int fds[MANY];
    struct rlimit limit;
    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_max < MANY + 100)
        skip(); /* so many descriptors are not to be had here */
    const struct rlimit before = limit;
    limit.rlim_cur = MANY + 100 > limit.rlim_cur ? MANY + 100 : limit.rlim_cur;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_ok(loch_metrics_serve(metrics, "127.0.0.1:0"));
    loch_metrics_health(metrics, true, "fine");
    for (int i = 0; i < MANY; i++)
        assert_true((fds[i] = dup(STDERR_FILENO)) >= 0);
    assert_non_null(strstr(GET("/healthz"), "200 OK"));
    assert_non_null(strstr(GET("/metrics"), "200 OK"));
    for (int i = 0; i < MANY; i++)
        (void)close(fds[i]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void port_in_use(void **state)
{
    struct loch_metrics *other = NULL;
    char address[32];
    (void)state;
    assert_ok(loch_metrics_serve(metrics, "127.0.0.1:0"));
    assert_ok(loch_metrics_create("other", &other));
    (void)snprintf(address, sizeof address, "127.0.0.1:%u", loch_metrics_port(metrics));
    assert_code(loch_metrics_serve(other, address), LOCH_E_IO);
    loch_metrics_destroy(other);
}

int main(void)
{
#define T(name_) cmocka_unit_test_setup_teardown(name_, begin, end)
    const struct CMUnitTest tests[] = {T(text_form),  T(histogram),
                                       T(too_many),   T(threads),
                                       T(over_http),  T(over_http_with_many_descriptors),
                                       T(port_in_use)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
