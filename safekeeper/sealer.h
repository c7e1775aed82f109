/* Where the files of one timeline get their keys and their place from, and how a failure travels
 * from a pool thread to the loop. */
#ifndef LOCH_SAFEKEEPER_SEALER_H
#define LOCH_SAFEKEEPER_SEALER_H

#include "loch/crypto/wrap.h"
#include "loch/format/place.h"
#include "loch/io/env.h"

#define SK_TEXT_BYTES 480u
#define SK_PATH_BYTES 1024u

/* Copied freely; what it points at lives as long as the daemon. */
struct sk_sealer {
    struct loch_env *env;
    /* The key to seal with now; any thread. */
    LOCH_STATUS(*wrap_key)
    (void *arg, const struct loch_id *tenant, const struct loch_id *timeline,
     struct loch_wrap_key *out);
    void *wrap_key_arg;
    struct loch_key_source keys;
    struct loch_id tenant, timeline, node;
    uint64_t incarnation; /* of the node: its restarts */
};

static inline struct loch_place sk_sealer_place(const struct sk_sealer *sealer, enum loch_kind kind,
                                                uint64_t generation)
{
    return (struct loch_place){.kind = (uint8_t)kind,
                               .tenant = sealer->tenant,
                               .timeline = sealer->timeline,
                               .node = sealer->node,
                               .generation = generation};
}

/* The last failure of a pool thread, to be raised again on the loop's thread. */
struct sk_failure {
    enum loch_code code;
    char text[SK_TEXT_BYTES];
};

/* On the thread where it failed (or not). */
void sk_failure_take(struct sk_failure *failure, loch_status st);
/* On the thread that handles it: LOCH_OK when there was none. */
LOCH_STATUS sk_failure_raise(const struct sk_failure *failure);

#endif
