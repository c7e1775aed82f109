/* What the WAL of all timelines takes in memory: the newest of each, what is read ahead for
 * readers, what waits for the disk. Each has a bound of its own as well; thousands of timelines
 * together go by this one. Loop thread only.
 */
#ifndef LOCH_SAFEKEEPER_WAL_MEMORY_H
#define LOCH_SAFEKEEPER_WAL_MEMORY_H

#include "loch/host/metrics.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Embedded; all zeros has no limit. */
struct sk_memory {
    uint64_t limit_bytes; /* 0: none */
    uint64_t used_bytes;
    struct loch_metric *gauge; /* shows used_bytes; NULL: none */
};

/* Where `memory` is NULL there is no limit, and nothing is counted. */
/* Counts `bytes`, whatever the limit, in the place of the *counted of before (at first 0). */
void sk_memory_count(struct sk_memory *memory, size_t *counted, size_t bytes);
/* Would so many more stay within the limit? */
bool sk_memory_has(const struct sk_memory *memory, size_t bytes);
/* As many as one of many should take: a quarter of what is left, within [least, most]. */
size_t sk_memory_share(const struct sk_memory *memory, size_t least, size_t most);

#endif
