/* Visibility-map pages: operations as bytes to store, and their application, wholly native.
 *
 * A heap record that clears a bit names no VM page, so stock redo cannot be asked for it by page;
 * and VM bits are not LSN-gated. First byte the kind, disjoint from slru.h's; little-endian:
 *
 *   0x01 SET       u32 heap block, u8 bits (1 all-visible, 2 all-frozen): sets bits and page LSN
 *   0x02 CLEAR     u32 heap block, u8 bits: clears bits, the page LSN stays
 *   0x04 CLEAR_LSN u32 heap block, u8 bits: clears bits, sets the page LSN (newer minors)
 *   0x03 TRUNCATE  u32 heap blocks kept: clears all bits from there on, in this page
 *
 * The first three may be repeated in one op. Source: access/heap/visibilitymap.c.
 */
#ifndef LOCH_PG_VM_H
#define LOCH_PG_VM_H

#include "loch/base/buf.h"
#include "loch/base/types.h"

#include <stdint.h>

#define LOCH_VM_HEAP_BLOCKS_PER_PAGE 32672u
#define LOCH_VM_OP_MAX_BYTES         12u

enum loch_vm_op_kind {
    LOCH_VM_SET = 0x01,
    LOCH_VM_CLEAR = 0x02,
    LOCH_VM_TRUNCATE = 0x03,
    LOCH_VM_CLEAR_LSN = 0x04
};

enum loch_vm_bits { LOCH_VM_ALL_VISIBLE = 1, LOCH_VM_ALL_FROZEN = 2 };

/* The VM block that holds a heap block's bits. */
static inline uint32_t loch_vm_block_of(uint32_t heap_block)
{
    return heap_block / LOCH_VM_HEAP_BLOCKS_PER_PAGE;
}

/* VM blocks left after the heap was cut to `heap_blocks` (PostgreSQL's
 * visibilitymap_prepare_truncate). */
uint32_t loch_vm_blocks_after_truncate(uint32_t heap_blocks);
/* FSM blocks kept after the heap was cut: the last, partly stale one is dropped too, so that no
 * entry points beyond the heap's end (PostgreSQL keeps it with its tail zeroed). */
uint32_t loch_fsm_blocks_after_truncate(uint32_t heap_blocks);

/* Applies one op to a VM page; `lsn` is the record's end. An all-zero page is made an empty VM page
 * by SET and left alone by the others. LOCH_E_CORRUPT for bytes that are no op; page unchanged. */
LOCH_STATUS loch_vm_apply(struct loch_slice op, loch_lsn lsn, uint8_t page[static LOCH_PAGE_BYTES]);

#endif
