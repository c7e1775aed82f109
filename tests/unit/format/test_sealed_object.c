/* Sealed objects and the file header: round trip, place, every flipped byte, wrong keys, golden
 * file. */
#include "format_fixture.h"

#include "loch/format/sealed_object.h"

static loch_status open_at(const struct loch_place *place, struct fixture_keys *f,
                           struct loch_slice sealed)
{
    struct loch_buf plain = {0};
    const struct loch_key_source source = fixture_source(f);
    uint64_t generation = 0;
    const loch_status st = loch_sealed_object_open(place, &source, sealed, &plain, &generation);

    if (!loch_is_ok(st))
        assert_int_equal(plain.len, 0);
    loch_buf_fini(&plain);
    return st;
}

static void round_trip_of_sizes(void **state)
{
    const size_t sizes[] = {0, 1, 199, 200, 216, 217, 511, 512, 5000, 300000};
    struct fixture_keys f;
    uint8_t *bytes = malloc(300000);

    (void)state;
    fixture_keys_init(&f, 1);
    assert_ok(loch_random_bytes(bytes, 300000));
    for (size_t i = 0; i < 2 * (sizeof sizes / sizeof *sizes); i++) {
        const struct loch_place place = fixture_place(LOCH_KIND_CONTROL);
        struct loch_place other = place;
        const struct loch_key_source source = fixture_source(&f);
        const size_t n = sizes[i / 2];
        struct loch_buf sealed = {0};
        struct loch_buf plain = {0};
        uint64_t generation = 0;
        assert_ok(loch_buf_append(&sealed, "x", 1)); /* appends */
        assert_ok(loch_buf_append(&plain, "y", 1));
        assert_ok(loch_sealed_object_seal(&place, &f.keys[0], loch_slice_of(bytes, n), i % 2 == 0,
                                          &sealed));
        const struct loch_slice object = loch_slice_of(sealed.data + 1, sealed.len - 1);
        if (i % 2 == 0)
            assert_int_equal(object.len % 512, 0);
        other.generation = 1; /* not compared */
        assert_ok(loch_sealed_object_open(&other, &source, object, &plain, &generation));
        assert_int_equal(generation, 9);
        assert_int_equal(plain.len, n + 1);
        assert_memory_equal(plain.data + 1, bytes, n);
        loch_buf_fini(&sealed);
        loch_buf_fini(&plain);
    }
    free(bytes);
    fixture_keys_fini(&f);
}

static void every_write_has_its_own_key(void **state)
{
    const struct loch_place place = fixture_place(LOCH_KIND_TIMELINE_MANIFEST);
    struct fixture_keys f;
    struct loch_buf a = {0};
    struct loch_buf b = {0};

    (void)state;
    fixture_keys_init(&f, 1);
    assert_ok(loch_sealed_object_seal(&place, &f.keys[0], loch_slice_of("same", 4), true, &a));
    assert_ok(loch_sealed_object_seal(&place, &f.keys[0], loch_slice_of("same", 4), true, &b));
    assert_memory_not_equal(a.data + 112, b.data + 112, 32); /* salt */
    assert_memory_not_equal(a.data + 232, b.data + 232, 40); /* wrapped DEK */
    assert_memory_not_equal(a.data + 272, b.data + 272, 240);
    loch_buf_fini(&a);
    loch_buf_fini(&b);
    fixture_keys_fini(&f);
}

static void another_place_does_not_open(void **state)
{
    const struct loch_place place = fixture_place(LOCH_KIND_CONTROL);
    struct fixture_keys f;
    struct loch_buf sealed = {0};

    (void)state;
    fixture_keys_init(&f, 2);
    assert_ok(loch_sealed_object_seal(&place, &f.keys[0], loch_slice_of("text", 4), true, &sealed));
    const struct loch_slice object = loch_buf_slice(&sealed);
    assert_ok(open_at(&place, &f, object));
    struct loch_place p = place;
    p.kind = LOCH_KIND_TENANT_MANIFEST;
    assert_code(open_at(&p, &f, object), LOCH_E_CORRUPT);
    p = place;
    p.tenant.bytes[0] ^= 1;
    assert_code(open_at(&p, &f, object), LOCH_E_CORRUPT);
    p = place;
    p.timeline.bytes[15] ^= 1;
    assert_code(open_at(&p, &f, object), LOCH_E_CORRUPT);
    p = place;
    p.file_id.bytes[0] ^= 1;
    assert_code(open_at(&p, &f, object), LOCH_E_CORRUPT);
    p = place;
    p.node.bytes[0] ^= 1;
    assert_code(open_at(&p, &f, object), LOCH_E_CORRUPT);
    /* Whoever moves a file and forges its header to match still fails: wrap and MAC know the place.
     */
    for (size_t at = 24; at < 112; at += 4) {
        struct loch_file_peek peek;
        sealed.data[at] ^= 1;
        assert_ok(loch_file_peek(object, &peek));
        assert_code(open_at(&peek.place, &f, object), LOCH_E_CORRUPT);
        sealed.data[at] ^= 1;
    }
    f.denied = true;
    assert_code(open_at(&place, &f, object), LOCH_E_DENIED);
    f.denied = false;
    assert_ok(open_at(&place, &f, object));
    loch_buf_fini(&sealed);
    fixture_keys_fini(&f);
}

static void every_flipped_bit_is_detected(void **state)
{
    const struct loch_place place = fixture_place(LOCH_KIND_CONTROL);
    struct fixture_keys f;
    struct loch_buf sealed = {0};

    (void)state;
    fixture_keys_init(&f, 1);
    assert_ok(loch_sealed_object_seal(&place, &f.keys[0], loch_slice_of("text", 4), true, &sealed));
    const struct loch_slice object = loch_buf_slice(&sealed);
    for (size_t i = 0; i < sealed.len * 8; i++) {
        const uint8_t bit = (uint8_t)(1u << (i % 8));
        if (i / 8 >= LOCH_FILE_HEADER_BYTES && i % 8 != 3)
            continue;
        sealed.data[i / 8] ^= bit;
        const loch_status st = open_at(&place, &f, object);
        if (loch_is_ok(st))
            fail_msg("bit %zu of byte %zu went unnoticed", i % 8, i / 8);
        assert_true(st.code == LOCH_E_CORRUPT || st.code == LOCH_E_UNSUPPORTED ||
                    st.code == LOCH_E_NOT_FOUND);
        sealed.data[i / 8] ^= bit;
    }
    for (size_t n = 0; n < sealed.len; n++)
        assert_code(open_at(&place, &f, loch_slice_of(sealed.data, n)), LOCH_E_CORRUPT);
    assert_ok(loch_buf_append(&sealed, "\0", 1));
    assert_code(open_at(&place, &f, loch_buf_slice(&sealed)), LOCH_E_CORRUPT);
    loch_buf_fini(&sealed);
    fixture_keys_fini(&f);
}

/* The parts of two objects of the same place do not mix: an old body under a new header. */
static void parts_do_not_mix(void **state)
{
    const struct loch_place place = fixture_place(LOCH_KIND_CONTROL);
    struct fixture_keys f;
    struct loch_buf a = {0};
    struct loch_buf b = {0};

    (void)state;
    fixture_keys_init(&f, 1);
    assert_ok(loch_sealed_object_seal(&place, &f.keys[0], loch_slice_of("aaaa", 4), true, &a));
    assert_ok(loch_sealed_object_seal(&place, &f.keys[0], loch_slice_of("bbbb", 4), true, &b));
    memcpy(a.data, b.data, LOCH_FILE_HEADER_BYTES);
    assert_code(open_at(&place, &f, loch_buf_slice(&a)), LOCH_E_CORRUPT);
    loch_buf_fini(&a);
    loch_buf_fini(&b);
    fixture_keys_fini(&f);
}

static void wrong_key_under_the_right_name(void **state)
{
    const struct loch_place place = fixture_place(LOCH_KIND_CONTROL);
    struct fixture_keys f;
    struct loch_buf sealed = {0};

    (void)state;
    fixture_keys_init(&f, 2);
    assert_ok(loch_sealed_object_seal(&place, &f.keys[0], loch_slice_of("text", 4), true, &sealed));
    struct loch_secret swap = f.keys[0].secret;
    f.keys[0].secret = f.keys[1].secret;
    f.keys[1].secret = swap;
    assert_code(open_at(&place, &f, loch_buf_slice(&sealed)), LOCH_E_CORRUPT);
    loch_buf_fini(&sealed);
    fixture_keys_fini(&f);
}

static void limits_and_unknown_formats(void **state)
{
    const struct loch_place place = fixture_place(LOCH_KIND_CONTROL);
    struct fixture_keys f;
    struct loch_buf sealed = {0};
    struct loch_file_peek peek;
    static const size_t unknown[] = {10, 12, 13, 14, 15, 17, 18, 228};

    (void)state;
    fixture_keys_init(&f, 1);
    assert_code(loch_sealed_object_seal(&place, &f.keys[0],
                                        loch_slice_of("", LOCH_SEALED_OBJECT_MAX_BYTES + 1u), true,
                                        &sealed),
                LOCH_E_LIMIT);
    assert_ok(loch_sealed_object_seal(&place, &f.keys[0], loch_slice_of("text", 4), true, &sealed));
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        sealed.data[unknown[i]] ^= 0x40;
        assert_code(open_at(&place, &f, loch_buf_slice(&sealed)), LOCH_E_UNSUPPORTED);
        sealed.data[unknown[i]] ^= 0x40;
    }
    assert_ok(loch_file_peek(loch_buf_slice(&sealed), &peek));
    assert_int_equal(peek.place.kind, LOCH_KIND_CONTROL);
    assert_int_equal(peek.key_version, 1);
    assert_string_equal(loch_kind_name(peek.place.kind), "control");
    assert_string_equal(loch_kind_name(0), "unknown");
    assert_code(loch_file_peek(loch_slice_of(sealed.data, 271), &peek), LOCH_E_CORRUPT);
    assert_code(loch_file_peek(loch_slice_of(sealed.data + 1, 272), &peek), LOCH_E_CORRUPT);
    loch_buf_fini(&sealed);
    fixture_keys_fini(&f);
}

static void golden_object(void **state)
{
    const struct loch_place place = fixture_place(LOCH_KIND_TIMELINE_MANIFEST);
    struct fixture_keys f;
    struct loch_buf sealed = {0};

    (void)state;
    fixture_keys_init(&f, 1);
    loch_random_test_seed(1);
    assert_ok(loch_sealed_object_seal(&place, &f.keys[0], loch_slice_of("a manifest", 10), true,
                                      &sealed));
    loch_random_test_seed(0);
    fixture_golden("object.bin", loch_buf_slice(&sealed));
    loch_buf_fini(&sealed);
    fixture_keys_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip_of_sizes),
        cmocka_unit_test(every_write_has_its_own_key),
        cmocka_unit_test(another_place_does_not_open),
        cmocka_unit_test(every_flipped_bit_is_detected),
        cmocka_unit_test(parts_do_not_mix),
        cmocka_unit_test(wrong_key_under_the_right_name),
        cmocka_unit_test(limits_and_unknown_formats),
        cmocka_unit_test(golden_object),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
