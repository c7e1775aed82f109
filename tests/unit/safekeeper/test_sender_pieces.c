/* Readers of the archive while memory is short: one has its piece, the others wait for it. */
#include "lease_world.h"

#include "service.h"

static uint32_t begun;
static sk_store_read_fn read_fn;
static void *read_arg;

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

static bool no_tail(const struct sk_store *store, loch_lsn from, loch_lsn upto, size_t max,
                    struct loch_slice *out)
{
    (void)store;
    (void)from;
    (void)upto;
    (void)max;
    (void)out;
    return false;
}

static loch_lsn all_trimmed(const struct sk_store *store)
{
    (void)store;
    return UINT64_MAX;
}

static uint64_t no_cuts(const struct sk_store *store)
{
    (void)store;
    return 0;
}

static loch_status fake_archive_read(struct sk_timeline *tl, loch_lsn from, sk_store_read_fn done,
                                     void *arg)
{
    (void)tl;
    (void)from;
    begun++;
    read_fn = done;
    read_arg = arg;
    return LOCH_OK;
}

#undef fail /* cmocka's */
#define sk_store_tail      no_tail
#define sk_store_first_lsn all_trimmed
#define sk_store_cuts      no_cuts
#define sk_archive_read    fake_archive_read
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
    assert_true(loch_is_ok(loch_buf_reserve(&wal, 10 * PIECE)));
    memset(wal.data, 1, 10 * PIECE);
    wal.len = 10 * PIECE;
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
