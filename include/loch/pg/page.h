/* A heap or index page's header: the few fields storage reads and writes.
 *
 * Offset table (storage/bufpage.h): 0 pd_lsn high u32, 4 pd_lsn low u32, 8 pd_checksum u16,
 * 10 pd_flags u16, 12 pd_lower u16, 14 pd_upper u16, 16 pd_special u16, 18 pd_pagesize_version u16,
 * 20 pd_prune_xid u32, 24 contents.
 */
#ifndef LOCH_PG_PAGE_H
#define LOCH_PG_PAGE_H

#include "loch/base/types.h"

#include <stdbool.h>
#include <stdint.h>

#define LOCH_PG_PAGE_HEADER_BYTES 24u
#define LOCH_PG_PAGE_LAYOUT       0x2004u /* page size 8192 and layout version 4 */

loch_lsn loch_page_lsn(const uint8_t page[static LOCH_PAGE_BYTES]);
void loch_page_set_lsn(uint8_t page[static LOCH_PAGE_BYTES], loch_lsn lsn);
/* pd_upper is 0: a page that was never initialised (PostgreSQL's PageIsNew). */
bool loch_page_is_new(const uint8_t page[static LOCH_PAGE_BYTES]);
bool loch_page_is_zero(const uint8_t page[static LOCH_PAGE_BYTES]);
/* The header is one PostgreSQL accepts (PageIsVerified's sanity checks), or the page is all zeros.
 */
bool loch_page_is_plausible(const uint8_t page[static LOCH_PAGE_BYTES]);
uint16_t loch_page_checksum(const uint8_t page[static LOCH_PAGE_BYTES]);
void loch_page_set_checksum(uint8_t page[static LOCH_PAGE_BYTES], uint16_t checksum);
/* What PostgreSQL with data checksums would store in it (never 0), were the page that block of its
 * fork; what is stored does not matter. Blocks are counted over all segments. */
uint16_t loch_page_checksum_for(const uint8_t page[static LOCH_PAGE_BYTES], uint32_t block);
/* An empty page of PostgreSQL's PageInit(page, BLCKSZ, special_bytes). */
void loch_page_init(uint8_t page[static LOCH_PAGE_BYTES], uint16_t special_bytes);

#endif
