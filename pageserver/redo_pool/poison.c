/* The memory of poison records: a ring of fixed size. */
#include "redo_pool/poison.h"

#include <stdio.h>

#define RECORD_CRC 20u /* offset in a record's header */

struct poison_key poison_key(const struct loch_id *tenant, const struct loch_rel *rel,
                             uint32_t fork, uint32_t block, loch_lsn start_lsn,
                             struct loch_slice record)
{
    return (struct poison_key){
        .tenant = *tenant,
        .rel = *rel,
        .fork = fork,
        .block = block,
        .start_lsn = start_lsn,
        .crc = record.len >= RECORD_CRC + 4 ? loch_get_u32(record.data + RECORD_CRC) : 0};
}

static bool same(const struct poison_key *a, const struct poison_key *b)
{
    return a->start_lsn == b->start_lsn && a->crc == b->crc && a->block == b->block &&
           a->fork == b->fork && a->rel.rel == b->rel.rel && a->rel.db == b->rel.db &&
           a->rel.spc == b->rel.spc && loch_id_equal(&a->tenant, &b->tenant);
}

void poison_remember(struct poison_memory *memory, const struct poison_key *key, uint64_t until_ms,
                     const char *why)
{
    struct poison *p = &memory->entries[memory->next];

    for (uint32_t i = 0; i < LOCH_POISON_MAX; i++)
        if (memory->entries[i].until_ms != 0 && same(&memory->entries[i].key, key))
            p = &memory->entries[i];
    if (p == &memory->entries[memory->next])
        memory->next = (memory->next + 1) % LOCH_POISON_MAX;
    p->key = *key;
    p->until_ms = until_ms;
    (void)snprintf(p->why, sizeof p->why, "%s", why);
}

const struct poison *poison_find(const struct poison_memory *memory, const struct poison_key *key,
                                 uint64_t now_ms)
{
    for (uint32_t i = 0; i < LOCH_POISON_MAX; i++)
        if (memory->entries[i].until_ms > now_ms && same(&memory->entries[i].key, key))
            return &memory->entries[i];
    return NULL;
}

bool poison_any(const struct poison_memory *memory, uint64_t now_ms)
{
    for (uint32_t i = 0; i < LOCH_POISON_MAX; i++)
        if (memory->entries[i].until_ms > now_ms)
            return true;
    return false;
}
