/* Holds: the codecs of what a stopped compute leaves.
 *
 * Head: 0 u32 "LST1", 4 tenant, 20 timeline, 36 u64 id, 44 u64 unlogged LSN, 52 u32 count of parts.
 * Part: 0 u32 "LSP1", 4 u64 id, 12 u32 number, 16 u32 kind, then of statistics: 20 u64 offset,
 * 28 bytes; of pages: 20 u32 spc, u32 db, u32 rel, 32 u32 first block, 36 the pages.
 */
#include "loch/wire/stop_state.h"

#include "loch/base/check.h"

#define HEAD_MAGIC UINT32_C(0x3154534c)
#define PART_MAGIC UINT32_C(0x3150534c)

void loch_stop_head_encode(struct loch_writer *w, const struct loch_stop_head *head)
{
    LOCH_ASSERT(head->part_count <= LOCH_STOP_PARTS_MAX);
    loch_write_u32(w, HEAD_MAGIC);
    loch_write_id(w, &head->tenant);
    loch_write_id(w, &head->timeline);
    loch_write_u64(w, head->id);
    loch_write_u64(w, head->unlogged_lsn);
    loch_write_u32(w, head->part_count);
}

loch_status loch_stop_head_decode(struct loch_slice bytes, struct loch_stop_head *out)
{
    struct loch_stop_head head;
    struct loch_reader r;

    loch_reader_init(&r, bytes);
    if (loch_read_u32(&r) != HEAD_MAGIC)
        return LOCH_FAIL(LOCH_E_CORRUPT, "not what a stopped compute leaves");
    head.tenant = loch_read_id(&r);
    head.timeline = loch_read_id(&r);
    head.id = loch_read_u64(&r);
    head.unlogged_lsn = loch_read_u64(&r);
    head.part_count = loch_read_u32(&r);
    LOCH_TRY(loch_reader_finish(&r, "head of a stopped compute's state"));
    if (head.part_count > LOCH_STOP_PARTS_MAX)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a stopped compute's state has %u parts", head.part_count);
    *out = head;
    return LOCH_OK;
}

/* Both sides of the wire demand the same. */
static bool makes_sense(const struct loch_stop_part *p)
{
    if (p->number >= LOCH_STOP_PARTS_MAX)
        return false;
    switch (p->kind) {
    case LOCH_STOP_STATISTICS:
        return p->bytes.len >= 1 && p->bytes.len <= LOCH_STOP_BYTES_MAX &&
               p->offset <= LOCH_STOP_STATS_MAX - p->bytes.len;
    case LOCH_STOP_PAGES:
        return p->rel.rel != 0 && p->bytes.len % LOCH_PAGE_BYTES == 0 &&
               p->bytes.len <= (size_t)LOCH_STOP_PAGES_MAX * LOCH_PAGE_BYTES &&
               p->block <= UINT32_MAX - LOCH_STOP_PAGES_MAX;
    }
    return false;
}

void loch_stop_part_encode(struct loch_writer *w, const struct loch_stop_part *part)
{
    LOCH_ASSERT(makes_sense(part));
    loch_write_u32(w, PART_MAGIC);
    loch_write_u64(w, part->id);
    loch_write_u32(w, part->number);
    loch_write_u32(w, (uint32_t)part->kind);
    if (part->kind == LOCH_STOP_STATISTICS) {
        loch_write_u64(w, part->offset);
    } else {
        loch_write_u32(w, part->rel.spc);
        loch_write_u32(w, part->rel.db);
        loch_write_u32(w, part->rel.rel);
        loch_write_u32(w, part->block);
    }
    loch_write_bytes(w, part->bytes.data, part->bytes.len);
}

loch_status loch_stop_part_decode(struct loch_slice bytes, struct loch_stop_part *out)
{
    struct loch_stop_part part = {0};
    struct loch_reader r;
    uint32_t kind;

    loch_reader_init(&r, bytes);
    if (loch_read_u32(&r) != PART_MAGIC)
        return LOCH_FAIL(LOCH_E_CORRUPT, "not a part of what a stopped compute leaves");
    part.id = loch_read_u64(&r);
    part.number = loch_read_u32(&r);
    kind = loch_read_u32(&r);
    if (kind != LOCH_STOP_STATISTICS && kind != LOCH_STOP_PAGES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a stopped compute's part of kind %u", kind);
    part.kind = (enum loch_stop_kind)kind;
    if (part.kind == LOCH_STOP_STATISTICS) {
        part.offset = loch_read_u64(&r);
    } else {
        part.rel.spc = loch_read_u32(&r);
        part.rel.db = loch_read_u32(&r);
        part.rel.rel = loch_read_u32(&r);
        part.block = loch_read_u32(&r);
    }
    part.bytes = loch_read_bytes(&r, loch_reader_left(&r));
    if (r.bad || !makes_sense(&part))
        return LOCH_FAIL(LOCH_E_CORRUPT, "a stopped compute's part makes no sense");
    *out = part;
    return LOCH_OK;
}
