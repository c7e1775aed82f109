/* The node's witness in the object store: notices that the whole data directory was put back from
 * an older copy, which no file in it can tell.
 *
 * The directory has a random name and counts its beats, in <dir>/daemon.witness and in the object
 * nodes/<node>/witness, in this order: a directory that is behind the object has forgotten what it
 * acknowledged. Its timelines are marked and never served; they can be thrown away and joined anew.
 * A beat follows at most an interval after anything became durable, and at a stop. */
#ifndef LOCH_SAFEKEEPER_WITNESS_H
#define LOCH_SAFEKEEPER_WITNESS_H

#include "loch/io/env.h"
#include "loch/objstore/objstore.h"

/* Stands in the directory of a timeline that was put back. */
#define SK_PUT_BACK_NAME "put-back"

/* ---- the record; pure ---- */

#define SK_WITNESS_BYTES 512u

struct sk_witness_record {
    struct loch_id directory, boot; /* both random: made with the directory, and at each start */
    uint64_t beat;                  /* from 1; 0: there is no record */
};

/* Returns the length. */
size_t sk_witness_format(const struct sk_witness_record *r, char out[static SK_WITNESS_BYTES]);
/* LOCH_E_CORRUPT names `what`: there is one form only, and a check over it. */
LOCH_STATUS sk_witness_parse(const char *what, struct loch_slice text,
                             struct sk_witness_record *out);

/* ---- the witness ---- */

struct sk_witness;

struct sk_witness_options {
    struct loch_env *env;
    struct loch_objstore *store; /* outlives the witness */
    const char *dir;             /* the data directory, likewise */
    struct loch_id node, boot;
    uint64_t interval_ms;
    /* Another process serves as this node: loop thread; this one must end. */
    void (*usurped)(void *arg, loch_status st);
    void *arg;
};

/* At start, before any timeline is opened; blocks. Compares, marks, and takes the first beat.
 * LOCH_E_CORRUPT: the file is damaged; LOCH_E_STALE: another process starts as this node. */
LOCH_STATUS sk_witness_enter(const struct sk_witness_options *options, struct sk_witness **out);
/* Loop thread, about once a second. `work` rises whenever something has become durable. */
void sk_witness_tick(struct sk_witness *w, uint64_t work);
bool sk_witness_idle(const struct sk_witness *w);
/* Milliseconds since the oldest work that the store does not witness; 0: none is. */
uint64_t sk_witness_lag_ms(const struct sk_witness *w);
/* At a stop, when nothing else runs: takes the last beat, if there was work; blocks. */
void sk_witness_leave(struct sk_witness *w, uint64_t work);
void sk_witness_destroy(struct sk_witness *w);

#endif
