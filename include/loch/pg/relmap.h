/* pg_filenode.map (512 bytes): which file nodes the mapped catalogs have.
 *
 * 0 magic u32 0x592717, 4 count u32 (<= 62), 8 (oid u32, filenode u32) * 62, 504 crc32c u32 of the
 * first 504 bytes, 508 padding. Source: utils/cache/relmapper.c.
 */
#ifndef LOCH_PG_RELMAP_H
#define LOCH_PG_RELMAP_H

#include "loch/base/buf.h"
#include "loch/base/types.h"

#include <stdbool.h>
#include <stdint.h>

#define LOCH_RELMAP_BYTES     512u
#define LOCH_RELMAP_MAX_COUNT 62u

struct loch_relmap {
    uint32_t count;
    struct {
        uint32_t oid, filenode;
    } maps[LOCH_RELMAP_MAX_COUNT];
};

/* LOCH_E_CORRUPT for a wrong size, magic, count or CRC. */
LOCH_STATUS loch_relmap_parse(struct loch_slice file, struct loch_relmap *out);
void loch_relmap_format(const struct loch_relmap *map, uint8_t out[static LOCH_RELMAP_BYTES]);
bool loch_relmap_find(const struct loch_relmap *map, uint32_t oid, uint32_t *filenode);

#endif
