/* What one WAL record does to the stored keys, as a list of effects.
 *
 * Covers every resource manager of PostgreSQL 15. Order matters: apply effects in the order given,
 * all at the record's end LSN. No key is touched twice by one record.
 *
 * Not represented, as stock redo of pages never needs it: FSM contents, subtransactions, locks,
 * invalidations, dropped statistics, logical-decoding files.
 */
#ifndef LOCH_PG_EFFECTS_H
#define LOCH_PG_EFFECTS_H

#include "loch/base/buf.h"
#include "loch/base/types.h"
#include "loch/pg/control.h"
#include "loch/pg/key.h"
#include "loch/pg/slru.h"
#include "loch/pg/wal_record.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum loch_effect_kind {
    LOCH_EFFECT_PAGE,  /* the record applies to this page; the relation grows to cover it */
    LOCH_EFFECT_VM_OP, /* op for vm.h on a VM page; SET grows the fork to cover it, the others do
                          nothing beyond its end */
    LOCH_EFFECT_REL_CREATE, /* the fork exists from here (0 blocks if it did not; else as it is) */
    LOCH_EFFECT_REL_TRUNCATE, /* the fork is cut to `blocks`, if it exists and is longer */
    LOCH_EFFECT_REL_DROP,     /* the relation goes away with all its forks */
    LOCH_EFFECT_DB_CREATE, /* an empty database in this tablespace (its pages follow as records) */
    LOCH_EFFECT_DB_COPY,   /* all keys of (src_spc, src_db) copied, as of this LSN, to (spc, db) */
    LOCH_EFFECT_DB_DROP,   /* everything of (spc, db) goes away */
    LOCH_EFFECT_TABLESPACE_CREATE,
    LOCH_EFFECT_TABLESPACE_DROP,
    LOCH_EFFECT_SLRU_OP,      /* op for slru.h on page (slru, page) */
    LOCH_EFFECT_SLRU_CUT,     /* files go away: `cut` says which */
    LOCH_EFFECT_RELMAP,       /* the whole pg_filenode.map of (spc, db) */
    LOCH_EFFECT_TWOPHASE_PUT, /* state file of xid, ready to ship (CRC appended) */
    LOCH_EFFECT_TWOPHASE_DROP,
    LOCH_EFFECT_XACT_END,   /* a commit or abort, with its time */
    LOCH_EFFECT_ORIGIN_SET, /* replication origin advanced */
    LOCH_EFFECT_ORIGIN_DROP,
    LOCH_EFFECT_CHECKPOINT, /* a checkpoint record of PostgreSQL's went by */
    LOCH_EFFECT_FILE        /* a configuration file of the data directory, whole */
};

struct loch_effect {
    enum loch_effect_kind kind;
    union {
        struct {
            struct loch_rel rel;
            uint8_t fork;
            uint8_t block_id; /* the reference in the record */
            bool will_init; /* redo starts from nothing: no earlier version of the page is needed */
            bool is_image;  /* the reference's image is restored as the page: likewise */
            uint32_t block;
        } page;
        struct {
            struct loch_rel rel;
            uint32_t block; /* VM block */
            struct loch_slice op;
        } vm;
        struct {
            struct loch_rel rel;
            uint8_t fork;    /* create, truncate */
            uint32_t blocks; /* truncate */
        } rel;
        struct {
            uint32_t spc, db, src_spc, src_db;
        } db;
        struct {
            uint32_t spc;
            struct loch_slice path; /* create: the location; empty for in-place */
        } tablespace;
        struct {
            uint8_t slru;  /* enum loch_slru */
            uint32_t page; /* op */
            struct loch_slice op;
            struct loch_slru_cut cut; /* cut */
        } slru;
        struct {
            uint32_t spc, db;
            struct loch_slice file;
        } relmap;
        struct {
            uint32_t xid;
            struct loch_slice file;
        } twophase;
        struct {
            uint32_t xid;
            bool committed;
            int64_t time_us; /* PostgreSQL's: microseconds since 2000-01-01 00:00 UTC */
        } xact;
        struct {
            uint16_t origin;
            bool force; /* set even if it goes back */
            loch_lsn remote_lsn;
            loch_lsn local_lsn; /* LOCH_LSN_NONE: leave what is stored */
        } origin;
        struct {
            bool shutdown;
            loch_lsn redo;
        } checkpoint;
        struct {
            struct loch_slice path; /* relative, NUL-ended, the NUL not counted */
            struct loch_slice contents;
        } file;
    };
};

#define LOCH_PG_EPOCH_SECONDS INT64_C(946684800) /* 2000-01-01 in seconds since 1970 */

/* A reusable list. Zero-initialised is empty and valid. Slices inside effects borrow from it or
 * from the record, until the next derive or fini. */
struct loch_effects {
    struct loch_effect *items;
    size_t count, capacity;
    struct loch_buf bytes;
};

void loch_effects_fini(struct loch_effects *effects);

/* Replaces the list by the effects of `record`, which ends at `end`. `before` is the control state
 * before this record (call loch_control_follow afterwards); it decides whether commit timestamps
 * are kept. LOCH_E_CORRUPT, LOCH_E_UNSUPPORTED (custom resource managers, unknown record types),
 * LOCH_E_NO_MEMORY; the list is then empty. */
LOCH_STATUS loch_effects_derive(struct loch_effects *effects, const struct loch_wal_record *record,
                                loch_lsn end, const struct loch_control *before);

#endif
