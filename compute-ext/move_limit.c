/* Holds: the refusal to move a large database to another tablespace.
 * Source: movedb in commands/dbcommands.c, PostgreSQL 15: it copies the files past the WAL and logs
 * one record, of which the pageserver makes all pages at once, in memory. */
#include "move_limit.h"

#include "last_lsn.h"
#include "page_client.h"
#include "settings.h"

#include "access/htup_details.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/tablespace.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/syscache.h"

/* Where the database lies; InvalidOid when it is gone. */
static Oid tablespace_of(Oid db)
{
    HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(db));
    Oid spc;

    if (!HeapTupleIsValid(tuple))
        return InvalidOid;
    spc = ((Form_pg_database)GETSTRUCT(tuple))->dattablespace;
    ReleaseSysCache(tuple);
    return spc;
}

static uint64 bytes_in(Oid spc, Oid db)
{
    XLogRecPtr lsn = loch_insert_lsn();

    loch_wal_flush_to(lsn);
    return loch_page_client_db_bytes(spc, db, lsn);
}

void loch_move_limit_check(const AlterDatabaseStmt *stmt)
{
    const uint64 most = (uint64)loch_settings.move_database_max_mb << 20;
    DefElem *option =
        list_length(stmt->options) == 1 ? linitial_node(DefElem, stmt->options) : NULL;
    Oid db, from, to;
    uint64 bytes;

    if (option == NULL || strcmp(option->defname, "tablespace") != 0 || option->arg == NULL)
        return;
    db = get_database_oid(stmt->dbname, true);
    to = get_tablespace_oid(defGetString(option), true);
    if (!OidIsValid(db) || db == MyDatabaseId || !OidIsValid(to) ||
        !pg_database_ownercheck(db, GetUserId()))
        return;
    from = tablespace_of(db);
    if (!OidIsValid(from) || from == to)
        return;
    bytes = bytes_in(from, db);
    if (bytes > most)
        ereport(ERROR,
                (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                 errmsg("database \"%s\" is too large to be moved to another tablespace on Loch",
                        stmt->dbname),
                 errdetail("It has " UINT64_FORMAT
                           " MB in its tablespace; loch.move_database_max_size is %d MB.",
                           bytes >> 20, loch_settings.move_database_max_mb),
                 errhint("Make a copy there with CREATE DATABASE ... TEMPLATE \"%s\" TABLESPACE "
                         "\"%s\", then drop this one and rename that; or move its relations with "
                         "ALTER TABLE ALL IN TABLESPACE.",
                         stmt->dbname, defGetString(option))));
}
