/* The lease machine: bounds, denial, silence and grace, gaps, the way back; and a random walk that
 * checks its invariants. */
#include "../unit.h"

#include "loch/keyring/lease.h"

#define MS UINT64_C(1000000)

static const struct loch_lease_settings settings = {
    .poll_ms = 300, .lease_ms = 700, .grace_ms = 5000, .settle_ms = 3000};

static struct loch_lease held(uint64_t at)
{
    struct loch_lease l;

    loch_lease_begin(&l, &settings, at);
    return l;
}

static void settings_are_checked(void **state)
{
    struct loch_lease_settings s = settings;

    (void)state;
    assert_ok(loch_lease_settings_check(&s));
    s.lease_ms = 599;
    assert_code(loch_lease_settings_check(&s), LOCH_E_INVALID);
    s = settings;
    s.poll_ms = 0;
    assert_code(loch_lease_settings_check(&s), LOCH_E_INVALID);
    s = settings;
    s.grace_ms = LOCH_GRACE_MAX_MS + 1;
    assert_code(loch_lease_settings_check(&s), LOCH_E_INVALID);
    s.grace_ms = 0;
    assert_ok(loch_lease_settings_check(&s));
}

static void a_lease_counts_from_the_start_of_the_decrypt(void **state)
{
    struct loch_lease l = held(1000 * MS);

    (void)state;
    assert_int_equal(l.permit_ns, 1700 * MS);
    assert_int_equal(loch_lease_tick(&l, 1299 * MS), 0);
    assert_int_equal(loch_lease_tick(&l, 1300 * MS), LOCH_LEASE_DECRYPT);
    assert_int_equal(loch_lease_tick(&l, 1310 * MS), 0); /* one at a time */
    assert_int_equal(loch_lease_answered(&l, 1300 * MS, 1500 * MS, LOCH_KMS_GRANTED),
                     LOCH_LEASE_RENEW);
    assert_int_equal(l.permit_ns, 2000 * MS);
    assert_int_equal(loch_lease_tick(&l, 1600 * MS), LOCH_LEASE_DECRYPT);
    /* An answer slower than a lease renews nothing that could be used, and is asked for again. */
    assert_true(loch_lease_answered(&l, 1600 * MS, 2400 * MS, LOCH_KMS_GRANTED) & LOCH_LEASE_RENEW);
    assert_int_equal(l.permit_ns, 2300 * MS);
    assert_true(loch_lease_tick(&l, 2400 * MS) & LOCH_LEASE_DECRYPT);
}

static void denied_wipes_at_once_and_comes_back_after_settling(void **state)
{
    struct loch_lease l = held(1000 * MS);
    unsigned e;

    (void)state;
    assert_int_equal(loch_lease_tick(&l, 1300 * MS), LOCH_LEASE_DECRYPT);
    e = loch_lease_answered(&l, 1300 * MS, 1301 * MS, LOCH_KMS_DENIED);
    assert_int_equal(e, LOCH_LEASE_WIPE | LOCH_LEASE_AUDIT);
    assert_int_equal(l.state, LOCH_LEASE_REVOKED);
    assert_int_equal(l.permit_ns, 0);
    assert_string_equal(loch_lease_word(&l), "revoked");
    /* Again denied: nothing new. Silent: still revoked. */
    assert_int_equal(loch_lease_answered(&l, 1600 * MS, 1601 * MS, LOCH_KMS_DENIED), 0);
    assert_false(loch_lease_answered(&l, 1900 * MS, 1901 * MS, LOCH_KMS_SILENT) & LOCH_LEASE_WIPE);
    assert_int_equal(l.state, LOCH_LEASE_REVOKED);
    /* Granted, but a denial in between begins the settling anew. */
    assert_int_equal(loch_lease_answered(&l, 2000 * MS, 2001 * MS, LOCH_KMS_GRANTED), 0);
    assert_int_equal(loch_lease_answered(&l, 4000 * MS, 4001 * MS, LOCH_KMS_DENIED), 0);
    assert_int_equal(loch_lease_answered(&l, 4300 * MS, 4301 * MS, LOCH_KMS_GRANTED), 0);
    assert_int_equal(loch_lease_answered(&l, 7200 * MS, 7299 * MS, LOCH_KMS_GRANTED), 0);
    assert_int_equal(loch_lease_answered(&l, 7300 * MS, 7301 * MS, LOCH_KMS_GRANTED),
                     LOCH_LEASE_RESTORE);
    assert_int_equal(loch_lease_tick(&l, 8000 * MS), 0); /* while it is restored nobody asks */
    assert_int_equal(loch_lease_restored(&l, 7302 * MS, 7400 * MS, LOCH_KMS_SILENT), 0);
    assert_int_equal(l.state, LOCH_LEASE_REVOKED);
    assert_int_equal(loch_lease_answered(&l, 8000 * MS, 8001 * MS, LOCH_KMS_GRANTED), 0);
    assert_int_equal(loch_lease_answered(&l, 11000 * MS, 11001 * MS, LOCH_KMS_GRANTED),
                     LOCH_LEASE_RESTORE);
    assert_int_equal(loch_lease_restored(&l, 11002 * MS, 11100 * MS, LOCH_KMS_GRANTED),
                     LOCH_LEASE_AUDIT | LOCH_LEASE_RENEW);
    assert_int_equal(l.state, LOCH_LEASE_HELD);
    assert_int_equal(l.permit_ns, 11702 * MS);
}

static void silence_is_served_until_the_grace_is_over(void **state)
{
    struct loch_lease l = held(1000 * MS);
    unsigned e;

    (void)state;
    assert_int_equal(loch_lease_tick(&l, 1300 * MS), LOCH_LEASE_DECRYPT);
    e = loch_lease_answered(&l, 1300 * MS, 1400 * MS, LOCH_KMS_SILENT);
    assert_int_equal(e, LOCH_LEASE_RENEW | LOCH_LEASE_AUDIT);
    assert_int_equal(l.permit_ns, 2100 * MS);
    assert_string_equal(loch_lease_word(&l), "grace");
    assert_int_equal(loch_lease_answered(&l, 6000 * MS, 6400 * MS, LOCH_KMS_SILENT),
                     LOCH_LEASE_RENEW);
    assert_int_equal(l.permit_ns, 6700 * MS); /* granted + lease + grace, no further */
    l.asked_ns = 0;
    assert_int_equal(loch_lease_tick(&l, 6549 * MS) & LOCH_LEASE_WIPE, 0);
    l.asked_ns = 0;
    e = loch_lease_tick(&l, 6550 * MS); /* half a poll before the permission lapses */
    assert_int_equal(e & (LOCH_LEASE_WIPE | LOCH_LEASE_AUDIT), LOCH_LEASE_WIPE | LOCH_LEASE_AUDIT);
    assert_int_equal(l.state, LOCH_LEASE_OUTAGE);
    /* Told apart when the denial comes after all. */
    assert_int_equal(loch_lease_answered(&l, 6700 * MS, 6800 * MS, LOCH_KMS_DENIED),
                     LOCH_LEASE_AUDIT);
    assert_int_equal(l.state, LOCH_LEASE_REVOKED);
}

static void an_outage_ends_with_the_first_grant(void **state)
{
    struct loch_lease l;

    (void)state;
    loch_lease_begin_closed(&l, &settings, LOCH_KMS_SILENT, 1000 * MS);
    assert_string_equal(loch_lease_word(&l), "outage");
    assert_int_equal(loch_lease_tick(&l, 1300 * MS), LOCH_LEASE_DECRYPT);
    assert_int_equal(loch_lease_answered(&l, 1300 * MS, 1301 * MS, LOCH_KMS_GRANTED),
                     LOCH_LEASE_RESTORE);
    loch_lease_begin_closed(&l, &settings, LOCH_KMS_DENIED, 1000 * MS);
    assert_int_equal(l.state, LOCH_LEASE_REVOKED);
}

static void an_unanswered_decrypt_is_silence(void **state)
{
    struct loch_lease l = held(1000 * MS);

    (void)state;
    assert_int_equal(loch_lease_tick(&l, 1300 * MS), LOCH_LEASE_DECRYPT);
    for (uint64_t at = 1400; at < 1650; at += 50)
        assert_int_equal(loch_lease_tick(&l, at * MS), 0);
    assert_int_equal(loch_lease_tick(&l, 1650 * MS), LOCH_LEASE_RENEW | LOCH_LEASE_AUDIT);
    assert_int_equal(l.permit_ns, 2350 * MS);
}

/* The silence has extended the permission already: the grant that comes after all is older. */
static void a_late_grant_takes_nothing_back(void **state)
{
    struct loch_lease l = held(1000 * MS);

    (void)state;
    assert_int_equal(loch_lease_tick(&l, 1300 * MS), LOCH_LEASE_DECRYPT);
    for (uint64_t at = 1400; at <= 1650; at += 50)
        (void)loch_lease_tick(&l, at * MS);
    assert_int_equal(l.permit_ns, 2350 * MS);
    /* Half a lease of silence and more: what it proves ends at 2000, which is now. */
    assert_int_equal(loch_lease_answered(&l, 1300 * MS, 2000 * MS, LOCH_KMS_GRANTED),
                     LOCH_LEASE_RENEW | LOCH_LEASE_AUDIT);
    assert_int_equal(l.permit_ns, 2350 * MS);
    assert_string_equal(loch_lease_word(&l), "held");
    /* It is asked again at once; the grace counts from the grant; a denial waits for nothing. */
    assert_true(loch_lease_tick(&l, 2001 * MS) & LOCH_LEASE_DECRYPT);
    struct loch_lease denied = l;
    assert_true(loch_lease_answered(&denied, 2001 * MS, 2010 * MS, LOCH_KMS_DENIED) &
                LOCH_LEASE_WIPE);
    assert_int_equal(denied.permit_ns, 0);
    assert_true(loch_lease_answered(&l, 2001 * MS, 2010 * MS, LOCH_KMS_SILENT) & LOCH_LEASE_RENEW);
    assert_int_equal(l.permit_ns, 2710 * MS);
    assert_true(loch_lease_answered(&l, 6600 * MS, 6800 * MS, LOCH_KMS_SILENT) & LOCH_LEASE_RENEW);
    assert_int_equal(l.permit_ns, 7000 * MS); /* 1300 + lease + grace */
    /* One in time goes on from its own start. */
    assert_true(loch_lease_answered(&l, 6805 * MS, 6810 * MS, LOCH_KMS_GRANTED) & LOCH_LEASE_RENEW);
    assert_int_equal(l.permit_ns, 7505 * MS);
}

static void a_gap_is_not_silence(void **state)
{
    struct loch_lease l = held(1000 * MS);

    (void)state;
    assert_int_equal(loch_lease_tick(&l, 1300 * MS), LOCH_LEASE_DECRYPT);
    /* The process slept; the answer may lie there unread. The permission has run out. */
    assert_int_equal(loch_lease_tick(&l, 4000 * MS), 0);
    assert_true(l.permit_ns <= 4000 * MS);
    assert_int_equal(l.state, LOCH_LEASE_HELD);
    assert_true(loch_lease_answered(&l, 1300 * MS, 4001 * MS, LOCH_KMS_GRANTED) & LOCH_LEASE_RENEW);
    assert_true(l.permit_ns <= 4001 * MS);
    assert_int_equal(loch_lease_tick(&l, 4001 * MS), LOCH_LEASE_DECRYPT);
    assert_true(loch_lease_answered(&l, 4001 * MS, 4002 * MS, LOCH_KMS_GRANTED) & LOCH_LEASE_RENEW);
    assert_int_equal(l.permit_ns, 4701 * MS);
}

static void unused_keys_sleep_until_they_are_wanted(void **state)
{
    struct loch_lease l = held(1000 * MS);

    (void)state;
    assert_int_equal(loch_lease_wake(&l), 0); /* who is awake is not woken */
    assert_int_equal(loch_lease_tick(&l, 1300 * MS), LOCH_LEASE_DECRYPT);
    assert_int_equal(loch_lease_sleep(&l, 1301 * MS), 0); /* not before its answer */
    assert_int_equal(loch_lease_answered(&l, 1300 * MS, 1302 * MS, LOCH_KMS_GRANTED),
                     LOCH_LEASE_RENEW);
    assert_int_equal(loch_lease_sleep(&l, 1310 * MS), LOCH_LEASE_WIPE | LOCH_LEASE_AUDIT);
    assert_string_equal(loch_lease_word(&l), "asleep");
    assert_int_equal(l.permit_ns, 0);
    assert_int_equal(loch_lease_sleep(&l, 1311 * MS), 0);
    /* The KMS is left alone. */
    for (uint64_t at = 2000; at < 100000; at += 100)
        assert_int_equal(loch_lease_tick(&l, at * MS), 0);
    assert_int_equal(loch_lease_wake(&l), LOCH_LEASE_RESTORE);
    assert_int_equal(loch_lease_wake(&l), 0); /* once */
    assert_int_equal(loch_lease_restored(&l, 100000 * MS, 100050 * MS, LOCH_KMS_GRANTED),
                     LOCH_LEASE_AUDIT | LOCH_LEASE_RENEW);
    assert_int_equal(l.state, LOCH_LEASE_HELD);
    assert_int_equal(l.permit_ns, 100700 * MS);
    assert_int_equal(loch_lease_tick(&l, 100300 * MS), LOCH_LEASE_DECRYPT);
}

static void a_sleeper_that_is_denied_is_revoked(void **state)
{
    struct loch_lease l = held(1000 * MS);

    (void)state;
    assert_true(loch_lease_sleep(&l, 1100 * MS) & LOCH_LEASE_WIPE);
    assert_int_equal(loch_lease_wake(&l), LOCH_LEASE_RESTORE);
    assert_int_equal(loch_lease_restored(&l, 9000 * MS, 9001 * MS, LOCH_KMS_DENIED),
                     LOCH_LEASE_AUDIT);
    assert_int_equal(l.state, LOCH_LEASE_REVOKED);
    assert_int_equal(loch_lease_tick(&l, 9301 * MS), LOCH_LEASE_DECRYPT); /* asked again, as ever */
    /* A denial that is under way is waited for. */
    l = held(1000 * MS);
    assert_int_equal(loch_lease_tick(&l, 1300 * MS), LOCH_LEASE_DECRYPT);
    assert_int_equal(loch_lease_sleep(&l, 1301 * MS), 0);
    assert_true(loch_lease_answered(&l, 1300 * MS, 1302 * MS, LOCH_KMS_DENIED) & LOCH_LEASE_WIPE);
    assert_int_equal(l.state, LOCH_LEASE_REVOKED);
    /* No grace for who was asleep; the first grant brings it back. */
    l = held(1000 * MS);
    assert_true(loch_lease_sleep(&l, 1100 * MS) & LOCH_LEASE_WIPE);
    assert_int_equal(loch_lease_wake(&l), LOCH_LEASE_RESTORE);
    assert_int_equal(loch_lease_restored(&l, 9000 * MS, 9001 * MS, LOCH_KMS_SILENT),
                     LOCH_LEASE_AUDIT);
    assert_int_equal(l.state, LOCH_LEASE_OUTAGE);
    assert_int_equal(loch_lease_tick(&l, 9301 * MS), LOCH_LEASE_DECRYPT);
    assert_int_equal(loch_lease_answered(&l, 9301 * MS, 9302 * MS, LOCH_KMS_GRANTED),
                     LOCH_LEASE_RESTORE);
    /* While the KMS is silent nobody falls asleep: there is a grace to be kept. */
    l = held(1000 * MS);
    assert_int_equal(loch_lease_tick(&l, 1300 * MS), LOCH_LEASE_DECRYPT);
    assert_true(loch_lease_answered(&l, 1300 * MS, 1301 * MS, LOCH_KMS_SILENT) & LOCH_LEASE_RENEW);
    assert_int_equal(loch_lease_sleep(&l, 1302 * MS), 0);
    assert_int_equal(l.state, LOCH_LEASE_HELD);
}

static uint32_t seed;
static uint32_t next_random(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

/* Whatever happens: never permitted beyond granted + lease + grace, nor while not HELD, and never
 * less than before while HELD; one Decrypt at a time; a wipe exactly when HELD ends. */
static void random_walk(void **state)
{
    (void)state;
    for (uint32_t run = 1; run <= 2000; run++) {
        seed = run;
        struct loch_lease l = held(MS);
        uint64_t now = MS, asked = 0, restoring = 0;
        for (int i = 0; i < 400; i++) {
            const enum loch_lease_state before = l.state;
            const uint64_t permit = l.permit_ns;
            unsigned e;
            now += next_random() % 200 == 0 ? 3000 * MS : (next_random() % 150) * MS;
            if (asked != 0 && next_random() % 2 == 0) {
                e = loch_lease_answered(&l, asked, now, 1 + next_random() % 3);
                asked = 0;
            } else if (restoring != 0 && next_random() % 2 == 0) {
                e = loch_lease_restored(&l, restoring, now, 1 + next_random() % 3);
                restoring = 0;
            } else if (next_random() % 64 == 0) {
                e = loch_lease_sleep(&l, now);
            } else if (next_random() % 16 == 0) {
                e = loch_lease_wake(&l);
            } else {
                e = loch_lease_tick(&l, now);
            }
            if (before == LOCH_LEASE_ASLEEP)
                assert_false(e & LOCH_LEASE_DECRYPT);
            if (l.state == LOCH_LEASE_ASLEEP)
                assert_int_equal(asked, 0);
            if (e & LOCH_LEASE_RESTORE)
                assert_int_equal(restoring, 0);
            if (e & LOCH_LEASE_DECRYPT) {
                asked = now;
            }
            if (e & LOCH_LEASE_RESTORE)
                restoring = now;
            assert_int_equal((e & LOCH_LEASE_WIPE) != 0,
                             before == LOCH_LEASE_HELD && l.state != LOCH_LEASE_HELD);
            if (before == LOCH_LEASE_HELD && l.state == LOCH_LEASE_HELD)
                assert_true(l.permit_ns >= permit);
            if (l.state != LOCH_LEASE_HELD)
                assert_int_equal(l.permit_ns, 0);
            else
                assert_true(l.permit_ns <= l.granted_ns + 5700 * MS);
            assert_true(l.granted_ns <= now);
        }
    }
}

/* Nobody has asked yet: the first tick has it opened; then it is as after a sleep. */
static void what_nobody_has_asked_for_is_asked_at_once(void **state)
{
    struct loch_lease l;
    (void)state;

    for (int answer = LOCH_KMS_GRANTED; answer <= LOCH_KMS_SILENT; answer++) {
        loch_lease_begin_unasked(&l, &settings, 1000 * MS);
        assert_string_equal(loch_lease_word(&l), "opening");
        assert_int_equal(loch_lease_tick(&l, 1001 * MS), LOCH_LEASE_RESTORE);
        assert_int_equal(loch_lease_tick(&l, 60000 * MS), 0); /* one at a time */
        const unsigned e =
            loch_lease_restored(&l, 1001 * MS, 1500 * MS, (enum loch_lease_answer)answer);
        assert_true(e & LOCH_LEASE_AUDIT);
        assert_false(e & LOCH_LEASE_WIPE); /* nothing was open */
        assert_string_equal(loch_lease_word(&l), answer == LOCH_KMS_GRANTED  ? "held"
                                                 : answer == LOCH_KMS_DENIED ? "revoked"
                                                                             : "outage");
        assert_int_equal(l.permit_ns,
                         answer == LOCH_KMS_GRANTED ? 1001 * MS + settings.lease_ms * MS : 0);
    }
    loch_lease_begin(&l, &settings, 1000 * MS);
    assert_int_equal(loch_lease_tick(&l, 1001 * MS), 0);
    loch_lease_ask(&l);
    assert_int_equal(loch_lease_tick(&l, 1002 * MS), LOCH_LEASE_DECRYPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings_are_checked),
        cmocka_unit_test(a_lease_counts_from_the_start_of_the_decrypt),
        cmocka_unit_test(denied_wipes_at_once_and_comes_back_after_settling),
        cmocka_unit_test(silence_is_served_until_the_grace_is_over),
        cmocka_unit_test(an_outage_ends_with_the_first_grant),
        cmocka_unit_test(an_unanswered_decrypt_is_silence),
        cmocka_unit_test(a_late_grant_takes_nothing_back),
        cmocka_unit_test(a_gap_is_not_silence),
        cmocka_unit_test(unused_keys_sleep_until_they_are_wanted),
        cmocka_unit_test(a_sleeper_that_is_denied_is_revoked),
        cmocka_unit_test(what_nobody_has_asked_for_is_asked_at_once),
        cmocka_unit_test(random_walk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
