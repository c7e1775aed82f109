/* Holds: the refusal. A slot would hold WAL on the scratch until it is full, and be gone with the
 * compute. The proposer's own is made by a command of the replication protocol (auth.h: nobody else
 * gets there), not by these functions. */
#include "slots.h"

#include "postgres.h"

#include "builtin.h"

#include "fmgr.h"
#include "utils/fmgroids.h"

static Datum refuse_slot(PG_FUNCTION_ARGS)
{
    (void)fcinfo;
    ereport(ERROR,
            (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
             errmsg("replication slots of one's own are not supported on Loch"),
             errdetail("A slot would hold WAL on the compute's scratch volume, and end with the "
                       "compute."),
             errhint("pg_receivewal reads the WAL, kept without a slot, from a safekeeper's export "
                     "port.")));
    PG_RETURN_NULL();
}

void loch_slots_install(void)
{
    static const Oid makers[] = {F_PG_CREATE_PHYSICAL_REPLICATION_SLOT,
                                 F_PG_COPY_PHYSICAL_REPLICATION_SLOT_NAME_NAME,
                                 F_PG_COPY_PHYSICAL_REPLICATION_SLOT_NAME_NAME_BOOL,
                                 F_PG_CREATE_LOGICAL_REPLICATION_SLOT,
                                 F_PG_COPY_LOGICAL_REPLICATION_SLOT_NAME_NAME,
                                 F_PG_COPY_LOGICAL_REPLICATION_SLOT_NAME_NAME_BOOL,
                                 F_PG_COPY_LOGICAL_REPLICATION_SLOT_NAME_NAME_BOOL_NAME};
    PGFunction stock;

    for (size_t i = 0; i < lengthof(makers); i++)
        loch_builtin_replace(makers[i], refuse_slot, &stock);
}
