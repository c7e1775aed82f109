/* Holds: the table of the pageserver's settings and its reading. */
#include "config.h"

#include "loch/host/daemon.h"
#include "loch/host/leases.h"

#include <stdio.h>

#define MIB (UINT64_C(1) << 20)

static const struct loch_config_item items[] = {
    LOCH_DAEMON_ITEMS,
    {.section = "cluster",
     .key = "id",
     .type = LOCH_CONFIG_ID,
     .help = "The cluster's id, the same in all of its daemons."},
    {.section = "safekeepers",
     .key = "*",
     .type = LOCH_CONFIG_ADDRESS,
     .key_is_id = true,
     .help = "Node id and address of each safekeeper."},
    {.section = "pageserver",
     .key = "node",
     .type = LOCH_CONFIG_ID,
     .help = "This pageserver's node id."},
    {.section = "pageserver",
     .key = "address",
     .type = LOCH_CONFIG_ADDRESS,
     .help = "Where computes ask for pages."},
    {.section = "pageserver",
     .key = "scratch",
     .type = LOCH_CONFIG_PATH,
     .help = "Directory for redo workers and initdb, best on a tmpfs."},
    {.section = "pageserver",
     .key = "lib_dir",
     .type = LOCH_CONFIG_PATH,
     .help = "Directory with loch.so, loch_redo.so and loch.sql."},
    {.section = "pageserver",
     .key = "pg_bin_dir",
     .type = LOCH_CONFIG_PATH,
     .value = "/usr/lib/postgresql/15/bin",
     .help = "Directory of the stock PostgreSQL's programs."},
    {.section = "pageserver",
     .key = "open_layer",
     .type = LOCH_CONFIG_BYTES,
     .value = "64MiB",
     .min = MIB,
     .max = 4096 * MIB,
     .help = "Size at which a memory layer is frozen and written."},
    {.section = "pageserver",
     .key = "page_cache",
     .type = LOCH_CONFIG_BYTES,
     .value = "128MiB",
     .min = MIB,
     .max = 1024 * 1024 * MIB,
     .help = "Memory for reconstructed pages."},
    {.section = "pageserver",
     .key = "frame_cache",
     .type = LOCH_CONFIG_BYTES,
     .value = "64MiB",
     .min = MIB,
     .max = 1024 * 1024 * MIB,
     .help = "Memory for opened parts of layer files."},
    {.section = "pageserver",
     .key = "redo_workers",
     .type = LOCH_CONFIG_U64,
     .value = "2",
     .min = 1,
     .max = 64,
     .help = "Most redo processes per tenant."},
    {.section = "pageserver",
     .key = "native_redo",
     .type = LOCH_CONFIG_BOOL,
     .value = "on",
     .help = "Frequent WAL records are applied without a redo process."},
    {.section = "layers",
     .key = "compact",
     .type = LOCH_CONFIG_U64,
     .value = "10",
     .min = 2,
     .max = 100,
     .help = "So many neighbouring layers of like size are merged."},
    {.section = "layers",
     .key = "target",
     .type = LOCH_CONFIG_BYTES,
     .value = "128MiB",
     .min = 64 << 10,
     .max = 1024 * MIB,
     .help = "Size of a merged layer; a merge needs about as much memory."},
    {.section = "layers",
     .key = "image_records",
     .type = LOCH_CONFIG_U64,
     .value = "32",
     .min = 1,
     .max = 10000,
     .help = "A read applies at most so many records out of layers: longer chains get images."},
    {.section = "layers",
     .key = "image_bytes",
     .type = LOCH_CONFIG_BYTES,
     .value = "16KiB",
     .min = 1 << 10,
     .max = MIB,
     .help = "Or at most so many bytes of records (and one record more)."},
    {.section = "layers",
     .key = "memory_images",
     .type = LOCH_CONFIG_BOOL,
     .value = "on",
     .help = "The same for what is in memory yet: costs redo while WAL comes in."},
    {.section = "layers",
     .key = "upkeep",
     .type = LOCH_CONFIG_MS,
     .value = "10s",
     .min = 10,
     .max = 3600 * 1000,
     .help = "How often layers are looked after."},
    {.section = "history",
     .key = "time",
     .type = LOCH_CONFIG_MS,
     .value = "7d",
     .min = 0,
     .max = UINT64_C(3650) * 24 * 3600 * 1000,
     .help = "How far back any LSN can be read, at least; see history.bytes."},
    {.section = "history",
     .key = "bytes",
     .type = LOCH_CONFIG_BYTES,
     .value = "64MiB",
     .min = 0,
     .max = UINT64_MAX,
     .help = "And at least so many bytes of WAL back, however old."},
    {.section = "history",
     .key = "lease",
     .type = LOCH_CONFIG_MS,
     .value = "10min",
     .min = 1,
     .max = 24 * 3600 * 1000,
     .help = "The longest lease of an LSN; for so long after a start the window stays."},
    {.section = "store",
     .key = "path",
     .type = LOCH_CONFIG_PATH,
     .help = "Directory of the object store."},
    {.section = "kms",
     .key = "uri",
     .type = LOCH_CONFIG_STRING,
     .min = 1,
     .max = 1000,
     .help = "The key service: file:/absolute/path of a 32-byte key."},
    LOCH_LEASE_ITEMS,
    {.section = "kms",
     .key = "shred_delay",
     .type = LOCH_CONFIG_MS,
     .value = "1h",
     .min = 0,
     .max = UINT64_C(30) * 24 * 3600 * 1000,
     .help = "From an order to shred to the earliest moment at which it may be confirmed."},
};

const struct loch_config_program loch_pageserver_program = {
    .name = "loch-pageserver",
    .summary = "replays WAL into versioned pages and serves them by LSN",
    .items = items,
    .item_count = sizeof items / sizeof items[0],
};

static bool add_safekeeper(void *arg, const char *key, const char *value)
{
    struct loch_pageserver_config *c = arg;

    if (c->safekeeper_count == LOCH_SAFEKEEPERS_MAX)
        return false;
    struct loch_peer *peer = &c->safekeepers[c->safekeeper_count];
    if (!loch_is_ok(loch_id_parse(key, &peer->node)))
        return false;
    (void)snprintf(peer->address, sizeof peer->address, "%s", value);
    c->safekeeper_count++;
    return true;
}

loch_status loch_pageserver_config_read(const struct loch_config *config,
                                        struct loch_pageserver_config *out)
{
    struct loch_pageserver_config c = {
        .cluster = loch_config_id(config, "cluster", "id"),
        .node = loch_config_id(config, "pageserver", "node"),
        .address = loch_config_string(config, "pageserver", "address"),
        .scratch = loch_config_string(config, "pageserver", "scratch"),
        .lib_dir = loch_config_string(config, "pageserver", "lib_dir"),
        .pg_bin_dir = loch_config_string(config, "pageserver", "pg_bin_dir"),
        .store_path = loch_config_string(config, "store", "path"),
        .kms_uri = loch_config_string(config, "kms", "uri"),
        .open_layer_bytes = loch_config_u64(config, "pageserver", "open_layer"),
        .page_cache_bytes = loch_config_u64(config, "pageserver", "page_cache"),
        .frame_cache_bytes = loch_config_u64(config, "pageserver", "frame_cache"),
        .redo_workers = loch_config_u64(config, "pageserver", "redo_workers"),
        .native_redo = loch_config_bool(config, "pageserver", "native_redo"),
        .compact_layers = loch_config_u64(config, "layers", "compact"),
        .layer_bytes = loch_config_u64(config, "layers", "target"),
        .image_records = loch_config_u64(config, "layers", "image_records"),
        .image_bytes = loch_config_u64(config, "layers", "image_bytes"),
        .memory_images = loch_config_bool(config, "layers", "memory_images"),
        .upkeep_ms = loch_config_u64(config, "layers", "upkeep"),
        .history_ms = loch_config_u64(config, "history", "time"),
        .history_bytes = loch_config_u64(config, "history", "bytes"),
        .lease_ms = loch_config_u64(config, "history", "lease"),
        .shred_delay_ms = loch_config_u64(config, "kms", "shred_delay"),
    };

    LOCH_TRY(loch_lease_settings_read(config, &c.leases));
    size_t given = loch_config_each(config, "safekeepers", add_safekeeper, &c);
    if (c.safekeeper_count == 0 || c.safekeeper_count != given)
        return LOCH_FAIL(LOCH_E_INVALID, "[safekeepers] must name 1 to %u safekeepers, not %zu",
                         LOCH_SAFEKEEPERS_MAX, given);
    *out = c;
    return LOCH_OK;
}
