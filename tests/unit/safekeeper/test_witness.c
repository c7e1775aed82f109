/* The node's witness: its record, and which directories it believes. */
#include "../unit.h"
#include "witness.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const struct loch_id node = {{7}};
static const char timeline[] =
    "tenants/01000000000000000000000000000000/timelines/02000000000000000000000000000000";

struct world {
    struct loch_env *env;
    struct loch_objstore *store;
    char top[64], dir[80], path[512];
    uint32_t usurped;
};

static void usurped(void *arg, loch_status st)
{
    struct world *w = arg;

    assert_int_equal(st.code, LOCH_E_STALE);
    w->usurped++;
    loch_env_stop(w->env);
}

static void shell(const struct world *w, const char *text)
{
    char command[512];

    (void)snprintf(command, sizeof command, "cd %s && %s", w->top, text);
    assert_int_equal(system(command), 0);
}

static void world_init(struct world *w)
{
    char path[100];

    *w = (struct world){0};
    (void)snprintf(w->top, sizeof w->top, "/tmp/safekeeper-test-XXXXXX");
    assert_non_null(mkdtemp(w->top));
    (void)snprintf(w->dir, sizeof w->dir, "%s/node", w->top);
    assert_ok(loch_env_real_create(&w->env));
    (void)snprintf(path, sizeof path, "%s/store", w->top);
    assert_ok(loch_objstore_open_local(w->env, path, &w->store));
    (void)snprintf(w->path, sizeof w->path, "mkdir -p node/%s && touch node/%s/control", timeline,
                   timeline);
    shell(w, w->path);
    (void)snprintf(w->path, sizeof w->path, "%s/%s/" SK_PUT_BACK_NAME, w->dir, timeline);
}

static void world_fini(struct world *w)
{
    char command[128];

    loch_objstore_close(w->store);
    loch_env_real_destroy(w->env);
    (void)snprintf(command, sizeof command, "rm -rf %s", w->top);
    assert_int_equal(system(command), 0);
}

static loch_status enter(struct world *w, struct sk_witness **out)
{
    const struct sk_witness_options o = {.env = w->env,
                                         .store = w->store,
                                         .dir = w->dir,
                                         .node = node,
                                         .boot = {{(uint8_t)(rand() & 0xff), 1}},
                                         .interval_ms = 1,
                                         .usurped = usurped,
                                         .arg = w};

    return sk_witness_enter(&o, out);
}

/* A start; its work is witnessed at the stop. */
static void serve(struct world *w, uint64_t work)
{
    struct sk_witness *witness;

    assert_ok(enter(w, &witness));
    sk_witness_leave(witness, work);
    sk_witness_destroy(witness);
}

static bool marked(const struct world *w)
{
    return access(w->path, F_OK) == 0;
}

static void one_form_only(void **state)
{
    const struct sk_witness_record r = {{{1, 2}}, {{3}}, 77};
    struct sk_witness_record got = {0};
    char text[SK_WITNESS_BYTES];
    const size_t len = sk_witness_format(&r, text);

    (void)state;
    assert_ok(sk_witness_parse("x", loch_slice_of(text, len), &got));
    assert_int_equal(got.beat, 77);
    assert_true(loch_id_equal(&got.directory, &r.directory) && loch_id_equal(&got.boot, &r.boot));
    for (size_t i = 0; i < len; i++) {
        text[i] ^= 1;
        assert_code(sk_witness_parse("x", loch_slice_of(text, len), &got), LOCH_E_CORRUPT);
        text[i] ^= 1;
        assert_code(sk_witness_parse("x", loch_slice_of(text, i), &got), LOCH_E_CORRUPT);
    }
    text[len] = '\n';
    assert_code(sk_witness_parse("x", loch_slice_of(text, len + 1), &got), LOCH_E_CORRUPT);
}

static void newest_directory_is_believed(void **state)
{
    struct world w;
    struct sk_witness *witness;

    (void)state;
    world_init(&w);
    serve(&w, 0);
    serve(&w, 5);
    assert_ok(enter(&w, &witness)); /* and dies: without a last beat */
    sk_witness_destroy(witness);
    serve(&w, 1);
    assert_false(marked(&w));
    shell(&w, "cp -a store old && cd .");
    serve(&w, 1);
    shell(&w, "rm -rf store && mv old store"); /* the store wound back: a warning, no more */
    serve(&w, 1);
    assert_false(marked(&w));
    shell(&w, "rm -r store/nodes"); /* or its object gone */
    serve(&w, 1);
    assert_false(marked(&w));
    world_fini(&w);
}

static void older_directory_is_marked(void **state)
{
    struct world w;

    (void)state;
    world_init(&w);
    serve(&w, 1);
    shell(&w, "cp -a node copy");
    serve(&w, 1);
    shell(&w, "rm -rf node && cp -a copy node");
    serve(&w, 1);
    assert_true(marked(&w));
    shell(&w, "rm node/tenants/*/timelines/*/" SK_PUT_BACK_NAME);
    serve(&w, 1); /* since then this is the directory that serves */
    assert_false(marked(&w));
    shell(&w, "rm -rf node && cp -a copy node"); /* of another name by now */
    serve(&w, 1);
    assert_true(marked(&w));
    shell(&w, "rm node/tenants/*/timelines/*/" SK_PUT_BACK_NAME " node/daemon.witness");
    serve(&w, 1); /* who knows what this is */
    assert_true(marked(&w));
    world_fini(&w);
}

static void empty_directory_is_welcome(void **state)
{
    struct world w;

    (void)state;
    world_init(&w);
    serve(&w, 1);
    shell(&w, "rm -rf node && mkdir node");
    serve(&w, 1);
    assert_false(marked(&w));
    world_fini(&w);
}

static void damage_is_named(void **state)
{
    struct world w;
    struct sk_witness *witness;

    (void)state;
    world_init(&w);
    serve(&w, 1);
    shell(&w, "sed -i 's/beat ./beat 9/' node/daemon.witness");
    assert_code(enter(&w, &witness), LOCH_E_CORRUPT);
    assert_non_null(strstr(loch_error_text(), "daemon.witness is damaged"));
    world_fini(&w);
}

static void stop_loop(void *arg)
{
    loch_env_stop(arg);
}

/* Ticks until a beat has been taken, or the loop was stopped. */
static void run_a_beat(struct world *w, struct sk_witness *witness, uint64_t work)
{
    struct loch_timer *timer;

    (void)usleep(2000);
    sk_witness_tick(witness, work);
    assert_false(sk_witness_idle(witness));
    while (!sk_witness_idle(witness)) {
        assert_ok(loch_env_timer(w->env, 5, &timer, stop_loop, w->env));
        loch_env_run(w->env);
    }
}

static void beats_follow_work(void **state)
{
    struct world w;
    struct sk_witness *witness, *other;

    (void)state;
    world_init(&w);
    assert_ok(enter(&w, &witness));
    (void)usleep(2000);
    sk_witness_tick(witness, 0);
    assert_true(sk_witness_idle(witness)); /* no work, no beat */
    assert_int_equal(sk_witness_lag_ms(witness), 0);
    run_a_beat(&w, witness, 1);
    assert_int_equal(sk_witness_lag_ms(witness), 0);
    run_a_beat(&w, witness, 2);
    assert_int_equal(w.usurped, 0);
    assert_ok(enter(&w, &other)); /* another process, from a copy of the directory */
    run_a_beat(&w, witness, 3);
    assert_int_equal(w.usurped, 1);
    sk_witness_destroy(witness);
    sk_witness_destroy(other);
    world_fini(&w);
}

/* While the store is away work goes on: a copy that is made then is behind as well. */
static void copies_of_an_outage_are_marked(void **state)
{
    struct world w;
    struct sk_witness *witness;

    (void)state;
    world_init(&w);
    assert_ok(enter(&w, &witness));
    shell(&w, "mv store away && touch store");
    run_a_beat(&w, witness, 1); /* in vain */
    shell(&w, "cp -a node copy");
    assert_true(sk_witness_lag_ms(witness) > 0);
    shell(&w, "rm store && mv away store");
    run_a_beat(&w, witness, 2);
    sk_witness_destroy(witness); /* killed */
    shell(&w, "rm -rf node && cp -a copy node");
    serve(&w, 1);
    assert_true(marked(&w));
    world_fini(&w);
}

/* The store is restored from before, or loses the object, under a process that runs. */
static void wound_back_stores_end_nobody(void **state)
{
    struct world w;
    struct sk_witness *witness;

    (void)state;
    world_init(&w);
    assert_ok(enter(&w, &witness));
    shell(&w, "cp -a store old");
    run_a_beat(&w, witness, 1);
    shell(&w, "rm -rf store && mv old store");
    run_a_beat(&w, witness, 2);
    shell(&w, "rm -r store/nodes");
    run_a_beat(&w, witness, 3);
    assert_int_equal(w.usurped, 0);
    assert_int_equal(sk_witness_lag_ms(witness), 0);
    sk_witness_destroy(witness);
    serve(&w, 1);
    assert_false(marked(&w));
    world_fini(&w);
}

static void empty_places_are_no_timelines(void **state)
{
    struct world w;

    (void)state;
    world_init(&w);
    shell(&w, "rm node/tenants/*/timelines/*/control && cp -a node copy");
    serve(&w, 1);
    shell(&w, "rm -rf node && cp -a copy node"); /* what a drop leaves */
    serve(&w, 1);
    assert_false(marked(&w));
    shell(&w, "cd node/tenants/01*/timelines/02* && touch control.tmp && cd - >/dev/null && cp -a "
              "node copy");
    serve(&w, 1);
    shell(&w, "rm -rf node && cp -a copy node"); /* a creation that was cut short */
    serve(&w, 1);
    assert_false(marked(&w));
    shell(&w, "cd node/tenants/01*/timelines/02* && touch control dropped && cd - >/dev/null && cp "
              "-a node copy");
    serve(&w, 1);
    shell(&w, "rm -rf node && cp -a copy node"); /* a drop that has begun */
    serve(&w, 1);
    assert_false(marked(&w));
    world_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_form_only),
        cmocka_unit_test(newest_directory_is_believed),
        cmocka_unit_test(older_directory_is_marked),
        cmocka_unit_test(empty_directory_is_welcome),
        cmocka_unit_test(damage_is_named),
        cmocka_unit_test(beats_follow_work),
        cmocka_unit_test(copies_of_an_outage_are_marked),
        cmocka_unit_test(wound_back_stores_end_nobody),
        cmocka_unit_test(empty_places_are_no_timelines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
