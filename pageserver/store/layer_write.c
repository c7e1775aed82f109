/* A frozen memory layer becomes a file, or several at once, which divide its keys among them: a
 * band (layers/compact.h). Each part is built and made durable by a thread of its own; one that is
 * done takes over half of what another still has to do, as a further part. All of them are whole,
 * or none stays. */
#include "layer_build.h"
#include "layer_copy.h"
#include "pushdown.h"
#include "timeline.h"

#include "loch/base/check.h"
#include "loch/base/stack.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct flush;

struct part {
    struct flush *flush;
    const struct loch_imager *imager;
    size_t begin;
    size_t at, end; /* its next key, and behind its last; the flush's lock */
    bool under_way; /* it has begun with its keys, and not ended; the flush's lock */
    loch_status st; /* when it ended; the flush's lock */
    char why[300];  /* a failure's text is its thread's */
    struct loch_layer_desc desc;
};

struct flush {
    const struct loch_store *store;
    struct loch_keys *keys;
    const struct loch_timeline_info *info;
    struct loch_mem_layer *mem;
    const struct loch_mem_scan *scan;
    pthread_mutex_t lock;
    struct part parts[LOCH_FLUSH_PARTS_MAX];
    size_t count, most; /* of parts; the lock */
};

/* list: empty; its memory is used for one key after the other. */
static loch_status write_one(const struct part *p, struct loch_layer_builder *builder, size_t i,
                             struct loch_versions *list)
{
    struct loch_chain chain = {0};
    const struct flush *f = p->flush;
    const struct loch_key *key = loch_mem_scan_key(f->scan, i);
    LOCH_TRY(loch_mem_scan_history(f->scan, i, list));
    if (p->imager != NULL)
        LOCH_TRY(loch_push_images(p->imager, key, loch_mem_layer_start_lsn(f->mem), list, &chain));
    return loch_layer_builder_add(builder, key, list->items, list->count, &chain, 0);
}

static bool next_key(struct flush *f, struct part *p, size_t *i)
{
    pthread_mutex_lock(&f->lock);
    const bool any = p->at < p->end;
    *i = p->at;
    p->at += any;
    p->under_way = any;
    pthread_mutex_unlock(&f->lock);
    return any;
}

static loch_status write_keys(struct flush *f, struct part *p)
{
    struct loch_layer_builder *builder = NULL;
    struct loch_versions list = {0};
    struct loch_layer_desc desc = {.level = LOCH_LAYER_FLUSHED,
                                   .span = {.start_lsn = loch_mem_layer_start_lsn(f->mem),
                                            .end_lsn = loch_mem_layer_end_lsn(f->mem)}};
    loch_status st;
    LOCH_TRY_OUT(st, loch_layer_builder_create(f->store, f->keys, f->info, &desc, &builder));
    for (size_t i; next_key(f, p, &i);) {
        LOCH_TRY_OUT(st, write_one(p, builder, i, &list));
        loch_versions_clear(&list);
    }
    LOCH_TRY_OUT(st, loch_layer_builder_finish(builder, &p->desc));
out:
    loch_versions_fini(&list);
    loch_layer_builder_destroy(builder);
    return st;
}

static size_t part_bytes(const struct loch_store *store)
{
    return store->flush_part_bytes > 0 ? store->flush_part_bytes : LOCH_FLUSH_PART_BYTES;
}

/* The part of those under way that has most left to do, if that is worth a file of its own, gives
 * its upper half away; lock held. After a failure nothing more is begun. */
static struct part *divide_locked(struct flush *f, const struct loch_imager *imager)
{
    struct part *largest = NULL;
    uint64_t most = 0;
    size_t middle = 0;
    for (size_t i = 0; i < f->count && f->count < f->most; i++) {
        struct part *p = &f->parts[i];
        size_t here = 0;
        if (!loch_is_ok(p->st))
            return NULL;
        if (!p->under_way || p->end - p->at < 2)
            continue;
        const uint64_t bytes = loch_mem_scan_halve(f->scan, p->at, p->end, &here);
        if (bytes < most || bytes < part_bytes(f->store))
            continue;
        largest = p;
        most = bytes;
        middle = here;
    }
    if (largest == NULL)
        return NULL;
    struct part *p = &f->parts[f->count++];
    *p = (struct part){
        .flush = f, .imager = imager, .begin = middle, .at = middle, .end = largest->end};
    largest->end = middle;
    return p;
}

/* One part after the other, on one thread, with that thread's imager. */
static void *work(void *arg)
{
    struct part *p = arg;
    struct flush *f = p->flush;
    const struct loch_imager *imager = p->imager;
    while (p != NULL) {
        const loch_status st = write_keys(f, p);
        if (!loch_is_ok(st))
            (void)snprintf(p->why, sizeof p->why, "%s", loch_error_text());
        pthread_mutex_lock(&f->lock);
        p->st = st;
        p->under_way = false; /* whatever it left: it failed */
        p = divide_locked(f, imager);
        pthread_mutex_unlock(&f->lock);
    }
    loch_stack_wipe(); /* the system keeps the stack for a thread to come */
    return NULL;
}

/* The first on this thread; so is any other that gets none. */
static void write_all(struct flush *f)
{
    pthread_t threads[LOCH_FLUSH_PARTS_MAX];
    bool begun[LOCH_FLUSH_PARTS_MAX] = {false};
    const size_t count = f->count;
    for (size_t i = 1; i < count && !f->store->one_thread; i++)
        begun[i] = pthread_create(&threads[i], NULL, work, &f->parts[i]) == 0;
    for (size_t i = 0; i < count; i++) {
        if (!begun[i])
            (void)work(&f->parts[i]);
    }
    for (size_t i = 0; i < count; i++) {
        if (begun[i])
            LOCH_ASSERT(pthread_join(threads[i], NULL) == 0);
    }
}

/* Of several failures the first one's. */
static loch_status settle(const struct flush *f)
{
    const struct part *parts = f->parts;
    size_t failed = 0;
    while (failed < f->count && loch_is_ok(parts[failed].st))
        failed++;
    if (failed == f->count)
        return LOCH_OK;
    for (size_t i = 0; i < f->count; i++) {
        if (loch_is_ok(parts[i].st))
            loch_layer_discard(f->store, f->info, &parts[i].desc);
    }
    return LOCH_FAIL(parts[failed].st.code, "%s", parts[failed].why);
}

static int compare_parts(const void *a, const void *b)
{
    const struct part *x = a, *y = b;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

static void begin_parts(struct flush *f, const struct loch_imager *imagers, size_t parts)
{
    size_t ends[LOCH_FLUSH_PARTS_MAX];
    f->count = loch_mem_scan_divide(f->scan, parts, ends);
    f->most = f->count > 1 ? loch_min_u64(2 * f->count, LOCH_FLUSH_PARTS_MAX) : 1;
    for (size_t i = 0; i < f->count; i++) {
        const size_t begin = i > 0 ? ends[i - 1] : 0;
        f->parts[i] = (struct part){.flush = f,
                                    .imager = imagers != NULL ? &imagers[i] : NULL,
                                    .begin = begin,
                                    .at = begin,
                                    .end = ends[i]};
    }
}

size_t loch_layer_parts(const struct loch_store *store, const struct loch_mem_layer *mem)
{
    const size_t most = loch_min_u64(store->flush_parts, LOCH_FLUSH_PARTS_MAX);
    const size_t parts = loch_min_u64(loch_mem_layer_bytes(mem) / part_bytes(store), most);
    return parts > 1 ? parts : 1;
}

LOCH_STATUS loch_layer_write_parts(const struct loch_store *store, struct loch_keys *keys,
                                   const struct loch_timeline_info *info,
                                   struct loch_mem_layer *mem, const struct loch_imager *imagers,
                                   size_t parts, struct loch_layer_desc *out, size_t *count)
{
    LOCH_ASSERT(loch_mem_layer_end_lsn(mem) != LOCH_LSN_MAX);
    LOCH_ASSERT(parts > 0 && parts <= LOCH_FLUSH_PARTS_MAX);
    struct loch_mem_scan *scan = NULL;
    LOCH_TRY(loch_mem_scan_create(mem, &scan));
    struct flush f = {.store = store,
                      .keys = keys,
                      .info = info,
                      .mem = mem,
                      .scan = scan,
                      .lock = PTHREAD_MUTEX_INITIALIZER};
    begin_parts(&f, imagers, parts);
    write_all(&f);
    loch_status st = settle(&f);
    if (loch_is_ok(st)) {
        qsort(f.parts, f.count, sizeof *f.parts, compare_parts);
        for (size_t i = 0; i < f.count; i++)
            out[i] = f.parts[i].desc;
        *count = f.count;
    }
    loch_mem_scan_destroy(scan);
    return st;
}

LOCH_STATUS loch_layer_write(const struct loch_store *store, struct loch_keys *keys,
                             const struct loch_timeline_info *info, struct loch_mem_layer *mem,
                             const struct loch_imager *imager, struct loch_layer_desc *out)
{
    size_t count = 0;
    return loch_layer_write_parts(store, keys, info, mem, imager, 1, out, &count);
}
