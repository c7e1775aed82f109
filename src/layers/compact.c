/* Bands and the choice of a merge. Tiered: neighbours of one size class are merged when there are
 * fan_in of them, so a byte is rewritten once a class; below the cutoff, where a merge leaves only
 * what is alive, by the ratio of new to old. */
#include "loch/layers/compact.h"

#include "loch/base/check.h"

size_t loch_bands_add(struct loch_band *bands, size_t count, const struct loch_layer_span *span,
                      uint64_t bytes, const struct loch_layer_weight *weight, size_t index)
{
    struct loch_band *band = count > 0 ? &bands[count - 1] : NULL;
    LOCH_ASSERT(bands != NULL);
    if (band == NULL || band->start_lsn != span->start_lsn || band->end_lsn != span->end_lsn) {
        band = &bands[count++];
        *band = (struct loch_band){
            .start_lsn = span->start_lsn, .end_lsn = span->end_lsn, .first = index};
    }
    band->bytes += bytes;
    band->weight.raw += weight->raw;
    band->weight.past += weight->past;
    band->weight.held += weight->held;
    band->count++;
    return count;
}

static unsigned tier_of(uint64_t bytes, const struct loch_compact_settings *s)
{
    unsigned tier = 0;
    uint64_t limit = s->band_bytes;
    while (bytes > limit && limit <= UINT64_MAX / s->fan_in) {
        limit *= s->fan_in;
        tier++;
    }
    return tier;
}

/* Everything that the cutoff has passed, into the oldest band. */
static struct loch_compact_plan merge_below(const struct loch_band *bands, size_t count,
                                            const struct loch_compact_settings *s, loch_lsn cutoff)
{
    static const struct loch_compact_plan nothing;
    size_t first = 0;
    uint64_t newer = 0, raw = 0, past = 0;
    while (first < count && bands[first].end_lsn > cutoff)
        first++;
    if (first == count)
        return nothing;
    for (size_t i = first; i < count; i++) {
        newer += i + 1 < count ? bands[i].bytes : 0;
        raw += bands[i].weight.raw;
        past += bands[i].weight.past;
    }
    bool grown = count - first > 1 && newer >= bands[count - 1].bytes / 100 * s->base_percent;
    bool stale = past > 0 && past >= raw / 100 * s->base_percent;
    if (!grown && !stale)
        return nothing;
    return (struct loch_compact_plan){first, count - first};
}

struct loch_compact_plan loch_compact_idle(const struct loch_band *bands, size_t count,
                                           const bool *long_chains, uint64_t bytes)
{
    struct loch_compact_plan plan = {0, 0};
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        if (bands[i].bytes > bytes - sum)
            break;
        sum += bands[i].bytes;
        if (long_chains[i])
            plan.count = i + 1;
    }
    return plan;
}

struct loch_compact_plan loch_compact_next(const struct loch_band *bands, size_t count,
                                           const struct loch_compact_settings *s, loch_lsn cutoff)
{
    size_t run = 0;
    unsigned tier = 0;
    for (size_t i = 0; i < count; i++) {
        unsigned t = tier_of(bands[i].bytes, s);
        /* a small band between larger ones counts as one of theirs */
        run = run > 0 && t <= tier ? run + 1 : 1;
        tier = run == 1 ? t : tier;
        bool last = i + 1 == count || tier_of(bands[i + 1].bytes, s) > tier;
        if (last && run >= s->fan_in)
            return (struct loch_compact_plan){i + 1 - run, run};
    }
    return merge_below(bands, count, s, cutoff);
}
