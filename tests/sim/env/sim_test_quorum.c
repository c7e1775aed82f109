/* The compute's quorum (src/agent/quorum.c) before a safekeeper that is played here, in the
 * simulated world: when it believes the safekeeper to have spoken last. Somebody on the path may
 * hold answers back and hand them out later, one by one: they prove no more than they did when they
 * were given. A safekeeper that takes nothing, but says that it is there, is believed. And what it
 * does when there is no memory for a moment: nobody has taken over then.
 */
#include "../unit.h"
#include "quorum.h"
#include "sim_env.h"

#include "loch/consensus/proposer.h"
#include "loch/crypto/psk.h"

#include <stdio.h>
#include <stdlib.h>

#define ADDRESS   "sk:7000"
#define START_LSN UINT64_C(0x1500140)
#define LEASE_MS  1000u
#define SLACK_MS  500u /* a heartbeat, a tick, and the way there and back */
#define SECOND_US UINT64_C(1000000)
#define HOARD_MAX 1000u

static struct {
    struct sim_world *sim;
    struct loch_env *sk, *agent;
    struct loch_secret psk;
    struct loch_tls_server *tls;
    struct loch_listener *listener;
    struct loch_stream *stream; /* NULL: there is none */
    uint32_t ended;
    struct loch_credential credential;
    struct loch_member member;
    struct loch_quorum *quorum;
    bool leads;
    uint64_t term;
    bool hoards, deaf;         /* answers are held back; nothing is read any more */
    uint64_t hoard[HOARD_MAX]; /* stamps of APPENDs whose answers are held back */
    uint32_t hoarded, given;
    uint64_t stamp_ms, read_ms; /* of the newest APPEND that was read */
    bool starved, lost;         /* the proposer has no memory; its quorum said that it is lost */
    bool no_secrets;            /* there is no memory for keys that are told */
} w;

loch_status __real_loch_proposer_tick(struct loch_proposer *p, struct loch_proposer_now now,
                                      struct loch_proposer_effects *out);
loch_status __wrap_loch_proposer_tick(struct loch_proposer *p, struct loch_proposer_now now,
                                      struct loch_proposer_effects *out);

loch_status __wrap_loch_proposer_tick(struct loch_proposer *p, struct loch_proposer_now now,
                                      struct loch_proposer_effects *out)
{
    if (w.starved)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for 16 effects");
    return __real_loch_proposer_tick(p, now, out);
}

loch_status __real_loch_secret_from(struct loch_secret *out, const void *bytes, size_t len);
loch_status __wrap_loch_secret_from(struct loch_secret *out, const void *bytes, size_t len);

loch_status __wrap_loch_secret_from(struct loch_secret *out, const void *bytes, size_t len)
{
    if (w.no_secrets)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for one more secret");
    return __real_loch_secret_from(out, bytes, len);
}

static uint64_t now_ms(void)
{
    return sim_world_now_us(w.sim) / 1000;
}

/* ---- the safekeeper ---- */

#define ANSWER(name_, ...)                                                                         \
    do {                                                                                           \
        struct loch_buf out_ = {0};                                                                \
        struct loch_writer w_;                                                                     \
        loch_writer_init(&w_, &out_);                                                              \
        loch_wal_##name_##_encode(&w_, &(struct loch_wal_##name_)__VA_ARGS__);                     \
        assert_ok(loch_writer_finish(&w_));                                                        \
        loch_stream_send(w.stream, &out_);                                                         \
    } while (0)

static void acknowledge(uint64_t echo_ms, uint64_t since_ms)
{
    ANSWER(append_reply, {.term = w.term,
                          .generation = 1,
                          .flush_lsn = START_LSN,
                          .write_lsn = START_LSN,
                          .echo_ms = echo_ms,
                          .since_ms = (uint32_t)since_ms});
}

static loch_status take_append(struct loch_slice payload)
{
    struct loch_wal_append m;

    LOCH_TRY(loch_wal_append_decode(payload, &m));
    w.stamp_ms = m.stamp_ms;
    w.read_ms = now_ms();
    if (!w.hoards)
        acknowledge(m.stamp_ms, 0);
    else if (w.hoarded < HOARD_MAX)
        w.hoard[w.hoarded++] = m.stamp_ms;
    return LOCH_OK;
}

static loch_status sk_frame(void *arg, uint8_t type, struct loch_slice payload)
{
    struct loch_term_start h = {0, START_LSN};
    struct loch_wal_vote vote;
    struct loch_wal_elected elected;

    (void)arg;
    if (w.deaf)
        return LOCH_OK;
    if (type == LOCH_WAL_APPEND)
        return take_append(payload);
    if (type == LOCH_WAL_HELLO) {
        ANSWER(hello_reply, {.member = w.member.id,
                             .generation = 1,
                             .start_lsn = START_LSN,
                             .flush_lsn = START_LSN,
                             .commit_lsn = START_LSN});
    } else if (type == LOCH_WAL_VOTE) {
        LOCH_TRY(loch_wal_vote_decode(payload, &vote));
        w.term = vote.term;
        ANSWER(vote_reply, {.granted = true,
                            .term = vote.term,
                            .generation = 1,
                            .flush_lsn = START_LSN,
                            .commit_lsn = START_LSN,
                            .start_lsn = START_LSN,
                            .history = {.entries = &h, .count = 1}});
    } else {
        assert_int_equal(type, LOCH_WAL_ELECTED);
        LOCH_TRY(loch_wal_elected_decode(payload, &elected));
        loch_term_history_fini(&elected.history);
        ANSWER(elected_reply, {.term = w.term, .generation = 1, .flush_lsn = START_LSN});
    }
    return LOCH_OK;
}

static void sk_closed(void *arg, loch_status st)
{
    (void)arg;
    (void)st;
    w.stream = NULL;
    w.ended++;
}

static const struct loch_stream_events sk_events = {.frame = sk_frame, .closed = sk_closed};

static void accepted(void *arg, struct loch_stream *stream)
{
    (void)arg;
    w.stream = stream;
    loch_stream_attach(stream, &sk_events, NULL);
}

static bool lookup(void *arg, struct loch_slice identity, struct loch_secret *psk)
{
    (void)arg;
    (void)identity;
    return loch_is_ok(loch_secret_copy(psk, &w.psk));
}

/* ---- the compute ---- */

static void on_elected(void *arg, uint64_t term, loch_lsn lsn, loch_lsn prev_lsn)
{
    (void)arg;
    (void)term;
    (void)prev_lsn;
    assert_int_equal(lsn, START_LSN);
}

static void on_committed(void *arg, loch_lsn lsn)
{
    (void)arg;
    assert_int_equal(lsn, START_LSN);
    w.leads = true;
}

static void on_fenced(void *arg, const char *why)
{
    (void)arg;
    fail_msg("fenced: %s", why);
}

static void on_room(void *arg)
{
    (void)arg;
}

static void on_lost(void *arg, const char *why)
{
    (void)arg;
    assert_true(w.starved);
    assert_non_null(strstr(why, "no memory"));

    w.lost = true;
}

static void on_dark(void *arg, loch_status st)
{
    (void)arg;
    (void)st;
    fail_msg("no safekeeper says so");
}

static const struct loch_quorum_events events = {on_elected, on_committed, on_fenced,
                                                 on_room,    on_lost,      on_dark};

/* Under which the compute is known to the server on this node. */
static struct loch_buf make_identity(struct loch_id node)
{
    const struct loch_psk_identity identity = {.version = 1,
                                               .client_role = LOCH_ROLE_COMPUTE,
                                               .server_role = LOCH_ROLE_SAFEKEEPER,
                                               .rights = LOCH_RIGHT_WAL_PUSH,
                                               .wire_epoch = 1,
                                               .cluster = {{1}},
                                               .tenant = {{2}},
                                               .timeline = {{3}},
                                               .client_id = {{4}},
                                               .client_boot = {{5}},
                                               .server_node = node,
                                               .compute_epoch = 1};
    struct loch_buf encoded = {0};

    assert_ok(loch_psk_identity_encode(&identity, &encoded));
    return encoded;
}

static void set_up_credential(void)
{
    struct loch_credential *c = &w.credential;
    struct loch_buf encoded = make_identity((struct loch_id){{6}});

    c->cluster = (struct loch_id){{1}};
    c->tenant = (struct loch_id){{2}};
    c->timeline = (struct loch_id){{3}};
    c->compute = (struct loch_id){{4}};
    c->boot = (struct loch_id){{5}};
    c->compute_epoch = 1;
    c->lease_ms = LEASE_MS;
    c->safekeeper_count = 1;
    c->safekeepers[0].node = w.member.node;
    (void)snprintf(c->safekeepers[0].address, sizeof c->safekeepers[0].address, ADDRESS);
    assert_ok(loch_membership_copy(
        &c->membership,
        &(struct loch_membership){.generation = 1, .members = &w.member, .count = 1}));
    assert_ok(loch_tls_client_create(loch_buf_slice(&encoded), &w.psk, &c->safekeepers[0].tls));
    loch_buf_fini(&encoded);
}

/* A compute that has been leading for three seconds. */
static void setup(void)
{
    const uint8_t key[LOCH_PSK_BYTES] = {7};

    memset(&w, 0, sizeof w);
    w.sim = sim_world_create(&(struct sim_options){.seed = 11});
    w.sk = sim_node_start(sim_node_create(w.sim, "sk"));
    w.agent = sim_node_start(sim_node_create(w.sim, "compute"));
    w.member = (struct loch_member){.id = {{9}}, .node = {{8}}, .in = LOCH_MEMBER_BOTH};
    (void)snprintf(w.member.address, sizeof w.member.address, ADDRESS);
    assert_ok(loch_secret_from(&w.psk, key, sizeof key));
    assert_ok(loch_tls_server_create(lookup, NULL, &w.tls));
    assert_ok(loch_env_listen(w.sk, ADDRESS, w.tls, &w.listener, accepted, NULL));
    set_up_credential();
    const struct loch_quorum_order order = {
        .env = w.agent, .credential = &w.credential, .window_bytes = 2u << 20, .events = &events};
    assert_ok(loch_quorum_create(&order, &w.quorum));
    sim_world_run(w.sim, 3 * SECOND_US);
    assert_true(w.leads);
}

static void teardown(void)
{
    loch_quorum_close(w.quorum);
    sim_world_run(w.sim, 5 * SECOND_US);
    sim_world_destroy(w.sim);
    loch_credential_fini(&w.credential);
    loch_tls_server_destroy(w.tls);
    loch_secret_fini(&w.psk);
}

/* How long ago the safekeeper spoke, as far as the quorum knows: the compute's lease. */
static uint64_t silent_ms(void)
{
    struct loch_quorum_view view;

    loch_quorum_look(w.quorum, &view);
    const uint64_t at_ms = loch_env_now_ns(w.agent) / 1000000u;
    assert_true(view.heard_ms <= at_ms);
    return at_ms - view.heard_ms;
}

static void answers_keep_the_lease(void **state)
{
    (void)state;
    setup();
    for (int i = 0; i < 1000; i++) {
        sim_world_run(w.sim, SECOND_US / 100);
        assert_true(silent_ms() < SLACK_MS);
    }
    assert_int_equal(w.ended, 0);
    teardown();
}

/* The safekeeper gave its last answer when the hoard was complete; then the key was revoked. */
static void a_hoard_keeps_nothing(void **state)
{
    (void)state;
    setup();
    w.hoards = true;
    sim_world_run(w.sim, 5 * SECOND_US);
    w.deaf = true;
    assert_true(w.hoarded > 10);
    const uint64_t since_ms = now_ms();
    while (w.ended == 0) {
        assert_true(silent_ms() > LEASE_MS);
        assert_true(now_ms() - since_ms < 20000);
        if (w.given < w.hoarded)
            acknowledge(w.hoard[w.given++], 0);
        sim_world_run(w.sim, SECOND_US / 2);
    }
    /* It connects anew, and hears nothing. */
    sim_world_run(w.sim, 5 * SECOND_US);
    assert_true(silent_ms() > LEASE_MS);
    teardown();
}

/* A timeline that is held: one APPEND is not taken, and what comes behind it is not read. */
static void who_says_that_it_is_there_is_believed(void **state)
{
    (void)state;
    setup();
    w.deaf = true;
    for (int i = 0; i < 240; i++) {
        acknowledge(w.stamp_ms, now_ms() - w.read_ms);
        sim_world_run(w.sim, SECOND_US / 4);
        assert_true(silent_ms() < SLACK_MS);
    }
    assert_int_equal(w.ended, 0);
    sim_world_run(w.sim, 2 * SECOND_US); /* and no longer than it says so */
    assert_true(silent_ms() > LEASE_MS);
    teardown();
}

/* A second safekeeper has joined. */
static void tell_members(void)
{
    static const uint8_t key[LOCH_PSK_BYTES] = {8};
    struct loch_member members[2] = {w.member,
                                     {.id = {{19}}, .node = {{18}}, .in = LOCH_MEMBER_BOTH}};
    struct loch_buf first = make_identity(members[0].node);
    struct loch_buf second = make_identity(members[1].node);

    (void)snprintf(members[1].address, sizeof members[1].address, "sk2:7000");
    ANSWER(members, {.membership = {.generation = 2, .members = members, .count = 2},
                     .keys = {{loch_buf_slice(&first), loch_slice_of(key, sizeof key)},
                              {loch_buf_slice(&second), loch_slice_of(key, sizeof key)}}});
    loch_buf_fini(&first);
    loch_buf_fini(&second);
}

/* Its keys cannot be taken: the connection ends, and the next one brings them. */
static void a_member_waits_for_memory(void **state)
{
    (void)state;
    setup();
    w.no_secrets = true;
    tell_members();
    for (int i = 0; i < 100 && w.ended == 0; i++)
        sim_world_run(w.sim, SECOND_US / 100);
    assert_int_equal(w.ended, 1);
    assert_int_equal(w.credential.membership.generation, 1);
    w.no_secrets = false;
    sim_world_run(w.sim, 3 * SECOND_US);
    assert_non_null(w.stream);
    tell_members();
    sim_world_run(w.sim, SECOND_US);
    assert_int_equal(w.credential.membership.generation, 2);
    teardown();
}

static void without_memory_nobody_has_taken_over(void **state)
{
    (void)state;
    setup();
    w.starved = true;
    sim_world_run(w.sim, SECOND_US);
    assert_true(w.lost);
    teardown();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(answers_keep_the_lease),
                                       cmocka_unit_test(a_hoard_keeps_nothing),
                                       cmocka_unit_test(who_says_that_it_is_there_is_believed),
                                       cmocka_unit_test(a_member_waits_for_memory),
                                       cmocka_unit_test(without_memory_nobody_has_taken_over)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
