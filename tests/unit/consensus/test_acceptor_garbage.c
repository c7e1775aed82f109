/* Holds: an acceptor before a proposer that says anything at all, and a disk that answers late. It
 * must keep its own invariants, whatever comes. */
#include "../unit.h"
#include "loch/base/check.h"
#include "loch/consensus/acceptor.h"

#include <stdio.h>
#include <stdlib.h>

#define START 1000u

static uint64_t seed;
static uint32_t writes, cuts; /* the garbage must get somewhere */

static uint64_t draw(void)
{
    uint64_t z = (seed += UINT64_C(0x9E3779B97F4A7C15));

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* Mostly plausible, sometimes at the ends of the range. */
static uint64_t number(uint64_t around)
{
    switch (draw() % 256) {
    case 0:
        return draw();
    case 1:
        return UINT64_MAX - draw() % 3;
    case 2:
        return draw() % 3;
    default:
        return around + draw() % 64 - draw() % 32;
    }
}

struct disk {
    struct {
        enum loch_acceptor_effect_kind kind;
        uint64_t token;
        loch_lsn lsn;
    } ops[64];
    uint32_t count;
    loch_lsn end; /* of all that was asked for */
    uint64_t tokens;
};

static void take(struct disk *d, struct loch_acceptor_effects *effects)
{
    for (size_t i = 0; i < effects->count; i++) {
        const struct loch_acceptor_effect *e = &effects->items[i];
        if (e->token == 0) {
            assert_true(e->kind >= LOCH_ACCEPTOR_SEND);
            continue;
        }
        assert_int_equal(e->token, ++d->tokens);
        if (e->kind == LOCH_ACCEPTOR_WRITE) {
            assert_int_equal(e->begin, d->end);
            assert_true(e->end > e->begin);
            d->end = e->end;
            writes++;
        }
        if (e->kind == LOCH_ACCEPTOR_TRUNCATE) {
            assert_true(e->begin <= d->end);
            d->end = e->begin;
            cuts++;
        }
        assert_true(d->count < 64);
        d->ops[d->count].kind = e->kind;
        d->ops[d->count].token = e->token;
        d->ops[d->count++].lsn = d->end;
    }
    loch_acceptor_effects_clear(effects);
}

static void disk_step(struct loch_acceptor *a, struct disk *d, struct loch_acceptor_effects *e)
{
    if (d->count == 0)
        return;
    const uint64_t token = d->ops[0].token;
    const loch_lsn lsn = d->ops[0].lsn;
    const enum loch_acceptor_effect_kind kind = d->ops[0].kind;
    memmove(&d->ops[0], &d->ops[1], --d->count * sizeof d->ops[0]);
    if (kind == LOCH_ACCEPTOR_PERSIST)
        assert_ok(loch_acceptor_persisted(a, token, e));
    else if (kind == LOCH_ACCEPTOR_TRUNCATE)
        assert_ok(loch_acceptor_truncated(a, token, START, e));
    else if (kind == LOCH_ACCEPTOR_SYNC)
        assert_ok(loch_acceptor_synced(a, token, lsn, lsn - 8, e));
}

static struct loch_member self = {.id = {{1}}, .node = {{1}}, .in = LOCH_MEMBER_BOTH};
static const struct loch_membership alone = {.generation = 7, .members = &self, .count = 1};

static void say_anything(struct loch_acceptor *a, struct loch_acceptor_effects *e)
{
    struct loch_acceptor_view v;
    struct loch_term_start h[4] = {{0, START}};
    loch_acceptor_look(a, &v);
    const struct loch_acceptor_from from = {
        .conn = 1 + draw() % 2,
        .compute_epoch = draw() % 64 == 0 ? number(v.min_compute_epoch) : v.min_compute_epoch};
    const uint64_t generation = draw() % 64 == 0 ? number(7) : 7;
    const uint32_t count = 1 + (uint32_t)(draw() % 3);

    for (uint32_t i = 1; i < count; i++)
        h[i] = (struct loch_term_start){
            loch_max_u64(h[i - 1].term + 1, i + 1 < count ? draw() % 4 : number(v.term)),
            loch_max_u64(h[i - 1].start, number(v.flush_lsn))};
    const struct loch_wal_hello hello = {.generation = generation};
    const struct loch_wal_vote vote = {number(v.term), from.compute_epoch, generation};
    const struct loch_wal_elected elected = {
        draw() % 8 != 0 ? h[count - 1].term : number(v.term), generation, {h, count}};
    const struct loch_wal_append append = {draw() % 8 != 0 ? v.term : number(v.term),
                                           generation,
                                           number(v.write_lsn),
                                           number(v.flush_lsn),
                                           draw(),
                                           {NULL, draw() % 64}};
    const struct loch_wal_pull_state peer = {.term = h[count - 1].term,
                                             .promised = number(v.term),
                                             .flush_lsn = number(v.write_lsn),
                                             .history = {h, count},
                                             .membership = alone};
    switch (draw() % 9) {
    case 8:
        assert_ok(loch_acceptor_peer_state(a, &peer, e));
        break;
    case 0:
        assert_ok(loch_acceptor_hello(a, from, &hello, e));
        break;
    case 1:
        assert_ok(loch_acceptor_vote(a, from, &vote, e));
        break;
    case 2:
        assert_ok(loch_acceptor_elected(a, from, &elected, e));
        break;
    case 3:
        loch_acceptor_closed(a, from.conn);
        break;
    case 4:
        assert_ok(loch_acceptor_recovered(a, v.term, number(v.write_lsn), draw() % 64,
                                          number(v.flush_lsn), e));
        break;
    case 5:
        assert_ok(draw() % 16 == 0 ? loch_acceptor_poisoned(a, v.write_lsn, e)
                                   : loch_acceptor_tick(a, e));
        break;
    default:
        assert_ok(loch_acceptor_append(a, from, &append, e));
        break;
    }
}

static void it_keeps_its_own_invariants(void **state)
{
    static const struct loch_id node = {{1}};
    (void)state;

    for (uint64_t run = 1; run <= 1500; run++) {
        struct loch_acceptor_control c;
        struct loch_acceptor *a = NULL;
        struct loch_acceptor_effects e = {0};
        struct disk d = {.end = START};
        struct loch_acceptor_view before, after;

        seed = run;
        assert_ok(loch_acceptor_control_init(&c, START, 900));
        assert_ok(loch_membership_copy(&c.membership, &alone));
        assert_ok(loch_acceptor_create(&c, &node, START, 900, &a));
        loch_acceptor_control_fini(&c);
        for (int i = 0; i < 400; i++) {
            loch_acceptor_look(a, &before);
            const uint64_t term = before.term, epoch = before.min_compute_epoch;
            const loch_lsn commit = before.commit_lsn;
            if (d.count > 40 || draw() % 2 == 0)
                disk_step(a, &d, &e);
            else
                say_anything(a, &e);
            take(&d, &e);
            loch_acceptor_look(a, &after);
            if (after.term < term || after.min_compute_epoch < epoch || after.commit_lsn < commit ||
                after.commit_lsn > after.flush_lsn || after.flush_lsn > after.write_lsn ||
                after.write_lsn != d.end || after.installed_term > after.term ||
                after.flush_lsn < START)
                fail_msg("seed %llu, event %d", (unsigned long long)run, i);
        }
        loch_acceptor_effects_fini(&e);
        loch_acceptor_destroy(a);
    }
    if (writes <= 500 || cuts <= 100)
        fail_msg("only %u writes and %u cuts", writes, cuts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(it_keeps_its_own_invariants)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
