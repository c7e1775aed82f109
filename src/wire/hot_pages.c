/* Holds: the codec of the list of hot pages.
 *
 *   0 u32 "LHP1", 4 u32 count of runs, then of each: u32 spc, u32 db, u32 rel, u32 block, u32 count
 */
#include "loch/wire/hot_pages.h"

#include "loch/base/check.h"

#define MAGIC     UINT32_C(0x3150484c)
#define RUN_BYTES 20u

void loch_hot_pages_encode(struct loch_writer *w, const struct loch_hot_run *runs, uint32_t count)
{
    LOCH_ASSERT(count <= LOCH_HOT_RUNS_MAX);
    loch_write_u32(w, MAGIC);
    loch_write_u32(w, count);
    for (uint32_t i = 0; i < count; i++) {
        loch_write_u32(w, runs[i].rel.spc);
        loch_write_u32(w, runs[i].rel.db);
        loch_write_u32(w, runs[i].rel.rel);
        loch_write_u32(w, runs[i].block);
        loch_write_u32(w, runs[i].count);
    }
}

struct loch_hot_run loch_hot_pages_at(const struct loch_hot_pages *list, uint32_t i)
{
    LOCH_ASSERT(i < list->count);
    const uint8_t *at = list->runs + (size_t)i * RUN_BYTES;

    return (struct loch_hot_run){{loch_get_u32(at), loch_get_u32(at + 4), loch_get_u32(at + 8)},
                                 loch_get_u32(at + 12),
                                 loch_get_u32(at + 16)};
}

loch_status loch_hot_pages_decode(struct loch_slice bytes, struct loch_hot_pages *out)
{
    struct loch_hot_pages list;
    struct loch_reader r;

    loch_reader_init(&r, bytes);
    uint32_t magic = loch_read_u32(&r);
    list.count = loch_read_u32(&r);
    if (r.bad || magic != MAGIC || list.count > LOCH_HOT_RUNS_MAX)
        return LOCH_FAIL(LOCH_E_CORRUPT, "not a list of hot pages");
    list.runs = loch_read_bytes(&r, (size_t)list.count * RUN_BYTES).data;
    LOCH_TRY(loch_reader_finish(&r, "list of hot pages"));
    for (uint32_t i = 0; i < list.count; i++) {
        struct loch_hot_run run = loch_hot_pages_at(&list, i);
        if (run.rel.rel == 0 || run.count == 0 || run.block > UINT32_MAX - run.count)
            return LOCH_FAIL(LOCH_E_CORRUPT, "run %u of the hot pages makes no sense", i);
    }
    *out = list;
    return LOCH_OK;
}
