/* Holds: an open-addressing table of ids. Invariants: at most half full; between an entry's home
 * and its place no slot is free, so that a search ends at the first free one. */
#include "loch/base/id_map.h"
#include "loch/base/check.h"

#include <stdlib.h>
#include <string.h>

#define SIZE_LEAST 16u

/* Ids are random, but tests count. */
static size_t home_of(const struct loch_id_map *map, const struct loch_id *id)
{
    uint64_t a, b;

    memcpy(&a, id->bytes, sizeof a);
    memcpy(&b, id->bytes + sizeof a, sizeof b);
    uint64_t h = (a ^ (b * UINT64_C(0x9E3779B97F4A7C15))) * UINT64_C(0xBF58476D1CE4E5B9);
    h ^= h >> 31;
    return (size_t)h & (map->size - 1);
}

/* Where it is or belongs; the table is not full. */
static struct loch_id_map_slot *place(const struct loch_id_map *map, const struct loch_id *id)
{
    size_t i = home_of(map, id);

    while (map->slots[i].value != NULL && !loch_id_equal(&map->slots[i].id, id))
        i = (i + 1) & (map->size - 1);
    return &map->slots[i];
}

struct loch_id loch_id_within(const struct loch_id *outer, const struct loch_id *inner)
{
    struct loch_id id = *outer;

    for (size_t i = 0; i < sizeof id.bytes; i++)
        id.bytes[i] ^= inner->bytes[(i + 1) % sizeof id.bytes];
    return id;
}

void *loch_id_map_get(const struct loch_id_map *map, const struct loch_id *id)
{
    return map->size == 0 ? NULL : place(map, id)->value;
}

static loch_status grow(struct loch_id_map *map)
{
    struct loch_id_map next = {.size = map->size == 0 ? SIZE_LEAST : map->size * 2,
                               .count = map->count};

    next.slots = calloc(next.size, sizeof *next.slots);
    if (next.slots == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a table of %zu ids", next.size);
    for (size_t i = 0; i < map->size; i++)
        if (map->slots[i].value != NULL)
            *place(&next, &map->slots[i].id) = map->slots[i];
    free(map->slots);
    *map = next;
    return LOCH_OK;
}

loch_status loch_id_map_put(struct loch_id_map *map, const struct loch_id *id, void *value)
{
    LOCH_ASSERT(value != NULL);
    const void *held = loch_id_map_get(map, id);
    if (held != NULL)
        return held == value ? LOCH_OK
                             : LOCH_FAIL(LOCH_E_EXISTS, "something else has the place of an id");
    if (map->count >= map->size / 2)
        LOCH_TRY(grow(map));
    *place(map, id) = (struct loch_id_map_slot){*id, value};
    map->count++;
    return LOCH_OK;
}

void loch_id_map_replace(struct loch_id_map *map, const struct loch_id *id, void *value)
{
    LOCH_ASSERT(value != NULL && loch_id_map_get(map, id) != NULL);
    place(map, id)->value = value;
}

void *loch_id_map_remove(struct loch_id_map *map, const struct loch_id *id)
{
    struct loch_id_map_slot *slot = map->size == 0 ? NULL : place(map, id);

    if (slot == NULL || slot->value == NULL)
        return NULL;
    void *value = slot->value;
    const size_t mask = map->size - 1;
    size_t hole = (size_t)(slot - map->slots);
    /* Whoever was pushed beyond the hole by it moves back into it. */
    for (size_t i = (hole + 1) & mask; map->slots[i].value != NULL; i = (i + 1) & mask) {
        const size_t from_home = (i - home_of(map, &map->slots[i].id)) & mask;
        if (from_home < ((i - hole) & mask))
            continue;
        map->slots[hole] = map->slots[i];
        hole = i;
    }
    map->slots[hole] = (struct loch_id_map_slot){0};
    if (--map->count == 0)
        loch_id_map_fini(map); /* what is empty holds nothing */
    return value;
}

void loch_id_map_fini(struct loch_id_map *map)
{
    free(map->slots);
    *map = (struct loch_id_map){0};
}
