/* The node file, and what a drop leaves behind. */
#include "../unit.h"
#include "drop.h"
#include "node_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const struct loch_id cluster = {{1}};
static const struct loch_id node = {{2}};
static const struct loch_id other = {{3}};

struct world {
    struct loch_env *env;
    char dir[64];
    char path[128];
};

static void world_init(struct world *w)
{
    (void)snprintf(w->dir, sizeof w->dir, "/tmp/safekeeper-test-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    assert_ok(loch_env_real_create(&w->env));
    (void)snprintf(w->path, sizeof w->path, "%s/daemon.node", w->dir);
}

static void world_fini(struct world *w)
{
    char command[128];
    loch_env_real_destroy(w->env);
    (void)snprintf(command, sizeof command, "rm -rf %s", w->dir);
    assert_int_equal(system(command), 0);
}

static void starts_are_counted(void **state)
{
    struct loch_id journal;
    struct world w;
    uint64_t n = 0;

    (void)state;
    world_init(&w);
    for (uint64_t i = 1; i <= 3; i++) {
        assert_ok(sk_node_file_enter(w.env, w.dir, &cluster, &node, &n, &journal));
        assert_int_equal(n, i);
    }
    assert_code(sk_node_file_enter(w.env, w.dir, &cluster, &other, &n, &journal), LOCH_E_INVALID);
    assert_code(sk_node_file_enter(w.env, w.dir, &other, &node, &n, &journal), LOCH_E_INVALID);
    assert_ok(sk_node_file_enter(w.env, w.dir, &cluster, &node, &n, &journal));
    assert_int_equal(n, 4); /* the refused ones were none */
    assert_true(loch_id_equal(&journal, &(struct loch_id){0}));
    assert_ok(sk_node_file_write(w.env, w.dir, &cluster, &node, n, &other));
    assert_ok(sk_node_file_enter(w.env, w.dir, &cluster, &node, &n, &journal));
    assert_int_equal(n, 5);
    assert_true(loch_id_equal(&journal, &other)); /* and so until it is said to be gone */
    assert_ok(sk_node_file_enter(w.env, w.dir, &cluster, &node, &n, &journal));
    assert_true(loch_id_equal(&journal, &other));
    assert_ok(sk_node_file_write(w.env, w.dir, &cluster, &node, n, NULL));
    assert_ok(sk_node_file_enter(w.env, w.dir, &cluster, &node, &n, &journal));
    assert_true(loch_id_equal(&journal, &(struct loch_id){0}));
    world_fini(&w);
}

static void damage_is_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "x",
        "cluster 01\nnode 02\nincarnation 1\n",
        "cluster 01000000000000000000000000000000\nnode 02000000000000000000000000000000\n",
        "cluster 01000000000000000000000000000000\nnode 02000000000000000000000000000000\n"
        "incarnation 0\n",
        "cluster 01000000000000000000000000000000\nnode 02000000000000000000000000000000\n"
        "incarnation 1\nmore\n"};
    struct loch_id journal;
    struct world w;
    uint64_t n = 0;

    (void)state;
    world_init(&w);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct loch_buf kept = {0};
        assert_ok(loch_env_replace_file(w.env, w.path, loch_slice_of(texts[i], strlen(texts[i]))));
        assert_code(sk_node_file_enter(w.env, w.dir, &cluster, &node, &n, &journal),
                    LOCH_E_CORRUPT);
        assert_ok(loch_env_read_file(w.env, w.path, 4096, &kept)); /* and left as it is */
        assert_int_equal(kept.len, strlen(texts[i]));
        loch_buf_fini(&kept);
    }
    world_fini(&w);
}

static bool count_name(void *arg, const char *name)
{
    (void)name;
    ++*(int *)arg;
    return true;
}

static void a_drop_leaves_nothing(void **state)
{
    struct world w;
    char path[160];
    int left = 0;

    (void)state;
    world_init(&w);
    for (int i = 0; i < 200; i++) {
        (void)snprintf(path, sizeof path, "%s/%016x.wal", w.dir, i);
        assert_ok(loch_env_replace_file(w.env, path, loch_slice_of("x", 1)));
    }
    assert_ok(sk_drop_files(w.env, w.dir));
    assert_ok(loch_env_list_dir(w.env, w.dir, count_name, &left));
    assert_int_equal(left, 0);
    assert_ok(sk_drop_files(w.env, w.dir)); /* again, as after a crash */
    (void)snprintf(path, sizeof path, "%s/none", w.dir);
    assert_false(loch_is_ok(sk_drop_files(w.env, path)));
    world_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(starts_are_counted),
                                       cmocka_unit_test(damage_is_refused),
                                       cmocka_unit_test(a_drop_leaves_nothing)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
