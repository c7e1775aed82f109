/* The base backup's source over a timeline's view. */
#include "basebackup/basebackup.h"
#include "store/timeline.h"

static LOCH_STATUS view_page(void *arg, const struct loch_rel *rel, uint8_t fork, uint32_t block,
                             loch_lsn lsn, uint8_t out[static LOCH_PAGE_BYTES])
{
    return loch_view_page(arg, rel, fork, block, lsn, out);
}

static LOCH_STATUS view_scan(void *arg, const struct loch_key *first, const struct loch_key *end,
                             loch_lsn lsn, loch_view_scan_fn fn, void *fn_arg)
{
    return loch_view_scan(arg, first, end, lsn, fn, fn_arg);
}

struct loch_basebackup_source loch_basebackup_view_source(struct loch_view *view)
{
    return (struct loch_basebackup_source){.page = view_page, .scan = view_scan, .arg = view};
}

LOCH_STATUS loch_basebackup_forgotten_until(struct loch_view *view, loch_lsn lsn, loch_lsn *out)
{
    struct loch_key key = LOCH_TWOPHASE_FORGET_KEY;
    struct loch_buf mark = {0};
    loch_lsn version = LOCH_LSN_NONE;
    bool found = false;
    loch_status st = loch_view_get(view, &key, lsn, &mark, &found, &version);
    loch_buf_fini(&mark);
    if (loch_is_ok(st))
        *out = found ? version : LOCH_LSN_NONE;
    return st;
}
