/* Holds: the refusal of subscriptions with two_phase.
 * Source: replication/logical/worker.c (apply_handle_commit_prepared, InitializeApplyWorker; the
 * subscription is known before the first transaction ends), PostgreSQL 15. */
#include "two_phase.h"

#include "settings.h"

#include "access/xact.h"
#include "catalog/pg_subscription.h"
#include "commands/defrem.h"
#include "replication/logicalworker.h"
#include "replication/worker_internal.h"

void loch_two_phase_check(const CreateSubscriptionStmt *stmt)
{
    bool two_phase = false;
    bool connect = true;
    ListCell *cell;

    if (!loch_fix_on(two_phase))
        return;
    foreach (cell, stmt->options) {
        DefElem *option = lfirst_node(DefElem, cell);

        if (strcmp(option->defname, "two_phase") == 0)
            two_phase = defGetBoolean(option);
        else if (strcmp(option->defname, "connect") == 0)
            connect = defGetBoolean(option);
    }
    if (two_phase && connect)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("subscriptions with two_phase are not supported on Loch"),
                        errdetail("A cancelled worker would tell the publisher that a COMMIT "
                                  "PREPARED is safe which no quorum has yet."),
                        errhint("Without two_phase, what is prepared on the publisher comes when "
                                "it is committed there.")));
}

static void refuse_worker(void)
{
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("subscription \"%s\" has two_phase, which is not supported on Loch",
                           MySubscription->name),
                    errhint("Drop it, roll back what it has prepared here (pg_prepared_xacts), "
                            "empty its tables, and create it anew without two_phase.")));
}

static void refuse_prepare(void)
{
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("the publisher sends prepared transactions, which a subscription on "
                           "Loch does not take"),
                    errhint("Give the subscription a replication slot without two_phase.")));
}

static void on_transaction(XactEvent event, void *arg)
{
    (void)arg;
    if ((event != XACT_EVENT_PRE_COMMIT && event != XACT_EVENT_PRE_PREPARE) || !IsLogicalWorker() ||
        !loch_fix_on(two_phase))
        return;
    if (MySubscription != NULL &&
        MySubscription->twophasestate != LOGICALREP_TWOPHASE_STATE_DISABLED)
        refuse_worker();
    if (event == XACT_EVENT_PRE_PREPARE)
        refuse_prepare();
}

void loch_two_phase_register(void)
{
    RegisterXactCallback(on_transaction, NULL);
}
