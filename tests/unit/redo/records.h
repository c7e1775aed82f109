/* Records and pages made by hand: what the room's tests start from. */
#ifndef LOCH_TESTS_REDO_RECORDS_H
#define LOCH_TESTS_REDO_RECORDS_H

#include "../unit.h"

#include "loch/base/buf.h"
#include "loch/pg/page.h"
#include "loch/redo/redo.h"

#define BLOCK 7u
#define XID   777u

static const struct loch_rel rel = {1663, 5, 16384};
static struct loch_redo_target target = {
    .rel = {1663, 5, 16384}, .fork = LOCH_FORK_MAIN, .block = BLOCK};

static inline struct loch_wal_block reference(uint8_t id, const void *data, size_t len)
{
    return (struct loch_wal_block){.id = id,
                                   .fork = LOCH_FORK_MAIN,
                                   .rel = rel,
                                   .block = BLOCK,
                                   .has_data = len > 0,
                                   .data = loch_slice_of(data, len)};
}

/* A record with one reference, to the target. */
static inline struct loch_wal_record record_of(uint8_t rmid, uint8_t info, const void *main,
                                               size_t main_len, const void *data, size_t data_len)
{
    struct loch_wal_record r = {.rmid = rmid,
                                .info = info,
                                .xid = XID,
                                .main_data = loch_slice_of(main, main_len),
                                .block_count = 1};
    r.blocks[0] = reference(0, data, data_len);
    return r;
}

static inline void assert_applied(const struct loch_wal_record *record, loch_lsn end, uint8_t *page)
{
    enum loch_redo_outcome outcome = LOCH_REDO_NOT_HANDLED;

    assert_ok(loch_redo_apply(&target, record, end, page, &outcome));
    assert_int_equal(outcome, LOCH_REDO_APPLIED);
}

static inline void assert_not_handled(const struct loch_wal_record *record, loch_lsn end,
                                      uint8_t *page)
{
    enum loch_redo_outcome outcome = LOCH_REDO_APPLIED;
    uint8_t before[LOCH_PAGE_BYTES];

    memcpy(before, page, sizeof before);
    assert_ok(loch_redo_apply(&target, record, end, page, &outcome));
    assert_int_equal(outcome, LOCH_REDO_NOT_HANDLED);
    assert_memory_equal(before, page, sizeof before);
}

/* The page is a copy: it is undefined afterwards. */
static inline void assert_corrupt(const struct loch_wal_record *record, loch_lsn end,
                                  const uint8_t *page)
{
    enum loch_redo_outcome outcome = LOCH_REDO_NOT_HANDLED;
    uint8_t copy[LOCH_PAGE_BYTES];

    memcpy(copy, page, sizeof copy);
    assert_code(loch_redo_apply(&target, record, end, copy, &outcome), LOCH_E_CORRUPT);
}

static inline uint32_t lower_of(const uint8_t *page)
{
    return loch_get_u16(page + 12);
}

static inline uint32_t upper_of(const uint8_t *page)
{
    return loch_get_u16(page + 14);
}

static inline uint32_t flags_of(const uint8_t *page)
{
    return loch_get_u16(page + 10);
}

static inline uint32_t id_of(const uint8_t *page, uint32_t number)
{
    return loch_get_u32(page + 24 + 4 * (number - 1));
}

static inline const uint8_t *item_of(const uint8_t *page, uint32_t number)
{
    return page + (id_of(page, number) & 0x7FFF);
}

/* Adds an item below pd_upper with a line pointer at the end. */
static inline uint8_t *put_item(uint8_t *page, const void *bytes, uint32_t len)
{
    uint32_t lower = lower_of(page), upper = upper_of(page) - ((len + 7u) & ~7u);

    memcpy(page + upper, bytes, len);
    loch_put_u32(page + lower, upper | 1u << 15 | len << 17);
    loch_put_u16(page + 12, (uint16_t)(lower + 4));
    loch_put_u16(page + 14, (uint16_t)upper);
    return page + upper;
}

#define TUPLE_BYTES 32u /* 24 of header with padding, 8 of data */

/* A heap page with `count` tuples of 8 bytes of data: byte i + 1 eight times. */
static inline void heap_page(uint8_t *page, uint32_t count)
{
    loch_page_init(page, 0);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t tuple[TUPLE_BYTES] = {0};
        loch_put_u32(tuple, 600);        /* xmin */
        loch_put_u16(tuple + 14, BLOCK); /* ctid: block, low half */
        loch_put_u16(tuple + 16, (uint16_t)(i + 1));
        loch_put_u16(tuple + 18, 1);      /* infomask2: one column */
        loch_put_u16(tuple + 20, 0x0900); /* xmin committed, xmax invalid */
        tuple[22] = 24;
        memset(tuple + 24, (int)i + 1, 8);
        put_item(page, tuple, sizeof tuple);
    }
    loch_page_set_lsn(page, 100);
}

#endif
