/* What PostgreSQL 15's own consistency check masks (access/common/bufmask.c and each access
 * method's mask function), told by the shape of the page. */
#include "page_mask.h"

#include "loch/base/buf.h"
#include "loch/pg/key.h"
#include "loch/pg/page.h"

#include <string.h>

#define HEADER   24u
#define PD_HINTS 0x0007u /* has free lines, full, all visible */

enum kind {
    KIND_HEAP,
    KIND_BTREE,
    KIND_HASH,
    KIND_GIST,
    KIND_SPGIST,
    KIND_GIN,
    KIND_BRIN,
    KIND_SEQUENCE
};

static enum kind kind_of(const uint8_t *page)
{
    uint16_t special = loch_get_u16(page + 16);
    uint16_t id = loch_get_u16(page + LOCH_PAGE_BYTES - 2);
    if (special == LOCH_PAGE_BYTES)
        return KIND_HEAP;
    if (special == LOCH_PAGE_BYTES - 8) {
        if (loch_get_u32(page + special) == 0x1717)
            return KIND_SEQUENCE;
        if (id == 0xFF82)
            return KIND_SPGIST;
        return id >= 0xF091 && id <= 0xF093 ? KIND_BRIN : KIND_GIN;
    }
    if (id == 0xFF80)
        return KIND_HASH;
    return id == 0xFF81 ? KIND_GIST : KIND_BTREE;
}

static void mask_header(uint8_t *page)
{
    loch_put_u16(page + 8, 0);
    loch_put_u16(page + 10, (uint16_t)(loch_get_u16(page + 10) & ~PD_HINTS));
    loch_put_u32(page + 20, 0);
}

static void mask_hole(uint8_t *page)
{
    uint16_t lower = loch_get_u16(page + 12), upper = loch_get_u16(page + 14);
    if (lower >= HEADER && lower <= upper && upper <= LOCH_PAGE_BYTES)
        memset(page + lower, 0, (size_t)(upper - lower));
}

static unsigned line_count(const uint8_t *page)
{
    uint16_t lower = loch_get_u16(page + 12);
    return lower < HEADER || lower > LOCH_PAGE_BYTES ? 0 : (unsigned)(lower - HEADER) / 4;
}

/* LP_DEAD is a hint on index pages. */
static void mask_line_flags(uint8_t *page)
{
    for (unsigned i = 0; i < line_count(page); i++) {
        uint8_t *at = page + HEADER + 4 * i;
        uint32_t lp = loch_get_u32(at);
        if ((lp >> 15 & 3) != 0)
            loch_put_u32(at, lp & ~(UINT32_C(3) << 15));
    }
}

static void mask_tuple(uint8_t *page, unsigned number, uint16_t off, uint16_t len)
{
    if (len < 23 || (size_t)off + len > LOCH_PAGE_BYTES)
        return;
    uint8_t *t = page + off;
    uint16_t mask = loch_get_u16(t + 20);
    bool frozen = (mask & 0x0300) == 0x0300;
    mask = frozen ? (uint16_t)(mask & ~(0x0800 | 0x0400)) : (uint16_t)(mask & 0x000F);
    loch_put_u16(t + 20, mask);
    loch_put_u32(t + 8, 0);               /* command id */
    if (loch_get_u16(t + 16) == 0xFFFE) { /* a speculative token */
        loch_put_u32(t + 12, 0);
        loch_put_u16(t + 16, (uint16_t)number);
    }
    size_t end = (size_t)off + len, aligned = (end + 7) & ~(size_t)7;
    if (aligned <= LOCH_PAGE_BYTES)
        memset(page + end, 0, aligned - end);
}

static void mask_heap(uint8_t *page)
{
    for (unsigned i = 0; i < line_count(page); i++) {
        uint32_t lp = loch_get_u32(page + HEADER + 4 * i);
        if ((lp >> 15 & 3) == 1)
            mask_tuple(page, i + 1, (uint16_t)(lp & 0x7FFF), (uint16_t)(lp >> 17));
    }
}

static void mask_btree(uint8_t *page)
{
    uint8_t *opaque = page + loch_get_u16(page + 16);
    uint16_t flags = loch_get_u16(opaque + 12);
    if ((flags & 4) != 0) { /* deleted: contents mean nothing */
        memset(page + HEADER, 0, (size_t)(loch_get_u16(page + 16) - HEADER));
        loch_put_u16(page + 12, 0);
        loch_put_u16(page + 14, 0);
    }
    if ((flags & 1) != 0)
        mask_line_flags(page);
    loch_put_u16(opaque + 12, (uint16_t)(flags & ~0x40)); /* has garbage */
    loch_put_u16(opaque + 14, 0);                         /* cycle id */
}

static void mask_hash(uint8_t *page)
{
    uint8_t *opaque = page + loch_get_u16(page + 16);
    uint16_t flags = loch_get_u16(opaque + 12);
    if ((flags & 0x000F) == 0) { /* unused: contents mean nothing */
        memset(page + HEADER, 0, LOCH_PAGE_BYTES - HEADER);
        loch_put_u16(page + 12, 0);
        loch_put_u16(page + 14, 0);
        return;
    }
    if ((flags & 3) != 0)
        mask_line_flags(page);
    loch_put_u16(opaque + 12, (uint16_t)(flags & ~0x80)); /* has dead tuples */
}

static void mask_gist(uint8_t *page)
{
    uint8_t *opaque = page + loch_get_u16(page + 16);
    uint16_t flags = loch_get_u16(opaque + 12);
    memset(opaque, 0, 8); /* NSN */
    if ((flags & 1) != 0)
        mask_line_flags(page);
    loch_put_u16(opaque + 12, (uint16_t)(flags & ~(0x10 | 0x08))); /* has garbage, follow right */
}

/* A deleted page's contents mean nothing. */
static void mask_gin(uint8_t *page)
{
    uint8_t *opaque = page + loch_get_u16(page + 16);
    if ((loch_get_u16(opaque + 6) & 4) == 0)
        return;
    memset(page + HEADER, 0, LOCH_PAGE_BYTES - HEADER);
    loch_put_u16(page + 12, 0);
    loch_put_u16(page + 14, 0);
}

/* The metapage caches where there was room last, unlogged. */
static void mask_spgist(uint8_t *page)
{
    if ((loch_get_u16(page + loch_get_u16(page + 16)) & 1) != 0)
        memset(page + HEADER + 4, 0, (size_t)(loch_get_u16(page + 16) - HEADER - 4));
}

static void mask(uint8_t *page)
{
    enum kind kind = kind_of(page);
    uint8_t *end = page + LOCH_PAGE_BYTES;
    mask_header(page);
    if (kind != KIND_GIN || loch_get_u16(page + 12) > HEADER)
        mask_hole(page);
    switch (kind) {
    case KIND_HEAP:
        mask_heap(page);
        break;
    case KIND_BTREE:
        mask_btree(page);
        break;
    case KIND_HASH:
        mask_hash(page);
        break;
    case KIND_GIST:
        mask_gist(page);
        break;
    case KIND_BRIN:
        if (loch_get_u16(end - 2) == 0xF093) /* regular: the evacuation flag */
            loch_put_u16(end - 4, (uint16_t)(loch_get_u16(end - 4) & ~1));
        break;
    case KIND_SPGIST:
        mask_spgist(page);
        break;
    case KIND_GIN:
        mask_gin(page);
        break;
    case KIND_SEQUENCE:
        break;
    }
}

static enum page_verdict compare_vm(const uint8_t *ours, const uint8_t *theirs)
{
    if (memcmp(ours + HEADER, theirs + HEADER, LOCH_PAGE_BYTES - HEADER) == 0)
        return PAGE_EQUAL;
    for (size_t i = HEADER; i < LOCH_PAGE_BYTES; i++) {
        if ((ours[i] & ~theirs[i]) != 0)
            return PAGE_DIFFERENT;
    }
    return PAGE_VM_LESS;
}

enum page_verdict page_compare(uint8_t fork, uint8_t ours[LOCH_PAGE_BYTES],
                               uint8_t theirs[LOCH_PAGE_BYTES])
{
    if (memcmp(ours, theirs, LOCH_PAGE_BYTES) == 0)
        return PAGE_EQUAL;
    if (fork == LOCH_FORK_VM)
        return compare_vm(ours, theirs);
    if (loch_page_is_new(ours) || loch_page_is_new(theirs))
        return loch_page_is_new(ours) && loch_page_is_new(theirs) ? PAGE_EQUAL : PAGE_DIFFERENT;
    /* Init forks and sorted GiST builds are written before they are logged: without the record's
     * LSN. */
    if (fork == LOCH_FORK_INIT || (loch_page_lsn(theirs) == 1 && kind_of(theirs) == KIND_GIST))
        loch_page_set_lsn(theirs, loch_page_lsn(ours));
    if (loch_page_lsn(ours) != loch_page_lsn(theirs))
        return kind_of(theirs) == KIND_SEQUENCE ? PAGE_SKIPPED : PAGE_DIFFERENT;
    if (kind_of(theirs) == KIND_SEQUENCE)
        return PAGE_SKIPPED;
    mask(ours);
    mask(theirs);
    return memcmp(ours, theirs, LOCH_PAGE_BYTES) == 0 ? PAGE_EQUAL : PAGE_DIFFERENT;
}
