/* Holds: the file that stands in for relations whose own are not made yet; and where a move of a
 * database goes.
 * Source: commands/{dbcommands,tablespace}.c, PostgreSQL 15: movedb and createdb look whether the
 * database's directory in its new tablespace is empty, DROP TABLESPACE at every one in it.
 *
 * Only what this server has not touched needs it: a relation that is made or moved there from now
 * on has its file at once. */
#include "unmade.h"

#include "last_lsn.h"
#include "page_client.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xloginsert.h"
#include "catalog/pg_database.h"
#include "catalog/pg_tablespace_d.h"
#include "commands/dbcommands.h"
#include "commands/dbcommands_xlog.h"
#include "commands/defrem.h"
#include "commands/tablespace.h"
#include "common/relpath.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/fd.h"
#include "storage/lock.h"

#include <fcntl.h>
#include <unistd.h>

static char standing_in[MAXPGPATH]; /* "": none */
static struct {
    Oid db, spc; /* db InvalidOid: nothing is moved where nothing was */
} moving;

/* A pageserver that does not know of relation 0 still tells where bytes lie. */
static bool holds_relations(Oid spc, Oid db)
{
    XLogRecPtr lsn = loch_insert_lsn();
    RelFileNode any = {spc, db, InvalidOid};
    BlockNumber blocks;

    loch_wal_flush_to(lsn);
    return loch_page_client_size(any, MAIN_FORKNUM, lsn, &blocks) ||
           loch_page_client_db_bytes(spc, db, lsn) > 0;
}

static bool stand_in(Oid spc, Oid db)
{
    char *dir;
    int fd;

    if (!OidIsValid(spc) || spc == GLOBALTABLESPACE_OID || !OidIsValid(db) ||
        !holds_relations(spc, db))
        return false;
    TablespaceCreateDbspace(spc, db, false);
    dir = GetDatabasePath(db, spc);
    snprintf(standing_in, sizeof standing_in, "%s/loch.unmade.%d", dir, MyProcPid);
    pfree(dir);
    fd = OpenTransientFile(standing_in, O_WRONLY | O_CREAT | PG_BINARY);
    if (fd < 0)
        ereport(ERROR, (errcode_for_file_access(),
                        errmsg("could not create file \"%s\": %m", standing_in)));
    CloseTransientFile(fd);
    return true;
}

static const char *option(List *options, const char *name)
{
    ListCell *cell;

    foreach (cell, options) {
        DefElem *item = lfirst_node(DefElem, cell);

        if (strcmp(item->defname, name) == 0 && item->arg != NULL)
            return defGetString(item);
    }
    return NULL;
}

/* Against the database of that name in what `options` name as the tablespace. */
static void stand_in_for_new(List *options, const char *database)
{
    const char *tablespace = option(options, "tablespace");

    if (tablespace != NULL)
        (void)stand_in(get_tablespace_oid(tablespace, true), get_database_oid(database, true));
}

static void stand_in_for_move(List *options, const char *database)
{
    const char *tablespace = option(options, "tablespace");
    Oid spc = tablespace == NULL ? InvalidOid : get_tablespace_oid(tablespace, true);
    Oid db = get_database_oid(database, true);

    if (OidIsValid(spc) && spc != GLOBALTABLESPACE_OID && OidIsValid(db) && !stand_in(spc, db)) {
        moving.db = db;
        moving.spc = spc;
    }
}

static void stand_in_for_any(const char *tablespace)
{
    Oid spc = get_tablespace_oid(tablespace, true);
    Relation databases = table_open(DatabaseRelationId, AccessShareLock);
    TableScanDesc scan = table_beginscan_catalog(databases, 0, NULL);
    HeapTuple tuple;

    while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
        if (stand_in(spc, ((Form_pg_database)GETSTRUCT(tuple))->oid))
            break;
    table_endscan(scan);
    table_close(databases, AccessShareLock);
}

bool loch_unmade_matters(const Node *stmt)
{
    return IsA(stmt, AlterDatabaseStmt) || IsA(stmt, CreatedbStmt) || IsA(stmt, DropTableSpaceStmt);
}

void loch_unmade_stand_in(const Node *stmt)
{
    moving.db = InvalidOid;
    if (IsA(stmt, AlterDatabaseStmt)) {
        const AlterDatabaseStmt *alter = (const AlterDatabaseStmt *)stmt;

        stand_in_for_move(alter->options, alter->dbname);
    } else if (IsA(stmt, CreatedbStmt)) {
        const CreatedbStmt *create = (const CreatedbStmt *)stmt;
        const char *template = option(create->options, "template");

        stand_in_for_new(create->options, template != NULL ? template : "template1");
    } else if (IsA(stmt, DropTableSpaceStmt)) {
        stand_in_for_any(((const DropTableSpaceStmt *)stmt)->tablespacename);
    }
}

void loch_unmade_remove(void)
{
    if (standing_in[0] != '\0')
        (void)unlink(standing_in);
    standing_in[0] = '\0';
}

/* Past the look at the target: the lock says that the move was under way, and that nobody else has
 * put anything there since. What others had put there before has files, or was seen by stand_in. */
static bool has_moved_in_vain(void)
{
    LOCKTAG tag;
    char *target;
    bool gone;

    SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, moving.db, 0);
    if (!OidIsValid(moving.db) || !LockHeldByMe(&tag, AccessExclusiveLock))
        return false;
    target = GetDatabasePath(moving.db, moving.spc);
    gone = access(target, F_OK) != 0 && errno == ENOENT;
    pfree(target);
    return gone;
}

void loch_unmade_take_back(void)
{
    if (has_moved_in_vain()) {
        xl_dbase_drop_rec record = {.db_id = moving.db, .ntablespaces = 1};

        XLogBeginInsert();
        XLogRegisterData((char *)&record, sizeof record);
        XLogRegisterData((char *)&moving.spc, sizeof moving.spc);
        loch_last_lsn_raise_floor(
            XLogInsert(RM_DBASE_ID, XLOG_DBASE_DROP | XLR_SPECIAL_REL_UPDATE));
    }
    moving.db = InvalidOid;
}
