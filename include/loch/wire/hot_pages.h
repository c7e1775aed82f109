/* The list of a compute's hot pages, as it travels in the WAL and is given back to the next compute
 * (docs/protocol/hot_pages.md). Only a hint: a wrong list costs time. */
#ifndef LOCH_WIRE_HOT_PAGES_H
#define LOCH_WIRE_HOT_PAGES_H

#include "loch/base/buf.h"
#include "loch/pg/key.h"

#define LOCH_HOT_RUNS_MAX 16384u

/* Neighbouring blocks of a main fork. */
struct loch_hot_run {
    struct loch_rel rel;
    uint32_t block, count; /* count from 1; block + count does not pass 2^32 - 1 */
};

/* A decoded list; borrows its bytes. */
struct loch_hot_pages {
    const uint8_t *runs;
    uint32_t count;
};

/* Appends the list; `count` at most LOCH_HOT_RUNS_MAX. */
void loch_hot_pages_encode(struct loch_writer *w, const struct loch_hot_run *runs, uint32_t count);
/* LOCH_E_CORRUPT unless every run makes sense and nothing is left over. */
LOCH_STATUS loch_hot_pages_decode(struct loch_slice bytes, struct loch_hot_pages *out);
/* Run number i < count. */
struct loch_hot_run loch_hot_pages_at(const struct loch_hot_pages *list, uint32_t i);

#endif
