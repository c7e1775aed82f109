/* An object store that loses answers, and one that refuses: what was put counts as put, and what a
 * removal leaves is found again. */
#include "store_fixture.h"

#include "../../../src/objstore/backend.h"

#include "care/tenant_files.h"
#include "care/tenants.h"
#include "store/compact.h"
#include "store/layer_set.h"
#include "store/manifest.h"

#include "loch/io/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define L            ((loch_lsn)0x1000000)
#define COPIED_PAGES 20u

/* In front of a real one. */
struct failing {
    struct loch_objstore face; /* first */
    struct loch_objstore *real;
    unsigned lose_answers; /* of the next puts that are done */
    bool refuse_puts, refuse_gets, refuse_deletes;
    bool layers_pass;    /* their copies are put all the same */
    bool layers_stay;    /* they are not read now */
    uint64_t ops_at_put; /* file operations before the last put */
};

static struct failing *of(struct loch_objstore *store)
{
    return (struct failing *)(void *)store;
}

static bool is_held(struct loch_objstore *store, const char *name)
{
    return of(store)->layers_stay && strstr(name, "/layers/") != NULL;
}

static loch_status get(struct loch_objstore *store, const char *name, size_t max_bytes,
                       struct loch_buf *out, struct loch_etag *etag)
{
    if (of(store)->refuse_gets || is_held(store, name))
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the store is away");
    return loch_objstore_get(of(store)->real, name, max_bytes, out, etag);
}

static loch_status get_range(struct loch_objstore *store, const char *name, uint64_t offset,
                             size_t len, struct loch_buf *out)
{
    if (is_held(store, name))
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the store is away");
    return loch_objstore_get_range(of(store)->real, name, offset, len, out);
}

static loch_status head(struct loch_objstore *store, const char *name, uint64_t *size,
                        struct loch_etag *etag)
{
    return loch_objstore_head(of(store)->real, name, size, etag);
}

static loch_status put(struct loch_objstore *store, const char *name, struct put_condition cond,
                       struct loch_slice bytes, struct loch_etag *etag)
{
    struct failing *f = of(store);
    struct loch_etag unheard;
    f->ops_at_put = loch_io_fault_count();
    if (f->layers_pass && strstr(name, "/layers/") != NULL)
        return loch_objstore_put(f->real, name, bytes, etag);
    if (f->refuse_puts)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the store is away");
    if (f->lose_answers > 0)
        etag = &unheard;
    if (cond.kind == PUT_ALWAYS)
        LOCH_TRY(loch_objstore_put(f->real, name, bytes, etag));
    else if (cond.kind == PUT_IF_ABSENT)
        LOCH_TRY(loch_objstore_put_if_absent(f->real, name, bytes, etag));
    else
        LOCH_TRY(loch_objstore_put_if_match(f->real, name, cond.expect, bytes, etag));
    const bool lost = f->lose_answers > 0;
    f->lose_answers -= lost;
    return lost ? LOCH_FAIL(LOCH_E_IO, "the connection broke") : LOCH_OK;
}

static loch_status remove_one(struct loch_objstore *store, const char *name)
{
    if (of(store)->refuse_deletes)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the store is away");
    return loch_objstore_delete(of(store)->real, name);
}

static loch_status list(struct loch_objstore *store, const char *prefix,
                        bool (*fn)(void *arg, const char *name, uint64_t size), void *arg)
{
    return loch_objstore_list(of(store)->real, prefix, fn, arg);
}

static const struct objstore_ops ops = {.get = get,
                                        .get_range = get_range,
                                        .head = head,
                                        .put = put,
                                        .delete = remove_one,
                                        .list = list};

static void put_before(struct site *s, struct failing *f)
{
    *f = (struct failing){.face = {&ops}, .real = s->objstore};
    s->store.objstore = &f->face;
}

static uint64_t generation_there(struct site *s)
{
    struct loch_tenant_manifest m = {0};
    assert_ok(loch_tenant_manifest_get(&s->store, s->keys, &s->tenant, &m, NULL));
    const uint64_t generation = m.generation;
    loch_tenant_manifest_fini(&m);
    return generation;
}

static void a_put_whose_answer_is_lost_is_a_put(void **state)
{
    struct site *s = *state;
    struct failing f;
    struct loch_tenant_manifest m = {.tenant = s->tenant, .name = "acme", .generation = 1};
    struct loch_etag etag = {0}, old;
    put_before(s, &f);
    f.lose_answers = 1;
    assert_ok(loch_tenant_manifest_put(&s->store, s->keys, &m, &etag, NULL)); /* if absent */
    m.generation = 2;
    old = etag;
    f.lose_answers = 1;
    assert_ok(loch_tenant_manifest_put(&s->store, s->keys, &m, &etag, NULL)); /* if it matches */
    assert_string_not_equal(old.text, etag.text);
    m.generation = 3;
    assert_ok(loch_tenant_manifest_put(&s->store, s->keys, &m, &etag,
                                       NULL)); /* its ETag is the right one */
    assert_int_equal(generation_there(s), 3);
}

static void a_put_that_was_not_done_fails(void **state)
{
    struct site *s = *state;
    struct failing f;
    struct loch_tenant_manifest m = {.tenant = s->tenant, .name = "acme", .generation = 1};
    struct loch_etag etag = {0}, first;
    put_before(s, &f);
    assert_ok(loch_tenant_manifest_put(&s->store, s->keys, &m, &etag, NULL));
    first = etag;
    m.generation = 2;
    f.refuse_puts = true;
    assert_code(loch_tenant_manifest_put(&s->store, s->keys, &m, &etag, NULL), LOCH_E_UNAVAILABLE);
    assert_non_null(strstr(loch_error_text(), "the store is away"));
    assert_string_equal(etag.text, first.text);
    assert_int_equal(generation_there(s), 1);
    f.refuse_puts = false;
    assert_ok(loch_tenant_manifest_put(&s->store, s->keys, &m, &etag, NULL));
    f.lose_answers = 1; /* somebody else's object is not taken for ours */
    m.generation = 3;
    assert_code(loch_tenant_manifest_put(&s->store, s->keys, &m, &first, NULL), LOCH_E_STALE);
    assert_int_equal(generation_there(s), 2);
}

/* One change of the tenant, of its name. */
static loch_status rename_tenant(struct loch_pageserver *ps, struct loch_tenant *tenant,
                                 const char *name)
{
    struct loch_tenant_manifest next = {0};
    assert_ok(loch_tenant_next(ps, tenant, &next));
    snprintf(next.name, sizeof next.name, "%s", name);
    const loch_status st = loch_tenant_put(ps, tenant, &next);
    if (loch_is_ok(st))
        loch_tenant_take(tenant, &next);
    loch_tenant_manifest_fini(&next);
    return st;
}

static void check_name(struct site *s, const struct loch_tenant *tenant, const char *name)
{
    struct loch_tenant_manifest m = {0};
    assert_ok(loch_tenant_manifest_get(&s->store, s->keys, &s->tenant, &m, NULL));
    assert_string_equal(m.name, name);
    assert_string_equal(tenant->manifest.name, name);
    assert_int_equal(m.generation, tenant->manifest.generation);
    loch_tenant_manifest_fini(&m);
}

/* It told nobody that it was done, so the next goes over it. */
static void a_change_that_was_done_and_failed_holds_up_no_other(void **state)
{
    struct site *s = *state;
    struct failing f;
    struct loch_pageserver ps = {.env = s->env, .keys = s->keys};
    struct loch_tenant tenant = {.id = s->tenant,
                                 .manifest = {.tenant = s->tenant, .name = "acme"}};
    put_before(s, &f);
    ps.store = s->store;
    assert_ok(rename_tenant(&ps, &tenant, "first"));
    for (int i = 0; i < 3; i++) {
        f.lose_answers = 2; /* that it is there, and that it was put once more */
        assert_code(rename_tenant(&ps, &tenant, "lost"), LOCH_E_IO);
        f.refuse_gets = true; /* as long as it cannot be seen nothing is put */
        assert_code(rename_tenant(&ps, &tenant, "blind"), LOCH_E_UNAVAILABLE);
        f.refuse_gets = false;
        assert_ok(rename_tenant(&ps, &tenant, i % 2 == 0 ? "second" : "third"));
        check_name(s, &tenant, i % 2 == 0 ? "second" : "third");
    }
    f.refuse_puts = true; /* not done */
    assert_code(rename_tenant(&ps, &tenant, "refused"), LOCH_E_UNAVAILABLE);
    f.refuse_puts = false;
    assert_ok(rename_tenant(&ps, &tenant, "last"));
    check_name(s, &tenant, "last");
    loch_tenant_manifest_fini(&tenant.manifest);
}

/* A timeline that is archived has objects, but no local directory. */
static void an_interrupted_removal_is_found_by_the_sweep(void **state)
{
    struct site *s = *state;
    struct failing f;
    struct loch_pageserver ps = {.env = s->env, .keys = s->keys, .kms = s->kms};
    struct loch_tenant_manifest m = {.tenant = s->tenant, .name = "acme"};
    struct loch_timeline *t = site_timeline(s, L, NULL);
    struct loch_id id = loch_timeline_info(t)->timeline;
    char a[LOCH_ID_TEXT_BYTES], b[LOCH_ID_TEXT_BYTES], object[LOCH_OBJECT_NAME_MAX];
    char dir[LOCH_LAYER_PATH_BYTES], command[LOCH_LAYER_PATH_BYTES + 20];
    assert_ok(loch_timeline_commit(t, L - 8, loch_slice_of("control", 7)));
    loch_timeline_release(t);
    assert_ok(loch_timeline_dir(&s->store, &s->tenant, &id, dir));
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
    snprintf(object, sizeof object, "tenants/%s/timelines/%s/manifest",
             loch_id_format(&s->tenant, a), loch_id_format(&id, b));
    put_before(s, &f);
    ps.store = s->store;
    ps.objstore = s->store.objstore;

    f.refuse_deletes = true;
    assert_code(tenant_remove_timeline(&ps, &s->tenant, &id), LOCH_E_UNAVAILABLE);
    assert_ok(loch_objstore_head(s->objstore, object, NULL, NULL));
    f.refuse_deletes = false;
    tenant_sweep_keys(&ps, &m); /* its keys are gone already */
    assert_ok(loch_objstore_head(s->objstore, object, NULL, NULL));
    tenant_sweep(&ps, &m);
    assert_code(loch_objstore_head(s->objstore, object, NULL, NULL), LOCH_E_NOT_FOUND);
    assert_int_equal(access(dir, F_OK), -1);
}

static bool count_layer(void *arg, const char *name)
{
    const size_t len = strlen(name);
    *(size_t *)arg += len > 6 && strcmp(name + len - 6, ".layer") == 0;
    return true;
}

static size_t layer_files(struct site *s, const struct loch_timeline *t)
{
    char dir[LOCH_LAYER_PATH_BYTES];
    size_t count = 0;
    assert_ok(loch_timeline_dir(&s->store, &s->tenant, &loch_timeline_info(t)->timeline, dir));
    assert_ok(loch_env_list_dir(s->env, dir, count_layer, &count));
    return count;
}

static void put_one(struct loch_timeline *t, loch_lsn lsn)
{
    struct loch_key key = page_key(1);
    char page[8192] = {0};
    assert_ok(loch_timeline_put_value(t, &key, lsn, loch_slice_of(page, sizeof page)));
    loch_timeline_advance(t, lsn, lsn - 8);
    assert_ok(loch_timeline_freeze(t, loch_slice_of("control", 7)));
}

static bool count_object(void *arg, const char *name, uint64_t size)
{
    (void)name;
    (void)size;
    (*(size_t *)arg)++;
    return true;
}

static void count_pin(void *arg, const struct loch_id *tenant, const struct loch_kms *cmk)
{
    (void)tenant;
    (void)cmk;
    (*(size_t *)arg)++;
}

/* When the keyring and all objects are gone nothing in the store tells that there were any files:
 * those, and what was pinned, are not left for ever. */
static void a_removal_of_a_tenant_cut_short_among_its_files_is_ended_by_the_sweep(void **state)
{
    struct site *s = *state;
    struct failing f;
    struct loch_pageserver ps = {.env = s->env, .keys = s->keys, .kms = s->kms};
    struct loch_timeline *t = site_timeline(s, L, NULL);
    struct loch_tenant_timeline entry = {.timeline = loch_timeline_info(t)->timeline};
    const struct loch_tenant_manifest m = {.tenant = s->tenant, .count = 1, .timelines = &entry};
    char dir[LOCH_LAYER_PATH_BYTES], text[LOCH_ID_TEXT_BYTES];
    char in_the_way[LOCH_LAYER_PATH_BYTES + 10];
    size_t objects = 0, pins = 0;
    assert_ok(loch_timeline_commit(t, L - 8, loch_slice_of("control", 7)));
    put_one(t, L + 64);
    assert_ok(loch_timeline_flush(t));
    loch_timeline_release(t);
    snprintf(in_the_way, sizeof in_the_way, "file:%s/cmk.key", s->dir);
    assert_ok(loch_kms_pin(s->kms, &entry.timeline, in_the_way));
    put_before(s, &f);
    ps.store = s->store;
    ps.objstore = s->store.objstore;

    f.refuse_deletes = true; /* it has its keyring still, and stays */
    assert_code(tenant_remove(&ps, &s->tenant, &m), LOCH_E_UNAVAILABLE);
    f.refuse_deletes = false;
    tenant_sweep_unfinished(&ps, NULL, 0);
    assert_ok(loch_timeline_dir(&s->store, &s->tenant, &entry.timeline, dir));
    assert_int_equal(access(dir, F_OK), 0);

    snprintf(in_the_way, sizeof in_the_way, "%s/directory", dir);
    assert_int_equal(mkdir(in_the_way, 0700), 0);
    assert_false(loch_is_ok(tenant_remove(&ps, &s->tenant, &m)));
    assert_ok(loch_objstore_list(s->objstore, "tenants/", count_object, &objects));
    assert_int_equal(objects, 0);
    assert_int_equal(access(dir, F_OK), 0);
    loch_kms_each_pin(s->kms, count_pin, &pins);
    assert_int_equal(pins, 0);

    assert_int_equal(rmdir(in_the_way), 0);
    tenant_sweep_unfinished(&ps, NULL, 0); /* the next start, which finds no tenant at all */
    snprintf(dir, sizeof dir, "%s/tenants/%s", s->pageserver, loch_id_format(&s->tenant, text));
    assert_int_equal(access(dir, F_OK), -1);
}

/* How many file operations a flush of put_one's does before its put. */
static uint64_t flush_ops(struct site *s, struct failing *f)
{
    struct loch_timeline *t = site_timeline(s, L, NULL);
    assert_ok(loch_timeline_commit(t, L - 8, loch_slice_of("control", 7)));
    put_one(t, L + 64);
    loch_io_fault_set(0, 0);
    assert_ok(loch_timeline_flush(t));
    loch_timeline_release(t);
    return f->ops_at_put;
}

/* Whatever file operation before the put fails, one of the opening of what was just written too:
 * nothing of the flush stays. A put that failed may have been done: then all of it stays. */
static void a_flush_that_fails_before_its_put_leaves_no_file(void **state)
{
    struct site *s = *state;
    struct failing f;
    put_before(s, &f);
    const uint64_t ops = flush_ops(s, &f);
    assert_true(ops > 4);
    struct loch_timeline *t = site_timeline(s, L, NULL);
    assert_ok(loch_timeline_commit(t, L - 8, loch_slice_of("control", 7)));
    const size_t before = layer_files(s, t);

    put_one(t, L + 64);
    f.refuse_puts = true;
    unsigned opening = 0;
    for (uint64_t n = 1; n <= ops; n++) {
        loch_io_fault_set(n, EIO);
        const loch_status st = loch_timeline_flush(t);
        const bool put = st.code == LOCH_E_UNAVAILABLE; /* it did not come as far as that fault */
        loch_io_fault_set(0, 0);
        assert_false(loch_is_ok(st));
        opening += !put && n > ops / 2;
        assert_int_equal(layer_files(s, t), before + put);
        if (put)
            break;
    }
    assert_true(opening > 0);
    f.refuse_puts = false;
    assert_ok(loch_timeline_flush(t));
    t = site_reopen(s, t, NULL);
    assert_int_equal(loch_timeline_disk_consistent_lsn(t), L + 64);
    assert_int_equal(layer_files(s, t), before + 1);
    loch_timeline_release(t);
}

static bool count_copy(void *arg, const char *name, uint64_t size)
{
    (void)size;
    return count_layer(arg, name);
}

static size_t layer_copies(struct site *s)
{
    size_t count = 0;
    assert_ok(loch_objstore_list(s->objstore, "tenants/", count_copy, &count));
    return count;
}

/* Manifests cannot be put for a while: what was written once is not written again at each try, here
 * or in the store. */
static void a_flush_whose_put_fails_goes_on_with_its_files(void **state)
{
    struct site *s = *state;
    struct failing f;
    put_before(s, &f);
    s->store.copies = true;
    f.layers_pass = true;
    struct loch_timeline *t = site_timeline(s, L, NULL);
    assert_ok(loch_timeline_commit(t, L - 8, loch_slice_of("control", 7)));
    const size_t before = layer_files(s, t);
    assert_int_equal(layer_copies(s), before);
    put_one(t, L + 64);
    put_one(t, L + 128);
    f.refuse_puts = true;
    for (int i = 0; i < 3; i++) {
        assert_code(loch_timeline_flush(t), LOCH_E_UNAVAILABLE);
        assert_int_equal(layer_files(s, t), before + 1);
        assert_int_equal(layer_copies(s), before + 1);
    }
    assert_int_equal(loch_timeline_disk_consistent_lsn(t), L);
    f.refuse_puts = false;
    assert_ok(loch_timeline_flush(t));
    assert_int_equal(loch_timeline_frozen_bytes(t), 0);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(loch_timeline_disk_consistent_lsn(t), L + 128);
        assert_int_equal(layer_files(s, t), before + 2);
        assert_int_equal(layer_copies(s), before + 2);
        t = site_reopen(s, t, NULL);
    }
    loch_timeline_release(t);
}

/* A merge writes anew at each try; what the failed ones wrote goes once it is certain that no
 * manifest names it: with the next put. */
static void what_a_merge_wrote_for_a_failed_put_goes_with_the_next(void **state)
{
    struct site *s = *state;
    struct failing f;
    const struct loch_compaction all = {.file_bytes = 1u << 20, .everything = true};
    struct loch_compaction_stats stats;
    bool done = false;
    put_before(s, &f);
    struct loch_timeline *t = site_timeline(s, L, NULL);
    assert_ok(loch_timeline_commit(t, L - 8, loch_slice_of("control", 7)));
    put_one(t, L + 64);
    assert_ok(loch_timeline_flush(t));
    const size_t before = layer_files(s, t);
    f.refuse_puts = true;
    for (size_t i = 1; i < 4; i++) {
        assert_code(loch_timeline_compact(t, &all, &done, &stats), LOCH_E_UNAVAILABLE);
        assert_int_equal(layer_files(s, t), before + i);
    }
    f.refuse_puts = false;
    put_one(t, L + 128);
    assert_ok(loch_timeline_flush(t));
    assert_int_equal(layer_files(s, t), before + 1);
    assert_ok(loch_timeline_compact(t, &all, &done, &stats));
    assert_int_equal(layer_files(s, t), 1);
    t = site_reopen(s, t, NULL);
    assert_int_equal(loch_timeline_disk_consistent_lsn(t), L + 128);
    loch_timeline_release(t);
}

/* The put is done, its answer is lost, and so is what could have confirmed it: by the next try the
 * timeline is still its own pageserver's. Again and again, and at the very first put. */
static void a_put_that_could_not_be_confirmed_is_ours(void **state)
{
    struct site *s = *state;
    struct failing f;
    put_before(s, &f);
    struct loch_timeline *t = site_timeline(s, L, NULL);
    f.lose_answers = 2; /* the put's, and that of the put which confirms it */
    assert_code(loch_timeline_commit(t, L - 8, loch_slice_of("control", 7)), LOCH_E_IO);
    assert_ok(loch_timeline_flush(t));
    put_one(t, L + 64);
    f.lose_answers = 1;
    f.refuse_gets = true;
    assert_code(loch_timeline_flush(t), LOCH_E_IO);
    put_one(t, L + 128);
    for (int i = 0; i < 2; i++) /* it is not known yet what became of the first */
        assert_code(loch_timeline_flush(t), LOCH_E_UNAVAILABLE);
    f.refuse_gets = false;
    f.refuse_puts = true; /* now it is, but nothing can be put over it */
    assert_code(loch_timeline_flush(t), LOCH_E_UNAVAILABLE);
    f.refuse_puts = false;
    assert_ok(loch_timeline_flush(t));
    assert_int_equal(loch_timeline_disk_consistent_lsn(t), L + 128);
    t = site_reopen(s, t, NULL);
    assert_int_equal(loch_timeline_disk_consistent_lsn(t), L + 128);
    loch_timeline_release(t);
}

/* What somebody else put meanwhile is not. */
static void another_pageserver_is_seen_behind_a_put_in_doubt(void **state)
{
    struct site *s = *state;
    struct failing f;
    struct loch_timeline *other = NULL;
    put_before(s, &f);
    struct loch_timeline *t = site_timeline(s, L, NULL);
    assert_ok(loch_timeline_commit(t, L - 8, loch_slice_of("control", 7)));
    put_one(t, L + 64);
    f.lose_answers = 1;
    f.refuse_gets = true;
    assert_code(loch_timeline_flush(t), LOCH_E_IO);
    f.refuse_gets = false;
    assert_ok(loch_timeline_open(&s->store, s->keys, &s->tenant, &loch_timeline_info(t)->timeline,
                                 NULL, &other));
    put_one(other, L + 128);
    assert_ok(loch_timeline_flush(other));
    assert_code(loch_timeline_flush(t), LOCH_E_STALE);
    loch_timeline_release(t);
    other = site_reopen(s, other, NULL);
    assert_int_equal(loch_timeline_disk_consistent_lsn(other), L + 128);
    loch_timeline_release(other);
}

/* How many of the layer's pages cannot be read, each for the reason `code`. */
static unsigned unread(struct loch_timeline *t, enum loch_code code)
{
    loch_lsn last = LOCH_LSN_NONE;
    struct loch_layer_set *set = loch_timeline_layers(t, &last);
    unsigned n = 0;
    for (uint32_t block = 0; block < COPIED_PAGES; block++) {
        const struct loch_key key = page_key(block);
        struct loch_versions list = {0};
        bool base = false;
        loch_status st = loch_layer_collect(set->files[0], &key, 0, L, &list, &base);
        loch_versions_fini(&list);
        if (loch_is_ok(st))
            continue;
        assert_int_equal(st.code, code);
        n++;
    }
    loch_layer_set_release(set);
    return n;
}

/* The timeline's one layer, with a copy; `file`: its path. */
static struct loch_timeline *with_a_copy(struct site *s, char file[LOCH_LAYER_PATH_BYTES])
{
    uint8_t page[LOCH_PAGE_BYTES];
    loch_lsn last = LOCH_LSN_NONE;
    s->store.copies = true;
    struct loch_timeline *t = site_timeline(s, L, NULL);
    for (uint32_t block = 0; block < COPIED_PAGES; block++) {
        const struct loch_key key = page_key(block);
        assert_ok(loch_random_bytes(page, sizeof page));
        assert_ok(loch_timeline_put_value(t, &key, L, loch_slice_of(page, sizeof page)));
    }
    assert_ok(loch_timeline_commit(t, L - 8, loch_slice_of("control", 7)));
    struct loch_layer_set *set = loch_timeline_layers(t, &last);
    assert_int_equal(set->file_count, 1);
    assert_ok(
        loch_layer_path(&s->store, loch_timeline_info(t), loch_layer_desc(set->files[0]), file));
    loch_layer_set_release(set);
    return t;
}

/* What is damaged or gone here, and has a copy that cannot be asked now, is not lost: it can be
 * tried again. */
static void a_copy_that_is_away_may_come_back(void **state)
{
    struct site *s = *state;
    struct failing f;
    char file[LOCH_LAYER_PATH_BYTES];
    uint8_t byte = 0;
    put_before(s, &f);
    struct loch_timeline *t = with_a_copy(s, file), *again = NULL;
    const struct loch_id id = loch_timeline_info(t)->timeline;
    const int fd = open(file, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, 20000), 1);
    byte ^= 0x40;
    assert_int_equal(pwrite(fd, &byte, 1, 20000), 1);
    close(fd);
    f.layers_stay = true;
    assert_int_equal(unread(t, LOCH_E_UNAVAILABLE), 1);
    assert_non_null(strstr(loch_error_text(), "block "));
    assert_non_null(strstr(loch_error_text(), "the store is away"));
    f.layers_stay = false;
    assert_int_equal(unread(t, LOCH_E_OK), 0);
    loch_timeline_release(t);

    assert_int_equal(unlink(file), 0);
    f.layers_stay = true;
    assert_code(loch_timeline_open(&s->store, s->keys, &s->tenant, &id, NULL, &again),
                LOCH_E_UNAVAILABLE);
    assert_non_null(strstr(loch_error_text(), file));
    assert_non_null(strstr(loch_error_text(), "the store is away"));
    f.layers_stay = false;
    assert_ok(loch_timeline_open(&s->store, s->keys, &s->tenant, &id, NULL, &again));
    assert_int_equal(unread(again, LOCH_E_OK), 0);
    loch_timeline_release(again);
}

#define WITH_SITE(f) cmocka_unit_test_setup_teardown(f, site_up, site_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SITE(a_put_whose_answer_is_lost_is_a_put),
        WITH_SITE(a_put_that_was_not_done_fails),
        WITH_SITE(a_change_that_was_done_and_failed_holds_up_no_other),
        WITH_SITE(an_interrupted_removal_is_found_by_the_sweep),
        WITH_SITE(a_removal_of_a_tenant_cut_short_among_its_files_is_ended_by_the_sweep),
        WITH_SITE(a_flush_that_fails_before_its_put_leaves_no_file),
        WITH_SITE(a_flush_whose_put_fails_goes_on_with_its_files),
        WITH_SITE(what_a_merge_wrote_for_a_failed_put_goes_with_the_next),
        WITH_SITE(a_put_that_could_not_be_confirmed_is_ours),
        WITH_SITE(another_pageserver_is_seen_behind_a_put_in_doubt),
        WITH_SITE(a_copy_that_is_away_may_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
