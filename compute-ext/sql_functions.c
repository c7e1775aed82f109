/* Holds: what the schema `loch` calls (loch.sql). */
#include "postgres.h"

#include "compat/export.h"

#include "last_lsn.h"
#include "local_cache.h"
#include "shared.h"

#include "access/relation.h"

#include "fmgr.h"
#include "funcapi.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(loch_version);
PG_FUNCTION_INFO_V1(loch_counters);
PG_FUNCTION_INFO_V1(loch_backend_counters);
PG_FUNCTION_INFO_V1(loch_cache);
PG_FUNCTION_INFO_V1(loch_last_written);
PGDLLEXPORT Datum loch_last_written(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum loch_version(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum loch_counters(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum loch_backend_counters(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum loch_cache(PG_FUNCTION_ARGS);

struct counter_name {
    const char *name;
    const char *help;
};

static const struct counter_name names[LOCH_COUNTER_COUNT] = {
#define LOCH_COUNTER_NAME(name_, help_) {#name_, help_},
    LOCH_COUNTERS(LOCH_COUNTER_NAME)
#undef LOCH_COUNTER_NAME
};

Datum loch_version(PG_FUNCTION_ARGS)
{
    (void)fcinfo;
    PG_RETURN_TEXT_P(cstring_to_text("loch, built for PostgreSQL " PG_VERSION));
}

Datum loch_counters(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *set = (ReturnSetInfo *)fcinfo->resultinfo;

    InitMaterializedSRF(fcinfo, 0);
    for (size_t i = 0; loch_shared != NULL && i < LOCH_COUNTER_COUNT; i++) {
        Datum values[3];
        bool nulls[3] = {false, false, false};

        values[0] = CStringGetTextDatum(names[i].name);
        values[1] = Int64GetDatum((int64)pg_atomic_read_u64(&loch_shared->counters[i]));
        values[2] = CStringGetTextDatum(names[i].help);
        tuplestore_putvalues(set->setResult, set->setDesc, values, nulls);
    }
    return (Datum)0;
}

/* Of every process that lives and has counted anything. */
Datum loch_backend_counters(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *set = (ReturnSetInfo *)fcinfo->resultinfo;

    InitMaterializedSRF(fcinfo, 0);
    for (uint32 p = 0; loch_shared != NULL && p < loch_process_count(); p++) {
        struct loch_process *process = &loch_processes[p];
        int pid = (int)pg_atomic_read_u32(&process->pid);

        if (pid == 0 || ProcGlobal->allProcs[p].pid != pid)
            continue;
        for (size_t i = 0; i < LOCH_COUNTER_COUNT; i++) {
            Datum values[3];
            bool nulls[3] = {false, false, false};
            uint64 value = pg_atomic_read_u64(&process->counters[i]);

            if (value == 0)
                continue;
            values[0] = Int32GetDatum(pid);
            values[1] = CStringGetTextDatum(names[i].name);
            values[2] = Int64GetDatum((int64)value);
            tuplestore_putvalues(set->setResult, set->setDesc, values, nulls);
        }
    }
    return (Datum)0;
}

Datum loch_cache(PG_FUNCTION_ARGS)
{
    struct loch_cache_state state;
    TupleDesc desc;
    Datum values[5];
    bool nulls[5] = {false};

    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "loch.cache_state does not return a row");
    loch_cache_state(&state);
    values[0] = BoolGetDatum(state.on);
    values[1] = Int64GetDatum((int64)state.size_bytes);
    values[2] = Int64GetDatum((int64)state.used_blocks * BLCKSZ);
    values[3] = Int64GetDatum((int64)state.max_bytes);
    values[4] = Int64GetDatum((int64)state.writes);
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* The LSN that a read of the relation's block would ask for. */
Datum loch_last_written(PG_FUNCTION_ARGS)
{
    Relation rel = relation_open(PG_GETARG_OID(0), AccessShareLock);
    int64 block = PG_GETARG_INT64(1);
    XLogRecPtr lsn;

    if (block < 0 || block > MaxBlockNumber)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("block %lld is out of range", (long long)block)));
    lsn = loch_shared == NULL ? InvalidXLogRecPtr
                              : loch_last_lsn_get(rel->rd_node, MAIN_FORKNUM, (BlockNumber)block);
    relation_close(rel, AccessShareLock);
    PG_RETURN_LSN(lsn);
}
