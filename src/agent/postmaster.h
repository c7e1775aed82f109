/* One boot of the stock PostgreSQL: its directory on the scratch, its command line, its process.
 *
 *   SCRATCH/boot-XXXXXXXX/data          data directory, fresh every time
 *   SCRATCH/boot-XXXXXXXX/sock          unix socket, reachable by the server's user (and root) only
 *   SCRATCH/boot-XXXXXXXX/postgres.log  the server's own log: it holds statements, so it lies here
 */
#ifndef LOCH_AGENT_POSTMASTER_H
#define LOCH_AGENT_POSTMASTER_H

#include "config.h"
#include "credential.h"

#include "loch/io/env.h"

struct loch_postmaster;

struct loch_postmaster_order {
    struct loch_env *env;
    const struct loch_agent_config *config;
    const struct loch_credential *credential;
};

/* Removes the directories of all boots below `scratch`, none of which may be in use. LOCH_E_IO says
 * what stays; the others are gone. */
LOCH_STATUS loch_postmaster_remove_boots(const char *scratch);
/* Makes the boot's directories; removes those of earlier boots (nothing of them is needed). */
LOCH_STATUS loch_postmaster_prepare(const struct loch_postmaster_order *order,
                                    struct loch_postmaster **out);
/* The data directory; emptied by loch_postmaster_clear. */
const char *loch_postmaster_pgdata(const struct loch_postmaster *p);
const char *loch_postmaster_socket_dir(const struct loch_postmaster *p);
LOCH_STATUS loch_postmaster_clear(struct loch_postmaster *p);
/* Starts the server on the unpacked basebackup. exited comes once, with the wait status. */
LOCH_STATUS loch_postmaster_start(struct loch_postmaster *p, uint64_t term, loch_lsn start_lsn,
                                  void (*exited)(void *arg, int wait_status), void *arg);
/* Hands the server the page key of the credential, when that has become newer; true: it has. */
bool loch_postmaster_renew(struct loch_postmaster *p);
/* 0 before start and after its end. */
pid_t loch_postmaster_pid(const struct loch_postmaster *p);
/* True once the server accepts connections (its postmaster.pid says so). */
bool loch_postmaster_ready(const struct loch_postmaster *p);
/* SIGINT: fast shutdown, with the shutdown checkpoint. SIGQUIT: at once. SIGKILL. */
void loch_postmaster_signal(struct loch_postmaster *p, int signo);
/* SIGKILL to the server and all of its children, at once: nothing more leaves them. */
void loch_postmaster_kill(struct loch_postmaster *p);
/* The server must have ended. Removes the boot's directory. Takes NULL. */
void loch_postmaster_destroy(struct loch_postmaster *p);

#endif
