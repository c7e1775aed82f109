/* The layers of one timeline at one moment: an immutable list, shared by reference counting.
 * Private to store/ and read/. */
#ifndef LOCH_PAGESERVER_STORE_LAYER_SET_H
#define LOCH_PAGESERVER_STORE_LAYER_SET_H

#include "layer.h"
#include "mem_layer.h"

#include <stdatomic.h>

struct loch_layer_set {
    atomic_uint refs;
    struct loch_mem_layer **mem; /* newest first; mem[0] is open */
    size_t mem_count;
    struct loch_layer **files; /* newest first */
    size_t file_count;
};

/* Retains the layers; open may be NULL. mem: `frozen` after `open`. */
LOCH_STATUS loch_layer_set_create(struct loch_mem_layer *open, struct loch_mem_layer **frozen,
                                  size_t frozen_count, struct loch_layer *new_file,
                                  struct loch_layer **files, size_t file_count,
                                  struct loch_layer_set **out);
struct loch_layer_set *loch_layer_set_retain(struct loch_layer_set *set);
void loch_layer_set_release(struct loch_layer_set *set);

struct loch_timeline;
/* The timeline's list now, retained, and its last_record_lsn at that moment. Any thread. */
struct loch_layer_set *loch_timeline_layers(struct loch_timeline *t, loch_lsn *last_record_lsn);
/* NULL for a root. Borrowed. */
struct loch_timeline *loch_timeline_parent(struct loch_timeline *t);
const struct loch_store *loch_timeline_store(const struct loch_timeline *t);

#endif
