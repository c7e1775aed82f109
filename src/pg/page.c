/* Holds: the page header's fields. Source: storage/bufpage.h, bufpage.c (PostgreSQL 15). */
#include "loch/pg/page.h"

#include "loch/base/buf.h"
#include "loch/base/check.h"

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
