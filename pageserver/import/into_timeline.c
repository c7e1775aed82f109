/* The import's values, put into a timeline of the store at L. */
#include "import/import.h"

#include "store/timeline.h"

#include "loch/base/log.h"

struct into_timeline {
    struct loch_timeline *timeline;
    struct loch_buf control; /* encoded, as of L */
    const struct loch_import_stats *stats;
};

/* Layers are written on the way, so that memory holds one at a time; the timeline begins to exist
 * with the manifest of its tenant only. */
static LOCH_STATUS put_value(void *arg, const struct loch_key *key, struct loch_slice value)
{
    struct into_timeline *into = arg;

    LOCH_TRY(loch_timeline_put_value(into->timeline, key, loch_timeline_part_lsn(into->timeline),
                                     value));
    if (!loch_timeline_wants_freeze(into->timeline))
        return LOCH_OK;
    LOCH_TRY(loch_timeline_part_end(into->timeline, loch_buf_slice(&into->control)));
    LOCH_INFO("importing: %" PRIu64 " relations, %" PRIu64 " pages so far", into->stats->relations,
              into->stats->pages);
    return LOCH_OK;
}

LOCH_STATUS loch_import_into_timeline(const char *data_dir, const struct loch_import_facts *facts,
                                      struct loch_timeline *timeline,
                                      struct loch_import_stats *stats)
{
    struct into_timeline into = {.timeline = timeline, .stats = stats};
    loch_status st = loch_control_encode(&facts->control, &into.control);

    if (loch_is_ok(st))
        st = loch_timeline_parts_begin(timeline);
    if (loch_is_ok(st))
        st = loch_import_put(data_dir, facts, put_value, &into, stats);
    loch_buf_fini(&into.control);
    return st;
}
