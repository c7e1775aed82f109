/* Holds: the codec of pg_filenode.map. Source: utils/cache/relmapper.c (PostgreSQL 15). */
#include "loch/pg/relmap.h"

#include "loch/base/check.h"
#include "loch/base/crc32c.h"

#define MAGIC   0x592717u
#define MAPS_AT 8u
#define CRC_AT  504u

static uint32_t relmap_crc(const uint8_t *file)
{
    return loch_crc32c_finish(loch_crc32c_update(LOCH_CRC32C_INIT, file, CRC_AT));
}

LOCH_STATUS loch_relmap_parse(struct loch_slice file, struct loch_relmap *out)
{
    uint32_t count;

    if (file.len != LOCH_RELMAP_BYTES || loch_get_u32(file.data) != MAGIC)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a relation map of %zu bytes", file.len);
    count = loch_get_u32(file.data + 4);
    if (count > LOCH_RELMAP_MAX_COUNT || relmap_crc(file.data) != loch_get_u32(file.data + CRC_AT))
        return LOCH_FAIL(LOCH_E_CORRUPT, "a relation map with a wrong count or CRC");
    memset(out, 0, sizeof *out);
    out->count = count;
    for (uint32_t i = 0; i < count; i++) {
        out->maps[i].oid = loch_get_u32(file.data + MAPS_AT + (size_t)i * 8);
        out->maps[i].filenode = loch_get_u32(file.data + MAPS_AT + (size_t)i * 8 + 4);
    }
    return LOCH_OK;
}

void loch_relmap_format(const struct loch_relmap *map, uint8_t out[static LOCH_RELMAP_BYTES])
{
    LOCH_ASSERT(map->count <= LOCH_RELMAP_MAX_COUNT);
    memset(out, 0, LOCH_RELMAP_BYTES);
    loch_put_u32(out, MAGIC);
    loch_put_u32(out + 4, map->count);
    for (uint32_t i = 0; i < map->count; i++) {
        loch_put_u32(out + MAPS_AT + (size_t)i * 8, map->maps[i].oid);
        loch_put_u32(out + MAPS_AT + (size_t)i * 8 + 4, map->maps[i].filenode);
    }
    loch_put_u32(out + CRC_AT, relmap_crc(out));
}

bool loch_relmap_find(const struct loch_relmap *map, uint32_t oid, uint32_t *filenode)
{
    for (uint32_t i = 0; i < map->count; i++)
        if (map->maps[i].oid == oid) {
            *filenode = map->maps[i].filenode;
            return true;
        }
    return false;
}
