/* Archived WAL: round trip, place, damage, what the content may not say, golden file. */
#include "format_fixture.h"

#include "loch/format/sealed_object.h"
#include "loch/format/wal_archive.h"

#define BEGIN UINT64_C(0x1800000)

static struct loch_wal_piece piece_of(size_t len)
{
    return (struct loch_wal_piece){.begin = BEGIN,
                                   .end = BEGIN + len,
                                   .system_id = 77,
                                   .pg_version = 150020,
                                   .segment_bytes = 1u << 24};
}

static struct loch_place place_of(loch_lsn begin)
{
    struct loch_place p = fixture_place(LOCH_KIND_WAL_ARCHIVE);
    p.generation = begin;
    return p;
}

static loch_status open_at(const struct loch_place *place, struct fixture_keys *f,
                           struct loch_slice sealed)
{
    const struct loch_key_source source = fixture_source(f);
    struct loch_wal_piece piece = {0};
    struct loch_buf wal = {0};
    const loch_status st = loch_wal_archive_open(place, &source, sealed, &piece, &wal);

    if (!loch_is_ok(st)) {
        assert_int_equal(wal.len, 0);
        assert_int_equal(piece.end, 0);
    }
    loch_buf_fini(&wal);
    return st;
}

static void round_trip(void **state)
{
    const size_t sizes[] = {1, 100, 8192, 300001, 3u << 20};
    struct fixture_keys f;

    (void)state;
    fixture_keys_init(&f, 1);
    for (size_t i = 0; i < 2 * (sizeof sizes / sizeof *sizes); i++) {
        const struct loch_place place = place_of(BEGIN);
        const struct loch_key_source source = fixture_source(&f);
        const size_t n = sizes[i / 2];
        const struct loch_wal_piece in = piece_of(n);
        struct loch_wal_piece piece;
        struct loch_buf sealed = {0};
        struct loch_buf wal = {0};
        uint8_t *bytes = calloc(1, n);
        assert_non_null(bytes);
        if (i % 2 == 0)
            assert_ok(loch_random_bytes(bytes, n));
        assert_ok(loch_wal_archive_seal(&place, &f.keys[0], &in, loch_slice_of(bytes, n), &sealed));
        assert_int_equal(sealed.len % 512, 0);
        if (i % 2 == 1 && n > 10000)
            assert_true(sealed.len < n / 10);     /* zeros compress */
        assert_ok(loch_buf_append(&wal, "x", 1)); /* appends */
        assert_ok(loch_wal_archive_open(&place, &source, loch_buf_slice(&sealed), &piece, &wal));
        assert_memory_equal(&piece, &in, sizeof in);
        assert_int_equal(wal.len, n + 1);
        assert_memory_equal(wal.data + 1, bytes, n);
        free(bytes);
        loch_buf_fini(&sealed);
        loch_buf_fini(&wal);
    }
    fixture_keys_fini(&f);
}

static void belongs_to_its_place(void **state)
{
    const struct loch_wal_piece in = piece_of(4);
    struct loch_place p = place_of(BEGIN);
    struct fixture_keys f;
    struct loch_buf sealed = {0};

    (void)state;
    fixture_keys_init(&f, 1);
    assert_ok(loch_wal_archive_seal(&p, &f.keys[0], &in, loch_slice_of("wal!", 4), &sealed));
    const struct loch_slice object = loch_buf_slice(&sealed);
    assert_ok(open_at(&p, &f, object));
    p = place_of(BEGIN + (1u << 24)); /* another piece under this name */
    assert_code(open_at(&p, &f, object), LOCH_E_CORRUPT);
    p = place_of(BEGIN);
    p.timeline.bytes[3] ^= 1;
    assert_code(open_at(&p, &f, object), LOCH_E_CORRUPT);
    p = place_of(BEGIN);
    p.tenant.bytes[3] ^= 1;
    assert_code(open_at(&p, &f, object), LOCH_E_CORRUPT);
    p = place_of(BEGIN);
    f.denied = true;
    assert_code(open_at(&p, &f, object), LOCH_E_DENIED);
    f.denied = false;
    for (size_t i = 0; i < sealed.len; i++) {
        sealed.data[i] ^= 4;
        assert_false(loch_is_ok(open_at(&p, &f, object)));
        sealed.data[i] ^= 4;
    }
    for (size_t n = 0; n < sealed.len; n += 7)
        assert_code(open_at(&p, &f, loch_slice_of(sealed.data, n)), LOCH_E_CORRUPT);
    loch_buf_fini(&sealed);
    fixture_keys_fini(&f);
}

/* A good seal around content that contradicts itself or comes from the future. */
static void content_is_checked(void **state)
{
    const struct {
        uint32_t version, codec;
        uint64_t begin, end;
        size_t bytes;
        enum loch_code code;
    } cases[] = {
        {1, 0, BEGIN, BEGIN + 8, 8, LOCH_E_OK},
        {2, 0, BEGIN, BEGIN + 8, 8, LOCH_E_UNSUPPORTED},
        {1, 2, BEGIN, BEGIN + 8, 8, LOCH_E_UNSUPPORTED},
        {1, 0, BEGIN, BEGIN + 9, 8, LOCH_E_CORRUPT},
        {1, 0, BEGIN, BEGIN, 0, LOCH_E_CORRUPT},
        {1, 0, BEGIN, BEGIN - 8, 8, LOCH_E_CORRUPT},
        {1, 0, BEGIN + 8, BEGIN + 16, 8, LOCH_E_CORRUPT},
        {1, 0, BEGIN, UINT64_MAX, 8, LOCH_E_CORRUPT},
        {1, 1, BEGIN, BEGIN + 8, 8, LOCH_E_CORRUPT}, /* not zstd */
        {1, 1, BEGIN, UINT64_MAX, 8, LOCH_E_CORRUPT},
    };
    const struct loch_place place = place_of(BEGIN);
    struct fixture_keys f;

    (void)state;
    fixture_keys_init(&f, 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t plain[48] = {0};
        struct loch_buf sealed = {0};
        loch_put_u32(plain, cases[i].version);
        loch_put_u32(plain + 4, cases[i].codec);
        loch_put_u64(plain + 24, cases[i].begin);
        loch_put_u64(plain + 32, cases[i].end);
        assert_ok(loch_sealed_object_seal(
            &place, &f.keys[0], loch_slice_of(plain, 40 + cases[i].bytes), true, &sealed));
        assert_code(open_at(&place, &f, loch_buf_slice(&sealed)), cases[i].code);
        loch_buf_fini(&sealed);
    }
    struct loch_buf sealed = {0};
    assert_ok(
        loch_sealed_object_seal(&place, &f.keys[0], loch_slice_of("short", 5), true, &sealed));
    assert_code(open_at(&place, &f, loch_buf_slice(&sealed)), LOCH_E_CORRUPT);
    loch_buf_fini(&sealed);
    struct loch_wal_piece big = piece_of(LOCH_WAL_ARCHIVE_MAX_BYTES + 1);
    assert_code(loch_wal_archive_seal(&place, &f.keys[0], &big,
                                      loch_slice_of("", LOCH_WAL_ARCHIVE_MAX_BYTES + 1), &sealed),
                LOCH_E_LIMIT);
    fixture_keys_fini(&f);
}

static void golden(void **state)
{
    const struct loch_place place = place_of(BEGIN);
    const struct loch_wal_piece piece = piece_of(200);
    struct fixture_keys f;
    struct loch_buf sealed = {0};
    uint8_t bytes[200];

    (void)state;
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 37 % 251);
    fixture_keys_init(&f, 1);
    loch_random_test_seed(1);
    assert_ok(loch_wal_archive_seal(&place, &f.keys[0], &piece, loch_slice_of(bytes, sizeof bytes),
                                    &sealed));
    loch_random_test_seed(0);
    fixture_golden("wal-archive.bin", loch_buf_slice(&sealed));
    loch_buf_fini(&sealed);
    fixture_keys_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(belongs_to_its_place),
        cmocka_unit_test(content_is_checked),
        cmocka_unit_test(golden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
