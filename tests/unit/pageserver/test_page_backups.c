/* Basebackups over the page port, and receivers of them that do not read. */
#include "page_world.h"

#define BLOCKS 4096u /* 32 MB: more than sockets hold */

struct receiver {
    struct world *world;
    struct loch_stream *stream;
    bool reads; /* on after its first part */
    bool closed, ended;
    unsigned parts;
    uint32_t code; /* of an error */
};

static bool done; /* what the loop is run for */

static loch_status part_came(void *arg, uint8_t type, struct loch_slice payload)
{
    struct receiver *r = arg;
    struct loch_page_error m;
    if (type == LOCH_PAGE_BASEBACKUP_DATA || type == LOCH_PAGE_BASEBACKUP_ZEROS)
        r->parts++;
    if (r->parts == 1 && !r->reads)
        loch_stream_read(r->stream, false);
    r->ended = r->ended || type == LOCH_PAGE_BASEBACKUP_END;
    if (type == LOCH_PAGE_ERROR) {
        LOCH_TRY(loch_page_error_decode(payload, &m));
        r->code = m.code;
    }
    return LOCH_OK;
}

static void receiver_closed(void *arg, loch_status st)
{
    struct receiver *r = arg;
    (void)st;
    r->stream = NULL;
    r->closed = true;
}

/* A connection that asks for all of the timeline. */
static void ask(struct world *w, struct receiver *r, bool reads)
{
    static const struct loch_stream_events receives = {.frame = part_came,
                                                       .closed = receiver_closed};
    *r = (struct receiver){.world = w, .reads = reads};
    connect_as(w, RIGHTS);
    r->stream = w->stream;
    loch_stream_attach(r->stream, &receives, r);
    hello(w, 3);
    SEND(w, basebackup, {.request_id = 1, .lsn = L, .flags = LOCH_BASEBACKUP_FULL});
    w->stream = NULL;
}

static void put_much(struct world *w)
{
    struct loch_key key = {.kind = LOCH_KEY_REL_SIZE, .spc = 1663, .db = 5, .rel = 9};
    uint8_t page[LOCH_PAGE_BYTES], size[4];
    loch_put_u32(size, BLOCKS);
    assert_ok(loch_timeline_put_value(w->timeline, &key, L, loch_slice_of(size, 4)));
    key.kind = LOCH_KEY_PAGE;
    for (key.block = 2; key.block < BLOCKS; key.block++) {
        loch_page_init(page, 0);
        loch_page_set_lsn(page, L);
        page[LOCH_PAGE_BYTES - 1] = 1;
        assert_ok(loch_timeline_put_value(w->timeline, &key, L, loch_slice_of(page, sizeof page)));
    }
}

static void close_all(struct world *w, struct receiver *r, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (r[i].stream != NULL)
            loch_stream_close(r[i].stream);
    for (size_t i = 0; i < count; i++)
        RUN_UNTIL(w, r[i].closed);
    RUN_UNTIL(w, w->ps.requests == 0);
}

static void a_backup_comes_whole(void **state)
{
    struct world *w = *state;
    struct receiver r;
    put_much(w);
    ask(w, &r, true);
    RUN_UNTIL(w, r.ended || r.code != 0);
    assert_int_equal(r.code, 0);
    assert_true(r.parts > BLOCKS / 16);
    close_all(w, &r, 1);
}

static void nothing(void *arg)
{
    (void)arg;
}

static void work_done(void *arg)
{
    (void)arg;
    done = true;
}

/* As many as there are pool threads: the pool's work goes on. */
static void receivers_that_do_not_read_take_no_pool_thread(void **state)
{
    struct world *w = *state;
    struct receiver r[LOCH_WORK_THREADS];
    put_much(w);
    for (size_t i = 0; i < LOCH_WORK_THREADS; i++) {
        ask(w, &r[i], false);
        RUN_UNTIL(w, r[i].parts > 0);
    }
    done = false;
    assert_ok(loch_env_work(w->site->env, nothing, work_done, NULL));
    RUN_UNTIL(w, done);
    close_all(w, r, LOCH_WORK_THREADS);
}

/* A tenant's ninth stands in line until one of the eight has ended; who leaves the line is gone. */
static void a_tenant_has_its_share_of_threads(void **state)
{
    enum { SHARE = 8, ALL = SHARE + 2 };
    struct world *w = *state;
    struct receiver r[ALL];
    put_much(w);
    for (size_t i = 0; i < SHARE; i++) {
        ask(w, &r[i], false);
        RUN_UNTIL(w, r[i].parts > 0);
    }
    ask(w, &r[SHARE], true); /* leaves while in line */
    ask(w, &r[SHARE + 1], true);
    RUN_UNTIL(w, w->ps.requests == ALL);
    run_ms(w, 100);
    assert_int_equal(r[SHARE].parts + r[SHARE + 1].parts, 0);
    loch_stream_close(r[SHARE].stream);
    RUN_UNTIL(w, r[SHARE].closed && w->ps.requests == ALL - 1);
    loch_stream_close(r[0].stream);
    RUN_UNTIL(w, r[SHARE + 1].ended);
    close_all(w, r, ALL);
}

/* Nothing leaves once the lease is over, also of a backup that began before. */
static void a_backup_ends_with_the_lease(void **state)
{
    static const struct loch_id none;
    struct world *w = *state;
    struct receiver r;
    put_much(w);
    ask(w, &r, false);
    RUN_UNTIL(w, r.parts > 0);
    loch_keys_block(w->site->keys, &w->site->tenant, &none, LOCH_E_KMS_UNAVAILABLE, "no lease");
    r.reads = true;
    loch_stream_read(r.stream, true);
    RUN_UNTIL(w, r.closed);
    assert_false(r.ended);
    assert_int_equal(r.code, LOCH_E_UNAVAILABLE);
    close_all(w, &r, 1);
}

#define TEST(test_) cmocka_unit_test_setup_teardown(test_, world_up, world_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_backup_comes_whole),
        TEST(receivers_that_do_not_read_take_no_pool_thread),
        TEST(a_tenant_has_its_share_of_threads),
        TEST(a_backup_ends_with_the_lease),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
