/* Encoding of manifests, and their way through seal and object store.
 * Timeline: u32 format, u64 generation, tenant, timeline, u64 system_id, u32 pg_version, u32
 * segment_bytes, u64 start_lsn, ancestor, u64 ancestor_lsn, u64 disk_consistent_lsn, u64 prev_lsn,
 * control (u32 length, bytes), u32 layers: file_id, u64 generation, u64 bytes, u64 start, u64 end,
 * first key, last key, u8 level, u32 keys, u32 versions, u32 images, u64 raw, u64 past, u64 held;
 * u64 cutoff, u64 its time, u64 window seconds, u64 window bytes, u32 points: u64; u32 marks: u64
 * lsn, u64 time. Tenant: u32 format, u64 generation, tenant, name, u8 dropping, u32
 * timelines: name, id, ancestor, u64 ancestor_lsn, u8 dropping, u8 archived (from format 3 on),
 * birth (u32 length, bytes); u32 spares: id. */
#include "manifest.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/crypto/hkdf.h"
#include "loch/format/sealed_object.h"
#include "loch/host/keys.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define MANIFEST_FORMAT    2u
#define TENANT_FORMAT      3u
#define TENANT_FORMAT_2    2u /* before timelines were archived */
#define LAYER_BYTES        (16u + 8u * 4u + 2u * LOCH_KEY_BYTES + 1u + 3u * 4u + 3u * 8u)
#define TIMELINE_MIN_BYTES (4u + 16u + 16u + 8u + 1u + 4u)
#define CONTROL_MAX_BYTES  ((size_t)64 << 10)
#define BIRTH_MAX_BYTES    (CONTROL_MAX_BYTES + 4096u)
#define NOTE_LOCKS         64u

void loch_manifest_fini(struct loch_manifest *m)
{
    loch_buf_fini(&m->control);
    free(m->layers);
    free(m->points);
    free(m->marks);
    *m = (struct loch_manifest){0};
}

/* A copy of n items in an array of room for `cap`. */
static loch_status copy_array(const void *from, size_t n, size_t cap, size_t size, void *to)
{
    void *array = calloc(cap + 1, size);
    if (array == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a manifest");
    if (n > 0)
        memcpy(array, from, n * size);
    memcpy(to, &array, sizeof array);
    return LOCH_OK;
}

LOCH_STATUS loch_manifest_copy(const struct loch_manifest *m, struct loch_manifest *out)
{
    *out = *m;
    out->generation++;
    out->control = (struct loch_buf){0};
    out->layers = NULL;
    out->points = NULL;
    out->marks = NULL;
    LOCH_TRY(loch_buf_append(&out->control, m->control.data, m->control.len));
    LOCH_TRY(
        copy_array(m->layers, m->layer_count, m->layer_count, sizeof *m->layers, &out->layers));
    LOCH_TRY(
        copy_array(m->points, m->point_count, m->point_count, sizeof *m->points, &out->points));
    return copy_array(m->marks, m->mark_count, LOCH_MARKS_MAX, sizeof *m->marks, &out->marks);
}

static void write_key(struct loch_writer *w, const struct loch_key *key)
{
    uint8_t bytes[LOCH_KEY_BYTES];
    loch_key_encode(key, bytes);
    loch_write_bytes(w, bytes, sizeof bytes);
}

static void write_retention(struct loch_writer *w, const struct loch_manifest *m)
{
    loch_write_u64(w, m->cutoff.lsn);
    loch_write_u64(w, (uint64_t)m->cutoff.wall_us);
    loch_write_u64(w, m->window.seconds);
    loch_write_u64(w, m->window.bytes);
    loch_write_u32(w, m->point_count);
    for (uint32_t i = 0; i < m->point_count; i++)
        loch_write_u64(w, m->points[i]);
    loch_write_u32(w, m->mark_count);
    for (uint32_t i = 0; i < m->mark_count; i++) {
        loch_write_u64(w, m->marks[i].lsn);
        loch_write_u64(w, (uint64_t)m->marks[i].wall_us);
    }
}

LOCH_STATUS loch_manifest_encode(const struct loch_manifest *m, struct loch_buf *out)
{
    struct loch_writer w;
    loch_writer_init(&w, out);
    loch_write_u32(&w, MANIFEST_FORMAT);
    loch_write_u64(&w, m->generation);
    loch_write_id(&w, &m->info.tenant);
    loch_write_id(&w, &m->info.timeline);
    loch_write_u64(&w, m->info.system_id);
    loch_write_u32(&w, m->info.pg_version);
    loch_write_u32(&w, m->info.segment_bytes);
    loch_write_u64(&w, m->info.start_lsn);
    loch_write_id(&w, &m->info.ancestor);
    loch_write_u64(&w, m->info.ancestor_lsn);
    loch_write_u64(&w, m->disk_consistent_lsn);
    loch_write_u64(&w, m->prev_lsn);
    loch_write_lp(&w, loch_buf_slice(&m->control));
    loch_write_u32(&w, m->layer_count);
    for (uint32_t i = 0; i < m->layer_count; i++) {
        const struct loch_layer_desc *d = &m->layers[i];
        loch_write_id(&w, &d->file_id);
        loch_write_u64(&w, d->generation);
        loch_write_u64(&w, d->file_bytes);
        loch_write_u64(&w, d->span.start_lsn);
        loch_write_u64(&w, d->span.end_lsn);
        write_key(&w, &d->span.first);
        write_key(&w, &d->span.last);
        loch_write_u8(&w, d->level);
        loch_write_u32(&w, d->keys);
        loch_write_u32(&w, d->versions);
        loch_write_u32(&w, d->images);
        loch_write_u64(&w, d->weight.raw);
        loch_write_u64(&w, d->weight.past);
        loch_write_u64(&w, d->weight.held);
    }
    write_retention(&w, m);
    return loch_writer_finish(&w);
}

static loch_status read_layers(struct loch_reader *r, struct loch_manifest *m)
{
    uint32_t count = loch_read_u32(r);
    if (r->bad || count > loch_reader_left(r) / LAYER_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a manifest's list of layers is cut short");
    struct loch_layer_span *spans = calloc((size_t)count + 1, sizeof *spans);
    m->layers = calloc((size_t)count + 1, sizeof *m->layers);
    loch_status st = LOCH_OK;
    if (spans == NULL || m->layers == NULL)
        st = LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %u layers", count);
    for (uint32_t i = 0; i < count && loch_is_ok(st); i++) {
        struct loch_layer_desc *d = &m->layers[i];
        uint8_t first[LOCH_KEY_BYTES], last[LOCH_KEY_BYTES];
        d->file_id = loch_read_id(r);
        d->generation = loch_read_u64(r);
        d->file_bytes = loch_read_u64(r);
        d->span.start_lsn = loch_read_u64(r);
        d->span.end_lsn = loch_read_u64(r);
        loch_read_into(r, first, sizeof first);
        loch_read_into(r, last, sizeof last);
        st = loch_key_decode(first, &d->span.first);
        if (loch_is_ok(st))
            st = loch_key_decode(last, &d->span.last);
        d->level = loch_read_u8(r);
        d->keys = loch_read_u32(r);
        d->versions = loch_read_u32(r);
        d->images = loch_read_u32(r);
        d->weight.raw = loch_read_u64(r);
        d->weight.past = loch_read_u64(r);
        d->weight.held = loch_read_u64(r);
        spans[i] = d->span;
        m->layer_count = i + 1;
    }
    if (loch_is_ok(st))
        st = loch_layers_check(spans, count);
    free(spans);
    return st;
}

static loch_status read_retention(struct loch_reader *r, struct loch_manifest *m)
{
    m->cutoff.lsn = loch_read_u64(r);
    m->cutoff.wall_us = (int64_t)loch_read_u64(r);
    m->window.seconds = loch_read_u64(r);
    m->window.bytes = loch_read_u64(r);
    uint32_t points = loch_read_u32(r);
    if (r->bad || points > loch_reader_left(r) / 8)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a manifest's list of points is cut short");
    m->points = calloc((size_t)points + 1, sizeof *m->points);
    m->marks = calloc(LOCH_MARKS_MAX, sizeof *m->marks);
    if (m->points == NULL || m->marks == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a manifest");
    m->point_count = points;
    for (uint32_t i = 0; i < points; i++) {
        m->points[i] = loch_read_u64(r);
        if (m->points[i] >= m->cutoff.lsn || (i > 0 && m->points[i] <= m->points[i - 1]))
            return LOCH_FAIL(LOCH_E_CORRUPT, "a manifest's points are out of order");
    }
    uint32_t marks = loch_read_u32(r);
    if (r->bad || marks > LOCH_MARKS_MAX)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a manifest has %u marks", marks);
    m->mark_count = marks;
    for (uint32_t i = 0; i < marks; i++) {
        m->marks[i].lsn = loch_read_u64(r);
        m->marks[i].wall_us = (int64_t)loch_read_u64(r);
        if (i > 0 && m->marks[i].lsn <= m->marks[i - 1].lsn)
            return LOCH_FAIL(LOCH_E_CORRUPT, "a manifest's marks are out of order");
    }
    return LOCH_OK;
}

static loch_status check_manifest(const struct loch_manifest *m)
{
    bool branch = !loch_id_is_none(&m->info.ancestor);
    if (m->disk_consistent_lsn < m->info.start_lsn || m->prev_lsn >= m->disk_consistent_lsn)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a manifest's LSNs do not go together");
    if (branch != (m->info.ancestor_lsn != LOCH_LSN_NONE))
        return LOCH_FAIL(LOCH_E_CORRUPT, "a manifest's ancestor lacks its LSN");
    if (m->layer_count > 0 && m->layers[0].span.end_lsn > m->disk_consistent_lsn)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a manifest's newest layer is beyond its LSN");
    if (m->cutoff.lsn > m->disk_consistent_lsn)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a manifest's history begins beyond its end");
    return LOCH_OK;
}

LOCH_STATUS loch_manifest_decode(struct loch_slice bytes, struct loch_manifest *out)
{
    struct loch_reader r;
    loch_reader_init(&r, bytes);
    uint32_t format = loch_read_u32(&r);
    if (format != MANIFEST_FORMAT)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED, "a manifest has format %u", format);
    out->generation = loch_read_u64(&r);
    out->info.tenant = loch_read_id(&r);
    out->info.timeline = loch_read_id(&r);
    out->info.system_id = loch_read_u64(&r);
    out->info.pg_version = loch_read_u32(&r);
    out->info.segment_bytes = loch_read_u32(&r);
    out->info.start_lsn = loch_read_u64(&r);
    out->info.ancestor = loch_read_id(&r);
    out->info.ancestor_lsn = loch_read_u64(&r);
    out->disk_consistent_lsn = loch_read_u64(&r);
    out->prev_lsn = loch_read_u64(&r);
    struct loch_slice control = loch_read_lp(&r, CONTROL_MAX_BYTES);
    LOCH_TRY(loch_buf_append(&out->control, control.data, control.len));
    LOCH_TRY(read_layers(&r, out));
    LOCH_TRY(read_retention(&r, out));
    LOCH_TRY(loch_reader_finish(&r, "a timeline's manifest"));
    return check_manifest(out);
}

/* Name and place of a manifest; timeline NULL: the tenant's own. */
static void locate(const struct loch_id *tenant, const struct loch_id *timeline,
                   char name[LOCH_OBJECT_NAME_MAX], struct loch_place *place)
{
    char a[LOCH_ID_TEXT_BYTES], b[LOCH_ID_TEXT_BYTES];
    *place = (struct loch_place){.kind = LOCH_KIND_TENANT_MANIFEST, .tenant = *tenant};
    if (timeline == NULL) {
        snprintf(name, LOCH_OBJECT_NAME_MAX, "tenants/%s/manifest", loch_id_format(tenant, a));
        return;
    }
    place->kind = LOCH_KIND_TIMELINE_MANIFEST;
    place->timeline = *timeline;
    snprintf(name, LOCH_OBJECT_NAME_MAX, "tenants/%s/timelines/%s/manifest",
             loch_id_format(tenant, a), loch_id_format(timeline, b));
}

/* Where this pageserver remembers the newest manifest it has seen of each timeline and tenant: a
 * store that is wound back is noticed before anything is built, or swept, after an old one. */
void loch_manifest_witness_path(const char *data_dir, const struct loch_id *tenant,
                                const struct loch_id *timeline, char dir[LOCH_LAYER_PATH_BYTES],
                                char path[LOCH_LAYER_PATH_BYTES + 100], const char *suffix)
{
    char a[LOCH_ID_TEXT_BYTES], b[LOCH_ID_TEXT_BYTES] = "";
    if (timeline != NULL)
        loch_id_format(timeline, b);
    snprintf(dir, LOCH_LAYER_PATH_BYTES, "%s/manifests-seen", data_dir);
    snprintf(path, LOCH_LAYER_PATH_BYTES + 100, "%s/%s%s%s%s", dir, loch_id_format(tenant, a),
             timeline != NULL ? "." : "", b, suffix);
}

/* With the version of the key that it is sealed under: a manifest that opens names it truly. */
static loch_status witness_of(uint64_t generation, struct loch_slice sealed,
                              struct loch_witness *out)
{
    struct loch_witness w = {.generation = generation};
    struct loch_file_peek peek;
    LOCH_TRY(loch_file_peek(sealed, &peek));
    LOCH_TRY(loch_sha256(&sealed, 1, w.hash));
    w.key_version = peek.key_version;
    *out = w;
    return LOCH_OK;
}

static loch_status witness_check(const struct loch_store *store, const struct loch_id *tenant,
                                 const struct loch_id *timeline, const char *name,
                                 uint64_t generation, struct loch_slice sealed)
{
    char dir[LOCH_LAYER_PATH_BYTES], path[sizeof dir + 100];
    struct loch_witness offered;
    LOCH_TRY(witness_of(generation, sealed, &offered));
    loch_manifest_witness_path(store->dir, tenant, timeline, dir, path, "");
    return loch_witness_check(store->env, path, name, &offered);
}

/* One at a time of a manifest's notes: they would write the same file. */
static pthread_mutex_t *note_lock(const struct loch_id *tenant, const struct loch_id *timeline)
{
    static pthread_mutex_t locks[NOTE_LOCKS] = {[0 ... NOTE_LOCKS - 1] = PTHREAD_MUTEX_INITIALIZER};
    return &locks[(timeline != NULL ? timeline : tenant)->bytes[0] % NOTE_LOCKS];
}

/* Unless a newer one is noted already. What cannot be noted was put all the same. */
static void note_newest(const struct loch_store *store, const struct loch_id *tenant,
                        const struct loch_id *timeline, const struct loch_witness *newest)
{
    char dir[LOCH_LAYER_PATH_BYTES], path[sizeof dir + 100];
    pthread_mutex_t *lock = note_lock(tenant, timeline);
    loch_manifest_witness_path(store->dir, tenant, timeline, dir, path, "");
    pthread_mutex_lock(lock);
    if (loch_witness_check(store->env, path, "a manifest", newest).code != LOCH_E_STALE &&
        !loch_is_ok(loch_witness_note(store->env, dir, path, newest)))
        loch_log_failure("cannot note which manifest is the newest");
    pthread_mutex_unlock(lock);
}

static void witness_note(const struct loch_store *store, const struct loch_id *tenant,
                         const struct loch_id *timeline, uint64_t generation,
                         struct loch_slice sealed)
{
    struct loch_witness newest;
    if (loch_is_ok(witness_of(generation, sealed, &newest)))
        note_newest(store, tenant, timeline, &newest);
    else
        loch_log_failure("cannot note which manifest is the newest");
}

void loch_manifest_note(const struct loch_store *store, const struct loch_manifest_note *note)
{
    struct loch_witness newest = {.generation = note->generation, .key_version = note->key_version};
    memcpy(newest.hash, note->hash, sizeof newest.hash);
    note_newest(store, &note->tenant, NULL, &newest);
}

LOCH_STATUS loch_manifest_unseen(const struct loch_store *store, const struct loch_id *tenant,
                                 const struct loch_id *timeline)
{
    static const struct loch_witness none;
    char dir[LOCH_LAYER_PATH_BYTES], path[sizeof dir + 100], name[LOCH_OBJECT_NAME_MAX];
    struct loch_place place;
    locate(tenant, timeline, name, &place);
    loch_manifest_witness_path(store->dir, tenant, timeline, dir, path, "");
    return loch_witness_check(store->env, path, name, &none);
}

void loch_manifest_forget(const struct loch_store *store, const struct loch_id *tenant,
                          const struct loch_id *timeline)
{
    char dir[LOCH_LAYER_PATH_BYTES], path[sizeof dir + 100];
    loch_manifest_witness_path(store->dir, tenant, timeline, dir, path, "");
    loch_witness_forget(store->env, path);
    loch_manifest_witness_path(store->dir, tenant, timeline, dir, path, ".epoch");
    loch_witness_forget(store->env, path);
}

static loch_status get_object(const struct loch_store *store, struct loch_keys *keys,
                              const struct loch_id *tenant, const struct loch_id *timeline,
                              struct loch_buf *plain, uint64_t *generation, struct loch_etag *etag)
{
    char name[LOCH_OBJECT_NAME_MAX];
    struct loch_place place;
    struct loch_buf sealed = {0};
    locate(tenant, timeline, name, &place);
    loch_status st = loch_objstore_get(store->objstore, name, LOCH_SEALED_OBJECT_MAX_BYTES + 4096,
                                       &sealed, etag);
    struct loch_key_source source = loch_keys_source(keys);
    if (loch_is_ok(st))
        st = loch_status_about(
            loch_sealed_object_open(&place, &source, loch_buf_slice(&sealed), plain, generation),
            name);
    if (loch_is_ok(st))
        st = witness_check(store, tenant, timeline, name, *generation, loch_buf_slice(&sealed));
    if (loch_is_ok(st))
        witness_note(store, tenant, timeline, *generation, loch_buf_slice(&sealed));
    loch_buf_fini(&sealed);
    return st;
}

/* After a put of `sealed` that failed with `st`: the object may be there all the same, when only
 * the answer was lost. Every sealing differs from every other, so equal bytes are ours; they are
 * put once more, for what failed may have been what makes them last. */
static loch_status put_after_all(const struct loch_store *store, const char *name,
                                 struct loch_slice sealed, struct loch_etag *etag, loch_status st)
{
    char why[400];
    struct loch_buf there = {0};
    if (loch_is_ok(st) || st.code == LOCH_E_STALE || st.code == LOCH_E_EXISTS)
        return st;
    snprintf(why, sizeof why, "%s", loch_error_text());
    const bool ours =
        loch_is_ok(loch_objstore_get(store->objstore, name, sealed.len + 1, &there, etag)) &&
        there.len == sealed.len && memcmp(there.data, sealed.data, sealed.len) == 0;
    loch_buf_fini(&there);
    if (!ours)
        return LOCH_FAIL(st.code, "%s", why);
    const struct loch_etag seen = *etag;
    LOCH_TRY(loch_objstore_put_if_match(store->objstore, name, &seen, sealed, etag));
    LOCH_WARN("%s was put, although its put failed: %s", name, why);
    return LOCH_OK;
}

/* Whether the put in doubt was done: then the next goes over what it put. As long as that cannot be
 * seen nothing is put, so that one put at most is in doubt. */
static loch_status settle_doubt(const struct loch_store *store, const char *name,
                                struct loch_etag *etag, struct loch_manifest_doubt *doubt)
{
    struct loch_buf there = {0};
    struct loch_etag seen = {0};
    uint8_t hash[sizeof doubt->hash] = {0};
    if (!doubt->any)
        return LOCH_OK;
    loch_status st = loch_objstore_get(store->objstore, name, LOCH_SEALED_OBJECT_MAX_BYTES + 4096,
                                       &there, &seen);
    const struct loch_slice bytes = loch_buf_slice(&there);
    const bool none = st.code == LOCH_E_NOT_FOUND;
    if (loch_is_ok(st))
        st = loch_sha256(&bytes, 1, hash);
    loch_buf_fini(&there);
    if (!loch_is_ok(st) && !none)
        return st;
    doubt->any = false;
    if (!none && memcmp(hash, doubt->hash, sizeof hash) == 0) {
        LOCH_WARN("%s was put, although its put failed", name);
        *etag = seen;
    }
    return LOCH_OK;
}

/* Before a put of `sealed`, which may be done without an answer. */
static loch_status note_doubt(struct loch_slice sealed, struct loch_manifest_doubt *doubt)
{
    LOCH_TRY(loch_sha256(&sealed, 1, doubt->hash));
    doubt->any = true;
    return LOCH_OK;
}

/* later: which one it is, for the caller to note; NULL: it is noted here. */
static loch_status put_object(const struct loch_store *store, struct loch_keys *keys,
                              const struct loch_id *tenant, const struct loch_id *timeline,
                              uint64_t generation, struct loch_slice plain, struct loch_etag *etag,
                              struct loch_manifest_note *later, struct loch_manifest_doubt *doubt)
{
    static const struct loch_id none;
    struct loch_manifest_doubt unasked = {0};
    char name[LOCH_OBJECT_NAME_MAX];
    struct loch_place place;
    struct loch_wrap_key key = {0};
    struct loch_buf sealed = {0};
    locate(tenant, timeline, name, &place);
    place.generation = generation;
    LOCH_TRY(loch_keys_wrap_key(keys, tenant, timeline != NULL ? timeline : &none,
                                timeline != NULL ? LOCH_PURPOSE_PAGE : LOCH_PURPOSE_META, &key));
    loch_status st = loch_sealed_object_seal(&place, &key, plain, true, &sealed);
    const uint32_t key_version = key.version;
    loch_wrap_key_fini(&key);
    struct loch_etag next = {0};
    doubt = doubt != NULL ? doubt : &unasked;
    if (loch_is_ok(st))
        st = settle_doubt(store, name, etag, doubt);
    if (loch_is_ok(st) && etag->text[0] == '\0' && timeline != NULL)
        st = loch_manifest_unseen(store, tenant, timeline);
    if (loch_is_ok(st))
        st = note_doubt(loch_buf_slice(&sealed), doubt);
    if (loch_is_ok(st)) {
        st = etag->text[0] == '\0' ? loch_objstore_put_if_absent(store->objstore, name,
                                                                 loch_buf_slice(&sealed), &next)
                                   : loch_objstore_put_if_match(store->objstore, name, etag,
                                                                loch_buf_slice(&sealed), &next);
        st = put_after_all(store, name, loch_buf_slice(&sealed), &next, st);
        doubt->any = !loch_is_ok(st) && st.code != LOCH_E_STALE && st.code != LOCH_E_EXISTS;
    }
    if (loch_is_ok(st) && later != NULL) {
        *later = (struct loch_manifest_note){
            .tenant = *tenant, .generation = generation, .key_version = key_version};
        memcpy(later->hash, doubt->hash, sizeof later->hash);
    }
    if (loch_is_ok(st))
        *etag = next;
    if (loch_is_ok(st) && later == NULL)
        witness_note(store, tenant, timeline, generation, loch_buf_slice(&sealed));
    loch_buf_fini(&sealed);
    return st;
}

LOCH_STATUS loch_manifest_get(const struct loch_store *store, struct loch_keys *keys,
                              const struct loch_id *tenant, const struct loch_id *timeline,
                              struct loch_manifest *out, struct loch_etag *etag)
{
    struct loch_buf plain = {0};
    struct loch_manifest m = {0};
    uint64_t generation = 0;
    loch_status st = get_object(store, keys, tenant, timeline, &plain, &generation, etag);
    if (loch_is_ok(st))
        st = loch_manifest_decode(loch_buf_slice(&plain), &m);
    loch_buf_fini(&plain);
    if (loch_is_ok(st) && (m.generation != generation || !loch_id_equal(&m.info.tenant, tenant) ||
                           !loch_id_equal(&m.info.timeline, timeline)))
        st = LOCH_FAIL(LOCH_E_CORRUPT, "a timeline's manifest names another timeline");
    if (!loch_is_ok(st)) {
        loch_manifest_fini(&m);
        return st;
    }
    *out = m;
    return LOCH_OK;
}

LOCH_STATUS loch_manifest_put(const struct loch_store *store, struct loch_keys *keys,
                              const struct loch_manifest *m, struct loch_etag *etag)
{
    return loch_manifest_put_anew(store, keys, m, etag, NULL);
}

LOCH_STATUS loch_manifest_put_anew(const struct loch_store *store, struct loch_keys *keys,
                                   const struct loch_manifest *m, struct loch_etag *etag,
                                   struct loch_manifest_doubt *doubt)
{
    struct loch_buf plain = {0};
    LOCH_ASSERT(m->disk_consistent_lsn >= m->info.start_lsn);
    loch_status st = loch_manifest_encode(m, &plain);
    if (loch_is_ok(st))
        st = put_object(store, keys, &m->info.tenant, &m->info.timeline, m->generation,
                        loch_buf_slice(&plain), etag, NULL, doubt);
    loch_buf_fini(&plain);
    return st;
}

void loch_tenant_manifest_fini(struct loch_tenant_manifest *m)
{
    for (uint32_t i = 0; i < m->count; i++)
        loch_buf_fini(&m->timelines[i].birth);
    free(m->timelines);
    *m = (struct loch_tenant_manifest){0};
}

LOCH_STATUS loch_tenant_manifest_copy(struct loch_tenant_manifest *out,
                                      const struct loch_tenant_manifest *m)
{
    struct loch_tenant_timeline *list = calloc((size_t)m->count + 1, sizeof *list);
    if (list == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a manifest");
    *out = *m;
    out->timelines = list;
    loch_status st = LOCH_OK;
    for (uint32_t i = 0; i < m->count; i++) {
        const struct loch_buf *birth = &m->timelines[i].birth;
        list[i] = m->timelines[i];
        list[i].birth = (struct loch_buf){0};
        if (loch_is_ok(st) && birth->len > 0)
            st = loch_buf_append(&list[i].birth, birth->data, birth->len);
    }
    if (!loch_is_ok(st))
        loch_tenant_manifest_fini(out);
    return st;
}

LOCH_STATUS loch_tenant_manifest_add(struct loch_tenant_manifest *m,
                                     struct loch_tenant_timeline *timeline)
{
    struct loch_tenant_timeline *list =
        reallocarray(m->timelines, (size_t)m->count + 1, sizeof *list);
    if (list == NULL) {
        loch_buf_fini(&timeline->birth);
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a manifest");
    }
    list[m->count++] = *timeline;
    m->timelines = list;
    timeline->birth = (struct loch_buf){0};
    return LOCH_OK;
}

void loch_tenant_manifest_remove(struct loch_tenant_manifest *m, size_t at)
{
    LOCH_ASSERT(at < m->count);
    loch_buf_fini(&m->timelines[at].birth);
    memmove(m->timelines + at, m->timelines + at + 1, (m->count - at - 1) * sizeof *m->timelines);
    m->count--;
}

static void write_name(struct loch_writer *w, const char *name)
{
    loch_write_lp(w, loch_slice_of(name, strlen(name)));
}

static loch_status read_name(struct loch_reader *r, char name[LOCH_NAME_MAX_BYTES + 1])
{
    struct loch_slice text = loch_read_lp(r, LOCH_NAME_MAX_BYTES);
    if (r->bad)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a tenant's manifest is cut short");
    memcpy(name, text.data, text.len);
    name[text.len] = '\0';
    return loch_name_check(name);
}

static loch_status encode_tenant(const struct loch_tenant_manifest *m, struct loch_buf *out)
{
    struct loch_writer w;
    loch_writer_init(&w, out);
    loch_write_u32(&w, TENANT_FORMAT);
    loch_write_u64(&w, m->generation);
    loch_write_id(&w, &m->tenant);
    write_name(&w, m->name);
    loch_write_u8(&w, m->dropping);
    loch_write_u32(&w, m->count);
    for (uint32_t i = 0; i < m->count; i++) {
        const struct loch_tenant_timeline *t = &m->timelines[i];
        write_name(&w, t->name);
        loch_write_id(&w, &t->timeline);
        loch_write_id(&w, &t->ancestor);
        loch_write_u64(&w, t->ancestor_lsn);
        loch_write_u8(&w, t->dropping);
        loch_write_u8(&w, t->archived);
        loch_write_lp(&w, loch_buf_slice(&t->birth));
    }
    loch_write_u32(&w, m->spare_count);
    for (uint32_t i = 0; i < m->spare_count; i++)
        loch_write_id(&w, &m->spares[i]);
    return loch_writer_finish(&w);
}

loch_status loch_tenant_manifest_decode(struct loch_slice bytes, struct loch_tenant_manifest *m)
{
    struct loch_reader r;
    loch_reader_init(&r, bytes);
    uint32_t format = loch_read_u32(&r);
    if (format != TENANT_FORMAT && format != TENANT_FORMAT_2)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED, "a tenant's manifest has format %u", format);
    m->generation = loch_read_u64(&r);
    m->tenant = loch_read_id(&r);
    LOCH_TRY(read_name(&r, m->name));
    m->dropping = loch_read_u8(&r) != 0;
    uint32_t count = loch_read_u32(&r);
    if (r.bad || count > loch_reader_left(&r) / TIMELINE_MIN_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a tenant's manifest is cut short");
    for (uint32_t i = 0; i < count; i++) {
        struct loch_tenant_timeline t = {0};
        LOCH_TRY(read_name(&r, t.name));
        t.timeline = loch_read_id(&r);
        t.ancestor = loch_read_id(&r);
        t.ancestor_lsn = loch_read_u64(&r);
        t.dropping = loch_read_u8(&r) != 0;
        t.archived = format != TENANT_FORMAT_2 && loch_read_u8(&r) != 0;
        struct loch_slice birth = loch_read_lp(&r, BIRTH_MAX_BYTES);
        if (birth.len > 0)
            LOCH_TRY(loch_buf_append(&t.birth, birth.data, birth.len));
        LOCH_TRY(loch_tenant_manifest_add(m, &t));
    }
    m->spare_count = loch_read_u32(&r);
    if (r.bad || m->spare_count > LOCH_SPARES_MAX)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a tenant's manifest has %u spare ids", m->spare_count);
    for (uint32_t i = 0; i < m->spare_count; i++)
        m->spares[i] = loch_read_id(&r);
    return loch_reader_finish(&r, "a tenant's manifest");
}

LOCH_STATUS loch_tenant_manifest_get(const struct loch_store *store, struct loch_keys *keys,
                                     const struct loch_id *tenant, struct loch_tenant_manifest *out,
                                     struct loch_etag *etag)
{
    struct loch_buf plain = {0};
    struct loch_tenant_manifest m = {0};
    uint64_t generation = 0;
    loch_status st = get_object(store, keys, tenant, NULL, &plain, &generation, etag);
    if (loch_is_ok(st))
        st = loch_tenant_manifest_decode(loch_buf_slice(&plain), &m);
    loch_buf_fini(&plain);
    if (loch_is_ok(st) && (m.generation != generation || !loch_id_equal(&m.tenant, tenant)))
        st = LOCH_FAIL(LOCH_E_CORRUPT, "a tenant's manifest names another tenant");
    if (!loch_is_ok(st)) {
        loch_tenant_manifest_fini(&m);
        return st;
    }
    *out = m;
    return LOCH_OK;
}

LOCH_STATUS loch_tenant_manifest_put_unnoted(const struct loch_store *store, struct loch_keys *keys,
                                             const struct loch_tenant_manifest *m,
                                             struct loch_etag *etag,
                                             struct loch_manifest_doubt *doubt,
                                             struct loch_manifest_note *later)
{
    struct loch_buf plain = {0};
    loch_status st = encode_tenant(m, &plain);
    if (loch_is_ok(st))
        st = put_object(store, keys, &m->tenant, NULL, m->generation, loch_buf_slice(&plain), etag,
                        later, doubt);
    loch_buf_fini(&plain);
    return st;
}

LOCH_STATUS loch_tenant_manifest_put(const struct loch_store *store, struct loch_keys *keys,
                                     const struct loch_tenant_manifest *m, struct loch_etag *etag,
                                     struct loch_manifest_doubt *doubt)
{
    return loch_tenant_manifest_put_unnoted(store, keys, m, etag, doubt, NULL);
}

LOCH_STATUS loch_name_check(const char *name)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    size_t len = strlen(name);
    if (len == 0 || len > LOCH_NAME_MAX_BYTES || strchr(letters, name[0]) == NULL ||
        strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") != len)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "a name is a letter and up to 62 more letters, digits, '_' or '-'");
    return LOCH_OK;
}
