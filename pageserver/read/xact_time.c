/* The entries of the time key, and bisection over them. */
#include "read/xact_time.h"

void loch_xact_time_encode(const struct loch_xact_time *entry,
                           uint8_t out[static LOCH_XACT_TIME_BYTES])
{
    loch_put_u64(out, (uint64_t)entry->time_us);
    loch_put_u64(out + 8, entry->end);
    loch_put_u64(out + 16, entry->before);
}

LOCH_STATUS loch_xact_time_decode(struct loch_slice bytes, struct loch_xact_time *out)
{
    if (bytes.len != LOCH_XACT_TIME_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a transaction's time has %zu bytes", bytes.len);
    struct loch_xact_time entry = {.time_us = (int64_t)loch_get_u64(bytes.data),
                                   .end = loch_get_u64(bytes.data + 8),
                                   .before = loch_get_u64(bytes.data + 16)};
    if (entry.end == LOCH_LSN_NONE || entry.before >= entry.end)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a transaction's time is of " LOCH_LSN_FMT,
                         LOCH_LSN_ARG(entry.end));
    *out = entry;
    return LOCH_OK;
}

LOCH_STATUS loch_xact_time_at(struct loch_view *view, loch_lsn lsn, bool *found,
                              struct loch_xact_time *out)
{
    struct loch_key key = LOCH_XACT_TIME_KEY;
    struct loch_buf value = {0};
    struct loch_xact_time entry = {0};
    loch_status st = loch_view_get(view, &key, lsn, &value, found, NULL);
    if (loch_is_ok(st) && *found)
        st = loch_xact_time_decode(loch_buf_slice(&value), &entry);
    loch_buf_fini(&value);
    /* A detached branch begins with a copy of the newest entry, placed below all that is its own.
     */
    if (loch_is_ok(st) && *found && entry.end > lsn)
        *found = false;
    if (loch_is_ok(st) && *found)
        *out = entry;
    return st;
}

/* *later: the newest entry at `lsn` lies in a later second than time_us; then *out is it. */
static loch_status later_at(struct loch_view *view, loch_lsn lsn, int64_t time_us, bool *later,
                            struct loch_xact_time *out)
{
    struct loch_xact_time entry;
    bool found = false;
    LOCH_TRY(loch_xact_time_at(view, lsn, &found, &entry));
    *later = found && loch_xact_second(entry.time_us) > loch_xact_second(time_us);
    if (*later)
        *out = entry;
    return LOCH_OK;
}

LOCH_STATUS loch_xact_time_after(struct loch_view *view, loch_lsn lsn, int64_t time_us, bool *found,
                                 struct loch_xact_time *out)
{
    struct loch_xact_time best;
    loch_lsn low = LOCH_LSN_NONE; /* at it and below: nothing later */
    bool later = false;
    LOCH_TRY(later_at(view, lsn, time_us, &later, &best));
    *found = later;
    while (later && best.end - 1 > low) {
        /* First the entry just before: near the tip that is most often the end of it. */
        LOCH_TRY(later_at(view, best.end - 1, time_us, &later, &best));
        if (!later)
            break;
        loch_lsn middle = low + (best.end - low) / 2;
        bool above = false;
        LOCH_TRY(later_at(view, middle, time_us, &above, &best));
        if (!above)
            low = middle;
    }
    if (*found)
        *out = best;
    return LOCH_OK;
}
