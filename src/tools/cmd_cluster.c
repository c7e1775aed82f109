/* Holds: up, down, status. */
#include "commands.h"
#include "console_client.h"
#include "directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#define START_TIMEOUT_MS 20000
#define START_TENANT_MS  100 /* more for each tenant: keys are fetched from their key services */
#define STOP_TIMEOUT_MS  30000

/* The servers' user must be able to read the libraries wherever the build tree lies, and a rebuild
 * must not change them under a running server: they are copied below the scratch. */
static loch_status copy_library(const struct loch_cluster *c, const char *name)
{
    char from[700];
    char to[700];
    char tmp[720];
    struct stat sb;

    (void)snprintf(from, sizeof from, "%s/../lib/%s", c->bin_dir, name);
    (void)snprintf(to, sizeof to, "%s/%s", c->lib_dir, name);
    (void)snprintf(tmp, sizeof tmp, "%s.%d.tmp", to, (int)getpid());
    int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "%s is missing (%s): build it first", from,
                         strerror(errno));
    int out = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    bool ok = out >= 0 && fstat(in, &sb) == 0 && fchmod(out, 0755) == 0;
    for (off_t at = 0; ok && at < sb.st_size;)
        ok = sendfile(out, in, &at, (size_t)(sb.st_size - at)) > 0;
    (void)close(in);
    if (out >= 0)
        (void)close(out);
    if (!ok || rename(tmp, to) != 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot copy %s to %s: %s", from, to, strerror(errno));
    return LOCH_OK;
}

static loch_status prepare_scratch(const struct loch_cluster *c)
{
    char path[200];

    LOCH_TRY(loch_scratch_own(c));
    if (c->elsewhere)
        return LOCH_OK;
    LOCH_TRY(loch_scratch_part(c, c->lib_dir, 0755));
    (void)snprintf(path, sizeof path, "%s/pageserver", c->scratch);
    LOCH_TRY(loch_scratch_part(c, path, 0711));
    LOCH_TRY(copy_library(c, "loch.so"));
    LOCH_TRY(copy_library(c, "loch_redo.so"));
    return copy_library(c, "loch.sql");
}

/* *mine: it was not running before. */
static loch_status start_daemon(const struct loch_cluster *c, const char *name, const char *program,
                                bool *mine)
{
    char exe[700];
    char config[700];
    pid_t pid;

    *mine = !c->elsewhere && !loch_process_alive(c, name, &pid);
    if (!*mine)
        return LOCH_OK;
    loch_progress("starting %s", name);
    (void)snprintf(exe, sizeof exe, "%s/%s", c->bin_dir, program);
    (void)snprintf(config, sizeof config, "%s/conf/%s.ini", c->dir, name);
    const char *argv[] = {exe, "--config", config, NULL};
    return loch_process_start(c, name, argv, NULL, &pid);
}

/* How long a daemon's start may take: it opens every tenant of the store first. */
static int start_timeout_ms(const struct loch_cluster *c)
{
    char path[700];
    int tenants = 0;

    (void)snprintf(path, sizeof path, "%s/store/tenants", c->dir);
    DIR *dir = opendir(path);
    while (dir != NULL && readdir(dir) != NULL && tenants < 100000)
        tenants++;
    if (dir != NULL)
        (void)closedir(dir);
    return START_TIMEOUT_MS + tenants * START_TENANT_MS;
}

/* One that was running and ends while we wait was on its way out: that is started again. */
static loch_status wait_daemon(const struct loch_cluster *c, const char *name, const char *program,
                               int port, bool mine)
{
    pid_t pid;

    loch_status st = loch_console_wait(c, name, port, start_timeout_ms(c));
    if (loch_is_ok(st) || mine || c->elsewhere || loch_process_alive(c, name, &pid))
        return st;
    LOCH_TRY(start_daemon(c, name, program, &mine));
    return loch_console_wait(c, name, port, start_timeout_ms(c));
}

/* A tenant, or a branch, whose key is gone does not keep the others down. */
static bool is_dark(const struct loch_cluster *c, const char *tenant_id, const char *branch)
{
    json_t *rows = NULL;
    json_t *row;
    size_t i;
    bool dark = false;

    if (!loch_is_ok(loch_console(c, loch_port_pageserver(c), "SHOW TENANTS", &rows)))
        return false;
    json_t *timelines = NULL;
    if (loch_is_ok(loch_console(c, loch_port_pageserver(c), "SHOW TIMELINES", &timelines)))
        (void)json_array_extend(rows, timelines);
    json_decref(timelines);
    json_array_foreach(rows, i, row)
    {
        const char *state = loch_field(row, "state");
        const bool tenants = json_object_get(row, "timeline") == NULL;
        dark = dark || (strcmp(loch_field(row, "tenant"), tenant_id) == 0 &&
                        (tenants || strcmp(loch_field(row, "name"), branch) == 0) &&
                        (strcmp(state, "REVOKED") == 0 || strcmp(state, "OUTAGE") == 0));
    }
    json_decref(rows);
    return dark;
}

struct first_failure {
    loch_status st;
    char why[600];
};

/* One that does not start does not keep the others down: the first one's failure is for the end. */
static loch_status bring_up_one(struct loch_cluster *c, const char *name, void *arg)
{
    struct first_failure *first = arg;
    json_t *out = NULL;
    json_t *note = NULL;
    char path[700];

    loch_compute_note_path(c, name, path);
    if (loch_compute_heed_fencing(c, name))
        loch_progress("compute %s stays down: another compute has taken over its branch (loch "
                      "compute start %s takes it back)",
                      name, name);
    LOCH_TRY(loch_json_read(path, &note));
    const bool wanted = json_is_true(json_object_get(note, "wanted"));
    const bool ended = !wanted && json_is_true(json_object_get(note, "read_only"));
    loch_status st = LOCH_OK;
    if (wanted)
        st = loch_compute_bring_up(c, name, &out);
    else if (ended) /* its stop could not remove its branch */
        st = loch_compute_take_down(c, name, false);
    if (!loch_is_ok(st)) {
        char why[600];
        (void)snprintf(why, sizeof why, "%s", loch_error_text());
        const bool dark = is_dark(c, loch_field(note, "tenant_id"), loch_field(note, "branch"));
        loch_progress("warning: compute %s %s: %s", name,
                      ended  ? "is not gone"
                      : dark ? "waits for its tenant's or branch's key"
                             : "does not start",
                      why);
        if (!ended && !dark && loch_is_ok(first->st)) {
            first->st = st;
            (void)snprintf(first->why, sizeof first->why, "%s", why);
        }
    }
    json_decref(note);
    json_decref(out);
    return LOCH_OK;
}

/* A cluster without a tenant gets `main`, with branch and compute of the same name. */
static loch_status first_tenant(struct loch_cluster *c, const char *listen)
{
    json_t *rows = NULL;
    char path[700];

    LOCH_TRY(loch_console(c, loch_port_pageserver(c), "SHOW TENANTS", &rows));
    bool none = json_array_size(rows) == 0;
    json_decref(rows);
    struct loch_options o = {.listen = listen};
    if (none)
        LOCH_TRY(loch_safekeepers_empty(c)); /* else it is not a new cluster */
    if (none)
        LOCH_TRY(loch_cmd_tenant(c, &o, "create", "main"));
    (void)snprintf(path, sizeof path, "%s/computes/main.json", c->dir);
    if (none || access(path, F_OK) != 0) {
        char tenant[33];
        json_t *branch = NULL;
        bool there = loch_is_ok(loch_tenant_find(c, "main", tenant)) &&
                     loch_is_ok(loch_branch_find(c, tenant, "main", &branch));
        json_decref(branch);
        if (there) /* else it was deleted, or goes by another name */
            return loch_cmd_compute(c, &o, "start", "main");
    }
    return LOCH_OK;
}

/* A quorum of the members is enough: what cannot start is named, and what helps. */
static loch_status bring_up_safekeepers(const struct loch_cluster *c,
                                        const bool mine[LOCH_SAFEKEEPERS_MAX])
{
    char why[600] = "";
    int answer = 0;
    int others = 0;

    LOCH_EACH_SAFEKEEPER(c, i)
    {
        char name[32];
        const loch_status st = wait_daemon(c, loch_daemon_name(i, name), "loch-safekeeper",
                                           loch_port_safekeeper(c, i), mine[i]);
        if (loch_is_ok(st)) {
            answer += c->member[i];
            others += !c->member[i];
            continue;
        }
        (void)snprintf(why, sizeof why, "%s", loch_error_text());
        loch_progress("warning: %s does not start (%s): loch safekeeper %s %d%s", name, why,
                      c->member[i] ? "replace" : "remove", i + 1, c->member[i] ? " NEW" : "");
    }
    if (answer < loch_quorum(c))
        return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                         "only %d of the safekeepers that keep the WAL start, %d must: %s%s",
                         answer, loch_quorum(c), why,
                         others > 0 ? "; a change of the members that is under way is taken back "
                                      "with `loch safekeeper abort`"
                                    : "");
    return LOCH_OK;
}

loch_status loch_cmd_init(struct loch_cluster *c, const struct loch_options *o)
{
    char path[700];

    (void)snprintf(path, sizeof path, "%s/cluster.json", c->dir);
    if (access(path, F_OK) == 0)
        return LOCH_FAIL(LOCH_E_EXISTS, "there is a cluster in %s already", c->dir);
    if (o->hosts == NULL)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "want --hosts SAFEKEEPER,SAFEKEEPER,SAFEKEEPER,PAGESERVER; a "
                         "cluster whose daemons `loch` starts itself is made by `loch up`");
    c->kms_uri = o->kms_uri;
    if (c->kms_uri != NULL)
        LOCH_TRY(loch_key_works(c->kms_uri));
    return loch_cluster_create(c, o->hosts);
}

loch_status loch_cmd_up(struct loch_cluster *c, const struct loch_options *o)
{
    char name[32];
    char path[700];
    bool mine[LOCH_SAFEKEEPERS_MAX + 1] = {0};
    struct first_failure failure = {.st = LOCH_OK};

    (void)snprintf(path, sizeof path, "%s/cluster.json", c->dir);
    if (access(path, F_OK) == 0) {
        if (o->kms_uri != NULL)
            return LOCH_FAIL(LOCH_E_INVALID,
                             "the cluster in %s is there already: --kms-uri is for "
                             "the first `loch up`; a tenant may have its own",
                             c->dir);
        LOCH_TRY(loch_cluster_load(c));
    } else {
        c->kms_uri = o->kms_uri;
        if (c->kms_uri != NULL)
            LOCH_TRY(loch_key_works(c->kms_uri));
        LOCH_TRY(loch_cluster_create(c, NULL));
    }
    LOCH_TRY(prepare_scratch(c));
    LOCH_EACH_SAFEKEEPER(c, i)
    {
        (void)snprintf(name, sizeof name, "safekeeper-%d", i + 1);
        if (!loch_is_ok(start_daemon(c, name, "loch-safekeeper", &mine[i])))
            loch_progress("warning: %s: %s", name, loch_error_text());
    }
    LOCH_TRY(start_daemon(c, "pageserver", "loch-pageserver", &mine[LOCH_SAFEKEEPERS_MAX]));
    LOCH_TRY(bring_up_safekeepers(c, mine));
    LOCH_TRY(wait_daemon(c, "pageserver", "loch-pageserver", loch_port_pageserver(c),
                         mine[LOCH_SAFEKEEPERS_MAX]));
    loch_pins_repair(c);
    loch_side_sweep(c);
    c->quiet = true;
    LOCH_TRY(loch_members_settle(c, false));
    LOCH_TRY(first_tenant(c, o->listen));
    LOCH_TRY(loch_compute_each(c, bring_up_one, &failure));
    c->quiet = false;
    LOCH_TRY(loch_cmd_compute(c, o, "list", NULL));
    return loch_is_ok(failure.st) ? LOCH_OK : LOCH_FAIL(failure.st.code, "%s", failure.why);
}

struct taking_down {
    bool immediate;
    uint64_t until_ms; /* clean stops may take so long, all together; 0: each its own time */
    char living[300];  /* the first that could not be stopped */
};

/* One that cannot be stopped does not keep the others up. */
static loch_status take_down_one(struct loch_cluster *c, const char *name, void *arg)
{
    struct taking_down *t = arg;
    const uint64_t now = loch_now_ms();
    int timeout_ms = LOCH_COMPUTE_STOP_MS;
    pid_t pid = 0;

    if (t->until_ms != 0)
        timeout_ms = t->until_ms > now ? (int)(t->until_ms - now) : 0;
    if (loch_is_ok(loch_compute_end(c, name, t->immediate, timeout_ms, &pid)))
        return LOCH_OK;
    loch_progress("warning: compute %s: %s", name, loch_error_text());
    if (pid != 0 && t->living[0] == '\0')
        (void)snprintf(t->living, sizeof t->living, "compute %s (pid %d)", name, (int)pid);
    return LOCH_OK;
}

/* The computes' files, and what knows of their processes, are removed only when none lives. */
static loch_status take_computes_down(struct loch_cluster *c, const struct loch_options *o)
{
    struct taking_down t = {.immediate = o->immediate};

    if (o->timeout_s > 0)
        t.until_ms = loch_now_ms() + (uint64_t)o->timeout_s * 1000;
    LOCH_TRY(loch_compute_each(c, take_down_one, &t));
    if (t.living[0] == '\0')
        return LOCH_OK;
    return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                     "%s is still there after a hard stop: %s, and nothing was removed. See what "
                     "keeps it (is it T or D in ps?), end it (kill -CONT, kill -9), repeat this",
                     t.living,
                     c->elsewhere ? "its files are in use" : "the daemons run on for its sake");
}

loch_status loch_safekeeper_start(struct loch_cluster *c, int n)
{
    char name[32];
    bool mine;

    (void)snprintf(name, sizeof name, "safekeeper-%d", n + 1);
    LOCH_TRY(start_daemon(c, name, "loch-safekeeper", &mine));
    return wait_daemon(c, name, "loch-safekeeper", loch_port_safekeeper(c, n), mine);
}

/* What is said to be stopped does not run, whoever started it. */
static loch_status stop_daemon(const struct loch_cluster *c, int i)
{
    char name[32];
    char dir[700];

    (void)snprintf(dir, sizeof dir, "%s/%s", c->dir, loch_daemon_name(i, name));
    LOCH_TRY(loch_process_stop(c, name, SIGTERM, STOP_TIMEOUT_MS));
    return loch_process_none(name, dir);
}

loch_status loch_safekeeper_stop(struct loch_cluster *c, int n)
{
    return stop_daemon(c, n);
}

static loch_status wipe(const struct loch_cluster *c)
{
    char left[LOCH_DIR_LEFT_BYTES];

    loch_progress("deleting %s", c->dir);
    LOCH_TRY(loch_dir_wipe(c, left));
    if (left[0] != '\0')
        loch_progress("left in %s, for it is not the cluster's: %s", c->dir, left);
    return LOCH_OK;
}

loch_status loch_cmd_down(struct loch_cluster *c, const struct loch_options *o)
{
    if (o->wipe)
        LOCH_TRY(loch_cluster_ours(c, "stop them, then delete the directory"));
    LOCH_TRY(take_computes_down(c, o));
    if (c->elsewhere) {
        loch_progress("the computes are stopped; the daemons are for whoever starts them to stop");
        return loch_scratch_remove(c);
    }
    loch_progress("stopping the pageserver and the safekeepers");
    LOCH_TRY(stop_daemon(c, LOCH_SAFEKEEPERS_MAX)); /* the pageserver */
    LOCH_EACH_SAFEKEEPER(c, i)
    LOCH_TRY(stop_daemon(c, i));
    LOCH_TRY(loch_scratch_remove(c));
    return o->wipe ? wipe(c) : LOCH_OK;
}

static void add_process(const struct loch_cluster *c, json_t *rows, const char *name, int port)
{
    pid_t pid = 0;
    const bool alive = loch_process_alive(c, name, &pid);
    const char *state = alive ? "not answering" : "down";
    json_t *shown = NULL;

    if ((alive || c->elsewhere) && loch_is_ok(loch_console(c, port, "SHOW STATUS", &shown)))
        state = "up";
    json_decref(shown);
    json_array_append_new(rows, json_pack("{s:s, s:s, s:i, s:i}", "name", name, "state", state,
                                          "pid", (int)pid, "port", port));
}

static loch_status add_compute(struct loch_cluster *c, const char *name, void *arg)
{
    json_t *compute = NULL;
    char label[80];

    LOCH_TRY(loch_compute_describe(c, name, &compute));
    (void)snprintf(label, sizeof label, "compute-%s", name);
    json_array_append_new(arg, json_pack("{s:s, s:O, s:O, s:O}", "name", label, "state",
                                         json_object_get(compute, "state"), "pid",
                                         json_object_get(compute, "pid"), "port",
                                         json_object_get(compute, "port")));
    json_decref(compute);
    return LOCH_OK;
}

loch_status loch_cmd_status(struct loch_cluster *c, const struct loch_options *o)
{
    json_t *rows = json_array();
    char name[32];

    (void)o;
    LOCH_EACH_SAFEKEEPER(c, i)
    {
        (void)snprintf(name, sizeof name, "safekeeper-%d", i + 1);
        add_process(c, rows, name, loch_port_safekeeper(c, i));
    }
    add_process(c, rows, "pageserver", loch_port_pageserver(c));
    loch_status st = loch_compute_each(c, add_compute, rows);
    if (loch_is_ok(st))
        loch_print_rows(c, rows);
    json_decref(rows);
    return st;
}
