/* Rules of retention. The one that matters: a version goes only when no read at the cutoff, above
 * it or at a held point would use it. */
#include "loch/layers/retain.h"

#include <stdlib.h>
#include <string.h>

bool loch_retention_readable(const struct loch_retention *r, loch_lsn lsn)
{
    if (lsn >= r->cutoff)
        return true;
    size_t lo = 0, hi = r->point_count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (r->points[mid] < lsn)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < r->point_count && r->points[lo] == lsn;
}

void loch_retain_history(struct loch_retain_item *items, size_t count, loch_lsn cutoff)
{
    for (size_t i = 0; i < count && items[i].lsn > cutoff; i++)
        items[i].keep = items[i].history = true;
}

void loch_retain_read(struct loch_retain_item *items, size_t count, loch_lsn floor, loch_lsn lsn,
                      bool live)
{
    uint64_t covered = UINT64_MAX; /* blocks from here on, by newer cuts */
    for (size_t i = 0; i < count; i++) {
        if (items[i].lsn > lsn)
            continue;
        if (items[i].lsn < floor)
            return;
        if (items[i].cut && items[i].first >= covered)
            continue;
        if (items[i].cut)
            covered = items[i].first;
        items[i].keep = true;
        items[i].live = items[i].live || live;
        if (items[i].base)
            return;
    }
}

bool loch_retention_advance(const struct loch_pitr_window *window,
                            const struct loch_lsn_mark *marks, size_t count, int64_t now_us,
                            loch_lsn last, loch_lsn cutoff, struct loch_lsn_mark *out)
{
    uint64_t now_s = now_us > 0 ? (uint64_t)now_us / 1000000 : 0;
    if (window->seconds > now_s || window->bytes > last)
        return false;
    int64_t oldest_us = now_us - (int64_t)(window->seconds * 1000000);
    loch_lsn oldest = last - window->bytes;
    for (size_t i = count; i-- > 0 && marks[i].lsn > cutoff;) {
        if (marks[i].wall_us > oldest_us || marks[i].lsn > oldest)
            continue;
        *out = marks[i];
        return true;
    }
    return false;
}

/* Every other of the older half. */
static size_t thin(struct loch_lsn_mark *marks, size_t count)
{
    size_t half = count / 2, kept = 0;
    for (size_t i = 0; i < half; i += 2)
        marks[kept++] = marks[i];
    memmove(marks + kept, marks + half, (count - half) * sizeof *marks);
    return kept + (count - half);
}

size_t loch_marks_add(struct loch_lsn_mark *marks, size_t count, loch_lsn lsn, int64_t now_us,
                      int64_t gap_us, loch_lsn cutoff)
{
    size_t gone = 0;
    while (gone + 1 < count && marks[gone + 1].lsn <= cutoff)
        gone++;
    memmove(marks, marks + gone, (count - gone) * sizeof *marks);
    count -= gone;
    if (count > 0) {
        const struct loch_lsn_mark *last = &marks[count - 1];
        if (lsn <= last->lsn || now_us < last->wall_us + gap_us)
            return count;
    }
    if (count == LOCH_MARKS_MAX)
        count = thin(marks, count);
    marks[count++] = (struct loch_lsn_mark){lsn, now_us};
    return count;
}

static int compare_lsns(const void *a, const void *b)
{
    loch_lsn x = *(const loch_lsn *)a, y = *(const loch_lsn *)b;
    return x < y ? -1 : x > y;
}

size_t loch_retention_points(loch_lsn *held, size_t count, loch_lsn cutoff)
{
    size_t n = 0;
    if (count == 0)
        return 0;
    qsort(held, count, sizeof *held, compare_lsns);
    for (size_t i = 0; i < count && held[i] < cutoff; i++) {
        if (n == 0 || held[n - 1] != held[i])
            held[n++] = held[i];
    }
    return n;
}
