/* The layers of one timeline at one moment, and what of it may be read: an immutable list, shared
 * by reference counting. Private to store/ and read/, and
 * for care/layer_commands.c to show. */
#ifndef LOCH_PAGESERVER_STORE_LAYER_SET_H
#define LOCH_PAGESERVER_STORE_LAYER_SET_H

#include "layer.h"
#include "mem_layer.h"

#include "loch/layers/retain.h"

#include <stdatomic.h>

struct loch_layer_set {
    atomic_uint refs;
    struct loch_mem_layer **mem; /* newest first; mem[0] is open */
    size_t mem_count;
    struct loch_layer **files; /* band after band, newest first; by key within a band */
    size_t file_count;
    struct loch_band *bands;
    size_t band_count;
    struct loch_retention retention; /* points are owned */
    int64_t cutoff_us;               /* when the cutoff's LSN was reached; 0: never moved */
};

/* What to make a set of; everything is retained or copied. */
struct loch_layer_set_parts {
    struct loch_mem_layer *open;    /* may be NULL */
    struct loch_mem_layer **frozen; /* newest first */
    size_t frozen_count;
    struct loch_layer **files;
    size_t file_count;
    struct loch_retention retention;
    int64_t cutoff_us;
};

LOCH_STATUS loch_layer_set_create(const struct loch_layer_set_parts *parts,
                                  struct loch_layer_set **out);
struct loch_layer_set *loch_layer_set_retain(struct loch_layer_set *set);
void loch_layer_set_release(struct loch_layer_set *set);

/* The newest band that may hold versions at or below `lsn`; band_count when there is none. */
size_t loch_layer_set_first_band(const struct loch_layer_set *set, loch_lsn lsn);
/* The band's file whose keys include `key`, or NULL; borrowed. */
struct loch_layer *loch_layer_set_find(const struct loch_layer_set *set, size_t band,
                                       const struct loch_key *key);
/* LOCH_E_INVALID with the cutoff and its time when reads at `lsn` would not give what was there. */
LOCH_STATUS loch_layer_set_readable(const struct loch_layer_set *set, loch_lsn lsn);

struct loch_timeline;
/* The timeline's list now, retained, and its last_record_lsn at that moment. Any thread. */
struct loch_layer_set *loch_timeline_layers(struct loch_timeline *t, loch_lsn *last_record_lsn);
/* NULL for a root. Borrowed. */
struct loch_timeline *loch_timeline_parent(struct loch_timeline *t);
const struct loch_store *loch_timeline_store(const struct loch_timeline *t);

#endif
