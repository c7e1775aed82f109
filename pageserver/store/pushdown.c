/* One walk from the oldest version to the newest: the page is carried along from image to image, so
 * that each record is applied once, however long the history is. */
#include "pushdown.h"

#include "mutation.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/base/secret.h"

enum base { UNKNOWN, FROM_NOTHING, FROM_PAGE };

struct walk {
    const struct loch_imager *imager;
    const struct loch_key *key;
    struct loch_versions *list;
    struct loch_versions out; /* from the first image on, oldest first; borrows what list holds */
    bool begun;               /* `out` is what counts */
    struct loch_chain chain;
    enum base base;
    size_t from; /* index in list of the oldest version on top of the base */
    loch_lsn base_lsn;
    const uint8_t *page; /* FROM_PAGE: what list or out borrow */
    bool given_up;
};

static uint32_t add_bytes(uint32_t bytes, size_t more)
{
    return (uint32_t)loch_min_u64(UINT32_MAX, bytes + (uint64_t)more);
}

/* Takes version i into account. */
static void pass(struct walk *w, size_t i)
{
    const struct loch_version *v = &w->list->items[i];
    if (v->kind == LOCH_VERSION_VALUE) {
        w->chain = (struct loch_chain){0};
        w->base = UNKNOWN;
        if (v->bytes.len != LOCH_PAGE_BYTES)
            return;
        w->page = v->bytes.data;
        w->base = FROM_PAGE;
        w->base_lsn = v->lsn;
        w->from = i - 1; /* of no use when i is 0: the walk is over then */
    } else if (v->kind == LOCH_VERSION_RECORD_INIT) {
        w->chain = (struct loch_chain){1, add_bytes(0, v->bytes.len)};
        w->base = FROM_NOTHING;
        w->from = i;
    } else {
        w->chain.records++;
        w->chain.bytes = add_bytes(w->chain.bytes, v->bytes.len);
    }
}

static loch_status make(struct walk *w, size_t i, uint8_t page[LOCH_PAGE_BYTES], bool *made)
{
    const struct loch_version *v = &w->list->items[i];
    loch_lsn floor = LOCH_LSN_NONE;
    if (w->base != UNKNOWN) {
        /* what a cut hides must not shine through */
        loch_lsn oldest = w->base == FROM_PAGE ? w->base_lsn : w->list->items[w->from].lsn;
        loch_status st = w->imager->floor(w->imager->arg, w->key, v->lsn, &floor);
        if (!loch_is_ok(st) && st.code != LOCH_E_NO_MEMORY) {
            loch_log_failure("no image of a page whose cuts cannot be read; its records are kept");
            *made = false;
            return LOCH_OK;
        }
        LOCH_TRY(st);
        if (floor <= oldest || LOCH_STORE_MUTATED(IMAGE_OVER_CUT))
            return w->imager->image(w->imager->arg, w->key, v, w->from - i + 1,
                                    w->base == FROM_PAGE ? w->page : NULL, w->base_lsn, page, made);
    }
    return w->imager->read(w->imager->arg, w->key, v->lsn, page, made);
}

/* What was passed over so far stands before the first image. */
static loch_status begin_out(struct walk *w, size_t i)
{
    w->begun = true;
    for (size_t n = w->list->count; n-- > i;)
        LOCH_TRY(loch_versions_add(&w->out, &w->list->items[n]));
    return LOCH_OK;
}

static loch_status put_image(struct walk *w, size_t i, struct loch_buf *page)
{
    struct loch_frame *frame = NULL;
    LOCH_TRY(loch_frame_create(page, &frame));
    const struct loch_version image = {
        .lsn = w->list->items[i].lsn, .kind = LOCH_VERSION_VALUE, .bytes = loch_frame_bytes(frame)};
    LOCH_TRY(loch_versions_hold(w->list, frame));
    if (!w->begun)
        LOCH_TRY(begin_out(w, i));
    LOCH_TRY(loch_versions_add(&w->out, &image));
    w->page = image.bytes.data;
    w->chain = (struct loch_chain){0};
    w->base = FROM_PAGE;
    w->base_lsn = image.lsn;
    w->from = i - 1;
    return LOCH_OK;
}

static loch_status add_image(struct walk *w, size_t i)
{
    struct loch_buf page = {0};
    bool made = false;
    LOCH_TRY(loch_buf_reserve(&page, LOCH_PAGE_BYTES));
    page.len = LOCH_PAGE_BYTES;
    loch_status st = make(w, i, page.data, &made);
    w->given_up = !made;
    if (loch_is_ok(st) && made)
        return put_image(w, i, &page);
    loch_wipe(page.data, page.len);
    loch_buf_fini(&page);
    return st;
}

/* The newest version gets an image that older ones of its length would not. */
static bool wanted_at_tip(const struct walk *w, size_t i)
{
    const struct loch_imager *im = w->imager;
    return i == 0 && ((im->tip_max > 0 && w->chain.records > im->tip_max) ||
                      (im->tip_bytes > 0 && w->chain.bytes > im->tip_bytes));
}

static loch_status walk_all(struct walk *w)
{
    const struct loch_imager *im = w->imager;
    for (size_t i = w->list->count; i-- > 0;) {
        const struct loch_version *v = &w->list->items[i];
        pass(w, i);
        if (w->begun)
            LOCH_TRY(loch_versions_add(&w->out, v));
        /* an image stands behind the last of several versions with one LSN */
        bool last = i == 0 || w->list->items[i - 1].lsn != v->lsn;
        const bool wanted =
            loch_image_wanted(w->chain.records, w->chain.bytes, im->records_max, im->bytes_max);
        if (!last || w->given_up || (!wanted && !wanted_at_tip(w, i)))
            continue;
        LOCH_TRY(add_image(w, i));
        if (!wanted && !w->given_up && im->tip_images != NULL)
            (*im->tip_images)++;
    }
    return LOCH_OK;
}

LOCH_STATUS loch_push_images(const struct loch_imager *imager, const struct loch_key *key,
                             loch_lsn start_lsn, struct loch_versions *list,
                             struct loch_chain *chain)
{
    *chain = (struct loch_chain){0};
    if (key->kind != LOCH_KEY_PAGE || list->count == 0)
        return LOCH_OK;
    struct walk w = {.imager = imager, .key = key, .list = list};
    loch_status st = LOCH_OK;
    if (!loch_version_is_base(&list->items[list->count - 1]) &&
        !LOCH_STORE_MUTATED(CHAIN_FORGOTTEN))
        st = imager->below(imager->arg, key, start_lsn, &w.chain);
    w.out.items = list->spare;
    w.out.cap = list->spare_cap;
    if (loch_is_ok(st))
        st = walk_all(&w);
    list->spare = w.out.items;
    list->spare_cap = w.out.cap;
    LOCH_TRY(st);
    if (w.begun) {
        list->spare = list->items;
        list->spare_cap = list->cap;
        list->items = w.out.items;
        list->count = w.out.count;
        list->cap = w.out.cap;
        loch_versions_reverse(list, 0);
    }
    *chain = w.chain;
    return LOCH_OK;
}
