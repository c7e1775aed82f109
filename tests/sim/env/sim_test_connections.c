/* Who connects to a safekeeper, in the simulated world: a compute has only so many connections, and
 * those who read only so many of all; a timeline knows its own; an idle reader is told how the
 * safekeeper stands once, then where it is; what was read for a reader is kept until it is sent;
 * and what a safekeeper says to a compute whose WAL waits.
 */
#include "sk_world.h"

#include "loch/base/frame.h"

struct caller {
    struct loch_tls_client *tls;
    struct loch_stream *stream; /* NULL: not yet, or no longer */
    uint32_t seen[32];          /* frames by type */
    enum loch_code refused;
    loch_lsn position;
    struct loch_wal_append_reply reply; /* the newest */
    uint64_t said_ms, most_gap_ms;      /* what the APPEND_REPLYs prove; the longest without more */
};

static struct {
    struct sim_node *node;
    struct loch_env *env;
    struct loch_keys *keys;
} far; /* the machine that all callers are on */

/* One safekeeper, and somewhere to call it from. */
static void one_safekeeper(void)
{
    setup(2);
    sk_start(&w.sks[0]);
    create(&w.sks[0], 0);
    create(&w.sks[0], 1);
    sim_world_run(w.sim, SECOND_US);
    far.node = sim_node_create(w.sim, "far");
    far.env = sim_node_start(far.node);
    far.keys = open_keys(NULL, LOCH_ROLE_TOOL);
    assert_ok(loch_keys_tenant_load(far.keys, &tenant));
}

static void end(void)
{
    sim_node_kill(far.node);
    loch_keys_destroy(far.keys);
    teardown();
}

/* Each answer proves more than the one before, and nothing of the future. */
static void take_reply(struct caller *c, struct loch_slice payload)
{
    const uint64_t now_ms = loch_env_now_ns(far.env) / 1000000u;

    assert_ok(loch_wal_append_reply_decode(payload, &c->reply));
    const uint64_t said_ms = loch_wal_said_ms(&c->reply, UINT64_MAX);
    assert_true(said_ms <= now_ms);
    assert_true(said_ms >= c->said_ms);
    if (c->said_ms != 0)
        c->most_gap_ms = loch_max_u64(c->most_gap_ms, now_ms - c->said_ms);
    c->said_ms = said_ms;
}

static loch_status caller_frame(void *arg, uint8_t type, struct loch_slice payload)
{
    struct caller *c = arg;

    assert_in_range(type, 1, LOCH_WAL_ERROR);
    c->seen[type]++;
    if (type == LOCH_WAL_ERROR) {
        struct loch_wire_error m;
        assert_ok(loch_wire_error_decode(payload, &m));
        c->refused = (enum loch_code)m.code;
    } else if (type == LOCH_WAL_PULL_DATA) {
        struct loch_wal_pull_data m;
        assert_ok(loch_wal_pull_data_decode(payload, &m));
        assert_int_equal(m.begin, c->position);
        c->position += m.bytes.len;
    } else if (type == LOCH_WAL_APPEND_REPLY) {
        take_reply(c, payload);
    }
    return LOCH_OK;
}

static void caller_closed(void *arg, loch_status st)
{
    (void)st;
    ((struct caller *)arg)->stream = NULL;
}

static const struct loch_stream_events caller_events = {.frame = caller_frame,
                                                        .closed = caller_closed};

static void caller_connected(void *arg, loch_status st, struct loch_stream *stream)
{
    struct caller *c = arg;

    assert_ok(st);
    loch_tls_client_destroy(c->tls);
    c->stream = stream;
    loch_stream_attach(stream, &caller_events, c);
}

static void connect_as(struct caller *c, struct loch_psk_identity id)
{
    struct loch_secret psk = {0};
    struct loch_buf encoded = {0};

    id.version = 1;
    id.server_role = LOCH_ROLE_SAFEKEEPER;
    id.cluster = cluster;
    id.tenant = tenant;
    id.client_id = (struct loch_id){{7}};
    id.client_boot = (struct loch_id){{8}};
    id.server_node = w.sks[0].id;
    assert_ok(loch_keys_psk(far.keys, &id, &psk));
    assert_ok(loch_psk_identity_encode(&id, &encoded));
    assert_ok(loch_tls_client_create(loch_buf_slice(&encoded), &psk, &c->tls));
    assert_ok(loch_env_connect(far.env, w.sks[0].address, c->tls, 500, caller_connected, c));
    loch_secret_fini(&psk);
    loch_buf_fini(&encoded);
    sim_world_run(w.sim, SECOND_US / 20);
}

/* A connection of the compute of this epoch. */
static void call(struct caller *c, uint64_t epoch)
{
    connect_as(c, (struct loch_psk_identity){.client_role = LOCH_ROLE_COMPUTE,
                                             .rights = LOCH_RIGHT_WAL_PUSH,
                                             .timeline = timeline_of(0),
                                             .compute_epoch = epoch});
}

/* A pageserver's. */
static void read_from_it(struct caller *c)
{
    connect_as(c, (struct loch_psk_identity){.client_role = LOCH_ROLE_PAGESERVER,
                                             .rights = LOCH_RIGHT_WAL_PULL});
}

static void pull(struct caller *c, uint32_t timeline)
{
    const struct loch_wal_pull m = {.version = LOCH_WIRE_PULL_VERSION,
                                    .tenant = tenant,
                                    .timeline = timeline_of(timeline),
                                    .mode = LOCH_PULL_COMMITTED,
                                    .from = START_LSN};
    struct loch_buf out = {0};
    struct loch_writer writer;

    read_from_it(c);
    assert_non_null(c->stream);
    c->position = START_LSN;
    loch_writer_init(&writer, &out);
    loch_wal_pull_encode(&writer, &m);
    assert_ok(loch_writer_finish(&writer));
    loch_stream_send(c->stream, &out);
    sim_world_run(w.sim, SECOND_US / 20);
}

static void a_compute_has_only_so_many_connections(void **state)
{
    struct caller others[2] = {{0}};
    struct caller callers[40] = {{0}};
    const uint32_t count = sizeof callers / sizeof callers[0];

    (void)state;
    one_safekeeper();
    call(&others[0], 1); /* computes before it and after it */
    call(&others[1], 3);
    for (uint32_t i = 0; i < count; i++) {
        call(&callers[i], 2);
        assert_non_null(callers[i].stream);
        assert_true(w.sks[0].d->conn_count <= 2 + SK_COMPUTE_CONNECTIONS_MAX);
    }
    for (uint32_t i = 0; i < count; i++) /* the newest stay */
        assert_true((callers[i].stream != NULL) == (i >= count - SK_COMPUTE_CONNECTIONS_MAX));
    assert_true(others[0].stream != NULL && others[1].stream != NULL);
    end();
}

static void readers_leave_room_for_computes(void **state)
{
    struct caller readers[8] = {{0}}, computes[3] = {{0}}, again = {0};
    struct sk_daemon *d;

    (void)state;
    one_safekeeper();
    d = w.sks[0].d;
    d->conns_max = 8;
    for (uint32_t i = 0; i < 8; i++) {
        read_from_it(&readers[i]);
        assert_int_equal(readers[i].stream != NULL, i < 6);
        assert_int_equal(readers[i].refused, i < 6 ? 0 : LOCH_E_LIMIT);
    }
    for (uint32_t i = 0; i < 3; i++) {
        call(&computes[i], i + 1);
        assert_int_equal(computes[i].stream != NULL, i < 2);
        assert_int_equal(computes[i].refused, i < 2 ? 0 : LOCH_E_LIMIT);
    }
    assert_int_equal(loch_metric_value(d->stats.turned_away), 3);
    loch_stream_close(readers[0].stream);
    sim_world_run(w.sim, SECOND_US / 20);
    read_from_it(&again);
    assert_non_null(again.stream);
    assert_int_equal(d->other_count, 6);
    assert_int_equal(d->compute_count, 2);
    end();
}

static size_t count_beside(const struct sk_timeline *tl)
{
    size_t n = 0;

    for (const struct sk_conn *c = tl->conns; c != NULL; c = c->next_beside) {
        assert_true(c->timeline == tl);
        n++;
    }
    return n;
}

static void a_timeline_knows_its_connections(void **state)
{
    const struct safekeeper *s = &w.sks[0];
    struct caller callers[5] = {{0}}, other = {0};

    (void)state;
    one_safekeeper();
    for (uint32_t i = 0; i < 5; i++)
        pull(&callers[i], 0);
    pull(&other, 1);
    assert_int_equal(count_beside(timeline_on(s, 0)), 5);
    assert_int_equal(count_beside(timeline_on(s, 1)), 1);
    const uint32_t order[] = {2, 4, 0, 1, 3}; /* in the middle, at the ends */
    for (uint32_t i = 0; i < 5; i++) {
        assert_true(sk_service_uses(timeline_on(s, 0)));
        loch_stream_close(callers[order[i]].stream);
        sim_world_run(w.sim, SECOND_US / 20);
        assert_int_equal(count_beside(timeline_on(s, 0)), 4 - i);
    }
    assert_false(sk_service_uses(timeline_on(s, 0)));
    assert_int_equal(count_beside(timeline_on(s, 1)), 1);
    end();
}

static void an_idle_reader_is_told_all_once(void **state)
{
    const struct safekeeper *s = &w.sks[0];
    const struct loch_wal_vote vote = {.term = term, .compute_epoch = 1, .generation = 1};
    struct caller c = {0};

    (void)state;
    one_safekeeper();
    form(0);
    sim_world_run(w.sim, 10 * SECOND_US);
    pull(&c, 0);
    sim_world_run(w.sim, 20 * SECOND_US);
    assert_int_equal(c.seen[LOCH_WAL_PULL_STATE], 1);
    assert_in_range(c.seen[LOCH_WAL_PULL_POSITIONS], 18, 21); /* or it would take us for dead */
    sk_timeline_vote(timeline_on(s, 0), from, &vote);
    sim_world_run(w.sim, 20 * SECOND_US);
    assert_int_equal(c.seen[LOCH_WAL_PULL_STATE], 2);
    assert_in_range(c.seen[LOCH_WAL_PULL_POSITIONS], 36, 41);
    end();
}

/* Much more WAL than the ring of the first holds, committed. */
static loch_lsn write_and_commit(void)
{
    const loch_lsn end = write_to(1);
    const struct loch_wal_append m = {
        .term = term, .generation = 1, .begin = end, .commit_lsn = end};

    sk_timeline_append(timeline_on(&w.sks[0], 0), from, &m);
    sim_world_run(w.sim, SECOND_US);
    return end;
}

static void what_was_sent_is_not_kept(void **state)
{
    struct safekeeper *s = &w.sks[0];
    struct caller c = {0};
    size_t most = 0;

    (void)state;
    one_safekeeper();
    form(0);
    sim_world_run(w.sim, 10 * SECOND_US);
    lead(s);
    const loch_lsn all = write_and_commit();
    sim_world_run(w.sim, 100 * SECOND_US); /* nothing is in the ring any more */
    assert_int_equal(s->d->memory.used_bytes, 0);
    s->d->memory.limit_bytes = 1u << 20;
    pull(&c, 0);
    const struct sk_conn *conn = timeline_on(s, 0)->conns;
    const uint64_t began_us = sim_world_now_us(w.sim);
    while (c.position < all) {
        assert_true(sim_world_now_us(w.sim) - began_us < 60 * SECOND_US);
        assert_true(sim_world_step(w.sim));
        most = conn->wal.cap > most ? conn->wal.cap : most;
    }
    assert_in_range(most, 100u << 10, 512u << 10); /* a quarter of what there is, whole frames */
    assert_int_equal(conn->wal.cap, 0);
    assert_int_equal(s->d->memory.used_bytes, 0);
    assert_int_equal(s->d->pieces, 0);
    end();
}

static void what_waits_for_the_disk_goes_by_the_memory(void **state)
{
    const uint32_t chunks = 24; /* 3 MiB: less than a timeline may have, more than there is */
    struct safekeeper *s = &w.sks[0];
    struct loch_buf wal = {0};
    struct wal_gen gen;

    (void)state;
    one_safekeeper();
    form(0);
    sim_world_run(w.sim, 10 * SECOND_US);
    lead(s);
    wal_gen_init(&gen, START_LSN, START_PREV, SYSTEM_ID, 42);
    while (wal.len < chunks * LOCH_WAL_CHUNK_BYTES)
        (void)wal_gen_record(&gen, &wal, 8000);
    s->d->memory.limit_bytes = 4u << 20;
    for (uint32_t i = 0; i < chunks; i++)
        append(s, START_LSN + i * LOCH_WAL_CHUNK_BYTES,
               loch_slice_of(wal.data + i * LOCH_WAL_CHUNK_BYTES, LOCH_WAL_CHUNK_BYTES));
    assert_true(timeline_on(s, 0)->paused);
    assert_true(s->d->memory.used_bytes >= sk_store_queued(timeline_on(s, 0)->store));
    sim_world_run(w.sim, 3 * SECOND_US);
    assert_false(timeline_on(s, 0)->paused);
    assert_true(flush_of(s) > START_LSN + (chunks - 1) * LOCH_WAL_CHUNK_BYTES);
    sim_world_run(w.sim, 100 * SECOND_US);
    assert_int_equal(s->d->memory.used_bytes, 0);
    loch_buf_fini(&wal);
    end();
}

/* ---- a compute whose WAL waits ---- */

#define ENCODE(out_, name_, ...)                                                                   \
    do {                                                                                           \
        struct loch_writer w_;                                                                     \
        loch_writer_init(&w_, out_);                                                               \
        loch_wal_##name_##_encode(&w_, &(struct loch_wal_##name_)__VA_ARGS__);                     \
        assert_ok(loch_writer_finish(&w_));                                                        \
    } while (0)

static void send_and_run(struct caller *c, struct loch_buf *frame)
{
    loch_stream_send(c->stream, frame);
    sim_world_run(w.sim, SECOND_US / 10);
}

/* Leads the first safekeeper's timeline over a connection of its own. */
static void lead_over(struct caller *c)
{
    struct loch_term_start h[] = {{0, START_LSN}, {term, START_LSN}};
    struct loch_buf frame = {0};

    *c = (struct caller){0};
    call(c, 1);
    ENCODE(&frame, hello,
           {.version = LOCH_WIRE_WAL_VERSION,
            .tenant = tenant,
            .timeline = timeline_of(0),
            .generation = 1,
            .system_id = SYSTEM_ID,
            .pg_version = 150020,
            .segment_bytes = WAL_GEN_SEGMENT_BYTES});
    send_and_run(c, &frame);
    assert_int_equal(c->seen[LOCH_WAL_HELLO_REPLY], 1);
    ENCODE(&frame, vote, {.term = term, .compute_epoch = 1, .generation = 1});
    send_and_run(c, &frame);
    ENCODE(&frame, elected, {.term = term, .generation = 1, .history = {h, 2}});
    send_and_run(c, &frame);
    sim_world_run(w.sim, SECOND_US);
    assert_int_equal(c->seen[LOCH_WAL_ELECTED_REPLY], 1);
}

static void append_over(struct caller *c, loch_lsn begin, struct loch_slice bytes)
{
    struct loch_buf frame = {0};

    ENCODE(&frame, append,
           {.term = term,
            .generation = 1,
            .begin = begin,
            .stamp_ms = loch_env_now_ns(far.env) / 1000000u,
            .bytes = bytes});
    send_and_run(c, &frame);
}

/* While its timeline is held a compute hears, several times in each second of its lease, that the
 * safekeeper lives; and its WAL is taken when there is room. */
static void who_waits_is_answered(void **state)
{
    struct loch_buf wal = {0};
    struct caller c;
    struct wal_gen gen;

    (void)state;
    one_safekeeper();
    w.sks[0].d->lease_settings.poll_ms = 300;
    w.sks[0].d->lease_settings.lease_ms = 700;
    form(0);
    sim_world_run(w.sim, 10 * SECOND_US);
    wal_gen_init(&gen, START_LSN, START_PREV, SYSTEM_ID, 42);
    (void)wal_gen_record(&gen, &wal, 8000);
    const loch_lsn first = gen.lsn;
    const size_t first_bytes = wal.len;
    (void)wal_gen_record(&gen, &wal, 500);
    const struct loch_slice second = loch_slice_of(wal.data + first_bytes, wal.len - first_bytes);

    lead_over(&c);
    append_over(&c, START_LSN, loch_slice_of(wal.data, first_bytes));
    sim_world_run(w.sim, SECOND_US);
    assert_int_equal(c.reply.flush_lsn, first);
    w.sks[0].d->limits.timeline_bytes = 1;
    sim_world_run(w.sim, 3 * SECOND_US);
    append_over(&c, START_LSN + first_bytes, second);
    assert_int_equal(c.seen[LOCH_WAL_ERROR], 1); /* it is told why */
    sim_world_run(w.sim, SECOND_US);
    for (int i = 0; i < 3; i++) { /* its next connections wait, a minute each */
        lead_over(&c);
        append_over(&c, START_LSN + first_bytes, second);
        sim_world_run(w.sim, 55 * SECOND_US);
        assert_int_equal(c.seen[LOCH_WAL_ERROR], 0);
        assert_true(c.seen[LOCH_WAL_APPEND_REPLY] >= 150);
        assert_in_range(c.most_gap_ms, 1, 500);
        assert_int_equal(c.reply.flush_lsn, first);
        if (i == 2)
            break;
        sim_world_run(w.sim, 10 * SECOND_US);
        assert_int_equal(c.seen[LOCH_WAL_ERROR], 1);
        assert_null(c.stream);
    }
    w.sks[0].d->limits.timeline_bytes = 0;
    sim_world_run(w.sim, 3 * SECOND_US);
    assert_int_equal(c.reply.flush_lsn, gen.lsn);
    assert_null(w.sks[0].d->beats);
    loch_buf_fini(&wal);
    end();
}

/* What comes behind much WAL does not make a safekeeper seem dead. */
static void a_late_append_proves_no_less(void **state)
{
    struct caller c;
    struct loch_buf frame = {0};

    (void)state;
    one_safekeeper();
    form(0);
    sim_world_run(w.sim, 10 * SECOND_US);
    lead_over(&c);
    append_over(&c, START_LSN, (struct loch_slice){0});
    for (uint64_t late_ms = 100; late_ms <= 5000; late_ms += 700) {
        const uint64_t now_ms = loch_env_now_ns(far.env) / 1000000u;
        ENCODE(&frame, append,
               {.term = term, .generation = 1, .begin = START_LSN, .stamp_ms = now_ms - late_ms});
        send_and_run(&c, &frame);
        assert_true(c.said_ms + 200 > now_ms);
        sim_world_run(w.sim, 5 * SECOND_US);
    }
    const uint64_t now_ms = loch_env_now_ns(far.env) / 1000000u;
    sim_world_run(w.sim, 2000 * SECOND_US); /* as the clocks have gone apart, maybe */
    append_over(&c, START_LSN, (struct loch_slice){0});
    assert_true(c.reply.echo_ms > now_ms);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_compute_has_only_so_many_connections),
                                       cmocka_unit_test(readers_leave_room_for_computes),
                                       cmocka_unit_test(a_timeline_knows_its_connections),
                                       cmocka_unit_test(an_idle_reader_is_told_all_once),
                                       cmocka_unit_test(what_was_sent_is_not_kept),
                                       cmocka_unit_test(what_waits_for_the_disk_goes_by_the_memory),
                                       cmocka_unit_test(who_waits_is_answered),
                                       cmocka_unit_test(a_late_append_proves_no_less)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
