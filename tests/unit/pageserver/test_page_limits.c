/* What the page port bears: lines in the log, connections, and how long one may be of no use. */
#include "page_world.h"

#include "../kernel_queue.h"
#include "read/page_limits.h"

#include <fcntl.h>
#include <unistd.h>

/* ---- the log ---- */

static int log_file, was_stderr;

static void begin_log(const struct world *w)
{
    char path[96];
    snprintf(path, sizeof path, "%s/log", w->site->dir);
    log_file = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(log_file >= 0);
    was_stderr = dup(STDERR_FILENO);
    assert_true(dup2(log_file, STDERR_FILENO) >= 0);
}

/* How many of the lines since begin_log have the text. */
static size_t end_log(const char *text)
{
    static char lines[4u << 20];
    size_t count = 0;
    assert_true(dup2(was_stderr, STDERR_FILENO) >= 0);
    (void)close(was_stderr);
    const ssize_t n = pread(log_file, lines, sizeof lines - 1, 0);
    assert_true(n >= 0);
    lines[n] = '\0';
    (void)close(log_file);
    for (const char *at = lines; (at = strstr(at, text)) != NULL; at++)
        count++;
    return count;
}

/* Every one is answered, a few are logged. */
static void requests_without_sense_do_not_fill_the_log(void **state)
{
    enum { MANY = 2000 };
    struct world *w = *state;
    greet(w, RIGHTS);
    w->counts_only = true;
    begin_log(w);
    for (uint64_t i = 1; i <= MANY; i++) {
        SEND(w, get, {.request_id = i, .at = {i, i}, .rel = {1663, 5, 9}});
        SEND(w, get, {.request_id = MANY + i, .at = {1, 1}, .rel = {1663, 5, 9}});
    }
    RUN_UNTIL(w, w->count == 2 * MANY);
    assert_in_range(end_log("lies before the timeline's beginning"), 1, 2 * LOCH_REFUSALS_MINUTE);
    assert_int_equal(loch_metric_value(w->ps.m_errors) >= 2 * MANY, true);
    w->counts_only = false;
    w->count = 0;
    hang_up(w);
}

/* ---- how many ---- */

struct kept {
    struct loch_stream *stream;
    unsigned code; /* of an error */
    bool closed;
};

static loch_status kept_frame(void *arg, uint8_t type, struct loch_slice payload)
{
    struct kept *k = arg;
    struct loch_page_error m;
    if (type != LOCH_PAGE_ERROR)
        return LOCH_OK;
    LOCH_TRY(loch_page_error_decode(payload, &m));
    k->code = m.code;
    return LOCH_OK;
}

static void kept_closed(void *arg, loch_status st)
{
    struct kept *k = arg;
    (void)st;
    k->stream = NULL;
    k->closed = true;
}

static void connect_kept(struct world *w, struct kept *k)
{
    static const struct loch_stream_events keeps = {.frame = kept_frame, .closed = kept_closed};
    *k = (struct kept){0};
    connect_as(w, RIGHTS);
    k->stream = w->stream;
    loch_stream_attach(k->stream, &keeps, k);
    w->stream = NULL;
}

static void connects(struct world *w, struct kept *k)
{
    const size_t before = w->ps.conn_count;
    connect_kept(w, k);
    RUN_UNTIL(w, w->ps.conn_count == before + 1);
}

static void is_refused(struct world *w)
{
    struct kept k;
    connect_kept(w, &k);
    RUN_UNTIL(w, k.closed);
    assert_int_equal(k.code, LOCH_E_LIMIT);
}

static void another_tenant(struct world *w)
{
    assert_ok(loch_random_id(&w->identity.tenant));
    assert_ok(loch_random_id(&w->identity.timeline));
    assert_ok(loch_keys_tenant_create(w->site->keys, &w->identity.tenant));
    assert_ok(loch_keys_add_timeline(w->site->keys, &w->identity.tenant, &w->identity.timeline));
}

static void a_tenant_has_its_share_of_connections(void **state)
{
    enum { MOST = 8 };
    struct world *w = *state;
    struct kept k[MOST];
    const size_t before = page_conns_max;
    page_conns_max = MOST;
    for (size_t i = 0; i < MOST / 2; i++)
        connects(w, &k[i]);
    is_refused(w); /* from half of all on: a quarter of all for each */
    for (size_t i = MOST / 2; i < MOST; i++) {
        if (i % 2 == 0)
            another_tenant(w);
        connects(w, &k[i]);
    }
    another_tenant(w);
    is_refused(w); /* of anybody */
    loch_stream_close(k[0].stream);
    RUN_UNTIL(w, w->ps.conn_count == MOST - 1);
    connects(w, &k[0]);
    for (size_t i = 0; i < MOST; i++)
        loch_stream_close(k[i].stream);
    RUN_UNTIL(w, w->ps.conn_count == 0);
    page_conns_max = before;
}

/* ---- how long ---- */

static void who_does_not_greet_is_closed(void **state)
{
    struct world *w = *state;
    struct kept silent;
    connects(w, &silent);
    greet(w, RIGHTS);
    const uint64_t before = loch_env_now_ns(w->site->env);
    RUN_UNTIL(w, silent.closed);
    assert_true(loch_env_now_ns(w->site->env) - before > UINT64_C(8000000000));
    assert_false(w->closed); /* whoever greeted may rest */
    hang_up(w);
}

/* Asks for more than the kernel holds, and takes none of it. */
static void clog(struct world *w, struct loch_stream *stream)
{
    enum { MANY = 6000 }; /* 48 MB */
    int64_t before, taken = 0;
    w->stream = stream;
    loch_stream_read(stream, false);
    hello(w, 3);
    for (uint64_t i = 1; i <= MANY; i++)
        SEND(w, get, {i, latest, {1663, 5, 9}, 0, 1});
    w->stream = NULL;
    do {
        before = taken;
        run_ms(w, 100);
        taken = loch_metric_value(w->ps.m_gets);
    } while (taken == 0 || taken > before);
}

/* A timeline that is no longer served ends its connections, also those that take nothing. */
static void who_does_not_take_its_last_word_is_closed(void **state)
{
    struct world *w = *state;
    struct kept k;
    connects(w, &k);
    clog(w, k.stream);
    loch_served_stop(w->served, stopped, w);
    RUN_UNTIL(w, w->ps.conn_count == 0 && w->stopped);
    loch_stream_read(k.stream, true);
    RUN_UNTIL(w, k.closed);
}

/* Asks until the peer's kernel takes no more; nothing that was asked is unread here, else closing
 * alone would reset. */
static void fill(struct world *w, struct loch_stream *stream, uint16_t port)
{
    int64_t asked = loch_metric_value(w->ps.m_gets);
    w->stream = stream;
    loch_stream_read(stream, false);
    hello(w, 3);
    do {
        for (uint64_t i = 1; i <= 64; i++)
            SEND(w, get, {i, latest, {1663, 5, 9}, 0, 1});
        asked += 64;
        RUN_UNTIL(w, loch_metric_value(w->ps.m_gets) == asked && w->ps.requests == 0);
        run_ms(w, 20);
    } while (!kernel_has_bytes_from(port));
    w->stream = NULL;
}

/* Pages that the kernel took before the key was gone do not leave after. */
static void who_does_not_read_is_reset_in_the_dark(void **state)
{
    struct world *w = *state;
    struct kept k;
    const uint16_t port = (uint16_t)strtoul(strchr(w->address, ':') + 1, NULL, 10);
    connects(w, &k);
    fill(w, k.stream, port);
    loch_served_darken(w->served, LOCH_E_KEY_REVOKED, "denied", stopped, w);
    RUN_UNTIL(w, w->ps.conn_count == 0 && w->stopped);
    assert_false(kernel_has_bytes_from(port));
    loch_stream_read(k.stream, true);
    RUN_UNTIL(w, k.closed);
}

#define TEST(test_) cmocka_unit_test_setup_teardown(test_, world_up, world_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(requests_without_sense_do_not_fill_the_log),
        TEST(a_tenant_has_its_share_of_connections),
        TEST(who_does_not_greet_is_closed),
        TEST(who_does_not_take_its_last_word_is_closed),
        TEST(who_does_not_read_is_reset_in_the_dark),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
