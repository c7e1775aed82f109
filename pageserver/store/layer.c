/* Reading layer files. The index is parsed once into sorted runs; see layer_write.c for the format.
 */
#include "layer.h"
#include "frame_cache.h"
#include "layer_build.h"
#include "layer_copy.h"
#include "passing.h"
#include "timeline.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/base/secret.h"
#include "loch/format/layer_file.h"
#include "loch/host/keys.h"
#include "loch/io/env.h"

#include <assert.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define INDEX_FORMAT 2u
#define RUN_BYTES    (LOCH_KEY_BYTES + 22u)
/* Where there was no copy of the file, none is asked for again so soon. */
#define NO_COPY_NS (UINT64_C(60) * 1000 * 1000 * 1000)
/* A block of at most this size is read onto the stack: an image of a page, and more. */
#define FRAME_LOCAL_BYTES 10240u
/* Ten records of a page, with room. */
#define RUN_FETCHED_BYTES 2048u
/* Of an encoded key: where the block's number begins, which is its end. */
#define KEY_BLOCK_AT (LOCH_KEY_BYTES - 4u)

struct run {
    uint8_t key[LOCH_KEY_BYTES];
    uint16_t chain;
    uint32_t frame, offset;
    uint32_t chain_bytes;
    loch_lsn first_lsn;
};

struct loch_layer {
    atomic_uint refs;
    struct loch_id tenant, timeline;
    struct loch_layer_desc desc;
    struct loch_frame_cache *cache; /* may be NULL */
    struct loch_env *env;
    struct loch_objstore *objstore;
    struct loch_heal_stats *heals; /* may be NULL */
    _Atomic uint64_t no_copy_until_ns;
    atomic_bool harmed; /* a block had to be read from the copy, or could not be */
    struct loch_file *file;
    struct loch_layer_reader *reader;
    struct loch_layer_ref *frames;
    uint32_t frame_count;
    struct run *runs;
    uint32_t run_count;
    uint32_t longest; /* chain of a page */
    atomic_bool imaged;
    struct loch_id key_id; /* what wraps its DEK */
    uint32_t key_version;
    _Atomic uint32_t found; /* the run of a page that was found last: where to look first */
    _Atomic uint64_t asked; /* twice the keyring's generation when is_old was found out, plus it */
};

struct loch_layer *loch_layer_retain(struct loch_layer *layer)
{
    atomic_fetch_add_explicit(&layer->refs, 1, memory_order_relaxed);
    return layer;
}

void loch_layer_release(struct loch_layer *layer)
{
    if (layer == NULL || atomic_fetch_sub_explicit(&layer->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (layer->cache != NULL)
        loch_frame_cache_drop(layer->cache, &layer->desc.file_id);
    loch_layer_reader_destroy(layer->reader);
    loch_file_close(layer->file);
    free(layer->frames);
    free(layer->runs);
    free(layer);
}

const struct loch_layer_desc *loch_layer_desc(const struct loch_layer *layer)
{
    return &layer->desc;
}

bool loch_layer_is_old(struct loch_layer *layer, struct loch_keys *keys)
{
    const uint64_t generation = loch_keys_generation(keys, &layer->tenant);
    uint64_t known = atomic_load_explicit(&layer->asked, memory_order_relaxed);

    if (generation == 0)
        return false; /* nothing of the tenant can be written now */
    if (known / 2 != generation) {
        known = 2 * generation +
                loch_keys_is_retired(keys, &layer->tenant, &layer->key_id, layer->key_version);
        atomic_store_explicit(&layer->asked, known, memory_order_relaxed);
    }
    return known % 2 != 0;
}

uint32_t loch_layer_longest(const struct loch_layer *layer)
{
    return layer->longest;
}

void loch_layer_set_imaged(struct loch_layer *layer)
{
    atomic_store_explicit(&layer->imaged, true, memory_order_relaxed);
}

bool loch_layer_is_imaged(const struct loch_layer *layer)
{
    return atomic_load_explicit(&layer->imaged, memory_order_relaxed);
}

bool loch_layer_is_harmed(const struct loch_layer *layer)
{
    return atomic_load_explicit(&layer->harmed, memory_order_relaxed);
}

size_t loch_layer_index_bytes(const struct loch_layer *layer)
{
    return layer->run_count * sizeof *layer->runs + layer->frame_count * sizeof *layer->frames;
}

static uint64_t big_endian(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return __builtin_bswap64(v);
}

/* As memcmp of the keys, then by LSN; in three words, as searches live on it. */
static int compare_runs(const struct run *a, const struct run *b)
{
    static_assert(LOCH_KEY_BYTES == 18, "two words and the last of a third");
    for (unsigned at = 0; at <= 10; at += at == 0 ? 8 : 2) {
        const uint64_t x = big_endian(a->key + at), y = big_endian(b->key + at);
        if (x != y)
            return x < y ? -1 : 1;
    }
    return a->first_lsn < b->first_lsn ? -1 : a->first_lsn > b->first_lsn;
}

static loch_status parse_runs(struct loch_layer *layer, struct loch_reader *r)
{
    layer->run_count = loch_read_u32(r);
    if (r->bad || layer->run_count == 0 || layer->run_count > loch_reader_left(r) / RUN_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a layer's index is cut short");
    layer->runs = calloc(layer->run_count, sizeof *layer->runs);
    if (layer->runs == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for an index of %u runs", layer->run_count);
    for (uint32_t i = 0; i < layer->run_count; i++) {
        struct run *run = &layer->runs[i];
        struct loch_key key;
        loch_read_into(r, run->key, sizeof run->key);
        run->first_lsn = loch_read_u64(r);
        run->frame = loch_read_u32(r);
        run->offset = loch_read_u32(r);
        run->chain = loch_read_u16(r);
        run->chain_bytes = loch_read_u32(r);
        LOCH_TRY(loch_key_decode(run->key, &key));
        if (key.kind == LOCH_KEY_PAGE && run->chain > layer->longest)
            layer->longest = run->chain;
        if (run->frame >= layer->frame_count ||
            (i > 0 && compare_runs(&layer->runs[i - 1], run) > 0))
            return LOCH_FAIL(LOCH_E_CORRUPT, "a layer's index is out of order at run %u", i);
    }
    return LOCH_OK;
}

static loch_status parse_index(struct loch_layer *layer)
{
    struct loch_reader r;
    loch_reader_init(&r, loch_layer_reader_index(layer->reader));
    uint32_t format = loch_read_u32(&r);
    if (format != INDEX_FORMAT)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED, "a layer's index has format %u", format);
    layer->frame_count = loch_read_u32(&r);
    if (r.bad || layer->frame_count != loch_layer_reader_frames(layer->reader) ||
        layer->frame_count > loch_reader_left(&r) / LOCH_LAYER_REF_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a layer's index is cut short");
    layer->frames = calloc((size_t)layer->frame_count + 1, sizeof *layer->frames);
    if (layer->frames == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for an index");
    for (uint32_t i = 0; i < layer->frame_count; i++) {
        uint8_t ref[LOCH_LAYER_REF_BYTES];
        loch_read_into(&r, ref, sizeof ref);
        layer->frames[i] = loch_layer_ref_decode(ref);
    }
    LOCH_TRY(parse_runs(layer, &r));
    return loch_reader_finish(&r, "a layer's index");
}

static loch_status read_at(void *arg, uint64_t offset, void *out, size_t len)
{
    return loch_file_read(arg, offset, out, len);
}

static loch_status open_file(const struct loch_store *store, struct loch_keys *keys,
                             const struct loch_timeline_info *info, struct loch_layer *layer)
{
    char path[LOCH_LAYER_PATH_BYTES];
    uint64_t size = 0;
    const struct loch_layer_desc *desc = &layer->desc;
    LOCH_TRY(loch_layer_path(store, info, desc, path));
    LOCH_TRY(loch_file_open(store->env, path, O_RDONLY, &layer->file));
    LOCH_TRY(loch_file_size(layer->file, &size));
    if (size != desc->file_bytes)
        return LOCH_FAIL(LOCH_E_CORRUPT, "%s has %" PRIu64 " bytes instead of %" PRIu64, path, size,
                         desc->file_bytes);
    struct loch_place place = {.kind = LOCH_KIND_LAYER,
                               .tenant = info->tenant,
                               .timeline = info->timeline,
                               .file_id = desc->file_id,
                               .generation = desc->generation};
    struct loch_key_source source = loch_keys_source(keys);
    uint8_t head[LOCH_FILE_HEADER_BYTES];
    struct loch_file_peek peek = {0};
    loch_status st = size < sizeof head ? LOCH_FAIL(LOCH_E_CORRUPT, "too short for a layer")
                                        : loch_file_read(layer->file, 0, head, sizeof head);
    if (loch_is_ok(st))
        st = loch_file_peek(loch_slice_of(head, sizeof head), &peek);
    layer->key_id = peek.key_id;
    layer->key_version = peek.key_version;
    if (loch_is_ok(st))
        st = loch_layer_reader_open(&place, &source, size, read_at, layer->file, &layer->reader);
    if (loch_is_ok(st))
        st = parse_index(layer);
    return loch_status_about(st, path);
}

LOCH_STATUS loch_layer_open(const struct loch_store *store, struct loch_keys *keys,
                            const struct loch_timeline_info *info,
                            const struct loch_layer_desc *desc, struct loch_layer **out)
{
    struct loch_layer *layer = calloc(1, sizeof *layer);
    if (layer == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a layer");
    atomic_init(&layer->refs, 1);
    layer->tenant = info->tenant;
    layer->timeline = info->timeline;
    layer->desc = *desc;
    layer->cache = store->frames;
    layer->env = store->env;
    layer->objstore = store->objstore;
    layer->heals = store->heals;
    atomic_init(&layer->harmed, false);
    atomic_init(&layer->imaged, false);
    loch_status st = open_file(store, keys, info, layer);
    if (!loch_is_ok(st)) {
        loch_layer_release(layer);
        return st;
    }
    *out = layer;
    return LOCH_OK;
}

/* Images of a relation's pages are runs one beside the other: from where one of them was found,
 * the next is reckoned. The number of runs <= `wanted`, or 0: it has to be searched for. */
static uint32_t reckon(const struct loch_layer *layer, const struct run *wanted)
{
    const uint32_t from = atomic_load_explicit(&layer->found, memory_order_relaxed);
    const struct run *known = &layer->runs[from];
    if (wanted->key[0] != LOCH_KEY_PAGE || memcmp(known->key, wanted->key, KEY_BLOCK_AT) != 0)
        return 0;
    const int64_t at = (int64_t)from + (int64_t)(big_endian(wanted->key + 10) & UINT32_MAX) -
                       (int64_t)(big_endian(known->key + 10) & UINT32_MAX);
    if (at < 0 || at >= layer->run_count || compare_runs(&layer->runs[at], wanted) > 0 ||
        (at + 1 < layer->run_count && compare_runs(&layer->runs[at + 1], wanted) <= 0))
        return 0;
    return (uint32_t)at + 1;
}

/* The number of runs that are <= (key, lsn). */
static uint32_t runs_upto(struct loch_layer *layer, const struct run *wanted)
{
    uint32_t lo = reckon(layer, wanted), hi = layer->run_count;
    if (lo > 0)
        return lo;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (compare_runs(&layer->runs[mid], wanted) <= 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo > 0 && wanted->key[0] == LOCH_KEY_PAGE)
        atomic_store_explicit(&layer->found, lo - 1, memory_order_relaxed);
    return lo;
}

/* Says which block of which file of whom it is. */
static loch_status name_failure(const struct loch_layer *layer, uint32_t number, loch_status st)
{
    char text[300], file[LOCH_ID_TEXT_BYTES], tenant[LOCH_ID_TEXT_BYTES],
        timeline[LOCH_ID_TEXT_BYTES];
    if (st.code == LOCH_E_NO_MEMORY)
        return st;
    snprintf(text, sizeof text, "%s", loch_error_text());
    return LOCH_FAIL(st.code, "tenant %s, timeline %s, layer %s, block %u: %s",
                     loch_id_format(&layer->tenant, tenant),
                     loch_id_format(&layer->timeline, timeline),
                     loch_id_format(&layer->desc.file_id, file), number, text);
}

/* The block out of the file's copy, opened as if it came from here. */
static loch_status read_copied(struct loch_layer *layer, uint32_t number, struct loch_buf *raw)
{
    const struct loch_layer_ref *ref = &layer->frames[number];
    struct loch_buf stored = {0};
    const uint64_t now_ns = loch_env_now_ns(layer->env);
    if (now_ns < atomic_load_explicit(&layer->no_copy_until_ns, memory_order_relaxed))
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "the layer had no copy a moment ago");
    loch_status st = loch_layer_copy_block(layer->objstore, &layer->tenant, &layer->timeline,
                                           &layer->desc, ref->offset, ref->stored_bytes, &stored);
    if (st.code == LOCH_E_NOT_FOUND)
        atomic_store_explicit(&layer->no_copy_until_ns, now_ns + NO_COPY_NS, memory_order_relaxed);
    if (loch_is_ok(st))
        st = loch_layer_reader_open_frame(layer->reader, ref, loch_buf_slice(&stored), raw);
    loch_buf_fini(&stored);
    return st;
}

/* A damaged block is read from the copy, if there is one; upkeep then heals the file. `st` says
 * what is wrong with it. A copy that cannot be asked now may be there: that can be tried again. */
static loch_status read_elsewhere(struct loch_layer *layer, uint32_t number, loch_status st,
                                  struct loch_buf *raw)
{
    char why[400];
    st = name_failure(layer, number, st);
    if (st.code != LOCH_E_CORRUPT && st.code != LOCH_E_IO)
        return st;
    snprintf(why, sizeof why, "%s", loch_error_text());
    const bool known = atomic_exchange(&layer->harmed, true);
    raw->len = 0;
    const loch_status copied = read_copied(layer, number, raw);
    if (loch_status_passes(copied))
        return loch_layer_copy_away(copied, why);
    if (!loch_is_ok(copied))
        return LOCH_FAIL(st.code, "%s", why);
    if (layer->heals != NULL)
        atomic_fetch_add_explicit(&layer->heals->blocks, 1, memory_order_relaxed);
    if (!known)
        LOCH_WARN("read from the copy instead: %s", why);
    return LOCH_OK;
}

static loch_status read_frame(struct loch_layer *layer, uint32_t number, struct loch_frame **out)
{
    struct loch_buf raw = {0};
    loch_status st = loch_layer_reader_frame(layer->reader, &layer->frames[number], &raw);
    if (!loch_is_ok(st))
        st = read_elsewhere(layer, number, st, &raw);
    if (!loch_is_ok(st)) {
        loch_buf_fini(&raw);
        return st;
    }
    return loch_frame_create(&raw, out);
}

/* The same from the OS cache alone; any failure means only that it is to be read by others. */
static loch_status read_frame_now(struct loch_layer *layer, uint32_t number,
                                  struct loch_passing *passing, struct loch_frame **out)
{
    const struct loch_layer_ref *ref = &layer->frames[number];
    const size_t len = ref->stored_bytes;
    uint8_t local[FRAME_LOCAL_BYTES];
    struct loch_buf large = {0}, raw = {0};
    uint8_t *stored = NULL;
    if (passing != NULL)
        stored = loch_passing_take(passing, layer->file, &layer->desc.file_id, ref);
    if (stored == NULL) {
        if (len > sizeof local)
            LOCH_TRY(loch_buf_reserve(&large, len));
        stored = len > sizeof local ? large.data : local;
        if (loch_file_read_now(layer->file, ref->offset, stored, len) != len) {
            loch_buf_fini(&large);
            return LOCH_FAIL(LOCH_E_UNAVAILABLE, "a block that is not in memory");
        }
    }
    loch_status st = loch_layer_reader_open_in_place(layer->reader, ref, stored, len, &raw);
    loch_wipe(stored, len); /* it was opened in place */
    loch_buf_fini(&large);
    if (loch_is_ok(st))
        return loch_frame_create(&raw, out);
    loch_buf_fini(&raw);
    return st;
}

/* A page that has its frame for itself: what is read from it is kept as a page, if at all. */
static bool is_page_alone(const struct loch_layer *layer, uint32_t run)
{
    const uint32_t frame = layer->runs[run].frame;
    struct loch_key key;
    return loch_is_ok(loch_key_decode(layer->runs[run].key, &key)) && key.kind == LOCH_KEY_PAGE &&
           (run == 0 || layer->runs[run - 1].frame != frame) &&
           (run + 1 == layer->run_count || layer->runs[run + 1].frame != frame);
}

/* A frame that more than one page stands in, where it was left: by the scan, or in the cache. */
static struct loch_frame *find_frame(struct loch_layer *layer, uint32_t number,
                                     const struct loch_versions *hold)
{
    struct loch_frame *frame = NULL;
    if (hold->passing != NULL)
        frame = loch_passing_frame(hold->passing, &layer->desc.file_id, number);
    if (frame == NULL && layer->cache != NULL)
        frame = loch_frame_cache_get(layer->cache, &layer->desc.file_id, number);
    return frame;
}

static loch_status load_frame(struct loch_layer *layer, uint32_t run, struct loch_versions *hold,
                              struct loch_slice *bytes)
{
    const uint32_t number = layer->runs[run].frame;
    const bool alone = is_page_alone(layer, run);
    struct loch_frame *frame = alone ? NULL : find_frame(layer, number, hold);
    if (frame == NULL) {
        LOCH_TRY(hold->at_once ? read_frame_now(layer, number, hold->passing, &frame)
                               : read_frame(layer, number, &frame));
        if (!alone && hold->passing != NULL &&
            loch_frame_bytes(frame).len <= LOCH_FRAME_CACHED_MAX_BYTES)
            loch_passing_keep(hold->passing, &layer->desc.file_id, number, frame);
        else if (!alone && layer->cache != NULL)
            loch_frame_cache_put(layer->cache, &layer->desc.file_id, number, frame);
    }
    *bytes = loch_frame_bytes(frame);
    return loch_versions_hold(hold, frame);
}

static loch_status read_version(struct loch_reader *r, struct loch_version *v)
{
    uint8_t kind = loch_read_u8(r);
    *v = (struct loch_version){.lsn = loch_read_u64(r)};
    if (kind == LOCH_VERSION_RECORD || kind == LOCH_VERSION_RECORD_INIT)
        v->start_lsn = loch_read_u64(r);
    v->bytes = loch_read_lp(r, UINT32_MAX);
    if (r->bad || kind < LOCH_VERSION_VALUE || kind > LOCH_VERSION_OP)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a layer's frame holds a malformed version");
    v->kind = (enum loch_version_kind)kind;
    return LOCH_OK;
}

/* A chain's first records lie one behind the other in a frame that was opened a while ago: fetched
 * together, they come in the time of one. */
static void fetch_run(const uint8_t *at, size_t len)
{
    const size_t most = loch_min_u64(len, RUN_FETCHED_BYTES);
    for (size_t i = 0; i < most; i += 64)
        __builtin_prefetch(at + i);
}

/* Appends a run's versions within floor..lsn, newest first, down to the newest base. They stand
 * oldest first: a base makes what was taken before it superfluous. */
static loch_status collect_run(struct loch_slice frame, uint32_t offset, loch_lsn floor,
                               loch_lsn lsn, struct loch_versions *out, bool *base)
{
    if (offset > frame.len)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a layer's index points beyond a frame");
    const size_t first = out->count;
    struct loch_reader r;
    fetch_run(frame.data + offset, frame.len - offset);
    loch_reader_init(&r, loch_slice_of(frame.data + offset, frame.len - offset));
    for (uint32_t left = loch_read_u32(&r); left > 0; left--) {
        struct loch_version v;
        LOCH_TRY(read_version(&r, &v));
        if (v.lsn > lsn)
            break;
        if (v.lsn < floor)
            continue;
        if (loch_version_is_base(&v)) {
            out->count = first;
            *base = true;
        }
        LOCH_TRY(loch_versions_add(out, &v));
    }
    loch_versions_reverse(out, first);
    return LOCH_OK;
}

LOCH_STATUS loch_layer_collect(struct loch_layer *layer, const struct loch_key *key, loch_lsn floor,
                               loch_lsn lsn, struct loch_versions *out, bool *base)
{
    struct run wanted = {.first_lsn = lsn};
    loch_key_encode(key, wanted.key);
    *base = false;
    for (uint32_t i = runs_upto(layer, &wanted); i-- > 0 && !*base;) {
        const struct run *run = &layer->runs[i];
        struct loch_slice frame;
        if (memcmp(run->key, wanted.key, LOCH_KEY_BYTES) != 0)
            break;
        LOCH_TRY(load_frame(layer, i, out, &frame));
        LOCH_TRY(collect_run(frame, run->offset, floor, lsn, out, base));
        if (run->first_lsn < floor)
            break;
    }
    return LOCH_OK;
}

LOCH_STATUS loch_layer_keys(struct loch_layer *layer, const struct loch_key *first,
                            const struct loch_key *end, struct loch_key **out, size_t *count)
{
    struct run from = {0}, upto = {0};
    loch_key_encode(first, from.key);
    loch_key_encode(end, upto.key);
    uint32_t at = runs_upto(layer, &from), stop = runs_upto(layer, &upto);
    struct loch_key *keys = reallocarray(*out, *count + (stop - at) + 1, sizeof *keys);
    if (keys == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %u keys", stop - at);
    *out = keys;
    for (; at < stop; at++) {
        struct loch_key key;
        LOCH_TRY(loch_key_decode(layer->runs[at].key, &key));
        if (*count == 0 || loch_key_compare(&keys[*count - 1], &key) != 0)
            keys[(*count)++] = key;
    }
    return LOCH_OK;
}

bool loch_layer_chain(struct loch_layer *layer, const struct loch_key *key, struct loch_chain *out)
{
    struct run wanted = {.first_lsn = LOCH_LSN_MAX};
    loch_key_encode(key, wanted.key);
    uint32_t i = runs_upto(layer, &wanted);
    if (i == 0 || memcmp(layer->runs[i - 1].key, wanted.key, LOCH_KEY_BYTES) != 0)
        return false;
    *out = (struct loch_chain){layer->runs[i - 1].chain, layer->runs[i - 1].chain_bytes};
    return true;
}

/* ---- all of it, in order ---- */

bool loch_layer_cursor_key(const struct loch_layer_cursor *cursor, struct loch_key *out)
{
    if (cursor->run >= cursor->layer->run_count)
        return false;
    return loch_is_ok(loch_key_decode(cursor->layer->runs[cursor->run].key, out));
}

static loch_status take_run(struct loch_layer_cursor *c, const struct run *run,
                            struct loch_versions *out)
{
    if (c->frame == NULL || c->frame_number != run->frame) {
        loch_frame_release(c->frame);
        c->frame = NULL;
        LOCH_TRY(read_frame(c->layer, run->frame, &c->frame));
        c->frame_number = run->frame;
    }
    struct loch_slice frame = loch_frame_bytes(c->frame);
    if (run->offset > frame.len)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a layer's index points beyond a frame");
    LOCH_TRY(loch_versions_hold(out, loch_frame_retain(c->frame)));
    struct loch_reader r;
    loch_reader_init(&r, loch_slice_of(frame.data + run->offset, frame.len - run->offset));
    uint32_t count = loch_read_u32(&r);
    for (uint32_t i = 0; i < count; i++) {
        struct loch_version v;
        LOCH_TRY(read_version(&r, &v));
        LOCH_TRY(loch_versions_add(out, &v));
    }
    return LOCH_OK;
}

LOCH_STATUS loch_layer_cursor_take(struct loch_layer_cursor *c, struct loch_versions *out)
{
    const struct loch_layer *layer = c->layer;
    const uint8_t *key = layer->runs[c->run].key;
    while (c->run < layer->run_count && memcmp(layer->runs[c->run].key, key, LOCH_KEY_BYTES) == 0)
        LOCH_TRY(take_run(c, &layer->runs[c->run++], out));
    return LOCH_OK;
}

uint64_t loch_layer_cursor_skip(struct loch_layer_cursor *c)
{
    const struct loch_layer *layer = c->layer;
    const uint8_t *key = layer->runs[c->run].key;
    uint64_t bytes = 0;
    for (; c->run < layer->run_count && memcmp(layer->runs[c->run].key, key, LOCH_KEY_BYTES) == 0;
         c->run++)
        bytes += loch_max_u64(LOCH_FRAME_TARGET_BYTES,
                              layer->frames[layer->runs[c->run].frame].stored_bytes);
    return bytes;
}

void loch_layer_cursor_fini(struct loch_layer_cursor *c)
{
    loch_frame_release(c->frame);
    c->frame = NULL;
}
