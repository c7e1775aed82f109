/* The membership of a timeline as its authority keeps it: one small sealed object in the object
 * store, changed by conditional puts only, so that there is one configuration for each generation.
 *
 * tenants/TENANT/timelines/TIMELINE/members; docs/format/members.md.
 */
#ifndef LOCH_SAFEKEEPER_MEMBERS_H
#define LOCH_SAFEKEEPER_MEMBERS_H

#include "timeline.h"

#include "loch/consensus/membership.h"

enum sk_members_step {
    SK_MEMBERS_READ = 1, /* as it is; the console's READ also asks peers how they stand */
    SK_MEMBERS_FORM,     /* the first one, unless there is one */
    SK_MEMBERS_CHANGE,   /* from a stable to a joint one */
    SK_MEMBERS_FINISH,   /* from a joint one to its new set */
    SK_MEMBERS_ABORT     /* from a joint one to its old set */
};

struct sk_members_order {
    enum sk_members_step step;
    uint64_t from; /* CHANGE, FINISH, ABORT: the generation it goes from */
    struct loch_member to[LOCH_MEMBERS_MAX]; /* FORM, CHANGE */
    uint32_t to_count;
};

/* The codec; kind LOCH_KIND_MEMBERS. Appends the sealed object. LOCH_E_INVALID for what
 * sk_members_open would not take. */
LOCH_STATUS sk_members_seal(const struct loch_membership *m, const struct sk_sealer *sealer,
                            struct loch_buf *out);
/* LOCH_E_CORRUPT, also for an object whose content names another generation than its place. */
LOCH_STATUS sk_members_open(struct loch_slice sealed, const struct sk_sealer *sealer,
                            struct loch_membership *out);
/* Performs the step on the object; *out is the configuration that holds then. LOCH_E_STALE when it
 * is of another generation than `from`. Blocks: pool threads. */
LOCH_STATUS sk_members_step(struct loch_objstore *store, const struct sk_sealer *sealer,
                            const struct sk_members_order *order, struct loch_membership *out);

/* Reads the configuration on a pool thread and gives it to the acceptor. Loop thread; a timeline
 * that is not ACTIVE is left alone. */
void sk_members_refresh(struct sk_timeline *tl);
/* The same for a step, for the console: answers `request` with the configuration. */
LOCH_STATUS sk_members_order(struct sk_timeline *tl, const struct sk_members_order *order,
                             struct loch_console_request *request);

#endif
