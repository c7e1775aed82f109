/* loch-bench: how fast a pageserver of a local cluster answers, beside a bare TLS-PSK echo of 8 KiB
 * in the same run; or takes in WAL (bench_ingest.c). Holds: options, the bench's own branch and
 * credential, the requests, the report.
 *
 * It reads on a branch of its own, made at the tip and dropped at the end, so no compute is fenced.
 * Per-core figures are answers by CPU time that the server's process used (/proc/PID/stat): they
 * hardly change when the machine is busy with other things.
 */
#include "bench_ingest.h"
#include "bench_load.h"
#include "cluster.h"
#include "console_client.h"

#include "loch/base/log.h"
#include "loch/base/secret.h"

#include "side_branch.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PORT_ECHO 97 /* of the cluster's 100 */

static const char usage[] =
    "Usage: loch-bench getpage|scan --relation base/DB/REL [options]\n"
    "       loch-bench ingest [options]\n"
    "\n"
    "  getpage          random pages of the relation\n"
    "  scan             its pages in order\n"
    "  ingest           WAL of a compute started for it: commits, and how far the pageserver is\n"
    "                   behind them\n"
    "\n"
    "  --relation PATH  what pg_relation_filepath('table') says\n"
    "  --load L         ingest: updates (one row a transaction; default) or rows (1,000 inserted)\n"
    "  --dir D          the cluster's directory (default: $LOCH_DIR)\n"
    "  --tenant T       (main)\n"
    "  --branch B       (main): a branch of it is made, read or written, and dropped\n"
    "  --connections N  (1); ingest: at most 64, each with a table of its own\n"
    "  --depth N        outstanding on a connection (16)\n"
    "  --rate N         open loop: so many a second over all; 0 (default): closed loop\n"
    "  --seconds N      (5)\n"
    "  --no-echo        getpage, scan: without the yardstick\n"
    "  --json           the result as JSON\n"
    "  --help           this text\n";

struct bench {
    struct loch_cluster cluster;
    const char *mode, *relation, *tenant, *branch, *load;
    unsigned connections, depth;
    double rate, seconds;
    bool echo;
    struct loch_rel rel;
    uint32_t blocks;
    struct loch_side_branch side; /* what is read */
    uint64_t random, sent;
};

/* A number and what must follow it; NULL when it is not so. */
static const char *take_number(const char *text, char follows, uint32_t *out)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);

    *out = (uint32_t)v;
    return end != text && *end == follows && v <= UINT32_MAX ? end + 1 : NULL;
}

static loch_status parse_relation(struct bench *b)
{
    const char *p = b->relation;

    b->rel.spc = 1663;
    p = p != NULL && strncmp(p, "base/", 5) == 0 ? take_number(p + 5, '/', &b->rel.db) : NULL;
    if (p != NULL)
        p = take_number(p, '\0', &b->rel.rel);
    if (p == NULL)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "--relation wants what pg_relation_filepath says, such as base/5/16384");
    return LOCH_OK;
}

/* ---- requests ---- */

static void greet(void *arg, struct loch_writer *w)
{
    const struct bench *b = arg;
    const struct loch_page_hello m = {.version = LOCH_WIRE_PAGE_VERSION_PLAIN,
                                      .tenant = b->side.credential.tenant,
                                      .timeline = b->side.credential.timeline,
                                      .compute_epoch = b->side.credential.compute_epoch};
    loch_page_hello_encode(w, &m);
}

static uint32_t next_block(struct bench *b)
{
    if (strcmp(b->mode, "scan") == 0)
        return (uint32_t)(b->sent++ % b->blocks);
    b->random ^= b->random << 13;
    b->random ^= b->random >> 7;
    b->random ^= b->random << 17;
    return (uint32_t)(b->random % b->blocks);
}

static void request(void *arg, struct loch_writer *w, uint64_t request_id)
{
    struct bench *b = arg;
    const struct loch_page_get m = {.request_id = request_id,
                                    .at = {LOCH_LSN_MAX, b->side.lsn},
                                    .rel = b->rel,
                                    .block = next_block(b)};
    loch_page_get_encode(w, &m);
}

/* One request and its answer over a connection of its own: how many blocks there are. */
struct asking {
    struct bench *bench;
    struct loch_env *env;
    struct loch_stream *stream;
    loch_status st;
    char why[200];
};

static loch_status on_frame(void *arg, uint8_t type, struct loch_slice payload)
{
    struct asking *a = arg;
    struct loch_page_rel_size_reply size;
    struct loch_page_error error;

    if (type == LOCH_PAGE_REL_SIZE_REPLY) {
        LOCH_TRY(loch_page_rel_size_reply_decode(payload, &size));
        a->bench->blocks = size.exists ? size.blocks : 0;
        a->st = LOCH_OK;
        loch_env_stop(a->env);
    } else if (type == LOCH_PAGE_ERROR) {
        LOCH_TRY(loch_page_error_decode(payload, &error));
        (void)snprintf(a->why, sizeof a->why, "%.*s", (int)error.text.len,
                       (const char *)error.text.data);
        loch_env_stop(a->env);
    }
    return LOCH_OK;
}

static void on_closed(void *arg, loch_status st)
{
    (void)st;
    loch_env_stop(((struct asking *)arg)->env);
}

static const struct loch_stream_events events = {.frame = on_frame, .closed = on_closed};

static void on_connected(void *arg, loch_status st, struct loch_stream *stream)
{
    struct asking *a = arg;
    struct loch_buf buf = {0};
    struct loch_writer w;
    const struct loch_page_rel_size m = {
        .request_id = 1, .at = {LOCH_LSN_MAX, a->bench->side.lsn}, .rel = a->bench->rel};

    if (stream == NULL) {
        a->st = st;
        loch_env_stop(a->env);
        return;
    }
    loch_stream_attach(stream, &events, a);
    loch_writer_init(&w, &buf);
    greet(a->bench, &w);
    loch_page_rel_size_encode(&w, &m);
    loch_stream_send(stream, &buf);
}

static loch_status ask_size(struct bench *b)
{
    struct asking a = {.bench = b, .st = {LOCH_E_UNAVAILABLE}, .why = "no answer"};

    LOCH_TRY(loch_env_real_create(&a.env));
    loch_status st = loch_env_connect(a.env, b->side.credential.pageserver.address,
                                      b->side.credential.pageserver.tls, 5000, on_connected, &a);
    if (loch_is_ok(st)) {
        loch_env_run(a.env);
        st = loch_is_ok(a.st) ? LOCH_OK : LOCH_FAIL(a.st.code, "the pageserver says: %s", a.why);
    }
    loch_env_real_destroy(a.env);
    if (loch_is_ok(st) && b->blocks == 0)
        st = LOCH_FAIL(LOCH_E_NOT_FOUND, "%s is empty or not in branch %s", b->relation, b->branch);
    return st;
}

/* ---- running and reporting ---- */

/* Fields 14 and 15 of /proc/PID/stat: user and system time. Source: proc(5). */
double loch_cpu_seconds(pid_t pid)
{
    char path[64];
    char text[1024];
    unsigned long ticks = 0;

    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return 0;
    size_t n = fread(text, 1, sizeof text - 1, f);
    (void)fclose(f);
    text[n] = '\0';
    const char *p = strrchr(text, ')'); /* the second field may hold anything */
    for (int field = 2; p != NULL && field < 15; field++) {
        p = strchr(p + 1, ' ');
        if (p != NULL && field >= 13)
            ticks += strtoul(p, NULL, 10);
    }
    return (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

static json_t *report(const struct loch_load_result *r, double cpu)
{
    double n = (double)r->answers;

    return json_pack("{s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:o}", "answers",
                     (json_int_t)r->answers, "errors", (json_int_t)r->errors, "late",
                     (json_int_t)r->late, "seconds", r->seconds, "per_second", n / r->seconds,
                     "mib_per_second", n / r->seconds / 128, "server_cpu_us_per_answer",
                     n > 0 ? cpu / n * 1e6 : 0, "per_server_core_second", cpu > 0 ? n / cpu : 0,
                     "latency_us", loch_histogram_report(&r->latency));
}

static loch_status load(const struct bench *b, const char *address, struct loch_tls_client *tls,
                        bool echo, pid_t pid, json_t **out)
{
    static struct loch_load_result result; /* large */
    const struct loch_load order = {.address = address,
                                    .tls = tls,
                                    .connections = b->connections,
                                    .depth = b->depth,
                                    .rate = b->rate,
                                    .seconds = b->seconds,
                                    .greet = echo ? NULL : greet,
                                    .request = request,
                                    .arg = (void *)(uintptr_t)b};
    double before = loch_cpu_seconds(pid);

    LOCH_TRY(loch_load_run(&order, &result));
    if (result.errors > 0)
        return LOCH_FAIL(LOCH_E_INVALID, "%llu of %llu answers are errors: %s",
                         (unsigned long long)result.errors, (unsigned long long)result.answers,
                         result.error);
    *out = report(&result, loch_cpu_seconds(pid) - before);
    return LOCH_OK;
}

/* Until somebody listens there. */
static loch_status wait_for_port(int port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    for (int i = 0; i < 500; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int rc = fd < 0 ? -1 : connect(fd, (struct sockaddr *)&addr, sizeof addr);
        if (fd >= 0)
            (void)close(fd);
        if (rc == 0)
            return LOCH_OK;
        loch_pause_ms(10);
    }
    return LOCH_FAIL(LOCH_E_UNAVAILABLE, "nobody listens on port %d", port);
}

static loch_status measure_echo(const struct bench *b, json_t **out)
{
    char address[32];
    int port = b->cluster.port_base + PORT_ECHO;
    struct loch_tls_client *tls = NULL;
    pid_t pid;

    (void)snprintf(address, sizeof address, "127.0.0.1:%d", port);
    LOCH_TRY(loch_echo_start(address, &pid, &tls));
    loch_status st = wait_for_port(port);
    if (loch_is_ok(st))
        st = load(b, address, tls, true, pid, out);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    loch_tls_client_destroy(tls);
    return st;
}

static loch_status measure(struct bench *b, json_t **out)
{
    json_t *mine = NULL;
    json_t *echo = NULL;
    pid_t pid = 0;

    LOCH_TRY(ask_size(b));
    if (!loch_process_alive(&b->cluster, "pageserver", &pid))
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the pageserver does not run: loch up");
    LOCH_TRY(load(b, b->side.credential.pageserver.address, b->side.credential.pageserver.tls,
                  false, pid, &mine));
    if (b->echo) {
        loch_status st = measure_echo(b, &echo);
        if (!loch_is_ok(st)) {
            json_decref(mine);
            return st;
        }
    }
    *out = json_pack("{s:s, s:s, s:i, s:i, s:i, s:f}", "mode", b->mode, "relation", b->relation,
                     "blocks", (int)b->blocks, "connections", (int)b->connections, "depth",
                     (int)b->depth, "rate", b->rate);
    json_object_set_new(*out, b->mode, mine);
    if (b->echo) {
        double ours = json_real_value(json_object_get(mine, "per_server_core_second"));
        double bare = json_real_value(json_object_get(echo, "per_server_core_second"));
        json_object_set_new(*out, "echo", echo);
        json_object_set_new(*out, "per_core_ratio", json_real(bare > 0 ? ours / bare : 0));
    }
    return LOCH_OK;
}

static void print_one(const json_t *result, const char *name)
{
    const json_t *r = json_object_get(result, name);
    const json_t *l = json_object_get(r, "latency_us");

    if (r == NULL)
        return;
    (void)printf(
        "%-8s %9.0f/s  %7.1f MiB/s  %6.1f us of server CPU each   "
        "latency us: p50 %.0f  p99 %.0f  p99.9 %.0f  max %.0f\n",
        name, json_real_value(json_object_get(r, "per_second")),
        json_real_value(json_object_get(r, "mib_per_second")),
        json_real_value(json_object_get(r, "server_cpu_us_per_answer")),
        json_real_value(json_object_get(l, "p50")), json_real_value(json_object_get(l, "p99")),
        json_real_value(json_object_get(l, "p999")), json_real_value(json_object_get(l, "max")));
}

static void print_latency(const json_t *of, const char *member, const char *what)
{
    const json_t *l = json_object_get(of, member);

    (void)printf("%-12s ms: p50 %.2f  p99 %.2f  p99.9 %.2f  max %.2f\n", what,
                 json_real_value(json_object_get(l, "p50")) / 1e3,
                 json_real_value(json_object_get(l, "p99")) / 1e3,
                 json_real_value(json_object_get(l, "p999")) / 1e3,
                 json_real_value(json_object_get(l, "max")) / 1e3);
}

static void print_ingest(const json_t *result)
{
    const json_t *r = json_object_get(result, "ingest");

    (void)printf("%.0f commits/s; %.1f MiB/s of WAL until all of it was ingested, %.1f ms of the "
                 "pageserver's CPU a MiB\n",
                 json_real_value(json_object_get(r, "per_second")),
                 json_real_value(json_object_get(r, "mib_per_second")),
                 json_real_value(json_object_get(r, "server_cpu_ms_per_mib")));
    print_latency(r, "latency_us", "commits");
    print_latency(r, "lag_us", "pageserver");
}

static void print_json(const json_t *result)
{
    char *text = json_dumps(result, JSON_INDENT(2) | JSON_REAL_PRECISION(6));

    if (text != NULL)
        (void)puts(text);
    free(text);
}

static void print_result(const struct bench *b, const json_t *result)
{
    if (b->cluster.json) {
        print_json(result);
        return;
    }
    print_one(result, b->mode);
    print_one(result, "echo");
    if (b->echo)
        (void)printf("per core of the server: %.2f of the bare echo\n",
                     json_real_value(json_object_get(result, "per_core_ratio")));
}

enum {
    OPT_DIR = 256,
    OPT_TENANT,
    OPT_BRANCH,
    OPT_RELATION,
    OPT_LOAD,
    OPT_CONNECTIONS,
    OPT_DEPTH,
    OPT_RATE,
    OPT_SECONDS,
    OPT_NO_ECHO,
    OPT_JSON,
    OPT_HELP
};

static const struct option long_options[] = {
    {"dir", required_argument, NULL, OPT_DIR},
    {"tenant", required_argument, NULL, OPT_TENANT},
    {"branch", required_argument, NULL, OPT_BRANCH},
    {"relation", required_argument, NULL, OPT_RELATION},
    {"load", required_argument, NULL, OPT_LOAD},
    {"connections", required_argument, NULL, OPT_CONNECTIONS},
    {"depth", required_argument, NULL, OPT_DEPTH},
    {"rate", required_argument, NULL, OPT_RATE},
    {"seconds", required_argument, NULL, OPT_SECONDS},
    {"no-echo", no_argument, NULL, OPT_NO_ECHO},
    {"json", no_argument, NULL, OPT_JSON},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0}};

static loch_status number(const char *text, double low, double high, double *out)
{
    char *end;
    double v = strtod(text, &end);

    if (end == text || *end != '\0' || !(v >= low && v <= high))
        return LOCH_FAIL(LOCH_E_INVALID, "\"%s\": want a number from %g to %g", text, low, high);
    *out = v;
    return LOCH_OK;
}

static loch_status set_option(struct bench *b, int opt)
{
    double v = 0;

    switch (opt) {
    case OPT_DIR:
        (void)snprintf(b->cluster.dir, sizeof b->cluster.dir, "%s", optarg);
        return LOCH_OK;
    case OPT_TENANT:
        b->tenant = optarg;
        return LOCH_OK;
    case OPT_BRANCH:
        b->branch = optarg;
        return LOCH_OK;
    case OPT_RELATION:
        b->relation = optarg;
        return LOCH_OK;
    case OPT_LOAD:
        b->load = optarg;
        return LOCH_OK;
    case OPT_CONNECTIONS:
        LOCH_TRY(number(optarg, 1, 1000, &v));
        b->connections = (unsigned)v;
        return LOCH_OK;
    case OPT_DEPTH:
        LOCH_TRY(number(optarg, 1, 4096, &v));
        b->depth = (unsigned)v;
        return LOCH_OK;
    case OPT_RATE:
        return number(optarg, 0, 1e7, &b->rate);
    case OPT_SECONDS:
        return number(optarg, 0.1, 86400, &b->seconds);
    case OPT_NO_ECHO:
        b->echo = false;
        return LOCH_OK;
    case OPT_JSON:
        b->cluster.json = true;
        return LOCH_OK;
    default:
        return LOCH_FAIL(LOCH_E_INVALID, "unknown option; see loch-bench --help");
    }
}

static loch_status run_ingest(struct bench *b)
{
    const struct loch_ingest_order order = {.cluster = &b->cluster,
                                            .tenant = b->tenant,
                                            .branch = b->branch,
                                            .load = b->load,
                                            .connections = b->connections,
                                            .rate = b->rate,
                                            .seconds = b->seconds};
    json_t *measured = NULL;

    LOCH_TRY(loch_ingest_check(&order));
    LOCH_TRY(loch_cluster_load(&b->cluster));
    LOCH_TRY(loch_ingest_measure(&order, &measured));
    json_t *result =
        json_pack("{s:s, s:s, s:i, s:f, s:o}", "mode", b->mode, "load", b->load, "connections",
                  (int)b->connections, "rate", b->rate, "ingest", measured);
    if (b->cluster.json)
        print_json(result);
    else
        print_ingest(result);
    json_decref(result);
    return LOCH_OK;
}

static loch_status run(struct bench *b)
{
    json_t *result = NULL;
    char why[400];

    if (strcmp(b->mode, "ingest") == 0)
        return run_ingest(b);
    if (strcmp(b->mode, "getpage") != 0 && strcmp(b->mode, "scan") != 0)
        return LOCH_FAIL(LOCH_E_INVALID, "unknown mode \"%s\"; see loch-bench --help", b->mode);
    LOCH_TRY(parse_relation(b));
    LOCH_TRY(loch_cluster_load(&b->cluster));
    LOCH_TRY(loch_side_branch_make(&b->cluster, "bench", b->tenant, b->branch, LOCH_LSN_NONE, false,
                                   &b->side));
    loch_status st = measure(b, &result);
    if (loch_is_ok(st))
        print_result(b, result);
    else
        (void)snprintf(why, sizeof why, "%s", loch_error_text());
    loch_side_branch_drop(&b->cluster, &b->side);
    if (!loch_is_ok(st))
        st = LOCH_FAIL(st.code, "%s", why);
    json_decref(result);
    return st;
}

int main(int argc, char **argv)
{
    static struct bench bench = {.tenant = "main",
                                 .branch = "main",
                                 .load = "updates",
                                 .connections = 1,
                                 .depth = 16,
                                 .seconds = 5,
                                 .echo = true,
                                 .random = UINT64_C(0x9E3779B97F4A7C15)};
    const char *env = getenv("LOCH_DIR");
    loch_status st = LOCH_OK;
    int opt;

    (void)signal(SIGPIPE, SIG_IGN);
    loch_secret_keep_across_fork(); /* the echo server is a child */
    loch_log_init("loch-bench", LOCH_LOG_WARN);
    (void)snprintf(bench.cluster.dir, sizeof bench.cluster.dir, "%.500s", env ? env : "");
    while (loch_is_ok(st) && (opt = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (opt == OPT_HELP) {
            (void)fputs(usage, stdout);
            return 0;
        }
        st = set_option(&bench, opt);
    }
    if (loch_is_ok(st) && optind + 1 != argc) {
        (void)fputs(usage, stderr);
        return 2;
    }
    bench.mode = argv[optind];
    if (loch_is_ok(st))
        st = run(&bench);
    if (loch_is_ok(st))
        return 0;
    (void)fprintf(stderr, "loch-bench: %s\n", loch_error_text());
    return st.code == LOCH_E_INVALID ? 2 : 1;
}
