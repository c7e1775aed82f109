/* Holds: how streams come to be: listening, connecting, the handshake's limits.
 *
 * Invariants: no frame is read from a peer that is not authenticated; at most GREETINGS_MAX
 * connections of a listener are in that state, each for at most HANDSHAKE_MS; one more ends the
 * oldest of them.
 */
#include "real_stream.h"

#include "loch/base/log.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HANDSHAKE_MS  5000u
#define GREETINGS_MAX 256u
#define BACKLOG       256

struct real_listener {
    struct loch_listener base;
    struct real_owner owner;
    uv_tcp_t tcp;
    struct loch_tls_server *tls;
    loch_accept_fn accepted;
    void *arg;
    struct real_stream *greetings;
    unsigned greeting_count;
};

static void format_peer(const struct sockaddr *sa, char text[static PEER_TEXT_BYTES])
{
    char ip[INET6_ADDRSTRLEN] = "?";
    const void *raw = sa;

    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *in = raw;
        (void)uv_ip4_name(in, ip, sizeof ip);
        (void)snprintf(text, PEER_TEXT_BYTES, "%s:%u", ip, ntohs(in->sin_port));
    } else {
        const struct sockaddr_in6 *in6 = raw;
        (void)uv_ip6_name(in6, ip, sizeof ip);
        (void)snprintf(text, PEER_TEXT_BYTES, "[%s]:%u", ip, ntohs(in6->sin6_port));
    }
}

/* ---- both sides ---- */
void stream_leave_listener(struct real_stream *s)
{
    if (s->listener == NULL)
        return;
    s->listener->greeting_count--;
    *s->prev_greeting = s->next_greeting;
    if (s->next_greeting != NULL)
        s->next_greeting->prev_greeting = s->prev_greeting;
    s->listener = NULL;
}

void stream_opened(struct real_stream *s)
{
    struct real_listener *l = s->listener;

    (void)uv_timer_stop(&s->timer);
    stream_watch_peer(s);
    s->state = STREAM_OPEN;
    stream_leave_listener(s);
    if (l != NULL) {
        l->accepted(l->arg, &s->base);
    } else if (s->connected != NULL) {
        loch_connected_fn connected = s->connected;
        s->connected = NULL;
        connected(s->connected_arg, LOCH_OK, &s->base);
    }
    if (s->base.events == NULL && s->state == STREAM_OPEN)
        stream_end(s, LOCH_OK); /* nobody wants it */
}

static void timed_out(uv_timer_t *timer)
{
    struct real_stream *s = ((struct real_owner *)timer->data)->self;

    if (s->state == STREAM_OPEN || s->state == STREAM_CLOSING)
        return;
    if (s->listener != NULL)
        stream_log_refused(s, "no handshake in time");
    stream_end(s, LOCH_FAIL(LOCH_E_UNAVAILABLE, "%s does not answer in time", s->peer));
}

/* ---- server ---- */
/* Whoever greets is done in a moment: what has been at it longest says nothing, and whoever comes
 * now must not suffer for it. */
static void end_oldest_greeting(struct real_listener *l)
{
    struct real_stream *s = l->greetings; /* the newest */

    while (s->next_greeting != NULL)
        s = s->next_greeting;
    stream_log_refused(s, "too many connections that are not yet authenticated");
    stream_end(s, LOCH_OK);
}

static void accept_one(struct real_listener *l)
{
    struct real_env *env = real_env_of(l->base.env);
    struct real_stream *s = NULL;
    struct sockaddr_storage sa;
    int len = sizeof sa;

    if (!loch_is_ok(stream_create(env, &s))) {
        loch_log_failure("cannot accept a connection");
        return;
    }
    int rc = uv_accept((uv_stream_t *)&l->tcp, (uv_stream_t *)&s->tcp);
    if (rc == 0)
        rc = uv_tcp_getpeername(&s->tcp, (struct sockaddr *)&sa, &len);
    if (rc != 0) {
        stream_end(s, LOCH_OK);
        return;
    }
    format_peer((struct sockaddr *)&sa, s->peer);
    if (l->greeting_count >= GREETINGS_MAX)
        end_oldest_greeting(l);
    loch_status st = loch_tls_accept(l->tls, &s->tls);
    if (!loch_is_ok(st)) {
        stream_log_refused(s, loch_error_text());
        stream_end(s, st);
        return;
    }
    s->listener = l;
    s->next_greeting = l->greetings;
    s->prev_greeting = &l->greetings;
    if (l->greetings != NULL)
        l->greetings->prev_greeting = &s->next_greeting;
    l->greetings = s;
    l->greeting_count++;
    stream_no_delay(s);
    LOCH_ASSERT(uv_timer_start(&s->timer, timed_out, HANDSHAKE_MS, 0) == 0);
    stream_begin(s);
}

static void connection_came(uv_stream_t *tcp, int status)
{
    struct real_listener *l = ((struct real_owner *)tcp->data)->self;

    if (status == 0)
        accept_one(l);
    else
        LOCH_WARN("cannot accept a connection: %s", uv_strerror(status));
}

static void listener_free(uv_handle_t *handle)
{
    free(((struct real_owner *)handle->data)->self);
}

static void listener_end(void *self)
{
    struct real_listener *l = self;

    while (l->greetings != NULL)
        stream_end(l->greetings, LOCH_OK);
    uv_close((uv_handle_t *)&l->tcp, listener_free);
}

void real_listener_close(struct loch_listener *listener)
{
    listener_end(listener);
}

static loch_status numeric_address(const struct real_address *a, struct sockaddr_storage *out)
{
    union {
        struct sockaddr_storage *any;
        struct sockaddr_in *v4;
        struct sockaddr_in6 *v6;
    } p = {out};

    memset(out, 0, sizeof *out);
    if (uv_ip4_addr(a->host, a->port, p.v4) == 0 || uv_ip6_addr(a->host, a->port, p.v6) == 0)
        return LOCH_OK;
    return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" is not a numeric address", a->host);
}

loch_status real_listen(struct loch_env *base, const char *address, struct loch_tls_server *tls,
                        struct loch_listener **out, loch_accept_fn accepted, void *arg)
{
    struct real_env *env = real_env_of(base);
    struct real_address a;
    struct sockaddr_storage sa;

    LOCH_TRY(real_address_parse(address, &a));
    LOCH_TRY(numeric_address(&a, &sa));
    struct real_listener *l = calloc(1, sizeof *l);
    if (l == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a listener");
    *l = (struct real_listener){
        .base = {base}, .owner = {l, listener_end}, .tls = tls, .accepted = accepted, .arg = arg};
    LOCH_ASSERT(uv_tcp_init(&env->loop, &l->tcp) == 0);
    l->tcp.data = &l->owner;
    int rc = uv_tcp_bind(&l->tcp, (struct sockaddr *)&sa, 0);
    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&l->tcp, BACKLOG, connection_came);
    if (rc != 0) {
        uv_close((uv_handle_t *)&l->tcp, listener_free);
        return LOCH_FAIL(LOCH_E_IO, "cannot listen on %s: %s", address, uv_strerror(rc));
    }
    *out = &l->base;
    return LOCH_OK;
}

/* ---- client ---- */
static void connect_done(uv_connect_t *req, int status)
{
    struct real_stream *s = req->data;

    if (s->state == STREAM_CLOSING)
        return;
    if (status != 0) {
        stream_end(s, LOCH_FAIL(LOCH_E_UNAVAILABLE, "cannot connect to %s: %s", s->peer,
                                uv_strerror(status)));
        return;
    }
    stream_no_delay(s);
    stream_begin(s);
}

static void connect_to(struct real_stream *s, const struct sockaddr *sa)
{
    s->connecting.data = s;
    int rc = uv_tcp_connect(&s->connecting, &s->tcp, sa, connect_done);
    if (rc != 0)
        stream_end(
            s, LOCH_FAIL(LOCH_E_UNAVAILABLE, "cannot connect to %s: %s", s->peer, uv_strerror(rc)));
}

static void resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
    struct real_stream *s = req->data;

    bool closing = s->state == STREAM_CLOSING;
    s->is_resolving = false;
    stream_handle_gone(s);
    if (closing) {
        /* s may be gone */
    } else if (status != 0 || found == NULL) {
        stream_end(s, LOCH_FAIL(LOCH_E_UNAVAILABLE, "cannot resolve the name in %s: %s", s->peer,
                                uv_strerror(status)));
    } else {
        connect_to(s, found->ai_addr);
    }
    uv_freeaddrinfo(found);
}

loch_status real_connect(struct loch_env *base, const char *address, struct loch_tls_client *tls,
                         uint64_t timeout_ms, loch_connected_fn connected, void *arg)
{
    struct real_env *env = real_env_of(base);
    struct real_stream *s = NULL;
    struct real_address a;
    struct sockaddr_storage sa;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};

    LOCH_TRY(real_address_parse(address, &a));
    LOCH_TRY(stream_create(env, &s));
    (void)snprintf(s->peer, sizeof s->peer, "%s", address);
    loch_status st = loch_tls_connect(tls, &s->tls);
    if (!loch_is_ok(st)) {
        stream_end(s, st); /* without an event: `connected` is not set yet */
        return st;
    }
    s->connected = connected;
    s->connected_arg = arg;
    s->state = STREAM_CONNECTING;
    uv_update_time(&env->loop);
    LOCH_ASSERT(uv_timer_start(&s->timer, timed_out, timeout_ms, 0) == 0);
    if (loch_is_ok(numeric_address(&a, &sa))) {
        connect_to(s, (struct sockaddr *)&sa);
        return LOCH_OK;
    }
    char port[8];
    (void)snprintf(port, sizeof port, "%u", a.port);
    s->resolving.data = s;
    int rc = uv_getaddrinfo(&env->loop, &s->resolving, resolved, a.host, port, &hints);
    if (rc == 0) {
        s->is_resolving = true;
        s->handles++;
    } else {
        stream_end(s, LOCH_FAIL(LOCH_E_UNAVAILABLE, "cannot resolve the name in %s: %s", address,
                                uv_strerror(rc)));
    }
    return LOCH_OK;
}
