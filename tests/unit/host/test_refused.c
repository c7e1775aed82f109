/* Refusals of the wire in the audit log: counted, bounded, harmless whatever a peer is called. */
#include "../unit.h"

#include "loch/crypto/random.h"
#include "loch/host/audit.h"
#include "loch/host/refused.h"
#include "loch/io/env.h"

#include <stdio.h>
#include <stdlib.h>

struct site {
    char dir[64];
    struct loch_id node, tenant;
    struct loch_env *env;
    struct loch_audit *audit;
    struct loch_refused *refused;
};

static int site_up(void **state)
{
    struct site *s = calloc(1, sizeof *s);

    assert_non_null(s);
    (void)snprintf(s->dir, sizeof s->dir, "/tmp/loch-test-refused-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    assert_ok(loch_random_id(&s->node));
    assert_ok(loch_random_id(&s->tenant));
    assert_ok(loch_env_real_create(&s->env));
    assert_ok(loch_audit_open(s->dir, "test", &s->node, &s->audit));
    assert_ok(loch_refused_create(s->env, s->audit, &s->refused));
    *state = s;
    return 0;
}

static int site_down(void **state)
{
    struct site *s = *state;
    char command[128];

    loch_refused_destroy(s->refused);
    loch_audit_close(s->audit);
    loch_env_real_destroy(s->env);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", s->dir);
    assert_int_equal(system(command), 0);
    free(s);
    return 0;
}

struct seen {
    unsigned count;
    char tenant[8][LOCH_ID_TEXT_BYTES];
    char detail[8][600];
};

static void see(void *arg, const struct loch_audit_record *r)
{
    struct seen *seen = arg;

    assert_string_equal(r->event, "wire_refused");
    assert_true(seen->count < 8);
    memcpy(seen->tenant[seen->count], r->tenant, sizeof r->tenant);
    memcpy(seen->detail[seen->count++], r->detail, sizeof r->detail);
}

static void look(struct site *s, struct seen *out)
{
    struct loch_audit_summary sum;

    *out = (struct seen){0};
    assert_ok(loch_audit_verify(s->dir, see, out, &sum));
}

static void a_flood_is_one_record(void **state)
{
    struct site *s = *state;
    struct seen seen;

    for (int i = 0; i < 10000; i++)
        loch_refused_note(s->refused, LOCH_REFUSED_HANDSHAKE, NULL, "from 192.0.2.1:99");
    look(s, &seen);
    assert_int_equal(seen.count, 1);
    assert_string_equal(seen.tenant[0], "");
    assert_string_equal(seen.detail[0], "handshake: 1 since the last record of the kind, the last "
                                        "from 192.0.2.1:99");
    loch_refused_note(s->refused, LOCH_REFUSED_HANDSHAKE, NULL, "from 192.0.2.2:1");
    loch_refused_destroy(s->refused); /* the rest is not lost */
    s->refused = NULL;
    look(s, &seen);
    assert_int_equal(seen.count, 2);
    assert_string_equal(seen.detail[1], "handshake: 10000 since the last record of the kind, the "
                                        "last from 192.0.2.2:1");
}

static void kinds_are_told_apart(void **state)
{
    struct site *s = *state;
    struct seen seen;
    char tenant[LOCH_ID_TEXT_BYTES];

    loch_refused_code(s->refused, LOCH_E_DENIED, &s->tenant, &s->node);
    loch_refused_code(s->refused, LOCH_E_STALE, &s->tenant, &s->node);
    loch_refused_code(s->refused, LOCH_E_UNAVAILABLE, &s->tenant, &s->node);
    loch_refused_code(s->refused, LOCH_E_OK, &s->tenant, &s->node);
    loch_refused_note(
        s->refused, LOCH_REFUSED_MESSAGE, NULL,
        "\n\"},{\"seq\":1} \xff and so on, for longer than anybody's address is, by far, and "
        "more");
    loch_refused_note(NULL, LOCH_REFUSED_RIGHT, NULL, "nobody listens");
    look(s, &seen);
    assert_int_equal(seen.count, 3);
    assert_string_equal(seen.tenant[0], loch_id_format(&s->tenant, tenant));
    assert_int_equal(strncmp(seen.detail[0], "right: 1 ", 9), 0);
    assert_string_equal(seen.tenant[1], tenant);
    assert_int_equal(strncmp(seen.detail[1], "stale: 1 ", 9), 0);
    assert_int_equal(strncmp(seen.detail[2], "message: 1 ", 11), 0);
    assert_null(strpbrk(seen.detail[2], "\n\xff"));
    loch_refused_destroy(NULL);
}

int main(void)
{
#define SITE(test_) cmocka_unit_test_setup_teardown(test_, site_up, site_down)
    const struct CMUnitTest tests[] = {
        SITE(a_flood_is_one_record),
        SITE(kinds_are_told_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
