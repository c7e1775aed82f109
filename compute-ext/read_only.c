/* Holds: a compute that only reads. default_transaction_read_only is a default that any session can
 * set otherwise; here each statement finds its transaction read-only, whatever was set before it,
 * and PostgreSQL itself refuses what writes. */
#include "read_only.h"

#include "postgres.h"

#include "settings.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "tcop/utility.h"

static ExecutorStart_hook_type previous_start;
static ProcessUtility_hook_type previous_utility;

static void on_executor_start(QueryDesc *query, int flags)
{
    XactReadOnly = true;
    if (previous_start != NULL)
        previous_start(query, flags);
    else
        standard_ExecutorStart(query, flags);
}

static void on_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
                       ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *env,
                       DestReceiver *dest, QueryCompletion *qc)
{
    XactReadOnly = true;
    if (previous_utility != NULL)
        previous_utility(pstmt, query, read_only_tree, context, params, env, dest, qc);
    else
        standard_ProcessUtility(pstmt, query, read_only_tree, context, params, env, dest, qc);
}

void loch_read_only_register(void)
{
    if (!loch_settings.read_only)
        return;
    previous_start = ExecutorStart_hook;
    ExecutorStart_hook = on_executor_start;
    previous_utility = ProcessUtility_hook;
    ProcessUtility_hook = on_utility;
}
