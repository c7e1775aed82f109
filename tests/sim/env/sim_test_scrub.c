/* The slow check of old WAL files, in the simulated world (its pauses cost nothing): what the
 * system is short of is no damage and passes, what was cut off is none, and damage is found all the
 * same.
 */
#include "store_world.h"

#include "scrub.h"
#include "sim_env.h"

#include "loch/base/log.h"

#define SECOND_US UINT64_C(1000000)

static struct {
    struct world w; /* of store_world.h, but with a simulated env */
    struct sim_world *sim;
    struct sk_daemon daemon;
    struct sk_timeline tl;
    enum loch_code refusal; /* of the system */
    unsigned refused, opened;
} t;

static loch_status open_a_file(void)
{
    t.opened++;
    if (t.refusal == LOCH_E_OK)
        return LOCH_OK;
    t.refused++;
    return LOCH_FAIL(t.refusal, "injected");
}

/* Six files or so, in a timeline of which there is no more than the check needs. */
static int setup(void **state)
{
    struct world *w = &t.w;

    (void)state;
    loch_log_init("sim", getenv("LOCH_SIM_VERBOSE") != NULL ? LOCH_LOG_INFO : LOCH_LOG_ERROR);
    memset(&t, 0, sizeof t);
    t.sim = sim_world_create(&(struct sim_options){.seed = 5});
    world_init(w, 64u << 10);
    loch_env_real_destroy(w->env);
    world_shell("rmdir '%s'", w->dir);
    w->env = w->sealer.env = sim_node_start(sim_node_create(t.sim, "safekeeper"));
    assert_ok(loch_env_mkdirs(w->env, w->dir));
    assert_ok(world_open(w));
    while (sk_store_file_count(w->store) < 6)
        world_grow(w, 10, 3000, 5000);
    t.daemon.env = w->env;
    t.tl.daemon = &t.daemon;
    t.tl.sealer = w->sealer;
    t.tl.store = w->store;
    t.tl.state = SK_ACTIVE;
    (void)snprintf(t.tl.dir, sizeof t.tl.dir, "%s", w->dir);
    world_at_key = open_a_file;
    assert_ok(sk_scrub_start(&t.tl));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_at_key = NULL;
    assert_true(sk_scrub_idle(&t.tl));
    sk_store_destroy(t.w.store);
    sk_control_fini(&t.w.control);
    loch_buf_fini(&t.w.wal);
    loch_buf_fini(&t.w.read);
    sim_world_destroy(t.sim);
    return 0;
}

static void damage(uint64_t seq)
{
    char path[SK_PATH_BYTES];

    sk_wal_file_path(t.w.dir, seq, path);
    assert_ok(loch_env_patch_file(t.w.env, path, 20000, loch_slice_of("damaged", 7)));
}

static void a_shortage_passes(void **state)
{
    static const enum loch_code codes[] = {LOCH_E_IO, LOCH_E_NO_MEMORY};

    (void)state;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        t.refusal = codes[i];
        t.refused = 0;
        sim_world_run(t.sim, 60 * SECOND_US);
        assert_int_equal(t.tl.state, SK_ACTIVE);
        assert_in_range(t.refused, 2, 10); /* tried again, not all the time */
    }
    t.refusal = LOCH_E_OK;
    t.opened = 0;
    sim_world_run(t.sim, 60 * SECOND_US);
    assert_int_equal(t.tl.state, SK_ACTIVE);
    assert_int_equal(t.opened, 5); /* all but the newest */
}

/* It is not forgotten over a shortage. */
static void damage_breaks(void **state)
{
    (void)state;
    damage(1);
    t.refusal = LOCH_E_IO;
    sim_world_run(t.sim, 60 * SECOND_US);
    assert_int_equal(t.tl.state, SK_ACTIVE);
    t.refusal = LOCH_E_OK;
    sim_world_run(t.sim, 60 * SECOND_US);
    assert_int_equal(t.tl.state, SK_BROKEN);
    assert_int_equal(t.opened, t.refused + 1);
}

/* It takes files away that stand on the list. */
static void a_cut_in_a_pause(void **state)
{
    (void)state;
    world_truncate(&t.w, START_LSN);
    assert_int_equal(sk_store_file_count(t.w.store), 1);
    sim_world_run(t.sim, 60 * SECOND_US);
    assert_int_equal(t.tl.state, SK_ACTIVE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_shortage_passes, setup, teardown),
        cmocka_unit_test_setup_teardown(damage_breaks, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cut_in_a_pause, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
