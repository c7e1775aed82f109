/* SLRU and VM pages, the control machine, checkpoints, maps, keys, page headers, the seam. */
#include "../unit.h"

#include <stdlib.h>

#include "loch/pg/checkpoint.h"
#include "loch/pg/control.h"
#include "loch/pg/key.h"
#include "loch/pg/page.h"
#include "loch/pg/relmap.h"
#include "loch/pg/seam.h"
#include "loch/pg/slru.h"
#include "loch/pg/vm.h"

#define SNAPSHOT_CRC 0xCB28F0DB

static void test_slru_ops(void **state)
{
    uint8_t page[8192];
    const uint8_t status[] = {0x11, 2, 5, 0, 6, 0};
    const uint8_t bad[][5] = {
        {0x10, 1}, {0x11, 4, 0, 0}, {0x11, 1, 0, 0x80}, {0x12, 0, 8, 0, 0}, {0x15}};

    (void)state;
    memset(page, 0xFF, sizeof page);
    assert_ok(loch_slru_apply(loch_slice_of("\x10", 1), page));
    assert_true(loch_page_is_zero(page));
    assert_ok(loch_slru_apply(loch_slice_of(status, sizeof status), page));
    assert_int_equal(loch_xact_page_status(page, 32768 * 3 + 5), LOCH_XACT_ABORTED);
    assert_int_equal(loch_xact_page_status(page, 6), LOCH_XACT_ABORTED);
    assert_int_equal(loch_xact_page_status(page, 7), LOCH_XACT_IN_PROGRESS);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_code(loch_slru_apply(loch_slice_of(bad[i], i == 0   ? 2
                                                          : i == 4 ? 1
                                                          : i == 3 ? 5
                                                                   : 4),
                                    page),
                    LOCH_E_CORRUPT);
    assert_code(loch_slru_apply(loch_slice_of(NULL, 0), page), LOCH_E_CORRUPT);
}

static void test_slru_cuts(void **state)
{
    (void)state;
    for (uint8_t s = LOCH_SLRU_XACT; s <= LOCH_SLRU_COMMIT_TS; s++) {
        /* Whole files only: that of the cut stays. */
        assert_true(loch_slru_page_is_cut(s, 31, 32));
        assert_true(loch_slru_page_is_cut(s, 0, 40));
        assert_false(loch_slru_page_is_cut(s, 31, 31));
        assert_false(loch_slru_page_is_cut(s, 32, 40));
        assert_false(loch_slru_page_is_cut(s, 64, 40));
    }
    /* Around the circle. */
    assert_true(loch_slru_page_is_cut(LOCH_SLRU_XACT, 131071, 3));
    assert_false(loch_slru_page_is_cut(LOCH_SLRU_XACT, 3, 131071));
    assert_true(loch_slru_page_is_cut(LOCH_SLRU_MULTI_OFFSETS, 2097151, 3));
    assert_true(loch_slru_page_is_cut(LOCH_SLRU_MULTI_MEMBERS, 2625285, 3));
    /* PostgreSQL keeps the last file of commit timestamps, which ends beyond the circle. */
    assert_false(loch_slru_page_is_cut(LOCH_SLRU_COMMIT_TS, 5244160, 3));
    assert_true(loch_slru_page_is_cut(LOCH_SLRU_COMMIT_TS, 5244159, 3));
}

#define LAST_MEMBER_PAGE 2625285u /* of offset 2^32 - 1; its file is 82040 */

static void test_member_ranges(void **state)
{
    /* more than half of the circle is in use: what lies half a circle before the end stays */
    const struct loch_slru_cut one = {.page = 70, .ranged = true, .start = 33};
    const struct loch_slru_cut wrap = {.page = 40, .ranged = true, .start = 82039u * 32 + 5};
    const struct loch_slru_cut none = {.page = 63, .ranged = true, .start = 32};
    const uint8_t s = LOCH_SLRU_MULTI_MEMBERS;

    (void)state;
    assert_false(loch_slru_cut_hides(s, &one, 31));
    assert_true(loch_slru_cut_hides(s, &one, 32)); /* by files */
    assert_true(loch_slru_cut_hides(s, &one, 63));
    assert_false(loch_slru_cut_hides(s, &one, 64));
    assert_false(loch_slru_cut_hides(s, &one, 0));
    assert_false(loch_slru_cut_hides(s, &one, LAST_MEMBER_PAGE));
    assert_false(loch_slru_cut_hides(s, &one, LAST_MEMBER_PAGE / 2 + 100));
    assert_true(loch_slru_page_is_cut(s, LAST_MEMBER_PAGE / 2 + 100, 70)); /* as it was before */
    assert_true(loch_slru_cut_hides(s, &wrap, 82039u * 32));
    assert_true(loch_slru_cut_hides(s, &wrap, LAST_MEMBER_PAGE));
    assert_true(loch_slru_cut_hides(s, &wrap, 0));
    assert_true(loch_slru_cut_hides(s, &wrap, 31));
    assert_false(loch_slru_cut_hides(s, &wrap, 32));
    assert_false(loch_slru_cut_hides(s, &wrap, 82039u * 32 - 1));
    assert_true(loch_slru_range_is_empty(32, 63));
    assert_false(loch_slru_range_is_empty(63, 64));
    for (uint32_t page = 0; page <= LAST_MEMBER_PAGE; page += 31)
        assert_false(loch_slru_cut_hides(s, &none, page));
}

static void test_slru_cut_values(void **state)
{
    static const uint8_t ranged[] = {4, 3, 2, 1, 0, 8, 7, 6, 5};
    static const uint8_t before[] = {40, 0, 0, 0, 0}, all[] = {0, 0, 0, 0, 1};
    struct loch_slru_cut cut = {0};
    uint8_t out[LOCH_SLRU_CUT_BYTES];

    (void)state;
    assert_ok(loch_slru_cut_decode(loch_slice_of(ranged, sizeof ranged), &cut));
    assert_true(cut.ranged && !cut.all);
    assert_int_equal(cut.page, 0x01020304);
    assert_int_equal(cut.start, 0x05060708);
    assert_int_equal(loch_slru_cut_encode(&cut, out), sizeof ranged);
    assert_memory_equal(out, ranged, sizeof ranged);
    assert_ok(loch_slru_cut_decode(loch_slice_of(before, sizeof before), &cut));
    assert_false(cut.ranged || cut.all);
    assert_true(loch_slru_cut_hides(LOCH_SLRU_MULTI_MEMBERS, &cut, 31)); /* as values of old do */
    assert_false(loch_slru_cut_hides(LOCH_SLRU_MULTI_MEMBERS, &cut, 32));
    assert_int_equal(loch_slru_cut_encode(&cut, out), sizeof before);
    assert_ok(loch_slru_cut_decode(loch_slice_of(all, sizeof all), &cut));
    assert_true(loch_slru_cut_hides(LOCH_SLRU_COMMIT_TS, &cut, 77777));
    assert_int_equal(loch_slru_cut_encode(&cut, out), sizeof all);
    assert_memory_equal(out, all, sizeof all);
    for (size_t len = 0; len < sizeof ranged; len++)
        if (len != 5)
            assert_code(loch_slru_cut_decode(loch_slice_of(ranged, len), &cut), LOCH_E_CORRUPT);
}

static void vm_op(uint8_t *page, uint8_t kind, uint32_t block, uint8_t bits, loch_lsn lsn)
{
    uint8_t op[6] = {kind};

    loch_put_u32(op + 1, block);
    op[5] = bits;
    assert_ok(loch_vm_apply(loch_slice_of(op, kind == LOCH_VM_TRUNCATE ? 5 : 6), lsn, page));
}

static void test_vm_ops(void **state)
{
    uint8_t page[8192] = {0};

    (void)state;
    vm_op(page, LOCH_VM_CLEAR, 3, 3, 5);
    assert_true(loch_page_is_zero(page));
    vm_op(page, LOCH_VM_SET, 32672 + 5, 3, 0x77);
    assert_true(loch_page_is_plausible(page));
    assert_int_equal(loch_page_lsn(page), 0x77);
    assert_int_equal(page[24 + 1], 0x0C);
    vm_op(page, LOCH_VM_SET, 32672 + 5, 3, 0x78); /* nothing new: the LSN stays */
    assert_int_equal(loch_page_lsn(page), 0x77);
    vm_op(page, LOCH_VM_CLEAR, 5, 2, 0x79);
    assert_int_equal(page[24 + 1], 0x04);
    assert_int_equal(loch_page_lsn(page), 0x77);
    vm_op(page, LOCH_VM_CLEAR_LSN, 5, 3, 0x80);
    assert_int_equal(page[24 + 1], 0);
    assert_int_equal(loch_page_lsn(page), 0x80);
    memset(page + 24, 0xFF, 8192 - 24);
    vm_op(page, LOCH_VM_TRUNCATE, 6, 0, 0x81);
    assert_int_equal(page[24], 0xFF);
    assert_int_equal(page[25], 0x0F);
    assert_int_equal(page[26], 0);
    assert_int_equal(page[8191], 0);
    memset(page + 24, 0xFF, 8192 - 24);
    vm_op(page, LOCH_VM_TRUNCATE, 32671, 0, 0x81);
    assert_int_equal(page[8191], 0x3F);
    assert_code(loch_vm_apply(loch_slice_of("\x02\0\0\0\0\4", 6), 1, page), LOCH_E_CORRUPT);
    assert_code(loch_vm_apply(loch_slice_of("\x09\0\0\0\0\1", 6), 1, page), LOCH_E_CORRUPT);
    assert_code(loch_vm_apply(loch_slice_of("\x02", 1), 1, page), LOCH_E_CORRUPT);
}

static void test_tails(void **state)
{
    (void)state;
    assert_int_equal(loch_vm_blocks_after_truncate(0), 0);
    assert_int_equal(loch_vm_blocks_after_truncate(1), 1);
    assert_int_equal(loch_vm_blocks_after_truncate(32672), 1);
    assert_int_equal(loch_vm_blocks_after_truncate(32673), 2);
    assert_int_equal(loch_fsm_blocks_after_truncate(0), 0);
    assert_int_equal(loch_fsm_blocks_after_truncate(1), 2);
    assert_int_equal(loch_fsm_blocks_after_truncate(4069), 3);
    assert_int_equal(loch_fsm_blocks_after_truncate(4069 * 4069), 4069 + 2 + 1);
}

static struct loch_control sample(void)
{
    struct loch_control c;

    memset(&c, 0, sizeof c);
    c.system_id = 0x123456789ABCDEF0;
    c.state = LOCH_DB_IN_PRODUCTION;
    c.checkpoint_lsn = 0x1000028;
    c.checkpoint.redo = 0x1000028;
    c.checkpoint.tli = c.checkpoint.prev_tli = 1;
    c.checkpoint.next_xid = 735;
    c.checkpoint.next_oid = 16384;
    c.checkpoint.next_multi = 1;
    c.checkpoint.oldest_xid = 716;
    c.checkpoint.oldest_multi = 1;
    c.unlogged_lsn = 1000;
    c.parameters.max_connections = 100;
    c.segment_bytes = 1u << 20;
    memset(c.nonce, 0x5A, sizeof c.nonce);
    return c;
}

static void test_control_codec(void **state)
{
    uint8_t file[LOCH_PG_CONTROL_FILE_BYTES];
    struct loch_control c = sample(), d;
    struct loch_buf buf = {0};

    (void)state;
    c.last_start = 7;
    c.last_end = 8;
    assert_ok(loch_control_encode(&c, &buf));
    assert_ok(loch_control_decode(loch_buf_slice(&buf), &d));
    assert_int_equal(d.last_start, 7);
    assert_int_equal(d.last_end, 8);
    assert_int_equal(d.checkpoint.next_xid, 735);
    buf.data[60] ^= 1;
    assert_code(loch_control_decode(loch_buf_slice(&buf), &d), LOCH_E_CORRUPT);
    assert_code(loch_control_decode(loch_slice_of(buf.data, buf.len - 1), &d), LOCH_E_CORRUPT);
    loch_buf_fini(&buf);

    loch_control_format(&c, file);
    assert_ok(loch_control_parse(loch_slice_of(file, sizeof file), &d));
    assert_int_equal(d.system_id, c.system_id);
    assert_int_equal(d.unlogged_lsn, 1000);
    assert_int_equal(d.parameters.max_connections, 100);
    assert_memory_equal(d.nonce, c.nonce, sizeof c.nonce);
    file[8]++;
    assert_code(loch_control_parse(loch_slice_of(file, sizeof file), &d), LOCH_E_UNSUPPORTED);
    file[8]--;
    file[100]++;
    assert_code(loch_control_parse(loch_slice_of(file, sizeof file), &d), LOCH_E_CORRUPT);
    assert_code(loch_control_parse(loch_slice_of(file, 100), &d), LOCH_E_CORRUPT);
}

static void follow(struct loch_control *c, uint8_t rmid, uint8_t info, uint32_t xid,
                   const void *data, size_t len, bool expect_change)
{
    struct loch_wal_record r = {.xid = xid, .info = info, .rmid = rmid, .main_data = {data, len}};
    bool changed = !expect_change;

    assert_ok(loch_control_follow(c, &r, c->last_end + 8, c->last_end + 64, &changed));
    assert_int_equal(changed, expect_change);
}

static void test_control_follow(void **state)
{
    struct loch_control c = sample();
    uint8_t multi[20] = {0}, oid[4], params[28] = {0}, running[24] = {0};
    struct loch_wal_record r = {.rmid = 130};

    (void)state;
    follow(&c, LOCH_RM_HEAP, 0, 734, NULL, 0, false);
    follow(&c, LOCH_RM_HEAP, 0, 0, NULL, 0, false);
    follow(&c, LOCH_RM_HEAP, 0, 735, NULL, 0, true);
    assert_int_equal(c.checkpoint.next_xid, 736);
    loch_put_u32(oid, 24576);
    follow(&c, LOCH_RM_XLOG, 0x30, 0, oid, 4, true);
    assert_int_equal(c.checkpoint.next_oid, 24576);
    loch_put_u32(multi, 4);
    loch_put_u32(multi + 4, 10);
    loch_put_u32(multi + 8, 1);
    loch_put_u32(multi + 12, 800);
    follow(&c, LOCH_RM_MULTIXACT, 0x20, 0, multi, 20, true);
    assert_int_equal(c.checkpoint.next_multi, 5);
    assert_int_equal(c.checkpoint.next_multi_offset, 11);
    assert_int_equal(c.checkpoint.next_xid, 801);
    params[25] = 1;
    follow(&c, LOCH_RM_XLOG, 0x60, 0, params, 28, true);
    assert_int_equal(c.checkpoint.oldest_commit_ts_xid, 801);
    loch_put_u32(running + 12, 900);
    follow(&c, LOCH_RM_STANDBY, 0x10, 0, running, 24, true);
    assert_int_equal(c.checkpoint.next_xid, 900);
    /* Around the wrap: xid 3 after the last one, the epoch goes up. */
    c.checkpoint.next_xid = 0xFFFFFFFF;
    follow(&c, LOCH_RM_HEAP, 0, 0xFFFFFFFF, NULL, 0, true);
    assert_int_equal(c.checkpoint.next_xid, UINT64_C(0x100000003));
    follow(&c, LOCH_RM_HEAP, 0, 0xFFFFFFF0, NULL, 0, false);
    assert_int_equal(c.checkpoint.next_xid, UINT64_C(0x100000003));
    {
        struct loch_control before = c;
        assert_code(loch_control_follow(&c, &r, 1, 2, NULL), LOCH_E_UNSUPPORTED);
        r = (struct loch_wal_record){.rmid = LOCH_RM_XLOG, .info = 0x30};
        assert_code(loch_control_follow(&c, &r, 1, 2, NULL), LOCH_E_CORRUPT);
        assert_memory_equal(&before.checkpoint, &c.checkpoint, sizeof c.checkpoint);
        assert_int_equal(before.last_end, c.last_end);
    }
}

/* Every 8-aligned place around page and segment borders: the scanner reads what was made. */
static void test_synthetic_everywhere(void **state)
{
    struct loch_synthetic_checkpoint *s = malloc(sizeof *s);
    struct loch_control c = sample(), parsed;

    (void)state;
    for (loch_lsn lsn = 0x10FA000; lsn <= 0x1104000; lsn += 8) {
        uint8_t stream[LOCH_CHECKPOINT_MAX_STREAM_BYTES];
        struct loch_wal_scan scan;
        struct loch_slice in;
        struct loch_wal_span span;
        struct loch_checkpoint cp;
        struct loch_wal_record record;
        uint32_t in_page = (uint32_t)(lsn % 8192);
        bool found;

        if (in_page != 0 && in_page < loch_wal_page_header_bytes(lsn - in_page, 1u << 20)) {
            assert_code(loch_checkpoint_synthesize(&c, lsn, lsn - 64, 1, 5, s), LOCH_E_INVALID);
            continue;
        }
        assert_ok(loch_checkpoint_synthesize(&c, lsn, 0x10F0000, 1, 5, s));
        in = loch_slice_of(stream, loch_checkpoint_stream(s, lsn, stream));
        assert_int_equal(in.len, s->end - lsn);
        assert_ok(loch_wal_scan_init(&scan, LOCH_WAL_SCAN_RECORDS, lsn, 0x10F0000, 1u << 20));
        assert_ok(loch_wal_scan_next(&scan, &in, &found, &span));
        assert_true(found);
        assert_int_equal(span.start, s->location);
        assert_int_equal(span.end, s->end);
        assert_int_equal(in.len, 0);
        assert_ok(loch_wal_record_decode(span.bytes, &record));
        assert_ok(loch_checkpoint_parse(record.main_data, &cp));
        assert_int_equal(cp.redo, s->location);
        assert_int_equal(cp.next_xid, 735);
        loch_wal_scan_fini(&scan);
        assert_ok(loch_control_parse(loch_slice_of(s->pg_control, sizeof s->pg_control), &parsed));
        assert_int_equal(parsed.state, LOCH_DB_SHUTDOWNED);
        assert_int_equal(parsed.checkpoint_lsn, s->location);
        assert_int_equal(parsed.unlogged_lsn, 1000);
        assert_int_equal(s->segment_count, (s->end - 1) / (1u << 20) - lsn / (1u << 20) + 1);
        for (uint32_t i = 1; i < s->page_count; i++)
            assert_true(s->pages[i].lsn > s->pages[i - 1].lsn);
        assert_int_equal(s->pages[0].lsn % (1u << 20), 0);
    }
    assert_code(loch_checkpoint_synthesize(&c, 0x1004028, 0, 1, 5, s), LOCH_E_INVALID);
    free(s);
}

static void test_relmap(void **state)
{
    struct loch_relmap map = {.count = 2, .maps = {{1259, 1259}, {1249, 16400}}}, back;
    uint8_t file[LOCH_RELMAP_BYTES];
    uint32_t node = 0;

    (void)state;
    loch_relmap_format(&map, file);
    assert_ok(loch_relmap_parse(loch_slice_of(file, sizeof file), &back));
    assert_true(loch_relmap_find(&back, 1249, &node));
    assert_int_equal(node, 16400);
    assert_false(loch_relmap_find(&back, 1, &node));
    file[9]++;
    assert_code(loch_relmap_parse(loch_slice_of(file, sizeof file), &back), LOCH_E_CORRUPT);
    assert_code(loch_relmap_parse(loch_slice_of(file, 511), &back), LOCH_E_CORRUPT);
}

static void test_keys(void **state)
{
    const struct loch_key keys[] = {{LOCH_KEY_PAGE, 0, 1663, 5, 255, 7},
                                    {LOCH_KEY_PAGE, 0, 1663, 5, 256, 0},
                                    {LOCH_KEY_PAGE, 2, 1663, 5, 256, 0},
                                    {LOCH_KEY_PAGE, 2, 1663, 5, 256, UINT32_MAX},
                                    {LOCH_KEY_REL_SIZE, 0, 0, 0, 0, 0}};
    uint8_t a[LOCH_KEY_BYTES], b[LOCH_KEY_BYTES];
    struct loch_key back;

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        loch_key_encode(&keys[i], a);
        assert_ok(loch_key_decode(a, &back));
        assert_int_equal(loch_key_compare(&back, &keys[i]), 0);
        if (i > 0) {
            loch_key_encode(&keys[i - 1], b);
            assert_true(memcmp(b, a, sizeof a) < 0);
            assert_true(loch_key_compare(&keys[i - 1], &keys[i]) < 0);
        }
    }
    a[0] = 0;
    assert_code(loch_key_decode(a, &back), LOCH_E_CORRUPT);
    a[0] = 1, a[13] = 4;
    assert_code(loch_key_decode(a, &back), LOCH_E_CORRUPT);
}

static void test_page_header(void **state)
{
    uint8_t page[8192] = {0};

    (void)state;
    assert_true(loch_page_is_new(page) && loch_page_is_zero(page) && loch_page_is_plausible(page));
    page[9000 % 8192] = 1;
    assert_false(loch_page_is_zero(page));
    assert_false(loch_page_is_plausible(page));
    loch_page_init(page, 10);
    assert_true(loch_page_is_plausible(page));
    assert_int_equal(loch_get_u16(page + 16), 8176);
    loch_page_set_lsn(page, 0x123456789A);
    assert_int_equal(loch_page_lsn(page), 0x123456789A);
    assert_int_equal(loch_get_u32(page), 0x12);
    loch_page_set_checksum(page, 0xBEEF);
    assert_int_equal(loch_page_checksum(page), 0xBEEF);
    loch_put_u16(page + 12, 9000);
    assert_false(loch_page_is_plausible(page));
}

/* A table of this program's own, as smgrsw[] is the server's: relocated, then made read-only. */
static void one(void)
{
}
static void two(void)
{
}
static void three(void)
{
}
typedef void (*fn)(void);
static const struct {
    fn a, b, c, d;
} table = {one, NULL, two, one};
/* Read through this, so that the compiler does not know what is in it. */
static const fn *volatile table_words = &table.a;

static void test_seam(void **state)
{
    union {
        fn f;
        const void *p;
    } x1 = {.f = one}, x2 = {.f = two}, x3 = {.f = three};
    const void *wanted[] = {x1.p, NULL, x2.p, x1.p};
    const void *absent[] = {x1.p, NULL, x3.p};
    const void *other[] = {x3.p};
    void **found = NULL;
    loch_status st;

    (void)state;
    st = loch_seam_find(wanted, 4, &found);
    assert_ok(st);
    assert_true((const void *)found == (const void *)&table);
    assert_code(loch_seam_find(absent, 3, &found), LOCH_E_NOT_FOUND);
    assert_code(loch_seam_find(NULL, 0, &found), LOCH_E_INVALID);
    assert_ok(loch_seam_write(found + 2, other, 1));
    assert_true(((const volatile fn *)table_words)[2] == three);
    assert_code(loch_seam_find(wanted, 4, &found), LOCH_E_NOT_FOUND);
}

/* Golden forms: what is on disk never changes meaning (docs/format/keys.md). */
static void test_golden(void **state)
{
    static const uint8_t key_bytes[LOCH_KEY_BYTES] = {1, 0, 0,    6, 0x7F, 0, 0, 0, 5,
                                                      0, 0, 0x40, 1, 2,    0, 1, 2, 3};
    const struct loch_key key = {LOCH_KEY_PAGE, LOCH_FORK_VM, 1663, 5, 16385, 0x010203};
    const uint8_t offset[] = {0x12, 2, 0, 0x44, 0x33, 0x22, 0x11};
    const uint8_t member[] = {0x13, 5, 0, 3, 0x78, 0x56, 0x34, 0x12};
    const uint8_t stamp[] = {0x14, 8, 7, 6, 5, 4, 3, 2, 1, 9, 0, 3, 0};
    struct loch_control c = sample();
    struct loch_buf buf = {0};
    uint8_t out[LOCH_KEY_BYTES], page[8192] = {0};

    (void)state;
    loch_key_encode(&key, out);
    assert_memory_equal(out, key_bytes, sizeof out);

    c.last_start = 0x1000028;
    c.last_end = 0x10000A0;
    assert_ok(loch_control_encode(&c, &buf));
    assert_int_equal(buf.len, 316);
    assert_int_equal(loch_get_u32(buf.data), 1);
    assert_int_equal(loch_get_u64(buf.data + 12), 0x10000A0);
    assert_int_equal(loch_get_u32(buf.data + 20 + 288), SNAPSHOT_CRC);
    loch_buf_fini(&buf);

    assert_ok(loch_slru_apply(loch_slice_of(offset, sizeof offset), page));
    assert_int_equal(loch_get_u32(page + 8), 0x11223344);
    memset(page, 0, sizeof page);
    assert_ok(loch_slru_apply(loch_slice_of(member, sizeof member), page));
    assert_int_equal(page[21], 3);
    assert_int_equal(loch_get_u32(page + 20 + 4 + 4), 0x12345678);
    memset(page, 0, sizeof page);
    assert_ok(loch_slru_apply(loch_slice_of(stamp, sizeof stamp), page));
    assert_int_equal(loch_get_u64(page + 30), 0x0102030405060708);
    assert_int_equal(loch_get_u16(page + 38), 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slru_ops),
        cmocka_unit_test(test_slru_cuts),
        cmocka_unit_test(test_member_ranges),
        cmocka_unit_test(test_slru_cut_values),
        cmocka_unit_test(test_vm_ops),
        cmocka_unit_test(test_tails),
        cmocka_unit_test(test_control_codec),
        cmocka_unit_test(test_control_follow),
        cmocka_unit_test(test_synthetic_everywhere),
        cmocka_unit_test(test_relmap),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_page_header),
        cmocka_unit_test(test_seam),
        cmocka_unit_test(test_golden),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
