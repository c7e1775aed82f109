/* Holds: SLRU ops applied to pages, and the circular order of SLRU pages.
 * Source: access/transam/{clog,multixact,commit_ts}.c (PostgreSQL 15). */
#include "loch/pg/slru.h"

#include "loch/base/check.h"
#include "loch/pg/key.h"

#include "v15.h"

#define OFFSET_ENTRY_BYTES 6u
#define MEMBER_ENTRY_BYTES 7u
#define COMMIT_TS_BYTES    10u
#define MEMBER_GROUP_BYTES 20u
#define MEMBERS_PER_GROUP  4u

static LOCH_STATUS bad_op(const char *what)
{
    return LOCH_FAIL(LOCH_E_CORRUPT, "an SLRU operation with %s", what);
}

static bool entries_fit(struct loch_slice s, size_t entry_bytes, uint32_t limit)
{
    if (s.len % entry_bytes != 0)
        return false;
    for (size_t i = 0; i < s.len; i += entry_bytes)
        if (loch_get_u16(s.data + i) >= limit)
            return false;
    return true;
}

static LOCH_STATUS apply_xact_status(struct loch_slice s, uint8_t *page)
{
    uint32_t status;

    if (s.len < 1 || s.data[0] > LOCH_XACT_SUB_COMMITTED)
        return bad_op("a wrong transaction status");
    status = s.data[0];
    s = loch_slice_of(s.data + 1, s.len - 1);
    if (!entries_fit(s, 2, LOCH_XIDS_PER_XACT_PAGE))
        return bad_op("a wrong transaction index");
    for (size_t i = 0; i < s.len; i += 2) {
        uint32_t index = loch_get_u16(s.data + i);
        uint32_t shift = index % 4 * 2;
        page[index / 4] = (uint8_t)((page[index / 4] & ~(3u << shift)) | status << shift);
    }
    return LOCH_OK;
}

static LOCH_STATUS apply_offset_set(struct loch_slice s, uint8_t *page)
{
    if (!entries_fit(s, OFFSET_ENTRY_BYTES, LOCH_OFFSETS_PER_PAGE))
        return bad_op("a wrong multixact index");
    for (size_t i = 0; i < s.len; i += OFFSET_ENTRY_BYTES)
        memcpy(page + (size_t)4 * loch_get_u16(s.data + i), s.data + i + 2, 4);
    return LOCH_OK;
}

static LOCH_STATUS apply_member_set(struct loch_slice s, uint8_t *page)
{
    if (!entries_fit(s, MEMBER_ENTRY_BYTES, LOCH_MEMBERS_PER_PAGE))
        return bad_op("a wrong member index");
    for (size_t i = 0; i < s.len; i += MEMBER_ENTRY_BYTES) {
        size_t index = loch_get_u16(s.data + i);
        uint8_t *group = page + index / MEMBERS_PER_GROUP * MEMBER_GROUP_BYTES;
        group[index % MEMBERS_PER_GROUP] = s.data[i + 2];
        memcpy(group + 4 + 4 * (index % MEMBERS_PER_GROUP), s.data + i + 3, 4);
    }
    return LOCH_OK;
}

static LOCH_STATUS apply_commit_ts_set(struct loch_slice s, uint8_t *page)
{
    struct loch_slice entries;

    if (s.len < COMMIT_TS_BYTES)
        return bad_op("no commit timestamp");
    entries = loch_slice_of(s.data + COMMIT_TS_BYTES, s.len - COMMIT_TS_BYTES);
    if (!entries_fit(entries, 2, LOCH_XIDS_PER_COMMIT_TS_PAGE))
        return bad_op("a wrong commit timestamp index");
    for (size_t i = 0; i < entries.len; i += 2)
        memcpy(page + (size_t)COMMIT_TS_BYTES * loch_get_u16(entries.data + i), s.data,
               COMMIT_TS_BYTES);
    return LOCH_OK;
}

LOCH_STATUS loch_slru_apply(struct loch_slice op, uint8_t page[static LOCH_PAGE_BYTES])
{
    struct loch_slice rest;

    if (op.len == 0)
        return bad_op("no bytes");
    rest = loch_slice_of(op.data + 1, op.len - 1);
    switch (op.data[0]) {
    case LOCH_SLRU_ZERO:
        if (rest.len != 0)
            return bad_op("bytes too many");
        memset(page, 0, LOCH_PAGE_BYTES);
        return LOCH_OK;
    case LOCH_SLRU_XACT_STATUS:
        return apply_xact_status(rest, page);
    case LOCH_SLRU_OFFSET_SET:
        return apply_offset_set(rest, page);
    case LOCH_SLRU_MEMBER_SET:
        return apply_member_set(rest, page);
    case LOCH_SLRU_COMMIT_TS_SET:
        return apply_commit_ts_set(rest, page);
    default:
        return bad_op("an unknown kind");
    }
}

bool loch_slru_op_is_base(struct loch_slice op)
{
    return op.len == 1 && op.data[0] == LOCH_SLRU_ZERO;
}

enum loch_xact_status loch_xact_page_status(const uint8_t page[static LOCH_PAGE_BYTES],
                                            uint32_t xid)
{
    uint32_t index = xid % LOCH_XIDS_PER_XACT_PAGE;

    return (enum loch_xact_status)(page[index / 4] >> (index % 4 * 2) & 3u);
}

/* PostgreSQL's signed circular comparison of 32-bit counters. */
static bool counter_precedes(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}

/* TransactionIdPrecedes: the special ids below 3 are not circular. */
static bool xid_precedes(uint32_t a, uint32_t b)
{
    if (a < V15_FIRST_NORMAL_XID || b < V15_FIRST_NORMAL_XID)
        return a < b;
    return counter_precedes(a, b);
}

static bool page_precedes(uint8_t slru, uint32_t page, uint32_t cut_page)
{
    uint32_t a, b, per_page;

    switch ((enum loch_slru)slru) {
    case LOCH_SLRU_XACT:
    case LOCH_SLRU_COMMIT_TS:
        per_page = slru == LOCH_SLRU_XACT ? LOCH_XIDS_PER_XACT_PAGE : LOCH_XIDS_PER_COMMIT_TS_PAGE;
        a = page * per_page + V15_FIRST_NORMAL_XID + 1;
        b = cut_page * per_page + V15_FIRST_NORMAL_XID + 1;
        return xid_precedes(a, b) && xid_precedes(a, b + per_page - 1);
    case LOCH_SLRU_MULTI_OFFSETS:
        a = page * LOCH_OFFSETS_PER_PAGE + 2;
        b = cut_page * LOCH_OFFSETS_PER_PAGE + 2;
        return counter_precedes(a, b) && counter_precedes(a, b + LOCH_OFFSETS_PER_PAGE - 1);
    case LOCH_SLRU_MULTI_MEMBERS:
        a = page * LOCH_MEMBERS_PER_PAGE;
        b = cut_page * LOCH_MEMBERS_PER_PAGE;
        return counter_precedes(a, b);
    }
    return false;
}

bool loch_slru_page_is_cut(uint8_t slru, uint32_t page, uint32_t cut_page)
{
    uint32_t first = page - page % LOCH_SLRU_PAGES_PER_SEGMENT;
    uint32_t last = first + LOCH_SLRU_PAGES_PER_SEGMENT - 1;

    /* Members go file by file from the old oldest to the new one, which may pass the end of the
     * circle inside a file; the others go only where the file's last page lies before the cut as
     * well. */
    if (slru == LOCH_SLRU_MULTI_MEMBERS)
        return first != cut_page - cut_page % LOCH_SLRU_PAGES_PER_SEGMENT &&
               page_precedes(slru, first, cut_page);
    return page_precedes(slru, first, cut_page) && page_precedes(slru, last, cut_page);
}

size_t loch_slru_cut_encode(const struct loch_slru_cut *cut,
                            uint8_t out[static LOCH_SLRU_CUT_BYTES])
{
    loch_put_u32(out, cut->page);
    out[4] = cut->all ? 1 : 0;
    loch_put_u32(out + 5, cut->start);
    return cut->ranged ? LOCH_SLRU_CUT_BYTES : 5;
}

LOCH_STATUS loch_slru_cut_decode(struct loch_slice value, struct loch_slru_cut *out)
{
    if (value.len != 5 && value.len != LOCH_SLRU_CUT_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a cut of an SLRU of %zu bytes", value.len);
    *out = (struct loch_slru_cut){.page = loch_get_u32(value.data),
                                  .all = value.data[4] != 0,
                                  .ranged = value.len == LOCH_SLRU_CUT_BYTES};
    if (out->ranged)
        out->start = loch_get_u32(value.data + 5);
    return LOCH_OK;
}

bool loch_slru_range_is_empty(uint32_t start, uint32_t page)
{
    return start / LOCH_SLRU_PAGES_PER_SEGMENT == page / LOCH_SLRU_PAGES_PER_SEGMENT;
}

bool loch_slru_cut_hides(uint8_t slru, const struct loch_slru_cut *cut, uint32_t page)
{
    const uint32_t file = page / LOCH_SLRU_PAGES_PER_SEGMENT;
    const uint32_t start = cut->start / LOCH_SLRU_PAGES_PER_SEGMENT;
    const uint32_t end = cut->page / LOCH_SLRU_PAGES_PER_SEGMENT;

    if (cut->all || !cut->ranged)
        return cut->all || loch_slru_page_is_cut(slru, page, cut->page);
    /* PerformMembersTruncation */
    return start <= end ? file >= start && file < end : file >= start || file < end;
}
