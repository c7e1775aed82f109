/* Layer files: round trip, codecs, place, splicing, truncation, threads, golden file. */
#include "format_fixture.h"

#include "layer_internal.h"
#include "loch/format/layer_file.h"

#include <pthread.h>
#include <stdlib.h>

#define FRAMES        20u
#define GOLDEN_FRAMES 6u

struct layer {
    struct fixture_keys f;
    struct loch_buf file;
    struct loch_layer_ref refs[FRAMES];
};

/* Frame i: i * 700 bytes; even ones compress, odd ones are noise. */
static void frame_bytes(uint32_t i, struct loch_buf *out)
{
    out->len = 0;
    assert_ok(loch_buf_reserve(out, i * 700 + 1));
    uint32_t x = i * 2654435761u + 1;
    for (size_t k = 0; k < i * 700; k++) {
        x = x * 1664525u + 1013904223u;
        out->data[k] = i % 2 == 0 ? (uint8_t)(k / 64) : (uint8_t)(x >> 24);
    }
    out->len = i * 700;
}

static void layer_fill(struct layer *l, enum loch_layer_codec codec, bool pad)
{
    const struct loch_place place = fixture_place(LOCH_KIND_LAYER);
    const struct loch_layer_options options = {codec, pad};
    struct loch_layer_writer *w = NULL;
    struct loch_buf out = {0};
    struct loch_buf raw = {0};
    uint64_t bytes = 0;

    fixture_keys_init(&l->f, 2);
    l->file = (struct loch_buf){0};
    assert_ok(loch_layer_writer_create(&place, &l->f.keys[0], &options, &out, &w));
    for (uint32_t i = 0; i < FRAMES; i++) {
        frame_bytes(i, &raw);
        assert_ok(loch_layer_writer_frame(w, loch_buf_slice(&raw), &out, &l->refs[i]));
        if (i % 3 == 0) { /* the caller moves bytes away when it likes */
            assert_ok(loch_buf_append(&l->file, out.data, out.len));
            loch_buf_consume(&out, out.len);
        }
        assert_int_equal(loch_layer_writer_bytes(w), l->file.len + out.len);
    }
    assert_ok(loch_layer_writer_finish(w, loch_slice_of("the index", 9), &out, &bytes));
    assert_ok(loch_buf_append(&l->file, out.data, out.len));
    assert_int_equal(bytes, l->file.len);
    loch_layer_writer_destroy(w);
    loch_buf_fini(&out);
    loch_buf_fini(&raw);
}

static void layer_fini(struct layer *l)
{
    loch_buf_fini(&l->file);
    fixture_keys_fini(&l->f);
}

static loch_status read_at(void *arg, uint64_t offset, void *out, size_t len)
{
    const struct loch_buf *file = arg;

    if (offset + len > file->len)
        return LOCH_FAIL(LOCH_E_CORRUPT, "short file");
    memcpy(out, file->data + offset, len);
    return LOCH_OK;
}

static loch_status open_at(struct layer *l, const struct loch_place *place,
                           struct loch_layer_reader **reader)
{
    const struct loch_key_source source = fixture_source(&l->f);

    return loch_layer_reader_open(place, &source, l->file.len, read_at, &l->file, reader);
}

static loch_status try_open(struct layer *l, const struct loch_place *place)
{
    struct loch_layer_reader *reader = NULL;
    const loch_status st = open_at(l, place, &reader);

    loch_layer_reader_destroy(reader);
    return st;
}

static void check_frames(struct layer *l, struct loch_layer_reader *reader)
{
    struct loch_buf raw = {0};
    struct loch_buf want = {0};

    for (uint32_t i = FRAMES; i-- > 0;) {
        raw.len = 0;
        frame_bytes(i, &want);
        assert_ok(loch_layer_reader_frame(reader, &l->refs[i], &raw));
        assert_int_equal(raw.len, want.len);
        assert_memory_equal(raw.data, want.data, want.len);
        const struct loch_slice stored =
            loch_slice_of(l->file.data + l->refs[i].offset, l->refs[i].stored_bytes);
        raw.len = 0;
        assert_ok(loch_layer_reader_open_frame(reader, &l->refs[i], stored, &raw));
        assert_memory_equal(raw.data, want.data, want.len);
    }
    loch_buf_fini(&raw);
    loch_buf_fini(&want);
}

static void round_trips(void **state)
{
    static const struct loch_layer_options cases[] = {{LOCH_LAYER_STORED, true},
                                                      {LOCH_LAYER_ZSTD, false},
                                                      {LOCH_LAYER_ZSTD, true},
                                                      {LOCH_LAYER_LZ4, false},
                                                      {LOCH_LAYER_LZ4, true}};
    const struct loch_place place = fixture_place(LOCH_KIND_LAYER);
    uint64_t plain_bytes = 0;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct loch_layer_options *o = &cases[i];
        struct layer l;
        struct loch_layer_reader *reader = NULL;
        struct loch_file_peek peek;
        layer_fill(&l, o->codec, o->pad);
        assert_ok(loch_file_peek(loch_buf_slice(&l.file), &peek));
        assert_int_equal(peek.codec, o->codec);
        assert_int_equal(peek.flags, o->pad && o->codec != LOCH_LAYER_STORED);
        assert_ok(open_at(&l, &place, &reader));
        assert_int_equal(loch_layer_reader_frames(reader), FRAMES);
        assert_int_equal(loch_layer_reader_index(reader).len, 9);
        assert_memory_equal(loch_layer_reader_index(reader).data, "the index", 9);
        check_frames(&l, reader);
        if (i == 0)
            plain_bytes = l.file.len;
        else
            assert_true(l.file.len < plain_bytes);
        if (peek.flags != 0)
            assert_int_equal(l.refs[FRAMES - 2].stored_bytes % 512, 0);
        loch_layer_reader_destroy(reader);
        layer_fini(&l);
    }
}

struct inner {
    uint8_t file_codec;
    uint8_t bytes[24];
    size_t n;
    int want; /* bytes; < 0: refused */
};

/* What a frame's message may hold, and what not: LZ4 says by itself where its block ends. */
static void messages_are_checked(void **state)
{
    static const struct inner cases[] = {
        {CODEC_NONE, {3, 0, 0, 0, 0, 0, 0, 0, 'a', 'b', 'c'}, 11, 3},
        {CODEC_NONE, {3, 0, 0, 0, 0, 0, 0, 0, 'a', 'b', 'c', 0}, 12, -1},
        {CODEC_NONE, {0, 2, 0, 0, 0, 0, 0, 0}, 8, -1}, /* more than asked for */
        {CODEC_NONE, {3, 0, 0, 0, 0, 0, 1, 0, 'a', 'b', 'c'}, 11, -1},
        {CODEC_LZ4, {3, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 0x30, 'a', 'b', 'c'}, 16, 3},
        {CODEC_LZ4, {3, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 0x30, 'a', 'b', 'c', 0, 0}, 18, 3},
        {CODEC_LZ4, {3, 0, 0, 0, 0, 0, 0, 0, 'a', 'b', 'c'}, 11, 3},
        {CODEC_LZ4, {3, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 0x30, 'a', 'b', 'c'}, 16, -1},
        {CODEC_ZSTD, {3, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 0x30, 'a', 'b', 'c'}, 16, -1},
        {CODEC_LZ4, {2, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 0x30, 'a', 'b', 'c'}, 16, -1},
        {CODEC_LZ4, {4, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 0x30, 'a', 'b', 'c'}, 16, -1},
        {CODEC_LZ4, {3, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 0x30, 'a', 'b', 'c'}, 16, -1},
        {CODEC_LZ4, {3, 0, 0, 0, 2, 0, 0, 0, 255, 255, 255, 255, 0x30, 'a', 'b', 'c'}, 16, -1},
        {CODEC_LZ4, {3, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0}, 11, -1},
        {CODEC_LZ4, {0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0}, 13, -1}, /* nothing, compressed */
        {CODEC_LZ4, {3, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0x30, 'a', 'b', 'c'}, 16, -1},
    };
    struct loch_buf raw = {0};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct inner *c = &cases[i];
        raw.len = 0;
        const loch_status st = layer_unpack(c->file_codec, c->bytes, c->n, 100, &raw);
        if (c->want < 0) {
            assert_code(st, LOCH_E_CORRUPT);
            assert_int_equal(raw.len, 0);
            continue;
        }
        assert_ok(st);
        assert_int_equal(raw.len, c->want);
        assert_memory_equal(raw.data, "abc", raw.len);
    }
    loch_buf_fini(&raw);
}

static void refs_round_trip_and_are_checked(void **state)
{
    const struct loch_place place = fixture_place(LOCH_KIND_LAYER);
    struct layer l;
    struct loch_layer_reader *reader = NULL;
    struct loch_buf raw = {0};
    uint8_t encoded[LOCH_LAYER_REF_BYTES];

    (void)state;
    layer_fill(&l, LOCH_LAYER_ZSTD, false);
    assert_ok(open_at(&l, &place, &reader));
    loch_layer_ref_encode(&l.refs[7], encoded);
    const struct loch_layer_ref back = loch_layer_ref_decode(encoded);
    assert_int_equal(back.offset, l.refs[7].offset);
    assert_int_equal(back.frame, 7);
    for (int i = 0; i < 7; i++) {
        struct loch_layer_ref ref = l.refs[7];
        if (i == 0)
            ref.frame = 8;
        if (i == 1)
            ref.frame = FRAMES;
        if (i == 2)
            ref.offset = l.file.len;
        if (i == 3)
            ref.offset = UINT64_MAX;
        if (i == 4)
            ref.stored_bytes = UINT32_MAX;
        if (i == 5)
            ref.stored_bytes = 3;
        if (i == 6)
            ref.offset = l.refs[8].offset;
        assert_code(loch_layer_reader_frame(reader, &ref, &raw), LOCH_E_CORRUPT);
        assert_int_equal(raw.len, 0);
    }
    assert_code(loch_layer_reader_open_frame(reader, &l.refs[7], loch_slice_of("x", 1), &raw),
                LOCH_E_CORRUPT);
    loch_buf_fini(&raw);
    loch_layer_reader_destroy(reader);
    layer_fini(&l);
}

/* Header, index and footer: every byte; frames: every 13th, seen when the frame is read. */
static void every_flipped_byte_is_detected(void **state)
{
    const struct loch_place place = fixture_place(LOCH_KIND_LAYER);
    struct layer l;
    struct loch_layer_reader *reader = NULL;
    struct loch_buf raw = {0};

    (void)state;
    layer_fill(&l, LOCH_LAYER_LZ4, false);
    assert_ok(open_at(&l, &place, &reader));
    const struct loch_layer_ref *last = &l.refs[FRAMES - 1];
    for (size_t at = 0; at < l.file.len; at++) {
        if (at == LOCH_FILE_HEADER_BYTES)
            at = (size_t)last->offset + last->stored_bytes;
        l.file.data[at] ^= 8;
        assert_false(loch_is_ok(try_open(&l, &place)));
        l.file.data[at] ^= 8;
    }
    for (uint32_t i = 0; i < FRAMES; i++) {
        for (size_t at = 0; at < l.refs[i].stored_bytes; at += 13) {
            l.file.data[l.refs[i].offset + at] ^= 8;
            assert_code(loch_layer_reader_frame(reader, &l.refs[i], &raw), LOCH_E_CORRUPT);
            l.file.data[l.refs[i].offset + at] ^= 8;
        }
    }
    assert_int_equal(raw.len, 0);
    loch_buf_fini(&raw);
    loch_layer_reader_destroy(reader);
    layer_fini(&l);
}

static void moved_or_cut_files_do_not_open(void **state)
{
    const struct loch_place place = fixture_place(LOCH_KIND_LAYER);
    struct layer l;

    (void)state;
    layer_fill(&l, LOCH_LAYER_STORED, false);
    for (int i = 0; i < 5; i++) {
        struct loch_place p = place;
        if (i == 0)
            p.tenant.bytes[0] ^= 1;
        if (i == 1)
            p.timeline.bytes[0] ^= 1;
        if (i == 2)
            p.file_id.bytes[0] ^= 1;
        if (i == 3)
            p.generation++;
        if (i == 4)
            p.node.bytes[0] ^= 1;
        assert_code(try_open(&l, &p), LOCH_E_CORRUPT);
    }
    const size_t len = l.file.len;
    for (size_t n = 0; n < len; n += n < 600 || n > len - 600 ? 1 : 997) {
        l.file.len = n;
        assert_code(try_open(&l, &place), LOCH_E_CORRUPT);
    }
    l.file.len = len;
    /* The middle cut out, with index and footer kept: the footer knows the length. */
    const size_t tail = len - (size_t)l.refs[FRAMES - 1].offset - l.refs[FRAMES - 1].stored_bytes;
    struct loch_buf whole = l.file;
    l.file = (struct loch_buf){0};
    assert_ok(loch_buf_append(&l.file, whole.data, l.refs[10].offset));
    assert_ok(loch_buf_append(&l.file, whole.data + len - tail, tail));
    assert_code(try_open(&l, &place), LOCH_E_CORRUPT);
    loch_buf_fini(&whole);
    layer_fini(&l);
}

/* Two files of the same place and key: frames, index, footer of one in the other. */
static void files_do_not_mix(void **state)
{
    const struct loch_place place = fixture_place(LOCH_KIND_LAYER);
    struct layer a;
    struct layer b;
    struct loch_layer_reader *reader = NULL;
    struct loch_buf raw = {0};

    (void)state;
    layer_fill(&a, LOCH_LAYER_STORED, false);
    layer_fill(&b, LOCH_LAYER_STORED, false);
    assert_int_equal(a.file.len, b.file.len);
    assert_ok(open_at(&a, &place, &reader));
    const struct loch_layer_ref *r = &a.refs[5];
    memcpy(a.file.data + r->offset, b.file.data + r->offset, r->stored_bytes);
    assert_code(loch_layer_reader_frame(reader, r, &raw), LOCH_E_CORRUPT);
    /* Two frames of one file change places. */
    struct loch_layer_ref swapped = a.refs[6];
    swapped.frame = 7;
    assert_code(loch_layer_reader_frame(reader, &swapped, &raw), LOCH_E_CORRUPT);
    memcpy(a.file.data + a.file.len - 80, b.file.data + b.file.len - 80, 80);
    assert_code(try_open(&a, &place), LOCH_E_CORRUPT);
    memcpy(a.file.data, b.file.data, LOCH_FILE_HEADER_BYTES);
    assert_code(try_open(&a, &place), LOCH_E_CORRUPT); /* index is still a's */
    loch_layer_reader_destroy(reader);
    loch_buf_fini(&raw);
    layer_fini(&a);
    layer_fini(&b);
}

static void keys_are_asked(void **state)
{
    const struct loch_place place = fixture_place(LOCH_KIND_LAYER);
    struct layer l;

    (void)state;
    layer_fill(&l, LOCH_LAYER_STORED, false);
    l.f.denied = true;
    assert_code(try_open(&l, &place), LOCH_E_DENIED);
    l.f.denied = false;
    l.f.keys[0].version = 7;
    assert_code(try_open(&l, &place), LOCH_E_NOT_FOUND);
    l.f.keys[0].version = 1;
    l.f.keys[0].secret.bytes[0] ^= 1;
    assert_code(try_open(&l, &place), LOCH_E_CORRUPT);
    layer_fini(&l);
}

struct thread_arg {
    struct layer *layer;
    struct loch_layer_reader *reader;
};

static void *read_all(void *arg)
{
    const struct thread_arg *t = arg;

    for (int i = 0; i < 20; i++)
        check_frames(t->layer, t->reader);
    return NULL;
}

static void threads_read_at_once(void **state)
{
    static const enum loch_layer_codec codecs[] = {LOCH_LAYER_ZSTD, LOCH_LAYER_LZ4};
    const struct loch_place place = fixture_place(LOCH_KIND_LAYER);

    (void)state;
    for (size_t c = 0; c < 2; c++) {
        struct layer l;
        struct thread_arg arg = {&l, NULL};
        pthread_t threads[4];
        layer_fill(&l, codecs[c], true);
        assert_ok(open_at(&l, &place, &arg.reader));
        for (size_t i = 0; i < 4; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, read_all, &arg), 0);
        for (size_t i = 0; i < 4; i++)
            assert_int_equal(pthread_join(threads[i], NULL), 0);
        loch_layer_reader_destroy(arg.reader);
        layer_fini(&l);
    }
}

static void limits(void **state)
{
    const struct loch_place place = fixture_place(LOCH_KIND_LAYER);
    const struct loch_layer_options options = {LOCH_LAYER_STORED, false};
    struct fixture_keys f;
    struct loch_buf out = {0};
    struct loch_layer_ref ref;
    struct loch_layer_writer *w = NULL;
    uint64_t bytes;

    (void)state;
    fixture_keys_init(&f, 1);
    assert_ok(loch_layer_writer_create(&place, &f.keys[0], &options, &out, &w));
    assert_code(
        loch_layer_writer_frame(w, loch_slice_of("", LOCH_LAYER_FRAME_MAX_BYTES + 1u), &out, &ref),
        LOCH_E_LIMIT);
    assert_code(loch_layer_writer_finish(w, loch_slice_of("", LOCH_LAYER_INDEX_MAX_BYTES + 1u),
                                         &out, &bytes),
                LOCH_E_LIMIT);
    loch_layer_writer_destroy(w);
    loch_layer_writer_destroy(NULL);
    loch_layer_reader_destroy(NULL);
    loch_buf_fini(&out);
    fixture_keys_fini(&f);
}

static void golden_layer(void **state)
{
    struct layer l;

    (void)state;
    loch_random_test_seed(3);
    layer_fill(&l, LOCH_LAYER_STORED, false);
    loch_random_test_seed(0);
    fixture_golden("layer.bin", loch_buf_slice(&l.file));
    layer_fini(&l);
}

/* A few frames, with their references in the index. */
static void golden_write(const char *name, enum loch_layer_codec codec, struct fixture_keys *f)
{
    const struct loch_place place = fixture_place(LOCH_KIND_LAYER);
    const struct loch_layer_options options = {codec, true};
    struct loch_layer_writer *w = NULL;
    struct loch_buf file = {0}, raw = {0}, index = {0};
    uint64_t bytes = 0;

    assert_ok(loch_layer_writer_create(&place, &f->keys[0], &options, &file, &w));
    for (uint32_t i = 0; i < GOLDEN_FRAMES; i++) {
        struct loch_layer_ref ref;
        uint8_t encoded[LOCH_LAYER_REF_BYTES];
        frame_bytes(i, &raw);
        assert_ok(loch_layer_writer_frame(w, loch_buf_slice(&raw), &file, &ref));
        loch_layer_ref_encode(&ref, encoded);
        assert_ok(loch_buf_append(&index, encoded, sizeof encoded));
    }
    assert_ok(loch_layer_writer_finish(w, loch_buf_slice(&index), &file, &bytes));
    loch_layer_writer_destroy(w);
    fixture_golden(name, loch_buf_slice(&file));
    loch_buf_fini(&file);
    loch_buf_fini(&raw);
    loch_buf_fini(&index);
}

static void golden_read(const char *name, struct layer *l)
{
    const struct loch_place place = fixture_place(LOCH_KIND_LAYER);
    struct loch_layer_reader *reader = NULL;
    struct loch_buf raw = {0}, want = {0};

    fixture_golden_read(name, &l->file);
    assert_ok(open_at(l, &place, &reader));
    const struct loch_slice index = loch_layer_reader_index(reader);
    assert_int_equal(index.len, GOLDEN_FRAMES * LOCH_LAYER_REF_BYTES);
    for (uint32_t i = 0; i < GOLDEN_FRAMES; i++) {
        const struct loch_layer_ref ref =
            loch_layer_ref_decode(index.data + (size_t)i * LOCH_LAYER_REF_BYTES);
        raw.len = 0;
        frame_bytes(i, &want);
        assert_ok(loch_layer_reader_frame(reader, &ref, &raw));
        assert_int_equal(raw.len, want.len);
        assert_memory_equal(raw.data, want.data, want.len);
    }
    loch_layer_reader_destroy(reader);
    loch_buf_fini(&raw);
    loch_buf_fini(&want);
}

/* A compressor's output may change with its version: these are opened, not written and compared. */
static void golden_layers_that_are_compressed(void **state)
{
    static const char *const names[] = {"layer-zstd.bin", "layer-lz4.bin"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct layer l = {0};
        fixture_keys_init(&l.f, 1);
        if (getenv("LOCH_GOLDEN_WRITE") != NULL)
            golden_write(names[i], i == 0 ? LOCH_LAYER_ZSTD : LOCH_LAYER_LZ4, &l.f);
        golden_read(names[i], &l);
        layer_fini(&l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),
        cmocka_unit_test(messages_are_checked),
        cmocka_unit_test(refs_round_trip_and_are_checked),
        cmocka_unit_test(every_flipped_byte_is_detected),
        cmocka_unit_test(moved_or_cut_files_do_not_open),
        cmocka_unit_test(files_do_not_mix),
        cmocka_unit_test(keys_are_asked),
        cmocka_unit_test(threads_read_at_once),
        cmocka_unit_test(limits),
        cmocka_unit_test(golden_layer),
        cmocka_unit_test(golden_layers_that_are_compressed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
