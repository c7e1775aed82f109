/* Holds: one test for each rule of the proposer. */
#include "../unit.h"
#include "loch/consensus/proposer.h"

#define L    1000u
#define TERM (UINT64_C(3) << LOCH_TERM_EPOCH_SHIFT)

static struct loch_proposer_now at(uint64_t ms)
{
    return (struct loch_proposer_now){.ms = ms, .random = 17};
}

static struct loch_proposer_config config(void)
{
    static struct loch_member members[3];
    struct loch_proposer_config c = {.membership = {7, members, 3},
                                     .compute_epoch = 3,
                                     .window_bytes = 1u << 20,
                                     .reply_timeout_ms = 1000,
                                     .election_timeout_ms = 500,
                                     .heartbeat_ms = 100};
    for (uint32_t i = 0; i < 3; i++)
        members[i] = (struct loch_member){
            .id = {{(uint8_t)(i + 1)}}, .node = {{(uint8_t)(i + 11)}}, .in = LOCH_MEMBER_BOTH};
    return c;
}

static void greet(struct loch_proposer *p, uint32_t i, uint64_t term,
                  struct loch_proposer_effects *e)
{
    struct loch_wal_hello_reply m = {.member = {{(uint8_t)(i + 1)}}, .term = term, .generation = 7};
    e->count = 0;
    assert_ok(loch_proposer_connected(p, at(1), i, e));
    assert_int_equal(e->count, 1);
    assert_int_equal(e->items[0].message.type, LOCH_WAL_HELLO);
    e->count = 0;
    assert_ok(loch_proposer_hello_reply(p, at(1), i, &m, e));
}

static void grant(struct loch_proposer *p, uint32_t i, uint64_t term, uint64_t last_term,
                  loch_lsn flush, struct loch_proposer_effects *e)
{
    struct loch_term_start h[] = {{0, 100}, {last_term, 200}, {last_term + 1, flush + 1}};
    const struct loch_wal_vote_reply m = {.granted = true,
                                          .term = term,
                                          .generation = 7,
                                          .flush_lsn = flush,
                                          .prev_lsn = flush - 8,
                                          .start_lsn = 100,
                                          .history = {h, 3}};
    e->count = 0;
    assert_ok(loch_proposer_vote_reply(p, at(2), i, &m, e));
}

static void installed(struct loch_proposer *p, uint32_t i, loch_lsn flush,
                      struct loch_proposer_effects *e)
{
    const struct loch_wal_elected_reply m = {.term = TERM, .generation = 7, .flush_lsn = flush};
    e->count = 0;
    assert_ok(loch_proposer_elected_reply(p, at(3), i, &m, e));
}

/* Given since_ms after an APPEND of echo_ms was read, and here at ms. */
static void acked_at(struct loch_proposer *p, uint64_t ms, uint64_t echo_ms, uint32_t since_ms,
                     uint32_t i, loch_lsn flush, loch_lsn write, struct loch_proposer_effects *e)
{
    const struct loch_wal_append_reply m = {.term = TERM,
                                            .generation = 7,
                                            .flush_lsn = flush,
                                            .write_lsn = write,
                                            .reader_lsn = 900,
                                            .persisted_lsn = 800,
                                            .echo_ms = echo_ms,
                                            .since_ms = since_ms};
    e->count = 0;
    assert_ok(loch_proposer_append_reply(p, at(ms), i, &m, e));
}

static void acked(struct loch_proposer *p, uint32_t i, loch_lsn flush, loch_lsn write,
                  struct loch_proposer_effects *e)
{
    acked_at(p, 4, 4, 0, i, flush, write, e);
}

static uint32_t count_of(const struct loch_proposer_effects *e, enum loch_proposer_effect_kind k)
{
    uint32_t n = 0;
    for (size_t i = 0; i < e->count; i++)
        n += e->items[i].kind == k;
    return n;
}

static struct loch_proposer_view look(const struct loch_proposer *p)
{
    struct loch_proposer_view v;
    loch_proposer_look(p, &v);
    return v;
}

/* A leader of TERM from L = 1000, donor 1, with nobody installed. */
static struct loch_proposer *leader(struct loch_proposer_effects *e)
{
    struct loch_proposer_config c = config();
    struct loch_proposer *p = NULL;

    assert_ok(loch_proposer_create(&c, &p));
    greet(p, 0, 1, e);
    assert_int_equal(e->count, 0);
    greet(p, 1, 2, e); /* the quorum: VOTE to both */
    assert_int_equal(e->count, 2);
    assert_int_equal(e->items[0].message.u.vote.term, TERM);
    assert_int_equal(e->items[0].message.u.vote.compute_epoch, 3);
    grant(p, 0, TERM, 1, 2000, e); /* longer, but of an older term */
    assert_int_equal(e->count, 0);
    grant(p, 1, TERM, 2, L, e);
    assert_int_equal(count_of(e, LOCH_PROPOSER_ELECTED), 1);
    assert_int_equal(count_of(e, LOCH_PROPOSER_SEND), 2);
    return p;
}

static void the_donor_has_the_last_term(void **state)
{
    (void)state;
    struct loch_proposer_effects e = {0};
    struct loch_proposer *p = leader(&e);
    const struct loch_proposer_view v = look(p);

    assert_int_equal(v.state, LOCH_PROPOSER_LEADING);
    assert_int_equal(v.donor, 1);
    assert_int_equal(v.start_lsn, L);
    assert_int_equal(v.start_prev_lsn, L - 8);
    assert_int_equal(v.history->count, 3); /* the entry beyond the donor's flush_lsn is cut */
    assert_int_equal(v.history->entries[2].term, TERM);
    assert_int_equal(v.history->entries[2].start, L);
    assert_int_equal(v.commit_lsn, 0);
    loch_proposer_effects_fini(&e);
    loch_proposer_destroy(p);
}

static void terms_that_wrote_nothing_leave_the_history(void **state)
{
    (void)state;
    struct loch_proposer_effects e = {0};
    struct loch_proposer_config c = config();
    struct loch_proposer *p = NULL;

    assert_ok(loch_proposer_create(&c, &p));
    greet(p, 0, 1, &e);
    greet(p, 1, 1, &e);
    grant(p, 0, TERM, 1, 200, &e); /* its terms 1 and 2 begin at 200 and 201 */
    grant(p, 1, TERM, 1, 200, &e);
    const struct loch_proposer_view v = look(p);
    assert_int_equal(v.history->count, 2);
    assert_int_equal(v.history->entries[0].term, 0);
    assert_int_equal(v.history->entries[1].term, TERM);
    loch_proposer_effects_fini(&e);
    loch_proposer_destroy(p);
}

static void l_is_committed_by_its_installation(void **state)
{
    (void)state;
    struct loch_proposer_effects e = {0};
    struct loch_proposer *p = leader(&e);

    installed(p, 0, 900, &e); /* below L: no holder of L; told where the window begins */
    assert_int_equal(count_of(&e, LOCH_PROPOSER_COMMIT), 0);
    assert_int_equal(e.items[0].message.type, LOCH_WAL_APPEND);
    assert_int_equal(e.items[0].message.u.append.begin, L);
    assert_int_equal(e.items[0].message.append_len, 0);
    assert_true(look(p).members[0].recovering);
    installed(p, 1, L, &e);
    assert_int_equal(count_of(&e, LOCH_PROPOSER_COMMIT), 0);
    acked(p, 0, L, L, &e); /* recovered */
    assert_int_equal(e.items[0].kind, LOCH_PROPOSER_COMMIT);
    assert_int_equal(e.items[0].lsn, L);
    assert_int_equal(count_of(&e, LOCH_PROPOSER_SEND), 0); /* no WAL to travel with, yet */
    assert_true(look(p).news);
    e.count = 0;
    assert_ok(loch_proposer_tell(p, at(3), &e));
    assert_int_equal(count_of(&e, LOCH_PROPOSER_SEND), 2); /* by empty appends */
    assert_int_equal(e.items[0].message.u.append.commit_lsn, L);
    assert_int_equal(e.items[0].message.append_len, 0);
    assert_false(look(p).news);
    e.count = 0;
    assert_ok(loch_proposer_tell(p, at(3), &e));
    assert_int_equal(e.count, 0);
    assert_false(look(p).members[0].recovering);
    assert_int_equal(look(p).reader_lsn, 900);
    loch_proposer_effects_fini(&e);
    loch_proposer_destroy(p);
}

static void a_quorum_commits(void **state)
{
    (void)state;
    struct loch_proposer_effects e = {0};
    struct loch_proposer *p = leader(&e);

    installed(p, 0, L, &e);
    installed(p, 1, L, &e);
    e.count = 0;
    assert_ok(loch_proposer_wal(p, at(5), L, L + 200000, &e));
    assert_int_equal(e.count, 4); /* two chunks for each of two */
    assert_int_equal(e.items[0].message.append_len, LOCH_WAL_CHUNK_BYTES);
    acked(p, 0, L + 500, L + 600, &e);
    assert_int_equal(count_of(&e, LOCH_PROPOSER_COMMIT), 0);
    acked(p, 1, L + 400, L + 600, &e);
    assert_int_equal(e.items[0].lsn, L + 400);
    acked(p, 1, L + 300, L + 600, &e); /* an old answer takes nothing back */
    assert_int_equal(count_of(&e, LOCH_PROPOSER_COMMIT), 0);
    assert_int_equal(look(p).commit_lsn, L + 400);
    assert_int_equal(look(p).needed_from, L + 400);
    loch_proposer_disconnected(p, 1); /* what it holds still counts */
    acked(p, 0, L + 600, L + 600, &e);
    assert_int_equal(look(p).commit_lsn, L + 400);
    assert_int_equal(look(p).needed_from, L + 600);
    acked(p, 0, L + 900000, L + 900000, &e);
    assert_int_equal(count_of(&e, LOCH_PROPOSER_CLOSE), 1); /* WAL that was never sent */
    loch_proposer_effects_fini(&e);
    loch_proposer_destroy(p);
}

static void the_window_limits_what_flies(void **state)
{
    (void)state;
    struct loch_proposer_effects e = {0};
    struct loch_proposer *p = leader(&e);

    installed(p, 0, L, &e);
    e.count = 0;
    assert_ok(loch_proposer_wal(p, at(5), L, L + (4u << 20), &e));
    assert_int_equal(e.count, 8); /* 1 MiB in chunks of 128 KiB */
    acked(p, 0, L, L + (256u << 10), &e);
    assert_int_equal(e.count, 2);
    e.count = 0;
    /* The memory's limit drops WAL a slow member has not got: it recovers from its peers. */
    assert_ok(loch_proposer_wal(p, at(6), L + (3u << 20), L + (4u << 20), &e));
    assert_int_equal(e.count, 1);
    assert_int_equal(e.items[0].message.u.append.begin, L + (3u << 20));
    assert_true(look(p).members[0].recovering);
    loch_proposer_effects_fini(&e);
    loch_proposer_destroy(p);
}

/* WAL that is held back pushes the front of the window on before it is proposed itself. */
static void what_is_forgotten_is_not_asked_for(void **state)
{
    (void)state;
    struct loch_proposer_effects e = {0};
    struct loch_proposer *p = leader(&e);

    installed(p, 0, L, &e);
    assert_ok(loch_proposer_wal(p, at(5), L, L + (4u << 20), &e)); /* 1 MiB of it is sent */
    loch_proposer_forget(p, L + (2u << 20));
    loch_proposer_forget(p, L + (1u << 20)); /* never back */
    acked(p, 0, L, L + (512u << 10), &e);
    assert_int_equal(count_of(&e, LOCH_PROPOSER_SEND), 1);
    assert_int_equal(e.items[0].message.u.append.begin, L + (2u << 20));
    assert_int_equal(e.items[0].message.append_len, 0);
    assert_true(look(p).members[0].recovering);
    assert_ok(loch_proposer_wal(p, at(6), L + (2u << 20), L + (5u << 20), &e));
    loch_proposer_forget(p, L + (9u << 20)); /* no further than what it knows */
    assert_ok(loch_proposer_wal(p, at(6), L + (5u << 20), L + (10u << 20), &e));
    loch_proposer_effects_fini(&e);
    loch_proposer_destroy(p);
}

static void small_pieces_wait_for_an_answer(void **state)
{
    (void)state;
    struct loch_proposer_effects e = {0};
    struct loch_proposer *p = leader(&e);

    installed(p, 0, L, &e);
    e.count = 0;
    for (uint64_t n = 1; n <= 5; n++)
        assert_ok(loch_proposer_wal(p, at(5), L, L + 100 * n, &e));
    assert_int_equal(e.count, 2); /* one being written, one behind it */
    acked(p, 0, L + 100, L + 100, &e);
    assert_int_equal(e.count, 1);
    assert_int_equal(e.items[0].message.u.append.begin, L + 200);
    assert_int_equal(e.items[0].message.append_len, 300); /* what has gathered */
    e.count = 0;
    assert_ok(loch_proposer_wal(p, at(6), L, L + 500 + LOCH_WAL_CHUNK_BYTES, &e));
    assert_int_equal(e.count, 1); /* a whole chunk does not wait */
    loch_proposer_effects_fini(&e);
    loch_proposer_destroy(p);
}

/* Readers of an idle member learn what is committed at once; a busy one's answer is waited for. */
static void news_is_told_to_the_idle(void **state)
{
    (void)state;
    struct loch_proposer_effects e = {0};
    struct loch_proposer *p = leader(&e);

    installed(p, 0, L, &e);
    installed(p, 1, L, &e);
    greet(p, 2, 2, &e);
    installed(p, 2, L, &e);
    assert_ok(loch_proposer_tell(p, at(4), &e));
    assert_ok(loch_proposer_wal(p, at(5), L, L + 100, &e));
    acked(p, 0, L + 100, L + 100, &e);
    acked(p, 1, L + 100, L + 100, &e);
    assert_int_equal(look(p).commit_lsn, L + 100);
    assert_true(look(p).news);
    e.count = 0;
    assert_ok(loch_proposer_tell(p, at(6), &e));
    assert_int_equal(e.count, 2);
    assert_false(look(p).news); /* nothing to do before the third has answered */
    acked(p, 2, L + 100, L + 100, &e);
    assert_true(look(p).news);
    e.count = 0;
    assert_ok(loch_proposer_tell(p, at(7), &e));
    assert_int_equal(e.count, 1);
    assert_int_equal(e.items[0].member, 2);
    assert_int_equal(e.items[0].message.u.append.commit_lsn, L + 100);
    loch_proposer_effects_fini(&e);
    loch_proposer_destroy(p);
}

static void fenced_is_final(void **state)
{
    (void)state;
    struct loch_proposer_effects e = {0};
    struct loch_proposer *p = leader(&e);
    const struct loch_wal_fenced old = {.term = TERM - 1, .min_compute_epoch = 3, .generation = 7};
    const struct loch_wal_fenced newer = {
        .term = TERM + 1, .min_compute_epoch = 4, .generation = 7};

    e.count = 0;
    assert_ok(loch_proposer_fenced(p, 0, &old, &e)); /* meant for an earlier term of ours */
    assert_int_equal(e.count, 0);
    assert_ok(loch_proposer_fenced(p, 0, &newer, &e));
    assert_int_equal(e.items[0].kind, LOCH_PROPOSER_FENCED);
    assert_int_equal(look(p).state, LOCH_PROPOSER_IS_FENCED);
    installed(p, 0, L, &e);
    installed(p, 1, L, &e);
    assert_int_equal(e.count, 0);
    assert_ok(loch_proposer_tick(p, at(100000), &e));
    assert_int_equal(e.count, 0);
    loch_proposer_effects_fini(&e);
    loch_proposer_destroy(p);
}

static void silence_closes_and_votes_are_tried_again(void **state)
{
    (void)state;
    struct loch_proposer_effects e = {0};
    struct loch_proposer_config c = config();
    struct loch_proposer *p = NULL;

    assert_ok(loch_proposer_create(&c, &p));
    greet(p, 0, 1, &e);
    greet(p, 1, TERM + 40, &e);
    assert_int_equal(e.items[0].message.u.vote.term, TERM + 41);
    grant(p, 0, TERM, 1, L, &e); /* of another term */
    assert_int_equal(e.count, 0);
    assert_ok(loch_proposer_tick(p, at(600), &e));
    assert_int_equal(e.count, 2); /* again, higher */
    assert_int_equal(e.items[0].message.u.vote.term, TERM + 42);
    e.count = 0;
    assert_ok(loch_proposer_tick(p, at(1100), &e)); /* member 1 owed its vote since 1 ms */
    assert_int_equal(count_of(&e, LOCH_PROPOSER_CLOSE), 2 - look(p).members[0].connected);
    loch_proposer_effects_fini(&e);
    loch_proposer_destroy(p);
}

/* One that recovers answers each word of where the window begins, however busy the others are. */
static void silence_closes_who_recovers(void **state)
{
    (void)state;
    struct loch_proposer_effects e = {0};
    struct loch_proposer *p = leader(&e);
    loch_lsn end = L;
    uint64_t ms = 10;

    greet(p, 2, 2, &e);
    installed(p, 0, 900, &e); /* below the window: it recovers from its peers */
    installed(p, 1, L, &e);
    installed(p, 2, L, &e);
    for (; ms < 5000 && look(p).members[0].connected; ms += 50) {
        e.count = 0;
        end += 100;
        assert_ok(loch_proposer_wal(p, at(ms), L, end, &e));
        if (ms < 2500) /* the last word before it hangs */
            acked_at(p, ms, 3, (uint32_t)ms - 3, 0, 900, 900, &e);
        acked_at(p, ms, ms, 0, 1, end, end, &e);
        acked_at(p, ms, ms, 0, 2, end, end, &e);
        assert_int_equal(look(p).commit_lsn, end);
        assert_true(look(p).members[0].recovering);
        e.count = 0;
        assert_ok(loch_proposer_tell(p, at(ms), &e));
        assert_ok(loch_proposer_tick(p, at(ms), &e));
    }
    assert_true(ms > 2500 + 1000);
    assert_true(ms < 2500 + 1200);
    assert_int_equal(count_of(&e, LOCH_PROPOSER_CLOSE), 1);
    assert_true(look(p).members[1].connected && look(p).members[2].connected);
    loch_proposer_effects_fini(&e);
    loch_proposer_destroy(p);
}

/* How long an answer was under way is nobody's proof of life. */
static void what_is_held_back_is_not_heard_now(void **state)
{
    (void)state;
    struct loch_proposer_effects e = {0};
    struct loch_proposer *p = leader(&e);

    installed(p, 0, L, &e);
    e.count = 0;
    assert_ok(loch_proposer_tick(p, at(150), &e));
    assert_int_equal(e.items[0].message.u.append.stamp_ms, 150);
    assert_int_equal(look(p).heard_ms, 2); /* its ELECTED was sent then */
    acked_at(p, 5000, 150, 20, 0, L, L, &e);
    assert_int_equal(look(p).heard_ms, 170);
    acked_at(p, 5000, 150, 10, 0, L, L, &e); /* an older one: no step back */
    assert_int_equal(look(p).heard_ms, 170);
    acked_at(p, 5000, 0, 4000, 0, L, L, &e); /* it has read nothing on this connection */
    acked_at(p, 5000, 5001, 0, 0, L, L, &e); /* nothing of ours */
    acked_at(p, 5000, UINT64_MAX, UINT32_MAX, 0, L, L, &e);
    assert_int_equal(look(p).heard_ms, 170);
    acked_at(p, 5000, 4990, UINT32_MAX, 0, L, L, &e); /* its clock runs ahead */
    assert_int_equal(look(p).heard_ms, 5000);
    loch_proposer_effects_fini(&e);
    loch_proposer_destroy(p);
}

/* HELLO, VOTE and ELECTED carry no stamp: their answers count from when they were asked for. */
static void an_election_is_heard_when_it_was_asked(void **state)
{
    (void)state;
    struct loch_proposer_effects e = {0};
    struct loch_proposer_config c = config();
    const struct loch_wal_hello_reply hello = {.member = {{1}}, .term = 1, .generation = 7};
    struct loch_term_start h[] = {{0, 100}};
    struct loch_wal_vote_reply vote = {
        .granted = true, .term = TERM, .generation = 7, .flush_lsn = L, .history = {h, 1}};
    const struct loch_wal_elected_reply elected = {.term = TERM, .generation = 7, .flush_lsn = L};
    struct loch_proposer *p = NULL;

    c.membership.count = 1;
    assert_ok(loch_proposer_create(&c, &p));
    assert_int_equal(look(p).heard_ms, 0);
    assert_ok(loch_proposer_connected(p, at(10), 0, &e));
    assert_ok(loch_proposer_hello_reply(p, at(500), 0, &hello, &e));
    assert_int_equal(look(p).heard_ms, 10);
    assert_ok(loch_proposer_hello_reply(p, at(600), 0, &hello, &e)); /* nobody asked */
    assert_int_equal(look(p).heard_ms, 10);
    vote.granted = false;
    assert_ok(loch_proposer_vote_reply(p, at(700), 0, &vote, &e));
    assert_int_equal(look(p).heard_ms, 10);
    vote.granted = true;
    assert_ok(loch_proposer_vote_reply(p, at(800), 0, &vote, &e));
    assert_int_equal(look(p).heard_ms, 500);
    assert_ok(loch_proposer_elected_reply(p, at(5000), 0, &elected, &e));
    assert_int_equal(look(p).heard_ms, 800);
    assert_ok(loch_proposer_elected_reply(p, at(6000), 0, &elected, &e));
    assert_int_equal(look(p).heard_ms, 800);
    loch_proposer_disconnected(p, 0);
    assert_ok(loch_proposer_connected(p, at(7000), 0, &e));
    assert_ok(loch_proposer_hello_reply(p, at(9000), 0, &hello, &e));
    assert_int_equal(look(p).heard_ms, 7000);
    loch_proposer_effects_fini(&e);
    loch_proposer_destroy(p);
}

/* A member whose answers drip in from a hoard is as one that is silent. */
static void a_hoard_of_answers_does_not_keep_a_connection(void **state)
{
    (void)state;
    struct loch_proposer_effects e = {0};
    struct loch_proposer *p = leader(&e);
    uint64_t ms = 100, read_ms = 100;

    installed(p, 0, L, &e);
    for (; ms < 20000 && look(p).members[0].connected; ms += 100) {
        e.count = 0;
        assert_ok(loch_proposer_tick(p, at(ms), &e));
        if (ms % 500 == 0 && look(p).members[0].connected) { /* one of five heartbeats' */
            acked_at(p, ms, read_ms, 0, 0, L, L, &e);
            read_ms += 100;
        }
        assert_true(look(p).heard_ms <= read_ms);
    }
    assert_int_equal(look(p).heard_ms, read_ms - 100);
    assert_in_range(ms - look(p).heard_ms, 1000, 1300);
    loch_proposer_effects_fini(&e);
    loch_proposer_destroy(p);
}

/* What lies beyond the epoch's terms no safekeeper would grant. */
static void an_epoch_ends_with_its_terms(void **state)
{
    (void)state;
    struct loch_proposer_effects e = {0};
    struct loch_proposer_config c = config();
    const uint64_t last = TERM + (UINT64_C(1) << LOCH_TERM_EPOCH_SHIFT) - 1;
    struct loch_proposer *p = NULL;

    c.highest_term = last - 1;
    assert_ok(loch_proposer_create(&c, &p));
    greet(p, 0, 1, &e);
    greet(p, 1, 1, &e);
    assert_int_equal(e.items[0].message.u.vote.term, last);
    e.count = 0;
    assert_ok(loch_proposer_tick(p, at(600), &e));
    assert_int_equal(e.count, 1);
    assert_int_equal(e.items[0].kind, LOCH_PROPOSER_FENCED);
    assert_int_equal(look(p).state, LOCH_PROPOSER_IS_FENCED);
    loch_proposer_effects_fini(&e);
    loch_proposer_destroy(p);
}

static void heartbeats_and_wrong_nodes(void **state)
{
    (void)state;
    struct loch_proposer_effects e = {0};
    struct loch_proposer *p = leader(&e);
    const struct loch_wal_hello_reply other = {.member = {{9}}, .generation = 7};

    installed(p, 0, L, &e);
    e.count = 0;
    assert_ok(loch_proposer_tick(p, at(150), &e));
    assert_int_equal(e.count, 1);
    assert_int_equal(e.items[0].message.type, LOCH_WAL_APPEND);
    assert_int_equal(e.items[0].message.append_len, 0);
    e.count = 0;
    assert_ok(loch_proposer_connected(p, at(150), 2, &e));
    e.count = 0;
    assert_ok(loch_proposer_hello_reply(p, at(150), 2, &other, &e));
    assert_int_equal(e.items[0].kind, LOCH_PROPOSER_CLOSE);
    loch_proposer_effects_fini(&e);
    loch_proposer_destroy(p);
}

static void impossible_configs_are_refused(void **state)
{
    (void)state;
    struct loch_proposer *p = NULL;
    struct loch_proposer_config c = config();

    c.membership.count = 0;
    assert_code(loch_proposer_create(&c, &p), LOCH_E_INVALID);
    c = config();
    c.membership.members[2] = c.membership.members[0];
    assert_code(loch_proposer_create(&c, &p), LOCH_E_INVALID);
    c = config();
    c.compute_epoch = 0;
    assert_code(loch_proposer_create(&c, &p), LOCH_E_INVALID);
    c = config();
    c.window_bytes = 0;
    assert_code(loch_proposer_create(&c, &p), LOCH_E_INVALID);
    assert_null(p);
    loch_proposer_destroy(NULL);
}

/* {1, 2, 3} becomes {1, 2, 4}: 3 leaves, 4 comes. */
static void a_leader_goes_by_the_newest_configuration(void **state)
{
    (void)state;
    struct loch_proposer_effects e = {0};
    struct loch_proposer *p = leader(&e);
    struct loch_member four[4];
    const struct loch_membership joint = {.generation = 8, .members = four, .count = 4};
    struct loch_wal_elected_reply old = {.term = TERM, .generation = 7, .flush_lsn = L};

    memcpy(four, config().membership.members, 3 * sizeof four[0]);
    four[2].in = LOCH_MEMBER_OLD;
    four[3] = (struct loch_member){.id = {{4}}, .node = {{14}}, .in = LOCH_MEMBER_NEW};
    installed(p, 0, L, &e);
    e.count = 0;
    assert_ok(loch_proposer_members(p, at(5), 0, &joint, &e));
    assert_int_equal(count_of(&e, LOCH_PROPOSER_MEMBERS), 1);
    assert_int_equal(count_of(&e, LOCH_PROPOSER_SEND), 2); /* ELECTED to those that are greeted */
    assert_int_equal(e.items[1].message.u.elected.generation, 8);
    assert_int_equal(look(p).membership->count, 4);
    assert_true(look(p).members[3].used);
    e.count = 0;
    assert_ok(loch_proposer_elected_reply(p, at(5), 1, &old, &e)); /* of the old configuration */
    assert_int_equal(e.count, 0);
    old.generation = 8;
    assert_ok(loch_proposer_elected_reply(p, at(5), 0, &old, &e));
    assert_int_equal(count_of(&e, LOCH_PROPOSER_COMMIT), 0); /* it was said under 7 before */
    assert_ok(loch_proposer_elected_reply(p, at(5), 1, &old, &e));
    assert_int_equal(count_of(&e, LOCH_PROPOSER_COMMIT), 1); /* two of each set */
    const bool new_only[LOCH_MEMBERS_MAX] = {true, false, false, true};
    const bool both[LOCH_MEMBERS_MAX] = {true, true};
    assert_false(loch_proposer_quorum(p, new_only));
    assert_true(loch_proposer_quorum(p, both));
    four[3].in = LOCH_MEMBER_BOTH;
    assert_code(loch_proposer_members(p, at(6), 0, &joint, &e), LOCH_E_CORRUPT);
    loch_proposer_effects_fini(&e);
    loch_proposer_destroy(p);
}

static void contacts_turn_into_members(void **state)
{
    (void)state;
    struct loch_proposer_effects e = {0};
    struct loch_proposer *p = NULL;
    struct loch_proposer_config c = config();
    struct loch_member contacts[3];
    const struct loch_membership known = c.membership;

    memcpy(contacts, c.membership.members, sizeof contacts);
    for (int i = 0; i < 3; i++)
        contacts[i].id = contacts[i].node;
    c.membership = (struct loch_membership){.members = contacts, .count = 3};
    assert_ok(loch_proposer_create(&c, &p));
    assert_ok(loch_proposer_connected(p, at(1), 1, &e));
    assert_int_equal(e.items[0].message.u.hello.generation, 0);
    e.count = 0;
    assert_ok(loch_proposer_members(p, at(1), 1, &known, &e));
    assert_int_equal(count_of(&e, LOCH_PROPOSER_MEMBERS), 1);
    assert_int_equal(count_of(&e, LOCH_PROPOSER_SEND), 1); /* HELLO again, in the same slot */
    assert_int_equal(e.items[1].member, 1);
    assert_int_equal(e.items[1].message.u.hello.generation, 7);
    assert_true(look(p).members[1].connected);
    loch_proposer_effects_fini(&e);
    loch_proposer_destroy(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_donor_has_the_last_term),
        cmocka_unit_test(terms_that_wrote_nothing_leave_the_history),
        cmocka_unit_test(l_is_committed_by_its_installation),
        cmocka_unit_test(a_quorum_commits),
        cmocka_unit_test(the_window_limits_what_flies),
        cmocka_unit_test(what_is_forgotten_is_not_asked_for),
        cmocka_unit_test(small_pieces_wait_for_an_answer),
        cmocka_unit_test(news_is_told_to_the_idle),
        cmocka_unit_test(fenced_is_final),
        cmocka_unit_test(silence_closes_and_votes_are_tried_again),
        cmocka_unit_test(silence_closes_who_recovers),
        cmocka_unit_test(what_is_held_back_is_not_heard_now),
        cmocka_unit_test(an_election_is_heard_when_it_was_asked),
        cmocka_unit_test(a_hoard_of_answers_does_not_keep_a_connection),
        cmocka_unit_test(an_epoch_ends_with_its_terms),
        cmocka_unit_test(heartbeats_and_wrong_nodes),
        cmocka_unit_test(impossible_configs_are_refused),
        cmocka_unit_test(a_leader_goes_by_the_newest_configuration),
        cmocka_unit_test(contacts_turn_into_members),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
