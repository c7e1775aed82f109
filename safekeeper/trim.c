/* Holds: when WAL files may go. Invariants: everything below the trim point is in the archive and
 * persisted by the pageserver; the control file says so, durably, before a file is deleted; a
 * restart's anchor never lies below it. */
#include "archive.h"

#include "timeline.h"
#include "wal_limits.h"

#include "loch/base/check.h"
#include "loch/base/log.h"

/* The first LSN that has to stay. */
static loch_lsn wanted(const struct sk_timeline *tl)
{
    loch_lsn lsn = loch_min_u64(tl->archive.lsn, tl->remote_lsn);

    lsn = sk_store_trim_point(tl->store, loch_min_u64(lsn, tl->seen_commit));
    return loch_max_u64(lsn, tl->control.trim_lsn);
}

void sk_trim_tick(struct sk_timeline *tl)
{
    if (tl->archive.trim_token == 0 && wanted(tl) > tl->control.trim_lsn)
        loch_acceptor_touch(tl->acceptor); /* a control file is written, which takes it along */
}

void sk_trim_persist(struct sk_timeline *tl, uint64_t token, struct sk_control *control)
{
    if (tl->archive.trim_token == 0) {
        loch_lsn lsn =
            sk_store_trim_point(tl->store, loch_min_u64(wanted(tl), control->anchor_lsn));
        if (lsn > tl->control.trim_lsn) {
            tl->archive.trim_token = token;
            tl->control.trim_lsn = lsn;
        }
    }
    control->trim_lsn = tl->control.trim_lsn;
}

void sk_trim_persisted(struct sk_timeline *tl, uint64_t token)
{
    if (tl->archive.trim_token == 0 || token < tl->archive.trim_token)
        return;
    tl->archive.trim_token = 0;
    if (!loch_is_ok(sk_store_trim(tl->store, tl->control.trim_lsn, sk_limits_spare_bytes(tl))))
        loch_log_failure("cannot trim WAL");
}
