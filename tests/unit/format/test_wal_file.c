/* WAL files: sessions, single frames, and the verdict of the scan over every kind of damage. */
#include "format_fixture.h"

#include "loch/format/wal_file.h"

#define START UINT64_C(0x16B3748)

/* A file of `frames` frames, frame i with 100 + 37 * i bytes of value i, boundary = its end. */
struct wal {
    struct fixture_keys f;
    struct loch_buf file;
    struct loch_wal_frame_ref refs[32];
    size_t frames;
    loch_lsn end;
};

static const struct loch_wal_begin begin = {START, START - 8, 5, 2};

static void wal_fill(struct wal *w, size_t frames, uint32_t unsynced)
{
    const struct loch_place place = fixture_place(LOCH_KIND_WAL);
    struct loch_wal_writer *writer = NULL;
    uint8_t bytes[2000];

    fixture_keys_init(&w->f, 2);
    w->file = (struct loch_buf){0};
    w->frames = frames;
    assert_ok(loch_wal_writer_create(&place, &w->f.keys[0], &begin, &w->file, &writer));
    assert_int_equal(w->file.len, LOCH_WAL_HEAD_BYTES);
    assert_int_equal(loch_wal_writer_lsn(writer), START);
    for (size_t i = 0; i < frames; i++) {
        const size_t n = 100 + 37 * i;
        const loch_lsn lsn = loch_wal_writer_lsn(writer);
        memset(bytes, (int)i, n);
        assert_ok(loch_wal_writer_seal(writer, lsn, 5 + i / 4, lsn + n, unsynced,
                                       loch_slice_of(bytes, n), &w->file, &w->refs[i]));
        assert_int_equal(loch_wal_writer_bytes(writer), w->file.len);
        assert_int_equal(w->refs[i].seq, i + 1);
    }
    w->end = loch_wal_writer_lsn(writer);
    loch_wal_writer_destroy(writer);
}

static void wal_fini(struct wal *w)
{
    loch_buf_fini(&w->file);
    fixture_keys_fini(&w->f);
}

static loch_status read_at(void *arg, uint64_t offset, void *out, size_t len)
{
    const struct loch_buf *file = arg;

    if (offset + len > file->len)
        return LOCH_FAIL(LOCH_E_CORRUPT, "short file");
    memcpy(out, file->data + offset, len);
    return LOCH_OK;
}

struct seen {
    const struct loch_buf *file;
    size_t frames;
    bool stop;
};

static loch_status see(void *arg, const struct loch_wal_frame_ref *ref, struct loch_slice stored,
                       uint64_t term, loch_lsn boundary_lsn, struct loch_slice wal)
{
    struct seen *s = arg;

    assert_int_equal(stored.len, ref->stored_bytes);
    assert_memory_equal(stored.data, s->file->data + ref->offset, stored.len);
    assert_int_equal(wal.len, 100 + 37 * s->frames);
    assert_int_equal(wal.data[wal.len - 1], s->frames);
    assert_int_equal(term, 5 + s->frames / 4);
    assert_int_equal(boundary_lsn, ref->lsn + ref->len);
    s->frames++;
    if (s->stop)
        return LOCH_FAIL(LOCH_E_LIMIT, "enough");
    return LOCH_OK;
}

static struct loch_wal_reader *reader_of(struct wal *w)
{
    const struct loch_place place = fixture_place(LOCH_KIND_WAL);
    const struct loch_key_source source = fixture_source(&w->f);
    struct loch_wal_reader *reader = NULL;

    assert_ok(loch_wal_reader_open(&place, &source, loch_buf_slice(&w->file), &reader));
    return reader;
}

static struct loch_wal_file_scan scan_of(struct wal *w, loch_lsn must_have, size_t *frames)
{
    struct loch_wal_reader *reader = reader_of(w);
    struct loch_wal_file_scan scan;
    struct seen seen = {.file = &w->file};

    assert_ok(
        loch_wal_scan_file(reader, w->file.len, read_at, &w->file, must_have, &scan, see, &seen));
    assert_int_equal(seen.frames, scan.frames);
    if (frames != NULL)
        *frames = seen.frames;
    loch_wal_reader_destroy(reader);
    return scan;
}

static void frames_read_back(void **state)
{
    struct wal w;
    struct loch_buf wal = {0};

    (void)state;
    wal_fill(&w, 8, UINT32_MAX);
    struct loch_wal_reader *reader = reader_of(&w);
    assert_int_equal(loch_wal_reader_begin(reader)->start_lsn, START);
    assert_int_equal(loch_wal_reader_begin(reader)->boundary_lsn, START - 8);
    assert_int_equal(loch_wal_reader_begin(reader)->term, 5);
    assert_int_equal(loch_wal_reader_begin(reader)->incarnation, 2);
    for (size_t i = 8; i-- > 0;) {
        const struct loch_wal_frame_ref *ref = &w.refs[i];
        const struct loch_slice stored =
            loch_slice_of(w.file.data + ref->offset, ref->stored_bytes);
        wal.len = 0;
        assert_ok(loch_wal_reader_frame(reader, ref, stored, &wal));
        assert_int_equal(wal.len, 100 + 37 * i);
        assert_int_equal(wal.data[0], i);
        /* Under the name of another frame it does not open. */
        struct loch_wal_frame_ref bad = *ref;
        bad.lsn++;
        assert_code(loch_wal_reader_frame(reader, &bad, stored, &wal), LOCH_E_CORRUPT);
        bad = *ref;
        bad.seq++;
        assert_code(loch_wal_reader_frame(reader, &bad, stored, &wal), LOCH_E_CORRUPT);
        bad = *ref;
        bad.stored_bytes -= 8;
        assert_code(loch_wal_reader_frame(reader, &bad, stored, &wal), LOCH_E_CORRUPT);
        assert_code(loch_wal_reader_frame(reader, ref, loch_slice_of(stored.data, 10), &wal),
                    LOCH_E_CORRUPT);
        for (size_t at = 0; at < ref->stored_bytes; at += at < 64 ? 1 : 17) {
            w.file.data[ref->offset + at] ^= 4;
            assert_code(loch_wal_reader_frame(reader, ref, stored, &wal), LOCH_E_CORRUPT);
            w.file.data[ref->offset + at] ^= 4;
        }
    }
    loch_wal_reader_destroy(reader);
    loch_buf_fini(&wal);
    wal_fini(&w);
}

static void writer_refuses_disorder(void **state)
{
    const struct loch_place place = fixture_place(LOCH_KIND_WAL);
    struct fixture_keys f;
    struct loch_buf out = {0};
    struct loch_wal_writer *w = NULL;
    struct loch_wal_begin bad = begin;

    (void)state;
    fixture_keys_init(&f, 1);
    bad.boundary_lsn = START + 1;
    assert_code(loch_wal_writer_create(&place, &f.keys[0], &bad, &out, &w), LOCH_E_INVALID);
    assert_ok(loch_wal_writer_create(&place, &f.keys[0], &begin, &out, &w));
    const size_t len = out.len;
    const struct loch_slice b = loch_slice_of("12345678", 8);
    assert_code(loch_wal_writer_seal(w, START + 8, 5, START, 0, b, &out, NULL), LOCH_E_INVALID);
    assert_code(loch_wal_writer_seal(w, START, 5, START + 9, 0, b, &out, NULL), LOCH_E_INVALID);
    assert_code(loch_wal_writer_seal(w, START, 5, START - 9, 0, b, &out, NULL), LOCH_E_INVALID);
    assert_code(loch_wal_writer_seal(w, START, 5, START, 0, loch_slice_of("", 0), &out, NULL),
                LOCH_E_LIMIT);
    assert_int_equal(out.len, len);
    assert_ok(loch_wal_writer_seal(w, START, 5, START - 8, 0, b, &out, NULL));
    loch_wal_writer_destroy(w);
    loch_wal_writer_destroy(NULL);
    loch_buf_fini(&out);
    fixture_keys_fini(&f);
}

static void whole_files_are_clean(void **state)
{
    (void)state;
    for (size_t frames = 0; frames < 20; frames += 6) {
        struct wal w;
        wal_fill(&w, frames, 0);
        const size_t len = w.file.len;
        for (size_t zeros = 0; zeros < 3000000; zeros = zeros * 40 + 7) {
            assert_ok(loch_buf_reserve(&w.file, zeros));
            memset(w.file.data + len, 0, zeros);
            w.file.len = len + zeros;
            const struct loch_wal_file_scan s = scan_of(&w, w.end, NULL);
            assert_int_equal(s.verdict, LOCH_WAL_CLEAN);
            assert_int_equal(s.offset, len);
            assert_int_equal(s.frames, frames);
            assert_int_equal(s.end_lsn, w.end);
            assert_int_equal(s.boundary_lsn, frames > 0 ? w.end : START - 8);
        }
        /* The same file is corrupt when more was known to be durable. */
        assert_int_equal(scan_of(&w, w.end + 1, NULL).verdict, LOCH_WAL_CORRUPT);
        wal_fini(&w);
    }
}

/* A write cut off at any byte, with and without the preallocated zeros behind it. */
static void cut_tails_are_torn(void **state)
{
    struct wal w;

    (void)state;
    wal_fill(&w, 4, 0);
    const size_t len = w.file.len;
    const struct loch_wal_frame_ref last = w.refs[3];
    for (size_t cut = 1; cut < last.stored_bytes; cut++) {
        uint8_t saved[400];
        w.file.len = last.offset + cut;
        struct loch_wal_file_scan s = scan_of(&w, last.lsn, NULL);
        assert_int_equal(s.verdict, LOCH_WAL_TORN);
        assert_int_equal(s.offset, last.offset);
        assert_int_equal(s.end_lsn, last.lsn);
        assert_int_equal(scan_of(&w, last.lsn + 1, NULL).verdict, LOCH_WAL_CORRUPT);
        w.file.len = len;
        memcpy(saved, w.file.data + last.offset + cut, last.stored_bytes - cut);
        memset(w.file.data + last.offset + cut, 0, last.stored_bytes - cut);
        s = scan_of(&w, last.lsn, NULL);
        /* The frame is whole when only its alignment was still to come. */
        if (memcmp(saved, w.file.data + last.offset + cut, last.stored_bytes - cut) == 0)
            assert_int_equal(s.verdict, LOCH_WAL_CLEAN);
        else
            assert_int_equal(s.verdict, LOCH_WAL_TORN);
        memcpy(w.file.data + last.offset + cut, saved, last.stored_bytes - cut);
    }
    wal_fini(&w);
}

/* Every byte of every frame but the last: damage before frames that were sealed when it was
 * durable. */
static void damage_before_good_frames_is_corrupt(void **state)
{
    struct wal w;

    (void)state;
    wal_fill(&w, 4, 0);
    for (size_t at = w.refs[0].offset; at < w.refs[3].offset; at += at % 8 == 0 ? 1 : 3) {
        size_t frame = 0;
        while (frame < 3 && at >= w.refs[frame + 1].offset)
            frame++;
        w.file.data[at] ^= 0x80;
        const struct loch_wal_file_scan s = scan_of(&w, 0, NULL);
        assert_int_equal(s.verdict, LOCH_WAL_CORRUPT);
        assert_int_equal(s.frames, frame);
        w.file.data[at] ^= 0x80;
    }
    /* A hole, and a frame in the place of another. */
    memset(w.file.data + w.refs[1].offset, 0, w.refs[1].stored_bytes);
    assert_int_equal(scan_of(&w, 0, NULL).verdict, LOCH_WAL_CORRUPT);
    memcpy(w.file.data + w.refs[1].offset, w.file.data + w.refs[0].offset, w.refs[0].stored_bytes);
    assert_int_equal(scan_of(&w, 0, NULL).verdict, LOCH_WAL_CORRUPT);
    wal_fini(&w);
}

/* Two frames of one unsynced write: the disk may have kept only the second one. */
static void reordered_unsynced_frames_are_torn(void **state)
{
    struct wal w;

    (void)state;
    wal_fill(&w, 6, 3); /* each was sealed while up to three before it were not durable */
    w.file.data[w.refs[3].offset + 70] ^= 1;
    struct loch_wal_file_scan s = scan_of(&w, 0, NULL);
    assert_int_equal(s.verdict, LOCH_WAL_TORN);
    assert_int_equal(s.frames, 3);
    assert_int_equal(scan_of(&w, w.refs[4].lsn, NULL).verdict, LOCH_WAL_CORRUPT);
    w.file.data[w.refs[3].offset + 70] ^= 1;
    w.file.data[w.refs[0].offset + 70] ^= 1; /* frame 6 knew that frames up to 2 were durable */
    assert_int_equal(scan_of(&w, 0, NULL).verdict, LOCH_WAL_CORRUPT);
    wal_fini(&w);
    wal_fill(&w, 6, UINT32_MAX);
    w.file.data[w.refs[0].offset + 70] ^= 1;
    assert_int_equal(scan_of(&w, 0, NULL).verdict, LOCH_WAL_TORN);
    wal_fini(&w);
}

static loch_status head_open(struct wal *w, const struct loch_place *place)
{
    const struct loch_key_source source = fixture_source(&w->f);
    struct loch_wal_reader *reader = NULL;
    const loch_status st = loch_wal_reader_open(place, &source, loch_buf_slice(&w->file), &reader);

    loch_wal_reader_destroy(reader);
    return st;
}

static void heads_are_proven(void **state)
{
    struct wal w;
    const struct loch_place place = fixture_place(LOCH_KIND_WAL);
    struct loch_place p;

    (void)state;
    wal_fill(&w, 1, 0);
    for (size_t at = 0; at < LOCH_WAL_HEAD_BYTES; at++) {
        w.file.data[at] ^= 0x20;
        assert_false(loch_is_ok(head_open(&w, &place)));
        w.file.data[at] ^= 0x20;
    }
    p = place;
    p.generation++;
    assert_code(head_open(&w, &p), LOCH_E_CORRUPT);
    p = place;
    p.node.bytes[3] ^= 1; /* the directory of another safekeeper */
    assert_code(head_open(&w, &p), LOCH_E_CORRUPT);
    p = place;
    p.timeline.bytes[3] ^= 1;
    assert_code(head_open(&w, &p), LOCH_E_CORRUPT);
    p = place;
    p.tenant.bytes[3] ^= 1;
    assert_code(head_open(&w, &p), LOCH_E_CORRUPT);
    w.f.denied = true;
    assert_code(head_open(&w, &place), LOCH_E_DENIED);
    w.f.denied = false;
    w.f.keys[0].version++;
    assert_code(head_open(&w, &place), LOCH_E_NOT_FOUND);
    w.file.len = LOCH_WAL_HEAD_BYTES - 1;
    assert_code(head_open(&w, &place), LOCH_E_CORRUPT);
    wal_fini(&w);
}

/* Frames of another session of the same place (an older file, a restored one) are not accepted. */
static void sessions_do_not_mix(void **state)
{
    struct wal a;
    struct wal b;

    (void)state;
    wal_fill(&a, 4, 0);
    wal_fill(&b, 4, 0);
    memcpy(a.file.data + a.refs[2].offset, b.file.data + b.refs[2].offset,
           a.file.len - a.refs[2].offset);
    const struct loch_wal_file_scan s = scan_of(&a, 0, NULL);
    assert_int_equal(s.frames, 2);
    assert_int_equal(s.verdict, LOCH_WAL_TORN);
    wal_fini(&a);
    wal_fini(&b);
}

static void scan_passes_failures_up(void **state)
{
    struct wal w;
    struct loch_wal_file_scan scan;
    struct seen seen = {.file = &w.file, .stop = true};

    (void)state;
    wal_fill(&w, 4, 0);
    struct loch_wal_reader *reader = reader_of(&w);
    assert_code(loch_wal_scan_file(reader, w.file.len, read_at, &w.file, 0, &scan, see, &seen),
                LOCH_E_LIMIT);
    assert_int_equal(seen.frames, 1);
    assert_code(
        loch_wal_scan_file(reader, w.file.len + 100, read_at, &w.file, 0, &scan, NULL, NULL),
        LOCH_E_CORRUPT); /* read_at's own failure */
    loch_wal_reader_destroy(reader);
    wal_fini(&w);
}

static void golden_wal(void **state)
{
    struct wal w;

    (void)state;
    loch_random_test_seed(2);
    wal_fill(&w, 3, 1);
    loch_random_test_seed(0);
    fixture_golden("wal.bin", loch_buf_slice(&w.file));
    wal_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_read_back),
        cmocka_unit_test(writer_refuses_disorder),
        cmocka_unit_test(whole_files_are_clean),
        cmocka_unit_test(cut_tails_are_torn),
        cmocka_unit_test(damage_before_good_frames_is_corrupt),
        cmocka_unit_test(reordered_unsynced_frames_are_torn),
        cmocka_unit_test(heads_are_proven),
        cmocka_unit_test(sessions_do_not_mix),
        cmocka_unit_test(scan_passes_failures_up),
        cmocka_unit_test(golden_wal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
