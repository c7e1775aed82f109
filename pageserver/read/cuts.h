/* The cuts of relations' forks (values of LOCH_KEY_REL_CUT), and a short way through many of them.
 *
 * Of the cuts at or below an LSN those count that no newer one makes superfluous: each older one
 * that counts begins at a smaller block. A cut knows two of them, the next one and one that lies
 * further down, so that the one that hides a block is found in a number of steps that grows with
 * the logarithm of how many count; how many were ever made does not matter. A merge keeps whatever
 * counts at an LSN that can be read (layers/retain.h), so these stay where they are known to be.
 *
 * docs/format/keys.md has the value's bytes. Cuts of 4 bytes, from before 2026-11-30 or of all
 * blocks, know no others: from them on each older one is looked at.
 */
#ifndef LOCH_PAGESERVER_READ_CUTS_H
#define LOCH_PAGESERVER_READ_CUTS_H

#include "loch/base/buf.h"
#include "loch/base/types.h"
#include "loch/pg/key.h"

#include <stdbool.h>
#include <stdint.h>

struct loch_view;

#define LOCH_CUT_BYTES       36u
#define LOCH_CUT_SHORT_BYTES 4u
#define LOCH_CUT_AT_ONCE_MAX 64u /* cuts that a read looks at which must not wait */

/* A cut, as a newer one knows it. */
struct loch_cut_step {
    loch_lsn lsn;   /* LOCH_LSN_NONE: there is none */
    uint32_t first; /* what older versions hold from this block on is hidden */
    uint32_t depth; /* so many older ones count beneath it, as far as is known */
};

struct loch_cut {
    loch_lsn lsn;
    uint32_t first;
    bool linked; /* next and leap say what is older */
    struct loch_cut_step next, leap;
};

/* The value of a cut, LOCH_CUT_BYTES or LOCH_CUT_SHORT_BYTES of it; returns how many. */
size_t loch_cut_encode(const struct loch_cut *cut, uint8_t out[static LOCH_CUT_BYTES]);
/* LOCH_E_CORRUPT for bytes that are no cut at `lsn`. */
LOCH_STATUS loch_cut_decode(struct loch_slice value, loch_lsn lsn, struct loch_cut *out);

/* The newest cut of the fork (key: its LOCH_KEY_REL_CUT) within low..lsn. */
LOCH_STATUS loch_cut_newest(struct loch_view *view, const struct loch_key *key, loch_lsn low,
                            loch_lsn lsn, struct loch_cut *out, bool *found);
/* The newest one from `from` on down to `low` that hides the block. LOCH_E_UNAVAILABLE when the
 * view must not wait and the way is long. */
LOCH_STATUS loch_cut_find(struct loch_view *view, const struct loch_key *key,
                          const struct loch_cut *from, loch_lsn low, uint32_t block,
                          struct loch_cut_step *out, bool *found);
/* The cut to be put at `lsn` that hides all from block `first` on; the view shows all up to there.
 * After another one at the same LSN it hides what that did too. */
LOCH_STATUS loch_cut_make(struct loch_view *view, const struct loch_key *key, loch_lsn lsn,
                          uint32_t first, struct loch_cut *out);

#endif
