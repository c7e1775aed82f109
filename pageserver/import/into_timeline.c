/* The import's values, put into a timeline of the store at L. */
#include "import/import.h"

#include "store/timeline.h"

struct into_timeline {
    struct loch_timeline *timeline;
    loch_lsn lsn;
};

static LOCH_STATUS put_value(void *arg, const struct loch_key *key, struct loch_slice value)
{
    struct into_timeline *into = arg;

    return loch_timeline_put_value(into->timeline, key, into->lsn, value);
}

LOCH_STATUS loch_import_into_timeline(const char *data_dir, const struct loch_import_facts *facts,
                                      struct loch_timeline *timeline,
                                      struct loch_import_stats *stats)
{
    struct into_timeline into = {timeline, facts->start_lsn};

    return loch_import_put(data_dir, facts, put_value, &into, stats);
}
