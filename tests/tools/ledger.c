/* ledger: a bank whose clients remember what was acknowledged to them.
 *
 *   ledger init --url U [--accounts N]
 *     makes tables and money
 *   ledger run --url U --state DIR [--clients N] [--seconds S] [--stop-file F] [--think-ms N]
 *     transfers; every acknowledged one is appended to DIR/client-N, as "seq begun acknowledged"
 * (us of the monotonic clock), before the client's next one begins; prints one JSON object ledger
 * check --url U --state DIR [--accounts N] every acknowledged transfer is there, and after all that
 * were acknowledged before it began (its transaction id is higher); the sum is what it was;
 * sequential, index and index-only scans count the same; prints one JSON object
 *
 * A connection that breaks is not an error: the client reconnects and goes on with the next number
 * (the outcome of the one in flight is unknown). An error answer from a live server is one.
 */
#include <errno.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define OPENING_BALANCE 1000

struct options {
    const char *url, *state, *stop_file;
    int accounts, clients, seconds, think_ms;
};

struct client {
    const struct options *o;
    pthread_t thread;
    int number;
    long acked, errors, reconnects;
    double stall_ms; /* longest time between two acknowledgements */
    char first_error[300];
};

static atomic_bool stopping;

static double now_ms(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static void pause_ms(long ms)
{
    struct timespec ts = {ms / 1000, (ms % 1000) * 1000000};
    (void)nanosleep(&ts, NULL);
}

static _Noreturn void die(const char *what, const char *why)
{
    (void)fprintf(stderr, "ledger: %s: %s\n", what, why);
    exit(1);
}

static PGconn *connect_or_die(const struct options *o)
{
    PGconn *conn = PQconnectdb(o->url);
    if (PQstatus(conn) != CONNECTION_OK)
        die("connect", PQerrorMessage(conn));
    return conn;
}

static void exec_or_die(PGconn *conn, const char *sql)
{
    PGresult *res = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(res);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        die(sql, PQerrorMessage(conn));
    PQclear(res);
}

static long number_or_die(PGconn *conn, const char *sql)
{
    PGresult *res = PQexec(conn, sql);
    if (PQresultStatus(res) != PGRES_TUPLES_OK || PQntuples(res) != 1)
        die(sql, PQerrorMessage(conn));
    long v = atol(PQgetvalue(res, 0, 0));
    PQclear(res);
    return v;
}

static int init(const struct options *o)
{
    char sql[300];
    PGconn *conn = connect_or_die(o);

    exec_or_die(conn, "DROP TABLE IF EXISTS accounts, transfers");
    exec_or_die(conn,
                "CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL, note text)");
    exec_or_die(conn, "CREATE TABLE transfers (client int, seq bigint, debit int, credit int, "
                      "amount bigint, pad text, PRIMARY KEY (client, seq))");
    exec_or_die(conn, "CREATE INDEX transfers_debit ON transfers (debit)");
    (void)snprintf(
        sql, sizeof sql,
        "INSERT INTO accounts SELECT g, %d, repeat('x', 60) FROM generate_series(1, %d) g",
        OPENING_BALANCE, o->accounts);
    exec_or_die(conn, sql);
    PQfinish(conn);
    return 0;
}

/* One transfer. 1: acknowledged, 0: the server refused it, -1: the connection broke. */
static int transfer(struct client *c, PGconn *conn, long seq, unsigned *seed)
{
    char sql[700];
    int debit = 1 + (int)((unsigned)rand_r(seed) % (unsigned)c->o->accounts);
    int credit = 1 + (int)((unsigned)rand_r(seed) % (unsigned)c->o->accounts);
    int amount = 1 + rand_r(seed) % 50;

    /* One simple-query message is one transaction; ordered updates cannot deadlock. */
    (void)snprintf(sql, sizeof sql,
                   "UPDATE accounts SET balance = balance + CASE WHEN id = %d THEN -%d ELSE 0 END "
                   "+ CASE WHEN id = %d THEN %d ELSE 0 END WHERE id = %d;"
                   "UPDATE accounts SET balance = balance + CASE WHEN id = %d THEN -%d ELSE 0 END "
                   "+ CASE WHEN id = %d THEN %d ELSE 0 END WHERE id = %d AND id <> %d;"
                   "INSERT INTO transfers VALUES (%d, %ld, %d, %d, %d, repeat('p', 40))",
                   debit, amount, credit, amount, debit < credit ? debit : credit, debit, amount,
                   credit, amount, debit < credit ? credit : debit, debit < credit ? debit : credit,
                   c->number, seq, debit, credit, amount);
    PGresult *res = PQexec(conn, sql);
    bool ok = PQresultStatus(res) == PGRES_COMMAND_OK;
    const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    /* Class 57P: the server is being stopped, which breaks the connection next. */
    bool broken = PQstatus(conn) != CONNECTION_OK || (state && strncmp(state, "57P", 3) == 0);
    if (!ok && !broken && c->errors++ == 0)
        (void)snprintf(c->first_error, sizeof c->first_error, "%s", PQresultErrorMessage(res));
    PQclear(res);
    return ok ? 1 : broken ? -1 : 0;
}

static long last_seq(FILE *f)
{
    long seq = 0;
    long v;
    while (fscanf(f, "%ld %*d %*d", &v) == 1)
        seq = v > seq ? v : seq;
    return seq;
}

static void *client_main(void *arg)
{
    struct client *c = arg;
    char path[600];
    unsigned seed = (unsigned)c->number * 7919u + (unsigned)time(NULL);
    PGconn *conn = NULL;

    (void)snprintf(path, sizeof path, "%s/client-%d", c->o->state, c->number);
    FILE *f = fopen(path, "a+");
    if (f == NULL)
        die(path, strerror(errno));
    rewind(f);
    /* Numbers whose outcome is unknown are never used again: leave a gap after every restart. */
    long seq = last_seq(f) + 1000;
    double last_ack = now_ms();
    while (!atomic_load(&stopping)) {
        if (conn == NULL || PQstatus(conn) != CONNECTION_OK) {
            if (conn != NULL) {
                PQfinish(conn);
                c->reconnects++;
            }
            conn = PQconnectdb(c->o->url);
            if (PQstatus(conn) != CONNECTION_OK) {
                pause_ms(20);
                continue;
            }
        }
        double begun = now_ms();
        int rc = transfer(c, conn, ++seq, &seed);
        if (rc < 0) {
            PQfinish(conn);
            conn = NULL;
            c->reconnects++;
        }
        if (rc != 1)
            continue;
        double t = now_ms();
        (void)fprintf(f, "%ld %.0f %.0f\n", seq, begun * 1e3, t * 1e3);
        (void)fflush(f);
        c->stall_ms = t - last_ack > c->stall_ms ? t - last_ack : c->stall_ms;
        last_ack = t;
        c->acked++;
        if (c->o->think_ms > 0)
            pause_ms(c->o->think_ms);
    }
    double t = now_ms();
    c->stall_ms = t - last_ack > c->stall_ms ? t - last_ack : c->stall_ms;
    PQfinish(conn);
    (void)fclose(f);
    return NULL;
}

static int run(const struct options *o)
{
    struct client *clients = calloc((size_t)o->clients, sizeof *clients);
    long acked = 0;
    long errors = 0;
    long reconnects = 0;
    double stall = 0;
    const char *first_error = "";
    double until = now_ms() + o->seconds * 1000.0;

    for (int i = 0; i < o->clients; i++) {
        clients[i].o = o;
        clients[i].number = i;
        if (pthread_create(&clients[i].thread, NULL, client_main, &clients[i]) != 0)
            die("thread", "cannot be made");
    }
    while (now_ms() < until && !(o->stop_file && access(o->stop_file, F_OK) == 0))
        pause_ms(20);
    atomic_store(&stopping, true);
    for (int i = 0; i < o->clients; i++) {
        (void)pthread_join(clients[i].thread, NULL);
        acked += clients[i].acked;
        errors += clients[i].errors;
        reconnects += clients[i].reconnects;
        stall = clients[i].stall_ms > stall ? clients[i].stall_ms : stall;
        if (clients[i].first_error[0] && !first_error[0])
            first_error = clients[i].first_error;
    }
    if (first_error[0])
        (void)fprintf(stderr, "ledger: first error: %s", first_error);
    (void)printf(
        "{\"acked\": %ld, \"errors\": %ld, \"reconnects\": %ld, \"longest_stall_ms\": %.0f}\n",
        acked, errors, reconnects, stall);
    free(clients);
    return 0;
}

/* Puts one client's acknowledged numbers into a temporary table. */
static long load_acked(PGconn *conn, const char *state, int number)
{
    char path[600];
    char line[128];
    long v;
    long begun;
    long acked;
    long count = 0;

    (void)snprintf(path, sizeof path, "%s/client-%d", state, number);
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return -1;
    PGresult *res = PQexec(conn, "COPY acked FROM STDIN");
    PQclear(res);
    while (fscanf(f, "%ld %ld %ld", &v, &begun, &acked) == 3) {
        int n = snprintf(line, sizeof line, "%d\t%ld\t%ld\t%ld\n", number, v, begun, acked);
        if (PQputCopyData(conn, line, n) != 1)
            die("copy", PQerrorMessage(conn));
        count++;
    }
    (void)fclose(f);
    if (PQputCopyEnd(conn, NULL) != 1)
        die("copy", PQerrorMessage(conn));
    while ((res = PQgetResult(conn)) != NULL) {
        if (PQresultStatus(res) != PGRES_COMMAND_OK)
            die("copy", PQerrorMessage(conn));
        PQclear(res);
    }
    return count;
}

/* Acknowledged transfers whose transaction id is not above those of all that were acknowledged
 * before they began: an id that was given twice, or a log that was cut and written anew, shows
 * here. */
static long out_of_order(PGconn *conn)
{
    return number_or_die(
        conn, "WITH held AS (SELECT a.begun, a.acked, t.xmin::text::bigint AS x FROM acked a "
              "JOIN transfers t USING (client, seq)), "
              "moments AS (SELECT acked AS at, x AS done, NULL::bigint AS x FROM held "
              "UNION ALL SELECT begun, NULL, x FROM held), "
              "seen AS (SELECT x, max(done) OVER (ORDER BY at) AS highest FROM moments) "
              "SELECT count(*) FROM seen WHERE x <= highest");
}

static int check(const struct options *o)
{
    PGconn *conn = connect_or_die(o);
    long acked = 0;

    exec_or_die(conn,
                "CREATE TEMP TABLE acked (client int, seq bigint, begun bigint, acked bigint)");
    for (int i = 0;; i++) {
        long n = load_acked(conn, o->state, i);
        if (n < 0)
            break;
        acked += n;
    }
    exec_or_die(conn, "ANALYZE acked");
    long missing = number_or_die(conn, "SELECT count(*) FROM acked a WHERE NOT EXISTS (SELECT FROM "
                                       "transfers t WHERE t.client = a.client AND t.seq = a.seq)");
    long disordered = out_of_order(conn);
    long sum = number_or_die(conn, "SELECT sum(balance) FROM accounts");
    exec_or_die(conn, "SET enable_indexscan = off; SET enable_indexonlyscan = off; "
                      "SET enable_bitmapscan = off");
    long seq_count = number_or_die(conn, "SELECT count(*) FROM transfers");
    long moved = number_or_die(conn, "SELECT count(*) FROM accounts");
    exec_or_die(conn, "RESET enable_indexonlyscan; SET enable_seqscan = off");
    long only_count = number_or_die(conn, "SELECT count(client) FROM transfers WHERE client >= 0");
    exec_or_die(conn, "SET enable_indexonlyscan = off; RESET enable_indexscan");
    long index_count = number_or_die(conn, "SELECT count(pad) FROM transfers WHERE client >= 0");
    PQfinish(conn);
    bool ok = missing == 0 && disordered == 0 && sum == (long)o->accounts * OPENING_BALANCE &&
              seq_count == only_count && seq_count == index_count && moved == o->accounts;
    (void)printf("{\"acked\": %ld, \"missing\": %ld, \"out_of_order\": %ld, \"sum\": %ld, "
                 "\"expected_sum\": %ld, \"seq\": %ld, "
                 "\"index_only\": %ld, \"index\": %ld, \"ok\": %s}\n",
                 acked, missing, disordered, sum, (long)o->accounts * OPENING_BALANCE, seq_count,
                 only_count, index_count, ok ? "true" : "false");
    return ok ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct options o = {.accounts = 1000, .clients = 8, .seconds = 20, .state = "."};

    if (argc < 2 || argc % 2 != 0)
        die("usage", "ledger init|run|check --url U [--state D] [--clients N] [--seconds S] "
                     "[--think-ms N] [--accounts N] [--stop-file F]");
    for (int i = 2; i < argc; i += 2) {
        if (strcmp(argv[i], "--url") == 0)
            o.url = argv[i + 1];
        else if (strcmp(argv[i], "--state") == 0)
            o.state = argv[i + 1];
        else if (strcmp(argv[i], "--stop-file") == 0)
            o.stop_file = argv[i + 1];
        else if (strcmp(argv[i], "--clients") == 0)
            o.clients = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--think-ms") == 0)
            o.think_ms = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--seconds") == 0)
            o.seconds = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--accounts") == 0)
            o.accounts = atoi(argv[i + 1]);
        else
            die("unknown option", argv[i]);
    }
    if (o.url == NULL)
        die("usage", "--url is missing");
    if (strcmp(argv[1], "init") == 0)
        return init(&o);
    if (strcmp(argv[1], "run") == 0)
        return run(&o);
    if (strcmp(argv[1], "check") == 0)
        return check(&o);
    die("unknown command", argv[1]);
}
