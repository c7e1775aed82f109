/* Holds: the writers of loch-bench ingest (a thread and a connection each), the probe that times
 * how far the pageserver is behind, and the branch and compute that both live on.
 *
 * The probe commits a record of its own and asks the pageserver's console until it has it: the time
 * from the commit's answer on is one lag. In the open loop a transaction's latency counts from when
 * it was due.
 */
#include "bench_ingest.h"
#include "bench_load.h"

#include <inttypes.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CATCH_UP_MS   120000u
#define PROBE_EACH_MS 50u
#define NAME_BYTES    40u

struct writer {
    struct ingest *run;
    unsigned index;
    PGconn *conn;
    pthread_t thread;
    uint64_t commits, late;
    struct loch_histogram latency;
    char error[300]; /* "": none */
};

struct ingest {
    const struct loch_ingest_order *order;
    char name[NAME_BYTES]; /* of the branch and of the compute */
    char exe[600];         /* of `loch`, beside this program */
    char url[400];
    PGconn *probe, *console;
    struct writer *writers;
    uint64_t start_ns, end_ns;
    atomic_uint writing; /* writers that have not ended */
    struct loch_histogram lag;
    loch_lsn first, last; /* what the load wrote */
    double load_s, ingest_s, cpu_s;
};

static const struct load {
    const char *name, *make, *statement;
} loads[] = {
    {"updates",
     "CREATE TABLE t (id int PRIMARY KEY, n int, pad text) WITH (fillfactor = 80); "
     "INSERT INTO t SELECT g, 0, repeat('x', 80) FROM generate_series(0, 9999) g",
     "UPDATE t SET n = n + 1 WHERE id = $1 % 10000"},
    {"rows", "CREATE TABLE t (id int, pad text)",
     "INSERT INTO t SELECT $1 + g, md5(g::text) || repeat('x', 60) "
     "FROM generate_series(1, 1000) g"},
};

static uint64_t now_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static const struct load *load_of(const struct loch_ingest_order *order)
{
    for (size_t i = 0; i < sizeof loads / sizeof loads[0]; i++)
        if (strcmp(loads[i].name, order->load) == 0)
            return &loads[i];
    return NULL;
}

loch_status loch_ingest_check(const struct loch_ingest_order *order)
{
    if (load_of(order) == NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "--load wants updates or rows");
    if (order->connections > LOCH_INGEST_WRITERS_MAX)
        return LOCH_FAIL(LOCH_E_INVALID, "ingest takes at most %u connections",
                         LOCH_INGEST_WRITERS_MAX);
    return LOCH_OK;
}

/* ---- the branch and the compute: `loch` makes and removes them ---- */

static loch_status find_loch(struct ingest *run)
{
    ssize_t n = readlink("/proc/self/exe", run->exe, sizeof run->exe - sizeof "loch");

    while (n > 0 && run->exe[n - 1] != '/')
        n--;
    if (n <= 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot tell where this program lies");
    memcpy(run->exe + n, "loch", sizeof "loch");
    return LOCH_OK;
}

/* What it prints goes nowhere, what it complains of to standard error. */
static loch_status loch_command(const struct ingest *run, const char *const words[])
{
    const char *argv[16];
    size_t n = 0;
    int status = 0;

    argv[n++] = run->exe;
    while (words[n - 1] != NULL) {
        argv[n] = words[n - 1];
        n++;
    }
    const char *const tail[] = {
        "--tenant", run->order->tenant, "--dir", run->order->cluster->dir, "--json", NULL};
    memcpy(argv + n, tail, sizeof tail);
    const pid_t pid = fork();
    if (pid == 0) {
        if (freopen("/dev/null", "w", stdout) != NULL)
            (void)execv(run->exe, (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return LOCH_FAIL(LOCH_E_IO, "cannot run %s", run->exe);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "loch %s %s %s failed", words[0], words[1], words[2]);
    return LOCH_OK;
}

/* Also what a failed start left. */
static void remove_all(const struct ingest *run)
{
    const char *const stop[] = {"compute", "stop", run->name, "--immediate", NULL};
    const char *const drop[] = {"branch", "delete", run->name, NULL};
    char note[700];

    loch_compute_note_path(run->order->cluster, run->name, note);
    if (access(note, F_OK) == 0 && !loch_is_ok(loch_command(run, stop)))
        (void)fprintf(stderr, "warning: compute %s stays: %s\n", run->name, loch_error_text());
    if (!loch_is_ok(loch_command(run, drop)))
        (void)fprintf(stderr, "warning: branch %s stays: %s\n", run->name, loch_error_text());
}

/* Where the compute listens, and with which password. */
static loch_status find_url(struct ingest *run)
{
    const struct loch_cluster *c = run->order->cluster;
    char path[700], password[128] = "";
    json_t *note = NULL;

    loch_compute_note_path(c, run->name, path);
    LOCH_TRY(loch_json_read(path, &note));
    const int port = (int)json_integer_value(json_object_get(note, "port"));
    json_decref(note);
    loch_password_path(c, run->order->tenant, path);
    FILE *f = fopen(path, "re");
    if (f != NULL) {
        if (fgets(password, sizeof password, f) == NULL)
            password[0] = '\0';
        (void)fclose(f);
    }
    (void)snprintf(run->url, sizeof run->url, "postgresql://postgres%s%s@127.0.0.1:%d/postgres",
                   password[0] != '\0' ? ":" : "", password, port);
    return LOCH_OK;
}

/* ---- SQL ---- */

static loch_status check_result(PGconn *conn, PGresult *res, bool rows)
{
    if (PQresultStatus(res) == (rows ? PGRES_TUPLES_OK : PGRES_COMMAND_OK))
        return LOCH_OK;
    char text[300];
    (void)snprintf(text, sizeof text, "%s", PQerrorMessage(conn));
    text[strcspn(text, "\n")] = '\0';
    return LOCH_FAIL(LOCH_E_UNAVAILABLE, "refused: %s", text);
}

static loch_status connect_to(const struct ingest *run, PGconn **out)
{
    *out = PQconnectdb(run->url);
    if (PQstatus(*out) != CONNECTION_OK)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the compute does not answer: %s",
                         PQerrorMessage(*out));
    return LOCH_OK;
}

/* One session at the pageserver's console: what a probe costs it is to be little. */
static loch_status open_console(struct ingest *run)
{
    const struct loch_cluster *c = run->order->cluster;
    char host[600], port[16];

    (void)snprintf(host, sizeof host, "%s/run", c->dir);
    (void)snprintf(port, sizeof port, "%d", loch_port_pageserver(c));
    const char *const keys[] = {"host", "port", "dbname", "user", NULL};
    const char *const values[] = {host, port, "loch", "loch", NULL};
    run->console = PQconnectdbParams(keys, values, 0);
    if (PQstatus(run->console) != CONNECTION_OK)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the pageserver's console does not answer: %s",
                         PQerrorMessage(run->console));
    return LOCH_OK;
}

/* Up to where the pageserver has the branch. */
static loch_status ingested_lsn(const struct ingest *run, loch_lsn *out)
{
    PGresult *res = PQexec(run->console, "SHOW TIMELINES");
    loch_status st = check_result(run->console, res, true);
    bool found = false;

    for (int i = 0; loch_is_ok(st) && i < PQntuples(res) && !found; i++) {
        found = strcmp(PQgetvalue(res, i, PQfnumber(res, "name")), run->name) == 0;
        if (found)
            st = loch_lsn_parse(PQgetvalue(res, i, PQfnumber(res, "last_record_lsn")), out);
    }
    PQclear(res);
    if (loch_is_ok(st) && !found)
        st = LOCH_FAIL(LOCH_E_NOT_FOUND, "the branch %s is gone", run->name);
    return st;
}

/* Commits a record; *lsn is its end. */
static loch_status commit_mark(PGconn *conn, loch_lsn *lsn)
{
    PGresult *res = PQexec(conn, "SELECT pg_logical_emit_message(true, '', '')");

    loch_status st = check_result(conn, res, true);
    if (loch_is_ok(st))
        st = loch_lsn_parse(PQgetvalue(res, 0, 0), lsn);
    PQclear(res);
    return st;
}

static loch_status execute(PGconn *conn, const char *sql)
{
    PGresult *res = PQexec(conn, sql);

    const loch_status st = check_result(conn, res, false);
    PQclear(res);
    return st;
}

/* A schema of its own, so that writers do not wait for each other. */
static loch_status prepare_writer(struct writer *w)
{
    const struct load *load = load_of(w->run->order);
    char sql[100];

    LOCH_TRY(connect_to(w->run, &w->conn));
    (void)snprintf(sql, sizeof sql, "CREATE SCHEMA bench_%u; SET search_path = bench_%u", w->index,
                   w->index);
    LOCH_TRY(execute(w->conn, sql));
    LOCH_TRY(execute(w->conn, load->make));
    PGresult *res = PQprepare(w->conn, "w", load->statement, 1, NULL);
    const loch_status st = check_result(w->conn, res, false);
    PQclear(res);
    return st;
}

static loch_status write_one(struct writer *w, uint64_t n)
{
    char text[24];
    const char *values[1] = {text};

    /* Spread over the table, the same in every run. */
    (void)snprintf(text, sizeof text, "%" PRIu64,
                   (n * UINT64_C(2654435761) + w->index) % UINT64_C(1000000000));
    PGresult *res = PQexecPrepared(w->conn, "w", 1, values, NULL, NULL, 0);
    const loch_status st = check_result(w->conn, res, false);
    PQclear(res);
    return st;
}

static void sleep_until(uint64_t ns)
{
    const struct timespec ts = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};

    (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

/* When the writer's transaction n is due; in the closed loop at once. */
static uint64_t due_ns(const struct writer *w, uint64_t n)
{
    const struct loch_ingest_order *o = w->run->order;

    if (o->rate == 0)
        return now_ns();
    return w->run->start_ns + (uint64_t)((double)(n * o->connections + w->index) / o->rate * 1e9);
}

static void *write_all(void *arg)
{
    struct writer *w = arg;
    uint64_t n = 0;

    for (uint64_t due; (due = due_ns(w, n)) < w->run->end_ns; n++) {
        if (now_ns() >= w->run->end_ns) {
            w->late++;
            continue;
        }
        sleep_until(due);
        if (!loch_is_ok(write_one(w, n))) {
            (void)snprintf(w->error, sizeof w->error, "%s", loch_error_text());
            break;
        }
        loch_histogram_add(&w->latency, now_ns() - due);
        w->commits++;
    }
    atomic_fetch_sub(&w->run->writing, 1);
    return NULL;
}

/* ---- the run ---- */

static loch_status wait_ingested(const struct ingest *run, loch_lsn lsn)
{
    const uint64_t until = loch_now_ms() + CATCH_UP_MS;
    loch_lsn at = LOCH_LSN_NONE;

    for (;;) {
        LOCH_TRY(ingested_lsn(run, &at));
        if (at >= lsn)
            return LOCH_OK;
        if (loch_now_ms() > until)
            return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                             "the pageserver has not ingested " LOCH_LSN_FMT
                             " after %u s (it is at " LOCH_LSN_FMT ")",
                             LOCH_LSN_ARG(lsn), CATCH_UP_MS / 1000, LOCH_LSN_ARG(at));
        loch_pause_ms(1);
    }
}

static loch_status probe_once(struct ingest *run, loch_lsn *lsn)
{
    LOCH_TRY(commit_mark(run->probe, lsn));
    const uint64_t committed = now_ns();
    LOCH_TRY(wait_ingested(run, *lsn));
    loch_histogram_add(&run->lag, now_ns() - committed);
    return LOCH_OK;
}

static loch_status start_writers(struct ingest *run)
{
    const unsigned count = run->order->connections;

    run->writers = calloc(count, sizeof *run->writers);
    if (run->writers == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %u writers", count);
    for (unsigned i = 0; i < count; i++) {
        run->writers[i].run = run;
        run->writers[i].index = i;
        LOCH_TRY(prepare_writer(&run->writers[i]));
    }
    LOCH_TRY(connect_to(run, &run->probe));
    LOCH_TRY(open_console(run));
    LOCH_TRY(probe_once(run, &run->first)); /* what was made so far is not the load's */
    run->lag = (struct loch_histogram){0};
    return LOCH_OK;
}

/* Starts the threads; probes until the last of them has ended. */
static loch_status load_all(struct ingest *run)
{
    const unsigned count = run->order->connections;
    unsigned started = 0;
    loch_status st = LOCH_OK;

    run->start_ns = now_ns();
    run->end_ns = run->start_ns + (uint64_t)(run->order->seconds * 1e9);
    atomic_store(&run->writing, count);
    while (started < count && pthread_create(&run->writers[started].thread, NULL, write_all,
                                             &run->writers[started]) == 0)
        started++;
    if (started < count) {
        atomic_fetch_sub(&run->writing, count - started);
        st = LOCH_FAIL(LOCH_E_NO_MEMORY, "cannot start %u threads", count);
    }
    while (loch_is_ok(st) && atomic_load(&run->writing) > 0) {
        st = probe_once(run, &run->last);
        loch_pause_ms(PROBE_EACH_MS);
    }
    for (unsigned i = 0; i < started; i++)
        (void)pthread_join(run->writers[i].thread, NULL);
    for (unsigned i = 0; i < started && loch_is_ok(st); i++)
        if (run->writers[i].error[0] != '\0')
            st = LOCH_FAIL(LOCH_E_UNAVAILABLE, "%s", run->writers[i].error);
    return st;
}

static loch_status load_and_wait(struct ingest *run)
{
    const struct loch_cluster *c = run->order->cluster;
    pid_t pid = 0;

    LOCH_TRY(start_writers(run));
    if (!loch_process_alive(c, "pageserver", &pid))
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the pageserver does not run: loch up");
    const double cpu = loch_cpu_seconds(pid);
    LOCH_TRY(load_all(run));
    run->load_s = (double)(now_ns() - run->start_ns) / 1e9;
    LOCH_TRY(commit_mark(run->probe, &run->last));
    LOCH_TRY(wait_ingested(run, run->last));
    run->ingest_s = (double)(now_ns() - run->start_ns) / 1e9;
    run->cpu_s = loch_cpu_seconds(pid) - cpu;
    return LOCH_OK;
}

static void run_fini(struct ingest *run)
{
    for (unsigned i = 0; run->writers != NULL && i < run->order->connections; i++)
        PQfinish(run->writers[i].conn);
    PQfinish(run->probe);
    PQfinish(run->console);
    free(run->writers);
}

static json_t *report(const struct ingest *run)
{
    struct loch_histogram *all = calloc(1, sizeof *all);
    const double mib = (double)(run->last - run->first) / 1048576;
    uint64_t late = 0;

    for (unsigned i = 0; i < run->order->connections && all != NULL; i++) {
        loch_histogram_merge(all, &run->writers[i].latency);
        late += run->writers[i].late;
    }
    if (all == NULL)
        return NULL;
    json_t *out = json_pack(
        "{s:I, s:I, s:f, s:f, s:I, s:f, s:f, s:f, s:o, s:o}", "commits", (json_int_t)all->count,
        "late", (json_int_t)late, "seconds", run->load_s, "per_second",
        (double)all->count / run->load_s, "wal_bytes", (json_int_t)(run->last - run->first),
        "ingested_s", run->ingest_s, "mib_per_second", mib / run->ingest_s, "server_cpu_ms_per_mib",
        mib > 0 ? run->cpu_s / mib * 1e3 : 0, "latency_us", loch_histogram_report(all), "lag_us",
        loch_histogram_report(&run->lag));
    free(all);
    return out;
}

loch_status loch_ingest_measure(const struct loch_ingest_order *order, json_t **out)
{
    static struct ingest run; /* large */
    uint32_t random = 0;
    char why[400];

    run = (struct ingest){.order = order};
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        return LOCH_FAIL(LOCH_E_IO, "no random bytes");
    LOCH_TRY(find_loch(&run));
    (void)snprintf(run.name, sizeof run.name, "bench-%08" PRIx32, random);
    LOCH_TRY(loch_command(
        &run, (const char *const[]){"branch", "create", run.name, "--from", order->branch, NULL}));
    loch_status st = loch_command(
        &run, (const char *const[]){"compute", "start", run.name, "--branch", run.name, NULL});
    if (loch_is_ok(st))
        st = find_url(&run);
    if (loch_is_ok(st))
        st = load_and_wait(&run);
    if (!loch_is_ok(st))
        (void)snprintf(why, sizeof why, "%s", loch_error_text());
    *out = loch_is_ok(st) ? report(&run) : NULL;
    run_fini(&run);
    remove_all(&run);
    if (!loch_is_ok(st))
        return LOCH_FAIL(st.code, "%s", why);
    return *out != NULL ? LOCH_OK : LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for the result");
}
