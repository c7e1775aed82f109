/* The largest open layers go first: few files, and much memory for each. */
#include "loch/layers/budget.h"

#include <stdlib.h>

static int compare(const void *a, const void *b)
{
    const struct loch_budget_item *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes > y->bytes ? -1 : 1;
    return (x->since > y->since) - (x->since < y->since);
}

size_t loch_budget_choose(struct loch_budget_item *items, size_t count, uint64_t excess,
                          size_t most)
{
    size_t chosen = 0;
    if (count > 1)
        qsort(items, count, sizeof *items, compare);
    while (chosen < count && chosen < most && excess > 0 && items[chosen].bytes > 0) {
        excess -= items[chosen].bytes < excess ? items[chosen].bytes : excess;
        chosen++;
    }
    return chosen;
}
