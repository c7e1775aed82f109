/* Holds: the guard around every call site of SyncRepWaitForLSN.
 * Source: access/transam/{xact,twophase}.c, replication/syncrep.c, PostgreSQL 15: the call sites
 * are RecordTransactionCommit and EndPrepare (between PRE_COMMIT or PRE_PREPARE and COMMIT or
 * PREPARE of the transaction callbacks), and the two halves of FinishPreparedTransaction (in the
 * statement). */
#include "commit_guard.h"

#include "postgres.h"

#include "settings.h"
#include "shared.h"
#include "stop_state.h"
#include "throttle.h"

#include "access/xact.h"
#include "catalog/storage.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "replication/syncrep.h"
#include "storage/latch.h"

#include <signal.h>
#include <time.h>

static bool guarding;
static bool
    undecided; /* guarding since PRE_COMMIT: until the commit is under way it may be given up */
static sigset_t mask_before;
/* Before the guard of a transaction closed: they are for what comes after. */
static bool cancel_came, die_came;
static bool level_raised;
static int level_before;
static bool demanded; /* this transaction is durable, whatever its level */

/* What is committed synchronously at any level: what unlinks files cannot be undone, and what a
 * subscription has applied its publisher forgets, because this server's flush means durable.
 * Source: access/transam/xact.c (RecordTransactionCommit), replication/logical/worker.c
 * (get_flush_position), PostgreSQL 15. */
static bool is_durable_at_any_level(void)
{
    RelFileNode *dropped;
    int count;

    if (demanded || IsLogicalWorker())
        return true;
    count = smgrGetPendingDeletes(true, &dropped);
    if (count > 0)
        pfree(dropped);
    return count > 0;
}

/* `off` stays what PostgreSQL documents: acknowledged before it is safe. Every other level means
 * the quorum, and so does `off` where it is `durable`, or would be in a stock server; assign_ also
 * sets the mode that the wait uses. */
static void raise_sync_level(bool durable)
{
    if (synchronous_commit == SYNCHRONOUS_COMMIT_REMOTE_FLUSH || !loch_fix_on(sync_level))
        return;
    if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF &&
        !(loch_fix_on(sync_always) && (durable || is_durable_at_any_level())))
        return;
    if (!level_raised)
        level_before = synchronous_commit;
    level_raised = true;
    synchronous_commit = SYNCHRONOUS_COMMIT_REMOTE_FLUSH;
    assign_synchronous_commit(synchronous_commit, NULL);
}

/* A subscription's worker stays raised: whatever it commits is durable. */
static void restore_sync_level(void)
{
    if (!level_raised || IsLogicalWorker())
        return;
    level_raised = false;
    synchronous_commit = level_before;
    assign_synchronous_commit(synchronous_commit, NULL);
}

static void hold_signals(void)
{
    sigset_t held;

    sigemptyset(&held);
    sigaddset(&held, SIGINT);
    sigaddset(&held, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &held, &mask_before);
    guarding = true;
}

void loch_commit_guard_begin(void)
{
    raise_sync_level(true);
    if (guarding)
        return;
    hold_signals();
    loch_count(commits_guarded);
    /* What came before takes effect now, while nothing is decided yet. */
    CHECK_FOR_INTERRUPTS();
    if (QueryCancelPending || ProcDiePending)
        ereport(ERROR,
                (errcode(ERRCODE_QUERY_CANCELED), errmsg("canceling statement before its commit")));
}

void loch_commit_guard_demand(void)
{
    demanded = true;
}

/* Others' callbacks may have committed elsewhere by now (postgres_fdw): no cancel ends this
 * transaction any more. One that came is kept from the wait for the quorum, which it would end, and
 * so is a termination: a worker that is slowed just before this sleeps long enough to meet one. */
static void guard_transaction(bool durable)
{
    raise_sync_level(durable);
    if (guarding)
        return;
    hold_signals();
    loch_count(commits_guarded);
    cancel_came = QueryCancelPending;
    die_came = ProcDiePending;
    QueryCancelPending = false;
    ProcDiePending = false;
}

static void release_signals(void)
{
    guarding = false;
    (void)sigprocmask(SIG_SETMASK, &mask_before, NULL);
}

static void give_back_termination(void)
{
    if (!die_came)
        return;
    die_came = false;
    ProcDiePending = InterruptPending = true;
    SetLatch(MyLatch); /* the wait for the quorum has used up what the signal set */
}

/* A cancel that came meanwhile is for what comes next: the server forgets it where that is the
 * client's next command, and it ends a procedure that has committed inside. */
static void end_of_transaction(void)
{
    restore_sync_level();
    if (guarding)
        release_signals();
    if (cancel_came)
        QueryCancelPending = InterruptPending = true;
    cancel_came = false;
    give_back_termination();
}

void loch_commit_guard_end(void)
{
    restore_sync_level();
    if (guarding) {
        static const struct timespec at_once;
        sigset_t late_cancel;

        sigemptyset(&late_cancel);
        sigaddset(&late_cancel, SIGINT);
        while (sigtimedwait(&late_cancel, NULL, &at_once) == SIGINT)
            ;
        release_signals();
    }
}

bool loch_commit_guard_open(void)
{
    sigset_t waiting;

    if (!guarding || !undecided || !IsTransactionState() || sigpending(&waiting) != 0 ||
        (sigismember(&waiting, SIGINT) != 1 && sigismember(&waiting, SIGTERM) != 1 && !die_came))
        return false;
    release_signals(); /* what waits is handled now */
    give_back_termination();
    return true;
}

void loch_commit_guard_close(void)
{
    hold_signals();
}

bool loch_commit_guard_decided(void)
{
    return guarding && !undecided;
}

static void on_transaction(XactEvent event, void *arg)
{
    (void)arg;
    switch (event) {
    case XACT_EVENT_PRE_COMMIT:
    case XACT_EVENT_PRE_PREPARE:
        loch_stop_state_hold();
        if (MyBackendType != B_BACKEND) /* a client's has slept in its statement */
            loch_throttle_maybe_sleep();
        if (loch_fix_on(commit)) {
            undecided = !guarding; /* else a prepared one was decided in the statement */
            guard_transaction(event == XACT_EVENT_PRE_PREPARE);
        }
        break;
    case XACT_EVENT_COMMIT:
    case XACT_EVENT_ABORT:
    case XACT_EVENT_PREPARE:
        undecided = false;
        demanded = false;
        end_of_transaction();
        loch_throttle_forget();
        break;
    case XACT_EVENT_PARALLEL_PRE_COMMIT: /* parallel workers have no transaction id of their own */
    case XACT_EVENT_PARALLEL_COMMIT:
    case XACT_EVENT_PARALLEL_ABORT:
        break;
    }
}

void loch_commit_guard_register(void)
{
    RegisterXactCallback(on_transaction, NULL);
}
