/* What a compute's free space maps say, as it travels in the WAL and is given back to the next
 * compute (docs/protocol/free_space.md). Only a hint: PostgreSQL corrects a free space map that is
 * wrong, and never follows it beyond the relation's end. */
#ifndef LOCH_WIRE_FREE_SPACE_H
#define LOCH_WIRE_FREE_SPACE_H

#include "loch/base/buf.h"
#include "loch/pg/key.h"

/* Heap blocks of one leaf page, 8 kB pages. */
#define LOCH_FREE_SPACE_SLOTS 4069u
/* Bytes of an encoded leaf. */
#define LOCH_FREE_SPACE_LEAF_MOST (20u + 3u * LOCH_FREE_SPACE_SLOTS)

/* A leaf page of a free space map; borrows its bytes. */
struct loch_free_space_leaf {
    struct loch_rel rel;
    uint32_t leaf; /* heap blocks from leaf * LOCH_FREE_SPACE_SLOTS on; at most 2^32 - 1 of them */
    uint32_t run_count; /* from 1 */
    const uint8_t *runs;
};

/* Appends the mark that a list begins with. */
void loch_free_space_begin(struct loch_writer *w);
/* Appends a leaf: the category (space / 32) of every heap block. Nothing when all are 0. */
void loch_free_space_add(struct loch_writer *w, const struct loch_rel *rel, uint32_t leaf,
                         const uint8_t categories[static LOCH_FREE_SPACE_SLOTS]);
/* Appends a leaf that was read from another list. */
void loch_free_space_copy(struct loch_writer *w, const struct loch_free_space_leaf *leaf);

/* Begins to read a list. LOCH_E_CORRUPT. */
LOCH_STATUS loch_free_space_open(struct loch_reader *r, struct loch_slice bytes);
/* The next leaf; *found is false at the end. LOCH_E_CORRUPT when it makes no sense. */
LOCH_STATUS loch_free_space_next(struct loch_reader *r, struct loch_free_space_leaf *out,
                                 bool *found);
/* The categories of a leaf that was read. */
void loch_free_space_expand(const struct loch_free_space_leaf *leaf,
                            uint8_t categories[static LOCH_FREE_SPACE_SLOTS]);

#endif
