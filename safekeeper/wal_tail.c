/* Holds: the in-memory tail of a timeline's WAL. Invariant: the byte of LSN x stands at
 * x % capacity; end - start <= capacity. */
#include "wal_tail.h"

#include "loch/base/check.h"
#include "loch/base/secret.h"

#include <stdlib.h>

void sk_tail_init(struct sk_tail *tail, size_t capacity, loch_lsn at)
{
    LOCH_ASSERT(capacity > 0);
    *tail = (struct sk_tail){.capacity = capacity, .start = at, .end = at};
}

/* It holds users' rows. */
static void wipe_bytes(struct sk_tail *tail)
{
    if (tail->bytes != NULL)
        loch_wipe(tail->bytes, tail->capacity);
    free(tail->bytes);
}

void sk_tail_fini(struct sk_tail *tail)
{
    wipe_bytes(tail);
    *tail = (struct sk_tail){0};
}

loch_status sk_tail_append(struct sk_tail *tail, struct loch_slice bytes)
{
    if (tail->bytes == NULL) {
        tail->bytes = malloc(tail->capacity);
        if (tail->bytes == NULL)
            return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %zu bytes of WAL", tail->capacity);
    }
    if (bytes.len > tail->capacity) {
        size_t skip = bytes.len - tail->capacity;
        tail->end += skip;
        tail->start = tail->end;
        bytes = loch_slice_of(bytes.data + skip, tail->capacity);
    }
    while (bytes.len > 0) {
        size_t at = (size_t)(tail->end % tail->capacity);
        size_t take = (size_t)loch_min_u64(bytes.len, tail->capacity - at);
        memcpy(tail->bytes + at, bytes.data, take);
        tail->end += take;
        bytes = loch_slice_of(bytes.data + take, bytes.len - take);
    }
    if (tail->end - tail->start > tail->capacity)
        tail->start = tail->end - tail->capacity;
    return LOCH_OK;
}

void sk_tail_cut(struct sk_tail *tail, loch_lsn at)
{
    if (at >= tail->end)
        return;
    tail->end = at;
    if (tail->start > at)
        tail->start = at;
}

void sk_tail_release(struct sk_tail *tail)
{
    wipe_bytes(tail);
    tail->bytes = NULL;
    tail->start = tail->end;
}

void sk_tail_reset(struct sk_tail *tail, loch_lsn at)
{
    tail->start = at;
    tail->end = at;
}

bool sk_tail_read(const struct sk_tail *tail, loch_lsn from, loch_lsn end, size_t max,
                  struct loch_slice *out)
{
    if (from < tail->start || from >= tail->end || from >= end)
        return false;
    size_t at = (size_t)(from % tail->capacity);
    size_t len = (size_t)loch_min_u64(loch_min_u64(tail->end, end) - from, max);
    len = (size_t)loch_min_u64(len, tail->capacity - at);
    *out = loch_slice_of(tail->bytes + at, len);
    return true;
}
