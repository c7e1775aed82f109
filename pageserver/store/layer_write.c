/* A frozen memory layer becomes a file. */
#include "layer_build.h"
#include "pushdown.h"
#include "timeline.h"

#include "loch/base/check.h"

#include <stdlib.h>

static loch_status write_one(struct loch_layer_builder *builder, struct loch_mem_layer *mem,
                             const struct loch_imager *imager, const struct loch_key *key)
{
    struct loch_versions list = {0};
    struct loch_chain chain = {0};
    loch_status st = loch_mem_layer_history(mem, key, &list);
    if (loch_is_ok(st) && imager != NULL)
        st = loch_push_images(imager, key, loch_mem_layer_start_lsn(mem), &list, &chain);
    if (loch_is_ok(st))
        st = loch_layer_builder_add(builder, key, list.items, list.count, &chain, 0);
    loch_versions_fini(&list);
    return st;
}

LOCH_STATUS loch_layer_write(const struct loch_store *store, struct loch_keys *keys,
                             const struct loch_timeline_info *info, struct loch_mem_layer *mem,
                             const struct loch_imager *imager, struct loch_layer_desc *out)
{
    LOCH_ASSERT(loch_mem_layer_end_lsn(mem) != LOCH_LSN_MAX);
    struct loch_key *list = NULL, first = {0}, end = {.kind = UINT8_MAX};
    size_t count = 0;
    struct loch_layer_builder *builder = NULL;
    struct loch_layer_desc desc = {.level = LOCH_LAYER_FLUSHED,
                                   .span = {.start_lsn = loch_mem_layer_start_lsn(mem),
                                            .end_lsn = loch_mem_layer_end_lsn(mem)}};
    loch_status st;
    LOCH_TRY_OUT(st, loch_mem_layer_keys(mem, &first, &end, &list, &count));
    LOCH_ASSERT(count > 0);
    LOCH_TRY_OUT(st, loch_layer_builder_create(store, keys, info, &desc, &builder));
    for (size_t i = 0; i < count; i++)
        LOCH_TRY_OUT(st, write_one(builder, mem, imager, &list[i]));
    LOCH_TRY_OUT(st, loch_layer_builder_finish(builder, out));
out:
    loch_layer_builder_destroy(builder);
    free(list);
    return st;
}
