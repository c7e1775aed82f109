/* Holds: settings, their parsing, and the reading of the credential. */
#include "settings.h"

#include "report.h"
#include "shared.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "loch/crypto/psk.h"
#include "loch/crypto/tls.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define CACHE_LEAST_MB 64
#define CACHE_MOST_MB  4096

struct loch_settings loch_settings;

#ifdef LOCH_TEST_SWITCHES
bool loch_fix_disabled[LOCH_FIX_COUNT];

static const char *const fix_names[] = {
#define LOCH_FIX_NAME(name_) #name_,
    LOCH_FIXES(LOCH_FIX_NAME)
#undef LOCH_FIX_NAME
};

/* Fills out[] from a comma list; false and *bad when a name is unknown. */
static bool parse_fixes(const char *list, bool out[LOCH_FIX_COUNT], char bad[64])
{
    const char *at = list;

    memset(out, 0, LOCH_FIX_COUNT * sizeof out[0]);
    while (*at != '\0') {
        size_t len = strcspn(at, ", ");
        bool known = len == 0;

        for (size_t i = 0; i < LOCH_FIX_COUNT && len > 0; i++) {
            if (strlen(fix_names[i]) == len && strncmp(at, fix_names[i], len) == 0) {
                out[i] = true;
                known = true;
            }
        }
        if (!known) {
            strlcpy(bad, at, Min(len + 1, 64));
            return false;
        }
        at += len;
        at += strspn(at, ", ");
    }
    return true;
}

static bool check_test_disable(char **value, void **extra, GucSource source)
{
    bool out[LOCH_FIX_COUNT];
    char bad[64];

    (void)extra;
    (void)source;
    if (*value == NULL || parse_fixes(*value, out, bad))
        return true;
    GUC_check_errdetail("\"%s\" is not the name of a fix.", bad);
    return false;
}

static void assign_test_disable(const char *value, void *extra)
{
    char bad[64];

    (void)extra;
    (void)parse_fixes(value == NULL ? "" : value, loch_fix_disabled, bad);
}

static void define_test(void)
{
    DefineCustomStringVariable("loch.test_disable", "Fixes to switch off, for negative tests.",
                               NULL, &loch_settings.test_disable, "", PGC_SIGHUP,
                               GUC_SUPERUSER_ONLY, check_test_disable, assign_test_disable, NULL);
    DefineCustomIntVariable("loch.test_cut_every",
                            "One in so many receptions from the pageserver breaks the connection.",
                            NULL, &loch_settings.test_cut_every, 0, 0, INT_MAX, PGC_SIGHUP, 0, NULL,
                            NULL, NULL);
    DefineCustomIntVariable("loch.test_slow_listing",
                            "How long each relation takes that the list of free space asks about.",
                            NULL, &loch_settings.test_slow_listing_ms, 0, 0, INT_MAX, PGC_SIGHUP,
                            GUC_UNIT_MS, NULL, NULL, NULL);
    DefineCustomIntVariable("loch.test_config_pause",
                            "How long after the look at a configuration file it is read.", NULL,
                            &loch_settings.test_config_pause_ms, 0, 0, INT_MAX, PGC_SIGHUP,
                            GUC_UNIT_MS, NULL, NULL, NULL);
    DefineCustomIntVariable("loch.test_overlay_max", "Command ids that may be remembered.", NULL,
                            &loch_settings.test_overlay_max, LOCH_OVERLAY_MAX, 1, LOCH_OVERLAY_MAX,
                            PGC_USERSET, 0, NULL, NULL, NULL);
    DefineCustomBoolVariable("loch.test_keep_stop_state", "What a stop left is not used up.", NULL,
                             &loch_settings.test_keep_stop_state, false, PGC_POSTMASTER, 0, NULL,
                             NULL, NULL);
}
#endif

static void define_string(const char *name, const char *help, char **variable)
{
    DefineCustomStringVariable(name, help, NULL, variable, "", PGC_POSTMASTER, GUC_SUPERUSER_ONLY,
                               NULL, NULL, NULL);
}

static void define_prewarm(void)
{
    DefineCustomBoolVariable("loch.prewarm",
                             "Keep the list of hot pages, and fetch them after the next start.",
                             "Switching it off ends the fetching.", &loch_settings.prewarm, true,
                             PGC_SIGHUP, 0, NULL, NULL, NULL);
    DefineCustomIntVariable("loch.prewarm_interval",
                            "Time between two lists of hot pages and of free space.",
                            "0: only when the server stops.", &loch_settings.prewarm_interval_s,
                            300, 0, 86400, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
    DefineCustomIntVariable("loch.unlogged_max_size",
                            "Unlogged relations up to this size are kept across a clean stop.",
                            "All of them or none; 0: none.", &loch_settings.unlogged_max_mb, 256, 0,
                            512, PGC_SIGHUP, GUC_UNIT_MB, NULL, NULL, NULL);
}

/* The most is half of what the pageserver takes (pageserver.copy_max): a database may grow between
 * the question and the copy. */
static void define_move_limit(void)
{
    DefineCustomIntVariable("loch.move_database_max_size",
                            "A larger database is not moved to another tablespace as a whole.",
                            "What it has in the tablespace that it leaves counts.",
                            &loch_settings.move_database_max_mb, 256, 0, 512, PGC_SUSET,
                            GUC_UNIT_MB, NULL, NULL, NULL);
}

/* An eighth of the volume that the data directory lies on: several computes may share it, and WAL
 * and sorts need room. */
static int default_cache_mb(void)
{
    struct statvfs fs;

    if (DataDir == NULL || statvfs(DataDir, &fs) != 0)
        return CACHE_LEAST_MB;
    return (int)Min(Max((uint64)fs.f_blocks * fs.f_frsize / 8 >> 20, CACHE_LEAST_MB),
                    CACHE_MOST_MB);
}

void loch_settings_define(void)
{
    define_string("loch.pageserver", "Address of the pageserver, host:port.",
                  &loch_settings.pageserver);
    define_string("loch.tenant", "Tenant id, 32 hex digits.", &loch_settings.tenant);
    define_string("loch.timeline", "Timeline (branch) id, 32 hex digits.", &loch_settings.timeline);
    define_string("loch.term", "Term this compute was elected for.", &loch_settings.term);
    define_string("loch.compute_epoch", "Epoch of this compute's credential.",
                  &loch_settings.compute_epoch);
    define_string("loch.start_lsn", "LSN this compute was started at.", &loch_settings.start_lsn);
    DefineCustomIntVariable("loch.max_lag",
                            "WAL the pageserver may be behind before writers are slowed.",
                            "0 switches it off.", &loch_settings.max_lag_kb, 256 * 1024, 0, INT_MAX,
                            PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
    DefineCustomIntVariable(
        "loch.max_persist_lag",
        "WAL the pageserver may not have made durable yet before writers are slowed.",
        "0 switches it off.", &loch_settings.max_persist_lag_kb, 4 * 1024 * 1024, 0, INT_MAX,
        PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
    DefineCustomIntVariable("loch.read_ahead",
                            "Pages asked of the pageserver before they are needed.",
                            "0 switches it off.", &loch_settings.read_ahead, 64, 0,
                            LOCH_READ_AHEAD_MAX, PGC_USERSET, 0, NULL, NULL, NULL);
    DefineCustomBoolVariable("loch.packed_pages", "Take pages of scans compressed.",
                             "Connections to the pageserver that are there stay as they are.",
                             &loch_settings.packed_pages, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
    DefineCustomIntVariable("loch.cache_size", "Size of the local file cache.",
                            "0 switches it off. Takes effect when the configuration is reloaded.",
                            &loch_settings.cache_mb, default_cache_mb(), 0, LOCH_CACHE_MAX_MB,
                            PGC_SIGHUP, GUC_UNIT_MB, NULL, NULL, NULL);
    DefineCustomIntVariable(
        "loch.cache_max_size", "What loch.cache_size may be raised to while the server runs.",
        "Costs shared memory: a hundredth of it.", &loch_settings.cache_max_mb, CACHE_MOST_MB, 0,
        LOCH_CACHE_MAX_MB, PGC_POSTMASTER, GUC_UNIT_MB, NULL, NULL, NULL);
    DefineCustomStringVariable("loch.cache_directory", "Where the local file cache lies.",
                               "Empty: in the data directory. Its contents are sealed.",
                               &loch_settings.cache_directory, "", PGC_POSTMASTER,
                               GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
    DefineCustomBoolVariable("loch.read_only", "Every transaction is read-only.", NULL,
                             &loch_settings.read_only, false, PGC_POSTMASTER, 0, NULL, NULL, NULL);
    define_prewarm();
    define_move_limit();
#ifdef LOCH_TEST_SWITCHES
    define_test();
#endif
    MarkGUCPrefixReserved("loch");
}

static loch_status parse_u64(const char *name, const char *text, uint64 *out)
{
    char *end;
    unsigned long long v;

    errno = 0;
    v = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0)
        return LOCH_FAIL(LOCH_E_INVALID, "%s is not a number: \"%s\"", name, text);
    *out = v;
    return LOCH_OK;
}

static loch_status parse_address(const char *text)
{
    const char *colon = strrchr(text, ':');
    size_t host_len = colon == NULL ? 0 : (size_t)(colon - text);

    if (colon == NULL || host_len == 0 || host_len >= sizeof loch_settings.host ||
        colon[1] == '\0' || strlen(colon + 1) >= sizeof loch_settings.port)
        return LOCH_FAIL(LOCH_E_INVALID, "loch.pageserver is not host:port: \"%s\"", text);
    memcpy(loch_settings.host, text, host_len);
    loch_settings.host[host_len] = '\0';
    strlcpy(loch_settings.port, colon + 1, sizeof loch_settings.port);
    return LOCH_OK;
}

static loch_status parse_all(void)
{
    struct loch_settings *s = &loch_settings;

    LOCH_TRY(parse_address(s->pageserver));
    LOCH_TRY(loch_id_parse(s->tenant, &s->tenant_id));
    LOCH_TRY(loch_id_parse(s->timeline, &s->timeline_id));
    LOCH_TRY(parse_u64("loch.term", s->term, &s->term_value));
    LOCH_TRY(parse_u64("loch.compute_epoch", s->compute_epoch, &s->compute_epoch_value));
    return loch_lsn_parse(s->start_lsn, &s->start_lsn_value);
}

void loch_settings_load(void)
{
    loch_require(parse_all(), "settings");
}
