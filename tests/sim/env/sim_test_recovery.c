/* Recovery from peers, directed: three whole safekeepers in the simulated world, told by hand what
 * a leader would say. A donor that goes silent in the middle is left for the next long before its
 * stream is reset; a peer whose history cannot be is followed once, in vain; of many timelines that
 * look around at once, or fetch WAL, only so many do; one that is held looks all the same, and what
 * its donor has for it does not pile up there. What a timeline wrote before it was parked is not
 * taken from the page cache after.
 */
#include "sk_world.h"

#include <setjmp.h>

#define MANY  100u
#define FETCH 40u

static void a_silent_donor_is_left(void **state)
{
    (void)state;
    all_lead();
    const loch_lsn all = write_to_two();
    while (flush_of(&w.sks[2]) < START_LSN + WAL_BYTES / 4)
        assert_true(sim_world_step(w.sim));
    assert_true(flush_of(&w.sks[2]) < all - WAL_BYTES / 4); /* in the middle of it */
    const uint32_t donor = given(0) > given(1) ? 0 : 1;
    const int64_t before = given(1 - donor);
    sim_part(w.sim, w.sks[donor].name, w.sks[2].name);
    const uint64_t began_us = sim_world_now_us(w.sim);
    while (flush_of(&w.sks[2]) < all) {
        assert_true(sim_world_now_us(w.sim) - began_us < 12 * SECOND_US);
        assert_true(sim_world_step(w.sim));
    }
    assert_true(given(1 - donor) > before);
    teardown();
}

/* The first, alone, has some WAL. */
static void one_leads(struct wal_gen *gen, struct loch_buf *wal)
{
    struct safekeeper *s = &w.sks[0];

    setup(1);
    sk_start(s);
    create(s, 0);
    sim_world_run(w.sim, SECOND_US);
    form(0);
    sim_world_run(w.sim, SECOND_US);
    lead(s);
    wal_gen_init(gen, START_LSN, START_PREV, SYSTEM_ID, 42);
    for (int i = 0; i < 10; i++)
        (void)wal_gen_record(gen, wal, 8000);
    append(s, START_LSN, loch_buf_slice(wal));
    sim_world_run(w.sim, SECOND_US);
    assert_int_equal(flush_of(s), gen->lsn);
}

/* A term of a peer's that begins inside one of our records. */
static void hear_of_a_wrong_term(const struct safekeeper *s, loch_lsn at)
{
    struct loch_term_start h[] = {{0, START_LSN}, {term, START_LSN}, {term + 1, at}};
    struct loch_acceptor_view v;

    loch_acceptor_look(timeline_on(s, 0)->acceptor, &v);
    const struct loch_wal_pull_state m = {.term = term + 1,
                                          .promised = term + 1,
                                          .term_start = at,
                                          .compute_epoch = 1,
                                          .flush_lsn = at + 64,
                                          .commit_lsn = START_LSN,
                                          .start_lsn = START_LSN,
                                          .history = {.entries = h, .count = 3},
                                          .membership = *v.membership};
    sk_timeline_peer_state(timeline_on(s, 0), &m);
}

static void a_history_that_cannot_be_is_not_followed(void **state)
{
    struct safekeeper *s = &w.sks[0];
    struct loch_buf wal = {0};
    struct wal_gen gen;

    (void)state;
    one_leads(&gen, &wal);
    sk_timeline_gone(timeline_on(s, 0), CONN);
    hear_of_a_wrong_term(s, gen.lsn - 4000);
    sim_world_run(w.sim, SECOND_US);
    assert_int_equal(timeline_on(s, 0)->state, SK_WAITING);
    sim_world_run(w.sim, 6 * SECOND_US);
    for (int i = 0; i < 3; i++) { /* again: it stays, and whole */
        assert_int_equal(timeline_on(s, 0)->state, SK_ACTIVE);
        assert_int_equal(flush_of(s), gen.lsn);
        hear_of_a_wrong_term(s, gen.lsn - 4000);
        sim_world_run(w.sim, SECOND_US);
    }
    lead(s); /* the honest leader is back */
    const size_t before = wal.len;
    (void)wal_gen_record(&gen, &wal, 500);
    append(s, START_LSN + before, loch_slice_of(wal.data + before, wal.len - before));
    sim_world_run(w.sim, SECOND_US);
    assert_int_equal(flush_of(s), gen.lsn);
    loch_buf_fini(&wal);
    teardown();
}

static void only_so_many_look_at_a_time(void **state)
{
    struct safekeeper *s = &w.sks[0];
    uint32_t most = 0, idle = 0;

    (void)state;
    setup(MANY);
    sk_start(s);
    for (uint32_t i = 0; i < MANY; i++)
        create(s, i);
    sim_world_run(w.sim, 5 * SECOND_US);
    for (uint32_t i = 0; i < MANY; i++)
        form(i); /* its peers are down */
    const uint64_t began_us = sim_world_now_us(w.sim);
    while (idle < MANY || most == 0) {
        assert_true(sim_world_now_us(w.sim) - began_us < 600 * SECOND_US);
        assert_true(sim_world_step(w.sim));
        assert_true(s->d->looks.count <= SK_LOOKS_MAX);
        most = s->d->looks.count > most ? s->d->looks.count : most;
        for (idle = 0; idle < MANY && sk_recovery_idle(timeline_on(s, idle)); idle++)
            ;
    }
    assert_int_equal(most, SK_LOOKS_MAX);
    assert_int_equal(s->d->looks.count, 0);
    assert_null(s->d->looks.first);
    for (uint32_t i = 0; i < MANY; i++) { /* stopped while they stand in line */
        sk_recovery_look(timeline_on(s, i));
        sim_world_run(w.sim, 1000);
    }
    for (uint32_t i = 0; i < MANY; i++)
        (void)sk_recovery_stop(timeline_on(s, MANY - 1 - i));
    sim_world_run(w.sim, 10 * SECOND_US);
    assert_int_equal(s->d->looks.count, 0);
    assert_null(s->d->looks.first);
    assert_null(s->d->looks.last);
    teardown();
}

/* With some WAL, and over its limit. */
static void hold(const struct safekeeper *s)
{
    struct loch_buf wal = {0};
    struct wal_gen gen;

    wal_gen_init(&gen, START_LSN, START_PREV, SYSTEM_ID, 42); /* as write_to_two's begins */
    (void)wal_gen_record(&gen, &wal, 8000);
    append(s, START_LSN, loch_buf_slice(&wal));
    loch_buf_fini(&wal);
    s->d->limits.timeline_bytes = 1;
    sim_world_run(w.sim, 3 * SECOND_US);
    assert_true(timeline_on(s, 0)->hold[0] != '\0');
}

static struct sk_conn *follower_of(const struct safekeeper *s)
{
    for (struct sk_conn *c = s->d->conns; c != NULL; c = c->next)
        if (c->kind == SK_CONN_PULL && c->mode == LOCH_PULL_FLUSHED && !c->gone)
            return c;
    return NULL;
}

static void who_is_held_is_not_told_without_end(void **state)
{
    const struct safekeeper *donor = NULL;

    (void)state;
    all_lead();
    hold(&w.sks[2]);
    const loch_lsn all = write_to_two();
    sim_world_run(w.sim, 5 * SECOND_US);
    for (uint32_t i = 0; i < 2; i++)
        if (follower_of(&w.sks[i]) != NULL)
            donor = &w.sks[i];
    assert_non_null(donor);
    for (int i = 0; i < 30000; i++) /* as with every commit */
        sk_sender_kick(timeline_on(donor, 0), true);
    assert_true(loch_stream_queued(follower_of(donor)->stream) < (2u << 20));
    assert_true(follower_of(donor)->state_due);
    assert_true(flush_of(&w.sks[2]) < all);
    w.sks[2].d->limits.timeline_bytes = 0;
    const uint64_t began_us = sim_world_now_us(w.sim);
    while (flush_of(&w.sks[2]) < all) {
        assert_true(sim_world_now_us(w.sim) - began_us < 12 * SECOND_US);
        assert_true(sim_world_step(w.sim));
    }
    teardown();
}

static void who_is_held_looks(void **state)
{
    struct safekeeper *s = &w.sks[0];

    (void)state;
    all_lead();
    hold(s);
    sk_timeline_gone(timeline_on(s, 0), CONN);
    sk_recovery_look(timeline_on(s, 0));
    assert_false(sk_recovery_idle(timeline_on(s, 0)));
    sim_world_run(w.sim, 5 * SECOND_US);
    assert_true(timeline_on(s, 0)->hold[0] != '\0');
    assert_true(sk_recovery_idle(timeline_on(s, 0)));
    assert_int_equal(s->d->looks.count, 0);
    teardown();
}

static uint32_t followers(const struct safekeeper *s)
{
    uint32_t n = 0;

    for (struct sk_conn *c = s->d->conns; c != NULL; c = c->next)
        n += c->kind == SK_CONN_PULL && c->mode == LOCH_PULL_FLUSHED && !c->gone && !c->closing;
    return n;
}

/* FETCH timelines whose WAL two have. Of the third's the first SK_PULLS_MAX have some of it. */
static loch_lsn two_have_many(struct loch_slice *part, struct loch_buf *wal)
{
    struct wal_gen gen;

    setup(FETCH);
    for (uint32_t k = 0; k < SAFEKEEPERS; k++) {
        sk_start(&w.sks[k]);
        for (uint32_t i = 0; i < FETCH; i++)
            create(&w.sks[k], i);
    }
    sim_world_run(w.sim, 5 * SECOND_US);
    wal_gen_init(&gen, START_LSN, START_PREV, SYSTEM_ID, 42);
    (void)wal_gen_record(&gen, wal, 8000);
    const size_t first = wal->len;
    (void)wal_gen_record(&gen, wal, 8000);
    *part = loch_slice_of(wal->data, first);
    for (uint32_t i = 0; i < FETCH; i++)
        form(i);
    sim_world_run(w.sim, 10 * SECOND_US);
    for (uint32_t i = 0; i < FETCH; i++) {
        for (uint32_t k = 0; k < SAFEKEEPERS; k++)
            lead_on(&w.sks[k], i);
        for (uint32_t k = 0; k < 2; k++)
            append_on(&w.sks[k], i, START_LSN, loch_buf_slice(wal));
        if (i < SK_PULLS_MAX)
            append_on(&w.sks[2], i, START_LSN, *part);
    }
    sim_world_run(w.sim, 10 * SECOND_US);
    return gen.lsn;
}

static void fetch_until(uint32_t first, uint32_t end, loch_lsn all, uint32_t *most)
{
    const struct safekeeper *s = &w.sks[2];
    const uint64_t began_us = sim_world_now_us(w.sim);

    while (first < end) {
        assert_true(sim_world_now_us(w.sim) - began_us < 60 * SECOND_US);
        assert_true(sim_world_step(w.sim));
        assert_true(s->d->pulls.count <= SK_PULLS_MAX);
        const uint32_t count = followers(&w.sks[0]) + followers(&w.sks[1]);
        *most = count > *most ? count : *most;
        while (first < end && flush_on(s, first) == all)
            first++;
    }
}

/* Those that are held take the turns first, and do not keep the others from them. */
static void only_so_many_fetch_at_a_time(void **state)
{
    struct safekeeper *s = &w.sks[2];
    struct loch_buf wal = {0};
    struct loch_slice part;
    uint32_t most = 0;

    (void)state;
    const loch_lsn all = two_have_many(&part, &wal);
    s->d->limits.timeline_bytes = 1;
    sim_world_run(w.sim, 3 * SECOND_US);
    for (uint32_t i = 0; i < FETCH; i++) {
        assert_int_equal(timeline_on(s, i)->hold[0] != '\0', i < SK_PULLS_MAX);
        append_on(s, i, all, (struct loch_slice){0}); /* the leader is there already */
    }
    const uint64_t began_us = sim_world_now_us(w.sim);
    while (s->d->pulls.first == NULL && sim_world_now_us(w.sim) - began_us < SECOND_US)
        assert_true(sim_world_step(w.sim));
    assert_non_null(s->d->pulls.first);
    assert_int_equal(s->d->pulls.count, SK_PULLS_MAX);
    fetch_until(SK_PULLS_MAX, FETCH, all, &most);
    for (uint32_t i = 0; i < SK_PULLS_MAX; i++)
        assert_true(flush_on(s, i) == START_LSN + part.len);
    s->d->limits.timeline_bytes = 0;
    fetch_until(0, FETCH, all, &most);
    assert_in_range(most, SK_PULLS_MAX, SK_PULLS_MAX + 8); /* some whose end is on its way */
    sim_world_run(w.sim, 5 * SECOND_US);
    assert_int_equal(s->d->pulls.count, 0);
    assert_null(s->d->pulls.first);
    loch_buf_fini(&wal);
    teardown();
}

/* ---- parked ---- */

static jmp_buf stopped;
static bool may_stop;

_Noreturn void __real_sk_daemon_fail_stop(const char *what, loch_status st);
_Noreturn void __wrap_sk_daemon_fail_stop(const char *what, loch_status st);

/* The linker puts it in the place of the product's own, which ends the process. */
_Noreturn void __wrap_sk_daemon_fail_stop(const char *what, loch_status st)
{
    if (!may_stop)
        __real_sk_daemon_fail_stop(what, st);
    may_stop = false;
    longjmp(stopped, 1);
}

/* Does the process end in the next ten seconds? */
static bool stops(void)
{
    if (setjmp(stopped) != 0)
        return true;
    may_stop = true;
    sim_world_run(w.sim, 10 * SECOND_US);
    may_stop = false;
    return false;
}

/* One more record is on its way to the disk when the timeline is parked; `fails`: and does not get
 * there. */
static void park_while_it_writes(bool fails)
{
    const struct safekeeper *s = &w.sks[0];
    struct loch_buf wal = {0};
    struct wal_gen gen;

    one_leads(&gen, &wal);
    const size_t before = wal.len;
    const loch_lsn at = gen.lsn;
    (void)wal_gen_record(&gen, &wal, 500);
    sim_node_fail_disk(s->node, fails ? 1 : 0);
    append(s, at, loch_slice_of(wal.data + before, wal.len - before));
    sk_timeline_park(timeline_on(s, 0), LOCH_E_KEY_REVOKED, "revoked");
    loch_buf_fini(&wal);
}

static void a_write_that_fails_after_the_park_ends_the_process(void **state)
{
    (void)state;
    park_while_it_writes(false);
    assert_false(stops());
    assert_int_equal(timeline_on(&w.sks[0], 0)->state, SK_ACTIVE);
    teardown();
    park_while_it_writes(true);
    assert_true(stops());
    teardown();
}

static void what_was_synced_before_the_park_must_be_there(void **state)
{
    const struct safekeeper *s = &w.sks[0];
    struct loch_buf wal = {0};
    char path[SK_PATH_BYTES];
    struct wal_gen gen;

    (void)state;
    one_leads(&gen, &wal);
    struct sk_timeline *tl = timeline_on(s, 0);
    sk_wal_file_path(tl->dir, sk_store_last_seq(tl->store), path);
    sk_timeline_park(tl, LOCH_E_KEY_REVOKED, "revoked");
    sim_world_run(w.sim, 6 * SECOND_US);
    assert_int_equal(tl->state, SK_ACTIVE);
    assert_int_equal(flush_of(s), gen.lsn);
    sk_timeline_park(tl, LOCH_E_KEY_REVOKED, "revoked");
    sim_world_run(w.sim, SECOND_US);
    assert_int_equal(tl->state, SK_WAITING);
    assert_ok(loch_env_truncate_file(s->d->env, path, LOCH_WAL_HEAD_BYTES));
    sim_world_run(w.sim, 6 * SECOND_US);
    assert_int_equal(tl->state, SK_BROKEN);
    assert_non_null(strstr(tl->why, "was synced up to"));
    loch_buf_fini(&wal);
    teardown();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_silent_donor_is_left),
        cmocka_unit_test(a_history_that_cannot_be_is_not_followed),
        cmocka_unit_test(only_so_many_look_at_a_time),
        cmocka_unit_test(who_is_held_is_not_told_without_end),
        cmocka_unit_test(who_is_held_looks),
        cmocka_unit_test(only_so_many_fetch_at_a_time),
        cmocka_unit_test(a_write_that_fails_after_the_park_ends_the_process),
        cmocka_unit_test(what_was_synced_before_the_park_must_be_there)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
