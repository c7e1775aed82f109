/* What belongs to an id: a daemon has thousands of tenants and timelines, and is asked for one of
 * them with each message. One thread, or under its owner's lock. */
#ifndef LOCH_BASE_ID_MAP_H
#define LOCH_BASE_ID_MAP_H

#include "loch/base/status.h"
#include "loch/base/types.h"

#include <stddef.h>

struct loch_id_map_slot {
    struct loch_id id;
    void *value; /* NULL: free */
};

/* Zero-initialised is empty and valid; its insides are private. Values are borrowed. */
struct loch_id_map {
    struct loch_id_map_slot *slots;
    size_t size, count; /* size: a power of two, or 0 */
};

/* The id of `inner` within `outer`, for a map of both: two tenants may have timelines of the same
 * id. That of none is `outer` itself. Not for adversaries: whoever chose both could make two pairs
 * alike: a map refuses the second, and an owner compares what it finds. */
struct loch_id loch_id_within(const struct loch_id *outer, const struct loch_id *inner);

/* NULL: nothing belongs to it. */
void *loch_id_map_get(const struct loch_id_map *map, const struct loch_id *id);
/* `value` is not NULL. LOCH_E_EXISTS: another value belongs to the id; LOCH_E_NO_MEMORY: then
 * nothing has changed. */
LOCH_STATUS loch_id_map_put(struct loch_id_map *map, const struct loch_id *id, void *value);
/* `value` takes the place of what belongs to the id, which must be there. */
void loch_id_map_replace(struct loch_id_map *map, const struct loch_id *id, void *value);
/* What belonged to it until now, or NULL. With the last one its memory goes. */
void *loch_id_map_remove(struct loch_id_map *map, const struct loch_id *id);
/* Forgets all and gives up its memory; leaves it empty. */
void loch_id_map_fini(struct loch_id_map *map);

#endif
