/* Exports of WAL that is in the archive only: what clients that do not read take of memory, and
 * what a client gets that begins elsewhere while a read is under way. */
#include "trimmed.h"

#include "loch/host/pgv3.h"

#define EXPORTS   8u
#define PIECE_MIB (16u << 20)

static bool reads; /* the clients do */
static loch_lsn sent_from;
static size_t sent;

static void fake_send(struct loch_pgv3_conn *conn, struct loch_buf *take_bytes)
{
    const uint8_t *b = take_bytes->data;

    (void)conn;
    if (take_bytes->len > 30 && b[0] == 'd' && b[5] == 'w') {
        if (sent == 0)
            for (int i = 0; i < 8; i++)
                sent_from = sent_from << 8 | b[6 + i];
        sent += take_bytes->len - 30;
    }
    loch_buf_fini(take_bytes);
}

static size_t fake_queued(const struct loch_pgv3_conn *conn)
{
    (void)conn;
    return reads ? 0 : sent;
}

static void fake_finish(struct loch_pgv3_conn *conn)
{
    (void)conn;
    fail();
}

static uint64_t now_ns;

static uint64_t fake_now(const struct loch_env *env)
{
    (void)env;
    return now_ns;
}

#define loch_pgv3_send   fake_send
#define loch_pgv3_queued fake_queued
#define loch_pgv3_finish fake_finish
#define loch_env_now_ns  fake_now
#include "export.c"

/* As one that has connected. */
static struct sk_export *join(struct lease_world *w)
{
    static uint8_t somebody;
    struct sk_export *e = calloc(1, sizeof *e);

    assert_non_null(e);
    *e = (struct sk_export){.daemon = &w->daemon,
                            .tl = &w->timeline,
                            .conn = (struct loch_pgv3_conn *)(void *)&somebody,
                            .next = w->daemon.exports,
                            .link = &w->daemon.exports};
    if (e->next != NULL)
        e->next->link = &e->next;
    w->daemon.exports = e;
    return e;
}

static int set_up(void **state)
{
    assert_int_equal(lease_world_up(state), 0);
    struct lease_world *w = *state;
    w->daemon.stats.exports = loch_metrics_gauge(w->daemon.metrics, "b", "b", NULL, 0);
    w->daemon.piece_bytes = PIECE_MIB;
    w->timeline.control.segment_bytes = PIECE_MIB;
    begun = 0;
    sent = 0;
    sent_from = 0;
    now_ns = 1;
    return 0;
}

/* A whole piece has come for the one that reads. */
static void take_piece(void)
{
    struct loch_buf wal = {0};

    fill(&wal, PIECE_MIB);
    read_fn(read_arg, LOCH_OK, &wal);
    loch_buf_fini(&wal);
}

static void clients_that_do_not_read_take_a_share(void **state)
{
    struct lease_world *w = *state;
    struct sk_daemon *d = &w->daemon;
    struct sk_export *e[EXPORTS];

    reads = false;
    w->timeline.seen_commit = 4 * (uint64_t)PIECE_MIB;
    d->memory.limit_bytes = 64u << 20;
    for (uint32_t i = 0; i < EXPORTS; i++) {
        e[i] = join(w);
        e[i]->streaming = true;
        sent = 0;
        sk_export_kick(&w->timeline);
        assert_true(d->memory.used_bytes <= d->memory.limit_bytes + PIECE_MIB);
        if (e[i]->reading) { /* counted before it is there */
            assert_true(d->memory.used_bytes >= PIECE_MIB);
            take_piece();
        }
        assert_true(d->memory.used_bytes <= d->memory.limit_bytes + PIECE_MIB);
    }
    assert_int_equal(begun, 1);
    assert_int_equal(d->export_pieces, 1);
    assert_int_equal(d->pieces, 0); /* the pageservers' one is another */
    sk_export_tick(d);
    assert_int_equal(begun, 1);
    assert_true(e[0]->wal.len > 0);
    closed(e[0]); /* another one goes on */
    sent = 0;
    sk_export_tick(d);
    assert_int_equal(begun, 2);
    assert_true(e[EXPORTS - 1]->reading);
    take_piece();
    now_ns += STALLED_NS; /* who takes nothing for so long gives its piece back */
    sk_export_tick(d);
    assert_int_equal(e[EXPORTS - 1]->wal.cap, 0);
    sent = 0;
    sk_export_tick(d);
    assert_int_equal(begun, 3);
    for (uint32_t i = 1; i < EXPORTS; i++)
        closed(e[i]);
    read_fn(read_arg, LOCH_OK, &(struct loch_buf){0}); /* frees the one that read */
    assert_null(d->exports);
    assert_int_equal(d->memory.used_bytes, 0);
    assert_int_equal(d->export_pieces, 0);
}

static void say(struct sk_export *e, const char *command)
{
    message(e, 'Q', loch_slice_of(command, strlen(command) + 1));
}

static void a_read_is_of_the_stream_that_began_it(void **state)
{
    struct lease_world *w = *state;
    struct sk_export *e = join(w);
    struct loch_buf wal = {0};

    reads = true;
    say(e, "START_REPLICATION 0/100");
    assert_true(begun == 1 && e->reading);
    message(e, 'c', (struct loch_slice){0});
    say(e, "START_REPLICATION 0/200");
    assert_int_equal(begun, 1);
    fill(&wal, 10 * PIECE); /* of the first stream */
    read_fn(read_arg, LOCH_OK, &wal);
    assert_int_equal(sent, 0);
    assert_true(begun == 2 && e->reading);
    read_fn(read_arg, LOCH_OK, &wal);
    assert_int_equal(sent_from, 0x200);
    assert_int_equal(sent, 10 * PIECE - 0x200);
    message(e, 'c', (struct loch_slice){0}); /* what was read beyond is not kept for nobody */
    assert_int_equal(w->daemon.memory.used_bytes, 0);
    say(e, "START_REPLICATION 0/100"); /* nor does its failure end the next one */
    message(e, 'c', (struct loch_slice){0});
    say(e, "START_REPLICATION 0/300");
    read_fn(read_arg, LOCH_FAIL(LOCH_E_NOT_FOUND, "gone"), &wal);
    assert_true(e->streaming && e->reading && begun == 4);
    closed(e);
    read_fn(read_arg, LOCH_OK, &wal);
    assert_null(w->daemon.exports);
    assert_int_equal(w->daemon.memory.used_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(clients_that_do_not_read_take_a_share, set_up,
                                        lease_world_down),
        cmocka_unit_test_setup_teardown(a_read_is_of_the_stream_that_began_it, set_up,
                                        lease_world_down)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
