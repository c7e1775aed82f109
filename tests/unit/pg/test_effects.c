/* Records taken apart, and what they do. */
#include "../unit.h"

#include "record_builder.h"

#include "loch/base/crc32c.h"
#include "loch/pg/effects.h"
#include "loch/pg/slru.h"
#include "loch/pg/vm.h"

static const struct loch_rel rel = {1663, 5, 16384};
static struct loch_effects fx;
static struct loch_wal_record rec;
static struct loch_control control;
static struct builder b;

static void derive(const void *main_data, uint32_t len)
{
    assert_ok(loch_wal_record_decode(build_end(&b, main_data, len), &rec));
    assert_ok(loch_effects_derive(&fx, &rec, 0x2000000, &control));
}

static int setup(void **state)
{
    (void)state;
    memset(&control, 0, sizeof control);
    control.checkpoint.next_xid = 1000;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    build_fini(&b);
    loch_effects_fini(&fx);
    return 0;
}

static void test_decode(void **state)
{
    static uint8_t image[8192], page[8192];
    struct loch_slice bytes;

    (void)state;
    for (size_t i = 0; i < sizeof image; i++)
        image[i] = (uint8_t)(i * 3);
    build_begin(&b, LOCH_RM_BTREE, 0x10, 77);
    build_block(&b, 0, rel, LOCH_FORK_MAIN, 9, 0, image, true);
    build_block(&b, 3, rel, LOCH_FORK_VM, 1, 0xC0, NULL, false);
    bytes = build_end(&b, "main", 4);
    assert_ok(loch_wal_record_decode(bytes, &rec));
    assert_int_equal(rec.xid, 77);
    assert_int_equal(rec.block_count, 2);
    assert_int_equal(rec.blocks[1].rel.rel, 16384);
    assert_true(rec.blocks[1].same_rel && rec.blocks[1].will_init);
    assert_memory_equal(rec.main_data.data, "main", 4);
    assert_ptr_equal(loch_wal_record_block(&rec, 3), &rec.blocks[1]);
    assert_null(loch_wal_record_block(&rec, 1));
    assert_ok(loch_wal_block_plain_image(&rec.blocks[0], page));
    assert_memory_equal(page, image, 8192);
    assert_code(loch_wal_block_plain_image(&rec.blocks[1], page), LOCH_E_INVALID);
    /* Cut anywhere it is no record; a wrong length neither. */
    for (size_t n = 0; n < bytes.len; n += n < 80 ? 1 : 500) {
        uint8_t *cut = malloc(n == 0 ? 1 : n);
        memcpy(cut, bytes.data, n);
        if (n >= 4)
            loch_put_u32(cut, (uint32_t)n);
        loch_status st = loch_wal_record_decode(loch_slice_of(cut, n), &rec);
        if (n != 24) /* a header alone is a record */
            assert_code(st, LOCH_E_CORRUPT);
        free(cut);
    }
}

/* Fork, block and relation together are the page; the relation may be that of the one before. */
static void test_a_page_named_twice(void **state)
{
    static const struct loch_rel other = {1663, 5, 16385};
    struct loch_slice bytes;

    (void)state;
    build_begin(&b, LOCH_RM_HEAP, 0x20, 7);
    build_block(&b, 0, rel, LOCH_FORK_MAIN, 9, 0, NULL, false);
    build_block(&b, 1, rel, LOCH_FORK_MAIN, 8, 0x80, NULL, false);
    build_block(&b, 2, rel, LOCH_FORK_VM, 9, 0x80, NULL, false);
    build_block(&b, 3, other, LOCH_FORK_MAIN, 9, 0, NULL, false);
    assert_ok(loch_wal_record_decode(build_end(&b, "main", 4), &rec));
    build_fini(&b);
    build_begin(&b, LOCH_RM_HEAP, 0x20, 7);
    build_block(&b, 0, rel, LOCH_FORK_MAIN, 9, 0, NULL, false);
    build_block(&b, 1, rel, LOCH_FORK_MAIN, 8, 0x80, NULL, false);
    build_block(&b, 4, rel, LOCH_FORK_MAIN, 9, 0x80, NULL, false);
    bytes = build_end(&b, "main", 4);
    assert_code(loch_wal_record_decode(bytes, &rec), LOCH_E_CORRUPT);
    assert_non_null(strstr(loch_error_text(), "block 9 of 1663/5/16384 fork 0 is named twice"));
}

static void test_holes(void **state)
{
    static uint8_t page[8192];
    uint8_t body[200] = {0};
    struct loch_writer w;
    struct loch_buf buf = {0};

    (void)state;
    loch_writer_init(&w, &buf);
    loch_write_u32(&w, 24 + 4 + 5 + 12 + 4 + 100);
    loch_write_zeros(&w, 12);
    loch_write_u8(&w, 0xB0);
    loch_write_u8(&w, LOCH_RM_XLOG);
    loch_write_zeros(&w, 6);
    loch_write_u8(&w, 0);
    loch_write_u8(&w, 0x10);
    loch_write_u16(&w, 0);
    loch_write_u16(&w, 100); /* image bytes */
    loch_write_u16(&w, 60);  /* hole offset */
    loch_write_u8(&w, 3);
    loch_write_u32(&w, 1);
    loch_write_u32(&w, 2);
    loch_write_u32(&w, 3);
    loch_write_u32(&w, 4);
    memset(body, 0xEE, 100);
    loch_write_bytes(&w, body, 100);
    assert_ok(loch_wal_record_decode(loch_buf_slice(&buf), &rec));
    assert_int_equal(rec.blocks[0].hole_length, 8092);
    memset(page, 1, sizeof page);
    assert_ok(loch_wal_block_plain_image(&rec.blocks[0], page));
    assert_int_equal(page[59], 0xEE);
    assert_int_equal(page[60], 0);
    assert_int_equal(page[8151], 0);
    assert_int_equal(page[8152], 0xEE);
    /* Hole beyond the page, two compressions, no hole but a short image. */
    buf.data[30] = 0xFF, buf.data[31] = 0x1F;
    assert_code(loch_wal_record_decode(loch_buf_slice(&buf), &rec), LOCH_E_CORRUPT);
    buf.data[30] = 60, buf.data[31] = 0, buf.data[32] = 0x0F;
    assert_code(loch_wal_record_decode(loch_buf_slice(&buf), &rec), LOCH_E_CORRUPT);
    buf.data[32] = 2;
    assert_code(loch_wal_record_decode(loch_buf_slice(&buf), &rec), LOCH_E_CORRUPT);
    loch_buf_fini(&buf);
    memset(&b, 0, sizeof b);
}

static void check_page(size_t i, uint8_t fork, uint32_t block, bool is_image)
{
    assert_int_equal(fx.items[i].kind, LOCH_EFFECT_PAGE);
    assert_int_equal(fx.items[i].page.fork, fork);
    assert_int_equal(fx.items[i].page.block, block);
    assert_int_equal(fx.items[i].page.is_image, is_image);
}

static void check_vm(size_t i, uint8_t kind, uint32_t heap_block, uint8_t bits)
{
    assert_int_equal(fx.items[i].kind, LOCH_EFFECT_VM_OP);
    assert_int_equal(fx.items[i].vm.block, heap_block / 32672);
    assert_int_equal(fx.items[i].vm.op.len, 6);
    assert_int_equal(fx.items[i].vm.op.data[0], kind);
    assert_int_equal(loch_get_u32(fx.items[i].vm.op.data + 1), heap_block);
    assert_int_equal(fx.items[i].vm.op.data[5], bits);
}

static void test_heap_update_clears(void **state)
{
    uint8_t main_data[14] = {0};

    (void)state;
    main_data[7] = 3; /* both pages */
    build_begin(&b, LOCH_RM_HEAP, 0x20, 50);
    build_block(&b, 0, rel, LOCH_FORK_MAIN, 40000, 0, NULL, false);
    build_block(&b, 1, rel, LOCH_FORK_MAIN, 7, 0x80, NULL, false);
    derive(main_data, sizeof main_data);
    assert_int_equal(fx.count, 4);
    check_page(0, LOCH_FORK_MAIN, 40000, false);
    check_page(1, LOCH_FORK_MAIN, 7, false);
    check_vm(2, LOCH_VM_CLEAR, 7, 3);
    check_vm(3, LOCH_VM_CLEAR, 40000, 3);
    /* Both on one VM page: one op; the same page: one bit pair. */
    build_fini(&b);
    build_begin(&b, LOCH_RM_HEAP, 0x20, 50);
    build_block(&b, 0, rel, LOCH_FORK_MAIN, 8, 0, NULL, false);
    build_block(&b, 1, rel, LOCH_FORK_MAIN, 7, 0x80, NULL, false);
    derive(main_data, sizeof main_data);
    assert_int_equal(fx.count, 3);
    assert_int_equal(fx.items[2].vm.op.len, 12);
    {
        uint8_t page[8192];
        memset(page, 0xFF, sizeof page);
        assert_ok(loch_vm_apply(fx.items[2].vm.op, 1, page));
        assert_int_equal(page[24 + 1], 0x3F);
        assert_int_equal(page[24 + 2], 0xFC);
    }
    build_fini(&b);
    build_begin(&b, LOCH_RM_HEAP, 0x40, 50);
    build_block(&b, 0, rel, LOCH_FORK_MAIN, 8, 0, NULL, false);
    derive(main_data, sizeof main_data);
    assert_int_equal(fx.count, 2);
    check_vm(1, LOCH_VM_CLEAR, 8, 3);
}

static void test_heap_registered_vm(void **state)
{
    static uint8_t image[8192];
    uint8_t main_data[14] = {0};

    (void)state;
    /* The VM page named too, once without and once with its image. */
    main_data[7] = 1;
    build_begin(&b, LOCH_RM_HEAP, 0x10, 50);
    build_block(&b, 0, rel, LOCH_FORK_MAIN, 7, 0, NULL, false);
    build_block(&b, 1, rel, LOCH_FORK_VM, 0, 0x80, NULL, false);
    derive(main_data, sizeof main_data);
    assert_int_equal(fx.count, 2);
    check_page(0, LOCH_FORK_MAIN, 7, false);
    check_vm(1, LOCH_VM_CLEAR_LSN, 7, 3);
    build_fini(&b);
    build_begin(&b, LOCH_RM_HEAP, 0x10, 50);
    build_block(&b, 0, rel, LOCH_FORK_MAIN, 7, 0, NULL, false);
    build_block(&b, 1, rel, LOCH_FORK_VM, 0, 0x80, image, true);
    derive(main_data, sizeof main_data);
    assert_int_equal(fx.count, 2);
    check_page(1, LOCH_FORK_VM, 0, true);
}

static void test_heap_lock_and_visible(void **state)
{
    uint8_t lock[8] = {0}, visible[5] = {0};

    (void)state;
    lock[7] = 1;
    build_begin(&b, LOCH_RM_HEAP, 0x60, 50);
    build_block(&b, 0, rel, LOCH_FORK_MAIN, 5, 0, NULL, false);
    derive(lock, sizeof lock);
    check_vm(1, LOCH_VM_CLEAR, 5, 2);
    build_fini(&b);
    visible[4] = 3;
    build_begin(&b, LOCH_RM_HEAP2, 0x40, 0);
    build_block(&b, 0, rel, LOCH_FORK_VM, 1, 0, NULL, false);
    build_block(&b, 1, rel, LOCH_FORK_MAIN, 32672, 0x80, NULL, false);
    derive(visible, sizeof visible);
    assert_int_equal(fx.count, 2);
    check_vm(0, LOCH_VM_SET, 32672, 3);
    check_page(1, LOCH_FORK_MAIN, 32672, false);
    /* Cut short: corrupt, and the list is empty. */
    build_fini(&b);
    build_begin(&b, LOCH_RM_HEAP, 0x60, 50);
    build_block(&b, 0, rel, LOCH_FORK_MAIN, 5, 0, NULL, false);
    assert_ok(loch_wal_record_decode(build_end(&b, lock, 7), &rec));
    assert_code(loch_effects_derive(&fx, &rec, 1, &control), LOCH_E_CORRUPT);
    assert_int_equal(fx.count, 0);
}

static void test_commit(void **state)
{
    struct loch_buf d = {0};
    struct loch_writer w;
    uint8_t page[8192] = {0};

    (void)state;
    control.parameters.track_commit_timestamp = true;
    loch_writer_init(&w, &d);
    loch_write_u64(&w, 123456789);
    loch_write_u32(&w, 0x2 | 0x4 | 0x20); /* subxacts, relations, origin */
    loch_write_u32(&w, 3);
    loch_write_u32(&w, 32766);
    loch_write_u32(&w, 32767);
    loch_write_u32(&w, 32768);
    loch_write_u32(&w, 1);
    loch_write_u32(&w, rel.spc);
    loch_write_u32(&w, rel.db);
    loch_write_u32(&w, rel.rel);
    loch_write_u64(&w, 0xABC);
    loch_write_u64(&w, 42);
    build_begin(&b, LOCH_RM_XACT, 0x80, 32765);
    loch_write_u8(&b.h, 253);
    loch_write_u16(&b.h, 9);
    derive(d.data, (uint32_t)d.len);
    assert_int_equal(rec.origin, 9);
    /* Two pages of status, one or two of timestamps (819 a page), the origin, the drop, the end. */
    assert_int_equal(fx.items[0].kind, LOCH_EFFECT_SLRU_OP);
    assert_int_equal(fx.items[0].slru.page, 0);
    assert_ok(loch_slru_apply(fx.items[0].slru.op, page));
    assert_int_equal(loch_xact_page_status(page, 32765), LOCH_XACT_COMMITTED);
    assert_int_equal(loch_xact_page_status(page, 32767), LOCH_XACT_COMMITTED);
    assert_int_equal(loch_xact_page_status(page, 32764), LOCH_XACT_IN_PROGRESS);
    assert_int_equal(fx.items[1].slru.page, 1);
    assert_int_equal(fx.items[2].slru.slru, LOCH_SLRU_COMMIT_TS);
    assert_int_equal(fx.items[2].slru.page, 32765 / 819);
    memset(page, 0, sizeof page);
    assert_ok(loch_slru_apply(fx.items[2].slru.op, page));
    assert_int_equal(loch_get_u64(page + 32765 % 819 * 10), 42);
    assert_int_equal(loch_get_u16(page + 32765 % 819 * 10 + 8), 9);
    assert_int_equal(fx.items[fx.count - 1].kind, LOCH_EFFECT_XACT_END);
    assert_int_equal(fx.items[fx.count - 1].xact.time_us, 123456789);
    assert_int_equal(fx.items[fx.count - 2].kind, LOCH_EFFECT_REL_DROP);
    assert_int_equal(fx.items[fx.count - 3].kind, LOCH_EFFECT_ORIGIN_SET);
    assert_int_equal(fx.items[fx.count - 3].origin.remote_lsn, 0xABC);
    int64_t ended = 0;
    assert_true(loch_wal_record_xact_time(&rec, &ended));
    assert_true(ended == 123456789);
    rec.info = 0x10; /* PREPARE ends nothing */
    assert_false(loch_wal_record_xact_time(&rec, &ended));
    rec.info = 0x20; /* ABORT does */
    assert_true(loch_wal_record_xact_time(&rec, &ended));
    rec.rmid = LOCH_RM_HEAP;
    assert_false(loch_wal_record_xact_time(&rec, &ended));
    rec.rmid = LOCH_RM_XACT;
    rec.main_data.len = 7;
    assert_false(loch_wal_record_xact_time(&rec, &ended));
    /* Its counts do not fit. */
    loch_put_u32(d.data + 12, 300);
    build_fini(&b);
    build_begin(&b, LOCH_RM_XACT, 0x80, 32765);
    assert_ok(loch_wal_record_decode(build_end(&b, d.data, (uint32_t)d.len), &rec));
    assert_code(loch_effects_derive(&fx, &rec, 1, &control), LOCH_E_CORRUPT);
    loch_buf_fini(&d);
}

/* PREPARE advances the origin, as its redo does; so do both ends of what was prepared. */
static void test_prepare_with_origin(void **state)
{
    uint8_t d[72 + 8] = {0}, end[8 + 4 + 4 + 16] = {0};
    const uint8_t ends[] = {0x30, 0x40}; /* COMMIT PREPARED, ROLLBACK PREPARED */

    (void)state;
    loch_put_u32(d, 0x57F94534);
    loch_put_u32(d + 4, sizeof d + 4);
    loch_put_u32(d + 8, 700);
    loch_put_u16(d + 54, 2);
    loch_put_u64(d + 56, 0x5000);
    build_begin(&b, LOCH_RM_XACT, 0x10, 700);
    loch_write_u8(&b.h, 253);
    loch_write_u16(&b.h, 9);
    derive(d, sizeof d);
    assert_int_equal(fx.count, 2);
    assert_int_equal(fx.items[0].kind, LOCH_EFFECT_TWOPHASE_PUT);
    assert_int_equal(fx.items[1].kind, LOCH_EFFECT_ORIGIN_SET);
    assert_int_equal(fx.items[1].origin.origin, 9);
    assert_int_equal(fx.items[1].origin.remote_lsn, 0x5000);
    assert_int_equal(fx.items[1].origin.local_lsn, 0x2000000);
    assert_false(fx.items[1].origin.force);
    rec.origin = 0xFFFF; /* not to be replicated, not tracked */
    assert_ok(loch_effects_derive(&fx, &rec, 0x2000000, &control));
    assert_int_equal(fx.count, 1);
    rec.origin = 0;
    assert_ok(loch_effects_derive(&fx, &rec, 0x2000000, &control));
    assert_int_equal(fx.count, 1);
    for (size_t i = 0; i < sizeof ends; i++) {
        build_fini(&b);
        loch_put_u32(end + 8, 0x10 | 0x20); /* of a prepared one, origin */
        loch_put_u32(end + 12, 700);
        loch_put_u64(end + 16, 0x6000);
        build_begin(&b, LOCH_RM_XACT, 0x80 | ends[i], 0);
        loch_write_u8(&b.h, 253);
        loch_write_u16(&b.h, 9);
        derive(end, sizeof end);
        assert_int_equal(fx.items[fx.count - 3].kind, LOCH_EFFECT_ORIGIN_SET);
        assert_int_equal(fx.items[fx.count - 3].origin.remote_lsn, 0x6000);
        assert_int_equal(fx.items[fx.count - 2].kind, LOCH_EFFECT_TWOPHASE_DROP);
    }
}

static void test_multixact_wraps(void **state)
{
    uint8_t d[12 + 16] = {0};
    uint8_t page[8192] = {0};

    (void)state;
    loch_put_u32(d, UINT32_MAX);         /* the last multixact: the next is 1 */
    loch_put_u32(d + 4, UINT32_MAX - 1); /* members wrap: the next offset is 1, not 0 */
    loch_put_u32(d + 8, 2);
    loch_put_u32(d + 12, 700);
    loch_put_u32(d + 16, 5);
    loch_put_u32(d + 20, 701);
    build_begin(&b, LOCH_RM_MULTIXACT, 0x20, 0);
    derive(d, sizeof d);
    assert_int_equal(fx.items[0].slru.page, UINT32_MAX / 2048);
    assert_int_equal(fx.items[1].slru.page, 0);
    assert_ok(loch_slru_apply(fx.items[1].slru.op, page));
    assert_int_equal(loch_get_u32(page + 4), 1);
    assert_int_equal(fx.items[2].slru.slru, LOCH_SLRU_MULTI_MEMBERS);
    assert_int_equal(fx.items[2].slru.page, (UINT32_MAX - 1) / 1636);
    memset(page, 0, sizeof page);
    assert_ok(loch_slru_apply(fx.items[2].slru.op, page));
    {
        uint32_t at = (UINT32_MAX - 1) % 1636;
        assert_int_equal(page[at / 4 * 20 + at % 4], 5);
        assert_int_equal(loch_get_u32(page + at / 4 * 20 + 4 + at % 4 * 4), 700);
    }
    loch_put_u32(d + 8, 3);
    build_fini(&b);
    build_begin(&b, LOCH_RM_MULTIXACT, 0x20, 0);
    assert_ok(loch_wal_record_decode(build_end(&b, d, sizeof d), &rec));
    assert_code(loch_effects_derive(&fx, &rec, 1, &control), LOCH_E_CORRUPT);
}

/* What PostgreSQL deletes of the members is from the old oldest to the new one, whole files. */
static void test_multixact_truncate(void **state)
{
    uint8_t d[20] = {0};

    (void)state;
    loch_put_u32(d + 4, 1);
    loch_put_u32(d + 8, 5001);
    loch_put_u32(d + 12, UINT32_MAX - 100);
    loch_put_u32(d + 16, 32 * 1636);
    build_begin(&b, LOCH_RM_MULTIXACT, 0x30, 0);
    derive(d, sizeof d);
    assert_int_equal(fx.count, 2);
    assert_int_equal(fx.items[0].slru.slru, LOCH_SLRU_MULTI_MEMBERS);
    assert_true(fx.items[0].slru.cut.ranged);
    assert_int_equal(fx.items[0].slru.cut.start, (UINT32_MAX - 100) / 1636);
    assert_int_equal(fx.items[0].slru.cut.page, 32);
    assert_int_equal(fx.items[1].slru.slru, LOCH_SLRU_MULTI_OFFSETS);
    assert_false(fx.items[1].slru.cut.ranged);
    assert_int_equal(fx.items[1].slru.cut.page, 5000 / 2048);
    build_fini(&b);
    loch_put_u32(d + 12, 0); /* in the same file: it stays */
    loch_put_u32(d + 16, 32 * 1636 - 1);
    build_begin(&b, LOCH_RM_MULTIXACT, 0x30, 0);
    derive(d, sizeof d);
    assert_int_equal(fx.count, 1);
    assert_int_equal(fx.items[0].slru.slru, LOCH_SLRU_MULTI_OFFSETS);
}

static void test_truncate(void **state)
{
    uint8_t d[20];

    (void)state;
    loch_put_u32(d, 100);
    loch_put_u32(d + 4, rel.spc);
    loch_put_u32(d + 8, rel.db);
    loch_put_u32(d + 12, rel.rel);
    loch_put_u32(d + 16, 7);
    build_begin(&b, LOCH_RM_SMGR, 0x20, 0);
    derive(d, sizeof d);
    assert_int_equal(fx.count, 5);
    assert_int_equal(fx.items[0].kind, LOCH_EFFECT_REL_CREATE);
    assert_int_equal(fx.items[1].rel.blocks, 100);
    assert_int_equal(fx.items[2].rel.fork, LOCH_FORK_FSM);
    assert_int_equal(fx.items[2].rel.blocks, 2);
    assert_int_equal(fx.items[3].rel.fork, LOCH_FORK_VM);
    assert_int_equal(fx.items[3].rel.blocks, 1);
    assert_int_equal(fx.items[4].kind, LOCH_EFFECT_VM_OP);
    assert_int_equal(fx.items[4].vm.op.data[0], LOCH_VM_TRUNCATE);
}

static void test_commit_ts_switch(void **state)
{
    uint8_t d[28] = {0};

    (void)state;
    control.checkpoint.next_xid = 5000;
    d[25] = 1;
    build_begin(&b, LOCH_RM_XLOG, 0x60, 0);
    derive(d, sizeof d);
    assert_int_equal(fx.count, 1);
    assert_int_equal(fx.items[0].slru.page, 5000 / 819);
    assert_true(loch_slru_op_is_base(fx.items[0].slru.op));
    control.parameters.track_commit_timestamp = true;
    control.checkpoint.oldest_commit_ts_xid = 5000;
    assert_ok(loch_effects_derive(&fx, &rec, 1, &control));
    assert_int_equal(fx.count, 0);
    d[25] = 0;
    build_fini(&b);
    build_begin(&b, LOCH_RM_XLOG, 0x60, 0);
    derive(d, sizeof d);
    assert_int_equal(fx.items[0].kind, LOCH_EFFECT_SLRU_CUT);
    assert_true(fx.items[0].slru.cut.all);
}

static void test_hints_and_images(void **state)
{
    static uint8_t image[8192];

    (void)state;
    build_begin(&b, LOCH_RM_XLOG, 0xA0, 0);
    build_block(&b, 0, rel, LOCH_FORK_MAIN, 1, 0, NULL, false);
    derive(NULL, 0);
    assert_int_equal(fx.count, 0);
    build_fini(&b);
    build_begin(&b, LOCH_RM_XLOG, 0xB0, 0);
    build_block(&b, 0, rel, LOCH_FORK_MAIN, 1, 0, image, true);
    build_block(&b, 1, rel, LOCH_FORK_MAIN, 2, 0x80, image, true);
    derive(NULL, 0);
    assert_int_equal(fx.count, 2);
    check_page(1, LOCH_FORK_MAIN, 2, true);
}

static void test_unsupported(void **state)
{
    static const uint8_t ops[][2] = {{128, 0},
                                     {200, 0x10},
                                     {LOCH_RM_XACT, 0x70},
                                     {LOCH_RM_CLOG, 0x20},
                                     {LOCH_RM_XLOG, 0xC0},
                                     {LOCH_RM_DBASE, 0x30},
                                     {LOCH_RM_RELMAP, 0x10},
                                     {LOCH_RM_SMGR, 0x30}};
    static const uint8_t d[32];

    (void)state;
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        build_fini(&b);
        build_begin(&b, ops[i][0], ops[i][1], 0);
        assert_ok(loch_wal_record_decode(build_end(&b, d, sizeof d), &rec));
        assert_code(loch_effects_derive(&fx, &rec, 1, &control), LOCH_E_UNSUPPORTED);
    }
}

/* Any bytes at all: an answer, never an overrun (with ASan this bites). */
static void test_random_records(void **state)
{
    (void)state;
    srandom(7);
    for (int i = 0; i < 20000; i++) {
        size_t len = 26 + (size_t)random() % 120;
        uint8_t *bytes = malloc(len);
        for (size_t k = 0; k < len; k++)
            bytes[k] = (uint8_t)(random() % 4 == 0 ? random() : random() % 8);
        loch_put_u32(bytes, (uint32_t)len);
        bytes[17] = (uint8_t)(random() % 22);
        if (random() % 2 == 0) { /* main data only */
            bytes[24] = 255;
            bytes[25] = (uint8_t)(len - 26);
        }
        if (loch_is_ok(loch_wal_record_decode(loch_slice_of(bytes, len), &rec))) {
            loch_status st = loch_effects_derive(&fx, &rec, 8, &control);
            for (size_t k = 0; loch_is_ok(st) && k < fx.count; k++) {
                uint8_t page[8192] = {0};
                if (fx.items[k].kind == LOCH_EFFECT_SLRU_OP)
                    assert_ok(loch_slru_apply(fx.items[k].slru.op, page));
                if (fx.items[k].kind == LOCH_EFFECT_VM_OP)
                    assert_ok(loch_vm_apply(fx.items[k].vm.op, 8, page));
            }
            st = loch_control_follow(&control, &rec, 8, 16, NULL);
            (void)st;
        }
        free(bytes);
    }
    memset(&b, 0, sizeof b);
}

int main(void)
{
#define T(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_decode),
        T(test_a_page_named_twice),
        T(test_holes),
        T(test_heap_update_clears),
        T(test_heap_registered_vm),
        T(test_heap_lock_and_visible),
        T(test_commit),
        T(test_prepare_with_origin),
        T(test_multixact_wraps),
        T(test_multixact_truncate),
        T(test_truncate),
        T(test_commit_ts_switch),
        T(test_hints_and_images),
        T(test_unsupported),
        T(test_random_records),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
