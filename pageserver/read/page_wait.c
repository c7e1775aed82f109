/* Requests for LSNs that no WAL has reached.
 *
 * A request waits as long as WAL that exists is on its way here. One that asks for a fixed LSN
 * ahead of all committed WAL, or for the newest state not before an LSN that no compute can have
 * come to yet, gets a clear answer after pageserver.wait_lsn. A compute's own requests, for what it
 * has just written itself, wait until that is committed. */
#include "page_conn.h"

#include "loch/base/check.h"

/* A compute's WAL that is not committed yet is far less. */
#define AHEAD_MOST_BYTES (UINT64_C(1) << 30)
#define LOOK_MOST_MS     1000u

static bool is_hopeless(const struct page_request *r, loch_lsn *known)
{
    const struct page_conn *conn = r->conn;
    const uint64_t waited_ms = (loch_env_now_ns(conn->ps->env) - r->began_ns) / 1000000;
    const bool latest = r->at.request_lsn == LOCH_LSN_MAX;
    if (!r->waiting || conn->served == NULL || waited_ms < conn->ps->config.wait_lsn_ms)
        return false;
    *known = loch_max_u64(loch_served_commit_lsn(conn->served),
                          loch_timeline_last_record_lsn(loch_served_timeline(conn->served)));
    return r->waiter.lsn > *known && (!latest || r->waiter.lsn - *known > AHEAD_MOST_BYTES);
}

static void give_up(struct page_request *r, loch_lsn known)
{
    loch_served_unwait(&r->waiter);
    r->waiting = false;
    page_conn_error(r->conn, r->id,
                    LOCH_FAIL(LOCH_E_UNAVAILABLE,
                              LOCH_LSN_FMT " lies ahead of all WAL: " LOCH_LSN_FMT
                                           " is committed, as far as the safekeepers have told; "
                                           "waited %" PRIu64 " ms",
                              LOCH_LSN_ARG(r->waiter.lsn), LOCH_LSN_ARG(known),
                              r->conn->ps->config.wait_lsn_ms));
    page_request_destroy(r);
}

static void look(void *arg)
{
    struct page_conn *conn = arg;
    bool any = false;
    conn->patience = NULL;
    for (struct page_request *r = conn->requests, *next; r != NULL; r = next) {
        loch_lsn known = LOCH_LSN_NONE;
        next = r->next;
        if (is_hopeless(r, &known))
            give_up(r, known);
        else
            any = any || r->waiting;
    }
    if (any)
        page_wait_begin(conn);
}

void page_wait_begin(struct page_conn *conn)
{
    const uint64_t ms =
        loch_min_u64(LOOK_MOST_MS, loch_max_u64(10, conn->ps->config.wait_lsn_ms / 4));
    if (conn->patience == NULL && conn->stream != NULL)
        (void)loch_is_ok(loch_env_timer(conn->ps->env, ms, &conn->patience, look, conn));
}

void page_wait_end(struct page_conn *conn)
{
    loch_timer_cancel(conn->patience);
    conn->patience = NULL;
}
