/* Choosing layers by key and LSN. */
#include "loch/layers/plan.h"

static loch_lsn lowest_lsn(const struct loch_layer_span *span)
{
    return span->start_lsn == span->end_lsn ? span->start_lsn : span->start_lsn + 1;
}

bool loch_layer_span_needed(const struct loch_layer_span *span, const struct loch_key *key,
                            loch_lsn floor, loch_lsn lsn)
{
    return lowest_lsn(span) <= lsn && span->end_lsn >= floor &&
           loch_key_compare(key, &span->first) >= 0 && loch_key_compare(key, &span->last) <= 0;
}

bool loch_layer_span_meets(const struct loch_layer_span *span, const struct loch_key *first,
                           const struct loch_key *end, loch_lsn lsn)
{
    return lowest_lsn(span) <= lsn && loch_key_compare(&span->last, first) >= 0 &&
           loch_key_compare(&span->first, end) < 0;
}

bool loch_layer_span_below(const struct loch_layer_span *span, loch_lsn floor)
{
    return span->end_lsn < floor;
}

LOCH_STATUS loch_layers_check(const struct loch_layer_span *spans, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct loch_layer_span *span = &spans[i], *before = &spans[i > 0 ? i - 1 : 0];
        if (span->start_lsn > span->end_lsn || loch_key_compare(&span->first, &span->last) > 0)
            return LOCH_FAIL(LOCH_E_CORRUPT, "layer %zu ends before it begins", i);
        if (i == 0)
            continue;
        bool same_band = span->start_lsn == before->start_lsn && span->end_lsn == before->end_lsn &&
                         loch_key_compare(&before->last, &span->first) < 0;
        if (!same_band && span->end_lsn > before->start_lsn)
            return LOCH_FAIL(LOCH_E_CORRUPT, "layers %zu and %zu overlap", i - 1, i);
        if (!same_band && span->start_lsn == before->start_lsn && span->end_lsn == before->end_lsn)
            return LOCH_FAIL(LOCH_E_CORRUPT, "layers %zu and %zu overlap in keys", i - 1, i);
    }
    return LOCH_OK;
}

loch_lsn loch_ancestor_read_lsn(loch_lsn lsn, loch_lsn ancestor_lsn)
{
    return lsn < ancestor_lsn ? lsn : ancestor_lsn;
}

bool loch_cut_hides(uint32_t cut_block, uint32_t block)
{
    return cut_block <= block;
}
