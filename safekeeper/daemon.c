/* Holds: the safekeeper's life: settings, what stands in the data directory, listening, stopping.
 * Invariants: a data directory belongs to one node for good; a disk that fails ends the process. */
#include "daemon.h"

#include "drop.h"
#include "export.h"
#include "journal.h"
#include "node_file.h"
#include "service.h"
#include "timeline.h"
#include "witness.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/crypto/tls.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TICK_MS   1000u
#define STOP_NS   UINT64_C(3000000000)
#define STOP_MS   20u
#define FAIL_STOP 3 /* exit code: the disk failed */

static const struct loch_config_item items[] = {
    LOCH_DAEMON_ITEMS,
    {.section = "cluster", .key = "id", .type = LOCH_CONFIG_ID, .help = "The cluster's id."},
    {.section = "safekeeper", .key = "node", .type = LOCH_CONFIG_ID, .help = "This node's id."},
    {.section = "safekeeper",
     .key = "listen",
     .type = LOCH_CONFIG_ADDRESS,
     .help = "Address of the WAL service."},
    {.section = "safekeeper",
     .key = "file_bytes",
     .type = LOCH_CONFIG_BYTES,
     .value = "16MiB",
     .min = 1u << 20,
     .max = 1u << 30,
     .help = "Size to which a WAL file is preallocated, and beyond which the next begins."},
    {.section = "safekeeper",
     .key = "journal",
     .type = LOCH_CONFIG_BOOL,
     .value = "off",
     .help =
         "Whether small appends of many busy timelines share a journal and its syncs (decision 014 "
         "says what speaks against it yet)."},
    {.section = "safekeeper",
     .key = "journal_slow_us",
     .type = LOCH_CONFIG_U64,
     .value = "1500",
     .min = 1,
     .max = 60000000,
     .help = "Mean time of a journal's records, in microseconds, above which it rests for 2 s."},
    {.section = "safekeeper",
     .key = "timeline_limit",
     .type = LOCH_CONFIG_BYTES,
     .value = "16GiB",
     .max = UINT64_MAX / 16,
     .help = "WAL of one timeline on disk above which its writers wait; 0: no limit. At least "
             "4 times file_bytes and 16 MiB. Keep it well above the pageserver's open_layer."},
    {.section = "safekeeper",
     .key = "node_limit",
     .type = LOCH_CONFIG_BYTES,
     .value = "0",
     .max = UINT64_MAX / 16,
     .help = "WAL of all timelines above which the writers of the largest wait; 0: no limit."},
    {.section = "safekeeper",
     .key = "min_free",
     .type = LOCH_CONFIG_BYTES,
     .value = "256MiB",
     .max = UINT64_MAX / 16,
     .help = "What stays free on the file system (at most a 16th of it), else all writers wait; 0: "
             "a full disk ends the safekeeper."},
    {.section = "safekeeper",
     .key = "memory_limit",
     .type = LOCH_CONFIG_BYTES,
     .value = "256MiB",
     .min = 64u << 20,
     .max = UINT64_MAX / 16,
     .help = "WAL of all timelines in memory: the newest, what is read ahead for readers, what "
             "waits for the disk. Near it each gets less, and readers wait for their files."},
    {.section = "safekeeper",
     .key = "witness",
     .type = LOCH_CONFIG_MS,
     .value = "10s",
     .min = 1000,
     .max = 3600000,
     .help = "Longest time after a write until the object store knows of it: by that a directory "
             "that is put back from an older copy is noticed."},
    {.section = "export",
     .key = "listen",
     .type = LOCH_CONFIG_ADDRESS,
     .value = "",
     .help = "Address for pg_receivewal, TLS with client certificates; none when empty."},
    {.section = "export",
     .key = "cert",
     .type = LOCH_CONFIG_PATH,
     .value = "",
     .help = "PEM file: the export port's certificate and its chain."},
    {.section = "export",
     .key = "key",
     .type = LOCH_CONFIG_PATH,
     .value = "",
     .help = "PEM file: its key."},
    {.section = "export",
     .key = "client_ca",
     .type = LOCH_CONFIG_PATH,
     .value = "",
     .help = "PEM file: who signs exporters' certificates (common name: the tenant's id)."},
    {.section = "safekeepers",
     .key = "*",
     .type = LOCH_CONFIG_ADDRESS,
     .key_is_id = true,
     .help = "All safekeepers of the cluster: node id and address."},
    {.section = "pageserver",
     .key = "node",
     .type = LOCH_CONFIG_ID,
     .value = "",
     .help = "The pageserver's node id."},
    {.section = "pageserver",
     .key = "address",
     .type = LOCH_CONFIG_ADDRESS,
     .value = "",
     .help = "The pageserver's address."},
    {.section = "store",
     .key = "path",
     .type = LOCH_CONFIG_PATH,
     .help = "Directory of the object store."},
    {.section = "kms",
     .key = "uri",
     .type = LOCH_CONFIG_STRING,
     .min = 1,
     .max = 1024,
     .help = "The key service, such as file:/path/to/cmk.key."},
    LOCH_LEASE_ITEMS,
};

const struct loch_config_program sk_program = {
    .name = "loch-safekeeper",
    .summary = "Receives WAL from computes, makes it durable, hands it on.",
    .items = items,
    .item_count = sizeof items / sizeof items[0]};

void sk_daemon_fail_stop(const char *what, loch_status st)
{
    LOCH_ERROR("%s: %s: %s (%s); the safekeeper stops, for what it wrote is no longer certain",
               what, loch_code_name(st.code), loch_error_text(), loch_error_where());
    _exit(FAIL_STOP);
}

/* ---- registry ---- */

struct sk_timeline *sk_daemon_find(const struct sk_daemon *daemon, const struct loch_id *tenant,
                                   const struct loch_id *timeline)
{
    const struct loch_id id = loch_id_within(tenant, timeline);
    struct sk_timeline *tl = loch_id_map_get(&daemon->timeline_map, &id);

    const bool same =
        tl != NULL && loch_id_equal(&tl->tenant, tenant) && loch_id_equal(&tl->timeline, timeline);
    return same ? tl : NULL;
}

loch_status sk_daemon_adopt(struct sk_daemon *daemon, struct sk_timeline *timeline)
{
    if (daemon->timeline_count >= SK_TIMELINES_MAX)
        return LOCH_FAIL(LOCH_E_LIMIT, "a safekeeper holds at most %u timelines", SK_TIMELINES_MAX);
    struct sk_timeline **more =
        realloc(daemon->timelines, (daemon->timeline_count + 1) * sizeof(struct sk_timeline *));
    if (more == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a list of timelines");
    daemon->timelines = more;
    const struct loch_id id = loch_id_within(&timeline->tenant, &timeline->timeline);
    LOCH_TRY(loch_id_map_put(&daemon->timeline_map, &id, timeline));
    daemon->timelines[daemon->timeline_count++] = timeline;
    return LOCH_OK;
}

void sk_daemon_forget(struct sk_daemon *daemon, const struct sk_timeline *timeline)
{
    size_t kept = 0;

    for (size_t i = 0; i < daemon->timeline_count; i++)
        if (daemon->timelines[i] != timeline)
            daemon->timelines[kept++] = daemon->timelines[i];
    daemon->timeline_count = kept;
    const struct loch_id id = loch_id_within(&timeline->tenant, &timeline->timeline);
    if (loch_id_map_get(&daemon->timeline_map, &id) == timeline)
        (void)loch_id_map_remove(&daemon->timeline_map, &id);
}

/* ---- what stands in the data directory ---- */

struct listing {
    struct sk_daemon *daemon;
    struct loch_id tenant;
    loch_status st;
};

static bool open_one(void *arg, const char *name)
{
    struct listing *l = arg;
    struct sk_timeline *tl;
    struct loch_id timeline;

    if (!loch_is_ok(loch_id_parse(name, &timeline))) {
        LOCH_WARN("%s in the timelines of a tenant is no timeline; left alone", name);
        return true;
    }
    l->st = sk_timeline_new(l->daemon, &l->tenant, &timeline, &tl);
    if (!loch_is_ok(l->st))
        return false;
    bool there = false;
    l->st = sk_timeline_on_disk(tl, &there);
    if (!there) { /* a creation that was cut short, or what a drop leaves */
        sk_timeline_destroy(tl);
        return loch_is_ok(l->st);
    }
    l->st = sk_daemon_adopt(l->daemon, tl);
    if (!loch_is_ok(l->st)) {
        sk_timeline_destroy(tl);
        return false;
    }
    l->st = sk_timeline_open(tl, NULL);
    return loch_is_ok(l->st);
}

static bool open_tenant(void *arg, const char *name)
{
    struct listing *l = arg;
    char path[SK_PATH_BYTES];

    if (!loch_is_ok(loch_id_parse(name, &l->tenant))) {
        LOCH_WARN("%s/tenants/%s is no tenant; left alone", l->daemon->dir, name);
        return true;
    }
    (void)snprintf(path, sizeof path, "%s/tenants/%s/timelines", l->daemon->dir, name);
    loch_status st = loch_env_list_dir(l->daemon->env, path, open_one, l);
    if (loch_is_ok(l->st) && !loch_is_ok(st) && st.code != LOCH_E_NOT_FOUND)
        l->st = st;
    return loch_is_ok(l->st);
}

static loch_status open_all(struct sk_daemon *d)
{
    struct listing l = {.daemon = d, .st = LOCH_OK};
    char path[SK_PATH_BYTES];

    (void)snprintf(path, sizeof path, "%s/tenants", d->dir);
    LOCH_TRY(loch_env_mkdirs(d->env, path));
    LOCH_TRY(loch_env_sync_dir(d->env, d->dir));
    LOCH_TRY(loch_env_list_dir(d->env, path, open_tenant, &l));
    return l.st;
}

/* ---- start ---- */

static bool add_peer(void *arg, const char *key, const char *value)
{
    struct sk_daemon *d = arg;
    struct loch_id node;

    if (!loch_is_ok(loch_id_parse(key, &node)) || d->peer_count == SK_PEERS_MAX)
        return true;
    if (loch_id_equal(&node, &d->node)) {
        d->listed = true;
        d->address = value;
        return true;
    }
    d->peers[d->peer_count++] = (struct sk_peer){.node = node, .address = value};
    return true;
}

static void register_metrics(struct sk_daemon *d)
{
    struct loch_metrics *m = d->metrics;
    struct sk_stats *s = &d->stats;

#define COUNTER(name_, help_) loch_metrics_counter(m, "loch_safekeeper_" name_, help_, NULL, 0)
#define GAUGE(name_, help_)   loch_metrics_gauge(m, "loch_safekeeper_" name_, help_, NULL, 0)
    s->store.writes = COUNTER("writes_total", "Write calls to WAL files.");
    s->store.write_bytes = COUNTER("written_bytes_total", "WAL bytes written.");
    s->store.syncs =
        COUNTER("syncs_total", "Syncs of WAL files: each covers all that came before.");
    s->store.files = COUNTER("files_total", "WAL files begun.");
    s->store.sync_latency =
        loch_metrics_histogram(m, "loch_safekeeper_sync_seconds", "Time of a sync.", NULL, 0);
    s->appends = COUNTER("appends_total", "APPEND messages received.");
    s->append_bytes = COUNTER("append_bytes_total", "WAL bytes received.");
    s->commits = COUNTER("commit_advances_total", "Times that a commit_lsn advanced.");
    s->refused =
        COUNTER("refused_total", "Connections that were refused; the log has each reason once.");
    s->turned_away = COUNTER("connections_turned_away_total",
                             "Connections that were refused because there are too many.");
    s->votes = COUNTER("votes_total", "VOTE messages received.");
    s->fenced = COUNTER("fenced_total", "Proposers that were told of a higher term.");
    s->pulled_bytes = COUNTER("pulled_bytes_total", "WAL bytes sent to readers.");
    s->file_reads = COUNTER("file_reads_total", "Reads of WAL from files, for lagging readers.");
    s->recovered_bytes = COUNTER("recovered_bytes_total", "WAL bytes fetched from peers.");
    s->store.recycled =
        COUNTER("files_recycled_total", "Of the WAL files begun, those made of trimmed ones.");
    s->store.zeroed_bytes = COUNTER("zeroed_bytes_total", "Zeros written ahead of WAL.");
    s->journal_records =
        COUNTER("journal_records_total", "Syncs that were shared by timelines (the journal).");
    s->journal_bytes = COUNTER("journal_bytes_total", "Bytes written to the journal.");
    s->store.trimmed_bytes = COUNTER("trimmed_bytes_total", "WAL bytes no longer kept here.");
    s->archived_bytes = COUNTER("archived_bytes_total", "WAL bytes put into the archive.");
    s->archive_failures = COUNTER("archive_failures_total", "Pieces that could not be archived.");
    s->archive_reads = COUNTER("archive_reads_total", "Reads of WAL from the archive.");
    s->wal_disk_bytes =
        GAUGE("wal_disk_bytes", "What WAL files take on disk, spare ones included.");
    s->spare_bytes = GAUGE("spare_bytes", "Of that, trimmed files that new ones will be made of.");
    d->memory.gauge = GAUGE("wal_memory_bytes", "WAL in memory, of all timelines: the newest, "
                                                "read ahead, waiting for the disk.");
    s->exported_bytes = COUNTER("exported_bytes_total", "WAL bytes sent to pg_receivewal.");
    s->witness_lag = GAUGE("witness_lag_ms", "Age of the oldest write that the store's witness of "
                                             "this node does not cover.");
    s->exports = GAUGE("exports", "Connections of the export port.");
    s->timelines_held = GAUGE("timelines_held", "Timelines whose writers wait at a limit.");
    s->connections = GAUGE("connections", "Open connections.");
    s->timelines_active = GAUGE("timelines_active", "Timelines served.");
    s->timelines_broken = GAUGE("timelines_broken", "Timelines that are broken or wait.");
#undef COUNTER
#undef GAUGE
}

static loch_status open_world(struct sk_daemon *d, const struct loch_config *config)
{
    const char *store = loch_config_string(config, "store", "path");
    const char *const dirs[] = {d->dir, store, NULL};
    char pins[PATH_MAX];

    LOCH_TRY(loch_objstore_open_local(d->env, store, &d->store));
    LOCH_TRY(loch_kms_open(loch_config_string(config, "kms", "uri"), dirs, &d->kms));
    (void)snprintf(pins, sizeof pins, "%s/kms.pins", d->dir);
    LOCH_TRY(loch_kms_pins_open(d->kms, d->env, pins));
    static char witness[PATH_MAX]; /* lives as long as the keys */
    (void)snprintf(witness, sizeof witness, "%s/keyrings-seen", d->dir);
    LOCH_TRY(loch_audit_open(d->dir, "loch-safekeeper", &d->node, &d->audit));
    LOCH_TRY(loch_refused_create(d->env, d->audit, &d->refused));
    struct loch_keys_options options = {.store = d->store,
                                        .kms = d->kms,
                                        .cluster = d->cluster,
                                        .node = d->node,
                                        .role = LOCH_ROLE_SAFEKEEPER,
                                        .env = d->env,
                                        .lease_ms = d->lease_settings.lease_ms,
                                        .audit = d->audit,
                                        .witness_dir = witness};
    LOCH_TRY(loch_keys_create(&options, &d->keys));
    return loch_tls_server_create(loch_keys_psk_lookup, d->keys, &d->tls);
}

static void count_states(struct sk_daemon *d)
{
    int64_t active = 0;
    int64_t broken = 0;
    int64_t opening = 0;

    for (size_t i = 0; i < d->timeline_count; i++) {
        const struct sk_timeline *tl = d->timelines[i];
        enum sk_state state = tl->state;
        active += state == SK_ACTIVE;
        broken +=
            state == SK_BROKEN || (state == SK_WAITING && !loch_keys_asleep(d->keys, &tl->tenant));
        opening += state == SK_OPENING;
    }
    loch_metric_set(d->stats.timelines_active, active);
    loch_metric_set(d->stats.timelines_broken, broken);
    if (broken > 0)
        loch_metrics_health(d->metrics, false, "a timeline is broken: see SHOW TIMELINES");
    else if (opening > 0)
        loch_metrics_health(d->metrics, false, "opening timelines");
    else
        loch_metrics_health(d->metrics, true, "ok");
}

static void tick(void *arg)
{
    struct sk_daemon *d = arg;

    d->tick = NULL;
    if (d->stopping)
        return;
    sk_limits_tick(d);
    for (size_t i = 0; i < d->timeline_count && !d->limits.working; i++)
        sk_timeline_tick(d->timelines[i]);
    sk_archive_tick(d);
    sk_lsn_metrics_tick(d, loch_env_now_ns(d->env));
    sk_export_tick(d);
    sk_service_tick(d);
    if (d->witness != NULL) {
        sk_witness_tick(d->witness, d->work);
        loch_metric_set(d->stats.witness_lag, (int64_t)sk_witness_lag_ms(d->witness));
    }
    count_states(d);
    loch_status st = loch_env_timer(d->env, TICK_MS, &d->tick, tick, d);
    if (!loch_is_ok(st))
        sk_daemon_fail_stop("cannot start a timer", st);
}

static void release(struct sk_daemon *d)
{
    if (!loch_leases_destroy(d->leases)) {
        LOCH_INFO("stopped while the key service had not answered");
        _exit(0);
    }
    loch_listener_close(d->listener);
    loch_tls_server_destroy(d->tls);
    loch_keys_destroy(d->keys);
    loch_kms_close(d->kms);
    sk_witness_destroy(d->witness);
    loch_objstore_close(d->store);
    loch_refused_destroy(d->refused);
    loch_audit_close(d->audit);
    sk_journal_destroy(d->journal);
    free(d->timelines);
    loch_id_map_fini(&d->timeline_map);
    free(d);
}

static void usurped(void *arg, loch_status st)
{
    (void)arg;
    sk_daemon_fail_stop("the node's witness", st);
}

/* Is this the directory that served last? */
static loch_status attest(struct sk_daemon *d)
{
    const struct sk_witness_options options = {.env = d->env,
                                               .store = d->store,
                                               .dir = d->dir,
                                               .node = d->node,
                                               .boot = d->boot,
                                               .interval_ms = d->witness_ms,
                                               .usurped = usurped,
                                               .arg = d};

    return d->store == NULL ? LOCH_OK : sk_witness_enter(&options, &d->witness);
}

/* Whose directory it is, and what its journal holds goes where it belongs. */
static loch_status enter(struct sk_daemon *d)
{
    struct loch_id journal;

    LOCH_TRY(sk_node_file_enter(d->env, d->dir, &d->cluster, &d->node, &d->incarnation, &journal));
    LOCH_TRY(attest(d));
    LOCH_TRY(sk_journal_replay(d->env, d->dir, &d->node, &journal));
    if (!loch_id_equal(&journal, &(struct loch_id){0}))
        LOCH_TRY(sk_node_file_write(d->env, d->dir, &d->cluster, &d->node, d->incarnation, NULL));
    LOCH_TRY(sk_journal_discard(d->env, d->dir));
    const struct sk_journal_options options = {.env = d->env,
                                               .dir = d->dir,
                                               .cluster = d->cluster,
                                               .node = d->node,
                                               .incarnation = d->incarnation,
                                               .half_bytes = d->journal_half_bytes,
                                               .least_busy = d->journal_busy,
                                               .slow_ns = d->journal_slow_ns,
                                               .records = d->stats.journal_records,
                                               .bytes = d->stats.journal_bytes};
    return sk_journal_create(&options, &d->journal);
}

loch_status sk_daemon_serve(struct sk_daemon *d, const char *address)
{
    char text[LOCH_ID_TEXT_BYTES];

    register_metrics(d);
    LOCH_TRY(loch_env_random(d->env, d->boot.bytes, sizeof d->boot.bytes));
    LOCH_TRY(enter(d));
    LOCH_TRY(loch_env_listen(d->env, address, d->tls, &d->listener, sk_service_accept, d));
    LOCH_TRY(sk_limits_start(d));
    LOCH_TRY(open_all(d));
    LOCH_TRY(loch_env_timer(d->env, TICK_MS / 10, &d->tick, tick, d));
    LOCH_INFO("safekeeper %s listens on %s: %zu timelines, %zu peers",
              loch_id_format(&d->node, text), address, d->timeline_count, d->peer_count);
    return LOCH_OK;
}

/* ---- a tenant's key goes and comes back ---- */

/* Whether the timeline is of the tenant, and (branch not none) its keys are held by that branch's
 * own CMK. */
static bool is_under(const struct sk_daemon *d, const struct sk_timeline *tl,
                     const struct loch_id *tenant, const struct loch_id *branch)
{
    if (!loch_id_equal(&tl->tenant, tenant))
        return false;
    const struct loch_id lock = loch_keys_lock(d->keys, tenant, &tl->timeline);
    return loch_lock_covers(&lock, branch);
}

static void dark(void *arg, const struct loch_id *tenant, const struct loch_id *branch,
                 enum loch_code code, const char *why)
{
    struct sk_daemon *d = arg;
    bool any = false;

    for (size_t i = 0; i < d->timeline_count; i++)
        if (is_under(d, d->timelines[i], tenant, branch)) {
            sk_timeline_park(d->timelines[i], code, why);
            if (loch_keys_asleep(d->keys, tenant))
                d->timelines[i]->retry_ns = UINT64_MAX; /* not before it is lit again */
            any = any || sk_timeline_holds_plaintext(d->timelines[i]);
        }
    if (!any)
        loch_leases_wiped(d->leases, tenant, branch);
}

static void consider_wiped(struct sk_daemon *d, const struct loch_id *tenant,
                           const struct loch_id *branch)
{
    for (size_t i = 0; i < d->timeline_count; i++)
        if (is_under(d, d->timelines[i], tenant, branch) &&
            sk_timeline_holds_plaintext(d->timelines[i]))
            return;
    if (d->leases != NULL)
        loch_leases_wiped(d->leases, tenant, branch);
}

void sk_daemon_wiped(struct sk_daemon *d, const struct loch_id *tenant,
                     const struct loch_id *timeline)
{
    const struct loch_id lock = loch_keys_lock(d->keys, tenant, timeline);

    if (!loch_id_is_none(&lock))
        consider_wiped(d, tenant, &lock);
    consider_wiped(d, tenant, &(struct loch_id){{0}});
}

static void light(void *arg, const struct loch_id *tenant, const struct loch_id *branch)
{
    struct sk_daemon *d = arg;

    for (size_t i = 0; i < d->timeline_count; i++)
        if (is_under(d, d->timelines[i], tenant, branch))
            d->timelines[i]->retry_ns = 0; /* the next tick opens it */
}

/* Whether anybody is connected for the tenant, or its timelines have something to do. */
static bool busy(void *arg, const struct loch_id *tenant)
{
    const struct sk_daemon *d = arg;

    if (sk_service_knows(d, tenant))
        return true;
    for (size_t i = 0; i < d->timeline_count; i++)
        if (loch_id_equal(&d->timelines[i]->tenant, tenant) && !sk_timeline_rests(d->timelines[i]))
            return true;
    return false;
}

/* A command about a tenant that is asleep waits until the tenant is awake, or cannot be woken. */
bool sk_daemon_hold(void *state, const struct loch_console_request *request)
{
    const struct sk_daemon *d = state;
    struct loch_id tenant, timeline;

    if (!loch_is_ok(loch_console_arg_id(request, "tenant", &tenant)))
        return false;
    loch_keys_want(d->keys, &tenant);
    if (loch_keys_asleep(d->keys, &tenant))
        return true;
    if (!loch_is_ok(loch_keys_usable(d->keys, &tenant, NULL)))
        return false;
    if (loch_is_ok(loch_console_arg_id(request, "timeline", &timeline)) &&
        loch_keys_opening(d->keys, &tenant, &timeline))
        return true;
    for (size_t i = 0; i < d->timeline_count; i++)
        if (loch_id_equal(&d->timelines[i]->tenant, &tenant) && sk_timeline_wakes(d->timelines[i]))
            return true;
    return false;
}

static loch_status keep_leases(struct sk_daemon *d)
{
    const struct loch_leases_options options = {.env = d->env,
                                                .keys = d->keys,
                                                .metrics = d->metrics,
                                                .audit = d->audit,
                                                .settings = d->lease_settings,
                                                .idle_ms = d->key_idle_ms,
                                                .busy = busy,
                                                .dark = dark,
                                                .light = light,
                                                .arg = d};

    return loch_leases_create(&options, &d->leases);
}

/* WAL is archived in whole pieces and trimmed in whole files: below that a timeline would be held
 * with nothing that could ever be trimmed. */
static loch_status check_limits(const struct sk_daemon *d)
{
    const uint64_t least = 4 * d->file_bytes + d->piece_bytes;

    if (d->limits.timeline_bytes == 0 || d->limits.timeline_bytes >= least)
        return LOCH_OK;
    return LOCH_FAIL(LOCH_E_INVALID,
                     "[safekeeper] timeline_limit of %" PRIu64
                     " bytes would hold writers for ever: "
                     "WAL leaves the disk in pieces of %" PRIu64 " and files of %" PRIu64
                     ". Set it to at least %" PRIu64 ", or to 0, or make file_bytes smaller",
                     d->limits.timeline_bytes, d->piece_bytes, d->file_bytes, least);
}

loch_status sk_daemon_start(const struct loch_daemon *daemon, void **state)
{
    struct sk_daemon *d = calloc(1, sizeof *d);
    const struct loch_config *config = daemon->config;
    const char *address = loch_config_string(config, "safekeeper", "listen");
    char text[LOCH_ID_TEXT_BYTES];
    loch_status st;

    if (d == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for the daemon");
    d->env = daemon->env;
    d->metrics = daemon->metrics;
    d->dir = daemon->dir;
    d->cluster = loch_config_id(config, "cluster", "id");
    d->node = loch_config_id(config, "safekeeper", "node");
    d->piece_bytes = SK_PIECE_BYTES;
    d->file_bytes = loch_config_u64(config, "safekeeper", "file_bytes");
    if (!loch_config_bool(config, "safekeeper", "journal"))
        d->journal_busy = UINT32_MAX;
    d->journal_slow_ns = 1000 * loch_config_u64(config, "safekeeper", "journal_slow_us");
    d->limits = (struct sk_limits){
        .timeline_bytes = loch_config_u64(config, "safekeeper", "timeline_limit"),
        .node_bytes = loch_config_u64(config, "safekeeper", "node_limit"),
        .min_free_bytes = loch_config_u64(config, "safekeeper", "min_free")};
    d->memory.limit_bytes = loch_config_u64(config, "safekeeper", "memory_limit");
    d->witness_ms = loch_config_u64(config, "safekeeper", "witness");
    (void)loch_config_each(config, "safekeepers", add_peer, d);
    if (!d->listed) {
        st = LOCH_FAIL(LOCH_E_INVALID, "[safekeepers] does not list this node, %s",
                       loch_id_format(&d->node, text));
        goto out;
    }
    LOCH_TRY_OUT(st, check_limits(d));
    LOCH_TRY_OUT(st, loch_lease_settings_read(config, &d->lease_settings));
    d->key_idle_ms = loch_config_u64(config, "kms", "idle");
    LOCH_TRY_OUT(st, sk_limits_enter(d));
    LOCH_TRY_OUT(st, open_world(d, config));
    LOCH_TRY_OUT(st, sk_daemon_serve(d, address));
    LOCH_TRY_OUT(st, sk_export_start(d, config));
    LOCH_TRY_OUT(st, keep_leases(d));
    *state = d;
    return LOCH_OK;
out:
    if (d->timeline_count > 0) { /* pool threads are at work on what an orderly end would release */
        loch_log_failure("cannot start");
        _exit(1);
    }
    release(d);
    return st;
}

/* ---- stop ---- */

static void stop_when_idle(void *arg)
{
    struct sk_daemon *d = arg;
    bool idle = d->conns == NULL && (d->witness == NULL || sk_witness_idle(d->witness));

    for (size_t i = 0; i < d->timeline_count && idle; i++)
        idle = sk_timeline_idle(d->timelines[i]);
    idle = idle && sk_journal_idle(d->journal);
    if (idle || loch_env_now_ns(d->env) > d->stop_by_ns) {
        if (!idle)
            LOCH_WARN("stopping, though something is still under way");
        loch_env_stop(d->env);
        return;
    }
    struct loch_timer *timer;
    loch_status st = loch_env_timer(d->env, STOP_MS, &timer, stop_when_idle, d);
    if (!loch_is_ok(st))
        sk_daemon_fail_stop("cannot start a timer", st);
}

void sk_daemon_stop(void *state)
{
    struct sk_daemon *d = state;

    d->stopping = true;
    d->stop_by_ns = loch_env_now_ns(d->env) + STOP_NS;
    loch_listener_close(d->listener);
    d->listener = NULL;
    sk_export_stop(d);
    loch_timer_cancel(d->tick);
    d->tick = NULL;
    loch_timer_cancel(d->beats);
    d->beats = NULL;
    for (size_t i = 0; i < d->timeline_count; i++) {
        sk_timeline_quiesce(d->timelines[i], "the safekeeper stops");
        sk_timeline_tick(d->timelines[i]); /* persists a commit_lsn that moved */
    }
    for (struct sk_conn *c = d->conns; c != NULL; c = c->next)
        sk_conn_refuse(c, LOCH_E_UNAVAILABLE, "the safekeeper stops");
    stop_when_idle(d);
}

void sk_daemon_finish(void *state)
{
    struct sk_daemon *d = state;
    const bool working = loch_env_working(d->env); /* of whatever kind, a command's too */
    bool clean =
        !working && d->conns == NULL && (d->witness == NULL || sk_witness_idle(d->witness));

    for (size_t i = 0; i < d->timeline_count; i++) {
        if (!working && sk_timeline_idle(d->timelines[i]))
            sk_timeline_destroy(d->timelines[i]);
        else
            clean = false;
    }
    clean = clean && sk_journal_idle(d->journal);
    if (d->witness != NULL && sk_witness_idle(d->witness))
        sk_witness_leave(d->witness, d->work);
    if (clean)
        release(d);
    else
        LOCH_INFO("stopped in the middle of work; nothing that was acknowledged is lost");
}
