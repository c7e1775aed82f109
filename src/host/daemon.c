/* Holds: the life of a daemon around its own work. Invariant: nothing of a data directory is
 * touched before its lock is held. */
#include "loch/host/daemon.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/base/secret.h"
#include "loch/crypto/memory.h"
#include "loch/host/heap.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

struct life {
    struct loch_daemon daemon;
    const struct loch_daemon_hooks *hooks;
    struct loch_config *config;
    struct loch_console *console;
    struct loch_heap heap;
    void *state;
    bool started;
    bool stopping;
};

#define LOCK_TRIES    40
#define LOCK_PAUSE_US 50000

loch_status loch_daemon_lock_dir(const char *dir, int *fd)
{
    char path[PATH_MAX];
    char text[32] = "";

    int n = snprintf(path, sizeof path, "%s/daemon.pid", dir);
    if (n < 0 || (size_t)n >= sizeof path)
        return LOCH_FAIL(LOCH_E_INVALID, "path too long: %.80s...", dir);
    int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot open %s: %s", path, strerrordesc_np(errno));
    /* A predecessor that was just killed may still be giving its memory back. */
    bool locked = false;
    int err = 0;
    for (int i = 0; i < LOCK_TRIES && !locked; i++) {
        locked = flock(lock, LOCK_EX | LOCK_NB) == 0;
        err = locked ? 0 : errno;
        if (locked || err != EWOULDBLOCK)
            break;
        (void)usleep(LOCK_PAUSE_US);
    }
    if (!locked) {
        ssize_t got = pread(lock, text, sizeof text - 1, 0);
        (void)close(lock);
        if (err != EWOULDBLOCK)
            return LOCH_FAIL(LOCH_E_IO, "cannot lock %s: %s", path, strerrordesc_np(err));
        return LOCH_FAIL(LOCH_E_EXISTS, "data directory %s is in use by process %.*s", dir,
                         got > 0 ? (int)strcspn(text, "\n") : 1, got > 0 ? text : "?");
    }
    n = snprintf(text, sizeof text, "%d\n", (int)getpid());
    if (ftruncate(lock, 0) != 0 || pwrite(lock, text, (size_t)n, 0) != n) {
        loch_status st = LOCH_FAIL(LOCH_E_IO, "cannot write %s: %s", path, strerrordesc_np(errno));
        (void)close(lock);
        return st;
    }
    *fd = lock;
    return LOCH_OK;
}

static void signalled(void *arg)
{
    struct life *life = arg;

    if (life->stopping || life->hooks->stop == NULL) {
        loch_env_stop(life->daemon.env);
        return;
    }
    life->stopping = true;
    LOCH_INFO("stopping");
    loch_metrics_health(life->daemon.metrics, false, "stopping");
    life->hooks->stop(life->state);
}

/* As many descriptors as the system lets us have: every timeline and compute needs some. */
static void raise_limits(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static const char *optional(const struct loch_config *config, const char *key)
{
    return loch_config_is_set(config, "daemon", key) ? loch_config_string(config, "daemon", key)
                                                     : NULL;
}

static loch_status prepare(struct life *life, const struct loch_config_program *program)
{
    int lock = -1;
    struct loch_daemon *d = &life->daemon;

    d->config = life->config;
    d->dir = loch_config_string(life->config, "daemon", "dir");
    raise_limits();
    LOCH_TRY(loch_env_real_create(&d->env));
    LOCH_TRY(loch_heap_tend(&life->heap, d->env));
    LOCH_TRY(loch_env_mkdirs(d->env, d->dir));
    LOCH_TRY(loch_daemon_lock_dir(d->dir, &lock)); /* held until the process ends */
    LOCH_TRY(loch_metrics_create(program->name, &d->metrics));
    LOCH_TRY(loch_env_on_signal(d->env, SIGTERM, signalled, life));
    LOCH_TRY(loch_env_on_signal(d->env, SIGINT, signalled, life));
    const char *metrics = optional(life->config, "metrics");
    if (metrics != NULL)
        LOCH_TRY(loch_metrics_serve(d->metrics, metrics));
    return LOCH_OK;
}

static loch_status start(struct life *life)
{
    struct loch_daemon *d = &life->daemon;
    const char *console = optional(life->config, "console");

    LOCH_TRY(life->hooks->start(d, &life->state));
    life->started = true;
    if (console != NULL)
        LOCH_TRY(loch_console_listen(d->env, console, life->hooks->commands,
                                     life->hooks->command_count, life->state, &life->console));
    if (console != NULL)
        loch_console_hold(life->console, life->hooks->hold);
    loch_metrics_health(d->metrics, true, "running");
    return LOCH_OK;
}

int loch_daemon_main(int argc, char *const *argv, const struct loch_config_program *program,
                     const struct loch_daemon_hooks *hooks)
{
    static const enum loch_log_level levels[] = {LOCH_LOG_DEBUG, LOCH_LOG_INFO, LOCH_LOG_WARN,
                                                 LOCH_LOG_ERROR};
    struct life life = {.hooks = hooks};
    enum loch_config_verdict verdict = LOCH_CONFIG_EXIT;

    (void)umask(077);
    loch_heap_setup();
    loch_log_init(program->name, LOCH_LOG_INFO);
    loch_status st = loch_config_load(program, argc, argv, stdout, &verdict, &life.config);
    if (!loch_is_ok(st)) {
        (void)fprintf(stderr, "%s: %s\n", program->name, loch_error_text());
        return 2;
    }
    if (verdict == LOCH_CONFIG_EXIT)
        return 0;
    loch_log_init(program->name, levels[loch_config_u64(life.config, "daemon", "log")]);
    LOCH_TRY_OUT(st, loch_process_harden());
    LOCH_TRY_OUT(st, loch_crypto_memory_init());
    LOCH_TRY_OUT(st, prepare(&life, program));
    LOCH_TRY_OUT(st, start(&life));
    LOCH_INFO("%s %s runs in %s (secrets: %s)", program->name, LOCH_VERSION, life.daemon.dir,
              loch_secret_backing());
    loch_env_run(life.daemon.env);
    LOCH_INFO("stopped");
out:
    if (!loch_is_ok(st))
        loch_log_failure("cannot start");
    loch_console_close(life.console);
    if (life.started && hooks->finish != NULL)
        hooks->finish(life.state);
    loch_metrics_destroy(life.daemon.metrics);
    loch_env_real_destroy(life.daemon.env);
    loch_config_destroy(life.config);
    return loch_is_ok(st) ? 0 : 1;
}
