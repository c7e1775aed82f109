/* Dropping timelines for good. Loop thread only. */
#ifndef LOCH_SAFEKEEPER_DROP_H
#define LOCH_SAFEKEEPER_DROP_H

#include "timeline.h"

#define SK_DROPPED_NAME "dropped" /* marks a directory whose deletion has begun */

/* What stands in a timeline's directory. A creation that was cut short leaves *.tmp alone. */
struct sk_dir_content {
    bool any, dropped;
};
LOCH_STATUS sk_dir_look(struct loch_env *env, const char *dir, struct sk_dir_content *out);

/* timeline NULL: all of the tenant's. What is not there is dropped already. Answers the request
 * later when LOCH_OK. After a failure what is left stays DROPPING, and the same again goes on. */
LOCH_STATUS sk_drop(struct sk_daemon *daemon, const struct loch_id *tenant,
                    const struct loch_id *timeline, struct loch_console_request *request);
/* Deletes every file of a timeline's directory, the mark last. Start-up and pool threads; also
 * before a timeline is made there. */
LOCH_STATUS sk_drop_files(struct loch_env *env, const char *dir);
/* Whether its directory holds a timeline. What a drop left behind is deleted first; a directory
 * without any file, as a creation that was cut short leaves it, holds none. Start-up and pool
 * threads. */
LOCH_STATUS sk_timeline_on_disk(const struct sk_timeline *tl, bool *there);

#endif
