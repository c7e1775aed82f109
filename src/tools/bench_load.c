/* Holds: the load's loop, its slots of outstanding requests, and the histogram. A request's id is
 * its slot, so an answer finds its time without a search. */
#include "bench_load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CONNECT_TIMEOUT_MS 10000
#define DRAIN_MS           10000
#define SUB_BITS           5u

struct slot {
    uint64_t since_ns; /* 0: free */
    uint32_t next;     /* of the free list */
};

struct connection {
    struct loch_stream *stream;
    struct run *run;
    unsigned outstanding;
};

struct run {
    const struct loch_load *load;
    struct loch_env *env;
    struct connection *connections;
    struct slot *slots;
    uint32_t free_slot, slot_count;
    unsigned connected, gone, turn;
    uint64_t start_ns, end_ns, issued, outstanding;
    bool sending;
    struct loch_timer *tick;
    struct loch_load_result *out;
    loch_status failed;
};

static uint64_t now_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- the histogram ---- */

static unsigned bucket_of(uint64_t ns)
{
    if (ns < (1u << SUB_BITS))
        return (unsigned)ns;
    unsigned top = 63u - (unsigned)__builtin_clzll(ns);
    unsigned sub = (unsigned)(ns >> (top - SUB_BITS)) & ((1u << SUB_BITS) - 1);
    return ((top - SUB_BITS + 1) << SUB_BITS) + sub;
}

/* The highest value of a bucket. */
static uint64_t bucket_end(unsigned bucket)
{
    if (bucket < (1u << SUB_BITS))
        return bucket;
    unsigned top = (bucket >> SUB_BITS) + SUB_BITS - 1;
    uint64_t sub = bucket & ((1u << SUB_BITS) - 1);
    uint64_t step = UINT64_C(1) << (top - SUB_BITS);
    return (UINT64_C(1) << top) + (sub + 1) * step - 1;
}

void loch_histogram_add(struct loch_histogram *h, uint64_t ns)
{
    h->buckets[bucket_of(ns)]++;
    h->count++;
    h->sum_ns += ns;
    h->max_ns = ns > h->max_ns ? ns : h->max_ns;
}

uint64_t loch_histogram_at(const struct loch_histogram *h, double share)
{
    uint64_t seen = 0;
    uint64_t wanted = (uint64_t)(share * (double)h->count);

    for (unsigned i = 0; i < LOCH_HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen > 0 && seen >= wanted)
            return bucket_end(i) < h->max_ns ? bucket_end(i) : h->max_ns;
    }
    return h->max_ns;
}

void loch_histogram_merge(struct loch_histogram *h, const struct loch_histogram *from)
{
    for (unsigned i = 0; i < LOCH_HISTOGRAM_BUCKETS; i++)
        h->buckets[i] += from->buckets[i];
    h->count += from->count;
    h->sum_ns += from->sum_ns;
    h->max_ns = from->max_ns > h->max_ns ? from->max_ns : h->max_ns;
}

json_t *loch_histogram_report(const struct loch_histogram *h)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "mean",
                     h->count > 0 ? (double)h->sum_ns / (double)h->count / 1e3 : 0, "p50",
                     (double)loch_histogram_at(h, 0.5) / 1e3, "p90",
                     (double)loch_histogram_at(h, 0.9) / 1e3, "p99",
                     (double)loch_histogram_at(h, 0.99) / 1e3, "p999",
                     (double)loch_histogram_at(h, 0.999) / 1e3, "max", (double)h->max_ns / 1e3);
}

/* ---- sending ---- */

static void fail(struct run *r, loch_status st)
{
    if (loch_is_ok(r->failed)) {
        r->failed = st;
        (void)snprintf(r->out->error, sizeof r->out->error, "%s", loch_error_text());
    }
    loch_env_stop(r->env);
}

static bool send_one(struct run *r, struct connection *c, uint64_t since_ns, struct loch_writer *w)
{
    uint32_t slot = r->free_slot;

    if (slot == UINT32_MAX || c->outstanding >= r->load->depth)
        return false;
    r->free_slot = r->slots[slot].next;
    r->slots[slot].since_ns = since_ns;
    r->load->request(r->load->arg, w, slot + 1);
    c->outstanding++;
    r->outstanding++;
    r->issued++;
    return true;
}

static void flush(struct run *r, struct connection *c, struct loch_writer *w, struct loch_buf *buf)
{
    loch_status st = loch_writer_finish(w);

    if (loch_is_ok(st) && buf->len > 0 && c->stream != NULL) {
        loch_stream_send(c->stream, buf);
        return;
    }
    loch_buf_fini(buf);
    if (!loch_is_ok(st))
        fail(r, st);
}

/* Closed loop: whatever the connection has room for. */
static void fill(struct run *r, struct connection *c)
{
    struct loch_buf buf = {0};
    struct loch_writer w;
    uint64_t now = now_ns();

    if (!r->sending || now >= r->end_ns)
        return;
    loch_writer_init(&w, &buf);
    while (send_one(r, c, now, &w)) {
    }
    flush(r, c, &w, &buf);
}

/* Open loop: what is due by now, each on the next connection that has room. */
static void send_due(struct run *r)
{
    uint64_t now = now_ns();
    double elapsed = (double)((now < r->end_ns ? now : r->end_ns) - r->start_ns) / 1e9;
    uint64_t due = (uint64_t)(elapsed * r->load->rate);

    for (unsigned full = 0; r->issued < due && full < r->load->connections;) {
        struct connection *c = &r->connections[r->turn++ % r->load->connections];
        uint64_t at = r->start_ns + (uint64_t)((double)r->issued / r->load->rate * 1e9);
        struct loch_buf buf = {0};
        struct loch_writer w;
        loch_writer_init(&w, &buf);
        full = send_one(r, c, at, &w) ? 0 : full + 1;
        flush(r, c, &w, &buf);
    }
    if (now >= r->end_ns)
        r->out->late = due - r->issued;
}

static void tick(void *arg)
{
    struct run *r = arg;
    uint64_t now = now_ns();

    r->tick = NULL;
    if (r->sending && r->load->rate > 0)
        send_due(r);
    if (r->sending && now >= r->end_ns)
        r->sending = false;
    bool drained = !r->sending && r->connected > 0 && r->start_ns != 0 && r->outstanding == 0;
    if (drained || (r->start_ns != 0 && now > r->end_ns + DRAIN_MS * UINT64_C(1000000))) {
        loch_env_stop(r->env);
        return;
    }
    if (!loch_is_ok(loch_env_timer(r->env, 1, &r->tick, tick, r)))
        fail(r, LOCH_FAIL(LOCH_E_NO_MEMORY, "no timer"));
}

/* ---- answers ---- */

static void answered(struct run *r, struct connection *c, uint64_t id)
{
    if (id == 0 || id > r->slot_count || r->slots[id - 1].since_ns == 0)
        return;
    struct slot *slot = &r->slots[id - 1];
    loch_histogram_add(&r->out->latency, now_ns() - slot->since_ns);
    slot->since_ns = 0;
    slot->next = r->free_slot;
    r->free_slot = (uint32_t)(id - 1);
    c->outstanding--;
    r->outstanding--;
    r->out->answers++;
    if (r->load->rate == 0)
        fill(r, c);
}

static loch_status on_frame(void *arg, uint8_t type, struct loch_slice payload)
{
    struct connection *c = arg;
    struct run *r = c->run;

    if (type == LOCH_PAGE_GET_REPLY) {
        struct loch_page_get_reply m;
        LOCH_TRY(loch_page_get_reply_decode(payload, &m));
        answered(r, c, m.request_id);
    } else if (type == LOCH_PAGE_ERROR) {
        struct loch_page_error m;
        LOCH_TRY(loch_page_error_decode(payload, &m));
        if (r->out->errors++ == 0)
            (void)snprintf(r->out->error, sizeof r->out->error, "%.*s", (int)m.text.len,
                           (const char *)m.text.data);
        answered(r, c, m.request_id);
    }
    return LOCH_OK;
}

static void on_closed(void *arg, loch_status st)
{
    struct connection *c = arg;

    c->stream = NULL;
    c->run->gone++;
    if (c->run->sending)
        fail(c->run, loch_is_ok(st) ? LOCH_FAIL(LOCH_E_UNAVAILABLE, "the server closed") : st);
}

static const struct loch_stream_events events = {.frame = on_frame, .closed = on_closed};

static void begin(struct run *r)
{
    r->start_ns = now_ns();
    r->end_ns = r->start_ns + (uint64_t)(r->load->seconds * 1e9);
    r->sending = true;
    if (r->load->rate > 0)
        return; /* the tick sends */
    for (unsigned i = 0; i < r->load->connections; i++)
        fill(r, &r->connections[i]);
}

static void on_connected(void *arg, loch_status st, struct loch_stream *stream)
{
    struct connection *c = arg;
    struct loch_buf buf = {0};
    struct loch_writer w;

    if (stream == NULL) {
        fail(c->run, st);
        return;
    }
    c->stream = stream;
    loch_stream_attach(stream, &events, c);
    loch_writer_init(&w, &buf);
    if (c->run->load->greet != NULL)
        c->run->load->greet(c->run->load->arg, &w);
    flush(c->run, c, &w, &buf);
    if (++c->run->connected == c->run->load->connections)
        begin(c->run);
}

static loch_status run_all(struct run *r)
{
    const struct loch_load *load = r->load;

    for (uint32_t i = 0; i < r->slot_count; i++)
        r->slots[i].next = i + 1 < r->slot_count ? i + 1 : UINT32_MAX;
    for (unsigned i = 0; i < load->connections; i++) {
        r->connections[i].run = r;
        LOCH_TRY(loch_env_connect(r->env, load->address, load->tls, CONNECT_TIMEOUT_MS,
                                  on_connected, &r->connections[i]));
    }
    LOCH_TRY(loch_env_timer(r->env, 1, &r->tick, tick, r));
    loch_env_run(r->env);
    if (!loch_is_ok(r->failed))
        return LOCH_FAIL(r->failed.code, "%s: %s", load->address, r->out->error);
    r->out->seconds = (double)(now_ns() - r->start_ns) / 1e9;
    return LOCH_OK;
}

loch_status loch_load_run(const struct loch_load *load, struct loch_load_result *out)
{
    struct run r = {.load = load, .out = out, .slot_count = load->connections * load->depth};
    loch_status st;

    memset(out, 0, sizeof *out);
    LOCH_TRY(loch_env_real_create(&r.env));
    r.connections = calloc(load->connections, sizeof *r.connections);
    r.slots = calloc(r.slot_count, sizeof *r.slots);
    if (r.connections == NULL || r.slots == NULL)
        st = LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %u requests", r.slot_count);
    else
        st = run_all(&r);
    loch_env_real_destroy(r.env); /* ends what streams are left */
    free(r.connections);
    free(r.slots);
    return st;
}
