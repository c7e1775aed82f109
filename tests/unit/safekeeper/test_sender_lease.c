/* A PULL that goes on while the lease on the tenant's keys runs out. */
#include "lease_world.h"

#include "service.h"

static size_t sent;
static enum loch_code refused;

static void fake_send(struct loch_stream *stream, struct loch_buf *take_frames)
{
    (void)stream;
    sent += take_frames->len;
    loch_buf_fini(take_frames);
}

static size_t fake_queued(const struct loch_stream *stream)
{
    (void)stream;
    return 0;
}

static void fake_refuse(struct sk_conn *conn, enum loch_code code, const char *text)
{
    assert_non_null(strstr(text, "run out"));
    refused = code;
    conn->closing = true;
}

static loch_status fake_limit(struct sk_conn *conn, loch_lsn *upto)
{
    *upto = conn->timeline->seen_commit;
    return LOCH_OK;
}

#undef fail /* cmocka's */
#define sk_store_tail      memory_tail
#define loch_stream_send   fake_send
#define loch_stream_queued fake_queued
#define sk_conn_refuse     fake_refuse
#define loch_acceptor_pull_limit(acceptor_, mode_, term_, generation_, position_, upto_)           \
    fake_limit(conn, (upto_))
#include "sender.c"

static void nothing_is_sent_without_a_lease(void **state)
{
    struct lease_world *w = *state;
    struct sk_conn conn = {.daemon = &w->daemon,
                           .kind = SK_CONN_PULL,
                           .timeline = &w->timeline,
                           .mode = LOCH_PULL_COMMITTED};
    sk_sender_pump(&conn);
    assert_int_equal(conn.position, 10 * PIECE);
    assert_true(sent >= 10 * PIECE);
    end_lease(w);
    w->timeline.seen_commit += PIECE;
    sent = 0;
    sk_sender_pump(&conn);
    assert_int_equal(sent, 0);
    assert_int_equal(refused, LOCH_E_UNAVAILABLE);
    assert_true(conn.closing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(
        nothing_is_sent_without_a_lease, lease_world_up, lease_world_down)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
