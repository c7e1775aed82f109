/* Holds: page images out of records, compressed in any of PostgreSQL's ways. PGLZ's format:
 * common/pg_lzcompress.c: a control byte for 8 items, lowest bit first; 0: a literal byte; 1: two
 * bytes, 4 bits of offset and 4 of length, 8 of offset, and a third byte for lengths from 18. */
#include "loch/redo/redo.h"

#include <lz4.h>
#include <string.h>
#include <zstd.h>

#define PGLZ_MIN_MATCH  3u
#define PGLZ_LONG_MATCH 18u

/* True when `in` gives exactly `size` bytes and nothing is left of it. */
static bool pglz_open(struct loch_slice in, uint8_t *out, size_t size)
{
    const uint8_t *at = in.data, *end = in.data + in.len;
    size_t made = 0;

    while (at < end && made < size) {
        uint32_t control = *at++;

        for (int bit = 0; bit < 8 && at < end && made < size; bit++, control >>= 1) {
            if ((control & 1) == 0) {
                out[made++] = *at++;
                continue;
            }
            if (end - at < 2)
                return false;
            uint32_t len = (at[0] & 0x0Fu) + PGLZ_MIN_MATCH;
            uint32_t back = (at[0] & 0xF0u) << 4 | at[1];
            at += 2;
            if (len == PGLZ_LONG_MATCH) {
                if (at == end)
                    return false;
                len += *at++;
            }
            if (back == 0 || back > made || len > size - made)
                return false;
            for (; len > 0; len--, made++) /* source and copy may overlap */
                out[made] = out[made - back];
        }
    }
    return made == size && at == end;
}

/* Decompresses to exactly `size` bytes. */
static bool open_image(const struct loch_wal_block *block, uint8_t *out, size_t size)
{
    const struct loch_slice in = block->image;

    switch ((enum loch_wal_compression)block->compression) {
    case LOCH_WAL_PGLZ:
        return pglz_open(in, out, size);
    case LOCH_WAL_LZ4:
        return LZ4_decompress_safe((const char *)in.data, (char *)out, (int)in.len, (int)size) ==
               (int)size;
    case LOCH_WAL_ZSTD:
        return ZSTD_decompress(out, size, in.data, in.len) == size;
    case LOCH_WAL_PLAIN:
        break;
    }
    return false;
}

LOCH_STATUS loch_redo_image(const struct loch_wal_block *block,
                            uint8_t page[static LOCH_PAGE_BYTES])
{
    size_t hole = block->hole_length, head = block->hole_offset;
    size_t size = LOCH_PAGE_BYTES - hole;

    if (!block->has_image)
        return LOCH_FAIL(LOCH_E_INVALID, "block reference %u has no image", block->id);
    if (head + hole > LOCH_PAGE_BYTES ||
        (block->compression == LOCH_WAL_PLAIN && block->image.len != size))
        return LOCH_FAIL(LOCH_E_CORRUPT, "an image of %zu bytes with a hole of %zu at %zu",
                         block->image.len, hole, head);
    if (block->compression == LOCH_WAL_PLAIN)
        return loch_wal_block_plain_image(block, page);
    /* A compressed image is shorter than a page: lengths fit an int. */
    if (!open_image(block, page, size))
        return LOCH_FAIL(LOCH_E_CORRUPT, "the image of block reference %u does not decompress",
                         block->id);
    if (hole > 0) {
        memmove(page + head + hole, page + head, size - head);
        memset(page + head, 0, hole);
    }
    return LOCH_OK;
}
