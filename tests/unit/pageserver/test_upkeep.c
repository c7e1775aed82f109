/* Upkeep of a timeline with damage that nothing can heal; beside a tenant that is broken; of a
 * branch whose ancestor ingests again; while a branch is made and closed. */
#include "store_fixture.h"

#include "care/served.h"
#include "care/tenants.h"
#include "care/upkeep.h"
#include "store/heal.h"
#include "store/layer_set.h"
#include "store/timeline_impl.h"

#include "loch/host/metrics.h"
#include "loch/pg/control.h"

#include <fcntl.h>
#include <unistd.h>

#define L      UINT64_C(0x1000000)
#define BLOCKS 20u

struct world {
    struct site *site;
    struct loch_pageserver ps;
    struct loch_tenant tenant;
    struct loch_timeline *timeline; /* borrowed */
    struct loch_served *served;
    enum loch_code code; /* of the order's answer */
    char text[400];
};

static void put_pages(struct loch_timeline *t, loch_lsn lsn)
{
    uint8_t page[LOCH_PAGE_BYTES];
    for (uint32_t block = 0; block < BLOCKS; block++) {
        struct loch_key key = page_key(block);
        assert_ok(loch_random_bytes(page, sizeof page));
        assert_ok(loch_timeline_put_value(t, &key, lsn, loch_slice_of(page, sizeof page)));
    }
}

/* A timeline of so many layers. */
static struct loch_timeline *write_layers(struct world *w, loch_lsn start,
                                          struct loch_timeline *parent, unsigned layers)
{
    struct loch_control control = {.segment_bytes = 16u << 20};
    struct loch_buf bytes = {0};
    struct loch_timeline *t = site_timeline(w->site, start, parent);
    put_pages(t, start);
    assert_ok(loch_control_encode(&control, &bytes));
    assert_ok(loch_timeline_commit(t, start - 100, loch_buf_slice(&bytes)));
    for (unsigned i = 1; i < layers; i++) {
        put_pages(t, start + 8 * i);
        loch_timeline_advance(t, start + 8 * i, start + 8 * (i - 1));
        assert_ok(loch_timeline_freeze(t, loch_buf_slice(&bytes)));
        assert_ok(loch_timeline_flush(t));
    }
    loch_buf_fini(&bytes);
    return t;
}

static void write_layer(struct world *w)
{
    w->timeline = write_layers(w, L, NULL, 1);
}

static void make_pageserver(struct world *w)
{
    struct loch_pageserver *ps = &w->ps;
    ps->env = w->site->env;
    ps->keys = w->site->keys;
    ps->store = w->site->store;
    ps->cache = w->site->cache;
    assert_ok(loch_metrics_create("test", &ps->metrics));
    ps->m_gets = ps->m_records = ps->m_wal_bytes = ps->m_flushes =
        loch_metrics_counter(ps->metrics, "c", "c", NULL, 0);
    loch_memory_init(ps);
    ps->config.memory_layers_bytes = (uint64_t)64 << 20;
    ps->config.open_layer_bytes = (uint64_t)64 << 20;
    ps->config.layer_bytes = (uint64_t)64 << 20;
    ps->config.compact_layers = 4;
    ps->config.checkpoint_ms = ps->config.upkeep_ms = ps->config.idle_ms = 600000;
    ps->config.node = ps->store.node;
    ps->config.cluster = w->site->cluster;
    ps->config.safekeeper_count = 1; /* where nobody listens */
    snprintf(ps->config.safekeepers[0].address, sizeof ps->config.safekeepers[0].address,
             "127.0.0.1:1");
    assert_ok(loch_random_id(&ps->config.safekeepers[0].node));
    w->tenant.id = w->site->tenant;
    assert_ok(loch_tenant_enlist(ps, &w->tenant));
}

static int world_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    void *site = NULL;
    assert_non_null(w);
    site_up(&site);
    w->site = site;
    write_layer(w);
    make_pageserver(w);
    assert_ok(loch_served_create(&w->ps, w->timeline, &w->served));
    assert_ok(loch_upkeep_create(&w->ps, &w->ps.upkeep));
    *state = w;
    return 0;
}

static void stop_loop(void *arg)
{
    struct world *w = arg;
    loch_env_stop(w->site->env);
}

static int world_down(void **state)
{
    struct world *w = *state;
    void *site = w->site;
    loch_upkeep_stop(w->ps.upkeep);
    loch_served_stop(w->served, stop_loop, w);
    loch_env_run(w->site->env);
    loch_upkeep_destroy(w->ps.upkeep);
    loch_metrics_destroy(w->ps.metrics);
    loch_tenant_delist(&w->ps, &w->tenant);
    free(w);
    return site_down(&site);
}

static void damage(struct world *w)
{
    char file[LOCH_LAYER_PATH_BYTES];
    loch_lsn last = LOCH_LSN_NONE;
    uint8_t byte = 0;
    struct loch_layer_set *set = loch_timeline_layers(w->timeline, &last);
    assert_ok(loch_layer_path(&w->site->store, loch_timeline_info(w->timeline),
                              loch_layer_desc(set->files[0]), file));
    int fd = open(file, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, 20000), 1);
    byte ^= 0x40;
    assert_int_equal(pwrite(fd, &byte, 1, 20000), 1);
    close(fd);
    for (uint32_t block = 0; block < BLOCKS; block++) {
        const struct loch_key key = page_key(block);
        struct loch_versions list = {0};
        bool base = false;
        loch_status st = loch_layer_collect(set->files[0], &key, 0, 2 * L, &list, &base);
        assert_true(loch_is_ok(st) || st.code == LOCH_E_CORRUPT);
        loch_versions_fini(&list);
    }
    loch_layer_set_release(set);
}

static void answered(void *arg, loch_status st, const struct loch_upkeep_report *report)
{
    struct world *w = arg;
    (void)report;
    w->code = st.code;
    snprintf(w->text, sizeof w->text, "%s", loch_is_ok(st) ? "" : loch_error_text());
    loch_env_stop(w->site->env);
}

static void what_cannot_be_healed_does_not_stop_the_rest(void **state)
{
    struct world *w = *state;
    const struct loch_id id = loch_timeline_info(w->timeline)->timeline;
    int64_t when = 0;
    damage(w);
    assert_true(loch_timeline_is_harmed(w->timeline));
    assert_int_equal(loch_timeline_cutoff(w->timeline, &when), LOCH_LSN_NONE);
    assert_ok(loch_upkeep_order(w->ps.upkeep, &w->site->tenant, &id, answered, w));
    loch_env_run(w->site->env);
    assert_int_equal(w->code, LOCH_E_CORRUPT); /* and it is told */
    assert_non_null(strstr(w->text, "no good copy"));
    assert_non_null(strstr(loch_upkeep_problem(w->ps.upkeep, &id), "no good copy"));
    assert_int_equal(loch_timeline_cutoff(w->timeline, &when), L); /* history moved on */
}

/* Two timelines of a tenant whose removal failed, before (in the walk) the one that is well. */
static void a_broken_tenant_does_not_keep_others_waiting(void **state)
{
    struct world *w = *state;
    const struct loch_id good = loch_timeline_info(w->timeline)->timeline;
    struct loch_tenant broken = {.problem = "its removal failed: no"};
    struct loch_served *served[2] = {0};
    const struct loch_id sound = w->site->tenant;
    struct loch_timeline *well = w->timeline;
    assert_ok(loch_random_id(&broken.id));
    assert_ok(loch_keys_tenant_create(w->site->keys, &broken.id));
    assert_ok(loch_tenant_enlist(&w->ps, &broken));
    w->site->tenant = broken.id;
    for (size_t i = 0; i < 2; i++) {
        write_layer(w);
        assert_ok(loch_served_create(&w->ps, w->timeline, &served[i]));
    }
    w->site->tenant = sound;
    w->timeline = well;
    for (size_t i = 0; i < 2; i++) /* their turn comes before the good one's: they are newer */
        assert_true(loch_upkeep_due(w->ps.upkeep, served[i]));
    w->code = LOCH_E_UNAVAILABLE;
    assert_ok(loch_upkeep_order(w->ps.upkeep, &sound, &good, answered, w));
    alarm(60);
    loch_env_run(w->site->env);
    alarm(0);
    assert_int_equal(w->code, LOCH_E_OK);
    for (size_t i = 0; i < 2; i++) {
        loch_served_stop(served[i], stop_loop, w);
        loch_env_run(w->site->env);
    }
    loch_tenant_delist(&w->ps, &broken);
}

/* ---- a branch whose ancestor ingests again ---- */

struct family {
    struct loch_timeline *parent, *child; /* borrowed */
    struct loch_served *served[2];
};

/* After a restart: the parent has lost what it had in memory, up to the branch point. */
static struct family orphaned(struct world *w)
{
    struct loch_timeline *parent = write_layers(w, L, NULL, 1);
    loch_timeline_advance(parent, L + 1000, L + 900);
    struct loch_timeline *child = write_layers(w, L + 1000, parent, 5);
    const struct loch_id id = loch_timeline_info(child)->timeline;
    loch_timeline_release(child);
    parent = site_reopen(w->site, parent, NULL);
    assert_ok(
        loch_timeline_open(&w->site->store, w->site->keys, &w->site->tenant, &id, parent, &child));
    struct family f = {.parent = parent, .child = child};
    w->ps.config.history_ms = (uint64_t)7 * 86400 * 1000; /* no cutoff is due */
    w->ps.config.history_bytes = (uint64_t)1 << 40;
    assert_ok(loch_served_create(&w->ps, parent, &f.served[0]));
    assert_ok(loch_served_create(&w->ps, child, &f.served[1]));
    return f;
}

static void stop_family(struct world *w, struct family *f)
{
    for (size_t i = 2; i-- > 0;) {
        loch_served_stop(f->served[i], stop_loop, w);
        loch_env_run(w->site->env);
    }
}

static void merges_wait_for_ancestors(void **state)
{
    struct world *w = *state;
    struct family f = orphaned(w);
    const struct loch_id id = loch_timeline_info(f.child)->timeline;
    assert_false(loch_upkeep_due(w->ps.upkeep, f.served[1]));
    for (unsigned i = 0; i < 4; i++) /* told, and no breaker opens */
        assert_code(loch_upkeep_order(w->ps.upkeep, &w->site->tenant, &id, answered, w),
                    LOCH_E_UNAVAILABLE);
    assert_non_null(strstr(loch_error_text(), "reading its WAL again"));
    assert_string_equal(loch_upkeep_problem(w->ps.upkeep, &id), "");
    loch_timeline_advance(f.parent, L + 1000, L + 900);
    assert_true(loch_upkeep_due(w->ps.upkeep, f.served[1]));
    w->code = LOCH_E_UNAVAILABLE;
    assert_ok(loch_upkeep_order(w->ps.upkeep, &w->site->tenant, &id, answered, w));
    loch_env_run(w->site->env);
    assert_int_equal(w->code, LOCH_E_OK);
    stop_family(w, &f);
}

static void healing_waits_for_no_ancestor(void **state)
{
    struct world *w = *state;
    struct loch_timeline *well = w->timeline;
    struct family f = orphaned(w);
    const struct loch_id id = loch_timeline_info(f.child)->timeline;
    w->code = LOCH_E_UNAVAILABLE;
    assert_ok(loch_upkeep_check(w->ps.upkeep, &w->site->tenant, &id, answered, w));
    loch_env_run(w->site->env);
    assert_int_equal(w->code, LOCH_E_OK);
    assert_false(loch_upkeep_due(w->ps.upkeep, f.served[1]));
    w->timeline = f.child;
    damage(w);
    w->timeline = well;
    assert_true(loch_timeline_is_harmed(f.child));
    assert_true(loch_upkeep_due(w->ps.upkeep, f.served[1]));
    stop_family(w, &f);
}

/* ---- a branch that is made and closed while the work waits ---- */

static void order(struct world *w, const struct loch_timeline *t)
{
    const struct loch_id id = loch_timeline_info(t)->timeline;
    w->code = LOCH_E_UNAVAILABLE;
    assert_ok(loch_upkeep_order(w->ps.upkeep, &w->site->tenant, &id, answered, w));
}

static void run_order(struct world *w)
{
    loch_env_run(w->site->env);
    assert_int_equal(w->code, LOCH_E_OK);
}

static void a_branch_of_meanwhile_keeps_its_point(void **state)
{
    struct world *w = *state;
    const loch_lsn start = L + 1000, middle = start + 8, tip = start + 16;
    struct loch_timeline *parent = write_layers(w, start, NULL, 3);
    struct loch_served *served = NULL;
    int64_t when = 0;
    assert_ok(loch_served_create(&w->ps, parent, &served));
    pthread_mutex_lock(&parent->commit); /* the cutoff waits for it */
    parent->manifest.marks[0] = (struct loch_lsn_mark){tip, 1};
    parent->manifest.mark_count = 1;
    order(w, parent);
    loch_timeline_release(site_timeline(w->site, middle, parent));
    pthread_mutex_unlock(&parent->commit);
    run_order(w);
    assert_int_equal(loch_timeline_cutoff(parent, &when), tip);
    assert_ok(loch_timeline_readable(parent, middle));
    assert_code(loch_timeline_readable(parent, start), LOCH_E_INVALID);
    order(w, parent); /* no manifest names it */
    run_order(w);
    assert_code(loch_timeline_readable(parent, middle), LOCH_E_INVALID);
    loch_served_stop(served, stop_loop, w);
    loch_env_run(w->site->env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_branch_of_meanwhile_keeps_its_point, world_up,
                                        world_down),
        cmocka_unit_test_setup_teardown(a_broken_tenant_does_not_keep_others_waiting, world_up,
                                        world_down),
        cmocka_unit_test_setup_teardown(what_cannot_be_healed_does_not_stop_the_rest, world_up,
                                        world_down),
        cmocka_unit_test_setup_teardown(merges_wait_for_ancestors, world_up, world_down),
        cmocka_unit_test_setup_teardown(healing_waits_for_no_ancestor, world_up, world_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
