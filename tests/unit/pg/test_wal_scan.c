/* The scanner: boundaries for every chunking, whole records, corruption, awkward places. */
#include "../unit.h"

#include <stdlib.h>

#include "wal_writer.h"

static struct wal_writer w;

/* Records of all sizes around the page size, over segment borders, with switches between. */
static void write_varied(loch_lsn at)
{
    static const uint32_t lens[] = {24, 26,   50,    113, 8000,  8168, 8169,
                                    30, 8192, 16400, 24,  70000, 31,   25};

    writer_init(&w, at, at - 64);
    for (uint32_t i = 0; i < 200; i++) {
        if (i % 67 == 66)
            writer_record(&w, 0, 0x40, 0, 24, NULL);
        else
            writer_record(&w, (uint8_t)(9 + i % 3), 0, i, lens[(i * 5 + i / 14) % 14], NULL);
    }
}

static void scan_in_chunks(enum loch_wal_scan_mode mode, size_t chunk)
{
    struct loch_wal_scan scan;
    size_t n = 0, at = 0;

    assert_ok(loch_wal_scan_init(&scan, mode, w.begin,
                                 w.starts[0] == w.begin ? w.begin - 64 : w.begin - 64,
                                 WRITER_SEGMENT));
    while (at < w.bytes.len) {
        size_t len = chunk < w.bytes.len - at ? chunk : w.bytes.len - at;
        /* An allocation of its own, so that reads beyond the chunk show under ASan. */
        uint8_t *copy = malloc(len);
        struct loch_slice in = loch_slice_of(copy, len);
        memcpy(copy, w.bytes.data + at, len);
        while (in.len > 0) {
            struct loch_wal_span span;
            bool found;
            assert_ok(loch_wal_scan_next(&scan, &in, &found, &span));
            assert_true(scan.position >= scan.last_end);
            if (!found)
                continue;
            assert_int_equal(span.start, w.starts[n]);
            assert_int_equal(span.end, w.ends[n]);
            assert_int_equal(span.bytes.len, mode == LOCH_WAL_SCAN_RECORDS ? w.lens[n] : 24);
            assert_int_equal(loch_get_u32(span.bytes.data), w.lens[n]);
            if (mode == LOCH_WAL_SCAN_RECORDS && w.lens[n] > 24)
                for (uint32_t i = 24; i < w.lens[n]; i++)
                    if (span.bytes.data[i] != (uint8_t)(i * 7 + loch_get_u32(span.bytes.data + 4)))
                        fail_msg("record %zu byte %u", n, i);
            n++;
        }
        free(copy);
        at += len;
    }
    assert_int_equal(n, w.count);
    assert_int_equal(scan.last_start, w.starts[w.count - 1]);
    assert_int_equal(scan.last_end, w.at);
    assert_int_equal(scan.records, w.count);
    loch_wal_scan_fini(&scan);
}

static void test_chunkings(void **state)
{
    static const size_t chunks[] = {1, 3, 8, 24, 25, 40, 4096, 8191, 8192, 8193, 131072, SIZE_MAX};

    (void)state;
    write_varied(0x1000000);
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        scan_in_chunks(LOCH_WAL_SCAN_BOUNDARIES, chunks[i]);
        scan_in_chunks(LOCH_WAL_SCAN_RECORDS, chunks[i]);
    }
    writer_fini(&w);
}

static void test_starts_anywhere(void **state)
{
    struct loch_wal_scan scan;

    (void)state;
    write_varied(0x1000000 + 4 * 8192);
    for (size_t i = 0; i < w.count; i++) {
        assert_ok(loch_wal_scan_init(&scan, LOCH_WAL_SCAN_BOUNDARIES, w.ends[i], w.starts[i],
                                     WRITER_SEGMENT));
        assert_ok(
            loch_wal_scan_feed(&scan, loch_slice_of(w.bytes.data + (w.ends[i] - w.begin),
                                                    w.bytes.len - (size_t)(w.ends[i] - w.begin))));
        assert_int_equal(scan.records, w.count - 1 - i);
        loch_wal_scan_fini(&scan);
    }
    /* A wrong predecessor is noticed. */
    assert_ok(loch_wal_scan_init(&scan, LOCH_WAL_SCAN_BOUNDARIES, w.ends[3], w.starts[2],
                                 WRITER_SEGMENT));
    assert_code(
        loch_wal_scan_feed(&scan, loch_slice_of(w.bytes.data + (w.ends[3] - w.begin), 9000)),
        LOCH_E_CORRUPT);
    assert_int_equal(scan.last_end, w.ends[3]);
    loch_wal_scan_fini(&scan);
    writer_fini(&w);
}

static void test_no_boundaries(void **state)
{
    static const loch_lsn bad[] = {0,         4,         0x1000004, 0x1000008,
                                   0x1000020, 0x1002008, 0x1002010, UINT64_MAX - 7};
    struct loch_wal_scan scan;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_code(loch_wal_scan_init(&scan, LOCH_WAL_SCAN_BOUNDARIES, bad[i], 0, WRITER_SEGMENT),
                    LOCH_E_INVALID);
    assert_code(
        loch_wal_scan_init(&scan, LOCH_WAL_SCAN_BOUNDARIES, 0x1000028, 0x1000028, WRITER_SEGMENT),
        LOCH_E_INVALID);
    assert_code(loch_wal_scan_init(&scan, LOCH_WAL_SCAN_BOUNDARIES, 0x1000028, 0, 3u << 20),
                LOCH_E_INVALID);
    assert_ok(loch_wal_scan_init(&scan, LOCH_WAL_SCAN_BOUNDARIES, 0x1000028, 0, WRITER_SEGMENT));
    loch_wal_scan_fini(&scan);
}

/* Every bit outside padding matters, in a stretch with page and segment borders. */
static void test_flips(void **state)
{
    uint64_t missed = 0;

    (void)state;
    writer_init(&w, 0x10FC000, 0x10FBFC0);
    for (uint32_t i = 0; i < 60; i++)
        writer_record(&w, 10, 0, i, i % 7 == 3 ? 9001 : 64, NULL);
    for (size_t bit = 0; bit < w.bytes.len * 8; bit += 13) {
        struct loch_wal_scan scan;
        loch_status st;

        w.bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_ok(loch_wal_scan_init(&scan, LOCH_WAL_SCAN_BOUNDARIES, w.begin, 0x10FBFC0,
                                     WRITER_SEGMENT));
        st = loch_wal_scan_feed(&scan, loch_buf_slice(&w.bytes));
        missed += loch_is_ok(st) && scan.last_end == w.at;
        loch_wal_scan_fini(&scan);
        w.bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    /* tli, sysid and padding are not covered: a few bits of each page header and record end. */
    assert_in_range(missed, 0, w.bytes.len * 8 / 13 / 50);
    writer_fini(&w);
}

static void test_end_of_wal(void **state)
{
    static const uint8_t zeros[64];
    struct loch_wal_scan scan;
    struct loch_slice in;
    struct loch_wal_span span;
    bool found = true;

    (void)state;
    writer_init(&w, 0x1000000, 0);
    writer_record(&w, 10, 0, 5, 64, NULL);
    assert_ok(loch_buf_append(&w.bytes, zeros, sizeof zeros));
    in = loch_buf_slice(&w.bytes);
    assert_ok(loch_wal_scan_init(&scan, LOCH_WAL_SCAN_RECORDS, w.begin, 0, WRITER_SEGMENT));
    assert_ok(loch_wal_scan_next(&scan, &in, &found, &span));
    assert_true(found);
    assert_ok(loch_wal_scan_next(&scan, &in, &found, &span));
    assert_false(found);
    assert_true(scan.ended);
    assert_int_equal(scan.last_end, w.ends[0]);
    loch_wal_scan_fini(&scan);
    /* In a stream it is an error, and stays one. */
    assert_ok(loch_wal_scan_init(&scan, LOCH_WAL_SCAN_BOUNDARIES, w.begin, 0, WRITER_SEGMENT));
    assert_code(loch_wal_scan_feed(&scan, loch_buf_slice(&w.bytes)), LOCH_E_CORRUPT);
    assert_int_equal(scan.last_end, w.ends[0]);
    assert_code(loch_wal_scan_feed(&scan, loch_slice_of(zeros, 1)), LOCH_E_CORRUPT);
    loch_wal_scan_fini(&scan);
    writer_fini(&w);
}

/* A crash left a record half written; the next server overwrites its continuation. */
static void test_overwritten_contrecord(void **state)
{
    struct loch_wal_scan scan;
    loch_lsn prev;
    size_t cut;

    (void)state;
    writer_init(&w, 0x1000000, 0);
    writer_record(&w, 10, 0, 1, 8000, NULL);
    prev = w.prev;
    writer_record(&w, 10, 0, 2, 9000, NULL);
    cut = 8192;
    w.bytes.len = cut;
    w.at = w.begin + cut;
    w.prev = prev;
    w.count = 1;
    writer_header(&w, 8, 0);
    writer_record(&w, 0, 0xD0, 0, 42, NULL);
    writer_record(&w, 10, 0, 3, 100, NULL);
    assert_ok(loch_wal_scan_init(&scan, LOCH_WAL_SCAN_RECORDS, w.begin, 0, WRITER_SEGMENT));
    assert_ok(loch_wal_scan_feed(&scan, loch_buf_slice(&w.bytes)));
    assert_int_equal(scan.records, 3);
    assert_int_equal(scan.last_end, w.at);
    loch_wal_scan_fini(&scan);
    writer_fini(&w);
}

/* A length that promises a gigabyte costs nothing until its bytes come. */
static void test_long_promise(void **state)
{
    uint8_t page[8192] = {0};
    struct loch_wal_scan scan;

    (void)state;
    writer_init(&w, 0x1002000, 0x1001000);
    writer_header(&w, 0, 0);
    memcpy(page, w.bytes.data, 24);
    loch_put_u32(page + 24, LOCH_WAL_RECORD_MAX_BYTES);
    loch_put_u64(page + 32, 0x1001000);
    page[24 + 17] = 10;
    assert_ok(
        loch_wal_scan_init(&scan, LOCH_WAL_SCAN_RECORDS, 0x1002000, 0x1001000, WRITER_SEGMENT));
    assert_ok(loch_wal_scan_feed(&scan, loch_slice_of(page, sizeof page)));
    assert_in_range(scan.whole.cap, 8168, 65536);
    loch_wal_scan_fini(&scan);
    loch_put_u32(page + 24, LOCH_WAL_RECORD_MAX_BYTES + 1);
    assert_ok(
        loch_wal_scan_init(&scan, LOCH_WAL_SCAN_RECORDS, 0x1002000, 0x1001000, WRITER_SEGMENT));
    assert_code(loch_wal_scan_feed(&scan, loch_slice_of(page, sizeof page)), LOCH_E_CORRUPT);
    loch_wal_scan_fini(&scan);
    writer_fini(&w);
}

/* Lengths near 2^32, whose rounding up would wrap, and all others out of range. */
static void test_wrong_lengths(void **state)
{
    static const uint32_t lens[] = {
        1, 23, LOCH_WAL_RECORD_MAX_BYTES + 1, 0x80000000, 0xFFFFFFF8, 0xFFFFFFF9, 0xFFFFFFFF};
    uint8_t page[8192] = {0};
    struct loch_wal_scan scan;

    (void)state;
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++)
        for (size_t chunk = 3; chunk < 100; chunk += 50) {
            loch_status st;
            loch_put_u32(page, lens[i]);
            assert_ok(
                loch_wal_scan_init(&scan, LOCH_WAL_SCAN_RECORDS, 0x1002018, 0, WRITER_SEGMENT));
            st = loch_wal_scan_feed(&scan, loch_slice_of(page, chunk));
            if (loch_is_ok(st))
                st = loch_wal_scan_feed(&scan, loch_slice_of(page + chunk, 2000));
            assert_code(st, LOCH_E_CORRUPT);
            assert_int_equal(scan.last_end, 0x1002018);
            loch_wal_scan_fini(&scan);
        }
}

static void test_names_and_positions(void **state)
{
    char name[LOCH_WAL_SEGMENT_NAME_BYTES];

    (void)state;
    loch_wal_segment_name(1, 1, 16u << 20, name);
    assert_string_equal(name, "000000010000000000000001");
    loch_wal_segment_name(0xAB, 0x1234567, 16u << 20, name);
    assert_string_equal(name, "000000AB0001234500000067");
    assert_int_equal(loch_wal_record_position(0x1000000, WRITER_SEGMENT), 0x1000028);
    assert_int_equal(loch_wal_record_position(0x1002000, WRITER_SEGMENT), 0x1002018);
    assert_int_equal(loch_wal_record_position(0x1002020, WRITER_SEGMENT), 0x1002020);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunkings),     cmocka_unit_test(test_starts_anywhere),
        cmocka_unit_test(test_no_boundaries), cmocka_unit_test(test_flips),
        cmocka_unit_test(test_end_of_wal),    cmocka_unit_test(test_overwritten_contrecord),
        cmocka_unit_test(test_long_promise),  cmocka_unit_test(test_names_and_positions),
        cmocka_unit_test(test_wrong_lengths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
