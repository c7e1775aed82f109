/* Holds: `branch export`: a branch at a point as a data directory that a stock PostgreSQL starts
 * on. The system identifier is that of the side branch that holds the point meanwhile. */
#include "basebackup.h"
#include "commands.h"
#include "console_client.h"
#include "side_branch.h"

#include "loch/pg/control.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROGRESS_MS 2000

struct export
{
    struct loch_env *env;
    struct loch_agent_config agent; /* whom the files shall belong to */
    struct loch_side_branch side;   /* at the point */
    struct loch_basebackup *base;
    struct loch_timer *progress;
    const char *dir;
    uint32_t prepared;   /* transactions that came along */
    enum loch_code code; /* how it went, and why */
    char why[500];
    bool made_dir, ended;
};

static void note(struct export *e, loch_status st)
{
    e->code = st.code;
    if (!loch_is_ok(st))
        (void)snprintf(e->why, sizeof e->why, "%s", loch_error_text());
}

static loch_status noted(const struct export *e)
{
    return e->code == LOCH_E_OK ? LOCH_OK : LOCH_FAIL(e->code, "%s", e->why);
}

/* ---- the directory ---- */

static bool is_empty(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    bool empty = dir != NULL;

    while (empty && (entry = readdir(dir)) != NULL)
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    if (dir != NULL)
        (void)closedir(dir);
    return empty;
}

/* The server refuses a directory that others may read, or that is root's. */
static loch_status prepare_dir(struct export *e)
{
    e->made_dir = mkdir(e->dir, 0700) == 0;
    if (!e->made_dir && errno != EEXIST)
        return LOCH_FAIL(LOCH_E_IO, "cannot make %s: %s", e->dir, strerror(errno));
    if (!is_empty(e->dir))
        return LOCH_FAIL(LOCH_E_EXISTS, "%s is not an empty directory: nothing is exported into it",
                         e->dir);
    int fd = open(e->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    loch_status st = LOCH_OK;
    if (fd < 0 || fchmod(fd, 0700) != 0 ||
        (e->agent.uid != 0 && fchown(fd, e->agent.uid, e->agent.gid) != 0))
        st = LOCH_FAIL(LOCH_E_IO, "%s: %s", e->dir, strerror(errno));
    if (fd >= 0)
        (void)close(fd);
    return st;
}

static loch_status sync_files(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    loch_status st = LOCH_OK;

    if (fd < 0 || syncfs(fd) != 0)
        st = LOCH_FAIL(LOCH_E_IO, "cannot sync %s: %s", dir, strerror(errno));
    if (fd >= 0)
        (void)close(fd);
    return st;
}

/* ---- fetching ---- */

static void end(struct export *e, loch_status st)
{
    if (e->ended)
        return;
    e->ended = true;
    note(e, st);
    loch_env_stop(e->env);
}

/* Part of a backup lies there when the pageserver went away in the middle. */
static loch_status clear(void *arg)
{
    const struct export *e = arg;

    return is_empty(e->dir)
               ? LOCH_OK
               : LOCH_FAIL(LOCH_E_STALE,
                           "the pageserver went away in the middle; remove what lies in %s and "
                           "export again",
                           e->dir);
}

static void done(void *arg, loch_status st, loch_lsn checkpoint_end)
{
    (void)checkpoint_end;
    end(arg, st);
}

static void interrupted(void *arg)
{
    struct export *e = arg;

    end(e, LOCH_FAIL(LOCH_E_UNAVAILABLE, "interrupted; what lies in %s is a part only", e->dir));
}

static void tell(void *arg)
{
    struct export *e = arg;

    e->progress = NULL;
    loch_progress("  %" PRIu64 " MiB", loch_basebackup_received(e->base) >> 20);
    if (!loch_is_ok(loch_env_timer(e->env, PROGRESS_MS, &e->progress, tell, e)))
        e->progress = NULL;
}

static loch_status fetch(struct export *e)
{
    const struct loch_basebackup_order order = {.env = e->env,
                                                .credential = &e->side.credential,
                                                .config = &e->agent,
                                                .lsn = e->side.lsn,
                                                .dir = e->dir,
                                                .full = true};
    LOCH_TRY(loch_env_timer(e->env, PROGRESS_MS, &e->progress, tell, e));
    loch_status st = loch_basebackup_fetch(&order, &e->base, clear, done, e);
    if (loch_is_ok(st)) {
        loch_env_run(e->env);
        st = noted(e);
    }
    if (loch_is_ok(st))
        loch_progress("  %" PRIu64 " MiB, to be synced", loch_basebackup_received(e->base) >> 20);
    loch_timer_cancel(e->progress);
    loch_basebackup_destroy(e->base);
    return st;
}

/* ---- what was prepared ---- */

static loch_status read_control(int dir_fd, struct loch_control *out)
{
    uint8_t file[LOCH_PG_CONTROL_FILE_BYTES];
    int fd = openat(dir_fd, "global/pg_control", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    const ssize_t n = fd >= 0 ? read(fd, file, sizeof file) : -1;

    if (fd >= 0)
        (void)close(fd);
    if (n != (ssize_t)sizeof file)
        return LOCH_FAIL(LOCH_E_IO, "global/pg_control cannot be read");
    return loch_control_parse(loch_slice_of(file, sizeof file), out);
}

/* Behind what ALTER SYSTEM has set: the last word counts. */
static loch_status write_setting(const struct export *e, int dir_fd, uint32_t max_prepared)
{
    static const char name[] = "postgresql.auto.conf";
    char text[200];
    const int len = snprintf(text, sizeof text,
                             "\n# by the export: for the prepared transactions that came along\n"
                             "max_prepared_transactions = %u\n",
                             max_prepared);
    int fd = openat(dir_fd, name, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    loch_status st = LOCH_OK;

    if (fd < 0 || write(fd, text, (size_t)len) != len ||
        (e->agent.uid != 0 && fchown(fd, e->agent.uid, e->agent.gid) != 0))
        st = LOCH_FAIL(LOCH_E_IO, "%s/%s: %s", e->dir, name, strerror(errno));
    if (fd >= 0)
        (void)close(fd);
    return st;
}

static loch_status count_prepared(int dir_fd, uint32_t *count)
{
    const int fd = openat(dir_fd, "pg_twophase", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;

    if (dir == NULL) {
        if (fd >= 0)
            (void)close(fd);
        return LOCH_FAIL(LOCH_E_IO, "pg_twophase cannot be read: %s", strerror(errno));
    }
    while ((entry = readdir(dir)) != NULL)
        *count += entry->d_name[0] != '.';
    (void)closedir(dir);
    return LOCH_OK;
}

/* A server with fewer max_prepared_transactions than there are would refuse to start: it gets as
 * many as the branch's own ran with, which --set may have given it. */
static loch_status settle_prepared(struct export *e)
{
    struct loch_control control;
    const int fd = open(e->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return LOCH_FAIL(LOCH_E_IO, "%s: %s", e->dir, strerror(errno));
    loch_status st = count_prepared(fd, &e->prepared);
    if (!loch_is_ok(st) || e->prepared == 0)
        goto out;
    LOCH_TRY_OUT(st, read_control(fd, &control));
    uint32_t most = control.parameters.max_prepared_xacts;
    if (most < e->prepared)
        most = e->prepared;
    LOCH_TRY_OUT(st, write_setting(e, fd, most));
    loch_progress("prepared transactions that came along: %u (pg_prepared_xacts); "
                  "postgresql.auto.conf sets max_prepared_transactions = %u for them",
                  e->prepared, most);
out:
    (void)close(fd);
    return st;
}

/* ---- the command ---- */

/* Before there is a branch to be dropped. What is ignored, as under nohup, stays so. */
static loch_status watch_signals(struct export *e)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};

    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        struct sigaction was;
        if (sigaction(signals[i], NULL, &was) == 0 && was.sa_handler == SIG_IGN)
            continue;
        LOCH_TRY(loch_env_on_signal(e->env, signals[i], interrupted, e));
    }
    return LOCH_OK;
}

static loch_status fetch_side(struct loch_cluster *c, struct export *e, const char *tenant,
                              const json_t *branch, loch_lsn lsn, bool keep_prepared)
{
    const char *name = loch_field(branch, "name");
    char what[64];

    (void)snprintf(what, sizeof what, "export-%.40s", name);
    LOCH_TRY(loch_side_branch_make(c, what, tenant, loch_field(branch, "timeline"), lsn,
                                   keep_prepared, &e->side));
    loch_progress("exporting branch %s at " LOCH_LSN_FMT " to %s, unencrypted", name,
                  LOCH_LSN_ARG(e->side.lsn), e->dir);
    loch_status st = fetch(e);
    if (loch_is_ok(st))
        st = settle_prepared(e);
    if (loch_is_ok(st))
        st = sync_files(e->dir);
    note(e, st);
    loch_side_branch_drop(c, &e->side);
    return noted(e);
}

static loch_status export_at(struct loch_cluster *c, struct export *e, const char *tenant,
                             const json_t *branch, loch_lsn lsn, bool keep_prepared)
{
    LOCH_TRY(loch_env_real_create(&e->env));
    loch_status st = watch_signals(e);
    if (loch_is_ok(st))
        st = fetch_side(c, e, tenant, branch, lsn, keep_prepared);
    loch_env_real_destroy(e->env);
    LOCH_TRY(st);
    json_t *shown = json_pack("[{s:s, s:o, s:s, s:i}]", "branch", loch_field(branch, "name"), "lsn",
                              json_sprintf(LOCH_LSN_FMT, LOCH_LSN_ARG(e->side.lsn)), "directory",
                              e->dir, "prepared", (int)e->prepared);
    loch_print_rows(c, shown);
    json_decref(shown);
    return LOCH_OK;
}

loch_status loch_branch_export(struct loch_cluster *c, const struct loch_options *o,
                               const char *tenant, const char *name)
{
    struct export e = {.dir = o->into};
    const struct passwd *pw = geteuid() == 0 ? getpwnam("postgres") : NULL;
    json_t *branch = NULL;
    loch_lsn lsn;

    if (e.dir == NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "want: loch branch export NAME --to DIRECTORY");
    if (pw != NULL) {
        e.agent.uid = pw->pw_uid;
        e.agent.gid = pw->pw_gid;
    }
    LOCH_TRY(loch_branch_find(c, tenant, name, &branch));
    loch_status st = loch_branch_point(c, branch, o->at, &lsn);
    if (loch_is_ok(st))
        st = prepare_dir(&e);
    if (loch_is_ok(st))
        st = export_at(c, &e, tenant, branch, lsn, !o->rollback_prepared);
    if (!loch_is_ok(st) && e.made_dir)
        (void)rmdir(e.dir); /* when nothing is in it */
    json_decref(branch);
    return st;
}
