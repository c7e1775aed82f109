/* Holds: the library's entry, and what a server must be for it to take over.
 *
 * Loaded by CREATE FUNCTION or LOAD in an ordinary server (the one that makes the schema `loch` in
 * a new tenant, say) it does nothing at all. */
#include "postgres.h"

#include "compat/export.h"

#include "auth.h"
#include "commit_guard.h"
#include "compat/smgr.h"
#include "free_space.h"
#include "lease.h"
#include "orphan.h"
#include "page_key.h"
#include "prewarm.h"
#include "read_only.h"
#include "report.h"
#include "seam.h"
#include "settings.h"
#include "shared.h"
#include "sizes.h"
#include "slots.h"
#include "stop_state.h"
#include "throttle.h"
#include "two_phase.h"
#include "utility.h"

#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "replication/walsender.h"
#include "utils/guc.h"

#include <stdlib.h>

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

static void refuse(const char *why, const char *hint)
{
    ereport(FATAL,
            (errcode(ERRCODE_CONFIG_FILE_ERROR), errmsg("loch: %s", why), errhint("%s", hint)));
}

static void require_version(void)
{
    const char *text = GetConfigOption("server_version_num", false, false);
    int version = text == NULL ? 0 : atoi(text);

    if (!loch_compat_server_ok(version))
        ereport(
            FATAL,
            (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
             errmsg("loch: this extension was built for PostgreSQL %s and does not know version "
                    "number %d",
                    PG_VERSION, version),
             errhint("Rebuild Loch against the headers of the installed server.")));
}

static void require_option(const char *name, const char *wanted)
{
    const char *value = GetConfigOption(name, false, false);

    if (value == NULL || strcmp(value, wanted) != 0)
        ereport(FATAL, (errcode(ERRCODE_CONFIG_FILE_ERROR),
                        errmsg("loch: %s must be %s, not %s", name, wanted,
                               value == NULL ? "unset" : value),
                        errhint("loch-compute sets it on the server's command line.")));
}

static void require_server(void)
{
    if (!IsPostmasterEnvironment)
        refuse("cannot be preloaded in single-user mode", "Start the compute with loch-compute.");
    if (wal_level == WAL_LEVEL_MINIMAL)
        refuse("wal_level must not be minimal: pages are rebuilt from WAL",
               "Set wal_level=replica.");
    if (wal_level == WAL_LEVEL_LOGICAL)
        refuse("wal_level=logical is not supported: logical slots would not survive a restart",
               "Set wal_level=replica.");
    if (DataChecksumsEnabled())
        refuse("clusters with data checksums are not supported",
               "Import the cluster into a Loch tenant, which converts it.");
    if (max_wal_senders == 0)
        refuse("max_wal_senders must not be 0: no commit would wait for the quorum",
               "loch-compute sets it on the server's command line.");
    require_option("restart_after_crash", "off");
}

static void memory_is_ready(void)
{
    loch_seam_probe_shared();
    loch_stop_state_make();
    ereport(LOG, (errmsg("loch: the storage manager is ours; branch %s from %X/%X in term %s",
                         loch_settings.timeline, LSN_FORMAT_ARGS(loch_settings.start_lsn_value),
                         loch_settings.term)));
}

void _PG_init(void)
{
    if (!process_shared_preload_libraries_in_progress)
        return;
    loch_secret_keep_across_fork();
    require_version();
    loch_settings_define();
    require_server();
    loch_settings_load();
    loch_require(loch_page_key_load(), "credential");
    loch_free_space_read();
    loch_require(loch_process_harden(), "hardening the process");
    loch_orphan_register();
    loch_shared_register(memory_is_ready);
    loch_seam_install();
    if (loch_fix_on(sizes))
        loch_sizes_install();
    loch_slots_install();
    loch_commit_guard_register();
    loch_two_phase_register(); /* asked before the guard is closed: the newest come first */
    loch_utility_register();
    loch_auth_register();
    loch_throttle_register();
    loch_read_only_register();
    loch_lease_register();
    loch_prewarm_register();
}
