/* Holds: one test for each rule of the acceptor. */
#include "../unit.h"
#include "loch/consensus/acceptor.h"

#define START 1000u

static const struct loch_id node = {{1}};
static const struct loch_acceptor_from first = {.conn = 1, .compute_epoch = 1};
static const struct loch_acceptor_from second = {.conn = 2, .compute_epoch = 2};

static struct loch_member trio[] = {{.id = {{1}}, .node = {{11}}, .in = LOCH_MEMBER_BOTH},
                                    {.id = {{2}}, .node = {{12}}, .in = LOCH_MEMBER_BOTH},
                                    {.id = {{3}}, .node = {{13}}, .in = LOCH_MEMBER_BOTH}};

static struct loch_membership members(uint64_t generation)
{
    return (struct loch_membership){.generation = generation, .members = trio, .count = 3};
}

static struct loch_acceptor *fresh(void)
{
    struct loch_acceptor_control c;
    struct loch_acceptor *a = NULL;
    const struct loch_membership m = members(7);

    assert_ok(loch_acceptor_control_init(&c, START, 900));
    assert_ok(loch_membership_copy(&c.membership, &m));
    assert_ok(loch_acceptor_create(&c, &node, START, 900, &a));
    loch_acceptor_control_fini(&c);
    return a;
}

static struct loch_acceptor_view look(const struct loch_acceptor *a)
{
    struct loch_acceptor_view v;
    loch_acceptor_look(a, &v);
    return v;
}

static const struct loch_acceptor_effect *only(const struct loch_acceptor_effects *e,
                                               enum loch_acceptor_effect_kind kind)
{
    assert_int_equal(e->count, 1);
    assert_int_equal(e->items[0].kind, kind);
    return &e->items[0];
}

static const struct loch_acceptor_effect *only_send(const struct loch_acceptor_effects *e,
                                                    enum loch_wal_type type)
{
    assert_int_equal(only(e, LOCH_ACCEPTOR_SEND)->message.type, type);
    return &e->items[0];
}

static void vote(struct loch_acceptor *a, struct loch_acceptor_from from, uint64_t term,
                 struct loch_acceptor_effects *e)
{
    const struct loch_wal_vote m = {
        .term = term, .compute_epoch = from.compute_epoch, .generation = 7};
    loch_acceptor_effects_clear(e);
    assert_ok(loch_acceptor_vote(a, from, &m, e));
}

static void elect(struct loch_acceptor *a, struct loch_acceptor_from from, uint64_t term,
                  struct loch_term_start *entries, uint32_t count, struct loch_acceptor_effects *e)
{
    const struct loch_wal_elected m = {
        .term = term, .generation = 7, .history = {.entries = entries, .count = count}};
    loch_acceptor_effects_clear(e);
    assert_ok(loch_acceptor_elected(a, from, &m, e));
}

static void append(struct loch_acceptor *a, struct loch_acceptor_from from, uint64_t term,
                   loch_lsn begin, size_t len, loch_lsn commit, struct loch_acceptor_effects *e)
{
    const struct loch_wal_append m = {
        .term = term, .generation = 7, .begin = begin, .commit_lsn = commit, .bytes = {NULL, len}};
    loch_acceptor_effects_clear(e);
    assert_ok(loch_acceptor_append(a, from, &m, e));
}

/* Votes for and installs term 5 at START; tokens 1 and 2. */
static struct loch_acceptor *in_term_5(struct loch_acceptor_effects *e)
{
    struct loch_acceptor *a = fresh();
    struct loch_term_start h[] = {{0, START}, {5, START}};

    vote(a, first, 5, e);
    assert_int_equal(only(e, LOCH_ACCEPTOR_PERSIST)->control.term, 5);
    assert_int_equal(e->items[0].control.min_compute_epoch, 1);
    loch_acceptor_effects_clear(e);
    assert_ok(loch_acceptor_persisted(a, 1, e));
    assert_true(only_send(e, LOCH_WAL_VOTE_REPLY)->message.u.vote_reply.granted);
    assert_int_equal(e->items[0].after, 1);
    elect(a, first, 5, h, 2, e);
    assert_int_equal(only(e, LOCH_ACCEPTOR_PERSIST)->control.history.count, 2);
    loch_acceptor_effects_clear(e);
    assert_ok(loch_acceptor_persisted(a, 2, e));
    assert_int_equal(only_send(e, LOCH_WAL_ELECTED_REPLY)->message.u.elected_reply.flush_lsn,
                     START);
    return a;
}

static void a_vote_is_durable_first_and_given_once(void **state)
{
    (void)state;
    struct loch_acceptor_effects e = {0};
    struct loch_acceptor *a = fresh();

    vote(a, first, 5, &e);
    (void)only(&e, LOCH_ACCEPTOR_PERSIST);
    vote(a, first, 5, &e); /* the same term again */
    assert_false(only_send(&e, LOCH_WAL_VOTE_REPLY)->message.u.vote_reply.granted);
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_persisted(a, 1, &e));
    const struct loch_wal_vote_reply *r = &only_send(&e, LOCH_WAL_VOTE_REPLY)->message.u.vote_reply;
    assert_true(r->granted);
    assert_int_equal(r->flush_lsn, START);
    assert_int_equal(r->prev_lsn, 900);
    assert_int_equal(r->history.count, 1);
    loch_acceptor_effects_fini(&e);
    loch_acceptor_destroy(a);
}

static void a_higher_vote_replaces_one_under_way(void **state)
{
    (void)state;
    struct loch_acceptor_effects e = {0};
    struct loch_acceptor *a = fresh();

    vote(a, first, 5, &e);
    vote(a, second, 6, &e);
    assert_int_equal(e.count, 2);
    assert_false(e.items[0].message.u.vote_reply.granted); /* to the first */
    assert_int_equal(e.items[0].conn, 1);
    assert_int_equal(e.items[1].control.term, 6);
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_persisted(a, 1, &e));
    assert_int_equal(e.count, 0);
    assert_ok(loch_acceptor_persisted(a, 2, &e));
    assert_int_equal(only_send(&e, LOCH_WAL_VOTE_REPLY)->conn, 2);
    loch_acceptor_effects_fini(&e);
    loch_acceptor_destroy(a);
}

static void older_epochs_are_fenced(void **state)
{
    (void)state;
    struct loch_acceptor_effects e = {0};
    struct loch_acceptor *a = fresh();

    vote(a, second, 5, &e);
    vote(a, first, 9, &e);
    assert_int_equal(only_send(&e, LOCH_WAL_FENCED)->message.u.fenced.min_compute_epoch, 2);
    loch_acceptor_effects_fini(&e);
    loch_acceptor_destroy(a);
}

/* Whoever is behind is told; nothing else happens. */
static void only_one_configuration_is_gone_by(void **state)
{
    (void)state;
    struct loch_acceptor_effects e = {0};
    struct loch_acceptor *a = in_term_5(&e);
    const struct loch_wal_hello older = {.generation = 6}, newer = {.generation = 8};
    const struct loch_wal_vote vote_older = {.term = 9, .compute_epoch = 1, .generation = 6};
    const struct loch_wal_append append_older = {
        .term = 5, .generation = 6, .begin = START, .bytes = {NULL, 10}};

    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_hello(a, first, &older, &e));
    assert_int_equal(only_send(&e, LOCH_WAL_MEMBERS)->message.u.members.generation, 7);
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_vote(a, first, &vote_older, &e));
    (void)only_send(&e, LOCH_WAL_MEMBERS);
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_append(a, first, &append_older, &e)); /* it was told by MEMBERS */
    assert_int_equal(e.count, 0);
    assert_int_equal(look(a).write_lsn, START);
    assert_ok(loch_acceptor_hello(a, first, &newer, &e));
    (void)only(&e, LOCH_ACCEPTOR_REFRESH);
    assert_true(loch_acceptor_is_behind(a, 8));
    assert_false(loch_acceptor_is_behind(a, 7));
    loch_acceptor_effects_fini(&e);
    loch_acceptor_destroy(a);
}

static void a_configuration_is_durable_before_it_is_told(void **state)
{
    (void)state;
    struct loch_acceptor_effects e = {0};
    struct loch_acceptor *a = fresh();
    struct loch_membership m = members(8);
    const struct loch_wal_hello hello = {.generation = 8};

    assert_ok(loch_acceptor_configure(a, &m, &e));
    assert_int_equal(only(&e, LOCH_ACCEPTOR_PERSIST)->control.membership.generation, 8);
    assert_int_equal(look(a).generation, 7);
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_persisted(a, 1, &e));
    assert_int_equal(only_send(&e, LOCH_WAL_MEMBERS)->conn, 0);
    assert_int_equal(look(a).generation, 8);
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_configure(a, &m, &e)); /* the same again */
    m.generation = 7;                              /* an older one */
    assert_ok(loch_acceptor_configure(a, &m, &e));
    assert_int_equal(e.count, 0);
    m.generation = 8;
    m.count = 2;
    assert_code(loch_acceptor_configure(a, &m, &e), LOCH_E_CORRUPT);
    m.generation = 9; /* without us: {2, 3} */
    m.members = trio + 1;
    assert_ok(loch_acceptor_configure(a, &m, &e));
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_hello(a, first, &hello, &e));
    (void)only_send(&e, LOCH_WAL_MEMBERS);
    const struct loch_wal_hello nine = {.generation = 9};
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_hello(a, first, &nine, &e));
    assert_int_equal(e.items[e.count - 1].kind, LOCH_ACCEPTOR_CLOSE);
    loch_acceptor_effects_fini(&e);
    loch_acceptor_destroy(a);
}

static void a_peer_that_is_further_is_followed(void **state)
{
    (void)state;
    struct loch_acceptor_effects e = {0};
    struct loch_acceptor *a = fresh();
    struct loch_term_start h[] = {{0, START}, {5, START}};
    const struct loch_wal_pull_state peer = {.term = 5,
                                             .promised = 6,
                                             .compute_epoch = 2,
                                             .flush_lsn = START + 100,
                                             .commit_lsn = START + 60,
                                             .start_lsn = START,
                                             .history = {h, 2},
                                             .membership = members(7)};
    struct loch_wal_pull_state other = peer;

    other.membership.generation = 6; /* goes by another configuration */
    assert_ok(loch_acceptor_peer_state(a, &other, &e));
    assert_int_equal(e.count, 0);
    other.membership.generation = 8;
    assert_ok(loch_acceptor_peer_state(a, &other, &e));
    (void)only(&e, LOCH_ACCEPTOR_REFRESH);
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_peer_state(a, &peer, &e));
    assert_int_equal(only(&e, LOCH_ACCEPTOR_PERSIST)->control.term, 6);
    assert_int_equal(e.items[0].control.min_compute_epoch, 2);
    assert_false(look(a).settled);
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_persisted(a, 1, &e));
    assert_int_equal(only(&e, LOCH_ACCEPTOR_RECOVER)->term, 5);
    assert_int_equal(e.items[0].end, START + 100);
    assert_true(look(a).settled);
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_recovered(a, 5, START, 100, START + 60, &e));
    assert_int_equal(look(a).write_lsn, START + 100);
    assert_int_equal(look(a).log_term, 5);
    loch_acceptor_effects_fini(&e);
    loch_acceptor_destroy(a);
}

/* The tail that a candidate of a higher term may have been told of stays. */
static void a_promise_keeps_the_tail(void **state)
{
    (void)state;
    struct loch_acceptor_effects e = {0};
    struct loch_acceptor *a = in_term_5(&e);
    struct loch_term_start h[] = {{0, START}, {6, START}};
    const struct loch_wal_pull_state peer = {.term = 6,
                                             .promised = 6,
                                             .flush_lsn = START,
                                             .start_lsn = START,
                                             .history = {h, 2},
                                             .membership = members(7)};

    append(a, first, 5, START, 100, START, &e); /* 3 WRITE, 4 SYNC */
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_synced(a, 4, START + 100, START, &e));
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_peer_state(a, &peer, &e)); /* it is led */
    assert_int_equal(e.count, 0);
    vote(a, second, 7, &e);
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_persisted(a, 5, &e));
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_peer_state(a, &peer, &e));
    assert_int_equal(e.count, 0);
    assert_int_equal(look(a).flush_lsn, START + 100);
    loch_acceptor_effects_fini(&e);
    loch_acceptor_destroy(a);
}

static void writes_are_grouped_and_acknowledged_at_the_boundary(void **state)
{
    (void)state;
    struct loch_acceptor_effects e = {0};
    struct loch_acceptor *a = in_term_5(&e);

    append(a, first, 5, START, 100, START, &e); /* tokens 3 WRITE, 4 SYNC */
    assert_int_equal(e.count, 2);
    assert_int_equal(e.items[0].kind, LOCH_ACCEPTOR_WRITE);
    assert_int_equal(e.items[1].kind, LOCH_ACCEPTOR_SYNC);
    append(a, first, 5, START + 100, 50, START, &e); /* 5, no second sync yet */
    (void)only(&e, LOCH_ACCEPTOR_WRITE);
    append(a, first, 5, START + 150, 50, START, &e); /* 6 */
    (void)only(&e, LOCH_ACCEPTOR_WRITE);
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_synced(a, 4, START + 80, START + 40, &e)); /* a record is cut at 100 */
    assert_int_equal(e.count, 2);
    assert_int_equal(e.items[0].message.u.append_reply.flush_lsn, START + 80);
    assert_int_equal(e.items[0].message.u.append_reply.write_lsn, START + 200);
    assert_int_equal(e.items[1].kind, LOCH_ACCEPTOR_SYNC); /* 7 covers both */
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_synced(a, 7, START + 200, START + 160, &e));
    assert_int_equal(only_send(&e, LOCH_WAL_APPEND_REPLY)->message.u.append_reply.flush_lsn,
                     START + 200);
    loch_acceptor_effects_fini(&e);
    loch_acceptor_destroy(a);
}

static void bytes_already_there_are_skipped_and_gaps_refused(void **state)
{
    (void)state;
    struct loch_acceptor_effects e = {0};
    struct loch_acceptor *a = in_term_5(&e);

    append(a, first, 5, START, 100, START, &e);
    append(a, first, 5, START + 60, 100, START, &e);
    const struct loch_acceptor_effect *w = only(&e, LOCH_ACCEPTOR_WRITE);
    assert_int_equal(w->begin, START + 100);
    assert_int_equal(w->end, START + 160);
    assert_int_equal(w->skip, 40);
    append(a, first, 5, START + 60, 10, START, &e);
    (void)only_send(&e, LOCH_WAL_APPEND_REPLY);
    append(a, first, 5, START + 300, 10, START, &e); /* a gap: say where, recover up to it */
    assert_int_equal(e.count, 2);
    assert_int_equal(e.items[0].message.u.append_reply.write_lsn, START + 160);
    assert_int_equal(e.items[1].kind, LOCH_ACCEPTOR_RECOVER);
    assert_int_equal(e.items[1].begin, START + 160);
    assert_int_equal(e.items[1].end, START + 300);
    loch_acceptor_effects_fini(&e);
    loch_acceptor_destroy(a);
}

static void commit_follows_what_is_durable_here(void **state)
{
    (void)state;
    struct loch_acceptor_effects e = {0};
    struct loch_acceptor *a = in_term_5(&e);
    loch_lsn upto;

    append(a, first, 5, START, 100, START + 100, &e);
    assert_int_equal(look(a).commit_lsn, START);
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_synced(a, 4, START + 100, START, &e));
    assert_int_equal(look(a).commit_lsn, START + 100);
    assert_ok(loch_acceptor_pull_limit(a, LOCH_PULL_COMMITTED, 0, 7, START, &upto));
    assert_int_equal(upto, START + 100);
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_tick(a, &e));
    assert_int_equal(only(&e, LOCH_ACCEPTOR_PERSIST)->control.commit_lsn, START + 100);
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_tick(a, &e));
    assert_int_equal(e.count, 0);
    loch_acceptor_touch(a); /* the host has something to persist */
    assert_ok(loch_acceptor_tick(a, &e));
    assert_int_equal(only(&e, LOCH_ACCEPTOR_PERSIST)->control.commit_lsn, START + 100);
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_tick(a, &e));
    assert_int_equal(e.count, 0);
    append(a, first, 5, START + 100, 0, START + 100, &e); /* a heartbeat is answered */
    (void)only_send(&e, LOCH_WAL_APPEND_REPLY);
    append(a, first, 5, START + 100, 0, START + 101, &e); /* a bare commit_lsn is not */
    assert_int_equal(e.count, 0);
    loch_acceptor_effects_fini(&e);
    loch_acceptor_destroy(a);
}

static void no_acknowledgement_after_a_higher_promise(void **state)
{
    (void)state;
    struct loch_acceptor_effects e = {0};
    struct loch_acceptor *a = in_term_5(&e);

    append(a, first, 5, START, 100, START, &e); /* 3, 4 */
    vote(a, second, 6, &e);                     /* 5 */
    (void)only(&e, LOCH_ACCEPTOR_PERSIST);
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_synced(a, 4, START + 100, START, &e));
    assert_int_equal(e.count, 0);
    assert_ok(loch_acceptor_persisted(a, 5, &e)); /* the voter tells it; the old leader is fenced */
    assert_int_equal(e.count, 2);
    assert_int_equal(e.items[0].message.u.vote_reply.flush_lsn, START + 100);
    assert_int_equal(e.items[1].message.type, LOCH_WAL_FENCED);
    assert_int_equal(e.items[1].conn, 1);
    append(a, first, 5, START + 100, 10, START, &e);
    (void)only_send(&e, LOCH_WAL_FENCED);
    loch_acceptor_effects_fini(&e);
    loch_acceptor_destroy(a);
}

static void a_foreign_tail_is_cut_before_the_history(void **state)
{
    (void)state;
    struct loch_acceptor_effects e = {0};
    struct loch_acceptor *a = in_term_5(&e);
    struct loch_term_start h[] = {{0, START}, {5, START}, {6, START + 40}};

    append(a, first, 5, START, 100, START + 40, &e);
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_synced(a, 4, START + 100, START + 60, &e));
    elect(a, second, 6, h, 3, &e);
    assert_int_equal(e.count, 2);
    assert_int_equal(e.items[0].kind, LOCH_ACCEPTOR_TRUNCATE);
    assert_int_equal(e.items[0].begin, START + 40);
    assert_int_equal(e.items[1].kind, LOCH_ACCEPTOR_PERSIST);
    assert_int_equal(e.items[1].control.history.count, 3);
    assert_true(e.items[0].token < e.items[1].token);
    loch_lsn upto;
    assert_code(loch_acceptor_pull_limit(a, LOCH_PULL_FLUSHED, 6, 7, START, &upto), LOCH_E_STALE);
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_truncated(a, 5, START + 8, &e));
    assert_ok(loch_acceptor_persisted(a, 6, &e));
    assert_int_equal(e.count, 2); /* the reply; and FENCED to the leader before */
    assert_int_equal(e.items[0].message.u.elected_reply.flush_lsn, START + 40);
    assert_int_equal(look(a).prev_lsn, START + 8);
    assert_ok(loch_acceptor_pull_limit(a, LOCH_PULL_FLUSHED, 6, 7, START, &upto));
    assert_code(loch_acceptor_pull_limit(a, LOCH_PULL_FLUSHED, 5, 7, START, &upto), LOCH_E_STALE);
    assert_code(loch_acceptor_pull_limit(a, LOCH_PULL_COMMITTED, 0, 7, 1, &upto), LOCH_E_NOT_FOUND);
    loch_acceptor_effects_fini(&e);
    loch_acceptor_destroy(a);
}

static void committed_wal_is_never_cut(void **state)
{
    (void)state;
    struct loch_acceptor_effects e = {0};
    struct loch_acceptor *a = in_term_5(&e);
    struct loch_term_start h[] = {{0, START}, {5, START}, {6, START + 40}};
    struct loch_term_start foreign[] = {{0, START + 1}, {6, START + 40}};
    struct loch_term_start wrong[] = {{0, START}, {5, START}};

    append(a, first, 5, START, 100, START + 100, &e);
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_synced(a, 4, START + 100, START + 60, &e));
    elect(a, second, 6, h, 3, &e);
    assert_int_equal(only(&e, LOCH_ACCEPTOR_CLOSE)->code, LOCH_E_CORRUPT);
    elect(a, second, 6, foreign, 2, &e);
    assert_int_equal(only(&e, LOCH_ACCEPTOR_CLOSE)->code, LOCH_E_CORRUPT);
    elect(a, second, 6, wrong, 2, &e);
    assert_int_equal(only(&e, LOCH_ACCEPTOR_CLOSE)->code, LOCH_E_INVALID);
    assert_int_equal(look(a).flush_lsn, START + 100);
    loch_acceptor_effects_fini(&e);
    loch_acceptor_destroy(a);
}

static void the_same_leader_may_come_back(void **state)
{
    (void)state;
    struct loch_acceptor_effects e = {0};
    struct loch_acceptor *a = in_term_5(&e);
    struct loch_term_start h[] = {{0, START}, {5, START}};
    const struct loch_acceptor_from again = {.conn = 3, .compute_epoch = 1};

    append(a, first, 5, START, 100, START, &e);
    loch_acceptor_closed(a, 1);
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_synced(a, 4, START + 80, START, &e));
    assert_int_equal(e.count, 0); /* nobody to tell */
    elect(a, again, 5, h, 2, &e);
    assert_int_equal(only_send(&e, LOCH_WAL_ELECTED_REPLY)->message.u.elected_reply.flush_lsn,
                     START + 80);
    append(a, again, 5, START + 80, 40, START, &e);
    assert_int_equal(e.items[0].skip, 20);           /* the written part of a record was kept */
    append(a, first, 5, START + 120, 10, START, &e); /* a leftover of the old connection */
    assert_int_equal(e.count, 0);
    loch_acceptor_effects_fini(&e);
    loch_acceptor_destroy(a);
}

static void a_short_log_recovers_from_peers(void **state)
{
    (void)state;
    struct loch_acceptor_effects e = {0};
    struct loch_acceptor *a = fresh();
    struct loch_term_start h[] = {{0, START}, {5, START + 200}};

    elect(a, first, 5, h, 2, &e); /* it had not voted: token 1 */
    (void)only(&e, LOCH_ACCEPTOR_PERSIST);
    append(a, first, 5, START, 0, START, &e);
    (void)only(&e, LOCH_ACCEPTOR_CLOSE); /* not installed yet */
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_persisted(a, 1, &e));
    assert_int_equal(e.count, 2);
    assert_int_equal(e.items[1].kind, LOCH_ACCEPTOR_RECOVER);
    assert_int_equal(e.items[1].term, 5);
    assert_int_equal(e.items[1].begin, START);
    assert_int_equal(e.items[1].end, START + 200);
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_recovered(a, 4, START, 200, START, &e));      /* another term's */
    assert_ok(loch_acceptor_recovered(a, 5, START + 10, 190, START, &e)); /* a gap */
    assert_int_equal(e.count, 0);
    assert_ok(loch_acceptor_recovered(a, 5, START, 200, START + 50, &e)); /* 2, 3 */
    assert_int_equal(e.count, 3);
    assert_int_equal(e.items[0].kind, LOCH_ACCEPTOR_WRITE);
    assert_int_equal(e.items[1].kind, LOCH_ACCEPTOR_SYNC);
    assert_int_equal(e.items[2].kind, LOCH_ACCEPTOR_RECOVER); /* stop */
    assert_int_equal(e.items[2].begin, e.items[2].end);
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_synced(a, 3, START + 200, START + 100, &e));
    assert_int_equal(look(a).commit_lsn, START + 50);
    loch_acceptor_effects_fini(&e);
    loch_acceptor_destroy(a);
}

static void malformed_wal_is_cut_away(void **state)
{
    (void)state;
    struct loch_acceptor_effects e = {0};
    struct loch_acceptor *a = in_term_5(&e);

    append(a, first, 5, START, 100, START, &e);
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_poisoned(a, START + 100, &e));
    assert_int_equal(e.count, 2);
    assert_int_equal(e.items[0].kind, LOCH_ACCEPTOR_TRUNCATE);
    assert_int_equal(e.items[0].begin, START);
    assert_int_equal(e.items[1].kind, LOCH_ACCEPTOR_CLOSE);
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_synced(a, 4, START + 100, START, &e)); /* speaks of what is gone */
    assert_int_equal(look(a).flush_lsn, START);
    struct loch_term_start h[] = {{0, START}, {5, START}};
    elect(a, second, 5, h, 2, &e); /* the leader again: what it sends now would be cut with it */
    assert_int_equal(e.count, 0);
    assert_ok(loch_acceptor_truncated(a, 5, 900, &e));
    assert_int_equal(only_send(&e, LOCH_WAL_ELECTED_REPLY)->conn, second.conn);
    append(a, second, 5, START, 100, START, &e);
    assert_int_equal(e.items[0].kind, LOCH_ACCEPTOR_WRITE);
    loch_acceptor_effects_fini(&e);
    loch_acceptor_destroy(a);
}

static void what_was_not_taken_needs_no_cut(void **state)
{
    (void)state;
    struct loch_acceptor_effects e = {0};
    struct loch_acceptor *a = in_term_5(&e);

    append(a, first, 5, START, 100, START, &e); /* WRITE, SYNC */
    loch_acceptor_effects_clear(&e);
    append(a, first, 5, START + 100, 50, START, &e); /* WRITE, refused */
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_poisoned(a, START + 100, &e));
    assert_int_equal(only(&e, LOCH_ACCEPTOR_CLOSE)->conn, 1);
    assert_int_equal(look(a).write_lsn, START + 100);
    loch_acceptor_effects_clear(&e);
    assert_ok(loch_acceptor_synced(a, 4, START + 100, START, &e)); /* what was good stays */
    assert_int_equal(look(a).flush_lsn, START + 100);
    loch_acceptor_effects_fini(&e);
    loch_acceptor_destroy(a);
}

static void control_state_and_wal_must_agree(void **state)
{
    (void)state;
    struct loch_acceptor_control c, copy;
    struct loch_acceptor *a = NULL;

    assert_ok(loch_acceptor_control_init(&c, START, 900));
    c.commit_lsn = START + 10;
    assert_code(loch_acceptor_create(&c, &node, START, 900, &a), LOCH_E_CORRUPT);
    assert_null(a);
    c.commit_lsn = START;
    assert_ok(loch_term_history_add(&c.history, 3, START));
    assert_code(loch_acceptor_create(&c, &node, START, 900, &a), LOCH_E_CORRUPT);
    c.term = 4;
    assert_ok(loch_acceptor_control_copy(&copy, &c));
    loch_acceptor_control_fini(&c);
    assert_ok(loch_acceptor_create(&copy, &node, START + 30, START, &a));
    loch_acceptor_feedback(a, START + 1, START);
    assert_int_equal(look(a).installed_term, 3);
    assert_int_equal(look(a).write_lsn, START + 30);
    loch_acceptor_control_fini(&copy);
    loch_acceptor_destroy(a);
    loch_acceptor_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_vote_is_durable_first_and_given_once),
        cmocka_unit_test(a_higher_vote_replaces_one_under_way),
        cmocka_unit_test(older_epochs_are_fenced),
        cmocka_unit_test(only_one_configuration_is_gone_by),
        cmocka_unit_test(a_configuration_is_durable_before_it_is_told),
        cmocka_unit_test(a_peer_that_is_further_is_followed),
        cmocka_unit_test(a_promise_keeps_the_tail),
        cmocka_unit_test(writes_are_grouped_and_acknowledged_at_the_boundary),
        cmocka_unit_test(bytes_already_there_are_skipped_and_gaps_refused),
        cmocka_unit_test(commit_follows_what_is_durable_here),
        cmocka_unit_test(no_acknowledgement_after_a_higher_promise),
        cmocka_unit_test(a_foreign_tail_is_cut_before_the_history),
        cmocka_unit_test(committed_wal_is_never_cut),
        cmocka_unit_test(the_same_leader_may_come_back),
        cmocka_unit_test(a_short_log_recovers_from_peers),
        cmocka_unit_test(malformed_wal_is_cut_away),
        cmocka_unit_test(what_was_not_taken_needs_no_cut),
        cmocka_unit_test(control_state_and_wal_must_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
