/* A local cluster: three safekeepers, a pageserver and computes on this machine, under one
 * directory.
 *
 * There is no supervisor: the directory says what should run, /proc says what does, and `loch up`
 * starts what is missing. Or `loch init --hosts` made it: then something else (containers, service
 * units) starts the safekeepers and the pageserver, each under a host name of its own; their
 * consoles are reached through D/run all the same, and `loch up` starts the computes only.
 *
 *   D/cluster.json             ids, port base, scratch
 *   D/cmk.key                  the `file` provider's key (development: not customer-held)
 *   D/conf/NAME.ini            one per daemon and compute; the operator's settings, too
 *   D/store/                   the object store (local back-end)
 *   D/safekeeper-N/ D/pageserver/   the daemons' data
 *   D/run/NAME.json            pid and start time, NAME.lock; D/run/.s.PGSQL.PORT the consoles
 *   D/run/BRANCH.side          a branch that a running command made for itself (side_branch.h)
 *   D/log/NAME.log
 *   D/computes/NAME.json       what a compute is attached to
 *   D/secrets/TENANT           superuser passwords, 0600
 *   D/deleting/TENANT-ID.json  a tenant's deletion that not all have heard of (cmd_tenant.c)
 *   D/audit-heads.json         what the last `loch key audit verify` saw
 *   SCRATCH/...                tmpfs: compute data directories, redo workers, libraries
 */
#ifndef LOCH_TOOLS_CLUSTER_H
#define LOCH_TOOLS_CLUSTER_H

#include "loch/base/status.h"
#include "loch/base/types.h"

#include <stdio.h>

#include <jansson.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#define LOCH_SAFEKEEPERS     3 /* of a new cluster */
#define LOCH_SAFEKEEPERS_MAX 9
#define LOCH_HOST_BYTES      64 /* of a host name, its end included */

struct loch_cluster {
    char dir[512];
    char scratch[128];
    char bin_dir[512]; /* where this program lies, so that a build tree works in place */
    char lib_dir[512];
    int port_base; /* a cluster uses port_base .. port_base + 99 */
    struct loch_id id, pageserver_node;
    struct loch_id safekeeper_node[LOCH_SAFEKEEPERS_MAX]; /* none: there is no such one */
    bool member[LOCH_SAFEKEEPERS_MAX];                    /* keeps the timelines' WAL */
    char host[LOCH_SAFEKEEPERS_MAX + 1][LOCH_HOST_BYTES]; /* as in loch_daemon_name */
    bool elsewhere;      /* the daemons are started by something else */
    const char *kms_uri; /* of the whole cluster; NULL: a key file of its own */
    char kms_text[1100]; /* where a loaded one stands */
    bool json;           /* --json: results as JSON on standard output */
    bool quiet;          /* a step of a larger command: results are not printed */
};

/* Reads D/cluster.json; LOCH_E_NOT_FOUND says to run `loch up`. dir and bin_dir are set by the
 * caller. */
LOCH_STATUS loch_cluster_load(struct loch_cluster *c);
/* Writes D/cluster.json, and every daemon's configuration: in one that is there already only the
 * list of the safekeepers changes (config_file.h). */
LOCH_STATUS loch_cluster_save(const struct loch_cluster *c);
/* Another safekeeper, in the first free place; not a member of anything yet. */
LOCH_STATUS loch_cluster_add_safekeeper(struct loch_cluster *c, int *n);
/* It is no more; its configuration goes. Its directory is the caller's to remove. */
LOCH_STATUS loch_cluster_drop_safekeeper(struct loch_cluster *c, int n);
/* Makes the directory, ids, key and configuration of a new cluster. hosts: "SK1,SK2,SK3,PAGESERVER"
 * when something else starts the daemons, or NULL. LOCH_E_EXISTS when the directory has anything
 * else in it (directory.h); what a creation that was cut short left is gone on with. */
LOCH_STATUS loch_cluster_create(struct loch_cluster *c, const char *hosts);

static inline int loch_port_safekeeper(const struct loch_cluster *c, int n)
{
    return c->port_base + 1 + n; /* n from 0 */
}

static inline bool loch_safekeeper_there(const struct loch_cluster *c, int n)
{
    return !loch_id_is_none(&c->safekeeper_node[n]);
}

#define LOCH_EACH_SAFEKEEPER(c_, i_)                                                               \
    for (int i_ = 0; i_ < LOCH_SAFEKEEPERS_MAX; i_++)                                              \
        if (loch_safekeeper_there(c_, i_))

/* How many of the members make a quorum. */
static inline int loch_quorum(const struct loch_cluster *c)
{
    int n = 0;

    LOCH_EACH_SAFEKEEPER(c, i)
    n += c->member[i];
    return n / 2 + 1;
}

static inline int loch_port_pageserver(const struct loch_cluster *c)
{
    return c->port_base + 10;
}

/* The address peers and computes reach daemon i at, "host:port". */
void loch_daemon_address(const struct loch_cluster *c, int i, char *out, size_t len);
/* Fails, saying what to do instead, when the daemons are started by something else. */
LOCH_STATUS loch_cluster_ours(const struct loch_cluster *c, const char *what);

/* Every daemon: the safekeepers that are there, then the pageserver. */
#define LOCH_EACH_DAEMON(c_, i_)                                                                   \
    for (int i_ = 0; i_ <= LOCH_SAFEKEEPERS_MAX; i_++)                                             \
        if (i_ == LOCH_SAFEKEEPERS_MAX || loch_safekeeper_there(c_, i_))

static inline int loch_port_daemon(const struct loch_cluster *c, int i)
{
    return i < LOCH_SAFEKEEPERS_MAX ? loch_port_safekeeper(c, i) : loch_port_pageserver(c);
}

static inline const char *loch_daemon_name(int i, char out[static 32])
{
    if (i < LOCH_SAFEKEEPERS_MAX)
        (void)snprintf(out, 32, "safekeeper-%d", i + 1);
    else
        (void)snprintf(out, 32, "pageserver");
    return out;
}

static inline int loch_safekeeper_count(const struct loch_cluster *c)
{
    int n = 0;

    LOCH_EACH_SAFEKEEPER(c, i)
    n++;
    return n;
}

#define LOCH_PORT_COMPUTE_FIRST 40
#define LOCH_PORT_LAST          99

/* ---- processes ---- */
/* Is the process that D/run/NAME.json names still the one that was started? pid out when so. */
bool loch_process_alive(const struct loch_cluster *c, const char *name, pid_t *pid);
/* Starts argv detached, output to D/log/NAME.log, `input` (may be NULL) on descriptor 3, and notes
 * it in D/run/NAME.json first: what cannot be noted does not run, nor what this process did not
 * live to note. When another command has started it meanwhile, *pid is that one. */
LOCH_STATUS loch_process_start(const struct loch_cluster *c, const char *name,
                               const char *const *argv, const char *input, pid_t *pid);
/* Sends the signal and waits until it is gone; LOCH_E_UNAVAILABLE after timeout_ms. Ok when it was
 * not running. */
LOCH_STATUS loch_process_stop(const struct loch_cluster *c, const char *name, int signo,
                              int timeout_ms);
/* Who holds DIR/daemon.pid (loch_daemon_lock_dir), noted or not: 0 nobody, -1 it does not say. */
pid_t loch_process_holder(const char *dir);
/* LOCH_E_UNAVAILABLE when somebody does, though no process of that name is known to run. */
LOCH_STATUS loch_process_none(const char *name, const char *dir);
/* The last lines of D/log/NAME.log, for error messages; returns `out`. */
const char *loch_log_tail(const struct loch_cluster *c, const char *name, char *out, size_t len);

/* ---- small files ---- */
LOCH_STATUS loch_json_write(const char *path, const json_t *value, mode_t mode);
/* LOCH_E_NOT_FOUND when there is none. The caller decrefs *out. */
LOCH_STATUS loch_json_read(const char *path, json_t **out);
/* Beside the file, synced, then renamed into its place: after a failure it is left as it was. */
LOCH_STATUS loch_text_write(const char *path, const char *text, mode_t mode);
/* The same with the owner and mode of the file that is replaced, `was`, whose reader may be another
 * user. st_mode 0: there is none, and it gets `mode`. */
LOCH_STATUS loch_text_replace(const char *path, const char *text, mode_t mode,
                              const struct stat *was);
/* D/computes/NAME.json: what a compute is, as `loch compute start` was told. */
void loch_compute_note_path(const struct loch_cluster *c, const char *name, char path[static 700]);
/* D/secrets/TENANT: the password of the tenant of that name, where `loch` made it. */
void loch_password_path(const struct loch_cluster *c, const char *tenant, char path[static 700]);
/* False: not all of it was written, and errno says why. */
bool loch_write_all(int fd, const char *text, size_t len);
/* Makes a directory with exactly that mode, whatever the umask, and its parents; one that is there
 * is left as it is. */
LOCH_STATUS loch_mkdir(const char *path, mode_t mode);

/* ---- waiting ---- */
uint64_t loch_now_ms(void);
void loch_pause_ms(unsigned ms);

#endif
