/* Work that takes long: a few threads of its own, and a line. */
#include "run_until.h"
#include "store_fixture.h"

#include "care/long_work.h"

#include <pthread.h>

#define WORKS (LOCH_WORK_THREADS + LOCH_LONG_WORKS_MAX + 1)

struct world {
    struct site *site;
    struct loch_pageserver ps;
    pthread_t loop;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned begun, may_end; /* of the works, in the order in which they begin */
    unsigned order[WORKS];
    unsigned done;
    bool pool_works;
    struct job {
        struct world *w;
        unsigned number;
        bool worked;
    } jobs[WORKS];
};

static int world_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    void *site = NULL;
    assert_non_null(w);
    site_up(&site);
    w->site = site;
    w->ps.env = w->site->env;
    w->loop = pthread_self();
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    *state = w;
    return 0;
}

static int world_down(void **state)
{
    struct world *w = *state;
    void *site = w->site;
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->changed);
    free(w);
    return site_down(&site);
}

/* Until it may end. */
static void work(void *arg)
{
    struct job *job = arg;
    struct world *w = job->w;
    assert_false(pthread_equal(pthread_self(), w->loop));
    pthread_mutex_lock(&w->lock);
    const unsigned at = w->begun++;
    w->order[at] = job->number;
    while (w->may_end <= at)
        pthread_cond_wait(&w->changed, &w->lock);
    job->worked = true;
    pthread_mutex_unlock(&w->lock);
}

static void done(void *arg)
{
    struct job *job = arg;
    assert_true(pthread_equal(pthread_self(), job->w->loop));
    assert_true(job->worked);
    job->w->done++;
}

static unsigned begun(struct world *w)
{
    pthread_mutex_lock(&w->lock);
    const unsigned n = w->begun;
    pthread_mutex_unlock(&w->lock);
    return n;
}

static void let_end(struct world *w, unsigned count)
{
    pthread_mutex_lock(&w->lock);
    w->may_end = count;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

static struct loch_id tenant_id(unsigned number)
{
    return (struct loch_id){.bytes = {(uint8_t)(number + 1)}};
}

/* Each of another tenant. */
static void begin_all(struct world *w)
{
    for (unsigned i = 0; i < WORKS; i++) {
        const struct loch_id tenant = tenant_id(i);
        w->jobs[i] = (struct job){.w = w, .number = i};
        assert_ok(loch_long_work(&w->ps, &tenant, work, done, &w->jobs[i]));
    }
}

static void on_pool(void *arg)
{
    (void)arg;
}

static void pool_done(void *arg)
{
    struct world *w = arg;
    w->pool_works = true;
}

static bool pool_worked(void *arg)
{
    const struct world *w = arg;
    return w->pool_works;
}

static bool first_begun(void *arg)
{
    struct world *w = arg;
    return begun(w) >= LOCH_LONG_WORKS_MAX;
}

static bool one_more_begun(void *arg)
{
    struct world *w = arg;
    return begun(w) >= LOCH_LONG_WORKS_MAX + 1;
}

static bool one_done(void *arg)
{
    const struct world *w = arg;
    return w->done == 1;
}

static bool all_ended(void *arg)
{
    const struct world *w = arg;
    return w->done == WORKS && !loch_long_work_any(&w->ps);
}

/* More of it than there are pool threads. */
static void it_takes_no_pool_thread(void **state)
{
    struct world *w = *state;
    assert_false(loch_long_work_any(&w->ps));
    begin_all(w);
    run_until(w->site->env, first_begun, w);
    assert_ok(loch_env_work(w->site->env, on_pool, pool_done, w));
    run_until(w->site->env, pool_worked, w);
    assert_int_equal(begun(w), LOCH_LONG_WORKS_MAX);
    assert_int_equal(w->done, 0);
    assert_true(loch_long_work_any(&w->ps));
    let_end(w, WORKS);
    run_until(w->site->env, all_ended, w);
}

static void it_stands_in_line(void **state)
{
    struct world *w = *state;
    begin_all(w);
    run_until(w->site->env, first_begun, w);
    let_end(w, 1);
    run_until(w->site->env, one_more_begun, w);
    assert_int_equal(w->order[LOCH_LONG_WORKS_MAX], LOCH_LONG_WORKS_MAX);
    run_until(w->site->env, one_done, w);
    assert_int_equal(begun(w), LOCH_LONG_WORKS_MAX + 1);
    let_end(w, WORKS);
    run_until(w->site->env, all_ended, w);
    w->begun = w->may_end = w->done = 0;
    begin_all(w); /* the threads have ended, and come again */
    let_end(w, WORKS);
    run_until(w->site->env, all_ended, w);
}

/* A tenant that goes dark waits for no other's command. */
static void what_is_in_a_hurry_is_let_in(void **state)
{
    struct world *w = *state;
    const struct loch_id last = tenant_id(WORKS - 1), before = tenant_id(WORKS - 2);
    const struct loch_id runs = tenant_id(0), none = tenant_id(WORKS);
    begin_all(w);
    run_until(w->site->env, first_begun, w);
    loch_long_work_hurry(&w->ps, &runs);
    loch_long_work_hurry(&w->ps, &none);
    loch_long_work_hurry(&w->ps, &last);
    run_until(w->site->env, one_more_begun, w);
    assert_int_equal(w->order[LOCH_LONG_WORKS_MAX], WORKS - 1);
    loch_long_work_hurry(&w->ps, &before); /* the thread beside the others is taken */
    assert_int_equal(begun(w), LOCH_LONG_WORKS_MAX + 1);
    let_end(w, WORKS);
    run_until(w->site->env, all_ended, w);
    assert_int_equal(w->order[LOCH_LONG_WORKS_MAX + 1], WORKS - 2);
}

#define TEST(test_) cmocka_unit_test_setup_teardown(test_, world_up, world_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(it_takes_no_pool_thread),
        TEST(it_stands_in_line),
        TEST(what_is_in_a_hurry_is_let_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
