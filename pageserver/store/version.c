/* Lists of versions and the shared frames they borrow from. */
#include "version.h"

#include "loch/base/check.h"
#include "loch/base/secret.h"

#include <stdatomic.h>
#include <stdlib.h>

struct loch_frame {
    atomic_uint refs;
    struct loch_buf bytes;
};

LOCH_STATUS loch_frame_create(struct loch_buf *take_bytes, struct loch_frame **out)
{
    struct loch_frame *frame = malloc(sizeof *frame);
    if (frame == NULL) {
        loch_wipe(take_bytes->data, take_bytes->len);
        loch_buf_fini(take_bytes);
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a frame");
    }
    atomic_init(&frame->refs, 1);
    frame->bytes = *take_bytes;
    *take_bytes = (struct loch_buf){0};
    *out = frame;
    return LOCH_OK;
}

struct loch_frame *loch_frame_retain(struct loch_frame *frame)
{
    atomic_fetch_add_explicit(&frame->refs, 1, memory_order_relaxed);
    return frame;
}

void loch_frame_release(struct loch_frame *frame)
{
    if (frame == NULL)
        return;
    if (atomic_fetch_sub_explicit(&frame->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (frame->bytes.data != NULL)
        loch_wipe(frame->bytes.data, frame->bytes.len); /* nothing was ever behind it */
    loch_buf_fini(&frame->bytes);
    free(frame);
}

struct loch_slice loch_frame_bytes(const struct loch_frame *frame)
{
    return loch_buf_slice(&frame->bytes);
}

/* Doubles an array of `size`-byte items so that one more fits. */
static loch_status grow(void **items, size_t count, size_t *cap, size_t size)
{
    if (count < *cap)
        return LOCH_OK;
    size_t wanted = *cap == 0 ? 16 : *cap * 2;
    void *bigger = reallocarray(*items, wanted, size);
    if (bigger == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %zu versions", wanted);
    *items = bigger;
    *cap = wanted;
    return LOCH_OK;
}

LOCH_STATUS loch_versions_add(struct loch_versions *list, const struct loch_version *version)
{
    void *items = list->items;
    LOCH_TRY(grow(&items, list->count, &list->cap, sizeof *list->items));
    list->items = items;
    list->items[list->count++] = *version;
    return LOCH_OK;
}

void loch_versions_reverse(struct loch_versions *list, size_t first)
{
    for (size_t i = first, j = list->count; i + 1 < j; i++) {
        const struct loch_version v = list->items[--j];
        list->items[j] = list->items[i];
        list->items[i] = v;
    }
}

LOCH_STATUS loch_versions_hold(struct loch_versions *list, struct loch_frame *take_frame)
{
    void *frames = list->frames;
    loch_status st = grow(&frames, list->frame_count, &list->frame_cap, sizeof(void *));
    if (!loch_is_ok(st)) {
        loch_frame_release(take_frame);
        return st;
    }
    list->frames = frames;
    list->frames[list->frame_count++] = take_frame;
    return LOCH_OK;
}

void loch_versions_clear(struct loch_versions *list)
{
    for (size_t i = 0; i < list->frame_count; i++)
        loch_frame_release(list->frames[i]);
    list->count = list->frame_count = 0;
}

void loch_versions_fini(struct loch_versions *list)
{
    loch_versions_clear(list);
    free(list->frames);
    free(list->items);
    free(list->spare);
    *list = (struct loch_versions){0};
}
