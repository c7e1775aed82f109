/* Immutable lists of layers. */
#include "layer_set.h"

#include <stdlib.h>

LOCH_STATUS loch_layer_set_create(struct loch_mem_layer *open, struct loch_mem_layer **frozen,
                                  size_t frozen_count, struct loch_layer *new_file,
                                  struct loch_layer **files, size_t file_count,
                                  struct loch_layer_set **out)
{
    struct loch_layer_set *set = calloc(1, sizeof *set);
    if (set != NULL) {
        atomic_init(&set->refs, 1);
        set->mem = calloc(frozen_count + 1, sizeof(struct loch_mem_layer *));
        set->files = calloc(file_count + 1, sizeof(struct loch_layer *));
    }
    if (set == NULL || set->mem == NULL || set->files == NULL) {
        loch_layer_set_release(set);
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a list of layers");
    }
    if (open != NULL)
        set->mem[set->mem_count++] = loch_mem_layer_retain(open);
    for (size_t i = 0; i < frozen_count; i++)
        set->mem[set->mem_count++] = loch_mem_layer_retain(frozen[i]);
    if (new_file != NULL)
        set->files[set->file_count++] = loch_layer_retain(new_file);
    for (size_t i = 0; i < file_count; i++)
        set->files[set->file_count++] = loch_layer_retain(files[i]);
    *out = set;
    return LOCH_OK;
}

struct loch_layer_set *loch_layer_set_retain(struct loch_layer_set *set)
{
    atomic_fetch_add_explicit(&set->refs, 1, memory_order_relaxed);
    return set;
}

void loch_layer_set_release(struct loch_layer_set *set)
{
    if (set == NULL || atomic_fetch_sub_explicit(&set->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < set->mem_count; i++)
        loch_mem_layer_release(set->mem[i]);
    for (size_t i = 0; i < set->file_count; i++)
        loch_layer_release(set->files[i]);
    free(set->mem);
    free(set->files);
    free(set);
}
