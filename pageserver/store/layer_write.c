/* Writing a layer file: keys in order, each key's versions oldest first, in frames of about 32 KiB.
 *
 * A run (the versions of one key within one frame) is u32 count, then for each version u8 kind, u64
 * lsn, for the record kinds u64 start_lsn, u32 length, bytes. Index: u32 format (1), u32 frames,
 * the frames' refs (16 bytes each), u32 runs, and for each run the key (18 bytes), u64 lsn of its
 * first version, u32 frame, u32 offset within the frame. Runs ascend by (key, first lsn). Twin:
 * docs/format/layer.md.
 */
#include "layer.h"
#include "timeline.h"

#include "loch/base/check.h"
#include "loch/format/layer_file.h"
#include "loch/host/keys.h"
#include "loch/io/env.h"
#include "loch/objstore/objstore.h"

#include <stdio.h>
#include <stdlib.h>

#define FRAME_TARGET_BYTES ((size_t)32 << 10)
#define INDEX_FORMAT       1u

struct writing {
    struct loch_layer_writer *writer;
    struct loch_buf file, frame, refs, runs;
    uint32_t frame_count, run_count;
    const struct loch_layer_imager *imager;
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

static loch_status end_frame(struct writing *w)
{
    if (w->frame.len == 0)
        return LOCH_OK;
    struct loch_layer_ref ref;
    uint8_t encoded[LOCH_LAYER_REF_BYTES];
    LOCH_TRY(loch_layer_writer_frame(w->writer, loch_buf_slice(&w->frame), &w->file, &ref));
    loch_layer_ref_encode(&ref, encoded);
    LOCH_TRY(loch_buf_append(&w->refs, encoded, sizeof encoded));
    w->frame_count++;
    w->frame.len = 0;
    return LOCH_OK;
}

static size_t stored_bytes(const struct loch_version *v)
{
    return v->bytes.len + 21;
}

static void write_version(struct loch_writer *w, const struct loch_version *v)
{
    loch_write_u8(w, (uint8_t)v->kind);
    loch_write_u64(w, v->lsn);
    if (v->kind == LOCH_VERSION_RECORD || v->kind == LOCH_VERSION_RECORD_INIT)
        loch_write_u64(w, v->start_lsn);
    loch_write_lp(w, v->bytes);
}

/* Writes versions items[count-1] .. items[0] (newest first in memory, oldest first on disk). */
static loch_status write_key(struct writing *w, const struct loch_key *key,
                             const struct loch_version *items, size_t count)
{
    uint8_t encoded[LOCH_KEY_BYTES];
    loch_key_encode(key, encoded);
    size_t left = count;
    while (left > 0) {
        size_t n = 0, bytes = w->frame.len;
        while (n < left && (n == 0 || bytes < FRAME_TARGET_BYTES))
            bytes += stored_bytes(&items[left - ++n]);
        struct loch_writer index, frame;
        loch_writer_init(&index, &w->runs);
        loch_write_bytes(&index, encoded, sizeof encoded);
        loch_write_u64(&index, items[left - 1].lsn);
        loch_write_u32(&index, w->frame_count);
        loch_write_u32(&index, (uint32_t)w->frame.len);
        LOCH_TRY(loch_writer_finish(&index));
        loch_writer_init(&frame, &w->frame);
        loch_write_u32(&frame, (uint32_t)n);
        for (size_t i = 0; i < n; i++)
            write_version(&frame, &items[left - 1 - i]);
        LOCH_TRY(loch_writer_finish(&frame));
        w->run_count++;
        left -= n;
        if (w->frame.len >= FRAME_TARGET_BYTES)
            LOCH_TRY(end_frame(w));
    }
    return LOCH_OK;
}

/* Whether reading the page at its newest version would cost more than an image is worth. */
static bool wants_image(const struct writing *w, const struct loch_key *key,
                        const struct loch_versions *list)
{
    size_t chain = 0, bytes = 0;
    if (w->imager == NULL || w->imager->make == NULL || key->kind != LOCH_KEY_PAGE)
        return false;
    while (chain < list->count && list->items[chain].kind != LOCH_VERSION_VALUE)
        bytes += list->items[chain++].bytes.len;
    return chain > w->imager->chain_max || bytes > w->imager->chain_bytes_max;
}

/* An image on top of a long chain: a version with the LSN of the chain's newest record, after it.
 */
static loch_status add_image(struct writing *w, const struct loch_key *key,
                             struct loch_versions *list, uint8_t page[LOCH_PAGE_BYTES])
{
    if (!wants_image(w, key, list))
        return LOCH_OK;
    bool made = false;
    LOCH_TRY(w->imager->make(w->imager->arg, key, list->items[0].lsn, page, &made));
    if (!made)
        return LOCH_OK;
    struct loch_version image = {.lsn = list->items[0].lsn,
                                 .kind = LOCH_VERSION_VALUE,
                                 .bytes = loch_slice_of(page, LOCH_PAGE_BYTES)};
    LOCH_TRY(loch_versions_add(list, &image));
    struct loch_version last = list->items[list->count - 1];
    memmove(list->items + 1, list->items, (list->count - 1) * sizeof *list->items);
    list->items[0] = last;
    return LOCH_OK;
}

static loch_status write_keys(struct writing *w, struct loch_mem_layer *mem,
                              const struct loch_key *keys, size_t count)
{
    uint8_t page[LOCH_PAGE_BYTES];
    for (size_t i = 0; i < count; i++) {
        struct loch_versions list = {0};
        loch_status st = loch_mem_layer_history(mem, &keys[i], &list);
        if (loch_is_ok(st))
            st = add_image(w, &keys[i], &list, page);
        if (loch_is_ok(st))
            st = write_key(w, &keys[i], list.items, list.count);
        loch_versions_fini(&list);
        LOCH_TRY(st);
    }
    return end_frame(w);
}

static loch_status finish_file(struct writing *w, uint64_t *file_bytes)
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
    return st;
}

static loch_status begin_file(const struct loch_store *store, struct loch_keys *keys,
                              const struct loch_timeline_info *info, struct writing *w,
                              struct loch_layer_desc *desc)
{
    LOCH_TRY(loch_env_random(store->env, desc->file_id.bytes, sizeof desc->file_id.bytes));
    struct loch_place place = {.kind = LOCH_KIND_LAYER,
                               .tenant = info->tenant,
                               .timeline = info->timeline,
                               .file_id = desc->file_id,
                               .generation = desc->generation};
    struct loch_wrap_key key = {0};
    LOCH_TRY(loch_keys_wrap_key(keys, &info->tenant, &info->timeline, LOCH_PURPOSE_PAGE, &key));
    struct loch_layer_options options = {.compress = true, .pad = true};
    loch_status st = loch_layer_writer_create(&place, &key, &options, &w->file, &w->writer);
    loch_wrap_key_fini(&key);
    return st;
}

static void all_keys(struct loch_key *first, struct loch_key *end)
{
    *first = (struct loch_key){0};
    *end = (struct loch_key){.kind = UINT8_MAX};
}

LOCH_STATUS loch_layer_write(const struct loch_store *store, struct loch_keys *keys,
                             const struct loch_timeline_info *info, struct loch_mem_layer *mem,
                             const struct loch_layer_imager *imager, struct loch_layer_desc *out)
{
    LOCH_ASSERT(loch_mem_layer_end_lsn(mem) != LOCH_LSN_MAX);
    struct writing w = {.imager = imager};
    struct loch_key *list = NULL, first, end;
    size_t count = 0;
    char path[LOCH_LAYER_PATH_BYTES];
    struct loch_layer_desc desc = {.generation = 1,
                                   .span = {.start_lsn = loch_mem_layer_start_lsn(mem),
                                            .end_lsn = loch_mem_layer_end_lsn(mem)}};
    loch_status st = LOCH_OK;

    all_keys(&first, &end);
    LOCH_TRY_OUT(st, loch_mem_layer_keys(mem, &first, &end, &list, &count));
    LOCH_ASSERT(count > 0);
    desc.span.first = list[0];
    desc.span.last = list[count - 1];
    LOCH_TRY_OUT(st, begin_file(store, keys, info, &w, &desc));
    LOCH_TRY_OUT(st, write_keys(&w, mem, list, count));
    LOCH_TRY_OUT(st, finish_file(&w, &desc.file_bytes));
    LOCH_TRY_OUT(st, loch_layer_path(store, info, &desc, path));
    LOCH_TRY_OUT(st, loch_env_create_file(store->env, path, loch_buf_slice(&w.file)));
    *out = desc;
out:
    free(list);
    loch_layer_writer_destroy(w.writer);
    loch_buf_fini(&w.file);
    loch_buf_fini(&w.frame);
    loch_buf_fini(&w.refs);
    loch_buf_fini(&w.runs);
    return st;
}
