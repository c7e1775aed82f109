/* Holds: pg_relation_size and its family, pg_database_size, pg_tablespace_size.
 *
 * utils/adt/dbsize.c stats the files of a relation. Files appear here on first use, so ours first
 * make them appear and then call the server's. */
#include "sizes.h"

#include "postgres.h"

#include "builtin.h"
#include "last_lsn.h"
#include "page_client.h"

#include "access/heapam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_tablespace_d.h"
#include "commands/dbcommands.h"
#include "commands/tablespace.h"
#include "fmgr.h"
#include "storage/smgr.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/relcache.h"

static PGFunction stock_relation_size;
static PGFunction stock_table_size;
static PGFunction stock_indexes_size;
static PGFunction stock_total_size;
static PGFunction stock_database_size_oid;
static PGFunction stock_database_size_name;
static PGFunction stock_tablespace_size_oid;
static PGFunction stock_tablespace_size_name;

static void materialise_one(Relation rel)
{
    if (!RELKIND_HAS_STORAGE(rel->rd_rel->relkind))
        return;
    for (ForkNumber fork = MAIN_FORKNUM; fork <= MAX_FORKNUM; fork++)
        (void)smgrexists(RelationGetSmgr(rel), fork);
}

/* The relation, its indexes and, when `deep`, its TOAST table with its index. */
static void materialise_family(Oid relid, bool deep)
{
    Relation rel = try_relation_open(relid, AccessShareLock);
    ListCell *cell;
    Oid toast;

    if (rel == NULL)
        return;
    materialise_one(rel);
    if (deep &&
        (rel->rd_rel->relkind == RELKIND_RELATION || rel->rd_rel->relkind == RELKIND_MATVIEW ||
         rel->rd_rel->relkind == RELKIND_TOASTVALUE)) {
        foreach (cell, RelationGetIndexList(rel))
            materialise_family(lfirst_oid(cell), false);
        toast = rel->rd_rel->reltoastrelid;
        if (OidIsValid(toast))
            materialise_family(toast, true);
    }
    relation_close(rel, AccessShareLock);
}

static Datum relation_size(PG_FUNCTION_ARGS)
{
    materialise_family(PG_GETARG_OID(0), false);
    return stock_relation_size(fcinfo);
}

static Datum table_size(PG_FUNCTION_ARGS)
{
    materialise_family(PG_GETARG_OID(0), true);
    return stock_table_size(fcinfo);
}

static Datum indexes_size(PG_FUNCTION_ARGS)
{
    materialise_family(PG_GETARG_OID(0), true);
    return stock_indexes_size(fcinfo);
}

static Datum total_size(PG_FUNCTION_ARGS)
{
    materialise_family(PG_GETARG_OID(0), true);
    return stock_total_size(fcinfo);
}

/* The greater of what is here (with unlogged relations) and what the pageserver has. */
static int64 database_bytes(Oid db, int64 here)
{
    XLogRecPtr lsn = loch_insert_lsn();
    uint64 there;

    loch_wal_flush_to(lsn);
    there = loch_page_client_db_bytes(InvalidOid, db, lsn);
    return Max(here, (int64)there);
}

static Datum database_size_oid(PG_FUNCTION_ARGS)
{
    Datum here = stock_database_size_oid(fcinfo);

    if (fcinfo->isnull)
        return here;
    PG_RETURN_INT64(database_bytes(PG_GETARG_OID(0), DatumGetInt64(here)));
}

static Datum database_size_name(PG_FUNCTION_ARGS)
{
    Datum here = stock_database_size_name(fcinfo);
    Oid db;

    if (fcinfo->isnull)
        return here;
    db = get_database_oid(NameStr(*PG_GETARG_NAME(0)), false);
    PG_RETURN_INT64(database_bytes(db, DatumGetInt64(here)));
}

/* Likewise, over all databases. */
static int64 tablespace_bytes(Oid spc, int64 here)
{
    XLogRecPtr lsn = loch_insert_lsn();
    Relation databases;
    TableScanDesc scan;
    HeapTuple tuple;
    uint64 there = 0;

    if (spc == GLOBALTABLESPACE_OID)
        return here; /* all of it is */
    loch_wal_flush_to(lsn);
    databases = table_open(DatabaseRelationId, AccessShareLock);
    scan = table_beginscan_catalog(databases, 0, NULL);
    while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
        there += loch_page_client_db_bytes(spc, ((Form_pg_database)GETSTRUCT(tuple))->oid, lsn);
    table_endscan(scan);
    table_close(databases, AccessShareLock);
    return Max(here, (int64)there);
}

static Datum tablespace_size_oid(PG_FUNCTION_ARGS)
{
    Datum here = stock_tablespace_size_oid(fcinfo);

    if (fcinfo->isnull)
        return here;
    PG_RETURN_INT64(tablespace_bytes(PG_GETARG_OID(0), DatumGetInt64(here)));
}

static Datum tablespace_size_name(PG_FUNCTION_ARGS)
{
    Datum here = stock_tablespace_size_name(fcinfo);
    Oid spc;

    if (fcinfo->isnull)
        return here;
    spc = get_tablespace_oid(NameStr(*PG_GETARG_NAME(0)), false);
    PG_RETURN_INT64(tablespace_bytes(spc, DatumGetInt64(here)));
}

void loch_sizes_install(void)
{
    loch_builtin_replace(F_PG_RELATION_SIZE_REGCLASS_TEXT, relation_size, &stock_relation_size);
    loch_builtin_replace(F_PG_TABLE_SIZE, table_size, &stock_table_size);
    loch_builtin_replace(F_PG_INDEXES_SIZE, indexes_size, &stock_indexes_size);
    loch_builtin_replace(F_PG_TOTAL_RELATION_SIZE, total_size, &stock_total_size);
    loch_builtin_replace(F_PG_DATABASE_SIZE_OID, database_size_oid, &stock_database_size_oid);
    loch_builtin_replace(F_PG_DATABASE_SIZE_NAME, database_size_name, &stock_database_size_name);
    loch_builtin_replace(F_PG_TABLESPACE_SIZE_OID, tablespace_size_oid, &stock_tablespace_size_oid);
    loch_builtin_replace(F_PG_TABLESPACE_SIZE_NAME, tablespace_size_name,
                         &stock_tablespace_size_name);
}
