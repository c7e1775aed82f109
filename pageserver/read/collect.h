/* Gathering the versions of a key over a view's layers and its ancestors'. Private to read/. */
#ifndef LOCH_PAGESERVER_READ_COLLECT_H
#define LOCH_PAGESERVER_READ_COLLECT_H

#include "read/cuts.h"
#include "read/view.h"
#include "store/layer_set.h"
#include "store/timeline.h"
#include "store/version.h"

/* What the pages of a relation's fork have in common at an LSN. */
struct loch_fork_at {
    struct loch_rel rel;
    uint8_t fork;
    loch_lsn lsn; /* LOCH_LSN_NONE: nothing is known */
    bool exists;
    uint32_t blocks;
    loch_lsn db_floor;
    bool is_cut; /* at or below lsn; the newest: */
    struct loch_cut cut;
};

struct loch_view {
    struct loch_timeline *timeline; /* retained */
    struct loch_layer_set *set;
    loch_lsn last_record_lsn;
    uint64_t applied;             /* records, by the last reconstruction */
    uint64_t cuts;                /* looked at, ever */
    bool at_once;                 /* fail rather than wait for a disk or another process */
    bool natively;                /* fail rather than ask another process ... */
    bool wants_redo;              /* ... which then was why it failed */
    struct loch_passing *passing; /* not NULL: what is read is not wanted again soon */
    struct loch_fork_at fork;     /* the one asked about last: a view does not change */
    struct loch_view *parent;     /* owned; NULL for a root */
};

/* Appends versions with floor <= lsn <= `lsn`, newest first, through layers and ancestors, up to
 * and including the first base. *base: one was met. */
LOCH_STATUS loch_collect(struct loch_view *view, const struct loch_key *key, loch_lsn floor,
                         loch_lsn lsn, struct loch_versions *out, bool *base);

/* The newest whole value within floor..lsn; empty values count. The bytes are appended to *out (may
 * be NULL). For keys whose versions are all values. */
LOCH_STATUS loch_collect_value(struct loch_view *view, const struct loch_key *key, loch_lsn floor,
                               loch_lsn lsn, struct loch_buf *out, bool *found, loch_lsn *version);

/* Everything in (spc, db) older than *floor is hidden at `lsn`. A drop hides what was there before
 * it and nothing later: a database that has moved to another tablespace may put relations into the
 * one it left. */
LOCH_STATUS loch_database_floor(struct loch_view *view, uint32_t spc, uint32_t db, loch_lsn lsn,
                                loch_lsn *floor);
/* Versions of the block older than *floor are hidden by a cut of the relation's fork. */
LOCH_STATUS loch_page_floor(struct loch_view *view, const struct loch_rel *rel, uint8_t fork,
                            uint32_t block, loch_lsn lsn, loch_lsn db_floor, loch_lsn *floor);
/* Asks once for the pages that are read one after another; *out is the view's, until the next
 * call. */
LOCH_STATUS loch_fork_at(struct loch_view *view, const struct loch_rel *rel, uint8_t fork,
                         loch_lsn lsn, const struct loch_fork_at **out);
/* As loch_page_floor. */
LOCH_STATUS loch_fork_page_floor(struct loch_view *view, const struct loch_fork_at *at,
                                 uint32_t block, loch_lsn *floor);
/* The floor of any key: of its database, of its relation's or SLRU's cuts for a page. */
LOCH_STATUS loch_key_floor(struct loch_view *view, const struct loch_key *key, loch_lsn lsn,
                           loch_lsn *floor);
/* The same for an SLRU's page. */
LOCH_STATUS loch_slru_floor(struct loch_view *view, uint8_t slru, uint32_t page, loch_lsn lsn,
                            loch_lsn *floor);

/* An SLRU page at `lsn`; *found false when it was never made or was cut away. */
LOCH_STATUS loch_slru_page(struct loch_view *view, const struct loch_key *key, loch_lsn lsn,
                           uint8_t out[static LOCH_PAGE_BYTES], bool *found, loch_lsn *version);
/* Builds a page from items[0..count) (newest first), on top of what is in `page` if have_base. */
LOCH_STATUS loch_page_build(struct loch_view *view, const struct loch_key *key,
                            const struct loch_version *items, size_t count, bool have_base,
                            uint8_t page[static LOCH_PAGE_BYTES]);
/* A relation's page within its size. After a failure `out` holds anything. */
LOCH_STATUS loch_reconstruct(struct loch_view *view, const struct loch_key *key, loch_lsn floor,
                             loch_lsn lsn, uint8_t out[static LOCH_PAGE_BYTES], loch_lsn *version);

#endif
