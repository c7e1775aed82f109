/* Pages that reads have materialised, so that the next read of a hot page replays only what is
 * newer.
 *
 * An entry is the page as of the newest version it was made from. It serves as base for any read at
 * or above that LSN whose cut floor is not above it; and it is the answer to any read from that LSN
 * up to the highest at which it was found to be the whole answer. Bounded; any thread; never blocks
 * on I/O.
 */
#ifndef LOCH_PAGESERVER_READ_PAGE_CACHE_H
#define LOCH_PAGESERVER_READ_PAGE_CACHE_H

#include "loch/base/types.h"
#include "loch/pg/key.h"

struct loch_page_cache;

/* Room for budget_bytes / 8 KiB pages, at least 16. LOCH_E_NO_MEMORY. */
LOCH_STATUS loch_page_cache_create(size_t budget_bytes, struct loch_page_cache **out);
/* Takes NULL. */
void loch_page_cache_destroy(struct loch_page_cache *cache);
/* Copies the entry out if its version lies in floor..lsn. */
bool loch_page_cache_get(struct loch_page_cache *cache, const struct loch_id *tenant,
                         const struct loch_id *timeline, const struct loch_key *key, loch_lsn floor,
                         loch_lsn lsn, loch_lsn *version, uint8_t page[static LOCH_PAGE_BYTES]);
/* Copies the entry out if it is known to be the page at some LSN of since..lsn: *as_of is the
 * highest of these. */
bool loch_page_cache_answer(struct loch_page_cache *cache, const struct loch_id *tenant,
                            const struct loch_id *timeline, const struct loch_key *key,
                            loch_lsn since, loch_lsn lsn, loch_lsn *as_of,
                            uint8_t page[static LOCH_PAGE_BYTES]);
/* Keeps the page, which is the answer from `version` up to `upto`, unless a newer version of it is
 * there. `cheap`: another may only make room for it when it was put before, lately. */
void loch_page_cache_put(struct loch_page_cache *cache, const struct loch_id *tenant,
                         const struct loch_id *timeline, const struct loch_key *key,
                         loch_lsn version, loch_lsn upto, bool cheap,
                         const uint8_t page[static LOCH_PAGE_BYTES]);
/* The entry of that version, if it is there, is the answer up to `upto` too. */
void loch_page_cache_confirm(struct loch_page_cache *cache, const struct loch_id *tenant,
                             const struct loch_id *timeline, const struct loch_key *key,
                             loch_lsn version, loch_lsn upto);
/* Wipes every page of a timeline (dropped, or its key was revoked). */
void loch_page_cache_drop(struct loch_page_cache *cache, const struct loch_id *tenant,
                          const struct loch_id *timeline);

#endif
