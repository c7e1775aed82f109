/* What is started runs only when it is noted: not when the note cannot be written, nor when its
 * starter dies before it has written it. And who holds a directory is found without a note. */
#include "../unit.h"
#include "cluster.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAME "thing"

static char dir[64];
static bool dies; /* the starter, half-way through the note */

/* In the place of the C library's. */
int fsync(int fd)
{
    (void)fd;
    if (dies)
        (void)kill(getpid(), SIGKILL);
    return 0;
}

static struct loch_cluster cluster(void)
{
    struct loch_cluster c = {.port_base = 20100};

    (void)snprintf(c.dir, sizeof c.dir, "%s", dir);
    return c;
}

static const char *path_of(const char *name)
{
    static char path[200];

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static int setup(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/loch-process.XXXXXX");
    return mkdtemp(dir) == NULL || mkdir(path_of("run"), 0700) != 0 ||
           mkdir(path_of("log"), 0700) != 0;
}

static int teardown(void **state)
{
    char command[100];

    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command); /* NOLINT(cert-env33-c) */
}

/* It says that it ran, with what it was given, and goes on for a while. */
static loch_status start(pid_t *pid)
{
    const struct loch_cluster c = cluster();
    char script[300];

    (void)snprintf(script, sizeof script,
                   "read -r word <&3; echo \"$word\" >%s/new; mv %s/new %s/ran; exec sleep 20", dir,
                   dir, dir);
    const char *argv[] = {"/bin/bash", "-c", script, NULL};
    return loch_process_start(&c, NAME, argv, "secret\n", pid);
}

static bool ran(unsigned wait_ms)
{
    const uint64_t until = loch_now_ms() + wait_ms;

    while (access(path_of("ran"), F_OK) != 0) {
        if (loch_now_ms() > until)
            return false;
        loch_pause_ms(10);
    }
    return true;
}

static void noted_it_runs(void **state)
{
    const struct loch_cluster c = cluster();
    char word[16] = "";
    pid_t pid = 0, noted = 0;

    (void)state;
    assert_ok(start(&pid));
    assert_true(ran(10000));
    FILE *f = fopen(path_of("ran"), "re");
    assert_true(f != NULL && fgets(word, sizeof word, f) != NULL);
    (void)fclose(f);
    assert_string_equal(word, "secret\n");
    assert_true(loch_process_alive(&c, NAME, &noted));
    assert_int_equal(noted, pid);
    assert_ok(loch_process_stop(&c, NAME, SIGKILL, 10000));
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void without_a_note_it_does_not(void **state)
{
    pid_t pid = 0;

    (void)state;
    assert_int_equal(mkdir(path_of("run/" NAME ".json"), 0700), 0);
    assert_code(start(&pid), LOCH_E_IO);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* there is no child any more */
    assert_false(ran(300));
}

static void nor_when_its_starter_dies(void **state)
{
    const struct loch_cluster c = cluster();
    pid_t pid = 0;
    int how = 0;

    (void)state;
    const pid_t starter = fork();
    assert_true(starter >= 0);
    if (starter == 0) {
        dies = true;
        (void)!loch_is_ok(start(&pid));
        _exit(0);
    }
    assert_int_equal(waitpid(starter, &how, 0), starter);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
    assert_false(ran(500));
    assert_false(loch_process_alive(&c, NAME, &pid));
    assert_ok(start(&pid)); /* the next one does not wait for it */
    assert_true(ran(10000));
    assert_ok(loch_process_stop(&c, NAME, SIGKILL, 10000));
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void a_holder_is_found(void **state)
{
    (void)state;
    assert_int_equal(loch_process_holder(path_of("run")), 0); /* no such file */
    const int fd = open(path_of("run/daemon.pid"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && write(fd, "4711\n", 5) == 5);
    assert_int_equal(loch_process_holder(path_of("run")), 0);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(loch_process_holder(path_of("run")), 4711);
    assert_code(loch_process_none(NAME, path_of("run")), LOCH_E_UNAVAILABLE);
    assert_non_null(strstr(loch_error_text(), "pid 4711"));
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(loch_process_holder(path_of("run")), -1);
    (void)close(fd);
    assert_ok(loch_process_none(NAME, path_of("run")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(noted_it_runs, setup, teardown),
        cmocka_unit_test_setup_teardown(without_a_note_it_does_not, setup, teardown),
        cmocka_unit_test_setup_teardown(nor_when_its_starter_dies, setup, teardown),
        cmocka_unit_test_setup_teardown(a_holder_is_found, setup, teardown)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
