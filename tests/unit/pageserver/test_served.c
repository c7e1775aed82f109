/* Timelines in service: what stops one, and whom else. */
#include "run_until.h"
#include "store_fixture.h"

#include "care/revocation.h"
#include "care/served_impl.h"
#include "care/tenants.h"
#include "pageserver.h"

#include "loch/host/leases.h"
#include "loch/host/metrics.h"
#include "loch/pg/control.h"

#define L          ((loch_lsn)0x1000000)
#define SERVED_MAX 4u

struct world {
    struct site *site;
    struct loch_pageserver ps;
    char dir[LOCH_LAYER_PATH_BYTES + 100]; /* the store's */
    struct loch_served *served[SERVED_MAX];
    unsigned count, stopped;
};

static int world_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    void *site = NULL;
    assert_non_null(w);
    site_up(&site);
    w->site = site;
    snprintf(w->dir, sizeof w->dir, "%s", w->site->pageserver);
    w->site->store.dir = w->dir;
    struct loch_pageserver *ps = &w->ps;
    ps->env = w->site->env;
    ps->keys = w->site->keys;
    ps->store = w->site->store;
    ps->cache = w->site->cache;
    assert_ok(loch_metrics_create("test", &ps->metrics));
    ps->m_records = ps->m_wal_bytes = ps->m_flushes =
        loch_metrics_counter(ps->metrics, "c", "c", NULL, 0);
    loch_memory_init(ps);
    ps->config.memory_layers_bytes = (uint64_t)64 << 20;
    ps->config.checkpoint_ms = 600000;
    ps->config.node = ps->store.node;
    ps->config.cluster = w->site->cluster;
    ps->config.safekeeper_count = 1; /* where nobody listens */
    snprintf(ps->config.safekeepers[0].address, sizeof ps->config.safekeepers[0].address,
             "127.0.0.1:1");
    assert_ok(loch_random_id(&ps->config.safekeepers[0].node));
    *state = w;
    return 0;
}

static void stopped(void *arg)
{
    struct world *w = arg;
    w->stopped++;
}

static bool all_stopped(void *arg)
{
    const struct world *w = arg;
    return w->stopped == w->count;
}

static int world_down(void **state)
{
    struct world *w = *state;
    void *site = w->site;
    for (unsigned i = w->count; i > 0; i--)
        loch_served_stop(w->served[i - 1], stopped, w);
    run_until(w->site->env, all_stopped, w);
    loch_metrics_destroy(w->ps.metrics);
    free(w);
    return site_down(&site);
}

/* One more, durable at `start`. */
static struct loch_timeline *make(struct world *w, loch_lsn start, struct loch_timeline *parent)
{
    struct loch_control control = {.segment_bytes = 16u << 20};
    struct loch_buf bytes = {0};
    struct loch_timeline *t = site_timeline(w->site, start, parent);
    assert_ok(loch_control_encode(&control, &bytes));
    assert_ok(loch_timeline_commit(t, start - 8, loch_buf_slice(&bytes)));
    loch_buf_fini(&bytes);
    return t;
}

static void bring_into_service(struct world *w, struct loch_timeline *t)
{
    assert_true(w->count < SERVED_MAX);
    assert_ok(loch_served_create(&w->ps, t, &w->served[w->count]));
    w->count++;
}

static struct loch_timeline *serve(struct world *w, loch_lsn start, struct loch_timeline *parent)
{
    struct loch_timeline *t = make(w, start, parent);
    bring_into_service(w, t);
    return t;
}

static void put_and_flush(struct world *w, unsigned i, loch_lsn lsn)
{
    const struct loch_key key = page_key(1);
    uint8_t page[LOCH_PAGE_BYTES] = {1};
    struct loch_timeline *t = loch_served_timeline(w->served[i]);
    assert_ok(loch_timeline_put_value(t, &key, lsn, loch_slice_of(page, sizeof page)));
    loch_timeline_advance(t, lsn, lsn - 8);
    loch_served_flush_soon(w->served[i]);
}

static bool first_stands_still(void *arg)
{
    const struct world *w = arg;
    return loch_served_problem(w->served[0])[0] != '\0';
}

static bool second_is_written(void *arg)
{
    const struct world *w = arg;
    const struct loch_timeline *t = loch_served_timeline(w->served[1]);
    return loch_timeline_disk_consistent_lsn(t) == L + 64 &&
           loch_served_memory(w->served[1])->frozen == 0;
}

/* No layer file has a name in a directory whose path is this long. */
static void break_first(struct world *w)
{
    memset(w->dir, 'x', sizeof w->dir - 1);
    put_and_flush(w, 0, L + 16);
    run_until(w->site->env, first_stands_still, w);
    snprintf(w->dir, sizeof w->dir, "%s", w->site->pageserver);
}

/* What cannot be written holds up no other, neither by its tries nor by its memory. */
static void a_layer_beyond_a_limit_stops_its_timeline_alone(void **state)
{
    struct world *w = *state;
    struct loch_view *view = NULL;
    struct loch_buf value = {0};
    const struct loch_key key = {.kind = LOCH_KEY_CONTROL};
    bool found = false;
    struct loch_timeline *t = serve(w, L, NULL);
    (void)serve(w, L, NULL);
    break_first(w);
    assert_non_null(strstr(loch_served_problem(w->served[0]), "a layer cannot be written: "));
    assert_true(loch_served_memory(w->served[0])->lasting);
    assert_true(loch_timeline_frozen_bytes(t) > 0);
    assert_int_equal(w->ps.memory.leaving, 0);
    assert_int_equal(w->ps.memory.writers, 0);
    assert_ok(loch_view_create(t, &view));
    assert_ok(loch_view_get(view, &key, L + 16, &value, &found, NULL));
    assert_true(found);
    loch_view_destroy(view);
    loch_buf_fini(&value);
    put_and_flush(w, 1, L + 64);
    run_until(w->site->env, second_is_written, w);
    assert_string_equal(loch_served_problem(w->served[1]), "");
}

struct told {
    struct loch_waiter waiter;
    loch_status st;
    unsigned times;
};

static void tell(void *arg, loch_status st)
{
    struct told *told = arg;
    told->times++;
    told->st = st;
}

static void check_stands_with(struct world *w, unsigned i, const char *where)
{
    const char *problem = loch_served_problem(w->served[i]);
    assert_non_null(strstr(problem, where));
    assert_non_null(strstr(problem, "a layer cannot be written: "));
}

static void freeze_two(struct loch_timeline *t)
{
    uint8_t page[LOCH_PAGE_BYTES] = {1};
    for (loch_lsn lsn = L + 56; lsn <= L + 64; lsn += 8) {
        const struct loch_key key = page_key(1);
        assert_ok(loch_timeline_put_value(t, &key, lsn, loch_slice_of(page, sizeof page)));
        loch_timeline_advance(t, lsn, lsn - 8);
        assert_ok(loch_timeline_freeze(t, loch_slice_of("control", 7)));
    }
}

static bool last_is_written(void *arg)
{
    const struct world *w = arg;
    const struct loch_timeline *t = loch_served_timeline(w->served[3]);
    return loch_timeline_disk_consistent_lsn(t) == L + 64 &&
           loch_served_memory(w->served[3])->frozen == 0;
}

/* What is frozen is written all the same. The parent ingests again what is not on disk yet, and
 * does not come as far as the branch point: who waits for a branch of it hears so, and whoever
 * comes later. */
static void a_branch_whose_ancestor_stops_says_so(void **state)
{
    struct world *w = *state;
    struct told old = {.times = 0}, young = {.times = 0};
    struct loch_timeline *parent = serve(w, L, NULL);
    struct loch_timeline *branch = serve(w, L + 64, parent);
    (void)serve(w, L + 128, branch);
    old.waiter = (struct loch_waiter){.lsn = L + 64, .fn = tell, .arg = &old};
    young.waiter = (struct loch_waiter){.lsn = L + 200, .fn = tell, .arg = &young};
    loch_served_wait(w->served[1], &old.waiter);
    loch_served_wait(w->served[2], &young.waiter);
    assert_string_equal(loch_served_problem(w->served[1]), "");
    break_first(w);
    assert_int_equal(old.times, 1);
    assert_int_equal(young.times, 1);
    assert_int_equal(old.st.code, LOCH_E_UNAVAILABLE);
    assert_int_equal(young.st.code, LOCH_E_UNAVAILABLE);
    for (unsigned i = 1; i < 3; i++)
        check_stands_with(w, i, "what it stands on stops at 0/1000010, before 0/1000040: ");
    struct loch_timeline *last = make(w, L + 48, parent);
    freeze_two(last);
    bring_into_service(w, last);
    check_stands_with(w, 3, "what it stands on stops at 0/1000010, before 0/1000030: ");
    run_until(w->site->env, last_is_written, w);
    assert_ok(loch_served_usable(w->served[3])); /* what is there can be read */
}

/* A branch below where its ancestor stopped has all that it stands on. */
static void a_branch_that_has_all_goes_on(void **state)
{
    struct world *w = *state;
    struct loch_timeline *parent = serve(w, L, NULL);
    (void)serve(w, L, parent);
    break_first(w);
    put_and_flush(w, 1, L + 64);
    run_until(w->site->env, second_is_written, w);
    assert_string_equal(loch_served_problem(w->served[1]), "");
}

/* A creation or a detach ends while the daemon stops: what it brings into service does not hold the
 * stop up. */
static void what_begins_during_a_stop_ends(void **state)
{
    struct world *w = *state;
    struct loch_served *broken = NULL;
    struct loch_timer *limit = NULL;
    const struct loch_id id = {.bytes = {9}};
    w->ps.stopping = true;
    (void)serve(w, L, NULL);
    w->count = 0; /* not the test's to stop */
    assert_ok(loch_served_create_broken(&w->ps, &w->site->tenant, &id, LOCH_FAIL(LOCH_E_IO, "why"),
                                        &broken));
    assert_ok(loch_env_timer(w->site->env, RUN_UNTIL_PATIENCE_MS, &limit, awaited_expire, NULL));
    loch_env_run(w->site->env); /* the daemon's end stops it */
    loch_timer_cancel(limit);
    assert_null(w->ps.served);
}

/* So much of a long record is here. */
static void hold_part(struct world *w, unsigned i, uint64_t mib)
{
    w->served[i]->part_bytes = mib << 20;
    loch_served_flushed(w->served[i]);
}

static bool stops(const struct world *w, unsigned i)
{
    return loch_memory_stops(&w->ps.memory, loch_served_memory(w->served[i]), false);
}

/* Long records that alone fill the memory are completed one at a time; what is no long record goes
 * on beside them. */
static void long_records_take_turns(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < 3; i++)
        (void)serve(w, L, NULL);
    hold_part(w, 0, 30);
    assert_false(w->ps.memory.full);
    hold_part(w, 1, 40);
    assert_true(w->ps.memory.full && w->ps.memory.only_wal);
    assert_true(stops(w, 0)); /* the larger one first */
    assert_false(stops(w, 1));
    assert_false(stops(w, 2));
    hold_part(w, 2, 50);
    assert_true(stops(w, 2)); /* a turn lasts */
    assert_false(stops(w, 1));
    hold_part(w, 1, 0);
    assert_true(w->ps.memory.full && w->ps.memory.only_wal);
    assert_true(stops(w, 0));
    assert_false(stops(w, 2));
    hold_part(w, 2, 0);
    assert_false(w->ps.memory.full);
    assert_false(stops(w, 0));
}

/* A compute may have died in the middle of its record: that holds up no other. */
static void a_long_record_that_does_not_come_on_gives_way(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < 2; i++)
        (void)serve(w, L, NULL);
    hold_part(w, 0, 40);
    hold_part(w, 1, 30);
    assert_false(stops(w, 0));
    assert_true(stops(w, 1));
    w->ps.memory.turn_ns = 0; /* long ago */
    hold_part(w, 0, 50);      /* but it does come on */
    assert_false(stops(w, 0));
    w->ps.memory.turn_ns = 0;
    hold_part(w, 1, 30);
    assert_int_equal(w->served[0]->part_bytes, 0);
    assert_int_equal(w->ps.memory.used, UINT64_C(30) << 20);
    assert_false(w->ps.memory.full);
    assert_false(stops(w, 1));
    assert_string_equal(loch_served_problem(w->served[0]), "");
}

static bool first_is_open(void *arg)
{
    struct world *w = arg;
    struct loch_tenant *t = w->ps.tenants;
    w->served[0] = loch_served_find(&w->ps, &t->id, &t->manifest.timelines[0].timeline);
    return !t->busy && w->served[0] != NULL && loch_served_timeline(w->served[0]) != NULL;
}

static void stop_all(struct world *w)
{
    for (unsigned i = 0; i < w->count; i++)
        loch_served_stop(w->served[i], stopped, w);
    run_until(w->site->env, all_stopped, w);
    w->count = w->stopped = 0;
}

/* A detach that failed, say, could not open its branches again while the store was away. */
static void what_may_pass_is_opened_again(void **state)
{
    struct world *w = *state;
    struct loch_pageserver *ps = &w->ps;
    struct loch_tenant_timeline entry = {.name = "main"};
    struct loch_tenant tenant = {
        .id = w->site->tenant,
        .manifest = {.tenant = w->site->tenant, .name = "acme", .timelines = &entry, .count = 1}};
    const struct loch_keys_options o = {.store = w->site->objstore,
                                        .kms = w->site->kms,
                                        .cluster = w->site->cluster,
                                        .node = ps->store.node,
                                        .role = LOCH_ROLE_PAGESERVER,
                                        .env = ps->env,
                                        .lease_ms = 600000};
    struct loch_failure why;
    entry.timeline = loch_timeline_info(serve(w, L, NULL))->timeline;
    stop_all(w);
    assert_ok(loch_keys_create(&o, &ps->keys));
    assert_ok(loch_keys_tenant_load(ps->keys, &tenant.id));
    assert_ok(loch_tenant_enlist(ps, &tenant));
    ps->config.leases = (struct loch_lease_settings){
        .poll_ms = 50, .lease_ms = 600000, .grace_ms = 300, .settle_ms = 150};
    assert_ok(loch_revocation_start(ps));
    loch_failure_set(&why, LOCH_FAIL(LOCH_E_UNAVAILABLE, "the store is away"));
    assert_ok(loch_served_enter(ps, &tenant.id, &entry.timeline, NULL, &why));
    assert_false(first_is_open(w));
    assert_string_equal(loch_served_problem(w->served[0]), "the store is away");
    run_until(ps->env, first_is_open, w);
    assert_ok(loch_served_usable(w->served[0]));
    w->count = 1;
    stop_all(w);
    assert_true(loch_leases_destroy(ps->leases));
    loch_keys_destroy(ps->keys);
    loch_tenant_delist(ps, &tenant);
}

#define TEST(test_) cmocka_unit_test_setup_teardown(test_, world_up, world_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_layer_beyond_a_limit_stops_its_timeline_alone),
        TEST(a_branch_whose_ancestor_stops_says_so),
        TEST(a_branch_that_has_all_goes_on),
        TEST(what_begins_during_a_stop_ends),
        TEST(long_records_take_turns),
        TEST(a_long_record_that_does_not_come_on_gives_way),
        TEST(what_may_pass_is_opened_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
