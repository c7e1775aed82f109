/* The newest WAL of a timeline in memory: a ring, so that readers that keep up are served without
 * reading and opening files. It grows with the rate at which WAL comes, up to some seconds' worth,
 * and shrinks again; while memory for WAL is short it stays as it is, or holds nothing. Loop thread
 * only.
 */
#ifndef LOCH_SAFEKEEPER_WAL_TAIL_H
#define LOCH_SAFEKEEPER_WAL_TAIL_H

#include "wal_memory.h"

#include "loch/base/buf.h"
#include "loch/base/types.h"

#define SK_TAIL_LEAST_BYTES (64u << 10)
#define SK_TAIL_BYTES       (8u << 20)

/* Embedded; holds the bytes [start, end). */
struct sk_tail {
    uint8_t *bytes;           /* NULL: holds nothing */
    size_t capacity;          /* of `bytes`; 0: NULL */
    size_t least, most;       /* capacities */
    struct sk_memory *memory; /* borrowed; may be NULL */
    size_t counted;           /* there */
    loch_lsn start, end;
    uint64_t lately; /* bytes since the last tick */
    unsigned calm;   /* ticks for which less would have done */
};

/* `most` may be less than SK_TAIL_LEAST_BYTES. */
void sk_tail_init(struct sk_tail *tail, size_t most, struct sk_memory *memory, loch_lsn at);
void sk_tail_fini(struct sk_tail *tail);
/* Appends at end; the oldest bytes make room, all of them where there is no memory. */
void sk_tail_append(struct sk_tail *tail, struct loch_slice bytes);
/* About once a second: gives back half, after a while in which a third of it would have done. */
void sk_tail_tick(struct sk_tail *tail);
/* Forgets everything at and after `at`; an `at` below start empties the tail there. */
void sk_tail_cut(struct sk_tail *tail, loch_lsn at);
/* Gives the memory back; the tail is then empty at its end. */
void sk_tail_release(struct sk_tail *tail);
/* Empties the tail, which then begins at `at`. */
void sk_tail_reset(struct sk_tail *tail, loch_lsn at);
/* The longest contiguous piece from `from`, at most `max` bytes and not beyond `end`; false when
 * `from` is not held. Borrowed until the next append, cut or tick. */
bool sk_tail_read(const struct sk_tail *tail, loch_lsn from, loch_lsn end, size_t max,
                  struct loch_slice *out);

#endif
