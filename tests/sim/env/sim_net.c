/* Holds: the network between nodes: connections of two ends, chunks of frames under way between
 * them.
 *
 * A chunk arrives after a delay, never before an earlier one of its direction; while its nodes are
 * parted it waits. The receiver takes frames while it reads; at most WINDOW_BYTES are under way or
 * unread, the rest counts as queued at the sender, as with TCP.
 */
#include "sim_internal.h"

#include "loch/base/frame.h"
#include "loch/crypto/tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_BYTES (256u << 10)
#define RETRY_US     100000u   /* how often a held-up chunk tries again */
#define DEAD_US      30000000u /* held up so long: the stream is reset */

struct sim_listener {
    struct loch_listener base;
    struct sim_listener *next, **prev;
    char address[128];
    struct loch_tls_server *tls;
    loch_accept_fn accepted;
    void *arg;
};

struct sim_end {
    struct loch_stream base; /* first: what loch_stream points at */
    struct sim_process *process;
    struct sim_link *link;
    unsigned side;
    bool closed;    /* `closed` was called, or never will be */
    bool close_due; /* its event is on its way */
    bool wants;     /* reads */
    bool giving;
    bool owes_drained;
    struct loch_buf queue;   /* not yet sent */
    struct loch_buf arrived; /* not yet taken */
    size_t flying;           /* bytes of ours under way or unread there */
    uint64_t last_arrival_us;
    uint64_t launched; /* chunks of ours */
    uint64_t taken;    /* chunks of the other's that arrived here */
    loch_status end;
    char end_text[160];
};

struct sim_link {
    struct sim_link *next, **prev;
    struct sim_world *world;
    struct sim_end end[2];
    struct sim_node *node[2];
    struct loch_buf identity;
    bool open;
};

struct chunk {
    struct sim_link *link;
    unsigned to;
    uint64_t born_us;
    uint64_t number; /* of its direction */
    bool fin;
    struct loch_buf bytes;
};

static void chunk_due(void *arg);

static struct sim_end *end_of(const struct loch_stream *stream)
{
    union {
        const struct loch_stream *borrowed;
        struct sim_end *end;
    } p = {stream};
    return p.end;
}

static struct sim_node *node_named(struct sim_world *w, const char *name, size_t len)
{
    for (unsigned i = 0; i < w->node_count; i++)
        if (strlen(w->nodes[i]->name) == len && memcmp(w->nodes[i]->name, name, len) == 0)
            return w->nodes[i];
    return NULL;
}

static bool is_parted(const struct sim_link *l)
{
    return l->world->parted[l->node[0]->index][l->node[1]->index];
}

static void set_parted(struct sim_world *w, const char *a, const char *b, bool parted)
{
    struct sim_node *x = node_named(w, a, strlen(a));
    struct sim_node *y = node_named(w, b, strlen(b));

    LOCH_ASSERT(x != NULL);
    LOCH_ASSERT(y != NULL);
    w->parted[x->index][y->index] = parted;
    w->parted[y->index][x->index] = parted;
}

void sim_part(struct sim_world *world, const char *a, const char *b)
{
    set_parted(world, a, b, true);
}

void sim_join(struct sim_world *world, const char *a, const char *b)
{
    set_parted(world, a, b, false);
}

/* ---- the end of a stream ---- */
static void closed_due(void *arg)
{
    struct sim_end *e = arg;
    loch_status st = e->end;

    if (e->closed)
        return;
    e->closed = true;
    if (!loch_is_ok(st))
        st = LOCH_FAIL(st.code, "%s", e->end_text);
    if (e->base.events != NULL)
        e->base.events->closed(e->base.arg, st);
}

static void end_stream(struct sim_end *e, loch_status st, const char *text)
{
    if (e->closed || e->close_due)
        return;
    e->close_due = true;
    e->end = st;
    (void)snprintf(e->end_text, sizeof e->end_text, "%s", text);
    if (e->process->alive)
        sim_at(e->link->world, 0, e->process, closed_due, e, NULL);
}

static void reset(struct sim_link *l, const char *why)
{
    l->open = false;
    for (unsigned side = 0; side < 2; side++)
        end_stream(&l->end[side], (loch_status){LOCH_E_UNAVAILABLE}, why);
}

/* ---- sending ---- */
static void chunk_drop(void *arg)
{
    struct chunk *c = arg;

    loch_buf_fini(&c->bytes);
    free(c);
}

static void launch(struct sim_end *from, struct chunk *c)
{
    struct sim_world *w = from->link->world;
    uint64_t at = w->now_us + sim_between(w, w->o.net_min_us, w->o.net_max_us);

    if (at <= from->last_arrival_us)
        at = from->last_arrival_us + 1;
    from->last_arrival_us = at;
    c->number = from->launched++;
    sim_at(w, at - w->now_us, NULL, chunk_due, c, chunk_drop);
}

static void pump(struct sim_end *e)
{
    if (!e->link->open || e->queue.len == 0 || e->flying >= WINDOW_BYTES)
        return;
    size_t n = WINDOW_BYTES - e->flying < e->queue.len ? WINDOW_BYTES - e->flying : e->queue.len;
    struct chunk *c = sim_alloc(sizeof *c);
    *c = (struct chunk){.link = e->link, .to = 1 - e->side, .born_us = e->link->world->now_us};
    LOCH_ASSERT(loch_is_ok(loch_buf_append(&c->bytes, e->queue.data, n)));
    loch_buf_consume(&e->queue, n);
    e->flying += n;
    launch(e, c);
}

static void flush_due(void *arg)
{
    struct sim_end *e = arg;

    pump(e);
    if (e->queue.len == 0 && e->owes_drained && !e->closed && !e->close_due) {
        e->owes_drained = false;
        if (e->base.events != NULL && e->base.events->drained != NULL)
            e->base.events->drained(e->base.arg);
    }
}

void sim_stream_trade(struct loch_stream *stream, struct loch_buf *frames)
{
    struct sim_end *e = end_of(stream);

    if (!e->closed && !e->close_due && e->process->alive) {
        LOCH_ASSERT(loch_is_ok(loch_buf_append(&e->queue, frames->data, frames->len)));
        e->owes_drained = true;
        sim_at(e->link->world, 0, e->process, flush_due, e, NULL);
    }
    frames->len = 0;
}

void sim_stream_send(struct loch_stream *stream, struct loch_buf *take_frames)
{
    sim_stream_trade(stream, take_frames);
    loch_buf_fini(take_frames);
}

size_t sim_stream_queued(const struct loch_stream *stream)
{
    return end_of(stream)->queue.len;
}

/* ---- receiving ---- */
static void give(struct sim_end *e)
{
    struct sim_end *peer = &e->link->end[1 - e->side];
    size_t at = 0;

    if (e->giving)
        return;
    e->giving = true;
    while (e->wants && !e->closed && !e->close_due && e->base.events != NULL) {
        bool found = false;
        uint8_t type = 0;
        struct loch_slice payload = {0};
        size_t consumed = 0;
        struct loch_slice rest = loch_slice_of(e->arrived.data + at, e->arrived.len - at);
        loch_status st = LOCH_OK;
        if (rest.len > 0)
            st = loch_frame_next(rest, &found, &type, &payload, &consumed);
        if (loch_is_ok(st) && !found)
            break;
        at += consumed;
        if (loch_is_ok(st))
            st = e->base.events->frame(e->base.arg, type, payload);
        if (!loch_is_ok(st)) {
            char text[160];
            (void)snprintf(text, sizeof text, "%s", loch_error_text());
            sim_stream_close(&e->base);
            e->end = st;
            (void)snprintf(e->end_text, sizeof e->end_text, "%s", text);
        }
    }
    if (at > 0 && !e->closed && !e->close_due && e->base.events != NULL &&
        e->base.events->given != NULL)
        e->base.events->given(e->base.arg);
    loch_buf_consume(&e->arrived, at);
    e->giving = false;
    peer->flying -= at;
    if (at > 0 && peer->process->alive && peer->queue.len > 0)
        sim_at(e->link->world, 0, peer->process, flush_due, peer, NULL);
}

static void give_due(void *arg)
{
    give(arg);
}

void sim_stream_read(struct loch_stream *stream, bool on)
{
    struct sim_end *e = end_of(stream);

    e->wants = on;
    if (on && e->process->alive && !e->closed)
        sim_at(e->link->world, 0, e->process, give_due, e, NULL);
}

static void chunk_due(void *arg)
{
    struct chunk *c = arg;
    struct sim_link *l = c->link;
    struct sim_end *to = &l->end[c->to];
    struct sim_world *w = l->world;

    if (is_parted(l) && w->now_us - c->born_us < DEAD_US) {
        /* The order stays: later chunks of this direction are held up behind it. */
        struct sim_end *from = &l->end[1 - c->to];
        uint64_t at = w->now_us + RETRY_US;
        if (from->last_arrival_us < at)
            from->last_arrival_us = at;
        sim_at(w, RETRY_US, NULL, chunk_due, c, chunk_drop);
        return;
    }
    if (l->open && c->number != to->taken) { /* an earlier one was held up, and is still to come */
        sim_at(w, RETRY_US / 20, NULL, chunk_due, c, chunk_drop);
        return;
    }
    to->taken++;
    if (is_parted(l)) {
        reset(l, "nothing came through for too long");
    } else if (c->fin) {
        l->open = false;
        end_stream(to, LOCH_OK, "");
    } else if (to->process->alive && !to->closed && !to->close_due) {
        LOCH_ASSERT(loch_is_ok(loch_buf_append(&to->arrived, c->bytes.data, c->bytes.len)));
        give(to);
    }
    chunk_drop(c);
}

void sim_stream_close(struct loch_stream *stream)
{
    struct sim_end *e = end_of(stream);

    if (e->closed || e->close_due)
        return;
    /* What is queued is offered once; then the peer learns of the end. */
    if (e->process->alive && e->link->open) {
        pump(e);
        struct chunk *c = sim_alloc(sizeof *c);
        *c = (struct chunk){
            .link = e->link, .to = 1 - e->side, .born_us = e->link->world->now_us, .fin = true};
        launch(e, c);
    }
    end_stream(e, LOCH_OK, "");
}

struct loch_slice sim_stream_identity(const struct loch_stream *stream)
{
    return loch_buf_slice(&end_of(stream)->link->identity);
}

bool sim_reset_one(struct sim_world *world)
{
    size_t count = 0;

    for (struct sim_link *l = world->links; l != NULL; l = l->next)
        count += l->open;
    if (count == 0)
        return false;
    size_t chosen = (size_t)sim_world_draw(world, count);
    for (struct sim_link *l = world->links; l != NULL; l = l->next)
        if (l->open && chosen-- == 0) {
            reset(l, "connection reset");
            return true;
        }
    return false;
}

/* ---- coming to be ---- */
loch_status sim_listen(struct loch_env *env, const char *address, struct loch_tls_server *tls,
                       struct loch_listener **out, loch_accept_fn accepted, void *arg)
{
    struct sim_process *p = sim_process_of(env);

    for (struct sim_listener *l = p->listeners; l != NULL; l = l->next)
        if (strcmp(l->address, address) == 0)
            return LOCH_FAIL(LOCH_E_IO, "cannot listen on %s: it is in use", address);
    struct sim_listener *l = sim_alloc(sizeof *l);
    *l = (struct sim_listener){.base = {env},
                               .next = p->listeners,
                               .prev = &p->listeners,
                               .tls = tls,
                               .accepted = accepted,
                               .arg = arg};
    (void)snprintf(l->address, sizeof l->address, "%s", address);
    if (p->listeners != NULL)
        p->listeners->prev = &l->next;
    p->listeners = l;
    *out = &l->base;
    return LOCH_OK;
}

void sim_listener_close(struct loch_listener *listener)
{
    struct sim_listener *l = (struct sim_listener *)listener;

    *l->prev = l->next;
    if (l->next != NULL)
        l->next->prev = l->prev;
    free(l);
}

struct connecting {
    struct sim_process *process;
    char address[128];
    struct loch_tls *tls; /* NULL: without */
    uint64_t until_us;
    loch_connected_fn connected;
    void *arg;
};

static void connecting_drop(void *arg)
{
    struct connecting *c = arg;

    loch_tls_destroy(c->tls);
    free(c);
}

/* The whole handshake at once, in memory: identity and key are checked as in the real world. */
static loch_status shake(struct loch_tls *client, struct loch_tls_server *server,
                         struct loch_buf *identity)
{
    struct loch_tls *end = NULL;
    struct loch_buf up = {0};
    struct loch_buf down = {0};
    struct loch_buf plain = {0};
    bool closed = false;

    LOCH_TRY(loch_tls_accept(server, &end));
    loch_status st = loch_tls_receive(client, loch_slice_of(NULL, 0), &plain, &up, &closed);
    for (int round = 0; round < 4 && loch_is_ok(st); round++) {
        st = loch_tls_receive(end, loch_buf_slice(&up), &plain, &down, &closed);
        up.len = 0;
        if (loch_is_ok(st))
            st = loch_tls_receive(client, loch_buf_slice(&down), &plain, &up, &closed);
        down.len = 0;
    }
    if (loch_is_ok(st) && !(loch_tls_ready(client) && loch_tls_ready(end)))
        st = LOCH_FAIL(LOCH_E_DENIED, "the handshake does not come to its end");
    if (loch_is_ok(st)) {
        struct loch_slice id = loch_tls_identity(end);
        st = loch_buf_append(identity, id.data, id.len);
    }
    loch_tls_destroy(end);
    loch_buf_fini(&up);
    loch_buf_fini(&down);
    loch_buf_fini(&plain);
    return st;
}

static struct sim_link *link_create(struct sim_process *client, struct sim_process *server,
                                    struct loch_buf *take_identity)
{
    struct sim_world *w = client->node->world;
    struct sim_process *both[2] = {client, server};
    struct sim_link *l = sim_alloc(sizeof *l);

    *l = (struct sim_link){.next = w->links,
                           .prev = &w->links,
                           .world = w,
                           .node = {client->node, server->node},
                           .identity = *take_identity,
                           .open = true};
    if (w->links != NULL)
        w->links->prev = &l->next;
    w->links = l;
    for (unsigned side = 0; side < 2; side++)
        l->end[side] = (struct sim_end){.base = {.env = &both[side]->base},
                                        .process = both[side],
                                        .link = l,
                                        .side = side,
                                        .wants = true};
    return l;
}

static void refuse(struct connecting *c, const char *why)
{
    c->connected(c->arg, LOCH_FAIL(LOCH_E_UNAVAILABLE, "cannot connect to %s: %s", c->address, why),
                 NULL);
    connecting_drop(c);
}

/* Opens both ends. An end that nobody wants (no events attached) is closed. */
static void establish(struct connecting *c, struct sim_listener *l, struct loch_buf *take_identity)
{
    struct sim_link *link = link_create(c->process, sim_process_of(l->base.env), take_identity);

    l->accepted(l->arg, &link->end[1].base);
    if (link->end[1].base.events == NULL)
        sim_stream_close(&link->end[1].base);
    c->connected(c->arg, LOCH_OK, &link->end[0].base);
    if (link->end[0].base.events == NULL)
        sim_stream_close(&link->end[0].base);
}

static void connect_due(void *arg)
{
    struct connecting *c = arg;
    struct sim_world *w = c->process->node->world;
    const char *colon = strrchr(c->address, ':');
    struct sim_node *node = node_named(w, c->address, (size_t)(colon - c->address));
    struct loch_buf identity = {0};

    if (node != NULL && w->parted[node->index][c->process->node->index]) {
        if (w->now_us >= c->until_us)
            refuse(c, "no answer in time");
        else
            sim_at(w, RETRY_US, c->process, connect_due, c, connecting_drop);
        return;
    }
    struct sim_listener *l = NULL;
    if (node != NULL && node->process != NULL && node->process->alive)
        for (l = node->process->listeners; l != NULL && strcmp(l->address, c->address) != 0;)
            l = l->next;
    if (l == NULL) {
        refuse(c, "connection refused");
        return;
    }
    if (c->tls != NULL && l->tls != NULL) {
        loch_status st = shake(c->tls, l->tls, &identity);
        if (!loch_is_ok(st)) {
            loch_buf_fini(&identity);
            c->connected(c->arg, st, NULL);
            connecting_drop(c);
            return;
        }
    }
    establish(c, l, &identity);
    connecting_drop(c);
}

loch_status sim_connect(struct loch_env *env, const char *address, struct loch_tls_client *tls,
                        uint64_t timeout_ms, loch_connected_fn connected, void *arg)
{
    struct sim_process *p = sim_process_of(env);
    struct sim_world *w = p->node->world;

    if (strrchr(address, ':') == NULL || strlen(address) >= 128)
        return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" is not an address", address);
    struct connecting *c = sim_alloc(sizeof *c);
    *c = (struct connecting){.process = p,
                             .until_us = w->now_us + timeout_ms * 1000,
                             .connected = connected,
                             .arg = arg};
    (void)snprintf(c->address, sizeof c->address, "%s", address);
    if (tls != NULL) {
        loch_status st = loch_tls_connect(tls, &c->tls);
        if (!loch_is_ok(st)) {
            free(c);
            return st;
        }
    }
    sim_at(w, 2 * sim_between(w, w->o.net_min_us, w->o.net_max_us), p, connect_due, c,
           connecting_drop);
    return LOCH_OK;
}

/* ---- ends of processes and of the world ---- */
void sim_net_kill(struct sim_process *p)
{
    struct sim_world *w = p->node->world;

    for (struct sim_link *l = w->links; l != NULL; l = l->next)
        if (l->end[0].process == p || l->end[1].process == p)
            reset(l, "connection reset by peer");
}

void sim_net_end_process(struct sim_process *p)
{
    while (p->listeners != NULL)
        sim_listener_close(&p->listeners->base);
}

void sim_net_destroy(struct sim_world *world)
{
    while (world->links != NULL) {
        struct sim_link *l = world->links;
        world->links = l->next;
        for (unsigned side = 0; side < 2; side++) {
            loch_buf_fini(&l->end[side].queue);
            loch_buf_fini(&l->end[side].arrived);
        }
        loch_buf_fini(&l->identity);
        free(l);
    }
}
