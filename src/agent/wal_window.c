/* Holds: the ring of recent WAL. Invariant: end - start <= cap; byte x lies at x mod cap. */
#include "wal_window.h"

#include "loch/base/check.h"

#include <stdlib.h>

loch_status loch_wal_window_init(struct loch_wal_window *w, uint64_t bytes)
{
    uint64_t cap = UINT64_C(1) << 20;

    while (cap < bytes && cap < UINT64_C(1) << 40)
        cap <<= 1;
    /* Untouched pages cost nothing. */
    uint8_t *memory = malloc(cap);
    if (memory == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a WAL window of %" PRIu64 " bytes", cap);
    *w = (struct loch_wal_window){.bytes = memory, .cap = cap};
    return LOCH_OK;
}

void loch_wal_window_fini(struct loch_wal_window *w)
{
    free(w->bytes);
    *w = (struct loch_wal_window){0};
}

void loch_wal_window_begin(struct loch_wal_window *w, loch_lsn lsn)
{
    w->start = w->end = lsn;
}

uint64_t loch_wal_window_room(const struct loch_wal_window *w, loch_lsn keep_from)
{
    const loch_lsn kept = loch_min_u64(loch_max_u64(keep_from, w->start), w->end);
    return w->cap - (w->end - kept);
}

loch_status loch_wal_window_push(struct loch_wal_window *w, struct loch_slice bytes,
                                 loch_lsn keep_from)
{
    if (bytes.len > loch_wal_window_room(w, keep_from))
        return LOCH_FAIL(LOCH_E_LIMIT, "the WAL window of %" PRIu64 " bytes is full", w->cap);
    const uint64_t at = w->end & (w->cap - 1);
    const uint64_t first = loch_min_u64(bytes.len, w->cap - at);
    if (first > 0)
        memcpy(w->bytes + at, bytes.data, first);
    if (bytes.len > first)
        memcpy(w->bytes, bytes.data + first, bytes.len - first);
    w->end += bytes.len;
    if (w->end - w->start > w->cap)
        w->start = w->end - w->cap;
    return LOCH_OK;
}

void loch_wal_window_get(const struct loch_wal_window *w, loch_lsn begin, uint64_t len,
                         struct loch_slice out[static 2])
{
    LOCH_ASSERT(begin >= w->start);
    LOCH_ASSERT(len <= w->end - begin);
    const uint64_t at = begin & (w->cap - 1);
    const uint64_t first = loch_min_u64(len, w->cap - at);
    out[0] = loch_slice_of(w->bytes + at, first);
    out[1] = loch_slice_of(w->bytes, len - first);
}
