/* Holds: the memory that WAL takes, counted. Invariant: what is counted is given back once. */
#include "wal_memory.h"

#include "loch/base/check.h"
#include "loch/base/types.h"

void sk_memory_count(struct sk_memory *m, size_t *counted, size_t bytes)
{
    if (m == NULL || *counted == bytes)
        return;
    LOCH_ASSERT(*counted <= m->used_bytes);
    m->used_bytes += bytes;
    m->used_bytes -= *counted;
    *counted = bytes;
    if (m->gauge != NULL)
        loch_metric_set(m->gauge, (int64_t)m->used_bytes);
}

static uint64_t left(const struct sk_memory *m)
{
    if (m == NULL || m->limit_bytes == 0)
        return UINT64_MAX;
    return m->used_bytes < m->limit_bytes ? m->limit_bytes - m->used_bytes : 0;
}

bool sk_memory_has(const struct sk_memory *m, size_t bytes)
{
    return bytes <= left(m);
}

size_t sk_memory_share(const struct sk_memory *m, size_t least, size_t most)
{
    return (size_t)loch_max_u64(least, loch_min_u64(most, left(m) / 4));
}
