/* Holds: what the schema `loch` calls (loch.sql). */
#include "postgres.h"

#include "compat/export.h"

#include "shared.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(loch_version);
PG_FUNCTION_INFO_V1(loch_counters);
PGDLLEXPORT Datum loch_version(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum loch_counters(PG_FUNCTION_ARGS);

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
