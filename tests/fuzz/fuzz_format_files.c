/* Sealed objects, layers and WAL files: arbitrary bytes, and edits of valid files. Whatever the
 * edits, what still opens must be what was sealed. */
#include "fuzz.h"

#include "../../src/format/layer_internal.h"

#include "loch/base/check.h"
#include "loch/crypto/random.h"
#include "loch/format/layer_file.h"
#include "loch/format/sealed_object.h"
#include "loch/format/wal_archive.h"
#include "loch/format/wal_file.h"

#include <string.h>

#define FRAMES 6u
#define START  UINT64_C(1000)

static struct loch_wrap_key key;
static struct loch_buf object, wal, archive;
/* One of each codec. */
static struct sealed_layer {
    struct loch_buf file;
    struct loch_layer_ref refs[FRAMES];
} layers[2];
static const struct loch_place place_object = {.kind = LOCH_KIND_CONTROL, .tenant = {{1}}};
static const struct loch_place place_layer = {.kind = LOCH_KIND_LAYER, .file_id = {{2}}};
static const struct loch_place place_archive = {.kind = LOCH_KIND_WAL_ARCHIVE, .generation = START};
static const struct loch_place place_wal = {.kind = LOCH_KIND_WAL, .node = {{3}}};

#define MUST(expr_)                                                                                \
    do {                                                                                           \
        const loch_status must_st_ = (expr_);                                                      \
        LOCH_ASSERT(loch_is_ok(must_st_));                                                         \
    } while (0)

static loch_status find(void *arg, const struct loch_place *expected, const struct loch_id *key_id,
                        uint32_t version, struct loch_secret *out)
{
    (void)arg;
    (void)expected;
    if (version != key.version || !loch_id_equal(key_id, &key.key_id))
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "no such key");
    return loch_secret_copy(out, &key.secret);
}

static const struct loch_key_source source = {find, NULL};

static void frame_bytes(uint32_t i, uint8_t out[static 300])
{
    memset(out, (int)('a' + i), 300);
}

static void setup_layer(struct sealed_layer *l, enum loch_layer_codec codec)
{
    const struct loch_layer_options options = {codec, true};
    struct loch_layer_writer *w = NULL;
    uint8_t bytes[300];
    uint64_t n;

    MUST(loch_layer_writer_create(&place_layer, &key, &options, &l->file, &w));
    for (uint32_t i = 0; i < FRAMES; i++) {
        frame_bytes(i, bytes);
        MUST(loch_layer_writer_frame(w, loch_slice_of(bytes, 300), &l->file, &l->refs[i]));
    }
    MUST(loch_layer_writer_finish(w, loch_slice_of("index", 5), &l->file, &n));
    loch_layer_writer_destroy(w);
}

static void setup(void)
{
    const struct loch_wal_begin begin = {START, START, 1, 1};
    struct loch_wal_writer *ww = NULL;
    uint8_t bytes[300];

    if (key.version != 0)
        return;
    key.version = 1;
    MUST(loch_random_secret(&key.secret, 32));
    MUST(loch_sealed_object_seal(&place_object, &key, loch_slice_of("content", 7), true, &object));
    setup_layer(&layers[0], LOCH_LAYER_ZSTD);
    setup_layer(&layers[1], LOCH_LAYER_LZ4);
    MUST(loch_wal_writer_create(&place_wal, &key, &begin, &wal, &ww));
    frame_bytes(0, bytes);
    const struct loch_wal_piece piece = {START, START + 300, 1, 150000, 1u << 24};
    MUST(loch_wal_archive_seal(&place_archive, &key, &piece, loch_slice_of(bytes, 300), &archive));
    for (uint32_t i = 0; i < FRAMES; i++) {
        frame_bytes(i, bytes);
        MUST(loch_wal_writer_seal(ww, START + 300 * i, 1, START + 300 * i, i % 3,
                                  loch_slice_of(bytes, 300), &wal, NULL));
    }
    loch_wal_writer_destroy(ww);
}

static loch_status read_at(void *arg, uint64_t offset, void *out, size_t len)
{
    const struct loch_buf *file = arg;

    if (offset > file->len || len > file->len - offset)
        return LOCH_FAIL(LOCH_E_CORRUPT, "short");
    memcpy(out, file->data + offset, len);
    return LOCH_OK;
}

static void try_object(struct loch_buf *file)
{
    struct loch_buf plain = {0};
    uint64_t generation;

    if (loch_is_ok(loch_sealed_object_open(&place_object, &source, loch_buf_slice(file), &plain,
                                           &generation))) {
        LOCH_ASSERT(plain.len == 7);
        LOCH_ASSERT(memcmp(plain.data, "content", 7) == 0);
    }
    loch_buf_fini(&plain);
}

static void try_archive(struct loch_buf *file)
{
    struct loch_wal_piece piece;
    struct loch_buf bytes = {0};
    uint8_t want[300];

    frame_bytes(0, want);
    if (loch_is_ok(
            loch_wal_archive_open(&place_archive, &source, loch_buf_slice(file), &piece, &bytes))) {
        LOCH_ASSERT(bytes.len == 300);
        LOCH_ASSERT(memcmp(bytes.data, want, 300) == 0);
    }
    loch_buf_fini(&bytes);
}

/* A sealed object of the right place whose content is anything at all. */
static void try_archive_content(const uint8_t *data, size_t size)
{
    struct loch_wal_piece piece;
    struct loch_buf sealed = {0};
    struct loch_buf bytes = {0};

    MUST(loch_sealed_object_seal(&place_archive, &key, loch_slice_of(data, size), true, &sealed));
    if (loch_is_ok(loch_wal_archive_open(&place_archive, &source, loch_buf_slice(&sealed), &piece,
                                         &bytes)))
        LOCH_ASSERT(bytes.len == piece.end - piece.begin);
    loch_buf_fini(&sealed);
    loch_buf_fini(&bytes);
}

static void try_layer(struct loch_buf *file, const struct loch_layer_ref *refs)
{
    struct loch_layer_reader *reader = NULL;
    struct loch_buf raw = {0};
    uint8_t want[300];

    if (!loch_is_ok(
            loch_layer_reader_open(&place_layer, &source, file->len, read_at, file, &reader)))
        return;
    LOCH_ASSERT(loch_layer_reader_index(reader).len == 5);
    for (uint32_t i = 0; i < FRAMES; i++) {
        raw.len = 0;
        frame_bytes(i, want);
        if (!loch_is_ok(loch_layer_reader_frame(reader, &refs[i], &raw)))
            continue;
        LOCH_ASSERT(raw.len == 300);
        LOCH_ASSERT(memcmp(raw.data, want, 300) == 0);
    }
    loch_layer_reader_destroy(reader);
    loch_buf_fini(&raw);
}

/* What the seal of a frame lets through when its writer is not ours: any bytes at all. */
static void try_unpack(const uint8_t *data, size_t size)
{
    struct loch_buf raw = {0};

    if (size < LAYER_INNER_BYTES)
        return;
    for (uint8_t codec = CODEC_NONE; codec <= CODEC_LZ4; codec++) {
        raw.len = 0;
        if (loch_is_ok(layer_unpack(codec, data, size, 1u << 16, &raw)))
            LOCH_ASSERT(raw.len == loch_get_u32(data));
        else
            LOCH_ASSERT(raw.len == 0);
    }
    loch_buf_fini(&raw);
}

static loch_status see(void *arg, const struct loch_wal_frame_ref *ref, struct loch_slice stored,
                       uint64_t term, loch_lsn boundary_lsn, struct loch_slice bytes)
{
    uint32_t *frames = arg;
    uint8_t want[300];

    frame_bytes(*frames, want);
    LOCH_ASSERT(ref->lsn == START + 300 * *frames);
    LOCH_ASSERT(boundary_lsn == ref->lsn);
    LOCH_ASSERT(term == 1);
    LOCH_ASSERT(stored.len == ref->stored_bytes);
    LOCH_ASSERT(bytes.len == 300);
    LOCH_ASSERT(memcmp(bytes.data, want, 300) == 0);
    (*frames)++;
    return LOCH_OK;
}

static void try_wal(struct loch_buf *file, bool edited)
{
    struct loch_wal_reader *reader = NULL;
    struct loch_wal_file_scan scan;
    uint32_t frames = 0;

    if (!loch_is_ok(loch_wal_reader_open(&place_wal, &source, loch_buf_slice(file), &reader)))
        return;
    MUST(loch_wal_scan_file(reader, file->len, read_at, file, 0, &scan, see, &frames));
    LOCH_ASSERT(scan.frames == frames);
    /* Damaged bytes never pass as a clean end. */
    if (edited && memcmp(file->data, wal.data, wal.len) != 0)
        LOCH_ASSERT(scan.verdict != LOCH_WAL_CLEAN || frames < FRAMES);
    loch_wal_reader_destroy(reader);
}

static void copy(struct loch_buf *out, const struct loch_buf *from, const uint8_t *data,
                 size_t size)
{
    out->len = 0;
    MUST(loch_buf_append(out, from->data, from->len));
    fuzz_edit(out->data, out->len, data, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct loch_buf file = {0};
    struct loch_file_peek peek;

    setup();
    (void)loch_is_ok(loch_file_peek(loch_slice_of(data, size), &peek));
    MUST(loch_buf_append(&file, data, size));
    try_object(&file);
    try_layer(&file, layers[0].refs);
    try_wal(&file, false);
    try_unpack(data, size);
    try_archive(&file);
    try_archive_content(data, size);
    copy(&file, &archive, data, size);
    try_archive(&file);
    copy(&file, &object, data, size);
    try_object(&file);
    copy(&file, &wal, data, size);
    try_wal(&file, true);
    /* Edits behind the header reach what the header's MAC does not guard. */
    file.len = 0;
    MUST(loch_buf_append(&file, wal.data, wal.len));
    fuzz_edit(file.data + LOCH_WAL_HEAD_BYTES, file.len - LOCH_WAL_HEAD_BYTES, data, size);
    try_wal(&file, true);
    for (size_t i = 0; i < 2; i++) {
        const struct sealed_layer *l = &layers[i];
        copy(&file, &l->file, data, size);
        try_layer(&file, l->refs);
        file.len = 0;
        MUST(loch_buf_append(&file, l->file.data, l->file.len));
        fuzz_edit(file.data + LOCH_FILE_HEADER_BYTES, l->refs[FRAMES - 1].offset, data, size);
        try_layer(&file, l->refs);
    }
    loch_buf_fini(&file);
    return 0;
}
