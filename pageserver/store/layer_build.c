/* Building a layer file: keys in order, each key's versions oldest first. A frame is closed
 * once it has 8 KiB, so an image of a page, the usual thing to be read, opens alone; only records
 * on top of a base go on in its frame, up to 16 KiB.
 *
 * A run (the versions of one key within one frame) is u32 count, then for each version u8 kind, u64
 * lsn, for the record kinds u64 start_lsn, u32 length, bytes. Index: u32 format (2), u32 frames,
 * the frames' refs (16 bytes each), u32 runs, and for each run the key (18 bytes), u64 lsn of its
 * first version, u32 frame, u32 offset within the frame, u16 records and u32 bytes that a read of
 * the key's newest version here applies. Runs ascend by (key, first lsn). Twin:
 * docs/format/versions.md.
 */
#include "layer_build.h"
#include "layer_copy.h"
#include "timeline.h"

#include "loch/base/check.h"
#include "loch/base/secret.h"
#include "loch/format/layer_file.h"
#include "loch/host/keys.h"
#include "loch/io/env.h"
#include "loch/objstore/objstore.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define INDEX_FORMAT 2u
static_assert(LOCH_VERSION_MAX_BYTES + 2 * LOCH_FRAME_CHAIN_BYTES <= LOCH_LAYER_FRAME_MAX_BYTES,
              "the largest version fits behind what its frame may hold by then");
/* Frames of nothing but smaller versions, records of single changes, are compressed in less time:
 * at 1 % more bytes. */
#define LARGE_BYTES 1024u
/* What is written at a time. */
#define PIECE_BYTES ((size_t)1 << 20)

struct loch_layer_builder {
    const struct loch_store *store;
    const struct loch_timeline_info *info;
    struct loch_layer_desc desc;
    struct loch_layer_writer *writer;
    struct loch_new_file *out; /* NULL: ended */
    struct loch_buf file;      /* what is not in it yet */
    struct loch_buf frame, refs, runs;
    bool frame_has_large; /* a version of LARGE_BYTES or more: an image, or rows of a bulk load */
    uint32_t frame_count, run_count;
};

LOCH_STATUS loch_timeline_dir(const struct loch_store *store, const struct loch_id *tenant,
                              const struct loch_id *timeline, char path[LOCH_LAYER_PATH_BYTES])
{
    char a[LOCH_ID_TEXT_BYTES], b[LOCH_ID_TEXT_BYTES];
    int n = snprintf(path, LOCH_LAYER_PATH_BYTES, "%s/tenants/%s/timelines/%s", store->dir,
                     loch_id_format(tenant, a), loch_id_format(timeline, b));
    if (n < 0 || (size_t)n >= LOCH_LAYER_PATH_BYTES)
        return LOCH_FAIL(LOCH_E_LIMIT, "the data directory's path is too long");
    return LOCH_OK;
}

LOCH_STATUS loch_layer_path(const struct loch_store *store, const struct loch_timeline_info *info,
                            const struct loch_layer_desc *desc, char path[LOCH_LAYER_PATH_BYTES])
{
    char id[LOCH_ID_TEXT_BYTES];
    LOCH_TRY(loch_timeline_dir(store, &info->tenant, &info->timeline, path));
    size_t at = strlen(path);
    int n = snprintf(path + at, LOCH_LAYER_PATH_BYTES - at, "/%s-%" PRIu64 ".layer",
                     loch_id_format(&desc->file_id, id), desc->generation);
    if (n < 0 || (size_t)n >= LOCH_LAYER_PATH_BYTES - at)
        return LOCH_FAIL(LOCH_E_LIMIT, "the data directory's path is too long");
    return LOCH_OK;
}

static loch_status write_out(struct loch_layer_builder *w)
{
    LOCH_TRY(loch_new_file_add(w->out, loch_buf_slice(&w->file)));
    w->file.len = 0; /* sealed bytes: nothing to wipe */
    return LOCH_OK;
}

static loch_status end_frame(struct loch_layer_builder *w)
{
    if (w->frame.len == 0)
        return LOCH_OK;
    struct loch_layer_ref ref;
    uint8_t encoded[LOCH_LAYER_REF_BYTES];
    loch_layer_writer_hurry(w->writer, !w->frame_has_large);
    LOCH_TRY(loch_layer_writer_frame(w->writer, loch_buf_slice(&w->frame), &w->file, &ref));
    loch_layer_ref_encode(&ref, encoded);
    LOCH_TRY(loch_buf_append(&w->refs, encoded, sizeof encoded));
    w->frame_count++;
    w->frame.len = 0;
    w->frame_has_large = false;
    return w->file.len >= PIECE_BYTES ? write_out(w) : LOCH_OK;
}

static void put_version(struct loch_layer_builder *w, struct loch_writer *frame,
                        const struct loch_version *v)
{
    loch_write_u8(frame, (uint8_t)v->kind);
    loch_write_u64(frame, v->lsn);
    if (v->kind == LOCH_VERSION_RECORD || v->kind == LOCH_VERSION_RECORD_INIT)
        loch_write_u64(frame, v->start_lsn);
    loch_write_lp(frame, v->bytes);
    w->frame_has_large = w->frame_has_large || v->bytes.len >= LARGE_BYTES;
}

/* A key's versions go on in the frame as it is: a chain stays with its base. */
static bool goes_on(const struct loch_version *next, size_t bytes)
{
    return bytes < (loch_version_is_base(next) ? LOCH_FRAME_TARGET_BYTES : LOCH_FRAME_CHAIN_BYTES);
}

/* Writes versions items[count-1] .. items[0] (newest first in memory, oldest first on disk). */
static loch_status write_key(struct loch_layer_builder *w, const struct loch_key *key,
                             const struct loch_version *items, size_t count,
                             const struct loch_chain *chain)
{
    uint8_t encoded[LOCH_KEY_BYTES];
    loch_key_encode(key, encoded);
    size_t left = count;
    while (left > 0) {
        size_t n = 0, bytes = w->frame.len;
        while (n < left && (n == 0 || goes_on(&items[left - 1 - n], bytes)))
            bytes += loch_layer_version_bytes(&items[left - ++n]);
        struct loch_writer index, frame;
        loch_writer_init(&index, &w->runs);
        loch_write_bytes(&index, encoded, sizeof encoded);
        loch_write_u64(&index, items[left - 1].lsn);
        loch_write_u32(&index, w->frame_count);
        loch_write_u32(&index, (uint32_t)w->frame.len);
        loch_write_u16(&index, (uint16_t)loch_min_u64(chain->records, UINT16_MAX));
        loch_write_u32(&index, chain->bytes);
        LOCH_TRY(loch_writer_finish(&index));
        loch_writer_init(&frame, &w->frame);
        loch_write_u32(&frame, (uint32_t)n);
        for (size_t i = 0; i < n; i++)
            put_version(w, &frame, &items[left - 1 - i]);
        LOCH_TRY(loch_writer_finish(&frame));
        w->run_count++;
        left -= n;
        if (w->frame.len >= LOCH_FRAME_TARGET_BYTES)
            LOCH_TRY(end_frame(w));
    }
    return LOCH_OK;
}

static loch_status finish_file(struct loch_layer_builder *w, uint64_t *file_bytes)
{
    struct loch_buf index = {0};
    struct loch_writer iw;
    loch_writer_init(&iw, &index);
    loch_write_u32(&iw, INDEX_FORMAT);
    loch_write_u32(&iw, w->frame_count);
    loch_write_bytes(&iw, w->refs.data, w->refs.len);
    loch_write_u32(&iw, w->run_count);
    loch_write_bytes(&iw, w->runs.data, w->runs.len);
    loch_status st = loch_writer_finish(&iw);
    if (loch_is_ok(st))
        st = loch_layer_writer_finish(w->writer, loch_buf_slice(&index), &w->file, file_bytes);
    loch_buf_fini(&index);
    return loch_is_ok(st) ? write_out(w) : st;
}

/* The file under its own name, with nothing in it yet. */
static loch_status open_out(struct loch_layer_builder *w)
{
    char path[LOCH_LAYER_PATH_BYTES];
    LOCH_TRY(loch_timeline_dir(w->store, &w->info->tenant, &w->info->timeline, path));
    LOCH_TRY(loch_env_mkdirs(w->store->env, path));
    LOCH_TRY(loch_layer_path(w->store, w->info, &w->desc, path));
    return loch_env_new_file(w->store->env, path, &w->out);
}

LOCH_STATUS loch_layer_builder_create(const struct loch_store *store, struct loch_keys *keys,
                                      const struct loch_timeline_info *info,
                                      const struct loch_layer_desc *desc,
                                      struct loch_layer_builder **out)
{
    struct loch_layer_builder *w = calloc(1, sizeof *w);
    if (w == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a layer");
    w->store = store;
    w->info = info;
    w->desc = (struct loch_layer_desc){
        .generation = 1,
        .level = desc->level,
        .span = {.start_lsn = desc->span.start_lsn, .end_lsn = desc->span.end_lsn}};
    struct loch_wrap_key key = {0};
    loch_status st =
        loch_env_random(store->env, w->desc.file_id.bytes, sizeof w->desc.file_id.bytes);
    if (loch_is_ok(st))
        st = loch_keys_wrap_key(keys, &info->tenant, &info->timeline, LOCH_PURPOSE_PAGE, &key);
    struct loch_place place = {.kind = LOCH_KIND_LAYER,
                               .tenant = info->tenant,
                               .timeline = info->timeline,
                               .file_id = w->desc.file_id,
                               .generation = w->desc.generation};
    struct loch_layer_options options = {.codec = store->zstd ? LOCH_LAYER_ZSTD : LOCH_LAYER_LZ4,
                                         .pad = true};
    if (loch_is_ok(st))
        st = loch_layer_writer_create(&place, &key, &options, &w->file, &w->writer);
    loch_wrap_key_fini(&key);
    if (loch_is_ok(st))
        st = open_out(w);
    if (!loch_is_ok(st)) {
        loch_layer_builder_destroy(w);
        return st;
    }
    *out = w;
    return LOCH_OK;
}

void loch_layer_builder_destroy(struct loch_layer_builder *w)
{
    if (w == NULL)
        return;
    loch_new_file_abandon(w->out);
    loch_layer_writer_destroy(w->writer);
    loch_buf_fini(&w->file);
    loch_wipe(w->frame.data, w->frame.cap);
    loch_buf_fini(&w->frame);
    loch_buf_fini(&w->refs);
    loch_buf_fini(&w->runs);
    free(w);
}

static void count_up(uint32_t *counter, size_t n)
{
    *counter = (uint32_t)loch_min_u64(UINT32_MAX, *counter + (uint64_t)n);
}

/* What stands behind the newest base is of the past. */
static void weigh(struct loch_layer_builder *w, const struct loch_version *items, size_t count,
                  uint64_t held)
{
    bool superseded = false;
    uint64_t past = 0;
    for (size_t i = 0; i < count; i++) {
        w->desc.weight.raw += loch_layer_version_bytes(&items[i]);
        past += superseded ? loch_layer_version_bytes(&items[i]) : 0;
        superseded = superseded || loch_version_is_base(&items[i]);
        count_up(&w->desc.images, items[i].kind == LOCH_VERSION_VALUE);
    }
    w->desc.weight.held += held;
    w->desc.weight.past += past > held ? past - held : 0;
}

LOCH_STATUS loch_layer_builder_add(struct loch_layer_builder *w, const struct loch_key *key,
                                   const struct loch_version *items, size_t count,
                                   const struct loch_chain *chain, uint64_t held)
{
    LOCH_ASSERT(count > 0);
    if (w->desc.keys == 0)
        w->desc.span.first = *key;
    LOCH_ASSERT(w->desc.keys == 0 || loch_key_compare(&w->desc.span.last, key) < 0);
    w->desc.span.last = *key;
    count_up(&w->desc.keys, 1);
    count_up(&w->desc.versions, count);
    weigh(w, items, count, held);
    return write_key(w, key, items, count, chain);
}

uint64_t loch_layer_builder_bytes(const struct loch_layer_builder *w)
{
    return loch_layer_writer_bytes(w->writer) + w->frame.len + w->refs.len + w->runs.len;
}

static loch_status copy_file(const struct loch_layer_builder *w)
{
    char path[LOCH_LAYER_PATH_BYTES];
    struct loch_buf bytes = {0};
    LOCH_TRY(loch_layer_path(w->store, w->info, &w->desc, path));
    loch_status st = loch_env_read_file(w->store->env, path, w->desc.file_bytes, &bytes);
    if (loch_is_ok(st))
        st = loch_layer_copy_put(w->store, w->info, &w->desc, loch_buf_slice(&bytes));
    loch_buf_fini(&bytes);
    return st;
}

/* Durable, in the object store too where that is wanted. */
static loch_status put_file(struct loch_layer_builder *w)
{
    char why[300];
    loch_status st = loch_new_file_end(w->out);
    w->out = NULL;
    if (loch_is_ok(st) && w->store->copies)
        st = copy_file(w);
    if (loch_is_ok(st) || st.code == LOCH_E_EXISTS)
        return st;
    (void)snprintf(why, sizeof why, "%s", loch_error_text());
    loch_layer_discard(w->store, w->info, &w->desc); /* it may be there all the same */
    return LOCH_FAIL(st.code, "%s", why);
}

LOCH_STATUS loch_layer_builder_finish(struct loch_layer_builder *w, struct loch_layer_desc *out)
{
    LOCH_ASSERT(w->desc.keys > 0);
    LOCH_TRY(end_frame(w));
    LOCH_TRY(finish_file(w, &w->desc.file_bytes));
    LOCH_TRY(put_file(w));
    *out = w->desc;
    return LOCH_OK;
}
