/* Any bytes as one record: decoded or refused; what decodes gives effects that apply to pages, and
 * the control machine takes it or refuses it and is then unchanged. No record that decodes names a
 * page twice. Input: the record; its length
 * field is put right, and its resource manager brought into range three times out of four. */
#include "fuzz.h"

#include "loch/base/check.h"
#include "loch/pg/control.h"
#include "loch/pg/effects.h"
#include "loch/pg/relmap.h"
#include "loch/pg/slru.h"
#include "loch/pg/vm.h"
#include "loch/pg/wal_record.h"

#include <stdlib.h>

static void use_effects(struct loch_effects *effects)
{
    static uint8_t page[LOCH_PAGE_BYTES];

    for (size_t i = 0; i < effects->count; i++) {
        const struct loch_effect *e = &effects->items[i];
        struct loch_relmap map;
        loch_status st = LOCH_OK;

        if (e->kind == LOCH_EFFECT_SLRU_OP) {
            st = loch_slru_apply(e->slru.op, page);
            LOCH_ASSERT(loch_is_ok(st));
        } else if (e->kind == LOCH_EFFECT_VM_OP) {
            st = loch_vm_apply(e->vm.op, 16, page);
            LOCH_ASSERT(loch_is_ok(st));
        } else if (e->kind == LOCH_EFFECT_RELMAP) {
            st = loch_relmap_parse(e->relmap.file, &map);
        }
    }
}

static bool is_same_page(const struct loch_wal_block *a, const struct loch_wal_block *b)
{
    return a->rel.spc == b->rel.spc && a->rel.db == b->rel.db && a->rel.rel == b->rel.rel &&
           a->fork == b->fork && a->block == b->block;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct loch_wal_record record;
    static uint8_t image[LOCH_PAGE_BYTES];
    struct loch_effects effects = {0};
    struct loch_control control, before;
    uint8_t *bytes;

    if (size < 25 || size > 100000)
        return 0;
    memset(&control, 0, sizeof control);
    control.checkpoint.next_xid = 1000;
    control.parameters.track_commit_timestamp = data[23] % 2;
    bytes = malloc(size);
    memcpy(bytes, data, size);
    loch_put_u32(bytes, (uint32_t)size);
    if (data[22] % 4 != 0)
        bytes[17] = (uint8_t)(bytes[17] % 22);
    if (loch_is_ok(loch_wal_record_decode(loch_slice_of(bytes, size), &record))) {
        for (uint32_t i = 0; i < record.block_count; i++) {
            loch_status st = loch_wal_block_plain_image(&record.blocks[i], image);
            LOCH_ASSERT(loch_wal_record_block(&record, record.blocks[i].id) == &record.blocks[i]);
            for (uint32_t k = 0; k < i; k++)
                LOCH_ASSERT(!is_same_page(&record.blocks[k], &record.blocks[i]));
            (void)st;
        }
        if (loch_is_ok(loch_effects_derive(&effects, &record, 64, &control)))
            use_effects(&effects);
        else
            LOCH_ASSERT(effects.count == 0);
        memcpy(&before, &control, sizeof control);
        if (!loch_is_ok(loch_control_follow(&control, &record, 8, 64, NULL)))
            LOCH_ASSERT(memcmp(&before, &control, sizeof control) == 0);
    }
    loch_effects_fini(&effects);
    free(bytes);
    return 0;
}
