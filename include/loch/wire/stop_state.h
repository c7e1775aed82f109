/* What a cleanly stopped compute leaves for the next: its cumulative statistics and the pages of
 * its unlogged relations (docs/protocol/stop_state.md). Valid once, for the same branch, and only
 * when the next compute begins where this one ended. */
#ifndef LOCH_WIRE_STOP_STATE_H
#define LOCH_WIRE_STOP_STATE_H

#include "loch/base/buf.h"
#include "loch/base/types.h"
#include "loch/pg/key.h"

#define LOCH_STOP_FILE      "loch.stop" /* the head; part n is loch.stop.n */
#define LOCH_STOP_PARTS_MAX 4096u
#define LOCH_STOP_PAGES_MAX 127u               /* of one part, which is at most 1 MiB */
#define LOCH_STOP_BYTES_MAX ((1u << 20) - 64u) /* of the statistics in one part */
#define LOCH_STOP_STATS_MAX (64u << 20)        /* of the statistics together */

struct loch_stop_head {
    struct loch_id tenant, timeline;
    uint64_t id;           /* of this stop: every part names it */
    loch_lsn unlogged_lsn; /* the counter that stands for LSNs in unlogged relations */
    uint32_t part_count;   /* at most LOCH_STOP_PARTS_MAX */
};

enum loch_stop_kind { LOCH_STOP_STATISTICS = 1, LOCH_STOP_PAGES = 2 };

/* Borrows its bytes. */
struct loch_stop_part {
    uint64_t id;
    uint32_t number; /* from 0 */
    enum loch_stop_kind kind;
    uint64_t offset;         /* statistics: where in the file */
    struct loch_rel rel;     /* pages: whose main fork */
    uint32_t block;          /* pages: the first one's */
    struct loch_slice bytes; /* of the file; or whole pages, none for an empty relation */
};

void loch_stop_head_encode(struct loch_writer *w, const struct loch_stop_head *head);
/* LOCH_E_CORRUPT. */
LOCH_STATUS loch_stop_head_decode(struct loch_slice bytes, struct loch_stop_head *out);
void loch_stop_part_encode(struct loch_writer *w, const struct loch_stop_part *part);
/* LOCH_E_CORRUPT unless the part makes sense by itself. */
LOCH_STATUS loch_stop_part_decode(struct loch_slice bytes, struct loch_stop_part *out);

#endif
