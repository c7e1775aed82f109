/* Holds: the in-memory tail of a timeline's WAL. Invariants: the byte of LSN x stands at
 * x % capacity; end - start <= capacity; what it takes is counted in `memory`. */
#include "wal_tail.h"

#include "loch/base/check.h"
#include "loch/base/secret.h"

#include <stdlib.h>

#define SECONDS    4u  /* as many seconds' worth of WAL it grows to hold */
#define CALM_TICKS 10u /* before it shrinks */

void sk_tail_init(struct sk_tail *tail, size_t most, struct sk_memory *memory, loch_lsn at)
{
    LOCH_ASSERT(most > 0);
    *tail = (struct sk_tail){.least = (size_t)loch_min_u64(most, SK_TAIL_LEAST_BYTES),
                             .most = most,
                             .memory = memory,
                             .start = at,
                             .end = at};
}

/* It holds users' rows. */
static void wipe_bytes(struct sk_tail *tail)
{
    if (tail->bytes != NULL)
        loch_wipe(tail->bytes, tail->capacity);
    free(tail->bytes);
    sk_memory_count(tail->memory, &tail->counted, 0);
    tail->bytes = NULL;
    tail->capacity = 0;
}

/* Copies what is there from `from` on. */
static void copy_to(const struct sk_tail *tail, loch_lsn from, uint8_t *bytes, size_t capacity)
{
    while (from < tail->end) {
        const size_t at = (size_t)(from % tail->capacity);
        const size_t to = (size_t)(from % capacity);
        size_t take = (size_t)loch_min_u64(tail->end - from, tail->capacity - at);
        take = (size_t)loch_min_u64(take, capacity - to);
        memcpy(bytes + to, tail->bytes + at, take);
        from += take;
    }
}

/* Keeps the newest of what it holds. False: there is no memory, nothing has changed. */
static bool resize(struct sk_tail *tail, size_t capacity)
{
    const size_t more = capacity - (size_t)loch_min_u64(capacity, tail->capacity);

    if (sk_memory_share(tail->memory, 0, more) < more)
        return false;
    uint8_t *bytes = malloc(capacity);
    if (bytes == NULL)
        return false;
    if (tail->end - tail->start > capacity)
        tail->start = tail->end - capacity;
    copy_to(tail, tail->start, bytes, capacity);
    wipe_bytes(tail);
    sk_memory_count(tail->memory, &tail->counted, capacity);
    tail->bytes = bytes;
    tail->capacity = capacity;
    return true;
}

/* For so many bytes more. */
static void grow(struct sk_tail *tail, size_t more)
{
    size_t wanted = tail->bytes == NULL ? tail->least : tail->capacity;

    tail->lately += more;
    while (wanted < tail->most && tail->lately > wanted / SECONDS)
        wanted = (size_t)loch_min_u64(2 * wanted, tail->most);
    while (wanted > tail->capacity && !resize(tail, wanted))
        wanted = wanted > tail->least ? wanted / 2 : 0;
}

void sk_tail_fini(struct sk_tail *tail)
{
    wipe_bytes(tail);
    *tail = (struct sk_tail){0};
}

void sk_tail_append(struct sk_tail *tail, struct loch_slice bytes)
{
    grow(tail, bytes.len);
    if (tail->bytes == NULL) {
        tail->end += bytes.len;
        tail->start = tail->end;
        return;
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
}

void sk_tail_tick(struct sk_tail *tail)
{
    const bool is_calm = tail->lately <= tail->capacity / SECONDS / 3;

    tail->calm = is_calm ? tail->calm + 1 : 0;
    tail->lately = 0;
    if (tail->calm < CALM_TICKS || tail->capacity < 2 * tail->least)
        return;
    tail->calm = 0;
    (void)resize(tail, tail->capacity / 2);
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
