/* What counts at a cut is a stack: a new one takes off all that begin at its block or later and
 * goes on top. Kept for all times at once it is a tree, and the second link is that of E. W. Myers,
 * "An applicative random-access stack", Information Processing Letters 17 (1983): a link of
 * constant size that makes the way to any depth logarithmic. */
#include "cuts.h"

#include "collect.h"
#include "store/mutation.h"

#include "loch/layers/plan.h"

/* ---- the value ---- */

static void write_step(struct loch_cut_step step, uint8_t *out)
{
    loch_put_u64(out, step.lsn);
    loch_put_u32(out + 8, step.first);
    loch_put_u32(out + 12, step.depth);
}

static struct loch_cut_step read_step(const uint8_t *in)
{
    return (struct loch_cut_step){loch_get_u64(in), loch_get_u32(in + 8), loch_get_u32(in + 12)};
}

size_t loch_cut_encode(const struct loch_cut *cut, uint8_t out[static LOCH_CUT_BYTES])
{
    loch_put_u32(out, cut->first);
    if (!cut->linked)
        return LOCH_CUT_SHORT_BYTES;
    write_step(cut->next, out + 4);
    write_step(cut->leap, out + 20);
    return LOCH_CUT_BYTES;
}

/* Each step leads further down: to an older cut that begins earlier. */
static bool links_fit(const struct loch_cut *cut)
{
    const struct loch_cut_step *next = &cut->next, *leap = &cut->leap;
    if (next->lsn == LOCH_LSN_NONE)
        return leap->lsn == LOCH_LSN_NONE;
    return next->lsn < cut->lsn && next->first < cut->first && leap->lsn != LOCH_LSN_NONE &&
           leap->lsn <= next->lsn && leap->first <= next->first && leap->depth <= next->depth;
}

LOCH_STATUS loch_cut_decode(struct loch_slice value, loch_lsn lsn, struct loch_cut *out)
{
    if (value.len != LOCH_CUT_SHORT_BYTES && value.len != LOCH_CUT_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a cut of %zu bytes", value.len);
    struct loch_cut cut = {.lsn = lsn, .first = loch_get_u32(value.data)};
    cut.linked = value.len == LOCH_CUT_BYTES;
    if (cut.linked) {
        cut.next = read_step(value.data + 4);
        cut.leap = read_step(value.data + 20);
        if (!links_fit(&cut))
            return LOCH_FAIL(LOCH_E_CORRUPT, "a cut that leads to no older one");
    }
    *out = cut;
    return LOCH_OK;
}

/* ---- the way down ---- */

LOCH_STATUS loch_cut_newest(struct loch_view *view, const struct loch_key *key, loch_lsn low,
                            loch_lsn lsn, struct loch_cut *out, bool *found)
{
    struct loch_buf value = {0};
    loch_lsn at = LOCH_LSN_NONE;
    bool any = false;
    view->cuts++;
    loch_status st = loch_collect_value(view, key, low, lsn, &value, &any, &at);
    if (loch_is_ok(st) && any)
        st = loch_cut_decode(loch_buf_slice(&value), at, out);
    loch_buf_fini(&value);
    if (loch_is_ok(st))
        *found = any;
    return st;
}

static struct loch_cut_step step_of(const struct loch_cut *cut)
{
    const bool deeper = cut->linked && cut->next.lsn != LOCH_LSN_NONE;
    return (struct loch_cut_step){cut->lsn, cut->first, deeper ? cut->next.depth + 1 : 0};
}

/* Where to look next after a cut that does not hide the block; false: nowhere within reach. *found:
 * what was looked for is known without another look. */
static bool go_down(const struct loch_cut *at, loch_lsn low, uint32_t block,
                    struct loch_cut_step *to, bool *found)
{
    *found = false;
    if (!at->linked) {
        *to = (struct loch_cut_step){.lsn = at->lsn > 0 ? at->lsn - 1 : LOCH_LSN_NONE};
        return at->lsn > low;
    }
    *to = at->next;
    if (at->next.lsn == LOCH_LSN_NONE || at->next.lsn < low)
        return false;
    *found = loch_cut_hides(at->next.first, block);
    if (*found)
        return true;
    if (at->leap.lsn >= low &&
        (!loch_cut_hides(at->leap.first, block) || LOCH_STORE_MUTATED(CUT_OVERLEAPT)))
        *to = at->leap;
    return true;
}

LOCH_STATUS loch_cut_find(struct loch_view *view, const struct loch_key *key,
                          const struct loch_cut *from, loch_lsn low, uint32_t block,
                          struct loch_cut_step *out, bool *found)
{
    struct loch_cut at = *from;
    bool any = true, hit = false;
    for (uint32_t looks = 0; any; looks++) {
        struct loch_cut_step step = step_of(&at);
        hit = loch_cut_hides(at.first, block);
        if (hit || !go_down(&at, low, block, &step, &hit) || hit) {
            *out = hit ? step : *out;
            break;
        }
        if (view->at_once && looks == LOCH_CUT_AT_ONCE_MAX)
            return LOCH_FAIL(LOCH_E_UNAVAILABLE, "a page below many cuts");
        LOCH_TRY(loch_cut_newest(view, key, low, step.lsn, &at, &any));
    }
    *found = hit;
    return LOCH_OK;
}

/* ---- a new one ---- */

/* From a cut whose next is `next`: two equal leaps become one of twice their length. */
static loch_status find_leap(struct loch_view *view, const struct loch_key *key,
                             const struct loch_cut_step *next, struct loch_cut_step *leap)
{
    struct loch_cut cut = {0};
    bool found = false;
    *leap = *next;
    if (next->depth == 0)
        return LOCH_OK;
    LOCH_TRY(loch_cut_newest(view, key, next->lsn, next->lsn, &cut, &found));
    if (!found || !cut.linked || cut.leap.depth == 0)
        return LOCH_OK;
    const struct loch_cut_step over = cut.leap;
    LOCH_TRY(loch_cut_newest(view, key, over.lsn, over.lsn, &cut, &found));
    if (found && cut.linked && cut.leap.lsn != LOCH_LSN_NONE &&
        next->depth - over.depth == over.depth - cut.leap.depth)
        *leap = cut.leap;
    return LOCH_OK;
}

LOCH_STATUS loch_cut_make(struct loch_view *view, const struct loch_key *key, loch_lsn lsn,
                          uint32_t first, struct loch_cut *out)
{
    struct loch_cut cut = {.lsn = lsn, .first = first}, newest = {0};
    loch_lsn low = LOCH_LSN_NONE;
    bool found = false;
    if (first > 0) {
        LOCH_TRY(loch_database_floor(view, key->spc, key->db, lsn, &low));
        LOCH_TRY(loch_cut_newest(view, key, low, lsn, &newest, &found));
        cut.linked = true;
    }
    if (found && newest.lsn == lsn && newest.first <= first) {
        *out = newest;
        return LOCH_OK;
    }
    if (found)
        LOCH_TRY(loch_cut_find(view, key, &newest, low, first - 1, &cut.next, &found));
    if (found)
        LOCH_TRY(find_leap(view, key, &cut.next, &cut.leap));
    *out = cut;
    return LOCH_OK;
}
