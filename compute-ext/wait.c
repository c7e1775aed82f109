/* Holds: the one wait of the extension.
 *
 * CHECK_FOR_INTERRUPTS does nothing while an LWLock is held, and about one read in a hundred
 * happens under one; there the ERROR is raised here, which is safe outside critical sections
 * because aborting releases the locks. */
#include "wait.h"

#include "commit_guard.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"

#include <poll.h>

void (*loch_wait_idle)(void);

static bool latch_consumed;
static bool under_way;

bool loch_wait_under_way(void)
{
    return under_way;
}

static void check_interrupts(void)
{
    bool opened;

    if (CritSectionCount > 0)
        return;
    opened = loch_commit_guard_open();
    under_way = true;
    PG_TRY();
    {
        CHECK_FOR_INTERRUPTS();
    }
    PG_FINALLY();
    {
        under_way = false;
    }
    PG_END_TRY();
    if (InterruptHoldoffCount > 0 && (QueryCancelPending || ProcDiePending) && IsUnderPostmaster &&
        IsTransactionState() && !RecoveryInProgress())
        ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED),
                        errmsg("canceling statement while waiting for the pageserver")));
    if (opened) /* it was nothing that ends the transaction */
        loch_commit_guard_close();
}

void loch_wait_socket(int fd, bool for_write, long timeout_ms)
{
    int events = WL_LATCH_SET | WL_TIMEOUT;
    int got;

    check_interrupts();
    if (MyLatch == NULL) {
        struct pollfd p = {fd, for_write ? POLLOUT : POLLIN, 0};

        (void)poll(&p, 1, (int)timeout_ms);
        return;
    }
    if (IsUnderPostmaster)
        events |= WL_EXIT_ON_PM_DEATH;
    if (fd >= 0)
        events |= for_write ? WL_SOCKET_WRITEABLE : WL_SOCKET_READABLE;
    got = WaitLatchOrSocket(MyLatch, events, fd < 0 ? PGINVALID_SOCKET : fd, timeout_ms,
                            PG_WAIT_EXTENSION);
    if ((got & WL_LATCH_SET) != 0) {
        ResetLatch(MyLatch);
        latch_consumed = true;
    }
    check_interrupts();
    if (loch_wait_idle != NULL)
        loch_wait_idle();
}

void loch_wait_done(void)
{
    if (latch_consumed && MyLatch != NULL) {
        latch_consumed = false;
        SetLatch(MyLatch);
    }
}
