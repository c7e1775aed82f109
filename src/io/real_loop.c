/* Holds: the loop itself: clock, timers, posts, the thread pool, signals; creation and end of the
 * real world.
 *
 * Invariant: callbacks run on the loop's thread, one after another. Before the loop sleeps
 * (`prepare`) all file operations queued in this turn go to the kernel in one submission and every
 * stream's queue in one write.
 */
#include "real.h"
#include "loch/base/stack.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec ts = {0};

    (void)clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

static uint64_t real_now_ns(struct loch_env *env)
{
    (void)env;
    return clock_ns(CLOCK_BOOTTIME);
}

static int64_t real_wall_us(struct loch_env *env)
{
    (void)env;
    return (int64_t)(clock_ns(CLOCK_REALTIME) / 1000);
}

static loch_status real_random(struct loch_env *env, void *out, size_t len)
{
    uint8_t *p = out;

    (void)env;
    while (len > 0) {
        ssize_t n = getrandom(p, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return LOCH_FAIL(LOCH_E_IO, "getrandom: %s", strerror(errno));
        p += n;
        len -= (size_t)n;
    }
    return LOCH_OK;
}

/* ---- timers ---- */
struct real_timer {
    struct loch_timer base;
    struct real_owner owner;
    uv_timer_t uv;
    loch_call_fn fire;
    void *arg;
};

static void timer_free(uv_handle_t *handle)
{
    free(((struct real_owner *)handle->data)->self);
}

static void timer_end(void *self)
{
    struct real_timer *t = self;

    uv_close((uv_handle_t *)&t->uv, timer_free);
}

static void timer_fired(uv_timer_t *uv)
{
    struct real_timer *t = ((struct real_owner *)uv->data)->self;
    loch_call_fn fire = t->fire;
    void *arg = t->arg;

    timer_end(t);
    fire(arg);
}

static loch_status real_timer(struct loch_env *env, uint64_t delay_ms, struct loch_timer **out,
                              loch_call_fn fire, void *arg)
{
    struct real_env *real = real_env_of(env);
    struct real_timer *t = calloc(1, sizeof *t);

    if (t == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a timer");
    *t = (struct real_timer){.base = {env}, .owner = {t, timer_end}, .fire = fire, .arg = arg};
    LOCH_ASSERT(uv_timer_init(&real->loop, &t->uv) == 0);
    t->uv.data = &t->owner;
    uv_update_time(&real->loop);
    if (!real->dying) /* else work that ends now would go on for ever, one timer after another */
        LOCH_ASSERT(uv_timer_start(&t->uv, timer_fired, delay_ms, 0) == 0);
    *out = &t->base;
    return LOCH_OK;
}

static void real_timer_cancel(struct loch_timer *timer)
{
    timer_end(timer);
}

/* ---- posts ---- */
static void posts_run(uv_async_t *async)
{
    struct real_env *env = async->data;

    (void)pthread_mutex_lock(&env->posts_lock);
    struct real_post *p = env->posts;
    env->posts = NULL;
    env->posts_tail = &env->posts;
    (void)pthread_mutex_unlock(&env->posts_lock);
    while (p != NULL) {
        struct real_post *next = p->next;
        p->fn(p->arg);
        free(p);
        p = next;
    }
}

static void real_post(struct loch_env *env, loch_call_fn fn, void *arg)
{
    struct real_env *real = real_env_of(env);
    struct real_post *p = malloc(sizeof *p);

    /* A post carries ownership and has no failing side: without 24 bytes nothing goes on anyway. */
    LOCH_ASSERT(p != NULL);
    *p = (struct real_post){NULL, fn, arg};
    (void)pthread_mutex_lock(&real->posts_lock);
    *real->posts_tail = p;
    real->posts_tail = &p->next;
    (void)pthread_mutex_unlock(&real->posts_lock);
    LOCH_ASSERT(uv_async_send(&real->async) == 0);
}

/* ---- thread pool ---- */
struct real_work {
    uv_work_t uv;
    struct real_env *env;
    loch_call_fn work, done;
    void *arg;
};

static void work_run(uv_work_t *uv)
{
    struct real_work *w = uv->data;

    w->work(w->arg);
    loch_stack_wipe(); /* it may have been rows: the thread's next work is somebody else's */
}

static void work_done(uv_work_t *uv, int status)
{
    struct real_work *w = uv->data;

    LOCH_ASSERT(status == 0); /* nobody cancels */
    w->done(w->arg);
    w->env->works--;
    free(w);
}

static loch_status real_work(struct loch_env *env, loch_call_fn work, loch_call_fn done, void *arg)
{
    struct real_work *w = calloc(1, sizeof *w);

    if (w == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a piece of work");
    *w = (struct real_work){.env = real_env_of(env), .work = work, .done = done, .arg = arg};
    w->uv.data = w;
    LOCH_ASSERT(uv_queue_work(&w->env->loop, &w->uv, work_run, work_done) == 0);
    w->env->works++;
    return LOCH_OK;
}

static bool real_working(struct loch_env *env)
{
    return real_env_of(env)->works > 0;
}

/* ---- signals ---- */
struct real_signal {
    struct real_owner owner;
    uv_signal_t uv;
    loch_call_fn fn;
    void *arg;
};

static void signal_free(uv_handle_t *handle)
{
    free(((struct real_owner *)handle->data)->self);
}

static void signal_end(void *self)
{
    struct real_signal *s = self;

    uv_close((uv_handle_t *)&s->uv, signal_free);
}

static void signal_came(uv_signal_t *uv, int signo)
{
    struct real_signal *s = ((struct real_owner *)uv->data)->self;

    (void)signo;
    s->fn(s->arg);
}

static loch_status real_on_signal(struct loch_env *env, int signo, loch_call_fn fn, void *arg)
{
    struct real_signal *s = calloc(1, sizeof *s);

    if (s == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a signal handler");
    *s = (struct real_signal){.owner = {s, signal_end}, .fn = fn, .arg = arg};
    LOCH_ASSERT(uv_signal_init(&real_env_of(env)->loop, &s->uv) == 0);
    s->uv.data = &s->owner;
    int rc = uv_signal_start(&s->uv, signal_came, signo);
    if (rc != 0) {
        signal_end(s);
        return LOCH_FAIL(LOCH_E_INVALID, "cannot watch signal %d: %s", signo, uv_strerror(rc));
    }
    return LOCH_OK;
}

/* ---- the loop's turn ---- */
static void idle_turn(uv_idle_t *idle)
{
    (void)idle; /* its being active is what keeps the loop from sleeping */
}

void real_env_wake(struct real_env *env)
{
    if (!env->idle_on && !env->dying) {
        env->idle_on = true;
        LOCH_ASSERT(uv_idle_start(&env->idle, idle_turn) == 0);
    }
}

static void before_sleep(uv_prepare_t *prepare)
{
    struct real_env *env = prepare->data;

    if (env->idle_on) {
        env->idle_on = false;
        LOCH_ASSERT(uv_idle_stop(&env->idle) == 0);
    }
    real_streams_flush(env);
    real_ring_submit(env);
    if (env->alone != NULL) {
        real_alone_run(env);
        real_streams_flush(env); /* answers that rested on it */
        real_ring_submit(env);
    }
}

static void real_run(struct loch_env *env)
{
    struct real_env *real = real_env_of(env);

    real->stopping = false;
    while (!real->stopping)
        (void)uv_run(&real->loop, UV_RUN_DEFAULT);
}

static void real_stop(struct loch_env *env)
{
    struct real_env *real = real_env_of(env);

    real->stopping = true;
    uv_stop(&real->loop);
}

static const struct loch_world_ops real_ops = {
    .now_ns = real_now_ns,
    .wall_us = real_wall_us,
    .random = real_random,
    .timer = real_timer,
    .timer_cancel = real_timer_cancel,
    .run = real_run,
    .stop = real_stop,
    .post = real_post,
    .work = real_work,
    .working = real_working,
    .on_signal = real_on_signal,
    .file_open = real_file_open,
    .file_close = real_file_close,
    .file_size = real_file_size,
    .file_read = real_file_read,
    .file_read_now = real_file_read_now,
    .file_write = real_file_write,
    .file_write_sync = real_file_write_sync,
    .file_sync = real_file_sync,
    .file_allocate = real_file_allocate,
    .read_file = real_read_file,
    .replace_file = real_replace_file,
    .create_file = real_create_file,
    .patch_file = real_patch_file,
    .truncate_file = real_truncate_file,
    .unlink = real_unlink,
    .rename = real_rename,
    .mkdirs = real_mkdirs,
    .sync_dir = real_sync_dir,
    .list_dir = real_list_dir,
    .new_file = real_new_file,
    .new_file_add = real_new_file_add,
    .new_file_end = real_new_file_end,
    .new_file_abandon = real_new_file_abandon,
    .fs_space = real_fs_space,
    .listen = real_listen,
    .listener_close = real_listener_close,
    .connect = real_connect,
    .on_refused = real_on_refused,
    .stream_identity = real_stream_identity,
    .stream_send = real_stream_send,
    .stream_trade = real_stream_trade,
    .stream_queued = real_stream_queued,
    .stream_read = real_stream_read,
    .stream_close = real_stream_close,
    .stream_cut = real_stream_cut,
    .watch_fd = real_watch_fd,
    .watch_change = real_watch_change,
    .watch_stop = real_watch_stop,
    .spawn = real_spawn,
    .child_pid = real_child_pid,
    .child_kill = real_child_kill,
};

loch_status loch_env_real_create(struct loch_env **out)
{
    struct real_env *env = calloc(1, sizeof *env);
    char threads[12];

    if (env == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for the event loop");
    /* libuv reads this once, at the first piece of work. More than cores: the work waits for disks.
     */
    (void)snprintf(threads, sizeof threads, "%u", LOCH_WORK_THREADS);
    (void)setenv("UV_THREADPOOL_SIZE", threads, 0);
    /* A peer that is gone is an error of write(2), not the end of the process. */
    (void)signal(SIGPIPE, SIG_IGN);
    env->base.ops = &real_ops;
    env->posts_tail = &env->posts;
    env->ops_waiting_tail = &env->ops_waiting;
    env->alone_tail = &env->alone;
    int rc = uv_loop_init(&env->loop);
    if (rc != 0) {
        free(env);
        return LOCH_FAIL(LOCH_E_IO, "cannot make an event loop: %s", uv_strerror(rc));
    }
    rc = uv_async_init(&env->loop, &env->async, posts_run);
    if (rc != 0) {
        (void)uv_loop_close(&env->loop);
        free(env);
        return LOCH_FAIL(LOCH_E_IO, "cannot make an event descriptor: %s", uv_strerror(rc));
    }
    LOCH_ASSERT(pthread_mutex_init(&env->posts_lock, NULL) == 0);
    LOCH_ASSERT(uv_prepare_init(&env->loop, &env->prepare) == 0);
    LOCH_ASSERT(uv_idle_init(&env->loop, &env->idle) == 0);
    env->async.data = env;
    env->prepare.data = env;
    env->loop.data = env;
    LOCH_ASSERT(uv_prepare_start(&env->prepare, before_sleep) == 0);
    loch_status st = real_ring_open(env);
    if (!loch_is_ok(st)) {
        loch_env_real_destroy(&env->base);
        return st;
    }
    *out = &env->base;
    return LOCH_OK;
}

static void end_handle(uv_handle_t *handle, void *arg)
{
    struct real_env *env = arg;

    if (uv_is_closing(handle))
        return;
    if (handle == (uv_handle_t *)&env->async || handle == (uv_handle_t *)&env->prepare ||
        handle == (uv_handle_t *)&env->idle || handle == (uv_handle_t *)&env->ring_poll) {
        uv_close(handle, NULL);
        return;
    }
    struct real_owner *owner = handle->data;
    owner->end(owner->self);
}

void loch_env_real_destroy(struct loch_env *base)
{
    if (base == NULL)
        return;
    struct real_env *env = real_env_of(base);
    while (env->ops_running > 0 || env->ops_waiting != NULL) {
        if (env->alone != NULL)
            real_alone_run(env); /* nothing would wake the loop after it */
        else
            (void)uv_run(&env->loop, UV_RUN_ONCE);
    }
    env->dying = true;
    uv_walk(&env->loop, end_handle, env);
    (void)uv_run(&env->loop, UV_RUN_DEFAULT); /* until handles are closed and pool work is done */
    uv_walk(&env->loop, end_handle, env);     /* timers that the ends of such work have made */
    (void)uv_run(&env->loop, UV_RUN_DEFAULT);
    real_ring_close(env);
    for (struct real_post *p = env->posts; p != NULL;) {
        struct real_post *next = p->next;
        free(p);
        p = next;
    }
    LOCH_ASSERT(uv_loop_close(&env->loop) == 0);
    LOCH_ASSERT(pthread_mutex_destroy(&env->posts_lock) == 0);
    loch_buf_fini(&env->spare_queue);
    loch_buf_fini(&env->spare_wire);
    free(env);
}
