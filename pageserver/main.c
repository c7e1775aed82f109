/* loch-pageserver: builds its world, serves, winds down. */
#include "config.h"
#include "pageserver.h"

#include "care/long_work.h"
#include "care/revocation.h"
#include "care/served.h"
#include "care/shred.h"
#include "care/tenants.h"
#include "care/upkeep.h"
#include "import/import.h"
#include "read/page_cache.h"
#include "read/page_service.h"
#include "redo_pool/redo_pool.h"
#include "store/frame_cache.h"

#include "loch/base/log.h"
#include "loch/crypto/tls.h"
#include "loch/host/audit.h"
#include "loch/host/daemon.h"
#include "loch/host/keys.h"
#include "loch/host/leases.h"
#include "loch/host/refused.h"
#include "loch/io/tree.h"
#include "loch/kms/kms.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct loch_metric *redo_counter(struct loch_pageserver *ps, const char *name,
                                        const char *help, const char *by)
{
    const struct loch_label label = {"by", by};

    return loch_metrics_counter(ps->metrics, name, help, &label, by != NULL ? 1 : 0);
}

static void make_redo_metrics(struct loch_pageserver *ps)
{
    static const char records[] = "loch_pageserver_redo_records_total";
    static const char pages[] = "loch_pageserver_redo_pages_total";
    static const char records_help[] = "WAL records applied for reads.";
    static const char pages_help[] = "Pages rebuilt out of records; process: at least one by it.";

    ps->redo_use = (struct loch_redo_use){
        .native_off = !ps->config.native_redo,
        .native_records = redo_counter(ps, records, records_help, "native"),
        .process_records = redo_counter(ps, records, records_help, "process"),
        .native_pages = redo_counter(ps, pages, pages_help, "native"),
        .process_pages = redo_counter(ps, pages, pages_help, "process"),
        .disputes = redo_counter(ps, "loch_pageserver_redo_disputes_total",
                                 "Chains refused by native redo, for the process to decide.", NULL),
        .failures = redo_counter(ps, "loch_pageserver_redo_failures_total",
                                 "Chains of records that could not be applied.", NULL)};
}

static void make_metrics(struct loch_pageserver *ps)
{
    struct loch_metrics *m = ps->metrics;
    ps->m_branch_seconds =
        loch_metrics_histogram(m, "loch_pageserver_branch_seconds",
                               "Creations of branches, from order to answer.", NULL, 0);
    ps->m_get_seconds = loch_metrics_histogram(m, "loch_pageserver_read_seconds",
                                               "From request to answer.", NULL, 0);
    ps->m_wait_seconds = loch_metrics_histogram(m, "loch_pageserver_wait_seconds",
                                                "Waits of requests for WAL.", NULL, 0);
    ps->m_gets =
        loch_metrics_counter(m, "loch_pageserver_reads_total", "Requests taken in.", NULL, 0);
    ps->m_cached = loch_metrics_counter(m, "loch_pageserver_cache_answers_total",
                                        "Pages answered from the page cache, at once.", NULL, 0);
    ps->m_at_once = loch_metrics_counter(
        m, "loch_pageserver_at_once_answers_total",
        "Pages read without waiting for a disk, a thread or a redo process.", NULL, 0);
    ps->m_packed = loch_metrics_counter(m, "loch_pageserver_packed_answers_total",
                                        "Pages of scans that were sent compressed.", NULL, 0);
    ps->m_errors =
        loch_metrics_counter(m, "loch_pageserver_errors_total", "Errors answered.", NULL, 0);
    ps->m_connections = loch_metrics_gauge(m, "loch_pageserver_connections",
                                           "Connections of the page port.", NULL, 0);
    ps->m_records = loch_metrics_counter(m, "loch_pageserver_ingested_records_total",
                                         "WAL records ingested.", NULL, 0);
    ps->m_wal_bytes = loch_metrics_counter(m, "loch_pageserver_ingested_bytes_total",
                                           "WAL bytes ingested.", NULL, 0);
    ps->m_flushes = loch_metrics_counter(m, "loch_pageserver_flushes_total",
                                         "Memory layers written to files.", NULL, 0);
    make_redo_metrics(ps);
    loch_memory_init(ps);
}

static loch_status open_keys(struct loch_pageserver *ps, const char *dir)
{
    const char *const data_dirs[] = {dir, ps->config.store_path, NULL};
    char pins[PATH_MAX];

    LOCH_TRY(loch_objstore_open_local(ps->env, ps->config.store_path, &ps->objstore));
    LOCH_TRY(loch_kms_open(ps->config.kms_uri, data_dirs, &ps->kms));
    (void)snprintf(pins, sizeof pins, "%s/kms.pins", dir);
    LOCH_TRY(loch_kms_pins_open(ps->kms, ps->env, pins));
    static char witness[PATH_MAX]; /* lives as long as the keys */
    (void)snprintf(witness, sizeof witness, "%s/keyrings-seen", dir);
    LOCH_TRY(loch_audit_open(dir, "loch-pageserver", &ps->config.node, &ps->audit));
    LOCH_TRY(loch_refused_create(ps->env, ps->audit, &ps->refused));
    struct loch_keys_options options = {.store = ps->objstore,
                                        .kms = ps->kms,
                                        .cluster = ps->config.cluster,
                                        .node = ps->config.node,
                                        .role = LOCH_ROLE_PAGESERVER,
                                        .env = ps->env,
                                        .lease_ms = ps->config.leases.lease_ms,
                                        .audit = ps->audit,
                                        .witness_dir = witness};
    return loch_keys_create(&options, &ps->keys);
}

/* A directory of this node's own in the scratch, new with each start: what a process that was
 * killed left there, files with a password among them, goes. */
static loch_status open_scratch(struct loch_pageserver *ps)
{
    static char path[PATH_MAX]; /* lives as long as its users */
    char node[LOCH_ID_TEXT_BYTES];

    /* The stock programs, under another user, pass through; what is wrong with it shows next. */
    if (mkdir(ps->config.scratch, 0711) == 0)
        (void)chmod(ps->config.scratch, 0711); /* whatever the umask */
    LOCH_TRY(loch_env_mkdirs(ps->env, ps->config.scratch));
    (void)snprintf(path, sizeof path, "%s/node-%s", ps->config.scratch,
                   loch_id_format(&ps->config.node, node));
    LOCH_TRY(loch_remove_tree(path));
    if (mkdir(path, 0711) != 0 || chmod(path, 0711) != 0)
        return LOCH_FAIL(LOCH_E_IO, "%s: %s", path, strerror(errno));
    ps->scratch = path;
    return LOCH_OK;
}

static loch_status open_engine(struct loch_pageserver *ps, const char *dir)
{
    LOCH_TRY(open_scratch(ps));
    struct loch_redo_pool_options redo = {.postgres_bin_dir = ps->config.pg_bin_dir,
                                          .lib_dir = ps->config.lib_dir,
                                          .scratch_dir = ps->scratch,
                                          .max_workers_per_tenant =
                                              (unsigned)ps->config.redo_workers};
    char template[PATH_MAX + 16];
    (void)snprintf(template, sizeof template, "%s/template.tar", ps->scratch);
    LOCH_TRY(loch_initdb_template_create(template, &ps->initdb));
    LOCH_TRY(loch_redo_pool_create(&redo, &ps->redo));
    LOCH_TRY(loch_page_cache_create(ps->config.page_cache_bytes, &ps->cache));
    LOCH_TRY(loch_frame_cache_create(ps->config.frame_cache_bytes, &ps->frames));
    ps->store = (struct loch_store){.env = ps->env,
                                    .objstore = ps->objstore,
                                    .dir = dir,
                                    .node = ps->config.node,
                                    .redo = ps->redo,
                                    .redo_use = &ps->redo_use,
                                    .cache = ps->cache,
                                    .frames = ps->frames,
                                    .open_layer_bytes = ps->config.open_layer_bytes,
                                    .copy_max_bytes = ps->config.copy_max_bytes,
                                    .image_records_max = (uint32_t)ps->config.image_records,
                                    .image_bytes_max = ps->config.image_bytes,
                                    .reads = &ps->reads,
                                    .heals = &ps->heals,
                                    .copies = ps->config.layer_copies,
                                    .zstd = ps->config.layer_zstd,
                                    .flush_parts = (uint32_t)ps->config.flush_parts,
                                    .no_memory_images = !ps->config.memory_images,
                                    .lease_max_ms = ps->config.lease_ms};
    LOCH_TRY(loch_tenants_open(ps));
    return loch_upkeep_create(ps, &ps->upkeep);
}

static void release(struct loch_pageserver *ps)
{
    /* A creation, a copy, a removal, a basebackup: what it has committed it has put, and the next
     * start sweeps what it has not, as after a crash. */
    if (loch_env_working(ps->env) || loch_long_work_any(ps) || ps->backups != NULL) {
        LOCH_INFO("stopped in the middle of a command's work");
        _exit(0);
    }
    if (!loch_leases_destroy(ps->leases)) {
        LOCH_INFO("stopped while the key service had not answered");
        _exit(0);
    }
    loch_page_service_end(ps);
    loch_upkeep_destroy(ps->upkeep);
    loch_tenants_close(ps);
    loch_id_map_fini(&ps->served_map);
    loch_initdb_template_destroy(ps->initdb);
    loch_redo_pool_destroy(ps->redo);
    loch_buf_fini(&ps->spare_answers);
    loch_page_cache_destroy(ps->cache);
    loch_frame_cache_destroy(ps->frames);
    loch_tls_server_destroy(ps->tls);
    if (ps->keys != NULL)
        loch_keys_destroy(ps->keys);
    if (ps->kms != NULL)
        loch_kms_close(ps->kms);
    loch_objstore_close(ps->objstore);
    loch_shreds_free(ps);
    loch_refused_destroy(ps->refused);
    loch_audit_close(ps->audit);
    free(ps);
}

static loch_status start_all(struct loch_pageserver *ps, const struct loch_daemon *daemon)
{
    LOCH_TRY(loch_pageserver_config_read(daemon->config, &ps->config));
    make_metrics(ps);
    LOCH_TRY(open_keys(ps, daemon->dir));
    LOCH_TRY(open_engine(ps, daemon->dir));
    LOCH_TRY(loch_revocation_start(ps));
    LOCH_TRY(loch_tls_server_create(loch_keys_psk_lookup, ps->keys, &ps->tls));
    const char *listen = ps->config.listen[0] != '\0' ? ps->config.listen : ps->config.address;
    LOCH_TRY(
        loch_env_listen(ps->env, listen, ps->tls, &ps->listener, loch_page_service_accept, ps));
    loch_metrics_health(ps->metrics, true, "serving");
    LOCH_INFO("serving pages at %s", listen);
    return LOCH_OK;
}

static loch_status start(const struct loch_daemon *daemon, void **state)
{
    struct loch_pageserver *ps = calloc(1, sizeof *ps);
    if (ps == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory");
    ps->env = daemon->env;
    ps->metrics = daemon->metrics;
    *state = ps; /* a failed start ends the process; nothing is released by halves */
    return start_all(ps, daemon);
}

static void stop(void *state)
{
    struct loch_pageserver *ps = state;
    if (ps->stopping)
        return;
    ps->stopping = true;
    loch_metrics_health(ps->metrics, false, "stopping");
    loch_listener_close(ps->listener);
    loch_upkeep_stop(ps->upkeep);
    loch_served_stop_all(ps);
    loch_env_post(ps->env, loch_pageserver_consider_end, ps);
}

static void finish(void *state)
{
    release(state);
}

int main(int argc, char **argv)
{
    static struct loch_daemon_hooks hooks = {
        .start = start, .stop = stop, .finish = finish, .hold = loch_revocation_hold};
    hooks.commands = loch_pageserver_commands;
    hooks.command_count = loch_pageserver_command_count;
    return loch_daemon_main(argc, argv, &loch_pageserver_program, &hooks);
}
