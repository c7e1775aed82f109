/* An export that goes on while the lease on the tenant's keys runs out. */
#include "lease_world.h"

#include "loch/host/pgv3.h"

static size_t sent;
static bool finished;

static void fake_send(struct loch_pgv3_conn *conn, struct loch_buf *take_bytes)
{
    (void)conn;
    if (take_bytes->len > 0 && take_bytes->data[0] == 'd')
        sent += take_bytes->len;
    loch_buf_fini(take_bytes);
}

static size_t fake_queued(const struct loch_pgv3_conn *conn)
{
    (void)conn;
    return 0;
}

static void fake_finish(struct loch_pgv3_conn *conn)
{
    (void)conn;
    finished = true;
}

#define sk_store_tail    memory_tail
#define loch_pgv3_send   fake_send
#define loch_pgv3_queued fake_queued
#define loch_pgv3_finish fake_finish
#include "export.c"

static void nothing_is_exported_without_a_lease(void **state)
{
    static uint8_t somebody;
    struct lease_world *w = *state;
    struct sk_export e = {.daemon = &w->daemon,
                          .tl = &w->timeline,
                          .conn = (struct loch_pgv3_conn *)(void *)&somebody,
                          .streaming = true};
    w->daemon.exports = &e;
    sk_export_kick(&w->timeline);
    assert_int_equal(e.position, 10 * PIECE);
    assert_true(sent >= 10 * PIECE);
    end_lease(w);
    w->timeline.seen_commit += PIECE;
    sent = 0;
    sk_export_kick(&w->timeline);
    assert_int_equal(sent, 0);
    assert_true(finished && !e.streaming);
    w->daemon.exports = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(
        nothing_is_exported_without_a_lease, lease_world_up, lease_world_down)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
