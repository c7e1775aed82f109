/* The page port over real TLS on loopback, with one timeline, and a client of it. */
#ifndef LOCH_TESTS_PAGE_WORLD_H
#define LOCH_TESTS_PAGE_WORLD_H

#include "store_fixture.h"

#include "care/served.h"
#include "pageserver.h"
#include "read/page_service.h"

#include "loch/crypto/psk.h"
#include "loch/crypto/random.h"
#include "loch/crypto/tls.h"
#include "loch/host/metrics.h"
#include "loch/pg/control.h"
#include "loch/pg/page.h"
#include "loch/wire/packed_page.h"
#include "loch/wire/page.h"

#define FRAMES_MAX 16u
#define L          UINT64_C(0x1000000)

struct world {
    struct site *site;
    struct loch_pageserver ps;
    char address[32];
    struct loch_timeline *timeline; /* borrowed */
    struct loch_served *served;
    struct loch_psk_identity identity;
    struct loch_tls_client *tls;
    struct loch_stream *stream;
    bool closed, stopped;
    bool counts_only; /* what comes is not kept */
    bool plain;       /* the client takes no packed pages */
    bool noise;       /* put_pages makes pages that do not pack */
    unsigned wanted;
    struct {
        uint8_t type;
        struct loch_buf payload;
    } frames[FRAMES_MAX];
    unsigned count;
    struct loch_timer *timer;
};

/* ---- a client ---- */

static inline loch_status on_frame(void *arg, uint8_t type, struct loch_slice payload)
{
    struct world *w = arg;
    if (w->counts_only) {
        w->count++;
        return LOCH_OK;
    }
    assert_true(w->count < FRAMES_MAX);
    w->frames[w->count].type = type;
    w->frames[w->count].payload.len = 0;
    LOCH_TRY(loch_buf_append(&w->frames[w->count].payload, payload.data, payload.len));
    w->count++;
    return LOCH_OK;
}

static inline void on_closed(void *arg, loch_status st)
{
    struct world *w = arg;
    (void)st;
    w->stream = NULL;
    w->closed = true;
}

static const struct loch_stream_events events = {.frame = on_frame, .closed = on_closed};

static inline void on_connected(void *arg, loch_status st, struct loch_stream *stream)
{
    struct world *w = arg;
    assert_ok(st);
    w->stream = stream;
    loch_stream_attach(stream, &events, w);
    loch_env_stop(w->site->env);
}

static inline void tick(void *arg)
{
    struct world *w = arg;
    w->timer = NULL;
    if (w->closed || w->count >= w->wanted || w->stopped)
        loch_env_stop(w->site->env);
    else
        assert_ok(loch_env_timer(w->site->env, 2, &w->timer, tick, w));
}

/* Runs the loop until so many frames have come, or the connection closed, or ms passed. */
static inline void run(struct world *w, unsigned frames)
{
    w->wanted = frames;
    assert_ok(loch_env_timer(w->site->env, 2, &w->timer, tick, w));
    loch_env_run(w->site->env);
}

static inline void pause_fired(void *arg)
{
    struct world *w = arg;
    loch_env_stop(w->site->env);
}

static inline void run_ms(struct world *w, uint64_t ms)
{
    assert_ok(loch_env_timer(w->site->env, ms, &w->timer, pause_fired, w));
    loch_env_run(w->site->env);
    w->timer = NULL;
}

static inline void connect_as(struct world *w, uint8_t rights)
{
    struct loch_buf encoded = {0};
    struct loch_secret psk = {0};
    w->closed = false;
    w->count = 0;
    w->identity.rights = rights;
    assert_ok(loch_keys_psk(w->site->keys, &w->identity, &psk));
    assert_ok(loch_psk_identity_encode(&w->identity, &encoded));
    loch_tls_client_destroy(w->tls);
    assert_ok(loch_tls_client_create(loch_buf_slice(&encoded), &psk, &w->tls));
    loch_secret_fini(&psk);
    loch_buf_fini(&encoded);
    assert_ok(loch_env_connect(w->site->env, w->address, w->tls, 5000, on_connected, w));
    loch_env_run(w->site->env);
    assert_non_null(w->stream);
}

#define SEND(w_, name_, ...)                                                                       \
    do {                                                                                           \
        struct loch_buf send_buf = {0};                                                            \
        struct loch_writer send_w;                                                                 \
        struct loch_page_##name_ send_m = __VA_ARGS__;                                             \
        loch_writer_init(&send_w, &send_buf);                                                      \
        loch_page_##name_##_encode(&send_w, &send_m);                                              \
        assert_ok(loch_writer_finish(&send_w));                                                    \
        loch_stream_send((w_)->stream, &send_buf);                                                 \
    } while (0)

static inline void hello(struct world *w, uint64_t epoch)
{
    SEND(w, hello,
         {.version = w->plain ? LOCH_WIRE_PAGE_VERSION_PLAIN : LOCH_WIRE_PAGE_VERSION,
          .tenant = w->site->tenant,
          .timeline = loch_timeline_info(w->timeline)->timeline,
          .term = 5,
          .compute_epoch = epoch});
}

static inline void greet(struct world *w, uint8_t rights)
{
    connect_as(w, rights);
    hello(w, 3);
    run(w, 1);
    assert_int_equal(w->count, 1);
    assert_int_equal(w->frames[0].type, LOCH_PAGE_HELLO_REPLY);
    struct loch_page_hello_reply m;
    assert_ok(loch_page_hello_reply_decode(loch_buf_slice(&w->frames[0].payload), &m));
    assert_true(m.last_record_lsn >= L);
    w->count = 0;
}

static inline struct loch_page_error error_of(struct world *w, unsigned i)
{
    struct loch_page_error m;
    assert_true(w->count > i);
    assert_int_equal(w->frames[i].type, LOCH_PAGE_ERROR);
    assert_ok(loch_page_error_decode(loch_buf_slice(&w->frames[i].payload), &m));
    return m;
}

/* Until it is so, or too long. */
#define LONG_MS 50000u /* below what a receiver of a basebackup may take nothing for */
#define RUN_UNTIL(w_, condition_)                                                                  \
    do {                                                                                           \
        const uint64_t until_ = loch_env_now_ns((w_)->site->env) + LONG_MS * UINT64_C(1000000);    \
        while (!(condition_) && loch_env_now_ns((w_)->site->env) < until_)                         \
            run_ms((w_), 5);                                                                       \
        assert_true(condition_);                                                                   \
    } while (0)

static inline void hang_up(struct world *w)
{
    if (w->stream != NULL)
        loch_stream_close(w->stream);
    while (!w->closed)
        run(w, FRAMES_MAX);
    run_ms(w, 20);
}

/* ---- the server ---- */

static const struct loch_control world_control = {.system_id = 7,
                                                  .state = LOCH_DB_SHUTDOWNED,
                                                  .checkpoint = {.tli = 1, .prev_tli = 1},
                                                  .segment_bytes = 16u << 20,
                                                  .last_start = L - 100,
                                                  .last_end = L};

static inline int world_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct loch_buf bytes = {0};
    uint8_t page[LOCH_PAGE_BYTES], size[4] = {3, 0, 0, 0};
    void *site = NULL;
    assert_non_null(w);
    site_up(&site);
    w->site = site;
    w->timeline = site_timeline(site, L, NULL);
    struct loch_key key = {.kind = LOCH_KEY_REL_SIZE, .spc = 1663, .db = 5, .rel = 9};
    assert_ok(loch_timeline_put_value(w->timeline, &key, L, loch_slice_of(size, 4)));
    loch_page_init(page, 0);
    loch_page_set_lsn(page, L);
    key.kind = LOCH_KEY_PAGE;
    key.block = 1;
    assert_ok(loch_timeline_put_value(w->timeline, &key, L, loch_slice_of(page, sizeof page)));
    assert_ok(loch_control_encode(&world_control, &bytes));
    assert_ok(loch_timeline_commit(w->timeline, L - 100, loch_buf_slice(&bytes)));
    loch_buf_fini(&bytes);

    struct loch_pageserver *ps = &w->ps;
    ps->env = w->site->env;
    ps->keys = w->site->keys;
    ps->store = w->site->store;
    ps->cache = w->site->cache;
    assert_ok(loch_metrics_create("test", &ps->metrics));
    ps->m_get_seconds = loch_metrics_histogram(ps->metrics, "a", "a", NULL, 0);
    ps->m_wait_seconds = loch_metrics_histogram(ps->metrics, "b", "b", NULL, 0);
    ps->m_cached = loch_metrics_counter(ps->metrics, "e", "e", NULL, 0);
    ps->m_at_once = loch_metrics_counter(ps->metrics, "f", "f", NULL, 0);
    ps->m_packed = loch_metrics_counter(ps->metrics, "packed", "packed", NULL, 0);
    ps->m_gets = ps->m_errors = ps->m_records = ps->m_wal_bytes = ps->m_flushes =
        loch_metrics_counter(ps->metrics, "c", "c", NULL, 0);
    ps->m_connections = loch_metrics_gauge(ps->metrics, "d", "d", NULL, 0);
    loch_memory_init(ps);
    ps->config.memory_layers_bytes = (uint64_t)64 << 20;
    ps->config.checkpoint_ms = 600000;
    ps->config.wait_lsn_ms = 60000;
    ps->config.node = ps->store.node;
    ps->config.cluster = w->site->cluster;
    ps->config.safekeeper_count = 1; /* where nobody listens */
    snprintf(ps->config.safekeepers[0].address, sizeof ps->config.safekeepers[0].address,
             "127.0.0.1:1");
    assert_ok(loch_random_id(&ps->config.safekeepers[0].node));
    assert_ok(loch_served_create(ps, w->timeline, &w->served));
    assert_ok(loch_tls_server_create(loch_keys_psk_lookup, ps->keys, &ps->tls));
    loch_status st = LOCH_OK;
    for (unsigned port = 21590; port < 21600; port++) {
        snprintf(w->address, sizeof w->address, "127.0.0.1:%u", port);
        st = loch_env_listen(ps->env, w->address, ps->tls, &ps->listener, loch_page_service_accept,
                             ps);
        if (loch_is_ok(st))
            break;
    }
    assert_ok(st);
    w->identity = (struct loch_psk_identity){.version = 1,
                                             .client_role = LOCH_ROLE_COMPUTE,
                                             .server_role = LOCH_ROLE_PAGESERVER,
                                             .cluster = w->site->cluster,
                                             .tenant = w->site->tenant,
                                             .timeline = loch_timeline_info(w->timeline)->timeline,
                                             .server_node = ps->store.node,
                                             .compute_epoch = 3};
    assert_ok(loch_random_id(&w->identity.client_id));
    assert_ok(loch_random_id(&w->identity.client_boot));
    *state = w;
    return 0;
}

static inline void stopped(void *arg)
{
    struct world *w = arg;
    w->stopped = true;
}

static inline int world_down(void **state)
{
    struct world *w = *state;
    void *site = w->site;
    if (!w->stopped)
        loch_served_stop(w->served, stopped, w);
    while (!w->stopped)
        run(w, FRAMES_MAX + 1);
    loch_listener_close(w->ps.listener);
    loch_page_service_end(&w->ps);
    run_ms(w, 20);
    assert_int_equal(w->ps.requests, 0);
    loch_tls_client_destroy(w->tls);
    loch_tls_server_destroy(w->ps.tls);
    loch_metrics_destroy(w->ps.metrics);
    loch_buf_fini(&w->ps.spare_answers);
    for (size_t i = 0; i < FRAMES_MAX; i++)
        loch_buf_fini(&w->frames[i].payload);
    free(w);
    return site_down(&site);
}

static const struct loch_page_at latest = {LOCH_LSN_MAX, L};
#define RIGHTS (LOCH_RIGHT_PAGES | LOCH_RIGHT_BASEBACKUP)

#endif
