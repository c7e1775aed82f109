/* Holds: the table of the agent's settings and its reading. */
#include "config.h"

#include "loch/host/daemon.h"

#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct loch_config_item items[] = {
    LOCH_DAEMON_ITEMS,
    {.section = "compute",
     .key = "id",
     .type = LOCH_CONFIG_ID,
     .help = "This compute's id, as in its credential."},
    {.section = "compute",
     .key = "listen",
     .type = LOCH_CONFIG_STRING,
     .value = "127.0.0.1",
     .max = 500,
     .help = "Addresses PostgreSQL listens on; with others than 127.0.0.1 any host may connect, "
             "by password (scram-sha-256)."},
    {.section = "compute",
     .key = "port",
     .type = LOCH_CONFIG_U64,
     .min = 1024,
     .max = 65535,
     .help = "Port PostgreSQL listens on."},
    {.section = "compute",
     .key = "lib_dir",
     .type = LOCH_CONFIG_PATH,
     .help = "Directory with loch.so."},
    {.section = "compute",
     .key = "pg_bin_dir",
     .type = LOCH_CONFIG_PATH,
     .value = "/usr/lib/postgresql/15/bin",
     .help = "Directory of the stock PostgreSQL's programs."},
    {.section = "compute",
     .key = "user",
     .type = LOCH_CONFIG_STRING,
     .value = "postgres",
     .max = 100,
     .help = "Operating system user PostgreSQL runs as when the agent is root."},
    {.section = "compute",
     .key = "superuser",
     .type = LOCH_CONFIG_STRING,
     .value = "postgres",
     .min = 1,
     .max = 63,
     .help = "Database role the agent reads the WAL as."},
    {.section = "compute",
     .key = "wal_window",
     .type = LOCH_CONFIG_BYTES,
     .value = "64MiB",
     .min = UINT64_C(1) << 20,
     .max = UINT64_C(16) << 30,
     .help = "Recent WAL kept in memory for safekeepers that lag."},
    {.section = "compute",
     .key = "read_only",
     .type = LOCH_CONFIG_BOOL,
     .value = "off",
     .help = "Every transaction is read-only, whatever a session sets."},
    {.section = "compute",
     .key = "settings",
     .type = LOCH_CONFIG_STRING,
     .value = "",
     .max = 8000,
     .help = "PostgreSQL settings: name=value,name=value."},
};

const struct loch_config_program loch_agent_program = {
    .name = "loch-compute",
    .summary = "elects, starts and watches a stock PostgreSQL and proposes its WAL to the quorum",
    .items = items,
    .item_count = sizeof items / sizeof items[0],
};

/* What the design relies on; users cannot set it, here or by ALTER SYSTEM (docs/architecture.md).
 */
static const char *const reserved[] = {"fsync",
                                       "full_page_writes",
                                       "wal_level",
                                       "wal_log_hints",
                                       "dynamic_shared_memory_type",
                                       "shared_memory_type",
                                       "wal_init_zero",
                                       "archive_mode",
                                       "restart_after_crash",
                                       "synchronous_standby_names",
                                       "wal_sender_timeout",
                                       "shared_preload_libraries",
                                       "dynamic_library_path",
                                       "unix_socket_directories",
                                       "listen_addresses",
                                       "port",
                                       "data_directory",
                                       "hba_file",
                                       "ident_file",
                                       "config_file",
                                       "loch.pageserver",
                                       "loch.tenant",
                                       "loch.timeline",
                                       "loch.term",
                                       "loch.compute_epoch",
                                       "loch.start_lsn",
                                       "loch.read_only"};

/* Users may raise these. With no walsender at all PostgreSQL lets no commit wait for the quorum. */
static const char *const at_least[] = {"max_wal_senders", "max_replication_slots"};

/* Read in base 0, as PostgreSQL does: 010 is 8. */
static bool is_great_enough(const char *value)
{
    return strlen(value) < 10 && strspn(value, "0123456789") == strlen(value) &&
           strtoul(value, NULL, 0) >= LOCH_AGENT_WAL_SENDERS;
}

static loch_status check_setting(const struct loch_agent_setting *s)
{
    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++)
        if (strcmp(s->name, reserved[i]) == 0)
            return LOCH_FAIL(LOCH_E_INVALID, "[compute] settings: %s is set by the agent itself",
                             s->name);
    for (size_t i = 0; i < sizeof at_least / sizeof at_least[0]; i++)
        if (strcmp(s->name, at_least[i]) == 0 && !is_great_enough(s->value))
            return LOCH_FAIL(LOCH_E_INVALID,
                             "[compute] settings: %s must be a number of at least %u, or left out: "
                             "commits reach the quorum through a walsender and its slot",
                             s->name, LOCH_AGENT_WAL_SENDERS);
    return LOCH_OK;
}

static loch_status add_setting(struct loch_agent_config *c, const char *text)
{
    const char *equals = strchr(text, '=');

    if (equals == NULL || equals == text)
        return LOCH_FAIL(LOCH_E_INVALID, "[compute] settings: \"%s\" is not name=value", text);
    if (c->setting_count == LOCH_AGENT_SETTINGS_MAX)
        return LOCH_FAIL(LOCH_E_LIMIT, "[compute] settings: at most %u", LOCH_AGENT_SETTINGS_MAX);
    struct loch_agent_setting *s = &c->settings[c->setting_count];
    s->name = strndup(text, (size_t)(equals - text));
    s->value = strdup(equals + 1);
    c->setting_count++;
    if (s->name == NULL || s->value == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a setting");
    if (strspn(s->name, "abcdefghijklmnopqrstuvwxyz_.0123456789") != strlen(s->name))
        return LOCH_FAIL(LOCH_E_INVALID, "[compute] settings: \"%s\" is not a setting's name",
                         s->name);
    return check_setting(s);
}

static loch_status read_settings(struct loch_agent_config *c, const char *text)
{
    char *copy = strdup(text);
    char *save = NULL;
    loch_status st = LOCH_OK;

    if (copy == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for the settings");
    for (char *p = strtok_r(copy, ",", &save); p != NULL && loch_is_ok(st);
         p = strtok_r(NULL, ",", &save))
        st = add_setting(c, p + strspn(p, " "));
    free(copy);
    return st;
}

static loch_status find_user(struct loch_agent_config *c, const char *name)
{
    if (geteuid() != 0)
        return LOCH_OK;
    errno = 0;
    const struct passwd *pw = getpwnam(name);
    if (pw == NULL)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "there is no user \"%s\" to run PostgreSQL as (it refuses root): install "
                         "postgresql-15 or set [compute] user",
                         name);
    if (pw->pw_uid == 0)
        return LOCH_FAIL(LOCH_E_INVALID, "PostgreSQL refuses to run as root: set [compute] user");
    c->uid = pw->pw_uid;
    c->gid = pw->pw_gid;
    return LOCH_OK;
}

loch_status loch_agent_config_read(const struct loch_config *config, struct loch_agent_config *out)
{
    struct loch_agent_config c = {
        .compute = loch_config_id(config, "compute", "id"),
        .dir = loch_config_string(config, "daemon", "dir"),
        .scratch = loch_config_string(config, "daemon", "dir"),
        .listen = loch_config_string(config, "compute", "listen"),
        .port = (uint32_t)loch_config_u64(config, "compute", "port"),
        .lib_dir = loch_config_string(config, "compute", "lib_dir"),
        .pg_bin_dir = loch_config_string(config, "compute", "pg_bin_dir"),
        .superuser = loch_config_string(config, "compute", "superuser"),
        .read_only = loch_config_bool(config, "compute", "read_only"),
        .wal_window_bytes = loch_config_u64(config, "compute", "wal_window"),
    };

    loch_status st = find_user(&c, loch_config_string(config, "compute", "user"));
    if (loch_is_ok(st))
        st = read_settings(&c, loch_config_string(config, "compute", "settings"));
    if (!loch_is_ok(st)) {
        loch_agent_config_fini(&c);
        return st;
    }
    *out = c;
    return LOCH_OK;
}

void loch_agent_config_fini(struct loch_agent_config *c)
{
    for (size_t i = 0; i < c->setting_count; i++) {
        free(c->settings[i].name);
        free(c->settings[i].value);
    }
    c->setting_count = 0;
}
