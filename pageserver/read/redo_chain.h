/* A page's chain of WAL records applied: natively (loch/redo) as far as the records are known
 * there, from the first other record on by the redo process. */
#ifndef LOCH_PAGESERVER_READ_REDO_CHAIN_H
#define LOCH_PAGESERVER_READ_REDO_CHAIN_H

#include "store/timeline.h"
#include "store/version.h"

struct loch_metric;

/* How redo is used, and what counts its use; each metric may be NULL. */
struct loch_redo_use {
    bool native_off; /* every record goes to the process */
    struct loch_metric *native_records, *process_records;
    struct loch_metric *native_pages, *process_pages; /* process: at least one record by it */
    struct loch_metric *disputes; /* chains refused natively, for the process to decide */
    struct loch_metric *failures; /* chains that could not be applied */
};

/* Applies items[count - 1] .. items[0], all of them records of the page `key`, to `page`; when
 * `fresh` the page starts as zeros, whatever it holds. `page` is undefined on failure. A chain
 * that the native redo calls corrupt is decided by the process: native redo never makes a page
 * unreadable that the stock server can rebuild. LOCH_E_CORRUPT, LOCH_E_UNAVAILABLE, LOCH_E_LIMIT
 * as of the redo pool; the text names tenant and timeline too. Any thread. */
LOCH_STATUS loch_redo_chain_apply(const struct loch_timeline *timeline, const struct loch_key *key,
                                  const struct loch_version *items, size_t count, bool fresh,
                                  uint8_t page[static LOCH_PAGE_BYTES]);
/* The same without the redo process: also for a loop's thread. Any failure means only that
 * loch_redo_chain_apply has to be asked. */
LOCH_STATUS loch_redo_chain_at_once(const struct loch_timeline *timeline,
                                    const struct loch_key *key, const struct loch_version *items,
                                    size_t count, bool fresh, uint8_t page[static LOCH_PAGE_BYTES]);

#endif
