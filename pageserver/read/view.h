/* Reads at an LSN, over an immutable snapshot of a timeline's layers. Any thread, one at a time;
 * blocking.
 *
 * A read at `lsn` sees the versions with LSN <= lsn. `lsn` must be one at which the timeline is
 * ready (loch_timeline_ready). Truncate, drop and create cut a relation's history: nothing older
 * than the newest cut at or below `lsn` that covers the block is ever used.
 */
#ifndef LOCH_PAGESERVER_READ_VIEW_H
#define LOCH_PAGESERVER_READ_VIEW_H

#include "loch/base/buf.h"
#include "loch/base/types.h"
#include "loch/pg/key.h"

struct loch_passing;
struct loch_timeline;
struct loch_view;

/* A view of everything the timeline holds now, its ancestors included. LOCH_E_NO_MEMORY. Any
 * thread. */
LOCH_STATUS loch_view_create(struct loch_timeline *t, struct loch_view **out);
/* Takes NULL. */
void loch_view_destroy(struct loch_view *view);
/* Whether the view holds all that a read at `lsn` sees, in the ancestors too: as
 * loch_timeline_ready, of the moment when it was made. */
bool loch_view_ready(const struct loch_view *view, loch_lsn lsn);
/* last_record_lsn when the view was made. */
loch_lsn loch_view_last_record_lsn(const struct loch_view *view);

/* What is read from now on goes by, as a scan's pages do: the caches keep what they have rather
 * than that, and `passing` (borrowed until the next call) what the next page may want. NULL, as at
 * first: it stays. */
void loch_view_set_passing(struct loch_view *view, struct loch_passing *passing);

/* Size of the timeline's own layer files, without its ancestors'. */
uint64_t loch_view_layer_bytes(const struct loch_view *view);
/* LOCH_E_INVALID, naming where history begins, when reads at `lsn` would not give what was there:
 * ask before answering anybody at an LSN that is not the newest. */
LOCH_STATUS loch_view_readable(const struct loch_view *view, loch_lsn lsn);

/* The newest value of a key at `lsn`; *found false when there is none or it is absent (dropped).
 * Replaces the contents of *out. Pages of relations and SLRUs are reconstructed. version (may be
 * NULL): the LSN of the newest version used. */
LOCH_STATUS loch_view_get(struct loch_view *view, const struct loch_key *key, loch_lsn lsn,
                          struct loch_buf *out, bool *found, loch_lsn *version);

/* As loch_view_page, but without waiting for a disk or a redo process, so also for a loop's thread.
 * False when that cannot be had, whatever the reason: ask loch_view_page on a pool thread. */
bool loch_view_page_at_once(struct loch_view *view, const struct loch_rel *rel, uint8_t fork,
                            uint32_t block, loch_lsn lsn, uint8_t out[static LOCH_PAGE_BYTES]);

/* As loch_view_page, but without a redo process. *wants_redo true: that was why it failed; ask
 * loch_view_page. */
LOCH_STATUS loch_view_page_natively(struct loch_view *view, const struct loch_rel *rel,
                                    uint8_t fork, uint32_t block, loch_lsn lsn,
                                    uint8_t out[static LOCH_PAGE_BYTES], bool *wants_redo);

/* exists false: no such relation fork at lsn (blocks is 0 then). */
LOCH_STATUS loch_view_rel_size(struct loch_view *view, const struct loch_rel *rel, uint8_t fork,
                               loch_lsn lsn, bool *exists, uint32_t *blocks);

/* The page as redo leaves it; zeros beyond the relation's end and in gaps. After a failure `out`
 * holds anything. */
LOCH_STATUS loch_view_page(struct loch_view *view, const struct loch_rel *rel, uint8_t fork,
                           uint32_t block, loch_lsn lsn, uint8_t out[static LOCH_PAGE_BYTES]);

/* Calls fn, ascending, for each of the fork's first `blocks` blocks that may be other than zeros at
 * `lsn`. Of a large fork: for those that anything was written of, so that a size which is wrong
 * costs little. A failure of fn ends it and is returned. */
typedef LOCH_STATUS (*loch_view_block_fn)(void *arg, uint32_t block);
LOCH_STATUS loch_view_blocks(struct loch_view *view, const struct loch_rel *rel, uint8_t fork,
                             uint32_t blocks, loch_lsn lsn, loch_view_block_fn fn, void *arg);

/* Calls fn for each key in [first, end) that has a value at `lsn`, in key order, with what
 * loch_view_get would return. Relation pages are not scannable (kind LOCH_KEY_PAGE:
 * LOCH_E_INVALID): scan LOCH_KEY_REL_SIZE and read the blocks. A failure of fn ends the scan and is
 * returned. */
typedef LOCH_STATUS (*loch_view_scan_fn)(void *arg, const struct loch_key *key,
                                         struct loch_slice value, loch_lsn version);
LOCH_STATUS loch_view_scan(struct loch_view *view, const struct loch_key *first,
                           const struct loch_key *end, loch_lsn lsn, loch_view_scan_fn fn,
                           void *arg);

#endif
