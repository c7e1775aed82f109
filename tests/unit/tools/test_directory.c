/* A cluster's directory and scratch: where one may be made, what a wipe removes, and the modes of
 * what is made, whatever the umask. */
#include "../unit.h"
#include "config_file.h"
#include "directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define HOSTS "a,b,c,d" /* so that neither ports nor a scratch are looked at */

static char dir[64];

static int setup(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/loch-directory.XXXXXX");
    return mkdtemp(dir) == NULL;
}

static int teardown(void **state)
{
    char command[100];

    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command); /* NOLINT(cert-env33-c) */
}

static const char *path_of(const char *name)
{
    static char path[4][200];
    static unsigned next;

    next = (next + 1) % 4;
    (void)snprintf(path[next], sizeof path[next], "%s/%s", dir, name);
    return path[next];
}

static void put(const char *name, size_t bytes)
{
    char text[64] = {1};
    const int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0 && write(fd, text, bytes) == (ssize_t)bytes);
    (void)close(fd);
}

static bool there(const char *name)
{
    struct stat st;
    return lstat(path_of(name), &st) == 0;
}

static unsigned mode_of(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static struct loch_cluster cluster(void)
{
    struct loch_cluster c = {.port_base = 20100};

    (void)snprintf(c.dir, sizeof c.dir, "%s/d", dir);
    return c;
}

/* It is refused, saying `why`, and nothing of it is changed. */
static void refused(struct loch_cluster *c, const char *why)
{
    assert_code(loch_cluster_create(c, HOSTS), LOCH_E_EXISTS);
    if (strstr(loch_error_text(), why) == NULL)
        fail_msg("\"%s\" says nothing of \"%s\"", loch_error_text(), why);
    assert_false(there("d/cluster.json"));
}

static void a_directory_of_ones_own(void **state)
{
    struct loch_cluster c = cluster();

    (void)state;
    assert_int_equal(mkdir(c.dir, 0750), 0);
    put("d/README", 5);
    assert_int_equal(mkdir(path_of("d/.git"), 0755), 0);
    refused(&c, "README");
    refused(&c, ".git");
    assert_false(there("d/conf"));
    assert_int_equal(unlink(path_of("d/README")) + rmdir(path_of("d/.git")), 0);
    assert_int_equal(mkdir(path_of("d/log"), 0755), 0);
    put("d/log/of-something", 5);
    refused(&c, "half a cluster");
    assert_int_equal(unlink(path_of("d/log/of-something")) + rmdir(path_of("d/log")), 0);
    put("d/log", 5); /* not even a directory */
    refused(&c, "log");
    assert_int_equal(unlink(path_of("d/log")), 0);
    /* Volumes that are fresh, as a container's image or mkfs makes them. */
    assert_int_equal(mkdir(path_of("d/lost+found"), 0700), 0);
    assert_int_equal(mkdir(path_of("d/store"), 0700), 0);
    assert_int_equal(mkdir(path_of("d/store/lost+found"), 0700), 0);
    assert_ok(loch_cluster_create(&c, HOSTS));
    assert_true(there("d/cluster.json") && there("d/cmk.key"));
    assert_code(loch_cluster_create(&c, HOSTS), LOCH_E_EXISTS);
    assert_non_null(strstr(loch_error_text(), "there is a cluster"));
}

/* Killed between the key and cluster.json. */
static void one_that_was_cut_short(void **state)
{
    struct loch_cluster c = cluster();
    char key[32] = {1}, after[33];

    (void)state;
    assert_int_equal(mkdir(c.dir, 0700) + mkdir(path_of("d/conf"), 0700), 0);
    put("d/conf/pageserver.ini", 3);
    put("d/cluster.json.17.tmp", 3);
    put("d/cmk.key.tmp", 3);
    put("d/cmk.key", 31);
    refused(&c, "cmk.key is no key");
    put("d/cmk.key", sizeof key);
    c.kms_uri = "file:/elsewhere";
    refused(&c, "cmk.key is there already");
    c.kms_uri = NULL;
    assert_int_equal(mkdir(path_of("d/store"), 0700), 0);
    put("d/store/object", 3); /* something may be wrapped under it */
    refused(&c, "half a cluster");
    assert_int_equal(unlink(path_of("d/store/object")), 0);
    assert_ok(loch_cluster_create(&c, HOSTS));
    const int fd = open(path_of("d/cmk.key"), O_RDONLY);
    assert_int_equal(read(fd, after, sizeof after), sizeof key);
    (void)close(fd);
    assert_memory_equal(key, after, sizeof key);
}

static void only_its_own_is_wiped(void **state)
{
    struct loch_cluster c = cluster();
    char left[LOCH_DIR_LEFT_BYTES];

    (void)state;
    assert_ok(loch_cluster_create(&c, HOSTS));
    put("d/log/pageserver.log", 5);
    put("d/audit-heads.json", 5);
    put("d/cluster.json.17.tmp", 5);
    assert_int_equal(mkdir(path_of("d/safekeeper-9"), 0700), 0);
    put("d/mine", 5);
    put("d/safekeeper-10", 5);
    assert_ok(loch_dir_wipe(&c, left));
    assert_true(strcmp(left, "mine, safekeeper-10") == 0 ||
                strcmp(left, "safekeeper-10, mine") == 0);
    assert_true(there("d/mine") && there("d/safekeeper-10"));
    assert_int_equal(unlink(path_of("d/mine")) + unlink(path_of("d/safekeeper-10")), 0);
    assert_int_equal(rmdir(c.dir), 0); /* nothing else was left */

    c.kms_uri = "file:/elsewhere";
    assert_ok(loch_cluster_create(&c, HOSTS));
    put("d/cmk.key", 32); /* put there afterwards, and not by us */
    assert_ok(loch_dir_wipe(&c, left));
    assert_string_equal(left, "cmk.key");
    assert_int_equal(unlink(path_of("d/cmk.key")), 0);
    c.kms_uri = NULL;
    assert_int_equal(mkdir(path_of("big"), 0700), 0);
    assert_int_equal(symlink(path_of("big"), path_of("d/store")), 0);
    assert_ok(loch_cluster_create(&c, HOSTS));
    put("big/object", 5);
    assert_ok(loch_dir_wipe(&c, left));
    assert_string_equal(left, "what the link store led to");
    assert_true(!there("d") && there("big/object"));
    assert_ok(loch_cluster_create(&c, HOSTS));
    assert_ok(loch_dir_wipe(&c, left));
    assert_string_equal(left, "");
    assert_false(there("d"));
}

static void paths_that_cannot_be_written_down(void **state)
{
    static const char *const bad[] = {"/tmp/a,b", "/tmp/a ;b", "/tmp/a\nb", "/tmp/a\t;b"};
    char longest[120];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_code(loch_dir_check_path(bad[i]), LOCH_E_INVALID);
    assert_ok(loch_dir_check_path("/tmp/a;b c#d"));
    memset(longest, 'a', sizeof longest);
    longest[0] = '/';
    longest[88] = '\0';
    assert_ok(loch_dir_check_path(longest));
    memcpy(longest + 88, "a", 2);
    assert_code(loch_dir_check_path(longest), LOCH_E_LIMIT);
}

/* `before`: an earlier start made the scratch, and what is in it, for its owner alone. */
static void check_modes(mode_t mask, bool before)
{
    struct loch_cluster c = cluster();
    char left[LOCH_DIR_LEFT_BYTES];
    char path[200];
    const mode_t was = umask(mask);

    assert_ok(loch_cluster_create(&c, HOSTS));
    (void)snprintf(c.scratch, sizeof c.scratch, "/dev/shm/loch-test-%d", (int)getpid());
    (void)snprintf(path, sizeof path, "%s/part", c.scratch);
    if (before)
        assert_int_equal(mkdir(c.scratch, 0700) + mkdir(path, 0700), 0);
    assert_ok(loch_scratch_own(&c));
    assert_ok(loch_scratch_part(&c, path, 0755));
    (void)umask(was);
    assert_int_equal(mode_of(path_of("d")), 0700);
    assert_int_equal(mode_of(path_of("d/secrets")), 0700);
    assert_int_equal(mode_of(path_of("d/computes")), 0700);
    assert_int_equal(mode_of(path_of("d/cmk.key")) & 0177, 0);
    assert_int_equal(mode_of(path_of("d/cluster.json")) & 0177, 0);
    assert_int_equal(mode_of(c.scratch), 0711);
    assert_int_equal(mode_of(path), 0755);
    assert_ok(loch_scratch_remove(&c));
    assert_int_not_equal(access(c.scratch, F_OK), 0);
    assert_ok(loch_scratch_remove(&c)); /* nothing there */
    assert_ok(loch_dir_wipe(&c, left));
}

static void modes_do_not_depend_on_the_umask(void **state)
{
    (void)state;
    check_modes(0, false);
    check_modes(027, false);
    check_modes(077, false);
    check_modes(022, true);
}

static void only_our_scratch_is_removed(void **state)
{
    struct loch_cluster c = cluster();

    (void)state;
    (void)snprintf(c.scratch, sizeof c.scratch, "%s/loch-0-1234", dir);
    assert_int_equal(mkdir(c.scratch, 0700), 0);
    assert_code(loch_scratch_remove(&c), LOCH_E_INVALID); /* not a place that we make */
    assert_true(there("loch-0-1234"));
    (void)snprintf(c.scratch, sizeof c.scratch, "/dev/shm/loch-x/../../..%s/loch-0-1234", dir);
    assert_ok(loch_scratch_remove(&c)); /* not there */
    (void)snprintf(c.scratch, sizeof c.scratch, "/dev/shm/loch-test-%d", (int)getpid());
    assert_int_equal(mkdir(c.scratch, 0700) + chmod(c.scratch, 0777), 0);
    assert_code(loch_scratch_remove(&c), LOCH_E_INVALID);
    assert_code(loch_scratch_own(&c), LOCH_E_INVALID);
    assert_int_equal(rmdir(c.scratch), 0);
    assert_int_equal(symlink(dir, c.scratch), 0);
    assert_code(loch_scratch_remove(&c), LOCH_E_INVALID);
    assert_code(loch_scratch_own(&c), LOCH_E_INVALID);
    assert_int_equal(unlink(c.scratch), 0);
}

static const char *text_of(const char *name)
{
    static char text[4][8192];
    static unsigned next;

    next = (next + 1) % 4;
    FILE *f = fopen(path_of(name), "re");
    assert_non_null(f);
    text[next][fread(text[next], 1, sizeof text[next] - 1, f)] = '\0';
    (void)fclose(f);
    return text[next];
}

static void append(const char *name, const char *text)
{
    FILE *f = fopen(path_of(name), "ae");

    assert_true(f != NULL && fputs(text, f) >= 0 && fclose(f) == 0);
}

static unsigned entries(const char *name)
{
    DIR *d = opendir(path_of(name));
    unsigned n = 0;

    assert_non_null(d);
    while (readdir(d) != NULL)
        n++;
    (void)closedir(d);
    return n - 2;
}

#define SK1        "d/conf/safekeeper-1.ini"
#define PS         "d/conf/pageserver.ini"
#define OPERATORS  "\n# ours\n[history]\ntime = 30d"
#define OPERATORS1 "\n[export]\nlisten = 127.0.0.1:20160\n[kms]\nlease = 700ms\n"

/* A safekeeper comes and goes: of what an operator has written nothing does. */
static void operators_settings_stay(void **state)
{
    struct loch_cluster c = cluster();
    char id[LOCH_ID_TEXT_BYTES], line[100], before[8192], pageserver[8192];
    int n = 0;

    (void)state;
    assert_ok(loch_cluster_create(&c, HOSTS));
    append(PS, OPERATORS);
    append(SK1, OPERATORS1);
    assert_int_equal(chmod(path_of(SK1), 0640), 0);
    (void)snprintf(before, sizeof before, "%s", text_of(SK1));
    (void)snprintf(pageserver, sizeof pageserver, "%s", text_of(PS));
    assert_ok(loch_cluster_add_safekeeper(&c, &n));
    assert_int_equal(n, 3);
    (void)snprintf(line, sizeof line,
                   "[safekeepers]\n%s = ", loch_id_format(&c.safekeeper_node[3], id));
    assert_non_null(strstr(text_of(SK1), line));
    assert_non_null(strstr(text_of(SK1), OPERATORS1));
    assert_non_null(strstr(text_of(PS), line));
    assert_non_null(strstr(text_of(PS), OPERATORS));
    assert_int_equal(mode_of(path_of(SK1)), 0640);
    assert_int_equal(strlen(text_of(SK1)) - strlen(before),
                     strlen(id) + strlen(" = 127.0.0.1:20104\n"));
    assert_true(there("d/conf/safekeeper-4.ini"));
    assert_ok(loch_cluster_drop_safekeeper(&c, n));
    assert_string_equal(text_of(SK1), before);
    assert_string_equal(text_of(PS), pageserver);
    assert_false(there("d/conf/safekeeper-4.ini"));
    put("d/conf/safekeeper-4.ini", 3); /* of one from before */
    assert_int_equal(rmdir(path_of("d/safekeeper-4")), 0);
    assert_ok(loch_cluster_add_safekeeper(&c, &n));
    (void)snprintf(line, sizeof line, "node = %s\n", loch_id_format(&c.safekeeper_node[3], id));
    assert_non_null(strstr(text_of("d/conf/safekeeper-4.ini"), line));
}

/* No file may grow past 100 bytes, as on a disk that is full. */
static void a_write_that_fails_leaves_what_was(void **state)
{
    struct loch_cluster c = cluster();
    struct rlimit was;
    char before[8192], json[8192];
    int n = 0;

    (void)state;
    assert_ok(loch_cluster_create(&c, HOSTS));
    append(SK1, OPERATORS1);
    (void)snprintf(before, sizeof before, "%s", text_of(SK1));
    (void)snprintf(json, sizeof json, "%s", text_of("d/cluster.json"));
    const unsigned files = entries("d/conf");
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    const struct rlimit full = {100, was.rlim_max};
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
    struct loch_cluster more = c;
    const loch_status st = loch_cluster_add_safekeeper(&more, &n);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    (void)signal(SIGXFSZ, handler);
    assert_code(st, LOCH_E_IO);
    assert_string_equal(text_of(SK1), before);
    assert_string_equal(text_of("d/cluster.json"), json);
    assert_int_equal(entries("d/conf"), files);
    assert_ok(loch_cluster_add_safekeeper(&c, &n)); /* when there is room again */
    assert_true(there("d/conf/safekeeper-4.ini"));
}

static bool is_port_or_listen(const char *section, const char *key)
{
    return strcmp(section, "compute") == 0 &&
           (strcmp(key, "port") == 0 || strcmp(key, "listen") == 0);
}

static void merged(const char *was, const char *text, const char *want)
{
    static const struct loch_config_ours ours = {.is = is_port_or_listen};

    (void)unlink(path_of("x.ini"));
    append("x.ini", was);
    assert_ok(loch_config_file_write(path_of("x.ini"), text, 0600, &ours));
    assert_string_equal(text_of("x.ini"), want);
}

/* What is ours is as the text has it, once; lines that go on belong to their setting. */
static void a_configuration_is_changed(void **state)
{
    (void)state;
    merged("", "[compute]\nport = 1\n", "[compute]\nport = 1\n");
    merged(
        "[compute]\nport = 1\nwindow=2\n; port = 7\n[compute]\n listen = a,\n   b\n; c\n  d\nz=1",
        "[daemon]\ndir = /x\n[compute]\nport = 3\n",
        "[compute]\nport = 3\nwindow=2\n; port = 7\n[compute]\n; c\nz=1");
    merged("[daemon]\ndir = /y\n  /z\n", "[daemon]\ndir = /x\n[compute]\nid = 7\nlisten = a,\n b\n",
           "[daemon]\ndir = /y\n  /z\n\n[compute]\nlisten = a,\n b\n");
    merged("[daemon]\ndir = /y", "[daemon]\ndir = /x\n", "[daemon]\ndir = /y");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_directory_of_ones_own, setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_was_cut_short, setup, teardown),
        cmocka_unit_test_setup_teardown(only_its_own_is_wiped, setup, teardown),
        cmocka_unit_test(paths_that_cannot_be_written_down),
        cmocka_unit_test_setup_teardown(modes_do_not_depend_on_the_umask, setup, teardown),
        cmocka_unit_test_setup_teardown(only_our_scratch_is_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(operators_settings_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(a_write_that_fails_leaves_what_was, setup, teardown),
        cmocka_unit_test_setup_teardown(a_configuration_is_changed, setup, teardown)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
