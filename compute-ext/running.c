/* Holds: the question, for processes inside and outside of the ProcArray. Source:
 * storage/ipc/procarray.c (TransactionIdIsInProgress, ComputeXidHorizons), storage/lmgr/proc.c
 * (InitAuxiliaryProcess), access/transam/transam.c, PostgreSQL 15. */
#include "running.h"

#include "access/clog.h"
#include "miscadmin.h"
#include "storage/procarray.h"

/* The checkpointer, the background writer and the throttle are not in the ProcArray and have no
 * snapshot. There TransactionIdIsInProgress answers wrongly: it skips "its own" entry, which is the
 * first session's (pgxactoff is 0), takes an xid of the upper half for old (RecentXmin is 3 for
 * ever), and looks for parents in pg_subtrans where it has been truncated (TransactionXmin, too).
 * pg_xact alone tells enough: a transaction whose end is there reads no page any more, even if it
 * still counts as running for others' snapshots; a subtransaction's end is there as soon as it
 * aborts, and otherwise with its top's. */
static bool is_running_from_outside(TransactionId xid)
{
    XLogRecPtr lsn;
    XidStatus status;

    if (TransactionIdPrecedes(xid, GetOldestTransactionIdConsideredRunning()))
        return false; /* pg_xact need not reach back that far */
    if (!TransactionIdPrecedes(xid, ReadNextTransactionId()))
        return true; /* no xid at all: it reaches no further */
    status = TransactionIdGetStatus(xid, &lsn);
    return status != TRANSACTION_STATUS_COMMITTED && status != TRANSACTION_STATUS_ABORTED;
}

bool loch_xid_is_running(TransactionId xid)
{
    /* InitPostgres sets it right after it has put the process into the ProcArray. */
    if (MyBackendId == InvalidBackendId)
        return is_running_from_outside(xid);
    return TransactionIdIsInProgress(xid);
}
