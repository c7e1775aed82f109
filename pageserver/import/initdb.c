/* CREATE TENANT's first data directory: the stock initdb, then the extension's SQL in single-user
 * mode; or a copy of what they made once (a tar archive), then the tenant's password in single-user
 * mode.
 *
 * A password goes to the programs in a file of mode 0600 that is gone before this returns.
 * Single-user mode ends with a shutdown checkpoint, which is what the import starts from. The
 * template's own password is random, told to nobody, and replaced in each copy.
 */
#include "import/data_dir.h"

#include "redo_pool/spawn.h"

#include "loch/base/log.h"
#include "loch/base/secret.h"
#include "loch/io/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOG_TAIL_BYTES 600u
#define TEMPLATE_DIR   "template"

struct loch_initdb_template {
    pthread_mutex_t lock; /* one makes it, the others wait */
    char path[];          /* an archive: a file is there whole or not at all */
};

struct maker {
    const struct loch_initdb_options *options;
    uid_t uid;
    gid_t gid;
    char work[IMPORT_PATH_MAX]; /* a private directory below scratch_dir; data/ is in it */
};

/* The data directory's parent is ours too (see make_work_dir). */
void loch_import_remove_dir(const char *path)
{
    char parent[IMPORT_PATH_MAX];
    char *slash;

    if (path == NULL || strlen(path) >= sizeof parent)
        return;
    if (!loch_is_ok(loch_remove_tree(path)))
        loch_log_failure("an imported directory stays");
    memcpy(parent, path, strlen(path) + 1);
    slash = strrchr(parent, '/');
    if (slash == NULL)
        return;
    *slash = '\0';
    if (strstr(slash > parent ? strrchr(parent, '/') : parent, "/initdb-") != NULL)
        if (!loch_is_ok(loch_remove_tree(parent)))
            loch_log_failure("an imported directory stays");
}

static LOCH_STATUS make_work_dir(struct maker *m)
{
    char *absolute = realpath(m->options->scratch_dir, NULL);

    if (absolute == NULL)
        return LOCH_FAIL(LOCH_E_IO, "%s: %s", m->options->scratch_dir, strerror(errno));
    int n = snprintf(m->work, sizeof m->work, "%s/initdb-XXXXXX", absolute);
    free(absolute);
    if (n < 0 || n >= (int)sizeof m->work - 64)
        return LOCH_FAIL(LOCH_E_LIMIT, "the scratch directory's path is too long");
    if (mkdtemp(m->work) == NULL)
        return LOCH_FAIL(LOCH_E_IO, "%s: %s", m->work, strerror(errno));
    if (m->uid != 0 && chown(m->work, m->uid, m->gid) != 0) {
        loch_status st = LOCH_FAIL(LOCH_E_IO, "%s: %s", m->work, strerror(errno));
        (void)rmdir(m->work);
        return st;
    }
    return LOCH_OK;
}

static LOCH_STATUS write_secret(const struct maker *m, const char *password, const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    size_t len = strlen(password);
    bool ok;

    if (fd < 0)
        return LOCH_FAIL(LOCH_E_IO, "%s: %s", path, strerror(errno));
    ok = write(fd, password, len) == (ssize_t)len &&
         (m->uid == 0 || fchown(fd, m->uid, m->gid) == 0);
    if (close(fd) != 0 || !ok)
        return LOCH_FAIL(LOCH_E_IO, "%s: %s", path, strerror(errno));
    return LOCH_OK;
}

static void tail_of(int fd, char *out, size_t size)
{
    struct stat st;
    ssize_t got = 0;

    if (fstat(fd, &st) == 0) {
        off_t from = st.st_size > (off_t)size - 1 ? st.st_size - ((off_t)size - 1) : 0;
        got = pread(fd, out, size - 1, from);
    }
    out[got > 0 ? got : 0] = '\0';
    for (char *at = out; *at != '\0'; at++)
        if ((unsigned char)*at < ' ')
            *at = ' ';
}

/* Runs a program to its end; stdin from in_fd. LOCH_E_UNAVAILABLE with its last words. */
static LOCH_STATUS run(const struct maker *m, char *const *argv, int in_fd)
{
    char *envp[] = {(char[]){"LC_ALL=C"}, (char[]){"PATH=/usr/bin:/bin"}, (char[]){"TZ=UTC"}, NULL};
    char log_path[IMPORT_PATH_MAX + 16], tail[LOG_TAIL_BYTES];
    struct loch_spawn plan = {
        .path = argv[0], .argv = argv, .envp = envp, .cwd = m->work, .uid = m->uid, .gid = m->gid};
    int status, log_fd;
    loch_status st;
    pid_t pid;

    snprintf(log_path, sizeof log_path, "%s/log", m->work);
    log_fd = open(log_path, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0)
        return LOCH_FAIL(LOCH_E_IO, "%s: %s", log_path, strerror(errno));
    plan.fds[0] = in_fd;
    plan.fds[1] = log_fd;
    plan.fds[2] = log_fd;
    plan.fds[3] = -1;
    LOCH_TRY_OUT(st, loch_spawn(&plan, &pid));
    LOCH_TRY_OUT(st, loch_spawn_wait(pid, &status));
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        tail_of(log_fd, tail, sizeof tail);
        st = LOCH_FAIL(LOCH_E_UNAVAILABLE, "%s failed: %s", argv[0], tail);
    }
out:
    close(log_fd);
    return st;
}

static LOCH_STATUS run_initdb(const struct maker *m, const char *data, const char *password_path)
{
    char program[IMPORT_PATH_MAX], directory[IMPORT_PATH_MAX + 16], file[IMPORT_PATH_MAX + 32];
    char *argv[] = {program,
                    (char[]){"--username=postgres"},
                    (char[]){"--auth=scram-sha-256"},
                    (char[]){"--encoding=UTF8"},
                    (char[]){"--locale=C"},
                    (char[]){"--no-sync"},
                    (char[]){"--no-instructions"},
                    file,
                    directory,
                    NULL};
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    loch_status st;

    if (null_fd < 0)
        return LOCH_FAIL(LOCH_E_IO, "/dev/null: %s", strerror(errno));
    snprintf(program, sizeof program, "%s/initdb", m->options->postgres_bin_dir);
    snprintf(directory, sizeof directory, "--pgdata=%s", data);
    snprintf(file, sizeof file, "--pwfile=%s", password_path);
    st = run(m, argv, null_fd);
    close(null_fd);
    return st;
}

/* Statements from a file, in one database. -j: they end at a semicolon and an empty line. */
static LOCH_STATUS run_sql(const struct maker *m, const char *data, const char *database,
                           const char *sql_path)
{
    char program[IMPORT_PATH_MAX], path[IMPORT_PATH_MAX + 64], name[64];
    char *argv[] = {program,
                    (char[]){"--single"},
                    (char[]){"-j"},
                    (char[]){"-D"},
                    NULL,
                    (char[]){"-c"},
                    path,
                    (char[]){"-c"},
                    (char[]){"exit_on_error=on"},
                    (char[]){"-c"},
                    (char[]){"fsync=off"},
                    (char[]){"-c"}, /* a password's statement is not to be in its failure */
                    (char[]){"log_min_error_statement=panic"},
                    name,
                    NULL};
    char directory[IMPORT_PATH_MAX];
    char *lib_dir = realpath(m->options->lib_dir, NULL);
    loch_status st;
    int sql_fd;

    if (lib_dir == NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "%s: %s", m->options->lib_dir, strerror(errno));

    snprintf(program, sizeof program, "%s/postgres", m->options->postgres_bin_dir);
    snprintf(path, sizeof path, "dynamic_library_path=%s:$libdir", lib_dir);
    free(lib_dir);
    snprintf(name, sizeof name, "%s", database);
    snprintf(directory, sizeof directory, "%s", data);
    argv[4] = directory;
    sql_fd = open(sql_path, O_RDONLY | O_CLOEXEC);
    if (sql_fd < 0)
        return LOCH_FAIL(LOCH_E_IO, "%s: %s", sql_path, strerror(errno));
    st = run(m, argv, sql_fd);
    close(sql_fd);
    return st;
}

static LOCH_STATUS make_data_dir(struct maker *m, const char *password, const char *data)
{
    char password_path[IMPORT_PATH_MAX + 16];
    loch_status st;

    snprintf(password_path, sizeof password_path, "%s/password", m->work);
    LOCH_TRY(write_secret(m, password, password_path));
    st = run_initdb(m, data, password_path);
    (void)unlink(password_path);
    LOCH_TRY(st);
    if (m->options->extension_sql == NULL || access(m->options->extension_sql, F_OK) != 0)
        return LOCH_OK;
    LOCH_TRY(run_sql(m, data, "template1", m->options->extension_sql));
    return run_sql(m, data, "postgres", m->options->extension_sql);
}

/* ---- the template ---- */

LOCH_STATUS loch_initdb_template_create(const char *path, struct loch_initdb_template **out)
{
    const size_t len = strlen(path) + 1;
    struct loch_initdb_template *t = calloc(1, sizeof *t + len);

    if (t == NULL || pthread_mutex_init(&t->lock, NULL) != 0) {
        free(t);
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a template");
    }
    memcpy(t->path, path, len);
    loch_status st = loch_remove_tree(path);
    if (!loch_is_ok(st)) {
        loch_initdb_template_destroy(t);
        return st;
    }
    *out = t;
    return LOCH_OK;
}

void loch_initdb_template_destroy(struct loch_initdb_template *take_template)
{
    if (take_template == NULL)
        return;
    if (!loch_is_ok(loch_remove_tree(take_template->path)))
        loch_log_failure("the template of new tenants stays");
    pthread_mutex_destroy(&take_template->lock);
    free(take_template);
}

/* /bin/tar in the work directory; the archive is its standard input or the file `to` there. */
static LOCH_STATUS run_tar(const struct maker *m, const char *to, int archive_fd)
{
    char file[64];
    char *pack[] = {(char[]){"/bin/tar"}, (char[]){"--create"}, file, (char[]){TEMPLATE_DIR}, NULL};
    char *unpack[] = {(char[]){"/bin/tar"}, (char[]){"--extract"}, (char[]){"--same-permissions"},
                      (char[]){"--file=-"}, NULL};

    if (to == NULL)
        return run(m, unpack, archive_fd);
    (void)snprintf(file, sizeof file, "--file=%s", to);
    const int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null_fd < 0)
        return LOCH_FAIL(LOCH_E_IO, "/dev/null: %s", strerror(errno));
    const loch_status st = run(m, pack, null_fd);
    close(null_fd);
    return st;
}

/* Made in the work directory, then moved: what is at its path is whole. Leaves the directory that
 * was packed. */
static LOCH_STATUS template_make(struct maker *m, const struct loch_initdb_template *t)
{
    char data[IMPORT_PATH_MAX + 16], packed[IMPORT_PATH_MAX + 16], password[LOCH_PASSWORD_BYTES];
    uint8_t random[16];

    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return LOCH_FAIL(LOCH_E_IO, "getrandom: %s", strerror(errno));
    loch_hex_format(random, 16, password);
    snprintf(data, sizeof data, "%s/" TEMPLATE_DIR, m->work);
    snprintf(packed, sizeof packed, "%s/template.tar", m->work);
    loch_status st = make_data_dir(m, password, data);
    loch_wipe(password, sizeof password);
    loch_wipe(random, sizeof random);
    LOCH_TRY(st);
    LOCH_TRY(run_tar(m, "template.tar", -1));
    if (rename(packed, t->path) != 0)
        return LOCH_FAIL(LOCH_E_IO, "%s: %s", t->path, strerror(errno));
    return LOCH_OK;
}

/* The directory TEMPLATE_DIR in the work directory. Somebody may clean a tmpfs: a template that is
 * gone is made again, and one that is open stays whole whatever happens to its name. */
static LOCH_STATUS template_take(struct maker *m, struct loch_initdb_template *t)
{
    loch_status st = LOCH_OK;

    pthread_mutex_lock(&t->lock);
    const int fd = open(t->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        st = template_make(m, t);
    pthread_mutex_unlock(&t->lock);
    if (fd < 0)
        return st;
    st = run_tar(m, NULL, fd);
    close(fd);
    return st;
}

static LOCH_STATUS copy_data_dir(struct maker *m, const char *password, const char *data)
{
    struct loch_initdb_template *t = m->options->from;
    char sql[96], sql_path[IMPORT_PATH_MAX + 16], taken[IMPORT_PATH_MAX + 16];

    LOCH_TRY(template_take(m, t));
    snprintf(taken, sizeof taken, "%s/" TEMPLATE_DIR, m->work);
    if (rename(taken, data) != 0)
        return LOCH_FAIL(LOCH_E_IO, "%s: %s", data, strerror(errno));
    snprintf(sql, sizeof sql, "ALTER ROLE postgres PASSWORD '%s';\n\n", password);
    snprintf(sql_path, sizeof sql_path, "%s/password", m->work);
    loch_status st = write_secret(m, sql, sql_path);
    loch_wipe(sql, sizeof sql);
    LOCH_TRY(st);
    st = run_sql(m, data, "postgres", sql_path);
    (void)unlink(sql_path);
    return st;
}

LOCH_STATUS loch_import_initdb(const struct loch_initdb_options *options, const uint8_t random[16],
                               char password[static LOCH_PASSWORD_BYTES], char **data_dir)
{
    struct maker m = {.options = options};
    char made[LOCH_PASSWORD_BYTES];
    size_t len;
    loch_status st;
    char *data;

    LOCH_TRY(loch_spawn_user(options->run_as_user, &m.uid, &m.gid));
    LOCH_TRY(make_work_dir(&m));
    len = strlen(m.work) + sizeof "/data";
    data = malloc(len);
    if (data == NULL) {
        (void)rmdir(m.work);
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "initdb");
    }
    snprintf(data, len, "%s/data", m.work);
    loch_hex_format(random, 16, made);
    st = options->from != NULL ? copy_data_dir(&m, made, data) : make_data_dir(&m, made, data);
    if (loch_is_ok(st)) {
        memcpy(password, made, sizeof made);
        *data_dir = data;
    } else {
        loch_import_remove_dir(data);
        free(data);
    }
    loch_wipe(made, sizeof made);
    return st;
}
