/* Holds: the start and watch of a stock PostgreSQL.
 *
 * Everything the design relies on stands on the command line, where neither ALTER SYSTEM nor an
 * edited file can undo it. The key for the pageserver goes in by a pipe on descriptor 3, which
 * stays for those of later wire epochs. Source of the settings: PostgreSQL 15 documentation,
 * chapter 20.
 */
#include "postmaster.h"

#include "loch/base/log.h"
#include "loch/io/tree.h"
#include "loch/crypto/page_key.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

#define ARGS_MAX 256

struct loch_postmaster {
    struct loch_postmaster_order o;
    char boot[300], pgdata[320], sock[320], log[330];
    struct loch_child *child;
    pid_t pid;
    int key_fd;         /* page keys go in here; -1: not open */
    uint32_t key_epoch; /* of the last one */
    void (*exited)(void *arg, int wait_status);
    void *arg;
};

/* A command line under construction; owns its strings. */
struct args {
    char *list[ARGS_MAX + 1];
    size_t count;
    bool bad;
};

static void add(struct args *a, const char *text)
{
    char *copy = strdup(text);

    if (copy == NULL || a->count == ARGS_MAX) {
        free(copy);
        a->bad = true;
        return;
    }
    a->list[a->count++] = copy;
}

__attribute__((format(printf, 2, 3))) static void set(struct args *a, const char *fmt, ...)
{
    char *text = NULL;
    va_list list;

    va_start(list, fmt);
    int n = vasprintf(&text, fmt, list);
    va_end(list);
    if (n < 0) {
        a->bad = true;
        return;
    }
    add(a, "-c");
    add(a, text);
    free(text);
}

static void args_fini(struct args *a)
{
    for (size_t i = 0; i < a->count; i++)
        free(a->list[i]);
    a->count = 0;
}

static loch_status make_dir(const struct loch_postmaster *p, const char *path, mode_t mode)
{
    if (mkdir(path, mode) != 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot make %s: %s", path, strerror(errno));
    if (geteuid() == 0 && chown(path, p->o.config->uid, p->o.config->gid) != 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot give %s to the server's user: %s", path,
                         strerror(errno));
    return LOCH_OK;
}

/* postmaster.pid belongs to the server's user, who is not trusted: a link is not followed, a FIFO
 * not waited for. NULL when there is no such file. */
static FILE *open_pid_file(const char *pgdata)
{
    char path[700];
    struct stat sb;

    (void)snprintf(path, sizeof path, "%s/postmaster.pid", pgdata);
    const int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    FILE *f = fstat(fd, &sb) == 0 && S_ISREG(sb.st_mode) ? fdopen(fd, "r") : NULL;
    if (f == NULL)
        (void)close(fd);
    return f;
}

/* A killed server leaves its System V segment behind (there are 4096 in all); a server that starts
 * on the same directory would remove it, but nobody ever does. Lines 1 and 7 of postmaster.pid are
 * the pid, and the segment's key and id. Source: miscadmin.h, LOCK_FILE_LINE_SHMEM_KEY. */
static void release_segment(const char *pgdata)
{
    char line[200];
    long pid = 0;
    unsigned long key = 0;
    int id = -1;
    struct shmid_ds segment;

    FILE *f = open_pid_file(pgdata);
    if (f == NULL)
        return;
    for (int n = 1; n <= 7 && fgets(line, sizeof line, f) != NULL; n++) {
        if (n == 1)
            pid = strtol(line, NULL, 10);
        if (n == 7 && sscanf(line, "%lu %d", &key, &id) != 2)
            id = -1;
    }
    (void)fclose(f);
    if (id >= 0 && shmctl(id, IPC_STAT, &segment) == 0 && segment.shm_cpid == (pid_t)pid)
        (void)shmctl(id, IPC_RMID, NULL);
}

loch_status loch_postmaster_remove_boots(const char *scratch)
{
    char path[600];
    loch_status st = LOCH_OK;
    DIR *dir = opendir(scratch);
    const struct dirent *entry;

    if (dir == NULL)
        return LOCH_FAIL(LOCH_E_IO, "cannot list %s: %s", scratch, strerror(errno));
    while ((entry = readdir(dir)) != NULL) {
        if (strncmp(entry->d_name, "boot-", 5) != 0)
            continue;
        (void)snprintf(path, sizeof path, "%s/%s/data", scratch, entry->d_name);
        release_segment(path);
        (void)snprintf(path, sizeof path, "%s/%s", scratch, entry->d_name);
        const loch_status one = loch_remove_tree(path);
        if (!loch_is_ok(one))
            st = one; /* and the others are tried */
    }
    (void)closedir(dir);
    return st;
}

loch_status loch_postmaster_prepare(const struct loch_postmaster_order *order,
                                    struct loch_postmaster **out)
{
    struct loch_postmaster *p = calloc(1, sizeof *p);
    uint8_t random[8];
    char text[17];
    loch_status st;

    if (p == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a server");
    p->o = *order;
    p->key_fd = -1;
    LOCH_TRY_OUT(st, loch_env_random(order->env, random, sizeof random));
    loch_hex_format(random, sizeof random, text);
    (void)snprintf(p->boot, sizeof p->boot, "%s/boot-%s", order->config->scratch, text);
    (void)snprintf(p->pgdata, sizeof p->pgdata, "%s/data", p->boot);
    (void)snprintf(p->sock, sizeof p->sock, "%s/sock", p->boot);
    (void)snprintf(p->log, sizeof p->log, "%s/postgres.log", p->boot);
    if (strlen(p->sock) > 80) {
        st = LOCH_FAIL(LOCH_E_LIMIT, "%s is too long a path for a unix socket", p->sock);
        goto out;
    }
    if (!loch_is_ok(loch_postmaster_remove_boots(order->config->scratch)))
        loch_log_failure("an earlier boot's directory stays");
    LOCH_TRY_OUT(st, make_dir(p, p->boot, 0700));
    LOCH_TRY_OUT(st, make_dir(p, p->pgdata, 0700));
    LOCH_TRY_OUT(st, make_dir(p, p->sock, 0700));
    *out = p;
    return LOCH_OK;
out:
    free(p);
    return st;
}

const char *loch_postmaster_pgdata(const struct loch_postmaster *p)
{
    return p->pgdata;
}

const char *loch_postmaster_socket_dir(const struct loch_postmaster *p)
{
    return p->sock;
}

loch_status loch_postmaster_clear(struct loch_postmaster *p)
{
    LOCH_TRY(loch_remove_tree(p->pgdata));
    return make_dir(p, p->pgdata, 0700);
}

/* The agent reads the WAL over the private socket directory without a password; the line stands
 * before the tenant's own. What lets other hosts in, by password, stands behind them. */
static loch_status allow_proposer(const struct loch_postmaster *p)
{
    char path[400];
    struct loch_buf was = {0};
    struct loch_buf is = {0};
    static const char line[] = "local replication all trust # the agent, by its private socket\n";
    static const char hosts[] = "host all all all scram-sha-256 # loch: listens for other hosts\n";
    loch_status st = LOCH_OK;
    const bool far = strcmp(p->o.config->listen, "127.0.0.1") != 0;

    (void)snprintf(path, sizeof path, "%s/pg_hba.conf", p->pgdata);
    LOCH_TRY(loch_env_read_file(p->o.env, path, 1 << 20, &was));
    if (was.len < sizeof line - 1 || memcmp(was.data, line, sizeof line - 1) != 0)
        LOCH_TRY_OUT(st, loch_buf_append(&is, line, sizeof line - 1));
    LOCH_TRY_OUT(st, loch_buf_append(&is, was.data, was.len));
    if (far && is.len > 0 && is.data[is.len - 1] != '\n')
        LOCH_TRY_OUT(st, loch_buf_append(&is, "\n", 1));
    if (far && memmem(was.data, was.len, hosts, sizeof hosts - 1) == NULL)
        LOCH_TRY_OUT(st, loch_buf_append(&is, hosts, sizeof hosts - 1));
    if (is.len == was.len)
        goto out;
    int fd = open(path, O_WRONLY | O_TRUNC | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || write(fd, is.data, is.len) != (ssize_t)is.len)
        st = LOCH_FAIL(LOCH_E_IO, "cannot write %s: %s", path, strerror(errno));
    if (fd >= 0)
        (void)close(fd);
out:
    loch_buf_fini(&was);
    loch_buf_fini(&is);
    return st;
}

static void add_safety(struct args *a)
{
    /* Durability is the quorum's: a local flush is a memory copy. */
    set(a, "fsync=off");
    set(a, "full_page_writes=off");
    set(a, "wal_init_zero=off");
    set(a, "wal_level=replica");
    set(a, "wal_log_hints=off");
    /* Files of the boot's directory, below the scratch: gone with it, however the server ends. */
    set(a, "dynamic_shared_memory_type=mmap");
    set(a, "shared_memory_type=mmap"); /* gone with its processes; sysv's would outlive them */
    set(a, "archive_mode=off");
    set(a, "synchronous_standby_names=loch_proposer");
    /* A crash loses local pages that storage has: start again from there. */
    set(a, "restart_after_crash=off");
    /* The proposer's connection is never given up for silence. */
    set(a, "wal_sender_timeout=0");
    set(a, "tcp_keepalives_idle=0");
    set(a, "logging_collector=off");
    set(a, "log_destination=stderr");
}

static void add_identity(struct args *a, const struct loch_postmaster *p, uint64_t term,
                         loch_lsn start_lsn)
{
    const struct loch_credential *c = p->o.credential;
    char text[LOCH_ID_TEXT_BYTES];

    set(a, "shared_preload_libraries=loch");
    set(a, "dynamic_library_path=%s:$libdir", p->o.config->lib_dir);
    set(a, "loch.pageserver=%s", c->pageserver.address);
    set(a, "loch.tenant=%s", loch_id_format(&c->tenant, text));
    set(a, "loch.timeline=%s", loch_id_format(&c->timeline, text));
    set(a, "loch.term=%" PRIu64, term);
    set(a, "loch.compute_epoch=%" PRIu64, c->compute_epoch);
    set(a, "loch.start_lsn=" LOCH_LSN_FMT, LOCH_LSN_ARG(start_lsn));
}

static void build_args(struct args *a, const struct loch_postmaster *p, uint64_t term,
                       loch_lsn start_lsn)
{
    const struct loch_agent_config *c = p->o.config;
    char path[600];

    (void)snprintf(path, sizeof path, "%s/postgres", c->pg_bin_dir);
    add(a, path);
    add(a, "-D");
    add(a, p->pgdata);
    /* Defaults that suit WAL on a tmpfs; users may set them otherwise. */
    set(a, "max_wal_size=256MB");
    set(a, "min_wal_size=64MB");
    set(a, "wal_keep_size=0");
    /* Reading ahead costs a request here, not a seek. */
    set(a, "effective_io_concurrency=64");
    set(a, "maintenance_io_concurrency=64");
    /* Writers are slowed before that (loch.max_lag, and whatever that is, at three quarters). */
    set(a, "max_slot_wal_keep_size=1GB");
    set(a, "max_wal_senders=%u", LOCH_AGENT_WAL_SENDERS);
    set(a, "max_replication_slots=%u", LOCH_AGENT_WAL_SENDERS);
    for (size_t i = 0; i < c->setting_count; i++)
        set(a, "%s=%s", c->settings[i].name, c->settings[i].value);
    if (c->read_only) {
        set(a, "loch.read_only=on");
        set(a, "default_transaction_read_only=on");
        set(a, "autovacuum=off"); /* it would clean what will be thrown away */
    }
    add_safety(a);
    set(a, "listen_addresses=%s", c->listen);
    set(a, "port=%u", c->port);
    set(a, "unix_socket_directories=%s", p->sock);
    set(a, "unix_socket_permissions=0700");
    set(a, "data_directory=%s", p->pgdata);
    set(a, "hba_file=%s/pg_hba.conf", p->pgdata);
    set(a, "ident_file=%s/pg_ident.conf", p->pgdata);
    add_identity(a, p, term, start_lsn);
}

static void close_key_pipe(struct loch_postmaster *p)
{
    if (p->key_fd >= 0)
        (void)close(p->key_fd);
    p->key_fd = -1;
}

static void on_exit_of_child(void *arg, int wait_status)
{
    struct loch_postmaster *p = arg;

    p->pid = 0;
    p->child = NULL;
    close_key_pipe(p);
    p->exited(p->arg, wait_status);
}

/* One frame, at once or not at all: it is smaller than what a pipe takes in one piece. */
static loch_status send_key(struct loch_postmaster *p)
{
    const struct loch_credential *c = p->o.credential;
    uint8_t frame[LOCH_PAGE_KEY_BYTES];

    loch_page_key_encode(loch_buf_slice(&c->pageserver_identity), &c->pageserver_psk, frame);
    const ssize_t n = write(p->key_fd, frame, sizeof frame);
    loch_wipe(frame, sizeof frame);
    if (n != (ssize_t)sizeof frame)
        return LOCH_FAIL(LOCH_E_IO, "cannot hand over the page key: %s", strerror(errno));
    p->key_epoch = c->pageserver.wire_epoch;
    return LOCH_OK;
}

/* A pipe that holds the page key, and takes its successors. */
static loch_status key_pipe(struct loch_postmaster *p, int *read_fd)
{
    int fd[2];

    if (pipe2(fd, O_CLOEXEC) != 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot make a pipe: %s", strerror(errno));
    *read_fd = fd[0];
    p->key_fd = fd[1];
    if (fcntl(fd[1], F_SETFL, O_NONBLOCK) != 0)
        return LOCH_FAIL(LOCH_E_IO, "fcntl: %s", strerror(errno));
    return send_key(p);
}

bool loch_postmaster_renew(struct loch_postmaster *p)
{
    if (p->key_fd < 0 || p->key_epoch == p->o.credential->pageserver.wire_epoch)
        return false;
    if (!loch_is_ok(send_key(p))) {
        loch_log_failure("the page key of the new wire epoch");
        return false;
    }
    LOCH_INFO("PostgreSQL has the page key of wire epoch %" PRIu32, p->key_epoch);
    return true;
}

loch_status loch_postmaster_start(struct loch_postmaster *p, uint64_t term, loch_lsn start_lsn,
                                  void (*exited)(void *arg, int wait_status), void *arg)
{
    static const char *const environment[] = {"PATH=/usr/bin:/bin", "LANG=C.UTF-8", "LOCH_KEY_FD=3",
                                              NULL};
    struct args args = {0};
    int read_fd = -1;
    loch_status st;

    LOCH_TRY(allow_proposer(p));
    build_args(&args, p, term, start_lsn);
    int log_fd = open(p->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (args.bad || log_fd < 0) {
        st = args.bad ? LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for the command line")
                      : LOCH_FAIL(LOCH_E_IO, "cannot open %s: %s", p->log, strerror(errno));
        goto out;
    }
    LOCH_TRY_OUT(st, key_pipe(p, &read_fd));
    p->exited = exited;
    p->arg = arg;
    struct loch_child_options options = {.argv = (const char *const *)args.list,
                                         .env = environment,
                                         .cwd = p->boot,
                                         .uid = p->o.config->uid,
                                         .gid = p->o.config->gid,
                                         .stdin_fd = -1,
                                         .stdout_fd = log_fd,
                                         .stderr_fd = log_fd,
                                         .pass_fd = read_fd,
                                         .die_with_parent = true};
    LOCH_TRY_OUT(st, loch_env_spawn(p->o.env, &options, &p->child, on_exit_of_child, p));
    p->pid = loch_child_pid(p->child);
out:
    if (log_fd >= 0)
        (void)close(log_fd);
    if (read_fd >= 0)
        (void)close(read_fd);
    if (!loch_is_ok(st))
        close_key_pipe(p);
    args_fini(&args);
    return st;
}

pid_t loch_postmaster_pid(const struct loch_postmaster *p)
{
    return p->pid;
}

bool loch_postmaster_ready(const struct loch_postmaster *p)
{
    char line[200];
    int n = 0;
    bool ready = false;

    FILE *f = open_pid_file(p->pgdata);
    if (f == NULL)
        return false;
    /* The eighth line is the state. Source: miscadmin.h, LOCK_FILE_LINE_PM_STATUS. */
    while (n < 8 && fgets(line, sizeof line, f) != NULL)
        if (++n == 8)
            ready = strncmp(line, "ready", 5) == 0;
    (void)fclose(f);
    return ready && p->pid != 0;
}

void loch_postmaster_signal(struct loch_postmaster *p, int signo)
{
    if (p->child != NULL)
        loch_child_kill(p->child, signo);
}

/* Stopped first, so that it has no new children while they are killed. Its walsender, backends and
 * workers are all its own children. */
void loch_postmaster_kill(struct loch_postmaster *p)
{
    char path[64];
    int child;

    if (p->child == NULL)
        return;
    loch_child_kill(p->child, SIGSTOP);
    (void)snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)p->pid, (int)p->pid);
    FILE *f = fopen(path, "re");
    while (f != NULL && fscanf(f, "%d", &child) == 1)
        if (child > 1)
            (void)kill((pid_t)child, SIGKILL);
    if (f != NULL)
        (void)fclose(f);
    loch_child_kill(p->child, SIGKILL);
}

void loch_postmaster_destroy(struct loch_postmaster *p)
{
    if (p == NULL)
        return;
    release_segment(p->pgdata);
    if (!loch_is_ok(loch_remove_tree(p->boot)))
        LOCH_WARN("the boot's directory stays: %s", loch_error_text());
    free(p);
}
