/* Holds: compute commands. A compute is a note (D/computes/NAME.json: what it is attached to) and,
 * while it runs, an agent (loch-compute) whose state file lies in the compute's scratch. */
#include "commands.h"
#include "config_file.h"
#include "console_client.h"
#include "directory.h"
#include "listen.h"
#include "scratch.h"

#include "loch/host/daemon.h"

#include <dirent.h>
#include <errno.h>
#include <libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define READY_TIMEOUT_MS 60000
#define DARK_TIMEOUT_MS  3000  /* a key that has just come back is with all daemons by then */
#define HARD_TIMEOUT_MS  15000 /* the agent kills a server that does not heed it after 5 s */

static void process_name(const char *name, char out[80])
{
    (void)snprintf(out, 80, "compute-%s", name);
}

static int json_int(const json_t *value, const char *name)
{
    return (int)json_integer_value(json_object_get(value, name));
}

loch_status
loch_compute_each(struct loch_cluster *c,
                  loch_status (*fn)(struct loch_cluster *c, const char *name, void *arg), void *arg)
{
    char path[700];
    struct dirent **entries = NULL;
    loch_status st = LOCH_OK;

    (void)snprintf(path, sizeof path, "%s/computes", c->dir);
    int n = scandir(path, &entries, NULL, alphasort);
    if (n < 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot list %s: %s", path, strerror(errno));
    for (int i = 0; i < n; i++) {
        char *dot = strrchr(entries[i]->d_name, '.');
        if (loch_is_ok(st) && entries[i]->d_name[0] != '.' && dot && strcmp(dot, ".json") == 0) {
            *dot = '\0';
            st = fn(c, entries[i]->d_name, arg);
        }
        free(entries[i]);
    }
    free(entries);
    return st;
}

/* Only under the lock that an agent holds from its first step on: who holds it lives. */
void loch_compute_sweep(const struct loch_cluster *c, const char *name, bool kept_log)
{
    char path[700];
    char proc[80];
    json_t *note = NULL;
    int lock = -1;
    pid_t pid;

    loch_compute_note_path(c, name, path);
    process_name(name, proc);
    if (access(path, F_OK) != 0 || loch_process_alive(c, proc, &pid) ||
        !loch_is_ok(loch_json_read(path, &note)))
        return;
    const char *dir = loch_field(note, "scratch");
    loch_status st = LOCH_OK;
    if (loch_scratch_is_ours(c, dir))
        st = loch_daemon_lock_dir(dir, &lock);
    if (lock >= 0) {
        st = loch_scratch_clear(dir, kept_log);
        (void)close(lock);
    }
    if (!loch_is_ok(st) && st.code != LOCH_E_EXISTS)
        loch_progress("warning: what compute %s left on its scratch stays: %s", name,
                      loch_error_text());
    json_decref(note);
}

static void make_url(const struct loch_cluster *c, const json_t *note, char *url, size_t len)
{
    char path[700];
    char password[128] = "";
    char host[LOCH_LISTEN_HOST_BYTES];

    loch_password_path(c, loch_field(note, "tenant"), path);
    FILE *f = fopen(path, "re");
    if (f != NULL) {
        if (fgets(password, sizeof password, f) == NULL)
            password[0] = '\0';
        (void)fclose(f);
    }
    /* An imported tenant's passwords are its users' own. */
    loch_listen_host(loch_field(note, "listen"), host);
    (void)snprintf(url, len, "postgresql://postgres%s%s@%s:%d/postgres",
                   password[0] != '\0' ? ":" : "", password, host, json_int(note, "port"));
}

loch_status loch_compute_describe(struct loch_cluster *c, const char *name, json_t **out)
{
    char path[700];
    char proc[80];
    char url[500];
    json_t *note = NULL;
    json_t *agent = NULL;
    pid_t pid = 0;
    const char *state = "stopped";
    const char *pgdata = "";
    int wire_epoch = 0;

    loch_compute_note_path(c, name, path);
    LOCH_TRY(loch_json_read(path, &note));
    process_name(name, proc);
    if (loch_process_alive(c, proc, &pid)) {
        state = "starting";
        if (loch_agent_state(note, &agent) && json_int(agent, "pid") == (int)pid) {
            state = loch_field(agent, "state");
            pgdata = loch_field(agent, "pgdata");
            wire_epoch = json_int(agent, "wire_epoch");
        }
    } else if (loch_agent_state(note, &agent) && loch_agent_is_fenced(note, agent)) {
        state = "fenced";
    } else if (agent != NULL && json_is_true(json_object_get(note, "wanted"))) {
        state = "failed"; /* a stop, and `down`, leave no state file or no wish */
    }
    make_url(c, note, url, sizeof url);
    bool read_only = json_is_true(json_object_get(note, "read_only"));
    *out = json_pack("{s:s, s:O, s:O, s:s, s:s, s:i, s:s, s:i}", "name", name, "tenant",
                     json_object_get(note, "tenant"), "branch",
                     json_object_get(note, read_only ? "of" : "branch"), "url", url, "state", state,
                     "pid", (int)pid, "pgdata", pgdata, "port", json_int(note, "port"));
    if (wire_epoch != 0)
        json_object_set_new(*out, "wire_epoch", json_integer(wire_epoch));
    if (read_only)
        json_object_set(*out, "read_only_at", json_object_get(note, "lsn"));
    json_decref(agent);
    json_decref(note);
    return LOCH_OK;
}

struct port_use {
    int port;
    bool taken;
};

static loch_status check_port_use(struct loch_cluster *c, const char *name, void *arg)
{
    struct port_use *use = arg;
    char path[700];
    json_t *note = NULL;

    loch_compute_note_path(c, name, path);
    LOCH_TRY(loch_json_read(path, &note));
    use->taken = use->taken || json_int(note, "port") == use->port;
    json_decref(note);
    return LOCH_OK;
}

static loch_status choose_port(struct loch_cluster *c, int wanted, int *out)
{
    int first = wanted > 0 ? wanted : c->port_base + LOCH_PORT_COMPUTE_FIRST;
    int last = wanted > 0 ? wanted : c->port_base + LOCH_PORT_LAST;

    for (int port = first; port <= last; port++) {
        struct port_use use = {port, false};
        LOCH_TRY(loch_compute_each(c, check_port_use, &use));
        if (!use.taken) {
            *out = port;
            return LOCH_OK;
        }
    }
    return LOCH_FAIL(LOCH_E_LIMIT,
                     wanted > 0 ? "port %d is another compute's"
                                : "no port left for another compute (from %d on)",
                     first);
}

static loch_status refuse_archived(const json_t *branch)
{
    if (strcmp(loch_field(branch, "state"), "archived") != 0)
        return LOCH_OK;
    return LOCH_FAIL(LOCH_E_INVALID,
                     "branch %s is archived: bring it back first (loch branch unarchive %s)",
                     loch_field(branch, "name"), loch_field(branch, "name"));
}

/* No server could ever start there: nobody would take its WAL. */
static loch_status refuse_unfinished(const struct loch_cluster *c, const char *tenant,
                                     const char *tenant_id, const json_t *branch)
{
    const char *name = loch_field(branch, "name");
    const bool root = loch_field(branch, "ancestor")[0] == '\0';

    if (!loch_branch_unfinished(c, tenant_id, branch))
        return LOCH_OK;
    if (root)
        return LOCH_FAIL(
            LOCH_E_UNAVAILABLE,
            "the creation of tenant %s was cut short: no safekeeper keeps its WAL, and "
            "nothing was ever written to it; `loch tenant delete %s`, then create it "
            "again (the first one: loch up)",
            tenant, tenant);
    return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                     "the creation of branch %s was cut short: no safekeeper keeps its WAL, and "
                     "nothing was ever written to it; `loch branch delete %s --tenant %s`, then "
                     "create it again",
                     name, name, tenant);
}

/* What is asked of a compute that is known already must be what it is; but for the port, which
 * is looked at by move_port. */
static loch_status check_same(const struct loch_options *o, const char *path, const char *name)
{
    json_t *note = NULL;

    LOCH_TRY(loch_json_read(path, &note));
    bool read_only = json_is_true(json_object_get(note, "read_only"));
    const char *branch = loch_field(note, read_only ? "of" : "branch");
    bool same = (!o->branch || strcmp(o->branch, branch) == 0) &&
                (!o->tenant || strcmp(o->tenant, loch_field(note, "tenant")) == 0) &&
                (!o->listen || strcmp(o->listen, loch_field(note, "listen")) == 0) &&
                (!o->read_only || read_only) && o->at == NULL;
    json_decref(note);
    if (!same)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "compute %s is attached to another tenant, branch, point "
                         "or address (see loch compute list): choose another name%s",
                         name, read_only ? ", or stop it first" : "");
    return LOCH_OK;
}

/* Another port for a compute that is known already. The lock of the notes is held. */
static loch_status move_port(struct loch_cluster *c, const struct loch_options *o, const char *path,
                             const char *name)
{
    char proc[80];
    json_t *note = NULL;
    loch_status st = LOCH_OK;
    pid_t pid;
    int port = 0;

    LOCH_TRY(loch_json_read(path, &note));
    if (o->port == 0 || o->port == json_int(note, "port"))
        goto out;
    process_name(name, proc);
    if (loch_process_alive(c, proc, &pid)) {
        st = LOCH_FAIL(LOCH_E_INVALID,
                       "compute %s runs on port %d: stop it first, another --port is taken at its "
                       "next start",
                       name, json_int(note, "port"));
        goto out;
    }
    LOCH_TRY_OUT(st, choose_port(c, o->port, &port));
    json_object_set_new(note, "port", json_integer(port));
    st = loch_json_write(path, note, 0600);
out:
    json_decref(note);
    return st;
}

/* Writes the note of a compute that is not known yet, with what is in `more` (may be NULL) from the
 * beginning. The lock of the notes is held, for nobody else is to choose the same port, or the same
 * name. */
static loch_status write_note(struct loch_cluster *c, const struct loch_options *o,
                              const char *name, const char *tenant_id, const char *branch,
                              json_t *more)
{
    char path[700];
    char id_text[LOCH_ID_TEXT_BYTES];
    char scratch[300];
    struct loch_id id;
    int port = 0;

    loch_compute_note_path(c, name, path);
    if (access(path, F_OK) == 0) { /* another command was faster */
        LOCH_TRY(check_same(o, path, name));
        return move_port(c, o, path, name);
    }
    LOCH_TRY(choose_port(c, o->port, &port));
    if (getrandom(id.bytes, sizeof id.bytes, 0) != (ssize_t)sizeof id.bytes)
        return LOCH_FAIL(LOCH_E_IO, "no random bytes: %s", strerror(errno));
    (void)snprintf(scratch, sizeof scratch, "%s/compute-%s", c->scratch, name);
    json_t *note = json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:s, s:b}", "name", name, "id",
                             loch_id_format(&id, id_text), "tenant", o->tenant ? o->tenant : "main",
                             "tenant_id", tenant_id, "branch", branch, "port", port, "scratch",
                             scratch, "wanted", 1);
    if (o->listen != NULL)
        json_object_set_new(note, "listen", json_string(o->listen));
    if (more != NULL)
        json_object_update(note, more);
    const loch_status st = loch_json_write(path, note, 0600);
    json_decref(note);
    return st;
}

/* Computes are defined, and change their port, one after another. */
static loch_status lock_notes(const struct loch_cluster *c, int *fd)
{
    char path[700];

    (void)snprintf(path, sizeof path, "%s/computes", c->dir);
    return loch_dir_lock(path, fd);
}

static loch_status compute_define(struct loch_cluster *c, const struct loch_options *o,
                                  const char *name, json_t *more)
{
    char tenant_id[33];
    json_t *branch = NULL;
    int lock = -1;
    const char *tenant = o->tenant ? o->tenant : "main";

    LOCH_TRY(loch_tenant_find(c, tenant, tenant_id));
    LOCH_TRY(loch_branch_find(c, tenant_id, o->branch ? o->branch : "main", &branch));
    loch_status st = refuse_archived(branch);
    if (loch_is_ok(st))
        st = refuse_unfinished(c, tenant, tenant_id, branch);
    if (loch_is_ok(st))
        st = lock_notes(c, &lock);
    if (loch_is_ok(st)) {
        st = write_note(c, o, name, tenant_id, loch_field(branch, "name"), more);
        (void)close(lock);
    }
    json_decref(branch);
    return st;
}

/* What the compute's note, and so `loch compute start`, decides. */
static bool is_of_the_note(const char *section, const char *key)
{
    static const char *const keys[] = {"id", "port", "lib_dir", "read_only", "listen", "settings"};

    for (size_t i = 0; strcmp(section, "compute") == 0 && i < sizeof keys / sizeof keys[0]; i++)
        if (strcmp(key, keys[i]) == 0)
            return true;
    return strcmp(section, "daemon") == 0 && strcmp(key, "dir") == 0;
}

static loch_status write_agent_config(const struct loch_cluster *c, const json_t *note,
                                      const char *name, char *path, size_t len)
{
    static const struct loch_config_ours ours = {.is = is_of_the_note};
    char *text = NULL;
    size_t text_len = 0;

    (void)snprintf(path, len, "%s/conf/compute-%s.ini", c->dir, name);
    FILE *f = open_memstream(&text, &text_len);
    if (f == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %s", path);
    (void)fprintf(f, "[daemon]\ndir = %s\n\n", loch_field(note, "scratch"));
    (void)fprintf(f, "[compute]\nid = %s\nport = %d\nlib_dir = %s\n", loch_field(note, "id"),
                  json_int(note, "port"), c->lib_dir);
    if (json_is_true(json_object_get(note, "read_only")))
        (void)fprintf(f, "read_only = on\n");
    const char *listen = loch_field(note, "listen");
    if (listen[0] != '\0')
        (void)fprintf(f, "listen = %s\n", listen);
    const char *settings = loch_field(note, "settings");
    if (settings[0] != '\0')
        (void)fprintf(f, "settings = %s\n", settings);
    const loch_status st = fclose(f) == 0 ? loch_config_file_write(path, text, 0600, &ours)
                                          : LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %s", path);
    free(text);
    return st;
}

static loch_status start_agent(struct loch_cluster *c, const json_t *note, const char *name)
{
    char proc[80];
    char exe[700];
    char config[700];
    json_t *rows = NULL;
    const char *column;
    json_t *value;
    loch_status st;
    pid_t pid;

    LOCH_TRY(write_agent_config(c, note, name, config, sizeof config));
    LOCH_TRY(loch_scratch_own(c));
    LOCH_TRY(loch_scratch_part(c, loch_field(note, "scratch"), 0711));
    loch_compute_sweep(c, name, true); /* before the credential, which may be denied */
    LOCH_TRY(loch_consolef(c, loch_port_pageserver(c), &rows, "ISSUE CREDENTIAL %s %s %s",
                           loch_field(note, "tenant_id"), loch_field(note, "branch"),
                           loch_field(note, "id")));
    const char *credential = NULL;
    json_object_foreach(json_array_get(rows, 0), column, value) credential =
        json_string_value(value);
    if (credential == NULL) {
        st = LOCH_FAIL(LOCH_E_CORRUPT, "the pageserver issued no credential");
        goto out;
    }
    process_name(name, proc);
    (void)snprintf(exe, sizeof exe, "%s/loch-compute", c->bin_dir);
    const char *argv[] = {exe, "--config", config, NULL};
    st = loch_process_start(c, proc, argv, credential, &pid);
out:
    json_decref(rows);
    return st;
}

/* One SELECT over the compute's own address; or, where the password is not ours to know, whether
 * it would let a client in. */
static bool answers(const char *url)
{
    if (strstr(url, "//postgres@") != NULL)
        return PQping(url) == PQPING_OK;
    PGconn *conn = PQconnectdb(url);
    bool ok = false;

    if (PQstatus(conn) == CONNECTION_OK) {
        PGresult *res = PQexec(conn, "SELECT 1");
        ok = PQresultStatus(res) == PGRES_TUPLES_OK;
        PQclear(res);
    }
    PQfinish(conn);
    return ok;
}

static loch_status wait_ready(struct loch_cluster *c, const char *name, json_t **out)
{
    uint64_t until = loch_now_ms() + READY_TIMEOUT_MS;
    uint64_t dark_until = loch_now_ms() + DARK_TIMEOUT_MS;
    char proc[80];
    char tail[600];
    pid_t pid;

    process_name(name, proc);
    for (;;) {
        json_t *shown = NULL;
        LOCH_TRY(loch_compute_describe(c, name, &shown));
        bool ready =
            strcmp(loch_field(shown, "state"), "running") == 0 && answers(loch_field(shown, "url"));
        if (ready) {
            *out = shown;
            return LOCH_OK;
        }
        const char *state = loch_field(shown, "state");
        const bool dark = strcmp(state, "revoked") == 0 || strcmp(state, "outage") == 0;
        json_decref(shown);
        if (!dark)
            dark_until = loch_now_ms() + DARK_TIMEOUT_MS;
        else if (loch_now_ms() > dark_until)
            return LOCH_FAIL(LOCH_E_KEY_REVOKED,
                             "compute %s waits: its tenant's key is revoked or its key service "
                             "away (see loch key status); it comes back by itself",
                             name);
        if (!loch_process_alive(c, proc, &pid))
            return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                             "compute %s ended while it started; its log says: %s", name,
                             loch_log_tail(c, proc, tail, sizeof tail));
        if (loch_now_ms() > until)
            return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                             "compute %s does not answer after %d s (it keeps "
                             "trying); its log says: %s",
                             name, READY_TIMEOUT_MS / 1000,
                             loch_log_tail(c, proc, tail, sizeof tail));
        loch_pause_ms(3);
    }
}

loch_status loch_compute_bring_up(struct loch_cluster *c, const char *name, json_t **out)
{
    char path[700];
    char proc[80];
    json_t *note = NULL;
    pid_t pid;
    loch_status st = LOCH_OK;

    loch_compute_note_path(c, name, path);
    LOCH_TRY(loch_json_read(path, &note));
    process_name(name, proc);
    bool mine = !loch_process_alive(c, proc, &pid);
    if (mine)
        st = start_agent(c, note, name);
    if (loch_is_ok(st))
        st = wait_ready(c, name, out);
    /* One that was running and ends while we wait was on its way out: that is started again. */
    if (!loch_is_ok(st) && !mine && !loch_process_alive(c, proc, &pid)) {
        st = start_agent(c, note, name);
        if (loch_is_ok(st))
            st = wait_ready(c, name, out);
        mine = true;
    }
    if (loch_is_ok(st) && mine)
        loch_compute_taken_over(c, name, note);
    json_decref(note);
    return st;
}

loch_status loch_compute_want(struct loch_cluster *c, const char *name, bool wanted,
                              const char *settings)
{
    char path[700];
    json_t *note = NULL;

    loch_compute_note_path(c, name, path);
    if (access(path, F_OK) != 0)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "there is no compute %s (see loch compute list)", name);
    LOCH_TRY(loch_json_read(path, &note));
    json_object_set_new(note, "wanted", json_boolean(wanted));
    if (settings != NULL)
        json_object_set_new(note, "settings", json_string(settings));
    loch_status st = loch_json_write(path, note, 0600);
    json_decref(note);
    return st;
}

static loch_status take_down(struct loch_cluster *c, const char *name, bool immediate,
                             int timeout_ms)
{
    char proc[80];
    char path[700];
    pid_t pid;
    json_t *note = NULL;
    loch_status st = LOCH_OK;

    loch_compute_note_path(c, name, path);
    LOCH_TRY(loch_json_read(path, &note));
    process_name(name, proc);
    if (loch_process_alive(c, proc, &pid)) {
        loch_progress("stopping compute %s", name);
        st = loch_process_stop(c, proc, immediate ? SIGQUIT : SIGTERM, timeout_ms);
    } else {
        (void)loch_compute_heed_fencing(c, name); /* before its account of that goes */
        loch_compute_sweep(c, name, true);
        st = loch_process_none(proc, loch_field(note, "scratch"));
    }
    if (loch_is_ok(st) && json_is_true(json_object_get(note, "read_only")))
        st = loch_read_only_end(c, name, note);
    json_decref(note);
    return st;
}

loch_status loch_compute_take_down(struct loch_cluster *c, const char *name, bool immediate)
{
    return take_down(c, name, immediate, LOCH_COMPUTE_STOP_MS);
}

/* An agent that holds the compute's scratch, though its start was not noted; 0: there is none. */
static pid_t unnoted(const struct loch_cluster *c, const char *name)
{
    char path[700];
    json_t *note = NULL;

    loch_compute_note_path(c, name, path);
    if (!loch_is_ok(loch_json_read(path, &note)))
        return 0;
    const pid_t pid = loch_process_holder(loch_field(note, "scratch"));
    json_decref(note);
    return pid;
}

loch_status loch_compute_end(struct loch_cluster *c, const char *name, bool immediate,
                             int timeout_ms, pid_t *living)
{
    char proc[80];
    pid_t pid = 0;

    process_name(name, proc);
    loch_status st = take_down(c, name, immediate, immediate ? LOCH_COMPUTE_STOP_MS : timeout_ms);
    if (!immediate && !loch_is_ok(st) && loch_process_alive(c, proc, &pid)) {
        loch_progress("warning: %s: it is stopped hard now", loch_error_text());
        st = take_down(c, name, true, HARD_TIMEOUT_MS);
    }
    *living = 0;
    if (!loch_is_ok(st))
        *living = loch_process_alive(c, proc, &pid) ? pid : unnoted(c, name);
    return st;
}

/* It could not be defined: its branch goes. */
static loch_status read_only_undo(struct loch_cluster *c, const struct loch_options *on,
                                  const char *name, struct loch_side_note *side, loch_status cause)
{
    char tenant[33];
    char why[600];

    (void)snprintf(why, sizeof why, "%s", loch_error_text());
    loch_status st = loch_tenant_find(c, on->tenant ? on->tenant : "main", tenant);
    if (loch_is_ok(st))
        st = loch_branch_remove(c, tenant, on->branch);
    loch_attached_forget(c, name);
    if (loch_is_ok(st)) {
        loch_side_note_end(side);
    } else {
        loch_progress("warning: branch %s stays until the next `loch up`: %s", on->branch,
                      loch_error_text());
        loch_side_note_leave(side);
    }
    return LOCH_FAIL(cause.code, "%s", why);
}

/* A compute that looks at the past: on a branch of its own. */
static loch_status read_only_define(struct loch_cluster *c, const struct loch_options *o,
                                    const char *name)
{
    struct loch_side_note side;
    json_t *branch = NULL;
    struct loch_options on = *o;

    LOCH_TRY(loch_read_only_branch(c, o, name, &side, &branch));
    on.branch = loch_field(branch, "name");
    json_t *more = json_pack(
        "{s:b, s:s, s:O, s:O}", "read_only", 1, "of", o->branch ? o->branch : "main", "lsn",
        json_object_get(branch, "start_lsn"), "timeline", json_object_get(branch, "timeline"));
    loch_status st = more != NULL ? compute_define(c, &on, name, more)
                                  : LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %s", name);
    if (loch_is_ok(st))
        loch_side_note_end(&side);
    else
        st = read_only_undo(c, &on, name, &side, st);
    json_decref(more);
    json_decref(branch);
    return st;
}

static loch_status check_known(struct loch_cluster *c, const struct loch_options *o,
                               const char *path, const char *name)
{
    int lock = -1;

    LOCH_TRY(check_same(o, path, name));
    if (o->port == 0)
        return LOCH_OK;
    LOCH_TRY(lock_notes(c, &lock));
    const loch_status st = move_port(c, o, path, name);
    (void)close(lock);
    return st;
}

/* Before anything is noted: `up` is not to try again what cannot be. */
static loch_status refuse_archived_branch(struct loch_cluster *c, const char *path)
{
    json_t *note = NULL;
    json_t *branch = NULL;
    loch_status st = LOCH_OK;

    LOCH_TRY(loch_json_read(path, &note));
    if (loch_is_ok(loch_branch_find(c, loch_field(note, "tenant_id"), loch_field(note, "branch"),
                                    &branch)))
        st = refuse_archived(branch);
    json_decref(branch);
    json_decref(note);
    return st;
}

static loch_status compute_start(struct loch_cluster *c, const struct loch_options *o,
                                 const char *name)
{
    char path[700];
    char proc[80];
    json_t *shown = NULL;
    pid_t pid;

    LOCH_TRY(loch_name_check("compute", name));
    if (o->at != NULL && !o->read_only)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "--at wants --read-only; to write from there on make a branch "
                         "(loch branch create NAME --at ...) and start a compute on it");
    loch_compute_note_path(c, name, path);
    if (access(path, F_OK) == 0)
        LOCH_TRY(check_known(c, o, path, name));
    else
        LOCH_TRY(o->read_only ? read_only_define(c, o, name) : compute_define(c, o, name, NULL));
    LOCH_TRY(refuse_archived_branch(c, path));
    process_name(name, proc);
    const bool late = o->extra != NULL && loch_process_alive(c, proc, &pid);
    LOCH_TRY(loch_compute_want(c, name, true, o->extra));
    if (late)
        loch_progress("compute %s runs already: --set takes effect at the next start", name);
    LOCH_TRY(loch_compute_bring_up(c, name, &shown));
    json_t *rows = json_array();
    json_array_append_new(rows, shown);
    loch_print_rows(c, rows);
    json_decref(rows);
    return LOCH_OK;
}

static loch_status add_described(struct loch_cluster *c, const char *name, void *arg)
{
    json_t *shown = NULL;

    LOCH_TRY(loch_compute_describe(c, name, &shown));
    json_array_append_new(arg, shown);
    (void)loch_compute_heed_fencing(c, name);
    loch_compute_sweep(c, name, false); /* a log may be what they look for */
    return LOCH_OK;
}

loch_status loch_cmd_compute(struct loch_cluster *c, const struct loch_options *o, const char *verb,
                             const char *name)
{
    if (strcmp(verb, "list") == 0) {
        json_t *rows = json_array();
        loch_status st = loch_compute_each(c, add_described, rows);
        if (loch_is_ok(st))
            loch_print_rows(c, rows);
        json_decref(rows);
        return st;
    }
    if (name == NULL)
        name = "main";
    if (strcmp(verb, "start") == 0)
        return compute_start(c, o, name);
    if (strcmp(verb, "stop") == 0) {
        LOCH_TRY(loch_name_check("compute", name));
        LOCH_TRY(loch_compute_want(c, name, false, NULL));
        return take_down(c, name, o->immediate,
                         o->timeout_s > 0 ? o->timeout_s * 1000 : LOCH_COMPUTE_STOP_MS);
    }
    return LOCH_FAIL(LOCH_E_INVALID, "want: loch compute start|stop|list [NAME]");
}
