/* The base backup: a data directory at exactly one LSN as a tar stream, with a synthetic shutdown
 * checkpoint there, so that a stock server starts on it with nothing to replay.
 *
 * Normal mode, for a compute with the extension: everything small and all of global/ (the catalogs
 * that walsender authentication reads must never need the pageserver); other relations' files are
 * absent, the extension fetches their pages. Full mode: every relation; a stock server starts on it
 * alone. In both, unlogged relations get their init fork and a copy of it as main. Blocking: not on
 * the loop.
 */
#ifndef LOCH_PAGESERVER_BASEBACKUP_H
#define LOCH_PAGESERVER_BASEBACKUP_H

#include "loch/base/buf.h"
#include "loch/base/types.h"
#include "loch/pg/control.h"
#include "loch/pg/key.h"
#include "read/view.h"

/* Where values at the LSN come from; the functions mean what read/view.h says of theirs. */
struct loch_basebackup_source {
    LOCH_STATUS(*page)
    (void *arg, const struct loch_rel *rel, uint8_t fork, uint32_t block, loch_lsn lsn,
     uint8_t out[static LOCH_PAGE_BYTES]);
    LOCH_STATUS(*scan)
    (void *arg, const struct loch_key *first, const struct loch_key *end, loch_lsn lsn,
     loch_view_scan_fn fn, void *fn_arg);
    void *arg;
};

/* The source over a view. */
struct loch_basebackup_source loch_basebackup_view_source(struct loch_view *view);

struct loch_basebackup_request {
    loch_lsn lsn;                       /* a record boundary */
    loch_lsn prev_lsn;                  /* exact start of the record that ends there */
    const struct loch_control *control; /* as of lsn: control->last_end == lsn */
    int64_t time;                       /* seconds since 1970, for the checkpoint */
    bool full;
    /* Prepared transactions whose state is of this LSN or below are left out, and so rolled back
     * (loch_basebackup_forgotten_until). LOCH_LSN_NONE keeps all. */
    loch_lsn forget_prepared_until;
};

/* The LSN of LOCH_TWOPHASE_FORGET_KEY as of `lsn`; LOCH_LSN_NONE: nothing is forgotten. */
LOCH_STATUS loch_basebackup_forgotten_until(struct loch_view *view, loch_lsn lsn, loch_lsn *out);

/* Takes the next bytes of the tar stream (borrowed, at most 128 KiB); a failure ends the backup. */
typedef LOCH_STATUS (*loch_basebackup_write_fn)(void *arg, struct loch_slice bytes);

/* *checkpoint_end: end of the synthetic checkpoint, the first LSN the server writes at.
 * LOCH_E_INVALID when the control state is not that of lsn. Failures of source and write are
 * returned; the stream is then incomplete (it lacks the end marker). */
LOCH_STATUS loch_basebackup_send(const struct loch_basebackup_source *source,
                                 const struct loch_basebackup_request *request,
                                 loch_basebackup_write_fn write, void *arg,
                                 loch_lsn *checkpoint_end);

#endif
