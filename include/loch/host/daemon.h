/* What every daemon's main does the same way: harden, log, lock the data directory, loop, stop.
 *
 *   static const struct loch_config_item items[] = { LOCH_DAEMON_ITEMS, { "safekeeper", "node", ...
 * } }; int main(int argc, char **argv) { return loch_daemon_main(argc, argv, &program, &hooks); }
 */
#ifndef LOCH_HOST_DAEMON_H
#define LOCH_HOST_DAEMON_H

#include "loch/host/config.h"
#include "loch/host/console.h"
#include "loch/host/metrics.h"
#include "loch/io/env.h"

#ifdef LOCH_NULL_CIPHER
#define LOCH_VERSION "0.1.0-NOTHING-IS-ENCRYPTED"
#else
#define LOCH_VERSION "0.1.0"
#endif

/* Settings that every daemon has. */
#define LOCH_DAEMON_ITEMS                                                                          \
    {.section = "daemon",                                                                          \
     .key = "dir",                                                                                 \
     .type = LOCH_CONFIG_PATH,                                                                     \
     .help = "Data directory; one daemon at a time."},                                             \
        {.section = "daemon",                                                                      \
         .key = "console",                                                                         \
         .type = LOCH_CONFIG_PATH,                                                                 \
         .value = "",                                                                              \
         .help = "Unix socket of the console (PostgreSQL protocol); none when empty."},            \
        {.section = "daemon",                                                                      \
         .key = "metrics",                                                                         \
         .type = LOCH_CONFIG_ADDRESS,                                                              \
         .value = "",                                                                              \
         .help = "Loopback address for /metrics, /healthz and the status page; none when empty."}, \
    {                                                                                              \
        .section = "daemon", .key = "log", .type = LOCH_CONFIG_CHOICE, .value = "info",            \
        .choices = "debug|info|warn|error", .help = "Least level of log lines."                    \
    }

/* What a running daemon has at hand; all of it lives until main returns. */
struct loch_daemon {
    struct loch_env *env;
    const struct loch_config *config;
    struct loch_metrics *metrics;
    const char *dir;
};

struct loch_daemon_hooks {
    const struct loch_console_command *commands; /* handlers get *state */
    size_t command_count;
    /* Builds the daemon's world; *state is handed to stop, finish and the console's handlers. The
     * console listens when this has returned LOCH_OK. */
    LOCH_STATUS (*start)(const struct loch_daemon *daemon, void **state);
    /* SIGTERM or SIGINT (first one): wind down, then call loch_env_stop. A second signal stops at
     * once. NULL: the loop stops at once. */
    void (*stop)(void *state);
    /* After the loop has ended: release. May be NULL. */
    void (*finish)(void *state);
    /* loch_console_hold with *state. May be NULL. */
    bool (*hold)(void *state, const struct loch_console_request *request);
};

/* The whole life; returns the exit code. Failures are logged. */
int loch_daemon_main(int argc, char *const *argv, const struct loch_config_program *program,
                     const struct loch_daemon_hooks *hooks);

/* Locks <dir>/daemon.pid (flock) and writes the pid into it: LOCH_E_EXISTS naming directory and pid
 * when another process holds it for two seconds (one just killed may still be dying). *fd stays
 * open for the process's life; the lock goes with it. */
LOCH_STATUS loch_daemon_lock_dir(const char *dir, int *fd);

#endif
