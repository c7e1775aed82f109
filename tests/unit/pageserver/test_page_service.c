/* The page port over real TLS on loopback: greetings, reads, waits, refusals, and a client that
 * leaves. */
#include "page_world.h"

static void reads(void **state)
{
    struct world *w = *state;
    greet(w, RIGHTS);
    struct loch_rel rel = {1663, 5, 9};
    SEND(w, get, {.request_id = 1, .at = latest, .rel = rel, .block = 1});
    run(w, 1);
    struct loch_page_get_reply page;
    assert_int_equal(w->frames[0].type, LOCH_PAGE_GET_REPLY);
    assert_ok(loch_page_get_reply_decode(loch_buf_slice(&w->frames[0].payload), &page));
    assert_int_equal(page.request_id, 1);
    assert_int_equal(page.lsn, L);
    assert_int_equal(loch_page_lsn(page.page.data), L);
    w->count = 0;
    SEND(w, get, {.request_id = 2, .at = {L, L}, .rel = rel, .block = 77}); /* beyond the end */
    run(w, 1);
    assert_ok(loch_page_get_reply_decode(loch_buf_slice(&w->frames[0].payload), &page));
    assert_true(loch_page_is_zero(page.page.data));
    w->count = 0;
    SEND(w, rel_size, {.request_id = 3, .at = latest, .rel = rel});
    SEND(w, db_size, {.request_id = 4, .at = latest, .spc = 0, .db = 5});
    SEND(w, status, {.request_id = 5});
    run(w, 3);
    for (unsigned i = 0; i < 3; i++) {
        struct loch_slice payload = loch_buf_slice(&w->frames[i].payload);
        if (w->frames[i].type == LOCH_PAGE_REL_SIZE_REPLY) {
            struct loch_page_rel_size_reply m;
            assert_ok(loch_page_rel_size_reply_decode(payload, &m));
            assert_true(m.exists && m.blocks == 3 && m.request_id == 3);
        } else if (w->frames[i].type == LOCH_PAGE_DB_SIZE_REPLY) {
            struct loch_page_db_size_reply m;
            assert_ok(loch_page_db_size_reply_decode(payload, &m));
            assert_true(m.bytes == 3 * LOCH_PAGE_BYTES && m.request_id == 4);
        } else {
            struct loch_page_status_reply m;
            assert_int_equal(w->frames[i].type, LOCH_PAGE_STATUS_REPLY);
            assert_ok(loch_page_status_reply_decode(payload, &m));
            assert_int_equal(m.disk_consistent_lsn, L);
        }
    }
    hang_up(w);
}

/* The LSNs of the page and of the answer; whether the cache gave it. */
static bool read_one(struct world *w, struct loch_page_at at, loch_lsn *page_lsn, loch_lsn *as_of)
{
    const int64_t before = loch_metric_value(w->ps.m_cached);
    struct loch_page_get_reply m;
    SEND(w, get, {.request_id = 7, .at = at, .rel = {1663, 5, 9}, .block = 1});
    w->count = 0;
    run(w, 1);
    assert_int_equal(w->frames[0].type, LOCH_PAGE_GET_REPLY);
    assert_ok(loch_page_get_reply_decode(loch_buf_slice(&w->frames[0].payload), &m));
    assert_int_equal(m.request_id, 7);
    *page_lsn = loch_page_lsn(m.page.data);
    *as_of = m.lsn;
    w->count = 0;
    return loch_metric_value(w->ps.m_cached) > before;
}

static void cached_pages_are_answered_at_once(void **state)
{
    struct world *w = *state;
    struct loch_key key = {.kind = LOCH_KEY_PAGE, .spc = 1663, .db = 5, .rel = 9, .block = 1};
    uint8_t page[LOCH_PAGE_BYTES];
    loch_lsn lsn = 0, as_of = 0;
    greet(w, RIGHTS);
    assert_false(read_one(w, latest, &lsn, &as_of));
    assert_true(read_one(w, latest, &lsn, &as_of));
    assert_true(lsn == L && as_of == L);
    assert_true(read_one(w, (struct loch_page_at){L, L}, &lsn, &as_of));
    assert_false(read_one(w, (struct loch_page_at){LOCH_LSN_MAX, LOCH_LSN_NONE}, &lsn, &as_of));

    loch_page_init(page, 0);
    loch_page_set_lsn(page, L + 16);
    assert_ok(loch_timeline_put_value(w->timeline, &key, L + 16, loch_slice_of(page, sizeof page)));
    loch_timeline_advance(w->timeline, L + 24, L + 16);
    assert_true(read_one(w, latest, &lsn, &as_of)); /* not modified since L, its asker says */
    assert_true(lsn == L && as_of == L);
    assert_false(read_one(w, (struct loch_page_at){LOCH_LSN_MAX, L + 16}, &lsn, &as_of));
    assert_true(lsn == L + 16 && as_of == L + 24);
    assert_true(read_one(w, (struct loch_page_at){LOCH_LSN_MAX, L + 16}, &lsn, &as_of));
    assert_true(lsn == L + 16 && as_of == L + 24);
    assert_true(read_one(w, (struct loch_page_at){L + 20, L + 20}, &lsn, &as_of));
    assert_true(lsn == L + 16 && as_of == L + 20);
    assert_false(read_one(w, (struct loch_page_at){L + 8, L + 8}, &lsn, &as_of));
    assert_true(lsn == L && as_of == L + 8);
    loch_timeline_advance(w->timeline, L + 32, L + 24); /* nothing of this page: found so once */
    assert_false(read_one(w, (struct loch_page_at){LOCH_LSN_MAX, L + 32}, &lsn, &as_of));
    assert_true(read_one(w, (struct loch_page_at){LOCH_LSN_MAX, L + 32}, &lsn, &as_of));
    assert_true(lsn == L + 16 && as_of == L + 32);
    hang_up(w);
}

/* What is in memory is read on the loop, and is what a thread would read. */
static void pages_in_memory_are_read_at_once(void **state)
{
    struct world *w = *state;
    struct loch_key key = {.kind = LOCH_KEY_PAGE, .spc = 1663, .db = 5, .rel = 9, .block = 1};
    const struct loch_rel rel = {1663, 5, 9};
    uint8_t page[LOCH_PAGE_BYTES], ours[LOCH_PAGE_BYTES], theirs[LOCH_PAGE_BYTES];
    struct loch_view *view = NULL;
    loch_lsn lsn = 0, as_of = 0;
    greet(w, RIGHTS);
    (void)read_one(w, latest, &lsn, &as_of); /* the size's frame is open now */
    loch_page_init(page, 0);
    loch_page_set_lsn(page, L + 16);
    assert_ok(loch_timeline_put_value(w->timeline, &key, L + 16, loch_slice_of(page, sizeof page)));
    loch_timeline_advance(w->timeline, L + 24, L + 16);
    const int64_t before = loch_metric_value(w->ps.m_at_once);
    assert_false(read_one(w, (struct loch_page_at){LOCH_LSN_MAX, L + 16}, &lsn, &as_of));
    assert_int_equal(loch_metric_value(w->ps.m_at_once), before + 1);
    assert_true(lsn == L + 16 && as_of == L + 24);
    assert_ok(loch_view_create(w->timeline, &view));
    assert_true(loch_view_page_at_once(view, &rel, 0, 1, L + 24, ours));
    assert_ok(loch_view_page(view, &rel, 0, 1, L + 24, theirs));
    assert_memory_equal(ours, theirs, sizeof ours);
    loch_view_destroy(view);
    hang_up(w);
}

static void put_pages(struct world *w, uint32_t blocks)
{
    struct loch_key key = {.kind = LOCH_KEY_REL_SIZE, .spc = 1663, .db = 5, .rel = 9};
    uint8_t page[LOCH_PAGE_BYTES], size[4];
    loch_put_u32(size, blocks);
    assert_ok(loch_timeline_put_value(w->timeline, &key, L + 16, loch_slice_of(size, 4)));
    key.kind = LOCH_KEY_PAGE;
    for (uint32_t block = 0; block < blocks; block++) {
        key.block = block;
        loch_page_init(page, 0);
        loch_page_set_lsn(page, L + 16);
        if (w->noise)
            assert_ok(loch_random_bytes(page + 100, LOCH_PAGE_BYTES - 100));
        page[LOCH_PAGE_BYTES - 1] = (uint8_t)block;
        assert_ok(
            loch_timeline_put_value(w->timeline, &key, L + 16, loch_slice_of(page, sizeof page)));
    }
    loch_timeline_advance(w->timeline, L + 24, L + 16);
}

/* Answer i, packed or not: its page, of the request it names. */
static const uint8_t *page_of(struct world *w, uint32_t i, struct loch_page_get_reply *m)
{
    static uint8_t page[LOCH_PAGE_BYTES];
    const struct loch_slice payload = loch_buf_slice(&w->frames[i].payload);
    struct loch_page_get_reply_packed packed;
    if (w->frames[i].type == LOCH_PAGE_GET_REPLY) {
        assert_ok(loch_page_get_reply_decode(payload, m));
        return m->page.data;
    }
    assert_int_equal(w->frames[i].type, LOCH_PAGE_GET_REPLY_PACKED);
    assert_ok(loch_page_get_reply_packed_decode(payload, &packed));
    assert_ok(loch_page_unpack(packed.packed, page));
    *m = (struct loch_page_get_reply){packed.request_id, packed.lsn, {page, sizeof page}};
    return page;
}

/* Requests [from, end) in one go; every answer is right. Returns how many the cache gave. */
static int64_t ask_pages(struct world *w, uint32_t from, uint32_t end)
{
    const int64_t before = loch_metric_value(w->ps.m_cached);
    const struct loch_page_at at = {LOCH_LSN_MAX, L + 16};
    w->count = 0;
    for (uint32_t block = from; block < end; block++)
        SEND(w, get, {.request_id = 100 + block, .at = at, .rel = {1663, 5, 9}, .block = block});
    run(w, end - from);
    for (uint32_t i = 0; i < end - from; i++) {
        struct loch_page_get_reply m;
        const uint8_t *page = page_of(w, i, &m);
        assert_in_range(m.request_id, 100 + from, 100 + end - 1);
        assert_int_equal(page[LOCH_PAGE_BYTES - 1], (uint8_t)(m.request_id - 100));
        assert_true(loch_page_lsn(page) == L + 16);
        assert_true(m.lsn == L + 24);
    }
    w->count = 0;
    return loch_metric_value(w->ps.m_cached) - before;
}

/* What goes by in a scan leaves the cache to what is asked for again. */
static void a_scan_is_not_kept(void **state)
{
    struct world *w = *state;
    greet(w, RIGHTS);
    put_pages(w, 128);
    for (uint32_t block = 0; block < 128; block += 4)
        assert_int_equal(ask_pages(w, block, block + 4), 0);
    assert_int_equal(ask_pages(w, 8, 9), 1);     /* read before a scan was seen in it */
    assert_int_equal(ask_pages(w, 120, 121), 0); /* went by; is kept from now on */
    assert_int_equal(ask_pages(w, 120, 121), 1);
    hang_up(w);
}

/* Goes through 192 pages in fours; how many came packed. */
static int64_t scan_packed(struct world *w)
{
    const int64_t before = loch_metric_value(w->ps.m_packed);
    greet(w, RIGHTS);
    put_pages(w, 192);
    for (uint32_t block = 0; block < 192; block += 4)
        (void)ask_pages(w, block, block + 4);
    hang_up(w);
    return loch_metric_value(w->ps.m_packed) - before;
}

static void a_scans_pages_come_packed(void **state)
{
    assert_int_equal(scan_packed(*state), 192 - 64);
}

static void who_cannot_unpack_gets_plain_pages(void **state)
{
    struct world *w = *state;
    w->plain = true;
    assert_int_equal(scan_packed(w), 0);
}

static void pages_that_do_not_pack_go_as_they_are(void **state)
{
    struct world *w = *state;
    w->noise = true;
    assert_int_equal(scan_packed(w), 0);
}

/* Answers that the kernel does not take pile up in the pageserver, but not without end. */
static void who_fetches_no_answers_is_not_read_from(void **state)
{
    enum { MANY = 6000 }; /* 48 MB: more than sockets hold */
    struct world *w = *state;
    loch_lsn lsn = 0, as_of = 0;
    int64_t taken, before;
    greet(w, RIGHTS);
    (void)read_one(w, latest, &lsn, &as_of);
    const int64_t start = loch_metric_value(w->ps.m_gets);
    w->counts_only = true;
    loch_stream_read(w->stream, false);
    for (uint64_t i = 1; i <= MANY; i++)
        SEND(w, get, {i, latest, {1663, 5, 9}, 0, 1});
    taken = start;
    do {
        before = taken;
        run_ms(w, 100);
        taken = loch_metric_value(w->ps.m_gets);
    } while (taken > before);
    assert_true(taken - start < MANY);
    loch_stream_read(w->stream, true);
    run(w, MANY);
    assert_int_equal(w->count, MANY);
    assert_int_equal(loch_metric_value(w->ps.m_gets) - start, MANY);
    w->counts_only = false;
    w->count = 0;
    hang_up(w);
}

static void a_read_waits_and_others_do_not(void **state)
{
    struct world *w = *state;
    struct loch_rel rel = {1663, 5, 9};
    greet(w, RIGHTS);
    SEND(w, get, {.request_id = 1, .at = {LOCH_LSN_MAX, L + 8}, .rel = rel, .block = 1});
    SEND(w, get, {.request_id = 2, .at = latest, .rel = rel, .block = 1});
    run(w, 1);
    run_ms(w, 30);
    assert_int_equal(w->count, 1); /* only the second */
    struct loch_page_get_reply m;
    assert_ok(loch_page_get_reply_decode(loch_buf_slice(&w->frames[0].payload), &m));
    assert_int_equal(m.request_id, 2);
    w->count = 0;
    loch_timeline_advance(w->timeline, L + 16, L);
    loch_served_flush_soon(w->served); /* any progress wakes */
    run(w, 1);
    assert_ok(loch_page_get_reply_decode(loch_buf_slice(&w->frames[0].payload), &m));
    assert_int_equal(m.request_id, 1);
    assert_int_equal(m.lsn, L + 16);
    w->count = 0;
    SEND(w, get, {.request_id = 3, .at = {L + 99, L}, .rel = rel, .block = 1});
    run_ms(w, 20);
    hang_up(w); /* while it waits */
    greet(w, RIGHTS);
    hang_up(w);
}

/* A branch whose parent ingests its WAL again: what the parent does not hold yet is waited for,
 * also behind a request for something older in the same burst. */
static void a_view_is_not_reused_beyond_its_ancestors(void **state)
{
    struct world *w = *state;
    struct loch_timeline *parent = w->timeline;
    struct loch_control control = {.segment_bytes = 16u << 20};
    struct loch_key key = {.kind = LOCH_KEY_PAGE, .spc = 1663, .db = 5, .rel = 9, .block = 1};
    const struct loch_rel rel = {1663, 5, 9};
    struct loch_served *branch = NULL;
    struct loch_page_get_reply m;
    struct loch_buf bytes = {0};
    uint8_t page[LOCH_PAGE_BYTES];
    loch_lsn lsn = 0, as_of = 0;
    w->timeline = site_timeline(w->site, L + 64, parent);
    assert_ok(loch_control_encode(&control, &bytes));
    assert_ok(loch_timeline_commit(w->timeline, L + 32, loch_buf_slice(&bytes)));
    loch_buf_fini(&bytes);
    assert_ok(loch_served_create(&w->ps, w->timeline, &branch));
    w->identity.timeline = loch_timeline_info(w->timeline)->timeline;
    greet(w, RIGHTS);
    (void)read_one(w, (struct loch_page_at){L, L}, &lsn, &as_of); /* the size's frame is open now */
    assert_int_equal(lsn, L);
    const int64_t before = loch_metric_value(w->ps.m_at_once);
    SEND(w, get, {.request_id = 1, .at = {L, L}, .rel = rel, .block = 2});
    SEND(w, get, {.request_id = 2, .at = {L + 64, L + 64}, .rel = rel, .block = 1});
    run(w, 1);
    run_ms(w, 30);
    assert_int_equal(loch_metric_value(w->ps.m_at_once), before + 1);
    assert_int_equal(w->count, 1);
    assert_ok(loch_page_get_reply_decode(loch_buf_slice(&w->frames[0].payload), &m));
    assert_int_equal(m.request_id, 1);
    w->count = 0;
    loch_page_init(page, 0);
    loch_page_set_lsn(page, L + 40);
    assert_ok(loch_timeline_put_value(parent, &key, L + 40, loch_slice_of(page, sizeof page)));
    loch_timeline_advance(parent, L + 64, L + 40);
    loch_served_flush_soon(w->served); /* any progress wakes */
    run(w, 1);
    assert_ok(loch_page_get_reply_decode(loch_buf_slice(&w->frames[0].payload), &m));
    assert_int_equal(m.request_id, 2);
    assert_int_equal(loch_page_lsn(m.page.data), L + 40);
    hang_up(w);
    loch_served_stop(branch, stopped, w);
    while (!w->stopped)
        run(w, FRAMES_MAX + 1);
    w->stopped = false;
}

static void bad_requests_get_exact_errors(void **state)
{
    struct world *w = *state;
    struct loch_rel rel = {1663, 5, 9};
    greet(w, RIGHTS);
    SEND(w, get, {.request_id = 9, .at = {L - 1, L - 1}, .rel = rel});
    run(w, 1);
    struct loch_page_error m = error_of(w, 0);
    assert_int_equal(m.request_id, 9);
    assert_int_equal(m.code, LOCH_E_INVALID);
    assert_false(w->closed); /* one request's error */
    w->count = 0;
    SEND(w, basebackup, {.request_id = 10, .lsn = L - 8});
    run(w, 1);
    assert_int_equal(error_of(w, 0).request_id, 10);
    w->count = 0;
    SEND(w, hello_reply, {.term = 1}); /* not for a server */
    run(w, 1);
    assert_int_equal(error_of(w, 0).request_id, 0);
    run(w, FRAMES_MAX);
    assert_true(w->closed);
}

static void refused(struct world *w, enum loch_code code)
{
    run(w, 1);
    assert_int_equal(error_of(w, 0).code, code);
    run(w, FRAMES_MAX);
    assert_true(w->closed);
}

/* Ahead of all WAL: a wait, then a clear answer to that request only. */
static void an_lsn_in_the_future_gets_an_answer(void **state)
{
    struct world *w = *state;
    struct loch_rel rel = {1663, 5, 9};
    w->ps.config.wait_lsn_ms = 120;
    greet(w, RIGHTS);
    const uint64_t before = loch_env_now_ns(w->site->env);
    SEND(w, get, {.request_id = 1, .at = {L + 99, L}, .rel = rel, .block = 1});
    SEND(w, get, {.request_id = 2, .at = {LOCH_LSN_MAX, L + 8}, .rel = rel, .block = 1});
    SEND(w, get, {.request_id = 3, .at = {LOCH_LSN_MAX, LOCH_LSN_MAX - 1}, .rel = rel});
    SEND(w, rel_size, {.request_id = 4, .at = {LOCH_LSN_MAX - 1, 0}, .rel = rel});
    run(w, 1);
    assert_true(loch_env_now_ns(w->site->env) - before >= UINT64_C(110000000)); /* it waits first */
    run(w, 3);
    run_ms(w, 200);
    assert_int_equal(w->count, 3); /* what a compute may have written itself waits on */
    for (unsigned i = 0; i < 3; i++) {
        struct loch_page_error m = error_of(w, i);
        assert_int_equal(m.code, LOCH_E_UNAVAILABLE);
        assert_true(m.request_id == 1 || m.request_id == 3 || m.request_id == 4);
        assert_non_null(memmem(m.text.data, m.text.len, "ahead of all WAL", 16));
    }
    w->count = 0;
    loch_timeline_advance(w->timeline, L + 16, L);
    loch_served_flush_soon(w->served);
    run(w, 1);
    struct loch_page_get_reply page;
    assert_int_equal(w->frames[0].type, LOCH_PAGE_GET_REPLY);
    assert_ok(loch_page_get_reply_decode(loch_buf_slice(&w->frames[0].payload), &page));
    assert_int_equal(page.request_id, 2);
    w->count = 0;
    SEND(w, get, {.request_id = 5, .at = {L + 999, L}, .rel = rel});
    run_ms(w, 20);
    hang_up(w); /* while somebody looks after it */
}

/* What no relation or database has; the connection goes on. */
static void absurd_numbers_get_exact_answers(void **state)
{
    struct world *w = *state;
    struct loch_rel rel = {1663, 5, 9}, unknown = {UINT32_MAX, UINT32_MAX, UINT32_MAX};
    greet(w, RIGHTS);
    SEND(w, get, {.request_id = 3, .at = latest, .rel = unknown, .block = UINT32_MAX});
    run(w, 1);
    struct loch_page_get_reply page;
    assert_int_equal(w->frames[0].type, LOCH_PAGE_GET_REPLY); /* zeros, as beyond an end */
    assert_ok(loch_page_get_reply_decode(loch_buf_slice(&w->frames[0].payload), &page));
    assert_true(loch_page_is_zero(page.page.data));
    w->count = 0;
    SEND(w, rel_size, {.request_id = 4, .at = latest, .rel = unknown});
    run(w, 1);
    struct loch_page_rel_size_reply size;
    assert_ok(loch_page_rel_size_reply_decode(loch_buf_slice(&w->frames[0].payload), &size));
    assert_false(size.exists);
    const struct loch_page_db_size dbs[] = {
        {.request_id = 5, .at = latest, .spc = 1663, .db = UINT32_MAX},
        {.request_id = 6, .at = latest, .spc = UINT32_MAX, .db = UINT32_MAX},
        {.request_id = 7, .at = latest, .spc = 1663, .db = 5}};
    for (unsigned i = 0; i < 3; i++) {
        struct loch_page_db_size_reply m;
        w->count = 0;
        SEND(w, db_size, dbs[i]);
        run(w, 1);
        assert_int_equal(w->frames[0].type, LOCH_PAGE_DB_SIZE_REPLY);
        assert_ok(loch_page_db_size_reply_decode(loch_buf_slice(&w->frames[0].payload), &m));
        assert_int_equal(m.bytes, i == 2 ? 3 * LOCH_PAGE_BYTES : 0);
    }
    for (uint32_t db = 5; db <= 6; db++) { /* relation 0: any */
        w->count = 0;
        SEND(w, rel_size, {.request_id = 8, .at = latest, .rel = {1663, db, 0}});
        run(w, 1);
        assert_ok(loch_page_rel_size_reply_decode(loch_buf_slice(&w->frames[0].payload), &size));
        assert_true(size.exists == (db == 5) && size.blocks == 0);
    }
    w->count = 0;
    SEND(w, rel_size, {.request_id = 9, .at = latest, .rel = rel, .fork = 200}); /* no message */
    refused(w, LOCH_E_CORRUPT);
}

static void greetings_are_checked(void **state)
{
    struct world *w = *state;
    struct loch_rel rel = {1663, 5, 9};
    connect_as(w, RIGHTS);
    SEND(w, get, {.request_id = 1, .at = latest, .rel = rel}); /* before the greeting */
    refused(w, LOCH_E_INVALID);
    connect_as(w, RIGHTS);
    hello(w, 4); /* another epoch than the key's */
    refused(w, LOCH_E_DENIED);
    connect_as(w, RIGHTS);
    SEND(w, hello, {.version = 99, .tenant = w->site->tenant});
    refused(w, LOCH_E_UNSUPPORTED);
    connect_as(w, RIGHTS);
    SEND(w, hello,
         {.version = LOCH_WIRE_PAGE_VERSION, .tenant = w->site->tenant, .compute_epoch = 3});
    refused(w, LOCH_E_DENIED); /* another timeline than the key's */
    greet(w, LOCH_RIGHT_BASEBACKUP);
    SEND(w, get, {.request_id = 1, .at = latest, .rel = rel});
    refused(w, LOCH_E_DENIED);
    greet(w, LOCH_RIGHT_PAGES);
    SEND(w, basebackup, {.request_id = 1, .lsn = L});
    refused(w, LOCH_E_DENIED);
}

/* One that lives on under a retired epoch does so until that has ended. */
static void a_connection_ends_with_its_wire_epoch(void **state)
{
    struct world *w = *state;
    struct loch_keys *keys = w->site->keys;
    struct loch_rotation_report r;
    static const struct loch_rel rel = {1663, 5, 9};
    static const struct loch_id none;

    greet(w, RIGHTS);
    assert_ok(loch_keys_rotate(keys, &w->site->tenant, &none, LOCH_ROTATE_WIRE, &r));
    assert_ok(loch_keys_settle(keys, &w->site->tenant));
    SEND(w, get, {.request_id = 1, .at = latest, .rel = rel, .block = 1});
    run(w, 1);
    assert_int_equal(w->frames[0].type, LOCH_PAGE_GET_REPLY);
    w->count = 0;
    assert_ok(loch_keys_rotate(keys, &w->site->tenant, &none, LOCH_ROTATE_WIRE_ANEW, &r));
    assert_ok(loch_keys_settle(keys, &w->site->tenant));
    SEND(w, get, {.request_id = 2, .at = latest, .rel = rel, .block = 1});
    run(w, 1);
    const struct loch_page_error m = error_of(w, 0);
    assert_int_equal(m.code, LOCH_E_UNAVAILABLE);
    assert_int_equal(m.request_id, 0);
    while (!w->closed)
        run(w, FRAMES_MAX);
}

static void a_dropped_timeline_closes_its_connections(void **state)
{
    struct world *w = *state;
    struct loch_rel rel = {1663, 5, 9};
    greet(w, RIGHTS);
    SEND(w, get, {.request_id = 1, .at = {L + 99, L}, .rel = rel});
    run_ms(w, 20);
    loch_served_stop(w->served, stopped, w);
    while (!w->closed)
        run(w, FRAMES_MAX);
    assert_int_equal(error_of(w, 0).code, LOCH_E_NOT_FOUND);
    connect_as(w, RIGHTS);
    SEND(w, hello,
         {.version = LOCH_WIRE_PAGE_VERSION,
          .tenant = w->site->tenant,
          .timeline = w->identity.timeline,
          .compute_epoch = 3});
    w->stopped = true;
    while (!w->closed)
        run_ms(w, 5);
    assert_int_equal(error_of(w, 0).code, LOCH_E_NOT_FOUND);
}

#define TEST(test_) cmocka_unit_test_setup_teardown(test_, world_up, world_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reads),
        TEST(cached_pages_are_answered_at_once),
        TEST(pages_in_memory_are_read_at_once),
        TEST(a_scan_is_not_kept),
        TEST(a_scans_pages_come_packed),
        TEST(who_cannot_unpack_gets_plain_pages),
        TEST(pages_that_do_not_pack_go_as_they_are),
        TEST(who_fetches_no_answers_is_not_read_from),
        TEST(a_read_waits_and_others_do_not),
        TEST(a_view_is_not_reused_beyond_its_ancestors),
        TEST(bad_requests_get_exact_errors),
        TEST(an_lsn_in_the_future_gets_an_answer),
        TEST(absurd_numbers_get_exact_answers),
        TEST(greetings_are_checked),
        TEST(a_connection_ends_with_its_wire_epoch),
        TEST(a_dropped_timeline_closes_its_connections),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
