/* Holds: the effects of heap records: their pages, and the visibility-map bits they imply.
 *
 * In 15.x a heap record that clears a bit says so by a flag and names no VM page; newer minors may
 * register the VM page as a block reference too. Both forms are understood: bits are cleared by the
 * flags, and a VM reference that carries an image is that page's image. HEAP2_VISIBLE always names
 * both pages. Source: access/heapam_xlog.h, heapam.c (PostgreSQL 15). */
#include "effect_list.h"

#include "loch/pg/vm.h"
#include "v15.h"

static bool is_image(const struct loch_wal_block *b)
{
    return b->has_image && b->apply_image;
}

static LOCH_STATUS add_page(struct loch_effects *list, const struct loch_wal_block *b)
{
    struct loch_effect *e = NULL;

    LOCH_TRY(effect_add(list, LOCH_EFFECT_PAGE, &e));
    e->page.rel = b->rel;
    e->page.fork = b->fork;
    e->page.block = b->block;
    e->page.block_id = b->id;
    e->page.will_init = b->will_init;
    e->page.is_image = is_image(b);
    return LOCH_OK;
}

static void write_vm_op(struct effect_op *op, enum loch_vm_op_kind kind, uint32_t heap_block,
                        uint8_t bits)
{
    loch_write_u8(&op->w, (uint8_t)kind);
    loch_write_u32(&op->w, heap_block);
    loch_write_u8(&op->w, bits);
}

static LOCH_STATUS add_vm_op(struct loch_effects *list, enum loch_vm_op_kind kind,
                             struct loch_rel rel, uint32_t heap_block, uint8_t bits)
{
    struct effect_op op;

    effect_op_begin(list, &op);
    write_vm_op(&op, kind, heap_block, bits);
    return effect_op_end_vm(list, &op, rel, loch_vm_block_of(heap_block));
}

static const struct loch_wal_block *vm_reference(const struct loch_wal_record *record,
                                                 uint32_t vm_block)
{
    for (uint32_t i = 0; i < record->block_count; i++)
        if (record->blocks[i].fork == LOCH_FORK_VM && record->blocks[i].block == vm_block)
            return &record->blocks[i];
    return NULL;
}

/* Clears the bits of heap pages that all lie on one VM page, by one op: a key has at most one op
 * for a record. */
static LOCH_STATUS clear_bits(struct loch_effects *list, const struct loch_wal_record *record,
                              const struct loch_wal_block *const *heap, size_t count, uint8_t bits)
{
    uint32_t vm_block = loch_vm_block_of(heap[0]->block);
    const struct loch_wal_block *vm = vm_reference(record, vm_block);
    struct effect_op op;

    if (vm != NULL && is_image(vm))
        return LOCH_OK; /* the image has the bits cleared */
    effect_op_begin(list, &op);
    for (size_t i = 0; i < count; i++)
        write_vm_op(&op, vm != NULL ? LOCH_VM_CLEAR_LSN : LOCH_VM_CLEAR, heap[i]->block, bits);
    return effect_op_end_vm(list, &op, heap[0]->rel, vm_block);
}

static LOCH_STATUS check_heap_page(const struct loch_wal_block *heap)
{
    if (heap == NULL || heap->fork != LOCH_FORK_MAIN)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a heap record without the page whose bit it clears");
    return LOCH_OK;
}

static LOCH_STATUS read_flags(const struct loch_wal_record *record, uint32_t at, uint8_t *flags)
{
    if (record->main_data.len <= at)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a %s record of kind %02X has %zu bytes of data",
                         loch_rmgr_name(record->rmid), record->info, record->main_data.len);
    *flags = record->main_data.data[at];
    return LOCH_OK;
}

/* Reference 0 is the new tuple's page, 1 the old one's when that is another. */
static LOCH_STATUS clear_for_update(struct loch_effects *list, const struct loch_wal_record *record)
{
    const struct loch_wal_block *new_page = loch_wal_record_block(record, 0);
    const struct loch_wal_block *old_page = loch_wal_record_block(record, 1);
    const struct loch_wal_block *cleared[2];
    uint8_t flags = 0;
    size_t count = 0;

    if (old_page == NULL || old_page->fork != LOCH_FORK_MAIN)
        old_page = new_page;
    LOCH_TRY(read_flags(record, V15_HEAP_UPDATE_FLAGS, &flags));
    if ((flags & V15_XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED) != 0) {
        LOCH_TRY(check_heap_page(old_page));
        cleared[count++] = old_page;
    }
    if ((flags & V15_XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED) != 0) {
        LOCH_TRY(check_heap_page(new_page));
        if (count == 0 || new_page->block != old_page->block)
            cleared[count++] = new_page;
    }
    if (count == 0)
        return LOCH_OK;
    if (count == 1 || loch_vm_block_of(cleared[0]->block) == loch_vm_block_of(cleared[1]->block))
        return clear_bits(list, record, cleared, count, V15_VM_VALID_BITS);
    LOCH_TRY(clear_bits(list, record, cleared, 1, V15_VM_VALID_BITS));
    return clear_bits(list, record, cleared + 1, 1, V15_VM_VALID_BITS);
}

static LOCH_STATUS clear_for_flag(struct loch_effects *list, const struct loch_wal_record *record,
                                  uint32_t flags_at, uint8_t flag, uint8_t bits)
{
    const struct loch_wal_block *heap = loch_wal_record_block(record, 0);
    uint8_t flags = 0;

    LOCH_TRY(read_flags(record, flags_at, &flags));
    if ((flags & flag) == 0)
        return LOCH_OK;
    LOCH_TRY(check_heap_page(heap));
    return clear_bits(list, record, &heap, 1, bits);
}

static LOCH_STATUS clears_of_heap(struct loch_effects *list, const struct loch_wal_record *record)
{
    switch (record->info & V15_HEAP_OPMASK) {
    case V15_HEAP_INSERT:
        return clear_for_flag(list, record, V15_HEAP_INSERT_FLAGS,
                              V15_XLH_INSERT_ALL_VISIBLE_CLEARED, V15_VM_VALID_BITS);
    case V15_HEAP_DELETE:
        return clear_for_flag(list, record, V15_HEAP_DELETE_FLAGS,
                              V15_XLH_DELETE_ALL_VISIBLE_CLEARED, V15_VM_VALID_BITS);
    case V15_HEAP_UPDATE:
    case V15_HEAP_HOT_UPDATE:
        return clear_for_update(list, record);
    case V15_HEAP_LOCK:
        return clear_for_flag(list, record, V15_HEAP_LOCK_FLAGS, V15_XLH_LOCK_ALL_FROZEN_CLEARED,
                              LOCH_VM_ALL_FROZEN);
    default: /* TRUNCATE, CONFIRM, INPLACE: all codes are taken */
        return LOCH_OK;
    }
}

static LOCH_STATUS clears_of_heap2(struct loch_effects *list, const struct loch_wal_record *record)
{
    switch (record->info & V15_HEAP_OPMASK) {
    case V15_HEAP2_MULTI_INSERT:
        return clear_for_flag(list, record, V15_HEAP_MULTI_INSERT_FLAGS,
                              V15_XLH_INSERT_ALL_VISIBLE_CLEARED, V15_VM_VALID_BITS);
    case V15_HEAP2_LOCK_UPDATED:
        return clear_for_flag(list, record, V15_HEAP_LOCK_UPDATED_FLAGS,
                              V15_XLH_LOCK_ALL_FROZEN_CLEARED, LOCH_VM_ALL_FROZEN);
    default: /* REWRITE, PRUNE, VACUUM, FREEZE_PAGE, NEW_CID: all codes are taken */
        return LOCH_OK;
    }
}

/* Reference 0 is the VM page, 1 the heap page. */
static LOCH_STATUS effects_of_visible(struct loch_effects *list,
                                      const struct loch_wal_record *record)
{
    const struct loch_wal_block *vm = loch_wal_record_block(record, 0);
    const struct loch_wal_block *heap = loch_wal_record_block(record, 1);
    uint8_t flags = 0;

    if (vm == NULL || heap == NULL || vm->fork != LOCH_FORK_VM || heap->fork != LOCH_FORK_MAIN ||
        vm->block != loch_vm_block_of(heap->block))
        return LOCH_FAIL(LOCH_E_CORRUPT, "a visibility record without its two pages");
    LOCH_TRY(read_flags(record, V15_HEAP_VISIBLE_FLAGS, &flags));
    if (is_image(vm))
        LOCH_TRY(add_page(list, vm));
    else
        LOCH_TRY(add_vm_op(list, LOCH_VM_SET, vm->rel, heap->block, flags & V15_VM_VALID_BITS));
    return add_page(list, heap);
}

LOCH_STATUS effects_of_heap(struct loch_effects *list, const struct effect_source *src)
{
    const struct loch_wal_record *record = src->record;

    if (record->rmid == LOCH_RM_HEAP2 && (record->info & V15_HEAP_OPMASK) == V15_HEAP2_VISIBLE)
        return effects_of_visible(list, record);
    for (uint32_t i = 0; i < record->block_count; i++) {
        const struct loch_wal_block *b = &record->blocks[i];
        /* A VM reference without an image is served by the op below. */
        if (b->fork != LOCH_FORK_VM || is_image(b))
            LOCH_TRY(add_page(list, b));
    }
    return record->rmid == LOCH_RM_HEAP ? clears_of_heap(list, record)
                                        : clears_of_heap2(list, record);
}
