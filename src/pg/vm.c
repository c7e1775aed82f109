/* Holds: visibility-map ops applied to pages; what truncation leaves of the VM and FSM.
 * Source: access/heap/visibilitymap.c, storage/freespace/freespace.c (PostgreSQL 15). */
#include "loch/pg/vm.h"

#include "loch/pg/page.h"

#include "v15.h"

#define MAP_BYTES         (LOCH_PAGE_BYTES - LOCH_PG_PAGE_HEADER_BYTES)
#define BLOCKS_PER_BYTE   4u
#define BITS_OP_BYTES     6u
#define TRUNCATE_OP_BYTES 5u

uint32_t loch_vm_blocks_after_truncate(uint32_t heap_blocks)
{
    return heap_blocks / LOCH_VM_HEAP_BLOCKS_PER_PAGE +
           (heap_blocks % LOCH_VM_HEAP_BLOCKS_PER_PAGE != 0);
}

uint32_t loch_fsm_blocks_after_truncate(uint32_t heap_blocks)
{
    uint32_t leaf = heap_blocks / V15_FSM_SLOTS_PER_PAGE;
    uint32_t pages = 0;

    if (heap_blocks == 0)
        return 0;
    /* The block number of the leaf page that holds heap_blocks: pages are laid out depth first. */
    for (uint32_t level = 0; level < V15_FSM_TREE_DEPTH; level++) {
        pages += leaf + 1;
        leaf /= V15_FSM_SLOTS_PER_PAGE;
    }
    return pages - 1;
}

static void apply_truncate(uint32_t heap_blocks, uint8_t *map)
{
    uint32_t in_page = heap_blocks % LOCH_VM_HEAP_BLOCKS_PER_PAGE;
    uint32_t byte = in_page / BLOCKS_PER_BYTE;
    uint32_t shift = in_page % BLOCKS_PER_BYTE * 2;

    map[byte] = (uint8_t)(map[byte] & ((1u << shift) - 1));
    memset(map + byte + 1, 0, MAP_BYTES - byte - 1);
}

static void apply_bits(const uint8_t *op, loch_lsn lsn, uint8_t *page)
{
    uint32_t block = loch_get_u32(op + 1) % LOCH_VM_HEAP_BLOCKS_PER_PAGE;
    uint8_t *byte = page + LOCH_PG_PAGE_HEADER_BYTES + block / BLOCKS_PER_BYTE;
    uint32_t shift = block % BLOCKS_PER_BYTE * 2;
    uint32_t bits = op[5];

    if (op[0] == LOCH_VM_SET) {
        if (loch_page_is_new(page))
            loch_page_init(page, 0);
        if ((uint32_t)(*byte >> shift & V15_VM_VALID_BITS) != bits) {
            *byte = (uint8_t)(*byte | bits << shift);
            loch_page_set_lsn(page, lsn);
        }
        return;
    }
    *byte = (uint8_t)(*byte & ~(bits << shift));
    if (op[0] == LOCH_VM_CLEAR_LSN && !loch_page_is_new(page))
        loch_page_set_lsn(page, lsn);
}

LOCH_STATUS loch_vm_apply(struct loch_slice op, loch_lsn lsn, uint8_t page[static LOCH_PAGE_BYTES])
{
    if (op.len == TRUNCATE_OP_BYTES && op.data[0] == LOCH_VM_TRUNCATE) {
        apply_truncate(loch_get_u32(op.data + 1), page + LOCH_PG_PAGE_HEADER_BYTES);
        return LOCH_OK;
    }
    if (op.len == 0 || op.len % BITS_OP_BYTES != 0)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a visibility map operation of %zu bytes", op.len);
    for (size_t i = 0; i < op.len; i += BITS_OP_BYTES) {
        uint8_t kind = op.data[i];
        if (kind != LOCH_VM_SET && kind != LOCH_VM_CLEAR && kind != LOCH_VM_CLEAR_LSN)
            return LOCH_FAIL(LOCH_E_CORRUPT, "a visibility map operation of kind %u", kind);
        if ((op.data[i + 5] & ~V15_VM_VALID_BITS) != 0)
            return LOCH_FAIL(LOCH_E_CORRUPT, "a visibility map operation on unknown bits");
    }
    for (size_t i = 0; i < op.len; i += BITS_OP_BYTES)
        apply_bits(op.data + i, lsn, page);
    return LOCH_OK;
}
