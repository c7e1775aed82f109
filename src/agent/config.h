/* The agent's settings, as plain values. Its data directory ([daemon] dir) is the compute's
 * scratch. */
#ifndef LOCH_AGENT_CONFIG_H
#define LOCH_AGENT_CONFIG_H

#include "loch/base/types.h"
#include "loch/host/config.h"

#include <sys/types.h>

#define LOCH_AGENT_SETTINGS_MAX 64u
/* max_wal_senders and max_replication_slots: PostgreSQL's own default, and the least. */
#define LOCH_AGENT_WAL_SENDERS 10u

struct loch_agent_setting {
    char *name, *value;
};

struct loch_agent_config {
    struct loch_id compute;
    const char *dir;     /* the daemon's directory: agent.json */
    const char *scratch; /* the server's files: dir, or a sealed directory below it (scratch.h) */
    const char *listen;  /* addresses clients connect to */
    uint32_t port;
    const char *lib_dir;       /* of loch.so */
    const char *pg_bin_dir;    /* of the stock PostgreSQL */
    const char *superuser;     /* database role the proposer connects as */
    uint64_t wal_window_bytes; /* recent WAL kept in memory for safekeepers that lag */
    bool read_only;            /* every transaction is */
    uid_t uid;                 /* who the server runs as; 0 and 0: as ourselves */
    gid_t gid;
    struct loch_agent_setting settings[LOCH_AGENT_SETTINGS_MAX]; /* users', owned */
    size_t setting_count;
};

extern const struct loch_config_program loch_agent_program;
/* Strings borrow from `config`, but for the settings. LOCH_E_INVALID names what is wrong: a setting
 * that the design relies on cannot be given. */
LOCH_STATUS loch_agent_config_read(const struct loch_config *config, struct loch_agent_config *out);
void loch_agent_config_fini(struct loch_agent_config *config);

#endif
