/* How far a timeline is: asked of its own members, whatever members the cluster wants by now. */
#include "../unit.h"
#include "console_client.h"
#include "survey.h"

#include <stdarg.h>
#include <string.h>

#define TIMELINE "0000000000000000000000000000000b"

struct safekeeper {
    bool down;
    const char *state; /* NULL: it does not have the timeline */
    unsigned member;   /* its id there */
    const char *flush, *commit;
};

struct seat {
    int safekeeper; /* from 1 */
    unsigned member;
    const char *set;
};

static struct safekeeper world[LOCH_SAFEKEEPERS_MAX + 1]; /* from 1 */
static struct seat seats[LOCH_MEMBERS_MAX];
static int seat_count;
/* What comes to pass once the membership was read: a change that ends. */
static void (*after_reading)(void);

static const char *id_text(unsigned n, char out[LOCH_ID_TEXT_BYTES])
{
    (void)snprintf(out, LOCH_ID_TEXT_BYTES, "%032x", n);
    return out;
}

const char *loch_field(const json_t *row, const char *name)
{
    const char *text = json_string_value(json_object_get(row, name));
    return text ? text : "";
}

static json_t *states(int n)
{
    const struct safekeeper *sk = &world[n];
    char id[LOCH_ID_TEXT_BYTES];

    if (sk->state == NULL)
        return json_array();
    return json_pack("[{s:s, s:s, s:s, s:s, s:s}]", "timeline", TIMELINE, "state", sk->state,
                     "member", id_text(sk->member, id), "flush_lsn", sk->flush, "commit_lsn",
                     sk->commit);
}

static json_t *membership(void)
{
    json_t *rows = json_array();
    char member[LOCH_ID_TEXT_BYTES], node[LOCH_ID_TEXT_BYTES];

    for (int k = 0; k < seat_count; k++)
        json_array_append_new(rows,
                              json_pack("{s:s, s:s, s:s, s:s}", "generation", "7", "set",
                                        seats[k].set, "member", id_text(seats[k].member, member),
                                        "node", id_text((unsigned)seats[k].safekeeper, node)));
    if (after_reading != NULL)
        after_reading();
    return rows;
}

loch_status loch_consolef(const struct loch_cluster *c, int port, json_t **rows, const char *fmt,
                          ...)
{
    const int n = port - c->port_base;
    char command[200];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(command, sizeof command, fmt, args);
    va_end(args);
    if (world[n].down)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "it is down");
    *rows = strncmp(command, "SHOW MEMBER STATES OF ", 22) == 0 ? states(n) : membership();
    return LOCH_OK;
}

static struct loch_cluster cluster;
static const struct loch_target target = {.tenant = "0000000000000000000000000000000a",
                                          .timeline = TIMELINE};

/* Safekeepers 1 to 6; 1 to 3 are the members 11 to 13, and have all; 4 has begun to follow. */
static int set_up(void **state)
{
    (void)state;
    memset(&cluster, 0, sizeof cluster);
    memset(world, 0, sizeof world);
    memset(seats, 0, sizeof seats);
    cluster.port_base = 100;
    for (unsigned n = 1; n <= 6; n++) {
        char id[LOCH_ID_TEXT_BYTES];
        assert_true(loch_is_ok(loch_id_parse(id_text(n, id), &cluster.safekeeper_node[n - 1])));
    }
    for (int n = 1; n <= 3; n++) {
        world[n] = (struct safekeeper){false, "active", 10u + (unsigned)n, "0/900", "0/900"};
        seats[n - 1] = (struct seat){n, 10u + (unsigned)n, "both"};
        cluster.member[n - 1] = true;
    }
    world[4] = (struct safekeeper){false, "active", 14, "0/100", "0/100"};
    seat_count = 3;
    after_reading = NULL;
    return 0;
}

static void wish(bool one, bool two, bool three, bool four)
{
    const bool wished[] = {one, two, three, four};

    memcpy(cluster.member, wished, sizeof wished);
}

static struct loch_positions read_now(void)
{
    struct loch_positions p;

    assert_true(loch_is_ok(loch_positions_read(&cluster, &target, &p)));
    return p;
}

/* A change is wished for, and its newcomer has not caught up. */
static void the_wish_is_not_asked(void **state)
{
    (void)state;
    wish(false, false, false, true);
    struct loch_positions p = read_now();
    assert_true(p.quorum);
    assert_int_equal(p.answers, 3);
    assert_int_equal(p.flush, 0x900);
    wish(false, true, true, true);
    world[2].down = true; /* 3 and 4 are two of those wished for, 3 alone is a member */
    world[1].down = true;
    world[3].flush = world[3].commit = "0/500";
    p = read_now();
    assert_false(p.quorum);
    assert_int_equal(p.answers, 1);
    world[1].down = false;
    p = read_now();
    assert_true(p.quorum);
    assert_int_equal(p.flush, 0x900);
    assert_int_equal(p.commit, 0x900);
}

static void a_lost_disk_is_another_member(void **state)
{
    (void)state;
    world[2].down = true;
    world[3] = (struct safekeeper){false, "active", 23, "0/100", "0/100"};
    struct loch_positions p = read_now();
    assert_false(p.quorum);
    assert_int_equal(p.answers, 1);
    world[3] = (struct safekeeper){false, "waiting", 13, "0/0", "0/0"};
    assert_false(read_now().quorum);
    world[3].state = NULL;
    assert_false(read_now().quorum);
}

/* Majorities of the old set and of the new one. */
static void a_change_under_way(void **state)
{
    (void)state;
    wish(false, false, false, true);
    for (int k = 0; k < 3; k++)
        seats[k].set = "old";
    seats[3] = (struct seat){4, 14, "new"};
    seat_count = 4;
    struct loch_positions p = read_now();
    assert_true(p.quorum);
    assert_int_equal(p.answers, 4);
    assert_int_equal(p.flush, 0x900);
    world[1].down = world[2].down = true;
    assert_false(read_now().quorum);
    world[1].down = false;
    world[4].down = true;
    assert_false(read_now().quorum);
}

static void the_newcomer_catches_up(void)
{
    world[4].flush = world[4].commit = "0/900";
}

/* What a member has is asked for after it is known to be one. */
static void states_are_newer_than_the_membership(void **state)
{
    (void)state;
    seats[0] = (struct seat){4, 14, "both"};
    seat_count = 1;
    after_reading = the_newcomer_catches_up;
    const struct loch_positions p = read_now();
    assert_true(p.quorum);
    assert_int_equal(p.answers, 1);
    assert_int_equal(p.flush, 0x900);
}

/* Its creation is under way: those it is made on are those that the cluster wants. */
static void no_membership_yet(void **state)
{
    (void)state;
    seat_count = 0;
    struct loch_positions p = read_now();
    assert_true(p.quorum);
    assert_int_equal(p.answers, 3);
    world[1].down = true;
    world[2].state = "waiting";
    assert_false(read_now().quorum);
}

static void nobody_can_say(void **state)
{
    struct loch_positions p;

    (void)state;
    for (int n = 1; n <= 3; n++)
        world[n].down = true;
    world[4].state = "waiting";
    assert_int_equal(loch_positions_read(&cluster, &target, &p).code, LOCH_E_UNAVAILABLE);
    assert_false(p.quorum);
    assert_non_null(strstr(loch_error_text(), "safekeeper 4: the timeline is waiting"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_wish_is_not_asked, set_up),
        cmocka_unit_test_setup(a_lost_disk_is_another_member, set_up),
        cmocka_unit_test_setup(a_change_under_way, set_up),
        cmocka_unit_test_setup(states_are_newer_than_the_membership, set_up),
        cmocka_unit_test_setup(no_membership_yet, set_up),
        cmocka_unit_test_setup(nobody_can_say, set_up)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
