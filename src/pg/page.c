/* Holds: the page header's fields and the page's checksum. Source: storage/bufpage.h, bufpage.c,
 * storage/checksum_impl.h (PostgreSQL 15). */
#include "loch/pg/page.h"

#include "loch/base/buf.h"
#include "loch/base/check.h"

#include <assert.h>
#include <string.h>

#define PD_LSN_HIGH         0u
#define PD_LSN_LOW          4u
#define PD_CHECKSUM         8u
#define PD_FLAGS            10u
#define PD_LOWER            12u
#define PD_UPPER            14u
#define PD_SPECIAL          16u
#define PD_PAGESIZE_VERSION 18u
#define PD_VALID_FLAGS      0x0007u

loch_lsn loch_page_lsn(const uint8_t page[static LOCH_PAGE_BYTES])
{
    return (uint64_t)loch_get_u32(page + PD_LSN_HIGH) << 32 | loch_get_u32(page + PD_LSN_LOW);
}

void loch_page_set_lsn(uint8_t page[static LOCH_PAGE_BYTES], loch_lsn lsn)
{
    loch_put_u32(page + PD_LSN_HIGH, (uint32_t)(lsn >> 32));
    loch_put_u32(page + PD_LSN_LOW, (uint32_t)lsn);
}

bool loch_page_is_new(const uint8_t page[static LOCH_PAGE_BYTES])
{
    return loch_get_u16(page + PD_UPPER) == 0;
}

bool loch_page_is_zero(const uint8_t page[static LOCH_PAGE_BYTES])
{
    return page[0] == 0 && memcmp(page, page + 1, LOCH_PAGE_BYTES - 1) == 0;
}

bool loch_page_is_plausible(const uint8_t page[static LOCH_PAGE_BYTES])
{
    uint32_t lower = loch_get_u16(page + PD_LOWER);
    uint32_t upper = loch_get_u16(page + PD_UPPER);
    uint32_t special = loch_get_u16(page + PD_SPECIAL);

    if (loch_page_is_new(page))
        return loch_page_is_zero(page);
    return (loch_get_u16(page + PD_FLAGS) & ~PD_VALID_FLAGS) == 0 && lower <= upper &&
           upper <= special && special <= LOCH_PAGE_BYTES && special % 8 == 0;
}

uint16_t loch_page_checksum(const uint8_t page[static LOCH_PAGE_BYTES])
{
    return loch_get_u16(page + PD_CHECKSUM);
}

void loch_page_set_checksum(uint8_t page[static LOCH_PAGE_BYTES], uint16_t checksum)
{
    loch_put_u16(page + PD_CHECKSUM, checksum);
}

/* 32 sums of FNV-1a's kind, each over every 32nd word, so that a processor's lanes share them. */
#define SUM_COUNT      32u
#define SUM_FNV_PRIME  16777619u
#define SUM_EMPTY_ROWS 2u /* mixed in at the end */

static void sum_row(uint32_t sums[static SUM_COUNT], const uint32_t row[static SUM_COUNT])
{
    for (uint32_t i = 0; i < SUM_COUNT; i++) {
        const uint32_t mixed = sums[i] ^ row[i];
        sums[i] = mixed * SUM_FNV_PRIME ^ mixed >> 17;
    }
}

uint16_t loch_page_checksum_for(const uint8_t page[static LOCH_PAGE_BYTES], uint32_t block)
{
    uint32_t sums[SUM_COUNT] = {
        0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2,
        0x83E13D2C, 0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C,
        0xF718902A, 0x0B1C9CDB, 0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979,
        0xCCA6C0B2, 0x304A0979, 0x85AA43D4, 0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E,
        0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756};
    uint32_t row[SUM_COUNT], folded = block;

    static_assert(LOCH_PAGE_BYTES % sizeof row == 0, "whole rows");
    for (size_t at = 0; at < LOCH_PAGE_BYTES; at += sizeof row) {
        memcpy(row, page + at, sizeof row); /* words in the machine's own order, as the server's */
        if (at == 0)
            memset((uint8_t *)row + PD_CHECKSUM, 0, sizeof(uint16_t)); /* it does not sum itself */
        sum_row(sums, row);
    }
    memset(row, 0, sizeof row);
    for (uint32_t i = 0; i < SUM_EMPTY_ROWS; i++)
        sum_row(sums, row);
    for (uint32_t i = 0; i < SUM_COUNT; i++)
        folded ^= sums[i];
    return (uint16_t)(folded % 65535u + 1u);
}

void loch_page_init(uint8_t page[static LOCH_PAGE_BYTES], uint16_t special_bytes)
{
    uint32_t special = (special_bytes + 7u) & ~7u;

    LOCH_ASSERT(special + LOCH_PG_PAGE_HEADER_BYTES <= LOCH_PAGE_BYTES);
    memset(page, 0, LOCH_PAGE_BYTES);
    loch_put_u16(page + PD_LOWER, LOCH_PG_PAGE_HEADER_BYTES);
    loch_put_u16(page + PD_UPPER, (uint16_t)(LOCH_PAGE_BYTES - special));
    loch_put_u16(page + PD_SPECIAL, (uint16_t)(LOCH_PAGE_BYTES - special));
    loch_put_u16(page + PD_PAGESIZE_VERSION, LOCH_PG_PAGE_LAYOUT);
}
