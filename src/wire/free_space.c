/* Holds: the codec of what free space maps say.
 *
 *   0 u32 "LFS1", then of each leaf: u32 spc, u32 db, u32 rel, u32 leaf, u32 count of runs, and of
 *   each run: u8 category, u16 length
 */
#include "loch/wire/free_space.h"

#include "loch/base/check.h"

#include <string.h>

#define MAGIC     UINT32_C(0x3153464c)
#define RUN_BYTES 3u
#define LEAF_MOST (UINT32_MAX / LOCH_FREE_SPACE_SLOTS)

void loch_free_space_begin(struct loch_writer *w)
{
    loch_write_u32(w, MAGIC);
}

static void write_head(struct loch_writer *w, const struct loch_rel *rel, uint32_t leaf,
                       uint32_t run_count)
{
    loch_write_u32(w, rel->spc);
    loch_write_u32(w, rel->db);
    loch_write_u32(w, rel->rel);
    loch_write_u32(w, leaf);
    loch_write_u32(w, run_count);
}

/* The slot after the run that begins at `at`; what follows the last space there is, is no run. */
static uint32_t run_end(const uint8_t *categories, uint32_t at, uint32_t end)
{
    uint32_t next = at + 1;

    while (next < end && categories[next] == categories[at])
        next++;
    return next;
}

void loch_free_space_add(struct loch_writer *w, const struct loch_rel *rel, uint32_t leaf,
                         const uint8_t categories[static LOCH_FREE_SPACE_SLOTS])
{
    uint32_t end = LOCH_FREE_SPACE_SLOTS, count = 0;

    LOCH_ASSERT(leaf <= LEAF_MOST);
    while (end > 0 && categories[end - 1] == 0)
        end--;
    if (end == 0)
        return;
    for (uint32_t at = 0; at < end; at = run_end(categories, at, end))
        count++;
    write_head(w, rel, leaf, count);
    for (uint32_t at = 0; at < end;) {
        uint32_t next = run_end(categories, at, end);

        loch_write_u8(w, categories[at]);
        loch_write_u16(w, (uint16_t)(next - at));
        at = next;
    }
}

void loch_free_space_copy(struct loch_writer *w, const struct loch_free_space_leaf *leaf)
{
    write_head(w, &leaf->rel, leaf->leaf, leaf->run_count);
    loch_write_bytes(w, leaf->runs, (size_t)leaf->run_count * RUN_BYTES);
}

loch_status loch_free_space_open(struct loch_reader *r, struct loch_slice bytes)
{
    loch_reader_init(r, bytes);
    if (loch_read_u32(r) != MAGIC || r->bad)
        return LOCH_FAIL(LOCH_E_CORRUPT, "not a list of free space");
    return LOCH_OK;
}

loch_status loch_free_space_next(struct loch_reader *r, struct loch_free_space_leaf *out,
                                 bool *found)
{
    struct loch_free_space_leaf leaf;
    uint32_t slots = 0;

    if (loch_reader_left(r) == 0) {
        *found = false;
        return LOCH_OK;
    }
    leaf.rel.spc = loch_read_u32(r);
    leaf.rel.db = loch_read_u32(r);
    leaf.rel.rel = loch_read_u32(r);
    leaf.leaf = loch_read_u32(r);
    leaf.run_count = loch_read_u32(r);
    if (r->bad || leaf.rel.rel == 0 || leaf.leaf > LEAF_MOST || leaf.run_count == 0 ||
        leaf.run_count > LOCH_FREE_SPACE_SLOTS)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a leaf of the free space makes no sense");
    leaf.runs = loch_read_bytes(r, (size_t)leaf.run_count * RUN_BYTES).data;
    if (r->bad)
        return LOCH_FAIL(LOCH_E_CORRUPT, "the list of free space ends too soon");
    for (uint32_t i = 0; i < leaf.run_count; i++) {
        uint32_t length = loch_get_u16(leaf.runs + (size_t)i * RUN_BYTES + 1);

        slots += length;
        if (length == 0 || slots > LOCH_FREE_SPACE_SLOTS)
            return LOCH_FAIL(LOCH_E_CORRUPT, "a leaf of the free space makes no sense");
    }
    *out = leaf;
    *found = true;
    return LOCH_OK;
}

void loch_free_space_expand(const struct loch_free_space_leaf *leaf,
                            uint8_t categories[static LOCH_FREE_SPACE_SLOTS])
{
    uint32_t at = 0;

    memset(categories, 0, LOCH_FREE_SPACE_SLOTS);
    for (uint32_t i = 0; i < leaf->run_count; i++) {
        const uint8_t *run = leaf->runs + (size_t)i * RUN_BYTES;

        LOCH_ASSERT(at + loch_get_u16(run + 1) <= LOCH_FREE_SPACE_SLOTS);
        memset(categories + at, run[0], loch_get_u16(run + 1));
        at += loch_get_u16(run + 1);
    }
}
