/* Settings: file, environment and options, their order, and every way to get them wrong. */
#include "../unit.h"

#include "loch/host/config.h"
#include "loch/host/daemon.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct loch_config_item items[] = {
    LOCH_DAEMON_ITEMS,
    {.section = "node", .key = "id", .type = LOCH_CONFIG_ID, .help = "The node."},
    {.section = "node",
     .key = "address",
     .type = LOCH_CONFIG_ADDRESS,
     .value = "127.0.0.1:7001",
     .help = "Where."},
    {.section = "node",
     .key = "name",
     .type = LOCH_CONFIG_STRING,
     .value = "",
     .min = 2,
     .max = 5,
     .help = "Name."},
    {.section = "limits",
     .key = "memory",
     .type = LOCH_CONFIG_BYTES,
     .value = "64MiB",
     .min = 1024,
     .max = 1u << 30,
     .help = "Memory."},
    {.section = "limits",
     .key = "time-out",
     .type = LOCH_CONFIG_MS,
     .value = "10s",
     .help = "Time."},
    {.section = "limits",
     .key = "count",
     .type = LOCH_CONFIG_U64,
     .value = "7",
     .max = 100,
     .help = "Count."},
    {.section = "limits",
     .key = "strict",
     .type = LOCH_CONFIG_BOOL,
     .value = "no",
     .help = "Strict."},
    {.section = "peers",
     .key = "*",
     .type = LOCH_CONFIG_ADDRESS,
     .key_is_id = true,
     .help = "Peers."},
};
static const struct loch_config_program program = {.name = "loch-test",
                                                   .summary = "tests",
                                                   .items = items,
                                                   .item_count = sizeof items / sizeof items[0]};

static const char good[] = "# a comment\n"
                           "[daemon]\n"
                           "dir = /var/lib/loch\n"
                           "[node]\n"
                           "id=00112233445566778899aabbccddeeff ; inline\n"
                           "[limits]\n"
                           "memory = 1GiB\n"
                           "[peers]\n"
                           "000000000000000000000000000000aa = 127.0.0.1:1\n"
                           "000000000000000000000000000000bb = [::1]:2\n";

static char path[64];
static char printed[8192];

static loch_status load_text(const char *text, const char *const *options,
                             enum loch_config_verdict *verdict, struct loch_config **out)
{
    char *argv[16] = {"loch-test", "--config", path};
    int argc = 3;
    (void)strcpy(path, "/tmp/io-config-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    (void)close(fd);
    for (; options != NULL && *options != NULL; options++)
        argv[argc++] = (char *)(uintptr_t)*options;
    FILE *to = fmemopen(printed, sizeof printed, "w");
    memset(printed, 0, sizeof printed);
    loch_status st = loch_config_load(&program, argc, argv, to, verdict, out);
    (void)fclose(to);
    (void)unlink(path);
    return st;
}

static struct loch_config *load_good(const char *text, const char *const *options)
{
    enum loch_config_verdict verdict = LOCH_CONFIG_EXIT;
    struct loch_config *c = NULL;
    assert_ok(load_text(text, options, &verdict, &c));
    assert_int_equal(verdict, LOCH_CONFIG_RUN);
    return c;
}

static bool see_peer(void *arg, const char *key, const char *value)
{
    (void)strcat(arg, key + 30);
    (void)strcat(arg, "=");
    (void)strcat(arg, value);
    (void)strcat(arg, " ");
    return true;
}

static void values(void **state)
{
    char seen[128] = "";
    (void)state;
    struct loch_config *c = load_good(good, NULL);
    assert_string_equal(loch_config_string(c, "daemon", "dir"), "/var/lib/loch");
    struct loch_id id = loch_config_id(c, "node", "id");
    assert_int_equal(id.bytes[15], 0xff);
    assert_string_equal(loch_config_string(c, "node", "address"), "127.0.0.1:7001");
    assert_false(loch_config_is_set(c, "node", "name"));
    assert_true(loch_config_is_set(c, "node", "address"));
    assert_true(loch_config_u64(c, "limits", "memory") == 1u << 30);
    assert_int_equal(loch_config_u64(c, "limits", "time-out"), 10000);
    assert_int_equal(loch_config_u64(c, "daemon", "log"), 1);
    assert_false(loch_config_bool(c, "limits", "strict"));
    assert_int_equal(loch_config_each(c, "peers", see_peer, seen), 2);
    assert_string_equal(seen, "aa=127.0.0.1:1 bb=[::1]:2 ");
    assert_int_equal(loch_config_each(c, "nothing", NULL, NULL), 0);
    loch_config_destroy(c);
    loch_config_destroy(NULL);
}

static void order_of_worth(void **state)
{
    const char *const options[] = {"--limits.count=3",
                                   "--peers.000000000000000000000000000000bb=127.0.0.1:9",
                                   "--peers.000000000000000000000000000000cc=127.0.0.1:8", NULL};
    char seen[128] = "";
    (void)state;
    (void)setenv("LOCH_LIMITS_COUNT", "4", 1);
    (void)setenv("LOCH_LIMITS_TIME_OUT", "2min", 1);
    (void)setenv("LOCH_LIMITS_MEMORY", "2048", 1);
    (void)setenv("LOCH_PEERS_000000000000000000000000000000AA", "127.0.0.1:7", 1);
    struct loch_config *c = load_good(good, options);
    assert_int_equal(loch_config_u64(c, "limits", "count"), 3);     /* option over environment */
    assert_int_equal(loch_config_u64(c, "limits", "memory"), 2048); /* environment over file */
    assert_int_equal(loch_config_u64(c, "limits", "time-out"), 120000);
    assert_int_equal(loch_config_each(c, "peers", see_peer, seen), 3);
    assert_string_equal(seen, "aa=127.0.0.1:7 bb=127.0.0.1:9 cc=127.0.0.1:8 ");
    loch_config_destroy(c);
    (void)unsetenv("LOCH_LIMITS_COUNT");
    (void)unsetenv("LOCH_LIMITS_TIME_OUT");
    (void)unsetenv("LOCH_LIMITS_MEMORY");
    (void)unsetenv("LOCH_PEERS_000000000000000000000000000000AA");
}

struct wrong {
    const char *text, *option, *want;
};

#define HEAD "[daemon]\ndir=/d\n[node]\nid=00112233445566778899aabbccddeeff\n"

static void errors(void **state)
{
    static const struct wrong wrong[] = {
        {"[daemon]\ndir=/d\n", NULL, "setting \"id\" in section [node] must be given"},
        {HEAD "[limits]\nmemry=1\n", NULL, ":6: there is no setting \"memry\" in section [limits]"},
        {HEAD "[limit]\nmemory=1\n", NULL, ":6: there is no section [limit]"},
        {HEAD "nonsense\n", NULL, ":5: neither"},
        {HEAD "[limits]\ncount=101\n", NULL, ":6: limits.count: 101 is above the maximum 100"},
        {HEAD "[limits]\ncount=x\n", NULL, "\"x\" is not a number"},
        {HEAD "[limits]\ncount=-1\n", NULL, "\"-1\" is not a number"},
        {HEAD "[limits]\ncount=\n", NULL, "\"\" is not a number"},
        {HEAD "[limits]\ncount=99999999999999999999999\n", NULL, "is too large"},
        {HEAD "[limits]\nmemory=99999999999999GiB\n", NULL, "is too large"},
        {HEAD "[limits]\nmemory=12\n", NULL, "12 is below the minimum 1024"},
        {HEAD "[limits]\nmemory=12 parsecs\n", NULL, "its unit is unknown"},
        {HEAD "[limits]\nstrict=maybe\n", NULL, "neither true nor false"},
        {HEAD "[limits]\nstrict=on\nstrict=off\n", NULL, ":7: limits.strict is given twice"},
        {HEAD "[node]\nname = abc\n  def\n", NULL, ":7: node.name: "}, /* 5 bytes at most */
        {HEAD " [node]\nname = abc\n", NULL, ":5: a line that begins with a space"},
        {HEAD "[limits]\ncount = 1\n strict = on\n", NULL, ":7: a line that begins with a space"},
        {HEAD "address=7001\n", NULL, "is not an address"},
        {HEAD "address=::1:7001\n", NULL, "want [v6]:port"},
        {HEAD "address=h:70000\n", NULL, "is not an address"},
        {HEAD "name=x\n", NULL, "1 is below the minimum 2"},
        {HEAD "name=toolong\n", NULL, "7 is above the maximum 5"},
        {HEAD "[peers]\nabc=127.0.0.1:1\n", NULL, ":6: \"abc\" in [peers] is not an id"},
        {"[node]\nid=00112233\n", NULL, ":2: node.id: want 32 hex digits"},
        {"[daemon]\ndir=relative\n", NULL, ":2: daemon.dir: \"relative\" is not an absolute path"},
        {HEAD "[daemon]\nlog=loud\n", NULL, "\"loud\" is none of debug|info|warn|error"},
        {HEAD, "--limits.count=1000", "option --limits.count: limits.count: 1000 is above"},
        {HEAD, "--limits.cuont=1", "option --limits.cuont: there is no setting"},
        {HEAD, "--verbose", "option --verbose is unknown"},
        {HEAD, "--limits=5", "option --limits=5 is unknown"},
        {HEAD, "stray", "\"stray\" is not an option"},
        {HEAD, "--config", "option --config wants a file"},
        {HEAD, "--config=/nonexistent/x.ini", "cannot read the configuration /nonexistent/x.ini"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const char *options[] = {wrong[i].option, NULL};
        enum loch_config_verdict verdict = LOCH_CONFIG_RUN;
        struct loch_config *c = NULL;
        loch_status st = load_text(wrong[i].text, options, &verdict, &c);
        if (st.code != LOCH_E_INVALID || strstr(loch_error_text(), wrong[i].want) == NULL)
            fail_msg("case %zu: wanted \"%s\", got %d \"%s\"", i, wrong[i].want, st.code,
                     loch_error_text());
        assert_null(c);
    }
}

static void long_line(void **state)
{
    char text[1000];
    enum loch_config_verdict verdict;
    struct loch_config *c = NULL;
    (void)state;
    (void)snprintf(text, sizeof text, "%s[limits]\n#%0*d\n", HEAD, 900, 0);
    assert_code(load_text(text, NULL, &verdict, &c), LOCH_E_INVALID);
    assert_non_null(strstr(loch_error_text(), ":6: the line is too long"));
}

static void a_value_goes_on(void **state)
{
    char text[12000];
    enum loch_config_verdict verdict;
    struct loch_config *c = NULL;

    (void)state;
    (void)snprintf(text, sizeof text, "%s[node]\n  name = ab\n# between\n\tc\n  d\n", HEAD);
    c = load_good(text, NULL);
    assert_string_equal(loch_config_string(c, "node", "name"), "abcd");
    loch_config_destroy(c);
    c = NULL;
    size_t n = (size_t)snprintf(text, sizeof text, "%s[node]\nname = ab\n", HEAD);
    for (int i = 0; i < 90; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, " %0100d\n", 0);
    assert_code(load_text(text, NULL, &verdict, &c), LOCH_E_INVALID);
}

static void help_and_check(void **state)
{
    enum loch_config_verdict verdict = LOCH_CONFIG_RUN;
    struct loch_config *c = NULL;
    (void)state;
    assert_ok(load_text("", (const char *const[]){"--help", NULL}, &verdict, &c));
    assert_int_equal(verdict, LOCH_CONFIG_EXIT);
    assert_null(c);
    assert_non_null(strstr(printed, "--limits.memory=BYTES"));
    assert_non_null(strstr(printed, "Default: 64MiB."));
    assert_non_null(strstr(printed, "--peers.ID=HOST:PORT"));
    assert_non_null(strstr(printed, "Must be given."));
    verdict = LOCH_CONFIG_RUN;
    assert_ok(load_text("", (const char *const[]){"--version", NULL}, &verdict, &c));
    assert_int_equal(verdict, LOCH_CONFIG_EXIT);
    assert_non_null(strstr(printed, "loch-test " LOCH_VERSION));
    verdict = LOCH_CONFIG_RUN;
    assert_ok(load_text(good, (const char *const[]){"--check-config", NULL}, &verdict, &c));
    assert_int_equal(verdict, LOCH_CONFIG_EXIT);
    assert_non_null(strstr(printed, "the configuration is good"));
    assert_code(load_text("", (const char *const[]){"--check-config", NULL}, &verdict, &c),
                LOCH_E_INVALID);
}

static void one_daemon_a_directory(void **state)
{
    char dir[] = "/tmp/io-lock-XXXXXX";
    char want[100];
    char file[64];
    int fd = -1;
    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_ok(loch_daemon_lock_dir(dir, &fd));
    pid_t child = fork();
    if (child == 0) {
        int other = -1;
        loch_status st = loch_daemon_lock_dir(dir, &other);
        (void)snprintf(want, sizeof want, "data directory %s is in use by process %d", dir,
                       (int)getppid());
        _exit(st.code == LOCH_E_EXISTS && strcmp(loch_error_text(), want) == 0 ? 0 : 1);
    }
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    (void)close(fd); /* as when the process ends, however it ends */
    assert_ok(loch_daemon_lock_dir(dir, &fd));
    (void)close(fd);
    (void)snprintf(file, sizeof file, "%s/daemon.pid", dir);
    (void)unlink(file);
    (void)rmdir(dir);
    assert_code(loch_daemon_lock_dir("/nonexistent", &fd), LOCH_E_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),
        cmocka_unit_test(order_of_worth),
        cmocka_unit_test(errors),
        cmocka_unit_test(long_line),
        cmocka_unit_test(a_value_goes_on),
        cmocka_unit_test(help_and_check),
        cmocka_unit_test(one_daemon_a_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
