/* The pageserver's settings, as plain values. */
#ifndef LOCH_PAGESERVER_CONFIG_H
#define LOCH_PAGESERVER_CONFIG_H

#include "loch/base/types.h"
#include "loch/host/config.h"
#include "loch/keyring/lease.h"

#define LOCH_SAFEKEEPERS_MAX 9u

struct loch_peer {
    struct loch_id node;
    char address[128];
};

struct loch_pageserver_config {
    struct loch_id cluster, node;
    const char *address;    /* of the page port, as computes know it */
    const char *listen;     /* where it listens; "": at address */
    const char *scratch;    /* redo workers' and initdb's directories; tmpfs is best */
    const char *lib_dir;    /* loch.so, loch_redo.so, loch.sql */
    const char *pg_bin_dir; /* of the stock PostgreSQL */
    const char *store_path, *kms_uri;
    uint64_t open_layer_bytes;    /* an open layer is frozen at this size */
    uint64_t memory_layers_bytes; /* all that is not written yet, over all timelines */
    uint64_t copy_max_bytes;      /* of a database that is moved as a whole */
    uint64_t checkpoint_ms;       /* what is in memory for so long is written */
    uint64_t wait_lsn_ms;         /* for an LSN ahead of all WAL */
    uint64_t page_cache_bytes;
    uint64_t frame_cache_bytes;
    uint64_t redo_workers;               /* most per tenant */
    uint64_t flush_parts;                /* files of a large flush, a thread each */
    bool layer_zstd;                     /* layers are compressed with it instead of lz4 */
    uint64_t compact_layers;             /* so many neighbours of like size are merged */
    uint64_t layer_bytes;                /* of a merged layer */
    uint64_t image_records, image_bytes; /* a read applies at most so many, out of layers */
    bool memory_images;                  /* also in memory, as WAL comes in */
    uint64_t history_ms, history_bytes;  /* kept at least */
    uint64_t lease_ms;                   /* the longest lease */
    uint64_t idle_ms, idle_records;      /* quiet for so long: reads apply at most so many */
    bool layer_copies;                   /* each layer in the object store too */
    uint64_t upkeep_ms;                  /* how often layers are looked after */
    struct loch_lease_settings leases;
    uint64_t key_idle_ms; /* keys not used for so long are put to sleep; 0: never */
    bool native_redo;     /* off: every record goes to a redo process */
    uint64_t shred_delay_ms;
    struct loch_peer safekeepers[LOCH_SAFEKEEPERS_MAX];
    size_t safekeeper_count;
};

/* For loch_daemon_main: name, summary and table of settings. */
extern const struct loch_config_program loch_pageserver_program;
/* Strings borrow from `config`. LOCH_E_INVALID for what the table cannot check. */
LOCH_STATUS loch_pageserver_config_read(const struct loch_config *config,
                                        struct loch_pageserver_config *out);

#endif
