/* The console: words and patterns, libpq and psql against a running one, garbage, strangers. */
#include "../unit.h"

#include "console_words.h"
#include "loch/base/log.h"
#include "loch/host/console.h"

#include <errno.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- words and patterns ---- */
static void splitting(void **state)
{
    struct console_words w;
    (void)state;
    assert_ok(console_words_split("  CREATE tenant 'it''s me' \"a b\"\n;; ", &w));
    assert_int_equal(w.count, 4);
    assert_string_equal(w.word[1].text, "tenant");
    assert_string_equal(w.word[2].text, "it's me");
    assert_true(w.word[2].quoted);
    assert_string_equal(w.word[3].text, "a b");
    console_words_fini(&w);
    assert_ok(console_words_split(" ;", &w));
    assert_int_equal(w.count, 0);
    assert_ok(console_words_split("a'b'''c", &w));
    assert_int_equal(w.count, 3); /* a, b', then an open quote would not be: 'b''' is b' */
    console_words_fini(&w);
    assert_code(console_words_split("a 'b", &w), LOCH_E_INVALID);
    assert_code(console_words_split("a 'b''", &w), LOCH_E_INVALID);
    assert_code(console_words_split("a; b", &w), LOCH_E_INVALID);
    char many[300];
    memset(many, 0, sizeof many);
    for (size_t i = 0; i < 130; i++)
        many[i] = i % 2 ? ' ' : 'x';
    assert_code(console_words_split(many, &w), LOCH_E_INVALID);
}

static void assert_match(const char *pattern, const char *text, const char *name, const char *want)
{
    struct console_words w;
    assert_ok(console_words_split(text, &w));
    const char *got = console_words_match(pattern, &w, name);
    if (want == NULL)
        assert_null(got);
    else if (name == NULL)
        assert_non_null(got);
    else if (got == NULL)
        fail_msg("%s has no %s under %s", text, name, pattern);
    else
        assert_string_equal(got, want);
    console_words_fini(&w);
}

static void matching(void **state)
{
    const char *p = "CREATE BRANCH <name> [FROM <parent>] [AT <lsn>]";
    (void)state;
    assert_match(p, "create Branch x", NULL, "");
    assert_match(p, "create Branch x", "name", "x");
    assert_match(p, "create branch x", "lsn", NULL);
    assert_match(p, "create branch x at 0/1", "lsn", "0/1");
    assert_match(p, "create branch x at 0/1", "parent", NULL);
    assert_match(p, "create branch x from main at 0/1", "parent", "main");
    assert_match(p, "create branch from from from", "name", "from");
    assert_match(p, "create branch from from from", "parent", "from");
    assert_match(p, "create branch", NULL, NULL);
    assert_match(p, "create branch x at", NULL, NULL);
    assert_match(p, "create branch x at 0/1 from main", NULL, NULL);
    assert_match(p, "create branch x y", NULL, NULL);
    assert_match(p, "create 'branch' x", NULL, NULL); /* quoted words are no keywords */
    assert_match(p, "create branch 'from'", "name", "from");
    assert_match(p, "creat branch x", NULL, NULL);
    assert_match("SHOW X [<n>]", "show x", NULL, "");
    assert_match("SHOW X [<n>]", "show x 5", "n", "5");
}

/* ---- a running console ---- */
static struct loch_env *env;
static struct loch_console *console;
static char dir[64];
static char socket_path[128];
static struct loch_console_request *parked;
static unsigned parked_count;

static void run_echo(void *arg, struct loch_console_request *r)
{
    static const char *const columns[] = {"word", "more", "nothing"};
    (void)arg;
    loch_console_columns(r, columns, 3);
    loch_console_row(
        r, (const char *const[]){loch_console_arg(r, "word"), loch_console_arg(r, "more"), NULL});
    loch_console_row(r, (const char *const[]){"second", "", loch_console_text(r)});
    loch_console_done(r, NULL);
}

static void answer_parked(void *arg)
{
    (void)arg;
    loch_console_answer(parked, "later", "%d", 42);
    loch_console_done(parked, NULL);
    parked = NULL;
}

static void run_later(void *arg, struct loch_console_request *r)
{
    struct loch_timer *t = NULL;
    (void)arg;
    parked = r;
    parked_count++;
    assert_ok(loch_env_timer(env, 50, &t, answer_parked, NULL));
}

static void run_fail(void *arg, struct loch_console_request *r)
{
    uint64_t n = 0;
    struct loch_id id;
    loch_lsn lsn;
    (void)arg;
    loch_status st = loch_console_arg_u64(r, "n", &n);
    if (loch_is_ok(st) && n == 1)
        st = loch_console_arg_id(r, "n", &id);
    if (loch_is_ok(st) && n == 2)
        st = loch_console_arg_lsn(r, "n", &lsn);
    if (loch_is_ok(st))
        st = LOCH_FAIL(LOCH_E_EXISTS, "there are %d already", (int)n);
    loch_console_fail(r, st);
}

static void run_flood(void *arg, struct loch_console_request *r)
{
    static const char *const column[] = {"x"};
    uint64_t rows = 0;
    char *kilobyte = malloc(1025);
    (void)arg;
    assert_non_null(kilobyte);
    memset(kilobyte, 'x', 1024);
    kilobyte[1024] = '\0';
    loch_status st = loch_console_arg_u64(r, "rows", &rows);
    assert_ok(st);
    loch_console_columns(r, column, 1);
    for (uint64_t i = 0; i < rows; i++)
        loch_console_row(r, (const char *const[]){kilobyte});
    free(kilobyte);
    loch_console_done(r, NULL);
}

static void run_plain(void *arg, struct loch_console_request *r)
{
    (void)arg;
    loch_console_done(r, "PLAIN");
}

static const struct loch_console_command commands[] = {
    {"ECHO <word> [WITH <more>]", "Says it again.", run_echo},
    {"LATER", "Answers later.", run_later},
    {"FAIL <n>", "Fails.", run_fail},
    {"FLOOD <rows>", "A lot.", run_flood},
    {"PLAIN", "No rows.", run_plain},
};

static int begin(void **state)
{
    (void)state;
    (void)strcpy(dir, "/tmp/io-console-XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    (void)snprintf(socket_path, sizeof socket_path, "%s/.s.PGSQL.7101", dir);
    assert_ok(loch_env_real_create(&env));
    assert_ok(loch_console_listen(env, socket_path, commands, sizeof commands / sizeof commands[0],
                                  NULL, &console));
    return 0;
}

static int end(void **state)
{
    (void)state;
    loch_console_close(console);
    loch_env_real_destroy(env);
    assert_int_not_equal(access(socket_path, F_OK), 0);
    return rmdir(dir);
}

/* Clients run on a thread of their own and write what they saw into a text. */
struct client {
    void (*run)(struct client *c);
    char saw[4096];
};

static void saw(struct client *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void saw(struct client *c, const char *fmt, ...)
{
    size_t n = strlen(c->saw);
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(c->saw + n, sizeof c->saw - n, fmt, args);
    va_end(args);
}

static void stop(void *arg)
{
    (void)arg;
    loch_env_stop(env);
}

static void *client_main(void *arg)
{
    struct client *c = arg;
    c->run(c);
    loch_env_post(env, stop, NULL);
    return NULL;
}

static void give_up(void *arg)
{
    (void)arg;
    (void)fprintf(stderr, "the client does not come to its end\n");
    abort();
}

static const char *run_client(void (*run)(struct client *c))
{
    static struct client c;
    pthread_t thread;
    struct loch_timer *limit = NULL;
    memset(&c, 0, sizeof c);
    c.run = run;
    assert_ok(loch_env_timer(env, 30000, &limit, give_up, NULL));
    assert_int_equal(pthread_create(&thread, NULL, client_main, &c), 0);
    loch_env_run(env);
    (void)pthread_join(thread, NULL);
    loch_timer_cancel(limit);
    return c.saw;
}

static PGconn *login(struct client *c)
{
    char info[256];
    (void)snprintf(info, sizeof info, "host=%s port=7101 dbname=loch user=me", dir);
    PGconn *conn = PQconnectdb(info);
    if (PQstatus(conn) != CONNECTION_OK)
        saw(c, "no connection: %s", PQerrorMessage(conn));
    return conn;
}

static void query(struct client *c, PGconn *conn, const char *text)
{
    PGresult *r = PQexec(conn, text);
    const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
    const char *hint = PQresultErrorField(r, PG_DIAG_MESSAGE_HINT);
    if (PQresultStatus(r) == PGRES_TUPLES_OK) {
        for (int row = 0; row < PQntuples(r) && row < 10; row++) {
            for (int col = 0; col < PQnfields(r); col++)
                saw(c, "%s=%.40s,", PQfname(r, col),
                    PQgetisnull(r, row, col) ? "NULL" : PQgetvalue(r, row, col));
            saw(c, "|");
        }
        saw(c, "%s\n", PQcmdStatus(r));
    } else if (PQresultStatus(r) == PGRES_COMMAND_OK) {
        saw(c, "%s\n", PQcmdStatus(r));
    } else if (PQresultStatus(r) == PGRES_EMPTY_QUERY) {
        saw(c, "empty\n");
    } else {
        saw(c, "%s %s%s%s\n", state ? state : "-", message ? message : PQerrorMessage(conn),
            hint ? " / " : "", hint ? hint : "");
    }
    PQclear(r);
}

/* Asked three times before it lets a command that has a <word> pass. */
static unsigned asked;
static bool hold(void *arg, const struct loch_console_request *r)
{
    (void)arg;
    return loch_console_arg(r, "word") != NULL && ++asked < 3;
}

static void holding_client(struct client *c)
{
    PGconn *conn = login(c);
    query(c, conn, "plain");
    query(c, conn, "echo x");
    PQfinish(conn);
}

static void a_command_is_held_back(void **state)
{
    (void)state;
    asked = 0;
    loch_console_hold(console, hold);
    assert_string_equal(run_client(holding_client),
                        "PLAIN\nword=x,more=NULL,nothing=NULL,|word=second,more=,nothing=echo "
                        "x,|SELECT 2\n");
    assert_int_equal(asked, 3);
    loch_console_hold(console, NULL);
    assert_string_equal(run_client(holding_client),
                        "PLAIN\nword=x,more=NULL,nothing=NULL,|word=second,more=,nothing=echo "
                        "x,|SELECT 2\n");
    assert_int_equal(asked, 3);
}

static void libpq_client(struct client *c)
{
    PGconn *conn = login(c);
    query(c, conn, "echo 'it''s' with more;");
    query(c, conn, "ECHO x");
    query(c, conn, "plain");
    query(c, conn, ";");
    query(c, conn, "fail 5");
    query(c, conn, "fail x");
    query(c, conn, "fail 1");
    query(c, conn, "fail 2");
    query(c, conn, "echo");
    query(c, conn, "drop everything");
    query(c, conn, "echo 'open");
    query(c, conn, "plain; plain");
    query(c, conn, "later");
    query(c, conn, "flood 3000");
    query(c, conn, "flood 20000");
    query(c, conn, "plain");
    PQfinish(conn);
}

static void with_libpq(void **state)
{
    (void)state;
    const char *got = run_client(libpq_client);
    const char *want = "word=it's,more=more,nothing=NULL,|word=second,more=,nothing=echo 'it''s' "
                       "with more;,|SELECT 2\n"
                       "word=x,more=NULL,nothing=NULL,|word=second,more=,nothing=ECHO x,|SELECT 2\n"
                       "PLAIN\n"
                       "empty\n"
                       "42710 there are 5 already\n"
                       "22023 <n>: \"x\" is not a number\n"
                       "22023 <n>: \"1\" is not an id of 32 hex digits\n"
                       "22023 <n>: \"2\" is not an LSN (want X/X in hex digits)\n"
                       "42601 there is no such command / Did you mean: ECHO <word> [WITH <more>]\n"
                       "42601 there is no such command / SHOW HELP lists the commands.\n"
                       "42601 a quote is not closed\n"
                       "42601 one command at a time, please\n"
                       "later=42,|SELECT 1\n";
    if (strncmp(got, want, strlen(want)) != 0)
        fail_msg("got:\n%s", got);
    assert_non_null(strstr(got, "|SELECT 3000\n54000 the answer is too long\nPLAIN\n"));
}

static void extended_client(struct client *c)
{
    PGconn *conn = login(c);
    PGresult *r = PQexecParams(conn, "plain", 0, NULL, NULL, NULL, NULL, 0);
    saw(c, "%s ", PQresultErrorField(r, PG_DIAG_SQLSTATE));
    PQclear(r);
    r = PQprepare(conn, "s", "plain", 0, NULL);
    saw(c, "%s ", PQresultErrorField(r, PG_DIAG_SQLSTATE));
    PQclear(r);
    query(c, conn, "plain"); /* and it goes on */
    PQfinish(conn);
}

static void extended_protocol_is_refused(void **state)
{
    (void)state;
    assert_string_equal(run_client(extended_client), "0A000 0A000 PLAIN\n");
}

/* Leaves while its command runs: the answer goes nowhere, the console goes on. */
static void leaving_client(struct client *c)
{
    PGconn *conn = login(c);
    saw(c, "%d ", PQsendQuery(conn, "later"));
    (void)PQflush(conn);
    (void)usleep(20000);
    PQfinish(conn);
    (void)usleep(100000);
    conn = login(c);
    query(c, conn, "plain");
    PGcancel *cancel = PQgetCancel(conn);
    char error[256] = "";
    if (cancel != NULL)
        (void)PQcancel(cancel, error, sizeof error);
    PQfreeCancel(cancel);
    query(c, conn, "plain");
    PQfinish(conn);
}

static void client_that_leaves(void **state)
{
    (void)state;
    parked_count = 0;
    assert_string_equal(run_client(leaving_client), "1 PLAIN\nPLAIN\n");
    assert_int_equal(parked_count, 1);
    assert_null(parked);
}

static int raw_connect(void)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    (void)strcpy(sa.sun_path, socket_path);
    return connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0 ? fd : -1;
}

/* What is answered to `bytes`: its first byte, '.' for a clean end without one, '!' for a reset. */
static char raw_answer(const void *bytes, size_t len)
{
    char got[4096];
    int fd = raw_connect();
    (void)send(fd, bytes, len, MSG_NOSIGNAL);
    (void)shutdown(fd, SHUT_WR);
    ssize_t n = recv(fd, got, sizeof got, 0);
    char first = n > 0 ? got[0] : n == 0 ? '.' : '!';
    while (n > 0)
        n = recv(fd, got, sizeof got, 0);
    (void)close(fd);
    return first;
}

static void garbage_client(struct client *c)
{
    static const uint8_t ssl[] = {0, 0, 0, 8, 4, 210, 22, 47};
    static const uint8_t gss[] = {0, 0, 0, 8, 4, 210, 22, 48};
    static const uint8_t old[] = {0, 0, 0, 8, 0, 2, 0, 0};
    static const uint8_t hello[] = {0, 0, 0, 9, 0, 3, 0, 0, 0};
    static const uint8_t newer[] = {0, 0, 0, 9, 0, 3, 0, 2, 0};
    static const uint8_t huge[] = {0, 0, 0, 9, 0, 3, 0, 0, 0, 'Q', 0x7f, 0xff, 0xff, 0xff};
    static const uint8_t tiny[] = {0, 0, 0, 9, 0, 3, 0, 0, 0, 'Q', 0, 0, 0, 3};
    static const uint8_t open[] = {0, 0, 0, 9, 0, 3, 0, 0, 0, 'Q', 0, 0, 0, 5, 'x'};
    static const uint8_t odd[] = {0, 0, 0, 9, 0, 3, 0, 0, 0, '?', 0, 0, 0, 4};
    saw(c, "%c", raw_answer(ssl, sizeof ssl));
    saw(c, "%c", raw_answer(gss, sizeof gss));
    saw(c, "%c", raw_answer(old, sizeof old));
    saw(c, "%c", raw_answer(hello, sizeof hello));
    saw(c, "%c", raw_answer(newer, sizeof newer));
    saw(c, "%c", raw_answer(huge, sizeof huge));
    saw(c, "%c", raw_answer(tiny, sizeof tiny));
    saw(c, "%c", raw_answer(open, sizeof open));
    saw(c, "%c", raw_answer(odd, sizeof odd));
    uint8_t noise[5000];
    for (int round = 0; round < 200; round++) {
        for (size_t i = 0; i < sizeof noise; i++)
            noise[i] = (uint8_t)(random() >> 7);
        (void)raw_answer(noise, (size_t)random() % sizeof noise);
        /* and after a good beginning */
        memcpy(noise, hello, sizeof hello);
        (void)raw_answer(noise, (size_t)random() % sizeof noise);
    }
    PGconn *conn = login(c);
    query(c, conn, "plain");
    PQfinish(conn);
}

static void garbage(void **state)
{
    (void)state;
    /* NN: no SSL, no GSS; E: version 2; R: welcome (five times); v: welcome, but to version 3.0 */
    assert_string_equal(run_client(garbage_client), "NNERvRRRRPLAIN\n");
}

static void stranger_client(struct client *c)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        char info[256];
        if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0)
            _exit(3);
        (void)snprintf(info, sizeof info, "host=%s port=7101 dbname=loch user=me", dir);
        PGconn *conn = PQconnectdb(info);
        bool refused = PQstatus(conn) != CONNECTION_OK &&
                       strstr(PQerrorMessage(conn), "only the daemon's own user") != NULL;
        _exit(refused ? 0 : 1);
    }
    (void)waitpid(child, &status, 0);
    saw(c, "%d", status);
}

static void strangers_are_refused(void **state)
{
    struct stat sb;
    (void)state;
    assert_int_equal(stat(socket_path, &sb), 0);
    assert_int_equal(sb.st_mode & 0777, 0600);
    if (geteuid() != 0)
        skip();
    /* Even where the file's mode would let them in. */
    assert_int_equal(chmod(dir, 0755), 0);
    assert_int_equal(chmod(socket_path, 0666), 0);
    assert_string_equal(run_client(stranger_client), "0");
}

static void psql_client(struct client *c)
{
    char command[400];
    char line[256];
    (void)snprintf(
        command, sizeof command,
        "PGSSLMODE=prefer psql -X -A -t 'host=%s port=7101 dbname=loch user=me' -c 'SHOW HELP' "
        "-c \"ECHO 'a b'\" 2>&1; echo \"status $?\"",
        dir);
    FILE *p = popen(command, "r");
    while (p != NULL && fgets(line, sizeof line, p) != NULL)
        saw(c, "%s", line);
    if (p != NULL)
        (void)pclose(p);
}

static void with_psql(void **state)
{
    (void)state;
    const char *got = run_client(psql_client);
    if (strstr(got, "not found") != NULL)
        skip();
    if (strstr(got, "ECHO <word> [WITH <more>]|Says it again.\n") == NULL ||
        strstr(got, "SHOW HELP|Lists the commands.\na b||\n") == NULL ||
        strstr(got, "status 0\n") == NULL)
        fail_msg("got:\n%s", got);
}

static void sockets_left_behind(void **state)
{
    struct loch_console *other = NULL;
    char path[200];
    (void)state;
    assert_code(loch_console_listen(env, socket_path, commands, 1, NULL, &other), LOCH_E_EXISTS);
    /* A dead process's socket is replaced; other files are not. */
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    (void)snprintf(sa.sun_path, sizeof sa.sun_path, "%s/dead", dir);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    (void)close(fd);
    assert_ok(loch_console_listen(env, sa.sun_path, commands, 1, NULL, &other));
    loch_console_close(other);
    loch_console_close(NULL);
    (void)snprintf(path, sizeof path, "%s/file", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    (void)fclose(f);
    assert_code(loch_console_listen(env, path, commands, 1, NULL, &other), LOCH_E_INVALID);
    (void)unlink(path);
    memset(path, 'x', 150);
    path[150] = '\0';
    assert_code(loch_console_listen(env, path, commands, 1, NULL, &other), LOCH_E_INVALID);
}

int main(void)
{
#define T(name_) cmocka_unit_test_setup_teardown(name_, begin, end)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(splitting),
        cmocka_unit_test(matching),
        T(a_command_is_held_back),
        T(with_libpq),
        T(extended_protocol_is_refused),
        T(client_that_leaves),
        T(garbage),
        T(strangers_are_refused),
        T(with_psql),
        T(sockets_left_behind),
    };
    loch_log_init("test", LOCH_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
