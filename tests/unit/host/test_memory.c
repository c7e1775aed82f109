/* Every allocation fails once: settings, commands, metrics, objects, posts of the loop. Nothing
 * crashes, the failure is reported as what it is, and the next attempt works. */
#include "../failing_alloc.h"
#include "../unit.h"

#include "console_words.h"
#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/host/config.h"
#include "loch/host/daemon.h"
#include "loch/objstore/objstore.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Runs `scenario` with each of its allocations failing in turn. */
static void each_allocation(loch_status (*scenario)(void), long least, bool may_cope)
{
#ifdef HAS_OWN_MALLOC
    (void)least;
    (void)may_cope;
    assert_ok(scenario());
#else
    long n = 0;
    for (hit = true; hit;) {
        hit = false;
        countdown = ++n;
        loch_status st = scenario();
        countdown = 0;
        if (hit && !may_cope)
            assert_false(loch_is_ok(st));
        if (!hit)
            assert_ok(st);
        if (!loch_is_ok(st) && st.code != LOCH_E_NO_MEMORY && st.code != LOCH_E_IO &&
            st.code != LOCH_E_INVALID)
            fail_msg("allocation %ld: %s: %s", n, loch_code_name(st.code), loch_error_text());
    }
    assert_true(n > least);
#endif
}

static const struct loch_config_item items[] = {
    LOCH_DAEMON_ITEMS,
    {.section = "m", .key = "*", .type = LOCH_CONFIG_ADDRESS, .help = "M."},
};
static const struct loch_config_program program = {"memory", "memory", items,
                                                   sizeof items / sizeof items[0]};

static loch_status load(void)
{
    char name[] = "memory";
    char a[] = "--daemon.dir=/d";
    char b[] = "--m.x=h:1";
    char c[] = "--m.y=h:2";
    char *argv[] = {name, a, b, c};
    enum loch_config_verdict verdict = LOCH_CONFIG_EXIT;
    struct loch_config *config = NULL;

    LOCH_TRY(loch_config_load(&program, 4, argv, stdout, &verdict, &config));
    LOCH_ASSERT(loch_config_each(config, "m", NULL, NULL) == 2);
    loch_config_destroy(config);
    return LOCH_OK;
}

static void settings(void **state)
{
    (void)state;
    each_allocation(load, 8, false);
}

static loch_status split(void)
{
    struct console_words words;

    LOCH_TRY(console_words_split("create 'x y' z", &words));
    console_words_fini(&words);
    return LOCH_OK;
}

static void commands(void **state)
{
    (void)state;
    each_allocation(split, 2, false);
}

static loch_status measure(void)
{
    struct loch_metrics *m = NULL;
    struct loch_buf text = {0};

    LOCH_TRY(loch_metrics_create("memory", &m));
    struct loch_metric *a = loch_metrics_counter(m, "a", "A.", &(struct loch_label){"x", "y"}, 1);
    struct loch_metric *b = loch_metrics_histogram(m, "b", "B.", NULL, 0);
    loch_metric_add(a, 1);
    loch_metric_observe_ns(b, 1);
    loch_metrics_fact(m, "fact", "true");
    loch_metrics_fact(m, "fact", "false");
    loch_metrics_fact(m, "fact", NULL);
    loch_status st = loch_metrics_text(m, &text);
    loch_buf_fini(&text);
    loch_metrics_drop(m, a);
    loch_metrics_drop(m, b);
    loch_metrics_destroy(m);
    return st;
}

static void metrics(void **state)
{
    (void)state;
    each_allocation(measure, 8, true);
}

static struct loch_env *env;
static struct loch_objstore *store;
static char dir[64];

static bool see(void *arg, const char *name, uint64_t size)
{
    (void)name;
    *(uint64_t *)arg += size;
    return true;
}

static loch_status objects(void)
{
    struct loch_buf buf = {0};
    struct loch_etag etag;
    uint64_t sum = 0;

    LOCH_TRY(loch_objstore_put(store, "a/b", loch_slice_of("bytes", 5), &etag));
    LOCH_TRY(loch_objstore_put_if_match(store, "a/b", &etag, loch_slice_of("more", 4), NULL));
    LOCH_TRY(loch_objstore_put(store, "c", loch_slice_of("", 0), NULL));
    loch_status st = loch_objstore_get(store, "a/b", 10, &buf, NULL);
    LOCH_ASSERT(!loch_is_ok(st) || buf.len == 4);
    loch_buf_fini(&buf);
    LOCH_TRY(st);
    LOCH_TRY(loch_objstore_list(store, "", see, &sum));
    LOCH_ASSERT(sum == 4);
    return loch_objstore_delete(store, "c");
}

static void object_store(void **state)
{
    (void)state;
    each_allocation(objects, 15, false);
}

static loch_status open_store(void)
{
    struct loch_objstore *other = NULL;

    LOCH_TRY(loch_objstore_open_local(env, dir, &other));
    loch_objstore_close(other);
    return LOCH_OK;
}

static void opening_a_store(void **state)
{
    (void)state;
    each_allocation(open_store, 5, false);
}

static void done(void *arg, loch_status st)
{
    *(loch_status *)arg = st;
    loch_env_stop(env);
}

static loch_status files(void)
{
    struct loch_file *f = NULL;
    loch_status result = LOCH_OK;
    loch_status st;
    char path[96];

    (void)snprintf(path, sizeof path, "%s/file", dir);
    LOCH_TRY(loch_file_open(env, path, O_RDWR | O_CREAT, &f));
    st = loch_file_write(f, 0, loch_slice_of("x", 1), done, &result);
    if (loch_is_ok(st)) {
        loch_env_run(env);
        st = result;
    }
    if (loch_is_ok(st)) {
        st = loch_file_sync(f, done, &result);
        if (loch_is_ok(st)) {
            loch_env_run(env);
            st = result;
        }
    }
    loch_file_close(f);
    struct loch_buf buf = {0};
    if (loch_is_ok(st))
        st = loch_buf_append(&buf, "x", 1);
    if (loch_is_ok(st))
        st = loch_env_replace_file_async(env, path, &buf, done, &result);
    loch_buf_fini(&buf);
    if (loch_is_ok(st)) {
        loch_env_run(env);
        st = result;
    }
    return st;
}

static void file_operations(void **state)
{
    (void)state;
    each_allocation(files, 4, true); /* libuv may do without */
}

static int begin(void **state)
{
    (void)state;
    loch_log_init("test", LOCH_LOG_ERROR);
    (void)strcpy(dir, "/tmp/io-memory-XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    assert_ok(loch_env_real_create(&env));
    assert_ok(loch_objstore_open_local(env, dir, &store));
    return 0;
}

static int end(void **state)
{
    char command[96];
    (void)state;
    loch_objstore_close(store);
    loch_env_real_destroy(env);
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings),        cmocka_unit_test(commands),
        cmocka_unit_test(metrics),         cmocka_unit_test(object_store),
        cmocka_unit_test(opening_a_store), cmocka_unit_test(file_operations),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
