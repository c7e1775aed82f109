/* The newest WAL of a timeline in memory: a ring of fixed size, so that readers that keep up are
 * served without reading and opening files. Loop thread only.
 */
#ifndef LOCH_SAFEKEEPER_WAL_TAIL_H
#define LOCH_SAFEKEEPER_WAL_TAIL_H

#include "loch/base/buf.h"
#include "loch/base/types.h"

/* Embedded; holds the bytes [start, end). */
struct sk_tail {
    uint8_t *bytes; /* allocated at the first append */
    size_t capacity;
    loch_lsn start, end;
};

void sk_tail_init(struct sk_tail *tail, size_t capacity, loch_lsn at);
void sk_tail_fini(struct sk_tail *tail);
/* Appends at end; the oldest bytes make room. LOCH_E_NO_MEMORY at the first append only. */
LOCH_STATUS sk_tail_append(struct sk_tail *tail, struct loch_slice bytes);
/* Forgets everything at and after `at`; an `at` below start empties the tail there. */
void sk_tail_cut(struct sk_tail *tail, loch_lsn at);
/* Gives the memory back; the tail is then empty at its end. */
void sk_tail_release(struct sk_tail *tail);
/* Empties the tail, which then begins at `at`. */
void sk_tail_reset(struct sk_tail *tail, loch_lsn at);
/* The longest contiguous piece from `from`, at most `max` bytes and not beyond `end`; false when
 * `from` is not held. Borrowed until the next append or cut. */
bool sk_tail_read(const struct sk_tail *tail, loch_lsn from, loch_lsn end, size_t max,
                  struct loch_slice *out);

#endif
