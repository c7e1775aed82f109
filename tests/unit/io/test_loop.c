/* The loop: timers, posts, pool work, signals, watched descriptors, children. */
#include "../unit.h"

#include "loch/io/env.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static struct loch_env *env;
static char trail[64];

static void note(char c)
{
    size_t n = strlen(trail);
    if (n + 1 < sizeof trail) {
        trail[n] = c;
        trail[n + 1] = '\0';
    }
}

static void note_arg(void *arg)
{
    note(*(const char *)arg);
    if (*(const char *)arg == '!')
        loch_env_stop(env);
}

static int begin(void **state)
{
    (void)state;
    trail[0] = '\0';
    assert_ok(loch_env_real_create(&env));
    return 0;
}

static int end(void **state)
{
    (void)state;
    loch_env_real_destroy(env);
    return 0;
}

static void give_up(void *arg)
{
    (void)arg;
    fail_msg("the loop did not come to its end in time (%s)", trail);
}

/* Runs until '!' is noted, at most ten seconds. */
static void run(void)
{
    struct loch_timer *limit = NULL;
    assert_ok(loch_env_timer(env, 10000, &limit, give_up, NULL));
    loch_env_run(env);
    loch_timer_cancel(limit);
}

static void timers(void **state)
{
    static char a = 'a', b = 'b', c = 'c', stop = '!';
    struct loch_timer *t[4];
    (void)state;
    assert_ok(loch_env_timer(env, 20, &t[0], note_arg, &b));
    assert_ok(loch_env_timer(env, 5, &t[1], note_arg, &a));
    assert_ok(loch_env_timer(env, 10, &t[2], note_arg, &c));
    assert_ok(loch_env_timer(env, 40, &t[3], note_arg, &stop));
    loch_timer_cancel(t[2]);
    loch_timer_cancel(NULL);
    assert_string_equal(trail, ""); /* never before the call returns */
    uint64_t before = loch_env_now_ns(env);
    run();
    assert_string_equal(trail, "ab!");
    assert_true(loch_env_now_ns(env) - before >= 38000000u);
    assert_true(loch_env_wall_us(env) > INT64_C(1600000000000000));
}

static void *poster(void *arg)
{
    static char x = 'x', y = 'y', stop = '!';
    (void)arg;
    for (int i = 0; i < 5; i++) {
        loch_env_post(env, note_arg, &x);
        loch_env_post(env, note_arg, &y);
    }
    loch_env_post(env, note_arg, &stop);
    return NULL;
}

static void posts_keep_order(void **state)
{
    pthread_t thread;
    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, poster, NULL), 0);
    run();
    (void)pthread_join(thread, NULL);
    assert_string_equal(trail, "xyxyxyxyxy!");
}

struct job {
    pthread_t ran_on;
    bool worked;
};

static void job_work(void *arg)
{
    struct job *job = arg;
    job->ran_on = pthread_self();
    job->worked = true;
}

static void job_done(void *arg)
{
    struct job *job = arg;
    assert_true(loch_env_working(env));
    assert_true(job->worked);
    assert_false(pthread_equal(job->ran_on, pthread_self()));
    note('!');
    loch_env_stop(env);
}

static void pool_work(void **state)
{
    struct job job = {0};
    (void)state;
    assert_false(loch_env_working(env));
    assert_ok(loch_env_work(env, job_work, job_done, &job));
    assert_true(loch_env_working(env));
    run();
    assert_string_equal(trail, "!");
    assert_false(loch_env_working(env));
}

/* Work that is under way at the loop's end, and that makes a timer for its next turn each time. */
struct upkeep {
    struct loch_timer *timer;
    unsigned turns;
};

static void upkeep_work(void *arg)
{
    (void)arg;
    (void)usleep(1000);
}

static void upkeep_done(void *arg);

static void upkeep_turn(void *arg)
{
    struct upkeep *u = arg;

    u->turns++;
    if (u->turns > 5)
        fail_msg("the loop does not end");
    assert_ok(loch_env_work(env, upkeep_work, upkeep_done, u));
}

static void upkeep_done(void *arg)
{
    struct upkeep *u = arg;
    assert_ok(loch_env_timer(env, 1, &u->timer, upkeep_turn, u));
}

static void an_end_under_work(void **state)
{
    struct upkeep u = {0};
    (void)state;
    assert_ok(loch_env_real_create(&env));
    assert_ok(loch_env_work(env, upkeep_work, upkeep_done, &u));
    loch_env_real_destroy(env);
    assert_int_equal(u.turns, 0);
}

static void signals(void **state)
{
    static char stop = '!';
    (void)state;
    assert_ok(loch_env_on_signal(env, SIGUSR1, note_arg, &stop));
    assert_code(loch_env_on_signal(env, 9999, note_arg, &stop), LOCH_E_INVALID);
    assert_int_equal(raise(SIGUSR1), 0);
    run();
    assert_string_equal(trail, "!");
}

static void random_bytes(void **state)
{
    uint8_t a[64] = {0};
    uint8_t b[64] = {0};
    (void)state;
    assert_ok(loch_env_random(env, a, sizeof a));
    assert_ok(loch_env_random(env, b, sizeof b));
    assert_memory_not_equal(a, b, sizeof a);
}

/* ---- descriptors ---- */
static struct loch_watch *watch;
static int watched_fd;

static void pipe_ready(void *arg, int events)
{
    char byte[8];
    (void)arg;
    assert_int_equal(events, LOCH_READABLE);
    ssize_t n = read(watched_fd, byte, sizeof byte);
    if (n == 0) { /* hung up */
        loch_watch_stop(watch);
        note('!');
        loch_env_stop(env);
    }
    for (ssize_t i = 0; i < n; i++)
        note(byte[i]);
}

static void watch_a_pipe(void **state)
{
    int fd[2];
    (void)state;
    assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
    watched_fd = fd[0];
    assert_ok(loch_env_watch_fd(env, fd[0], LOCH_READABLE, &watch, pipe_ready, NULL));
    assert_int_equal(write(fd[1], "hi", 2), 2);
    (void)close(fd[1]);
    run();
    assert_string_equal(trail, "hi!");
    (void)close(fd[0]);
}

/* ---- children ---- */
static int last_status;
static struct loch_child *child;

static void child_exited(void *arg, int wait_status)
{
    (void)arg;
    last_status = wait_status;
    loch_env_stop(env);
}

static struct loch_child_options shell(const char *const *argv)
{
    return (struct loch_child_options){
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .pass_fd = -1};
}

static void spawn_exit_status(void **state)
{
    const char *argv[] = {"/bin/sh", "-c", "exit 7", NULL};
    struct loch_child_options o = shell(argv);
    (void)state;
    assert_ok(loch_env_spawn(env, &o, &child, child_exited, NULL));
    assert_true(loch_child_pid(child) > 0);
    run();
    assert_true(WIFEXITED(last_status));
    assert_int_equal(WEXITSTATUS(last_status), 7);
}

static void spawn_missing_program(void **state)
{
    const char *argv[] = {"/nonexistent/program", NULL};
    struct loch_child_options o = shell(argv);
    (void)state;
    assert_code(loch_env_spawn(env, &o, &child, child_exited, NULL), LOCH_E_IO);
    assert_non_null(strstr(loch_error_text(), "/nonexistent/program"));
    const char *argv2[] = {"/bin/true", NULL};
    o = shell(argv2);
    o.cwd = "/nonexistent";
    assert_code(loch_env_spawn(env, &o, &child, child_exited, NULL), LOCH_E_IO);
}

/* Everything at once: environment, working directory, descriptor 3, ids, and nothing else open. */
static void spawn_descriptors_and_ids(void **state)
{
    const char *argv[] = {"/bin/sh", "-c",
                          "read line <&3; echo \"$line $GREETING $(pwd) $(id -u):$(id -g)\";"
                          "for f in /proc/self/fd/*; do echo -n \"${f##*/} \"; done",
                          NULL};
    const char *environment[] = {"GREETING=hello", "PATH=/usr/bin:/bin", NULL};
    struct loch_child_options o = shell(argv);
    int secret[2];
    int out[2];
    char text[256] = {0};
    (void)state;
    assert_int_equal(pipe2(secret, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, 0), 0); /* not close-on-exec: io closes it anyway */
    assert_int_equal(write(secret[1], "sesame\n", 7), 7);
    (void)close(secret[1]);
    o.env = environment;
    o.cwd = "/usr";
    o.pass_fd = secret[0];
    o.stdout_fd = out[1];
    if (geteuid() == 0) {
        o.uid = 65534;
        o.gid = 65534;
    }
    assert_ok(loch_env_spawn(env, &o, &child, child_exited, NULL));
    (void)close(out[1]);
    (void)close(secret[0]);
    run();
    assert_int_equal(last_status, 0);
    assert_true(read(out[0], text, sizeof text - 1) > 0);
    (void)close(out[0]);
    assert_ptr_equal(strstr(text, "sesame hello /usr "), text);
    if (geteuid() == 0)
        assert_non_null(strstr(text, "65534:65534"));
    assert_non_null(strstr(text, "0 1 2 3 \n") != NULL ? text : strstr(text, "\n0 1 2 3 "));
    assert_null(strstr(text, " 5 "));
}

static void spawn_kill(void **state)
{
    const char *argv[] = {"/bin/sleep", "100", NULL};
    struct loch_child_options o = shell(argv);
    (void)state;
    o.die_with_parent = true;
    assert_ok(loch_env_spawn(env, &o, &child, child_exited, NULL));
    loch_child_kill(child, SIGTERM);
    run();
    assert_true(WIFSIGNALED(last_status));
    assert_int_equal(WTERMSIG(last_status), SIGTERM);
}

/* A child of a process that is killed dies with it. */
static void dies_with_parent(void **state)
{
    int fd[2];
    char byte;
    (void)state;
    assert_int_equal(pipe(fd), 0);
    pid_t middle = fork();
    if (middle == 0) {
        const char *argv[] = {"/bin/sh", "-c", "echo up; exec sleep 100", NULL};
        struct loch_env *own = NULL;
        struct loch_child_options o = shell(argv);
        o.die_with_parent = true;
        o.stdout_fd = fd[1];
        if (loch_is_ok(loch_env_real_create(&own)) &&
            loch_is_ok(loch_env_spawn(own, &o, &child, child_exited, NULL)))
            (void)pause();
        _exit(1);
    }
    (void)close(fd[1]);
    assert_int_equal(read(fd[0], &byte, 1), 1); /* it runs */
    assert_int_equal(kill(middle, SIGKILL), 0);
    (void)waitpid(middle, NULL, 0);
    while (read(fd[0], &byte, 1) > 0) /* ends when the last holder of the pipe is dead */
        ;
    (void)close(fd[0]);
}

int main(void)
{
#define T(name_) cmocka_unit_test_setup_teardown(name_, begin, end)
    const struct CMUnitTest tests[] = {
        T(timers),
        T(posts_keep_order),
        T(pool_work),
        T(signals),
        T(random_bytes),
        T(watch_a_pipe),
        T(spawn_exit_status),
        T(spawn_missing_program),
        T(spawn_descriptors_and_ids),
        T(spawn_kill),
        cmocka_unit_test(an_end_under_work),
        cmocka_unit_test(dies_with_parent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
