/* Readers of the archive while memory is short: one has its piece, the others wait for it. */
#include "trimmed.h"

#include "service.h"

static void fake_send(struct loch_stream *stream, struct loch_buf *take_frames)
{
    (void)stream;
    loch_buf_fini(take_frames);
}

static size_t fake_queued(const struct loch_stream *stream)
{
    (void)stream;
    return 0;
}

static loch_status fake_limit(struct sk_conn *conn, loch_lsn *upto)
{
    *upto = conn->timeline->seen_commit;
    return LOCH_OK;
}

#undef fail /* cmocka's */
#define loch_stream_send   fake_send
#define loch_stream_queued fake_queued
#define loch_acceptor_pull_limit(acceptor_, mode_, term_, generation_, position_, upto_)           \
    fake_limit(conn, (upto_))
#include "sender.c"

static void a_piece_waits_for_room(void **state)
{
    struct lease_world *w = *state;
    struct sk_daemon *d = &w->daemon;
    struct sk_conn a = {.daemon = d, .kind = SK_CONN_PULL, .timeline = &w->timeline};
    struct sk_conn b = a;
    struct loch_buf wal = {0};

    a.mode = b.mode = LOCH_PULL_COMMITTED;
    d->piece_bytes = 16u << 20;
    d->memory.limit_bytes = 24u << 20;
    sk_sender_pump(&a);
    assert_true(begun == 1 && a.reading);
    assert_int_equal(d->memory.used_bytes, d->piece_bytes);
    sk_sender_pump(&b);
    assert_true(begun == 1 && !b.reading && !b.closing);
    fill(&wal, 10 * PIECE);
    read_fn(read_arg, LOCH_OK, &wal);
    assert_int_equal(a.position, 10 * PIECE); /* all of it was sent, and is not kept */
    assert_int_equal(a.wal.cap, 0);
    assert_int_equal(d->memory.used_bytes, 0);
    assert_int_equal(d->pieces, 0);
    d->memory.limit_bytes = 1; /* one goes on whatever the limit */
    sk_sender_pump(&b);
    assert_true(begun == 2 && b.reading);
    b.gone = true;
    b.reading = false;
    count_wal(&b, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_piece_waits_for_room, lease_world_up, lease_world_down)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
