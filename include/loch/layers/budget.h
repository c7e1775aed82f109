/* Which open layers to write early when the memory of all timelines together runs short: a plain
 * function over their sizes.
 */
#ifndef LOCH_LAYERS_BUDGET_H
#define LOCH_LAYERS_BUDGET_H

#include <stddef.h>
#include <stdint.h>

/* One timeline's open layer. */
struct loch_budget_item {
    uint64_t bytes;
    uint64_t since; /* when it began, in any unit that rises */
    void *owner;    /* the caller's */
};

/* Brings the layers to be written to the front of items[0..count) and returns how many: the largest
 * first, of equals the oldest, until together they have `excess` bytes, and never more than `most`.
 * Empty ones are never among them. */
size_t loch_budget_choose(struct loch_budget_item *items, size_t count, uint64_t excess,
                          size_t most);

#endif
