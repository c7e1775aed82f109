/* Healing layers of an open timeline. Who reads goes on with the file that it has open: blocks that
 * are good there stay good, others are read from the copy. */
#include "heal.h"

#include "layer_copy.h"
#include "timeline_impl.h"

#include "loch/base/check.h"

#include <stdio.h>
#include <stdlib.h>

bool loch_timeline_is_harmed(struct loch_timeline *t)
{
    loch_lsn last = LOCH_LSN_NONE;
    struct loch_layer_set *set = loch_timeline_layers(t, &last);
    bool harmed = false;
    for (size_t i = 0; i < set->file_count && !harmed; i++)
        harmed = loch_layer_is_harmed(set->files[i]);
    loch_layer_set_release(set);
    return harmed;
}

/* Puts `fresh`, the same layer opened again, in the place of `old`. */
static loch_status swap(struct loch_timeline *t, const struct loch_layer *old,
                        struct loch_layer *fresh)
{
    pthread_mutex_lock(&t->commit); /* the list of files changes under it alone */
    pthread_mutex_lock(&t->lock);
    struct loch_layer_set_parts parts = loch_timeline_parts(t);
    struct loch_layer **files = calloc(parts.file_count + 1, sizeof(struct loch_layer *));
    loch_status st =
        files == NULL ? LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a list of layers") : LOCH_OK;
    bool found = false;
    for (size_t i = 0; i < parts.file_count && files != NULL; i++) {
        files[i] = parts.files[i] == old ? fresh : parts.files[i];
        found = found || parts.files[i] == old;
    }
    parts.files = files;
    if (loch_is_ok(st) && found)
        st = loch_timeline_install(t, &parts);
    pthread_mutex_unlock(&t->lock);
    pthread_mutex_unlock(&t->commit);
    free(files);
    return st;
}

static loch_status heal_one(struct loch_timeline *t, const struct loch_layer *layer,
                            struct loch_heal_report *report)
{
    const struct loch_layer_desc *desc = loch_layer_desc(layer);
    struct loch_layer *fresh = NULL;
    bool healed = false;
    report->layers++;
    report->bytes += desc->file_bytes;
    LOCH_TRY(loch_layer_copy_check(&t->store, t->keys, &t->info, desc, t->store.copies, &healed));
    report->healed += healed;
    if (!healed && !loch_layer_is_harmed(layer))
        return LOCH_OK;
    LOCH_TRY(loch_layer_open(&t->store, t->keys, &t->info, desc, &fresh));
    loch_status st = swap(t, layer, fresh);
    loch_layer_release(fresh);
    return st;
}

LOCH_STATUS loch_timeline_heal(struct loch_timeline *t, const struct loch_heal *heal,
                               struct loch_heal_report *report)
{
    loch_lsn last = LOCH_LSN_NONE;
    loch_status st = LOCH_OK, first = LOCH_OK;
    char why[400] = "";
    *report = (struct loch_heal_report){0};
    struct loch_layer_set *set = loch_timeline_layers(t, &last);
    for (size_t i = 0; i < set->file_count && loch_is_ok(st); i++) {
        if (!heal->everything && !loch_layer_is_harmed(set->files[i]))
            continue;
        loch_status one = heal_one(t, set->files[i], report);
        if (!loch_is_ok(one) && loch_is_ok(first)) {
            first = one;
            snprintf(why, sizeof why, "%s", loch_error_text());
        }
        if (heal->pace != NULL)
            st = heal->pace(heal->arg);
    }
    loch_layer_set_release(set);
    LOCH_TRY(st);
    return loch_is_ok(first) ? LOCH_OK : LOCH_FAIL(first.code, "%s", why);
}
