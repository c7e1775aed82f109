/* The list that effects are put on while a record is taken apart. Private to the room.
 *
 * Ops are written to list->bytes, which may move while it grows: until the end, an op's slice holds
 * its offset in `len`-less form (effect_ops below), made a real slice by finish.
 */
#ifndef LOCH_PG_EFFECT_LIST_H
#define LOCH_PG_EFFECT_LIST_H

#include "loch/pg/effects.h"

/* A new zeroed effect of that kind at the end of the list, valid until the next call. */
LOCH_STATUS effect_add(struct loch_effects *list, enum loch_effect_kind kind,
                       struct loch_effect **out);

/* A small op under construction: bytes appended to list->bytes since `start` are the op of the
 * effect that effect_op_end adds. */
struct effect_op {
    struct loch_writer w;
    size_t start;
};
void effect_op_begin(struct loch_effects *list, struct effect_op *op);
LOCH_STATUS effect_op_end_slru(struct loch_effects *list, struct effect_op *op, uint8_t slru,
                               uint32_t page);
LOCH_STATUS effect_op_end_vm(struct loch_effects *list, struct effect_op *op, struct loch_rel rel,
                             uint32_t block);
LOCH_STATUS effect_op_end_twophase(struct loch_effects *list, struct effect_op *op, uint32_t xid);

LOCH_STATUS effect_add_rel(struct loch_effects *list, enum loch_effect_kind kind,
                           struct loch_rel rel, uint8_t fork, uint32_t blocks);

/* One ZERO op, one cut. */
LOCH_STATUS effect_add_slru_zero(struct loch_effects *list, uint8_t slru, uint32_t page);
LOCH_STATUS effect_add_slru_cut(struct loch_effects *list, uint8_t slru, struct loch_slru_cut cut);

struct effect_source {
    const struct loch_wal_record *record;
    uint8_t info; /* the resource manager's bits */
    loch_lsn end;
    const struct loch_control *before;
};

/* The resource managers, by file. */
LOCH_STATUS effects_of_heap(struct loch_effects *list, const struct effect_source *src);
LOCH_STATUS effects_of_xact(struct loch_effects *list, const struct effect_source *src);
LOCH_STATUS effects_of_clog(struct loch_effects *list, const struct effect_source *src);
LOCH_STATUS effects_of_multixact(struct loch_effects *list, const struct effect_source *src);
LOCH_STATUS effects_of_commit_ts(struct loch_effects *list, const struct effect_source *src);

#endif
