/* Holds: functions that tests create for themselves (tests/compute/functions.sql). Compiled only
 * with LOCH_TEST_SWITCHES. */
#include "postgres.h"

#include "compat/export.h"

#ifdef LOCH_TEST_SWITCHES

#include "cache_file.h"
#include "known_absent.h"
#include "last_lsn.h"
#include "local_cache.h"
#include "settings.h"
#include "shared.h"

#include "access/relation.h"
#include "access/transam.h"
#include "catalog/catalog.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "storage/smgr.h"
#include "utils/pg_lsn.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(loch_test_evict);
PG_FUNCTION_INFO_V1(loch_test_extend_zero);
PG_FUNCTION_INFO_V1(loch_test_last_lsn);
PG_FUNCTION_INFO_V1(loch_test_use_file_number);
PG_FUNCTION_INFO_V1(loch_test_copy_amid_forgetting);
PG_FUNCTION_INFO_V1(loch_test_throttle_rounds);
PG_FUNCTION_INFO_V1(loch_test_cache_fault);
PG_FUNCTION_INFO_V1(loch_test_cache_damage);
PG_FUNCTION_INFO_V1(loch_test_cache_counter);
PGDLLEXPORT Datum loch_test_evict(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum loch_test_extend_zero(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum loch_test_last_lsn(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum loch_test_use_file_number(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum loch_test_copy_amid_forgetting(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum loch_test_throttle_rounds(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum loch_test_cache_fault(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum loch_test_cache_damage(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum loch_test_cache_counter(PG_FUNCTION_ARGS);

/* Writes out and forgets every buffer of a relation. Only for a test that knows nobody else uses
 * it. */
Datum loch_test_evict(PG_FUNCTION_ARGS)
{
    Relation rel = relation_open(PG_GETARG_OID(0), AccessShareLock);
    ForkNumber forks[] = {MAIN_FORKNUM, FSM_FORKNUM, VISIBILITYMAP_FORKNUM, INIT_FORKNUM};
    BlockNumber from[] = {0, 0, 0, 0};

    FlushRelationBuffers(rel);
    DropRelFileNodeBuffers(RelationGetSmgr(rel), forks, (int)lengthof(forks), from);
    relation_close(rel, AccessShareLock);
    PG_RETURN_VOID();
}

/* Extends a relation by a page that is never initialised, as bulk extension does. */
Datum loch_test_extend_zero(PG_FUNCTION_ARGS)
{
    Relation rel = relation_open(PG_GETARG_OID(0), RowExclusiveLock);
    Buffer buffer = ReadBufferExtended(rel, MAIN_FORKNUM, P_NEW, RBM_NORMAL, NULL);

    ReleaseBuffer(buffer);
    relation_close(rel, RowExclusiveLock);
    PG_RETURN_VOID();
}

/* The LSN a read of the relation's block would ask for. */
Datum loch_test_last_lsn(PG_FUNCTION_ARGS)
{
    Relation rel = relation_open(PG_GETARG_OID(0), AccessShareLock);
    XLogRecPtr lsn = loch_last_lsn_get(rel->rd_node, MAIN_FORKNUM, (BlockNumber)PG_GETARG_INT32(1));

    relation_close(rel, AccessShareLock);
    PG_RETURN_LSN(lsn);
}

/* Creates a file of this number in the current database, as a file number chosen blindly would. */
Datum loch_test_use_file_number(PG_FUNCTION_ARGS)
{
    RelFileNode rnode = {MyDatabaseTableSpace, MyDatabaseId, PG_GETARG_OID(0)};

    smgrcreate(smgropen(rnode, InvalidBackendId), MAIN_FORKNUM, false);
    PG_RETURN_VOID();
}

/* Copies a page into a new relation, as a move of an unlogged index does before it makes the init
 * fork, while others change databases, and ask for more than can be remembered. */
Datum loch_test_copy_amid_forgetting(PG_FUNCTION_ARGS)
{
    RelFileNode rnode = {MyDatabaseTableSpace, MyDatabaseId,
                         GetNewRelFileNode(MyDatabaseTableSpace, NULL, RELPERSISTENCE_UNLOGGED)};
    SMgrRelation reln = smgropen(rnode, InvalidBackendId);
    XLogRecPtr before = loch_insert_lsn() - 1;
    PGAlignedBlock page;

    (void)fcinfo;
    smgrcreate(reln, MAIN_FORKNUM, false);
    loch_absent_clear();
    for (uint32 i = 0; i < LOCH_ABSENT_MAX; i++)
        loch_absent_add((RelFileNode){MyDatabaseTableSpace, 1, FirstNormalObjectId + i},
                        LOCH_FORK_BIT(FSM_FORKNUM));
    PageInit((Page)page.data, BLCKSZ, 0);
    PageSetLSN((Page)page.data, before);
    smgrextend(reln, MAIN_FORKNUM, 0, page.data, false);
    PG_RETURN_VOID();
}

/* How often every process was asked to come by. */
Datum loch_test_throttle_rounds(PG_FUNCTION_ARGS)
{
    (void)fcinfo;
    PG_RETURN_INT64((int64)pg_atomic_read_u64(&loch_shared->throttle_round));
}

/* The n-th access to the local cache's file from now on fails with this errno. */
Datum loch_test_cache_fault(PG_FUNCTION_ARGS)
{
    loch_cache_file_test_fault((uint64)PG_GETARG_INT64(0), PG_GETARG_INT32(1));
    PG_RETURN_VOID();
}

/* Changes a bit of every block in the local cache's file. */
Datum loch_test_cache_damage(PG_FUNCTION_ARGS)
{
    (void)fcinfo;
    loch_cache_test_damage();
    PG_RETURN_VOID();
}

/* The next block is sealed under this nonce. */
Datum loch_test_cache_counter(PG_FUNCTION_ARGS)
{
    loch_cache_test_counter((uint64)PG_GETARG_INT64(0));
    PG_RETURN_VOID();
}

#endif
