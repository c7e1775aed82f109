/* Any record on any page: applied, not handled, or corrupt, and never an access outside the page,
 * the record's main data or its reference's data (each in an allocation of its own size). A page
 * whose header was in order stays so. Input, 24 bytes and more: kind of page, edits of it, then a
 * row of records, each with its own lengths. */
#include "fuzz.h"

#include "loch/base/buf.h"
#include "loch/base/check.h"
#include "loch/pg/page.h"
#include "loch/redo/redo.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK 7u

struct input {
    const uint8_t *at;
    size_t left;
};

static uint32_t take(struct input *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->at++;
}

static void put_item(uint8_t *page, const uint8_t *bytes, uint32_t len)
{
    uint32_t lower = loch_get_u16(page + 12), upper = loch_get_u16(page + 14) - ((len + 7u) & ~7u);

    memcpy(page + upper, bytes, len);
    loch_put_u32(page + lower, upper | 1u << 15 | len << 17);
    loch_put_u16(page + 12, (uint16_t)(lower + 4));
    loch_put_u16(page + 14, (uint16_t)upper);
}

/* A heap page, a btree leaf with plain and posting tuples, or zeros. */
static void make_page(uint8_t *page, uint32_t kind)
{
    uint8_t item[64] = {0};

    memset(page, 0, LOCH_PAGE_BYTES);
    if (kind % 8 == 7)
        return;
    loch_page_init(page, kind % 2 == 0 ? 0 : 16);
    for (uint32_t i = 0; i < 8; i++) {
        if (kind % 2 == 0) {
            item[22] = 24; /* t_hoff */
            memset(item + 24, (int)i, 40);
            put_item(page, item, 32 + i);
        } else if (i % 2 == 0) {
            loch_put_u16(item + 6, 16);
            put_item(page, item, 16);
        } else { /* a posting list of 4 behind a key of 8 */
            loch_put_u16(item + 2, 16);
            loch_put_u16(item + 4, 0x2000 | 4);
            loch_put_u16(item + 6, 0x2000 | 40);
            put_item(page, item, 40);
        }
    }
    if (kind % 2 != 0)
        page[LOCH_PAGE_BYTES - 4] = 1; /* a leaf */
    loch_page_set_lsn(page, 100);
}

/* Borrows the next `len` bytes as an allocation of exactly that size. */
static struct loch_slice take_slice(struct input *in, size_t len)
{
    uint8_t *copy;

    len = len < in->left ? len : in->left;
    copy = malloc(len > 0 ? len : 1);
    if (copy == NULL)
        abort();
    memcpy(copy, in->at, len);
    in->at += len;
    in->left -= len;
    return loch_slice_of(copy, len);
}

static void make_record(struct input *in, struct loch_wal_record *r,
                        const struct loch_redo_target *target)
{
    static const uint8_t managers[] = {LOCH_RM_HEAP, LOCH_RM_HEAP2, LOCH_RM_BTREE, LOCH_RM_XLOG};
    uint32_t shape = take(in);

    *r = (struct loch_wal_record){
        .rmid = managers[shape % 4], .info = (uint8_t)take(in), .xid = take(in), .block_count = 1};
    struct loch_wal_block *b = &r->blocks[0];
    *b = (struct loch_wal_block){.id = (uint8_t)(shape >> 2 & 7),
                                 .fork = target->fork,
                                 .rel = target->rel,
                                 .block = target->block,
                                 .will_init = (shape & 0x20) != 0};
    if (shape >= 0xF0) {
        b->has_image = b->apply_image = true;
        b->compression = (uint8_t)(1 + shape % 3); /* plain ones are the decoder's to check */
        b->hole_offset = (uint16_t)(24 + take(in));
        b->hole_length = (uint16_t)(take(in) << 5);
        b->image = take_slice(in, 8 * (size_t)take(in));
    }
    r->main_data = take_slice(in, take(in));
    b->data = take_slice(in, (size_t)take(in) << (shape & 0x40 ? 4 : 0));
    for (uint32_t more = take(in) % 4; more > 0; more--) {
        struct loch_wal_block *other = &r->blocks[r->block_count];
        *other = (struct loch_wal_block){.id = (uint8_t)(b->id + r->block_count),
                                         .fork = (uint8_t)(take(in) % 3),
                                         .rel = target->rel,
                                         .block = take(in)};
        r->block_count++;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct loch_wal_record record;
    struct input in = {data, size};
    struct loch_redo_target target = {.rel = {1663, 5, 16384}, .block = BLOCK};
    uint8_t *page;
    uint32_t kind;

    if (size < 24)
        return 0;
    page = malloc(LOCH_PAGE_BYTES);
    if (page == NULL)
        abort();
    kind = take(&in);
    make_page(page, kind);
    target.hint_lsn = (kind & 0x10) != 0;
    target.fork = (kind & 0x60) == 0x60 ? LOCH_FORK_VM : LOCH_FORK_MAIN;
    size_t edits = (take(&in) % 8) * 4;
    edits = edits < in.left ? edits : in.left;
    fuzz_edit(page, kind & 0x80 ? 256 : LOCH_PAGE_BYTES, in.at, edits);
    in.at += edits;
    in.left -= edits;
    for (loch_lsn end = 200; in.left > 0; end += 8) {
        enum loch_redo_outcome outcome = LOCH_REDO_NOT_HANDLED;

        make_record(&in, &record, &target);
        loch_status st = loch_redo_apply(&target, &record, end, page, &outcome);
        if (loch_is_ok(st) && outcome == LOCH_REDO_APPLIED && !record.blocks[0].has_image &&
            !loch_page_is_new(page))
            LOCH_ASSERT(loch_page_is_plausible(page));
        free((void *)(uintptr_t)record.blocks[0].image.data);
        free((void *)(uintptr_t)record.blocks[0].data.data);
        free((void *)(uintptr_t)record.main_data.data);
        if (!loch_is_ok(st))
            break;
    }
    free(page);
    return 0;
}
