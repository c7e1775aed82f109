/* What the page port bears of its peers: how many connections there are, how long one may be silent
 * at first or unread at last, and how many lines in the log they make. */
#include "page_limits.h"

#include "page_conn.h"
#include "page_service.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/host/metrics.h"

#include <stdio.h>

#define FIRST_FRAME_NS UINT64_C(10000000000) /* a connection that says nothing is closed */
#define CLOSING_NS     UINT64_C(5000000000)  /* one that does not take its last word likewise */
#define TICK_MS        1000u

size_t page_conns_max = 8192;

/* ---- lines in the log ---- */

void page_limits_say(struct loch_pageserver *ps, const char *text)
{
    char line[LOCH_REFUSAL_TEXT_BYTES];
    (void)snprintf(line, sizeof line, "page service: %s", text);
    if (loch_refusals_news(&ps->refusals, line, loch_env_now_ns(ps->env)))
        LOCH_WARN("%s", line);
}

/* ---- how many ---- */

static size_t count_of(const struct loch_pageserver *ps, const struct loch_id *tenant)
{
    size_t n = 0;
    for (const struct page_conn *c = ps->conns; c != NULL; c = c->next)
        n += loch_id_equal(&c->identity.tenant, tenant);
    return n;
}

static void tell_and_close(struct loch_pageserver *ps, struct loch_stream *stream, loch_status st)
{
    const char *text = loch_error_text();
    struct loch_page_error m = {.code = (uint32_t)st.code,
                                .text = loch_slice_of(text, strnlen(text, 1000))};
    struct loch_buf buf = {0};
    struct loch_writer w;
    loch_metric_add(ps->m_errors, 1);
    page_limits_say(ps, text);
    loch_writer_init(&w, &buf);
    loch_page_error_encode(&w, &m);
    loch_stream_send(stream, &buf);
    loch_stream_close(stream);
}

bool page_limits_admit(struct loch_pageserver *ps, const struct loch_id *tenant,
                       struct loch_stream *stream)
{
    const bool many = ps->conn_count >= page_conns_max / 2;
    if (ps->conn_count >= page_conns_max) {
        tell_and_close(ps, stream,
                       LOCH_FAIL(LOCH_E_LIMIT,
                                 "the pageserver has %zu connections and takes no more: let "
                                 "sessions of computes end, or use another pageserver",
                                 ps->conn_count));
        return false;
    }
    if (many && count_of(ps, tenant) >= page_conns_max / 4) {
        tell_and_close(ps, stream,
                       LOCH_FAIL(LOCH_E_LIMIT,
                                 "the tenant has %zu connections to the pageserver, its share "
                                 "while there are %zu: let sessions of its computes end",
                                 page_conns_max / 4, ps->conn_count));
        return false;
    }
    return true;
}

/* ---- how long ---- */

static void tick(void *arg);

static void tick_soon(struct loch_pageserver *ps)
{
    if (ps->conn_tick == NULL && ps->conns != NULL &&
        !loch_is_ok(loch_env_timer(ps->env, TICK_MS, &ps->conn_tick, tick, ps)))
        ps->conn_tick = NULL; /* the next connection tries again */
}

static bool is_over(const struct page_conn *conn, uint64_t now_ns)
{
    if (conn->closing)
        return now_ns - conn->since_ns > CLOSING_NS;
    return !conn->greeted && now_ns - conn->since_ns > FIRST_FRAME_NS;
}

static void tick(void *arg)
{
    struct loch_pageserver *ps = arg;
    const uint64_t now_ns = loch_env_now_ns(ps->env);
    const char *text = NULL;
    uint32_t more = 0;
    ps->conn_tick = NULL;
    while (loch_refusals_over(&ps->refusals, now_ns, &text, &more))
        LOCH_INFO("%" PRIu32 " more within a minute: %s", more, text);
    for (struct page_conn *c = ps->conns; c != NULL; c = c->next)
        if (c->stream != NULL && is_over(c, now_ns))
            loch_stream_close(c->stream);
    tick_soon(ps);
}

void page_limits_begin(struct page_conn *conn)
{
    struct loch_pageserver *ps = conn->ps;
    conn->since_ns = loch_env_now_ns(ps->env);
    conn->next = ps->conns;
    conn->link = &ps->conns;
    if (conn->next != NULL)
        conn->next->link = &conn->next;
    ps->conns = conn;
    ps->conn_count++;
    loch_metric_move(ps->m_connections, 1);
    tick_soon(ps);
}

void page_limits_end(struct page_conn *conn)
{
    struct loch_pageserver *ps = conn->ps;
    *conn->link = conn->next;
    if (conn->next != NULL)
        conn->next->link = conn->link;
    ps->conn_count--;
    loch_metric_move(ps->m_connections, -1);
    if (ps->conns == NULL)
        loch_page_service_end(ps);
}

void loch_page_service_end(struct loch_pageserver *ps)
{
    loch_timer_cancel(ps->conn_tick);
    ps->conn_tick = NULL;
}
