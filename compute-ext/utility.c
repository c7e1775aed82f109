/* Holds: the ProcessUtility hook.
 *
 * CREATE DATABASE is made to log (STRATEGY wal_log): a file copy would copy holes. What is left
 * that copies files, ALTER DATABASE ... SET TABLESPACE, has a limit (move_limit.c). After CREATE,
 * ALTER and DROP DATABASE every read must be newer than the statement, because files changed, and
 * file numbers became free, behind the storage manager's back; and already after each commit within
 * one, as a move lets go of the database before it ends. */
#include "utility.h"

#include "postgres.h"

#include "cid_overlay.h"
#include "commit_guard.h"
#include "config_files.h"
#include "known_absent.h"
#include "last_lsn.h"
#include "lease.h"
#include "move_limit.h"
#include "settings.h"
#include "shared.h"
#include "throttle.h"
#include "two_phase.h"
#include "unmade.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "nodes/parsenodes.h"
#include "storage/ipc.h"
#include "tcop/utility.h"

#include <unistd.h>

static ProcessUtility_hook_type previous_utility;
static bool database_changing; /* in such a statement */

/* In-place ones have no location; a relative or missing one the server refuses in its own words. */
static void refuse_tablespace(const CreateTableSpaceStmt *stmt)
{
    if (stmt->location != NULL && is_absolute_path(stmt->location) &&
        access(stmt->location, F_OK) == 0)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("tablespaces with a location are not supported on Loch"),
                        errdetail("Data lies in the storage service, not in a directory of the "
                                  "compute.")));
}

/* A copy of the statement that says wal_log, the default, where it said file_copy. What is no
 * strategy, or one too many, the server refuses. */
static PlannedStmt *force_wal_log(const PlannedStmt *pstmt)
{
    PlannedStmt *copy = (PlannedStmt *)copyObjectImpl(pstmt);
    CreatedbStmt *stmt = castNode(CreatedbStmt, copy->utilityStmt);
    ListCell *cell;

    foreach (cell, stmt->options) {
        DefElem *option = lfirst_node(DefElem, cell);

        if (strcmp(option->defname, "strategy") == 0 && option->arg != NULL &&
            pg_strcasecmp(defGetString(option), "file_copy") == 0)
            option->arg = (Node *)makeString(pstrdup("wal_log"));
    }
    return copy;
}

static bool changes_databases(NodeTag tag)
{
    return tag == T_CreatedbStmt || tag == T_AlterDatabaseStmt || tag == T_DropdbStmt;
}

/* Committed synchronously at any level: what they do to directories is not undone.
 * Source: commands/{dbcommands,tablespace}.c, PostgreSQL 15, ForceSyncCommit. */
static bool forces_sync(NodeTag tag)
{
    return changes_databases(tag) || tag == T_CreateTableSpaceStmt || tag == T_DropTableSpaceStmt;
}

/* Waits for the quorum inside the statement, not at the end of a transaction. */
static bool finishes_prepared(const Node *stmt)
{
    const TransactionStmt *t;

    if (!IsA(stmt, TransactionStmt))
        return false;
    t = (const TransactionStmt *)stmt;
    return t->kind == TRANS_STMT_COMMIT_PREPARED || t->kind == TRANS_STMT_ROLLBACK_PREPARED;
}

static Oid database_dropped_by(const Node *stmt)
{
    return IsA(stmt, DropdbStmt) ? get_database_oid(((const DropdbStmt *)stmt)->dbname, true)
                                 : InvalidOid;
}

/* Forgets what is known about databases whose files changed unseen. */
static void after_database_change(Oid dropped)
{
    RelFileNode all = {InvalidOid, dropped, InvalidOid};

    if (!loch_fix_on(dropdb))
        return;
    loch_last_lsn_raise_floor(loch_insert_lsn());
    loch_absent_clear();
    if (dropped != InvalidOid)
        loch_overlay_forget_range(all, 0);
}

static void run_next(PlannedStmt *pstmt, const char *query, bool read_only_tree,
                     ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *env,
                     DestReceiver *dest, QueryCompletion *qc)
{
    if (previous_utility != NULL)
        previous_utility(pstmt, query, read_only_tree, context, params, env, dest, qc);
    else
        standard_ProcessUtility(pstmt, query, read_only_tree, context, params, env, dest, qc);
}

/* The statement under what it needs around it. */
static void run_guarded(PlannedStmt *pstmt, const char *query, bool read_only_tree,
                        ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *env,
                        DestReceiver *dest, QueryCompletion *qc)
{
    PG_TRY();
    {
        if (finishes_prepared(pstmt->utilityStmt) && loch_fix_on(commit_prepared))
            loch_commit_guard_begin();
        run_next(pstmt, query, read_only_tree, context, params, env, dest, qc);
    }
    PG_CATCH();
    {
        loch_commit_guard_end();
        PG_RE_THROW();
    }
    PG_END_TRY();
    loch_commit_guard_end();
}

static void run_database_change(PlannedStmt *pstmt, const char *query, bool read_only_tree,
                                ProcessUtilityContext context, ParamListInfo params,
                                QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
    Oid dropped = database_dropped_by(pstmt->utilityStmt);

    database_changing = true;
    PG_TRY();
    {
        run_next(pstmt, query, read_only_tree, context, params, env, dest, qc);
    }
    PG_FINALLY();
    {
        database_changing = false;
        after_database_change(dropped);
    }
    PG_END_TRY();
}

static void on_transaction(XactEvent event, void *arg)
{
    (void)arg;
    if (event == XACT_EVENT_COMMIT && database_changing)
        after_database_change(InvalidOid);
}

static void run_statement(PlannedStmt *pstmt, const char *query, bool read_only_tree,
                          ProcessUtilityContext context, ParamListInfo params,
                          QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
    if (changes_databases(nodeTag(pstmt->utilityStmt)))
        run_database_change(pstmt, query, read_only_tree, context, params, env, dest, qc);
    else if (finishes_prepared(pstmt->utilityStmt))
        run_guarded(pstmt, query, read_only_tree, context, params, env, dest, qc);
    else
        run_next(pstmt, query, read_only_tree, context, params, env, dest, qc);
}

static void end_in_error(int code, Datum arg)
{
    (void)code;
    (void)arg;
    loch_unmade_remove();
    if (loch_fix_on(move_undo))
        loch_unmade_take_back();
}

/* Its stand-in goes even when the process ends here, and so does what a move has left. */
static void run_with_stand_in(PlannedStmt *pstmt, const char *query, bool read_only_tree,
                              ProcessUtilityContext context, ParamListInfo params,
                              QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
    PG_ENSURE_ERROR_CLEANUP(end_in_error, (Datum)0);
    {
        loch_unmade_stand_in(pstmt->utilityStmt);
        run_statement(pstmt, query, read_only_tree, context, params, env, dest, qc);
    }
    PG_END_ENSURE_ERROR_CLEANUP(end_in_error, (Datum)0);
    loch_unmade_remove();
}

static void on_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
                       ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *env,
                       DestReceiver *dest, QueryCompletion *qc)
{
    NodeTag tag = nodeTag(pstmt->utilityStmt);

    loch_lease_check(); /* a FETCH or a COPY may find all it wants in shared buffers */
    if (tag == T_CreateTableSpaceStmt)
        refuse_tablespace((const CreateTableSpaceStmt *)pstmt->utilityStmt);
    if (tag == T_CreateSubscriptionStmt)
        loch_two_phase_check((const CreateSubscriptionStmt *)pstmt->utilityStmt);
    if (tag == T_AlterDatabaseStmt)
        loch_move_limit_check((const AlterDatabaseStmt *)pstmt->utilityStmt);
    if (tag == T_CreatedbStmt && loch_fix_on(createdb))
        pstmt = force_wal_log(pstmt);
    if (forces_sync(tag))
        loch_commit_guard_demand();
    if (tag == T_TransactionStmt) /* COMMIT, PREPARE */
        loch_throttle_slow_down();
    if (loch_unmade_matters(pstmt->utilityStmt))
        run_with_stand_in(pstmt, query, read_only_tree, context, params, env, dest, qc);
    else
        run_statement(pstmt, query, read_only_tree, context, params, env, dest, qc);
    if (tag == T_AlterSystemStmt)
        loch_config_files_wait();
    if (tag != T_TransactionStmt && !forces_sync(tag))
        loch_throttle_slow_down();
}

void loch_utility_register(void)
{
    previous_utility = ProcessUtility_hook;
    ProcessUtility_hook = on_utility;
    RegisterXactCallback(on_transaction, NULL);
}
