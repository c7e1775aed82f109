/* Holds: what is known about storage's lag, and the views on it (loch.sql).
 *
 * PGDATA/loch.quorum is the agent's account of the safekeepers, one line each (src/agent/
 * quorum_file.h). Only this server's own agent can write it, and nothing is decided by it. */
#include "lag.h"

#include "compat/export.h"

#include "last_lsn.h"
#include "settings.h"
#include "shared.h"

#include "fmgr.h"
#include "funcapi.h"
#include "replication/slot.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/fd.h"
#include "storage/proc.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#define QUORUM_FILE   "loch.quorum"
#define MEMBER_FIELDS 7
#define SILENT_MS     3000

PG_FUNCTION_INFO_V1(loch_lag);
PG_FUNCTION_INFO_V1(loch_safekeepers);
PG_FUNCTION_INFO_V1(loch_connections);
PGDLLEXPORT Datum loch_lag(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum loch_safekeepers(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum loch_connections(PG_FUNCTION_ARGS);

/* One safekeeper; points into the line. */
struct member {
    char *field[MEMBER_FIELDS]; /* number, address, state, away_s, write, flush, why */
};

static bool next_member(FILE *f, char line[1024], struct member *out)
{
    char *at = line;

    if (fgets(line, 1024, f) == NULL)
        return false;
    line[strcspn(line, "\n")] = '\0';
    for (int i = 0; i < MEMBER_FIELDS; i++) {
        out->field[i] = at;
        at += strcspn(at, "\t");
        if (*at != '\0')
            *at++ = '\0';
    }
    return true;
}

void loch_lag_note(const struct loch_page_status_reply *status)
{
    struct loch_pageserver_state *ps = &loch_shared->pageserver;

    pg_atomic_write_u64(&ps->last_record_lsn, status->last_record_lsn);
    pg_atomic_write_u64(&ps->disk_consistent_lsn, status->disk_consistent_lsn);
    pg_atomic_write_u64(&ps->remote_consistent_lsn, status->remote_consistent_lsn);
    pg_atomic_write_u64(&ps->seen_at, (uint64)GetCurrentTimestamp());
}

static uint64 behind(pg_atomic_uint64 *there)
{
    XLogRecPtr here = loch_insert_lsn();
    XLogRecPtr seen = Max(pg_atomic_read_u64(there), loch_settings.start_lsn_value);

    return here > seen ? here - seen : 0;
}

uint64 loch_lag_ingested(void)
{
    return behind(&loch_shared->pageserver.last_record_lsn);
}

uint64 loch_lag_persisted(void)
{
    return behind(&loch_shared->pageserver.disk_consistent_lsn);
}

uint64 loch_lag_kept(void)
{
    XLogRecPtr here = loch_insert_lsn(), oldest = here;

    LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
    for (int i = 0; i < max_replication_slots; i++) {
        ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[i];

        SpinLockAcquire(&slot->mutex);
        if (slot->in_use && slot->data.restart_lsn != InvalidXLogRecPtr)
            oldest = Min(oldest, slot->data.restart_lsn);
        SpinLockRelease(&slot->mutex);
    }
    LWLockRelease(ReplicationSlotControlLock);
    return here - oldest;
}

XLogRecPtr loch_lag_commit_lsn(void)
{
    XLogRecPtr newest = InvalidXLogRecPtr;

    for (int i = 0; i < max_wal_senders; i++) {
        WalSnd *sender = &WalSndCtl->walsnds[i];

        SpinLockAcquire(&sender->mutex);
        if (sender->pid != 0)
            newest = Max(newest, sender->flush);
        SpinLockRelease(&sender->mutex);
    }
    return newest;
}

/* "safekeeper 2 at 127.0.0.1:7002 unreachable since 12 s (connection refused)", or nothing. */
static void describe_members(char *out, size_t size)
{
    FILE *f = AllocateFile(QUORUM_FILE, "r");
    char line[1024];
    struct member m;
    size_t at = 0;

    out[0] = '\0';
    while (f != NULL && at < size && next_member(f, line, &m)) {
        const char *gap = at > 0 ? "; " : "";

        if (strcmp(m.field[2], "unreachable") == 0)
            at += (size_t)snprintf(out + at, size - at,
                                   "%ssafekeeper %s at %s unreachable since %s s (%s)", gap,
                                   m.field[0], m.field[1], m.field[3], m.field[6]);
        else if (strcmp(m.field[2], "streaming") != 0)
            at += (size_t)snprintf(out + at, size - at, "%ssafekeeper %s at %s is %s", gap,
                                   m.field[0], m.field[1], m.field[2]);
    }
    if (f != NULL)
        (void)FreeFile(f);
}

void loch_lag_describe(char *out, size_t size)
{
    TimestampTz seen_at = (TimestampTz)pg_atomic_read_u64(&loch_shared->pageserver.seen_at);
    XLogRecPtr commit = loch_lag_commit_lsn();
    XLogRecPtr ingested = pg_atomic_read_u64(&loch_shared->pageserver.last_record_lsn);
    char members[700];

    describe_members(members, sizeof members);
    if (seen_at == 0 || TimestampDifferenceExceeds(seen_at, GetCurrentTimestamp(), SILENT_MS))
        snprintf(out, size, "the pageserver at %s does not answer since %ld s",
                 loch_settings.pageserver,
                 seen_at == 0 ? 0L : (long)((GetCurrentTimestamp() - seen_at) / USECS_PER_SEC));
    else if (commit <= ingested && members[0] != '\0')
        snprintf(out, size, "no WAL reaches the pageserver: %s", members);
    else if (commit <= ingested)
        strlcpy(out, "the quorum of safekeepers is slower than the writers", size);
    else
        snprintf(out, size,
                 "the pageserver ingests more slowly than WAL is written (it is at %X/%X)",
                 LSN_FORMAT_ARGS(ingested));
}

/* ---- functions ---- */

static Datum lsn_or_null(XLogRecPtr lsn, bool *null)
{
    *null = lsn == InvalidXLogRecPtr;
    return LSNGetDatum(lsn);
}

Datum loch_lag(PG_FUNCTION_ARGS)
{
    struct loch_pageserver_state *ps;
    TimestampTz seen_at;
    bool slowed;
    Datum values[11];
    bool nulls[11] = {false};
    char why[900];
    TupleDesc desc;

    if (loch_shared == NULL)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("loch is not in shared_preload_libraries: this is no compute")));
    ps = &loch_shared->pageserver;
    seen_at = (TimestampTz)pg_atomic_read_u64(&ps->seen_at);
    slowed = pg_atomic_read_u64(&loch_shared->throttle_us) > 0;
    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "loch.lag_state does not return a row");
    loch_lag_describe(why, sizeof why);
    values[0] = LSNGetDatum(loch_insert_lsn());
    values[1] = lsn_or_null(loch_lag_commit_lsn(), &nulls[1]);
    values[2] = lsn_or_null(pg_atomic_read_u64(&ps->last_record_lsn), &nulls[2]);
    values[3] = lsn_or_null(pg_atomic_read_u64(&ps->disk_consistent_lsn), &nulls[3]);
    values[4] = lsn_or_null(pg_atomic_read_u64(&ps->remote_consistent_lsn), &nulls[4]);
    values[5] = Int64GetDatum((int64)loch_lag_ingested());
    values[6] = Int64GetDatum((int64)loch_lag_persisted());
    values[7] = TimestampTzGetDatum(seen_at);
    nulls[7] = seen_at == 0;
    values[8] = Int64GetDatum((int64)pg_atomic_read_u64(&loch_shared->throttle_us));
    values[9] = BoolGetDatum(slowed);
    values[10] = CStringGetTextDatum(why);
    nulls[10] = !slowed;
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* Texts of the file as they are; loch.sql gives them their types. */
Datum loch_safekeepers(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *set = (ReturnSetInfo *)fcinfo->resultinfo;
    char line[1024];
    struct member m;
    FILE *f;

    InitMaterializedSRF(fcinfo, 0);
    f = AllocateFile(QUORUM_FILE, "r");
    while (f != NULL && next_member(f, line, &m)) {
        Datum values[MEMBER_FIELDS];
        bool nulls[MEMBER_FIELDS] = {false};

        for (int i = 0; i < MEMBER_FIELDS; i++) {
            values[i] = CStringGetTextDatum(m.field[i]);
            nulls[i] = m.field[i][0] == '\0';
        }
        tuplestore_putvalues(set->setResult, set->setDesc, values, nulls);
    }
    if (f != NULL)
        (void)FreeFile(f);
    return (Datum)0;
}

Datum loch_connections(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *set = (ReturnSetInfo *)fcinfo->resultinfo;

    InitMaterializedSRF(fcinfo, 0);
    for (uint32 p = 0; loch_shared != NULL && p < loch_process_count(); p++) {
        struct loch_process *process = &loch_processes[p];
        int pid = (int)pg_atomic_read_u32(&process->pid);
        uint64 connected_at = pg_atomic_read_u64(&process->connected_at);
        uint64 reads = pg_atomic_read_u64(&process->counters[LOCH_C_read_remote]);
        uint64 wait_us = pg_atomic_read_u64(&process->counters[LOCH_C_read_wait_us]);
        Datum values[7];
        bool nulls[7] = {false};

        if (pid == 0 || ProcGlobal->allProcs[p].pid != pid || connected_at == 0)
            continue;
        values[0] = Int32GetDatum(pid);
        values[1] = TimestampTzGetDatum((TimestampTz)connected_at);
        values[2] = Int64GetDatum((int64)pg_atomic_read_u64(&process->counters[LOCH_C_reconnects]));
        values[3] = Int64GetDatum((int64)reads);
        values[4] = Int64GetDatum(reads == 0 ? 0 : (int64)(wait_us / reads));
        values[5] = Int64GetDatum((int64)pg_atomic_read_u64(&process->last_read_us));
        values[6] = Int64GetDatum((int64)pg_atomic_read_u64(&process->longest_read_us));
        tuplestore_putvalues(set->setResult, set->setDesc, values, nulls);
    }
    return (Datum)0;
}
