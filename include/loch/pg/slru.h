/* SLRU pages (pg_xact, pg_multixact/offsets, pg_multixact/members, pg_commit_ts): small operations
 * on them as bytes to store, and their application.
 *
 * An op is self-contained and concerns one page. First byte: kind, never reused with another
 * meaning. Numbers are little-endian.
 *
 *   0x10 ZERO          the page becomes all zeros
 *   0x11 XACT_STATUS   u8 status, then u16 entries (xid index in the page, 0..32767): two bits each
 *   0x12 OFFSET_SET    (u16 entry 0..2047, u32 offset)*: multixact offsets
 *   0x13 MEMBER_SET    (u16 entry 0..1635, u8 status, u32 xid)*: multixact members
 *   0x14 COMMIT_TS_SET u64 time, u16 origin, then u16 entries 0..818
 *
 * SLRU pages carry no LSN; the store orders ops by the record's end.
 * Source: access/transam/{clog,multixact,commit_ts}.c.
 */
#ifndef LOCH_PG_SLRU_H
#define LOCH_PG_SLRU_H

#include "loch/base/buf.h"
#include "loch/base/types.h"

#include <stdint.h>

#define LOCH_SLRU_PAGES_PER_SEGMENT  32u /* a file of pg_xact and the like: 32 pages of 8 KiB */
#define LOCH_XIDS_PER_XACT_PAGE      32768u
#define LOCH_OFFSETS_PER_PAGE        2048u
#define LOCH_MEMBERS_PER_PAGE        1636u
#define LOCH_XIDS_PER_COMMIT_TS_PAGE 819u

enum loch_slru_op_kind {
    LOCH_SLRU_ZERO = 0x10,
    LOCH_SLRU_XACT_STATUS = 0x11,
    LOCH_SLRU_OFFSET_SET = 0x12,
    LOCH_SLRU_MEMBER_SET = 0x13,
    LOCH_SLRU_COMMIT_TS_SET = 0x14
};

enum loch_xact_status {
    LOCH_XACT_IN_PROGRESS = 0,
    LOCH_XACT_COMMITTED = 1,
    LOCH_XACT_ABORTED = 2,
    LOCH_XACT_SUB_COMMITTED = 3
};

/* Applies one op to the page. LOCH_E_CORRUPT for bytes that are no op; the page is then unchanged.
 */
LOCH_STATUS loch_slru_apply(struct loch_slice op, uint8_t page[static LOCH_PAGE_BYTES]);
/* Whether applying the op needs no earlier page (ZERO). */
bool loch_slru_op_is_base(struct loch_slice op);

/* Status of the xid whose page this is. */
enum loch_xact_status loch_xact_page_status(const uint8_t page[static LOCH_PAGE_BYTES],
                                            uint32_t xid);

/* Whether a page goes away when PostgreSQL cuts the SLRU (enum loch_slru) at cut_page: it removes
 * whole files, all of whose pages lie before the cut on the circle of page numbers. Members are cut
 * by a range, since more than half of their circle may be in use: struct loch_slru_cut. */
bool loch_slru_page_is_cut(uint8_t slru, uint32_t page, uint32_t cut_page);

/* What one cut of an SLRU takes away, and its value in the store. */
struct loch_slru_cut {
    uint32_t page;  /* the first that is kept */
    bool all;       /* every page */
    bool ranged;    /* members: the files from that of `start` on, round the circle, to that of
                       `page`, which stays; else what loch_slru_page_is_cut says of `page` */
    uint32_t start; /* ranged */
};

#define LOCH_SLRU_CUT_BYTES 9u

/* Returns how many bytes of `out` are the value. */
size_t loch_slru_cut_encode(const struct loch_slru_cut *cut,
                            uint8_t out[static LOCH_SLRU_CUT_BYTES]);
/* LOCH_E_CORRUPT for bytes that are none. */
LOCH_STATUS loch_slru_cut_decode(struct loch_slice value, struct loch_slru_cut *out);
bool loch_slru_cut_hides(uint8_t slru, const struct loch_slru_cut *cut, uint32_t page);
/* Whether a cut of members from `start` to `page` takes any file away. */
bool loch_slru_range_is_empty(uint32_t start, uint32_t page);

#endif
