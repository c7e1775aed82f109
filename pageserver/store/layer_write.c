/* A frozen memory layer becomes a file, or several at once, which divide its keys among them: a
 * band (layers/compact.h). Each part is built and made durable by a thread of its own; all of them
 * are whole, or none stays. */
#include "layer_build.h"
#include "layer_copy.h"
#include "pushdown.h"
#include "timeline.h"

#include "loch/base/check.h"
#include "loch/base/stack.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct part {
    const struct loch_store *store;
    struct loch_keys *keys;
    const struct loch_timeline_info *info;
    struct loch_mem_layer *mem;
    const struct loch_imager *imager;
    const struct loch_mem_scan *scan;
    size_t begin, end; /* its keys */
    struct loch_layer_desc desc;
    loch_status st;
    char why[300]; /* a failure's text is its thread's */
};

static loch_status write_one(const struct part *p, struct loch_layer_builder *builder, size_t i)
{
    struct loch_versions list = {0};
    struct loch_chain chain = {0};
    const struct loch_key *key = loch_mem_scan_key(p->scan, i);
    loch_status st = loch_mem_scan_history(p->scan, i, &list);
    if (loch_is_ok(st) && p->imager != NULL)
        st = loch_push_images(p->imager, key, loch_mem_layer_start_lsn(p->mem), &list, &chain);
    if (loch_is_ok(st))
        st = loch_layer_builder_add(builder, key, list.items, list.count, &chain, 0);
    loch_versions_fini(&list);
    return st;
}

static loch_status write_keys(struct part *p)
{
    struct loch_layer_builder *builder = NULL;
    struct loch_layer_desc desc = {.level = LOCH_LAYER_FLUSHED,
                                   .span = {.start_lsn = loch_mem_layer_start_lsn(p->mem),
                                            .end_lsn = loch_mem_layer_end_lsn(p->mem)}};
    loch_status st;
    LOCH_TRY_OUT(st, loch_layer_builder_create(p->store, p->keys, p->info, &desc, &builder));
    for (size_t i = p->begin; i < p->end; i++)
        LOCH_TRY_OUT(st, write_one(p, builder, i));
    LOCH_TRY_OUT(st, loch_layer_builder_finish(builder, &p->desc));
out:
    loch_layer_builder_destroy(builder);
    return st;
}

static void *write_part(void *arg)
{
    struct part *p = arg;
    p->st = write_keys(p);
    if (!loch_is_ok(p->st))
        (void)snprintf(p->why, sizeof p->why, "%s", loch_error_text());
    loch_stack_wipe(); /* the system keeps the stack for a thread to come */
    return NULL;
}

/* The first on this thread; so is any other that gets none. */
static void write_all(struct part *parts, size_t count)
{
    pthread_t threads[LOCH_FLUSH_PARTS_MAX];
    bool begun[LOCH_FLUSH_PARTS_MAX] = {false};
    for (size_t i = 1; i < count && !parts->store->one_thread; i++)
        begun[i] = pthread_create(&threads[i], NULL, write_part, &parts[i]) == 0;
    for (size_t i = 0; i < count; i++) {
        if (!begun[i])
            (void)write_part(&parts[i]);
    }
    for (size_t i = 0; i < count; i++) {
        if (begun[i])
            LOCH_ASSERT(pthread_join(threads[i], NULL) == 0);
    }
}

/* Of several failures the first one's. */
static loch_status settle(const struct part *parts, size_t count)
{
    size_t failed = 0;
    while (failed < count && loch_is_ok(parts[failed].st))
        failed++;
    if (failed == count)
        return LOCH_OK;
    for (size_t i = 0; i < count; i++) {
        if (loch_is_ok(parts[i].st))
            loch_layer_discard(parts[i].store, parts[i].info, &parts[i].desc);
    }
    return LOCH_FAIL(parts[failed].st.code, "%s", parts[failed].why);
}

size_t loch_layer_parts(const struct loch_store *store, const struct loch_mem_layer *mem)
{
    const size_t least =
        store->flush_part_bytes > 0 ? store->flush_part_bytes : LOCH_FLUSH_PART_BYTES;
    const size_t most = loch_min_u64(store->flush_parts, LOCH_FLUSH_PARTS_MAX);
    const size_t parts = loch_min_u64(loch_mem_layer_bytes(mem) / least, most);
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
    struct part all[LOCH_FLUSH_PARTS_MAX] = {0};
    size_t ends[LOCH_FLUSH_PARTS_MAX];
    loch_status st;
    LOCH_TRY_OUT(st, loch_mem_scan_create(mem, &scan));
    parts = loch_mem_scan_divide(scan, parts, ends);
    for (size_t i = 0; i < parts; i++) {
        all[i] = (struct part){.store = store,
                               .keys = keys,
                               .info = info,
                               .mem = mem,
                               .imager = imagers != NULL ? &imagers[i] : NULL,
                               .scan = scan,
                               .begin = i > 0 ? ends[i - 1] : 0,
                               .end = ends[i]};
    }
    write_all(all, parts);
    LOCH_TRY_OUT(st, settle(all, parts));
    for (size_t i = 0; i < parts; i++)
        out[i] = all[i].desc;
    *count = parts;
out:
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
