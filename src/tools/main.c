/* loch: the command line over a local cluster's consoles. Holds: options and dispatch. */
#include "commands.h"

#include "loch/base/log.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "Usage: loch COMMAND [options]\n"
    "\n"
    "  up [--kms-uri URI]        start everything that is not running; the first time makes the\n"
    "                            cluster with tenant, branch and compute `main`, under that CMK\n"
    "  init --hosts SK,SK,SK,PS  makes a cluster's directory for daemons that something else\n"
    "                            starts (containers, service units) and that are reached by these\n"
    "                            host names; `up` then starts the computes only\n"
    "  down [--wipe] [--immediate] [--timeout SECONDS]\n"
    "                            stop everything; computes that do not stop cleanly in time (each\n"
    "                            in 60 s, or all in SECONDS) are stopped hard; --wipe also "
    "deletes\n"
    "                            what the cluster has in its directory\n"
    "  status                    what runs\n"
    "  tenant create NAME [--kms-uri URI] [--import DATADIR] | list | show NAME | delete NAME|ID\n"
    "  branch create NAME [--tenant T] [--from main] [--at LSN|TIME] [--keep-prepared]\n"
    "                            [--kms-uri URI]: with a CMK of its own\n"
    "         list | show NAME | delete NAME | rename NAME NEW\n"
    "         lsn NAME --at TIME          the LSN that recovery_target_time would stop at\n"
    "         restore NAME --at LSN|TIME  as it was then; what it is stays under a dated name\n"
    "         detach NAME                 from its parent: a copy of what they share\n"
    "         archive|unarchive NAME      to the object store alone, and back\n"
    "         export NAME --to DIR [--at LSN|TIME] [--rollback-prepared]   a data directory for a\n"
    "                            stock PostgreSQL\n"
    "         map NAME >FILE.svg          a picture of its layers: LSNs by keys\n"
    "         time NAME --at LSN          when a transaction had ended by then\n"
    "  key check URI             a round trip through a key service, and what is wrong with it\n"
    "  key pins                  which tenants have a CMK of their own, and where it lies\n"
    "  key pin TENANT --kms-uri URI   where a tenant's CMK lies, told to every daemon\n"
    "  key status [--tenant T]   whether the tenant's key may be used, in every daemon\n"
    "  key list [--tenant T]     every version of its keys: state, parent, CMK\n"
    "  key rotate cmk|kek|tk|wire|wire-anew [--tenant T] [--branch B] [--kms-uri URI]\n"
    "                            online; no data is rewritten; cmk with a URI moves to that CMK\n"
    "  key progress [--tenant T] layers that lie under retired timeline keys until upkeep has\n"
    "                            written them anew\n"
    "  key shred branch --branch B [--tenant T] | tenant --tenant T [--confirm TOKEN]\n"
    "                            destroys the keys: ordered first, confirmed after "
    "kms.shred_delay,\n"
    "                            with the same words and its token\n"
    "  key verify-shredded ID [--tenant T] [--aside DIR [--kms-uri 'URI...']]   that nothing of\n"
    "                            it opens any more; URI: CMKs that are not pinned any more, for\n"
    "                            copies aside\n"
    "  key receipt [--tenant T] [--branch B]  signed: when each daemon lost the key, and had "
    "wiped\n"
    "  key audit verify          every record of every daemon's audit log: signature and chain\n"
    "  compute start|stop|list [NAME=main] [--tenant T] [--branch B] [--port P] [--immediate]\n"
    "                            [--timeout SECONDS] [--set name=value[,name=value...]]\n"
    "                            [--listen ADDRESSES=127.0.0.1]\n"
    "  compute start NAME --read-only [--at LSN|TIME] [--branch B]   looks at the past; gone\n"
    "                            with its branch when it is stopped\n"
    "  safekeeper list           who keeps the WAL, and how far each is\n"
    "  safekeeper add            starts another one; it keeps nothing yet\n"
    "  safekeeper replace OLD NEW   NEW takes the place of OLD, which may be dead\n"
    "  safekeeper members A,B,C  exactly these keep the WAL: grow, shrink, move\n"
    "  safekeeper settle         goes on with a change that was cut short; abort: takes it back\n"
    "  safekeeper remove NAME    stops one that keeps nothing, and deletes its directory\n"
    "\n"
    "TIME: 2026-11-28T13:11:35Z, '2026-11-28 13:11:35.5+01'; without a zone UTC.\n"
    "\n"
    "Options of every command:\n"
    "  --dir D          the cluster's directory (default: $LOCH_DIR, else ~/.local/share/loch)\n"
    "  --port-base N    first of the cluster's 100 ports, used when it is made (default 20100)\n"
    "  --json           results as JSON\n"
    "  --help           this text\n"
    "  --version        the version\n"
    "\n"
    "Exit code: 0 done, 2 not understood or not allowed as it is, 1 anything else.\n";

enum {
    OPT_DIR = 256,
    OPT_PORT_BASE,
    OPT_JSON,
    OPT_HELP,
    OPT_VERSION,
    OPT_TENANT,
    OPT_BRANCH,
    OPT_FROM,
    OPT_AT,
    OPT_PORT,
    OPT_TIMEOUT,
    OPT_IMMEDIATE,
    OPT_READ_ONLY,
    OPT_WIPE,
    OPT_SET,
    OPT_KMS_URI,
    OPT_CONFIRM,
    OPT_ASIDE,
    OPT_KEEP_PREPARED,
    OPT_ROLLBACK_PREPARED,
    OPT_IMPORT,
    OPT_TO,
    OPT_HOSTS,
    OPT_LISTEN
};

static const struct option long_options[] = {
    {"dir", required_argument, NULL, OPT_DIR},
    {"port-base", required_argument, NULL, OPT_PORT_BASE},
    {"json", no_argument, NULL, OPT_JSON},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {"tenant", required_argument, NULL, OPT_TENANT},
    {"branch", required_argument, NULL, OPT_BRANCH},
    {"from", required_argument, NULL, OPT_FROM},
    {"at", required_argument, NULL, OPT_AT},
    {"port", required_argument, NULL, OPT_PORT},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"immediate", no_argument, NULL, OPT_IMMEDIATE},
    {"read-only", no_argument, NULL, OPT_READ_ONLY},
    {"wipe", no_argument, NULL, OPT_WIPE},
    {"keep-prepared", no_argument, NULL, OPT_KEEP_PREPARED},
    {"rollback-prepared", no_argument, NULL, OPT_ROLLBACK_PREPARED},
    {"set", required_argument, NULL, OPT_SET},
    {"kms-uri", required_argument, NULL, OPT_KMS_URI},
    {"confirm", required_argument, NULL, OPT_CONFIRM},
    {"aside", required_argument, NULL, OPT_ASIDE},
    {"import", required_argument, NULL, OPT_IMPORT},
    {"to", required_argument, NULL, OPT_TO},
    {"hosts", required_argument, NULL, OPT_HOSTS},
    {"listen", required_argument, NULL, OPT_LISTEN},
    {NULL, 0, NULL, 0}};

void loch_progress(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    (void)vfprintf(stderr, fmt, args);
    va_end(args);
    (void)fputc('\n', stderr);
}

loch_status loch_name_check(const char *what, const char *name)
{
    size_t len = strlen(name);

    if (len < 1 || len > 63 ||
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != len)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "\"%s\" is not a %s name: want 1 to 63 letters, digits, "
                         "'-' or '_'",
                         name, what);
    return LOCH_OK;
}

static size_t column_width(const json_t *rows, const char *name)
{
    size_t width = strlen(name);
    size_t i;
    json_t *row;

    json_array_foreach(rows, i, row)
    {
        const char *text = json_string_value(json_object_get(row, name));
        size_t len = text ? strlen(text) : 0;
        width = len > width ? len : width;
    }
    return width;
}

static void print_table(const json_t *rows)
{
    const char *name;
    json_t *value;
    json_t *row;
    size_t i;

    json_object_foreach(json_array_get(rows, 0), name, value)(void)
        printf("%-*s  ", (int)column_width(rows, name), name);
    (void)printf("\n");
    json_array_foreach(rows, i, row)
    {
        json_object_foreach(row, name, value)
        {
            char number[32] = "";
            const char *text = json_string_value(value);
            if (json_is_integer(value))
                (void)snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
            (void)printf("%-*s  ", (int)column_width(rows, name), text ? text : number);
        }
        (void)printf("\n");
    }
}

static bool printed; /* JSON on standard output */

void loch_print_rows(const struct loch_cluster *c, const json_t *rows)
{
    if (c->quiet)
        return;
    if (!c->json) {
        if (json_array_size(rows) > 0)
            print_table(rows);
        return;
    }
    printed = true;
    char *text = json_dumps(rows, JSON_INDENT(2));
    if (text != NULL)
        (void)puts(text);
    free(text);
}

static loch_status parse_port(const char *text, int *out)
{
    char *end;
    long v = strtol(text, &end, 10);

    if (*text == '\0' || *end != '\0' || v < 1024 || v > 65535)
        return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" is not a port (1024 to 65535)", text);
    *out = (int)v;
    return LOCH_OK;
}

static loch_status parse_timeout(const char *text, int *out)
{
    char *end;
    long v = strtol(text, &end, 10);

    if (*text == '\0' || *end != '\0' || v < 1 || v > 86400)
        return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" is not a number of seconds (1 to 86400)", text);
    *out = (int)v;
    return LOCH_OK;
}

/* Where the text of an option goes; NULL: it has none, or is not kept as it is. */
static const char **text_option(struct loch_options *o, int opt)
{
    switch (opt) {
    case OPT_TENANT:
        return &o->tenant;
    case OPT_BRANCH:
        return &o->branch;
    case OPT_FROM:
        return &o->from;
    case OPT_AT:
        return &o->at;
    case OPT_SET:
        return &o->extra;
    case OPT_KMS_URI:
        return &o->kms_uri;
    case OPT_CONFIRM:
        return &o->confirm;
    case OPT_ASIDE:
        return &o->aside;
    case OPT_IMPORT:
        return &o->import;
    case OPT_TO:
        return &o->into;
    case OPT_HOSTS:
        return &o->hosts;
    case OPT_LISTEN:
        return &o->listen;
    default:
        return NULL;
    }
}

static loch_status set_option(struct loch_cluster *c, struct loch_options *o, int opt)
{
    const char **text = text_option(o, opt);

    if (text != NULL) {
        *text = optarg;
        return LOCH_OK;
    }
    switch (opt) {
    case OPT_DIR:
        if (strlen(optarg) >= sizeof c->dir)
            return LOCH_FAIL(LOCH_E_INVALID, "--dir is too long");
        (void)snprintf(c->dir, sizeof c->dir, "%s", optarg);
        return LOCH_OK;
    case OPT_PORT_BASE:
        LOCH_TRY(parse_port(optarg, &c->port_base));
        if (c->port_base + LOCH_PORT_LAST > 65535)
            return LOCH_FAIL(LOCH_E_INVALID, "--port-base must leave room for 100 ports");
        return LOCH_OK;
    case OPT_PORT:
        return parse_port(optarg, &o->port);
    case OPT_TIMEOUT:
        return parse_timeout(optarg, &o->timeout_s);
    case OPT_JSON:
        c->json = true;
        return LOCH_OK;
    case OPT_IMMEDIATE:
        o->immediate = true;
        return LOCH_OK;
    case OPT_READ_ONLY:
        o->read_only = true;
        return LOCH_OK;
    case OPT_KEEP_PREPARED:
        o->keep_prepared = true;
        return LOCH_OK;
    case OPT_ROLLBACK_PREPARED:
        o->rollback_prepared = true;
        return LOCH_OK;
    case OPT_WIPE:
        o->wipe = true;
        return LOCH_OK;
    default:
        return LOCH_FAIL(LOCH_E_INVALID, "unknown option; see loch --help");
    }
}

/* `.` is no name that a directory could be removed by. */
static void cut_dots(char *dir)
{
    for (size_t len = strlen(dir); len > 1; len = strlen(dir)) {
        if (dir[len - 1] != '/' && strcmp(dir + len - 2, "/.") != 0)
            return;
        dir[len - 1] = '\0';
    }
}

static loch_status default_dir(struct loch_cluster *c)
{
    char full[PATH_MAX];
    const char *env = getenv("LOCH_DIR");
    const char *home = getenv("HOME");

    if (c->dir[0] == '\0' && env != NULL && env[0] != '\0')
        (void)snprintf(c->dir, sizeof c->dir, "%.500s", env);
    if (c->dir[0] == '\0')
        (void)snprintf(c->dir, sizeof c->dir, "%.400s/.local/share/loch", home ? home : "/root");
    if (c->dir[0] != '/') {
        if (getcwd(full, sizeof full) == NULL)
            return LOCH_FAIL(LOCH_E_IO, "cannot tell the current directory");
        size_t len = strlen(full);
        (void)snprintf(full + len, sizeof full - len, "/%s", c->dir);
        if (strlen(full) >= sizeof c->dir)
            return LOCH_FAIL(LOCH_E_INVALID, "--dir is too long");
        memcpy(c->dir, full, strlen(full) + 1);
    }
    cut_dots(c->dir);
    ssize_t n = readlink("/proc/self/exe", full, sizeof full - 1);
    if (n <= 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot tell where this program lies (/proc not mounted?)");
    full[n] = '\0';
    char *slash = strrchr(full, '/');
    *slash = '\0';
    if (strlen(full) >= sizeof c->bin_dir)
        return LOCH_FAIL(LOCH_E_INVALID, "this program's path is too long");
    memcpy(c->bin_dir, full, strlen(full) + 1);
    return LOCH_OK;
}

/* Where a choice about prepared transactions would be passed over in silence, it is refused. */
static loch_status check_prepared(const struct loch_options *o, const char *command,
                                  const char *verb)
{
    const bool makes = strcmp(command, "branch") == 0 &&
                       (strcmp(verb, "create") == 0 || strcmp(verb, "restore") == 0 ||
                        strcmp(verb, "export") == 0);

    if (o->keep_prepared && o->rollback_prepared)
        return LOCH_FAIL(LOCH_E_INVALID, "want one of --keep-prepared and --rollback-prepared");
    if ((o->keep_prepared || o->rollback_prepared) && !makes)
        return LOCH_FAIL(LOCH_E_INVALID, "--keep-prepared and --rollback-prepared are for `loch "
                                         "branch create`, `restore` and `export`");
    return LOCH_OK;
}

static loch_status dispatch(struct loch_cluster *c, struct loch_options *o, int count, char **words)
{
    const char *verb = count > 1 ? words[1] : "";
    const char *name = count > 2 ? words[2] : NULL;
    const char *other = count > 3 ? words[3] : NULL;

    o->to = other;
    if (count > 4 ||
        (count == 4 && strcmp(verb, "rename") != 0 && strcmp(words[0], "safekeeper") != 0))
        return LOCH_FAIL(LOCH_E_INVALID, "too many words after \"%s\"", words[2]);
    LOCH_TRY(check_prepared(o, words[0], verb));
    if (strcmp(words[0], "init") == 0)
        return loch_cmd_init(c, o);
    if (strcmp(words[0], "up") == 0)
        return loch_cmd_up(c, o);
    if (strcmp(words[0], "key") == 0 && strcmp(verb, "check") == 0)
        return loch_key_check(c, name);
    LOCH_TRY(loch_cluster_load(c));
    if (strcmp(words[0], "key") == 0)
        return loch_cmd_key(c, o, verb, name);
    if (strcmp(words[0], "down") == 0)
        return loch_cmd_down(c, o);
    if (strcmp(words[0], "status") == 0)
        return loch_cmd_status(c, o);
    if (strcmp(words[0], "safekeeper") == 0)
        return loch_cmd_safekeeper(c, o, verb, name, other);
    if (strcmp(words[0], "tenant") == 0)
        return loch_cmd_tenant(c, o, verb, name);
    if (strcmp(words[0], "branch") == 0)
        return loch_cmd_branch(c, o, verb, name);
    if (strcmp(words[0], "compute") == 0)
        return loch_cmd_compute(c, o, verb, name);
    return LOCH_FAIL(LOCH_E_INVALID, "unknown command \"%s\"; see loch --help", words[0]);
}

/* Whoever reads a pipe may leave it when he has seen enough. */
static bool output_failed(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};

    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return false;
    const int why = errno;
    if (poll(&out, 1, 0) == 1 && (out.revents & POLLERR) != 0)
        return false;
    (void)fprintf(stderr, "loch: the output could not be written: %s\n", strerror(why));
    return true;
}

int main(int argc, char **argv)
{
    struct loch_cluster cluster = {.port_base = 20100};
    struct loch_options options = {0};
    loch_status st = LOCH_OK;
    int opt;

    (void)signal(SIGPIPE, SIG_IGN);
    loch_log_init("loch", LOCH_LOG_WARN);
    while (loch_is_ok(st) && (opt = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (opt == OPT_HELP || opt == OPT_VERSION) {
            (void)fputs(opt == OPT_HELP ? usage : "loch " LOCH_VERSION "\n", stdout);
            return output_failed();
        }
        st = set_option(&cluster, &options, opt);
    }
    if (loch_is_ok(st) && optind == argc) {
        (void)fputs(usage, stderr);
        return 2;
    }
    if (loch_is_ok(st))
        st = default_dir(&cluster);
    if (loch_is_ok(st))
        st = dispatch(&cluster, &options, argc - optind, argv + optind);
    if (loch_is_ok(st) && cluster.json && !printed)
        (void)puts("[]");
    if (loch_is_ok(st))
        return output_failed();
    (void)fprintf(stderr, "loch: %s\n", loch_error_text());
    return st.code == LOCH_E_INVALID ? 2 : 1;
}
