/* Holds: /metrics, /healthz and the status page over HTTP. Invariants: loopback only, GET only,
 * nothing is ever changed by a request. */
#include "metrics.h"

#include "loch/base/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *type,
                              struct loch_buf *take_body)
{
    struct MHD_Response *r =
        MHD_create_response_from_buffer(take_body->len, take_body->data, MHD_RESPMEM_MUST_FREE);

    if (r == NULL) {
        loch_buf_fini(take_body);
        return MHD_NO;
    }
    *take_body = (struct loch_buf){0};
    (void)MHD_add_response_header(r, "Content-Type", type);
    (void)MHD_add_response_header(r, "Cache-Control", "no-store");
    enum MHD_Result done = MHD_queue_response(connection, status, r);
    MHD_destroy_response(r);
    return done;
}

static enum MHD_Result serve(void *arg, struct MHD_Connection *connection, const char *url,
                             const char *method, const char *version, const char *body,
                             size_t *body_len, void **state)
{
    struct loch_metrics *m = arg;
    struct loch_buf buf = {0};
    struct loch_writer w;
    unsigned status = MHD_HTTP_OK;
    const char *type = "text/plain; charset=utf-8";

    (void)version;
    (void)body;
    (void)state;
    if (*body_len > 0) { /* thrown away */
        *body_len = 0;
        return MHD_YES;
    }
    loch_writer_init(&w, &buf);
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        status = MHD_HTTP_METHOD_NOT_ALLOWED;
        loch_write_bytes(&w, "GET only\n", 9);
    } else if (strcmp(url, "/metrics") == 0) {
        type = "text/plain; version=0.0.4; charset=utf-8";
        w.bad = !loch_is_ok(loch_metrics_text(m, &buf));
    } else if (strcmp(url, "/healthz") == 0) {
        status = metrics_health_text(m, &w) ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
    } else if (strcmp(url, "/") == 0) {
        type = "text/html; charset=utf-8";
        metrics_status_page(m, &w);
    } else {
        status = MHD_HTTP_NOT_FOUND;
        loch_write_bytes(&w, "not found\n", 10);
    }
    if (w.bad) {
        loch_buf_fini(&buf);
        return MHD_NO;
    }
    return answer(connection, status, type, &buf);
}

static loch_status parse_loopback(const char *address, struct sockaddr_storage *out, socklen_t *len)
{
    char host[64];
    const char *colon = strrchr(address, ':');
    char *end = NULL;
    union {
        struct sockaddr_storage *any;
        struct sockaddr_in *v4;
        struct sockaddr_in6 *v6;
    } p = {out};

    memset(out, 0, sizeof *out);
    unsigned long port = colon != NULL ? strtoul(colon + 1, &end, 10) : 0;
    if (colon == NULL || end == colon + 1 || *end != '\0' || port > 65535 ||
        (size_t)(colon - address) >= sizeof host)
        return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" is not an address (want host:port)", address);
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = '\0';
    if (inet_pton(AF_INET, host, &p.v4->sin_addr) == 1 &&
        ntohl(p.v4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET) {
        p.v4->sin_family = AF_INET;
        p.v4->sin_port = htons((uint16_t)port);
        *len = sizeof *p.v4;
        return LOCH_OK;
    }
    memset(out, 0, sizeof *out);
    if (strcmp(host, "[::1]") == 0) {
        p.v6->sin6_family = AF_INET6;
        p.v6->sin6_addr = in6addr_loopback;
        p.v6->sin6_port = htons((uint16_t)port);
        *len = sizeof *p.v6;
        return LOCH_OK;
    }
    return LOCH_FAIL(LOCH_E_INVALID, "metrics are served on loopback only, not on %s", address);
}

static loch_status open_listener(const char *address, int *out)
{
    struct sockaddr_storage sa;
    socklen_t len = 0;
    int one = 1;

    LOCH_TRY(parse_loopback(address, &sa, &len));
    int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return LOCH_FAIL(LOCH_E_IO, "socket: %s", strerrordesc_np(errno));
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(fd, (struct sockaddr *)&sa, len) != 0 || listen(fd, 16) != 0) {
        loch_status st = LOCH_FAIL(LOCH_E_IO, "cannot listen on %s for metrics: %s", address,
                                   strerrordesc_np(errno));
        (void)close(fd);
        return st;
    }
    *out = fd;
    return LOCH_OK;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof sa;
    union {
        struct sockaddr_storage *any;
        struct sockaddr_in *v4;
    } p = {&sa}; /* the port lies at the same place in both families */

    if (getsockname(fd, (struct sockaddr *)&sa, &len) != 0)
        return 0;
    return ntohs(p.v4->sin_port);
}

loch_status loch_metrics_serve(struct loch_metrics *metrics, const char *address)
{
    int fd = -1;

    LOCH_ASSERT(metrics->http == NULL);
    LOCH_TRY(open_listener(address, &fd));
    metrics->port = port_of(fd);
    metrics->http =
        /* AUTO: without it, it is select(2), which knows no descriptor above 1,023. */
        MHD_start_daemon(MHD_USE_AUTO_INTERNAL_THREAD | MHD_USE_ITC, 0, NULL, NULL, serve, metrics,
                         MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, 64u,
                         MHD_OPTION_CONNECTION_TIMEOUT, 10u, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                         (size_t)32768, MHD_OPTION_END);
    if (metrics->http == NULL) {
        (void)close(fd);
        metrics->port = 0;
        return LOCH_FAIL(LOCH_E_IO, "cannot serve metrics on %s", address);
    }
    return LOCH_OK;
}

uint16_t loch_metrics_port(const struct loch_metrics *metrics)
{
    return metrics->port;
}

void metrics_http_stop(struct loch_metrics *metrics)
{
    if (metrics->http != NULL)
        MHD_stop_daemon(metrics->http);
    metrics->http = NULL;
}
