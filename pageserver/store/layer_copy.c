/* Copies of layer files in the object store. */
#include "layer_copy.h"

#include "timeline.h"

#include "loch/base/log.h"
#include "loch/format/layer_file.h"
#include "loch/host/keys.h"
#include "loch/io/env.h"
#include "loch/objstore/objstore.h"

#include <stdio.h>

LOCH_STATUS loch_layer_copy_name(const struct loch_id *tenant, const struct loch_id *timeline,
                                 const char *file, char name[LOCH_LAYER_PATH_BYTES])
{
    char a[LOCH_ID_TEXT_BYTES], b[LOCH_ID_TEXT_BYTES];
    int n = snprintf(name, LOCH_LAYER_PATH_BYTES, "tenants/%s/timelines/%s/layers/%s",
                     loch_id_format(tenant, a), loch_id_format(timeline, b), file);
    if (n < 0 || n > (int)LOCH_OBJECT_NAME_MAX)
        return LOCH_FAIL(LOCH_E_LIMIT, "a layer's name is too long");
    return LOCH_OK;
}

static loch_status name_of(const struct loch_id *tenant, const struct loch_id *timeline,
                           const struct loch_layer_desc *desc, char name[LOCH_LAYER_PATH_BYTES])
{
    char file[LOCH_ID_TEXT_BYTES + 40], id[LOCH_ID_TEXT_BYTES];
    (void)snprintf(file, sizeof file, "%s-%" PRIu64 ".layer", loch_id_format(&desc->file_id, id),
                   desc->generation);
    return loch_layer_copy_name(tenant, timeline, file, name);
}

LOCH_STATUS loch_layer_copy_put(const struct loch_store *store,
                                const struct loch_timeline_info *info,
                                const struct loch_layer_desc *desc, struct loch_slice bytes)
{
    char name[LOCH_LAYER_PATH_BYTES];
    LOCH_TRY(name_of(&info->tenant, &info->timeline, desc, name));
    return loch_objstore_put(store->objstore, name, bytes, NULL);
}

LOCH_STATUS loch_layer_copy_remove(const struct loch_store *store,
                                   const struct loch_timeline_info *info,
                                   const struct loch_layer_desc *desc)
{
    char name[LOCH_LAYER_PATH_BYTES];
    LOCH_TRY(name_of(&info->tenant, &info->timeline, desc, name));
    return loch_objstore_delete(store->objstore, name);
}

void loch_layer_discard(const struct loch_store *store, const struct loch_timeline_info *info,
                        const struct loch_layer_desc *desc)
{
    char path[LOCH_LAYER_PATH_BYTES];
    loch_status st = loch_layer_path(store, info, desc, path);
    if (loch_is_ok(st)) /* the copy first: the file leads to it at the next opening */
        st = loch_layer_copy_remove(store, info, desc);
    if (loch_is_ok(st))
        st = loch_env_unlink(store->env, path);
    if (!loch_is_ok(st) && st.code != LOCH_E_NOT_FOUND)
        LOCH_WARN("a layer file that is not needed stays until the next start: %s",
                  loch_error_text());
}

LOCH_STATUS loch_layer_copy_away(loch_status copied, const char *why)
{
    char text[400];
    snprintf(text, sizeof text, "%s", loch_error_text());
    return LOCH_FAIL(copied.code, "%.300s; and its copy cannot be read now: %s", why, text);
}

LOCH_STATUS loch_layer_copy_block(struct loch_objstore *objstore, const struct loch_id *tenant,
                                  const struct loch_id *timeline,
                                  const struct loch_layer_desc *desc, uint64_t offset, size_t len,
                                  struct loch_buf *out)
{
    char name[LOCH_LAYER_PATH_BYTES];
    LOCH_TRY(name_of(tenant, timeline, desc, name));
    return loch_objstore_get_range(objstore, name, offset, len, out);
}

/* ---- whole files ---- */

static loch_status read_bytes(void *arg, uint64_t offset, void *out, size_t len)
{
    const struct loch_buf *bytes = arg;
    if (offset > bytes->len || len > bytes->len - offset)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a layer is cut short");
    memcpy(out, bytes->data + offset, len);
    return LOCH_OK;
}

static loch_status open_blocks(struct loch_layer_reader *reader)
{
    struct loch_reader r;
    loch_reader_init(&r, loch_layer_reader_index(reader));
    (void)loch_read_u32(&r); /* format: the opening looks at it */
    uint32_t count = loch_read_u32(&r);
    if (r.bad || count != loch_layer_reader_frames(reader))
        return LOCH_FAIL(LOCH_E_CORRUPT, "a layer's index is cut short");
    for (uint32_t i = 0; i < count; i++) {
        uint8_t encoded[LOCH_LAYER_REF_BYTES];
        struct loch_buf raw = {0};
        loch_read_into(&r, encoded, sizeof encoded);
        if (r.bad)
            return LOCH_FAIL(LOCH_E_CORRUPT, "a layer's index is cut short");
        struct loch_layer_ref ref = loch_layer_ref_decode(encoded);
        loch_status st = loch_layer_reader_frame(reader, &ref, &raw);
        loch_buf_fini(&raw);
        if (!loch_is_ok(st)) {
            char why[200];
            snprintf(why, sizeof why, "%s", loch_error_text());
            return LOCH_FAIL(st.code, "block %u: %s", i, why);
        }
    }
    return LOCH_OK;
}

/* Header, footer, index and each block. */
static loch_status check_bytes(struct loch_keys *keys, const struct loch_timeline_info *info,
                               const struct loch_layer_desc *desc, struct loch_buf *bytes)
{
    struct loch_place place = {.kind = LOCH_KIND_LAYER,
                               .tenant = info->tenant,
                               .timeline = info->timeline,
                               .file_id = desc->file_id,
                               .generation = desc->generation};
    struct loch_key_source source = loch_keys_source(keys);
    struct loch_layer_reader *reader = NULL;
    if (bytes->len != desc->file_bytes)
        return LOCH_FAIL(LOCH_E_CORRUPT, "it has %zu bytes instead of %" PRIu64, bytes->len,
                         desc->file_bytes);
    LOCH_TRY(loch_layer_reader_open(&place, &source, bytes->len, read_bytes, bytes, &reader));
    loch_status st = open_blocks(reader);
    loch_layer_reader_destroy(reader);
    return st;
}

static loch_status read_local(const struct loch_store *store, struct loch_keys *keys,
                              const struct loch_timeline_info *info,
                              const struct loch_layer_desc *desc, struct loch_buf *bytes)
{
    char path[LOCH_LAYER_PATH_BYTES];
    LOCH_TRY(loch_layer_path(store, info, desc, path));
    loch_status st = loch_env_read_file(store->env, path, desc->file_bytes + 1, bytes);
    if (st.code == LOCH_E_LIMIT)
        st = LOCH_FAIL(LOCH_E_CORRUPT, "it is longer than %" PRIu64 " bytes", desc->file_bytes);
    if (loch_is_ok(st))
        st = check_bytes(keys, info, desc, bytes);
    return loch_status_about(st, path);
}

static loch_status read_copy(const struct loch_store *store, struct loch_keys *keys,
                             const struct loch_timeline_info *info,
                             const struct loch_layer_desc *desc, struct loch_buf *bytes)
{
    char name[LOCH_LAYER_PATH_BYTES];
    LOCH_TRY(name_of(&info->tenant, &info->timeline, desc, name));
    loch_status st = loch_objstore_get(store->objstore, name, desc->file_bytes + 1, bytes, NULL);
    if (st.code == LOCH_E_LIMIT)
        st = LOCH_FAIL(LOCH_E_CORRUPT, "it is longer than %" PRIu64 " bytes", desc->file_bytes);
    if (loch_is_ok(st))
        st = check_bytes(keys, info, desc, bytes);
    return loch_status_about(st, name);
}

static loch_status write_local(const struct loch_store *store,
                               const struct loch_timeline_info *info,
                               const struct loch_layer_desc *desc, const struct loch_buf *bytes)
{
    char path[LOCH_LAYER_PATH_BYTES];
    LOCH_TRY(loch_timeline_dir(store, &info->tenant, &info->timeline, path));
    LOCH_TRY(loch_env_mkdirs(store->env, path));
    LOCH_TRY(loch_layer_path(store, info, desc, path));
    return loch_env_replace_file(store->env, path, loch_buf_slice(bytes));
}

LOCH_STATUS loch_layer_copy_fetch(const struct loch_store *store, struct loch_keys *keys,
                                  const struct loch_timeline_info *info,
                                  const struct loch_layer_desc *desc)
{
    struct loch_buf bytes = {0};
    loch_status st = read_copy(store, keys, info, desc, &bytes);
    if (loch_is_ok(st))
        st = write_local(store, info, desc, &bytes);
    loch_buf_fini(&bytes);
    return st;
}

/* ---- one heals the other ---- */

static bool is_damage(loch_status st)
{
    return st.code == LOCH_E_CORRUPT || st.code == LOCH_E_NOT_FOUND || st.code == LOCH_E_IO;
}

static void count(atomic_uint_least64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static loch_status heal_copy(const struct loch_store *store, const struct loch_timeline_info *info,
                             const struct loch_layer_desc *desc, struct loch_buf *bytes,
                             bool was_there)
{
    LOCH_TRY(loch_layer_copy_put(store, info, desc, loch_buf_slice(bytes)));
    if (was_there && store->heals != NULL)
        count(&store->heals->copies);
    return LOCH_OK;
}

static loch_status heal_local(const struct loch_store *store, const struct loch_timeline_info *info,
                              const struct loch_layer_desc *desc, struct loch_buf *bytes)
{
    LOCH_TRY(write_local(store, info, desc, bytes));
    if (store->heals != NULL)
        count(&store->heals->files);
    return LOCH_OK;
}

LOCH_STATUS loch_layer_copy_check(const struct loch_store *store, struct loch_keys *keys,
                                  const struct loch_timeline_info *info,
                                  const struct loch_layer_desc *desc, bool wanted, bool *healed)
{
    struct loch_buf here = {0}, there = {0};
    char why[300] = "";
    *healed = false;
    loch_status st = read_local(store, keys, info, desc, &here);
    loch_status local = st, copy = LOCH_OK;
    if (!loch_is_ok(local))
        snprintf(why, sizeof why, "%s", loch_error_text());
    if (loch_is_ok(st) || is_damage(st))
        st = copy = read_copy(store, keys, info, desc, &there);
    if (loch_is_ok(local) && is_damage(copy)) {
        const bool was_there = copy.code == LOCH_E_CORRUPT;
        if (was_there)
            LOCH_WARN("the copy of a layer is damaged, put again: %s", loch_error_text());
        st = was_there || wanted ? heal_copy(store, info, desc, &here, was_there) : LOCH_OK;
    } else if (is_damage(local) && loch_is_ok(copy)) {
        LOCH_WARN("a layer is damaged, written anew from its copy: %s", why);
        st = heal_local(store, info, desc, &there);
        *healed = loch_is_ok(st);
    } else if (is_damage(local) && is_damage(copy)) {
        if (store->heals != NULL)
            count(&store->heals->lost);
        st = LOCH_FAIL(local.code, "%s; and there is no good copy", why);
    }
    loch_buf_fini(&here);
    loch_buf_fini(&there);
    return st;
}
