/* Holds: the worker that watches the lag and the lease, and the sleep.
 *
 * The only callback a stock server gives us inside CHECK_FOR_INTERRUPTS is this: a worker emits
 * PROCSIGNAL_BARRIER_SMGRRELEASE, every process absorbs it at its next safe point by closing its
 * storage manager files, and that comes through our close. Source: storage/ipc/procsignal.c. Short
 * transactions absorb it while they wait for their client, so they also come by at the end of each
 * of their statements. */
#include "throttle.h"

#include "postgres.h"

#include "compat/export.h"

#include "cid_overlay.h"
#include "config_files.h"
#include "free_space.h"
#include "lag.h"
#include "lease.h"
#include "local_cache.h"
#include "page_client.h"
#include "page_key.h"
#include "prewarm.h"
#include "settings.h"
#include "shared.h"
#include "stop_state.h"
#include "wait.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "executor/executor.h"
#include "executor/instrument.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/pmsignal.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

/* The throttle and prewarm (init.c). */
#define WORKERS           2
#define LOOK_EVERY_MS     100
#define REAP_EVERY_ROUNDS 10u
#define SLEEP_MOST_US     UINT64_C(3600000000) /* an hour: until the lag is smaller */
#define SLICE_US          10000u
#define SAY_AGAIN_MS      10000

PGDLLEXPORT void loch_throttle_main(Datum arg) pg_attribute_noreturn();

static bool watching; /* the worker itself never sleeps */
static ExecutorFinish_hook_type previous_finish;
static uint64 round_seen;
static uint64 wal_bytes_seen;
static TimestampTz looked_at, pressed_at; /* the worker's */

void loch_throttle_maybe_sleep(void)
{
    uint64 round;

    /* Outside a transaction a backend waits for its client, who may want to read. In a wait for a
     * page others may want the same page: the round stays for the next safe point. */
    if (loch_wait_under_way() || loch_shared == NULL || InterruptHoldoffCount > 0 ||
        CritSectionCount > 0 || watching || !IsTransactionState() ||
        (MyBackendType != B_BACKEND && MyBackendType != B_BG_WORKER &&
         MyBackendType != B_AUTOVAC_WORKER))
        return;
    round = pg_atomic_read_u64(&loch_shared->throttle_round);
    if (pg_atomic_read_u64(&loch_shared->throttle_us) == 0 || round == round_seen)
        return;
    if (pgWalUsage.wal_bytes == wal_bytes_seen)
        return; /* and the round stays, for what this transaction may write yet */
    round_seen = round;
    wal_bytes_seen = pgWalUsage.wal_bytes;
    loch_count(throttled);
    /* Until the lag is smaller, a cancel has come, or the time is up. */
    pgstat_report_wait_start(PG_WAIT_EXTENSION);
    for (uint64 slept = 0; slept < pg_atomic_read_u64(&loch_shared->throttle_us);
         slept += SLICE_US) {
        if (QueryCancelPending || ProcDiePending || !PostmasterIsAlive())
            break;
        pg_usleep(SLICE_US);
        loch_count_add(LOCH_C_throttled_us, SLICE_US);
    }
    pgstat_report_wait_end();
}

void loch_throttle_slow_down(void)
{
    loch_throttle_maybe_sleep();
    CHECK_FOR_INTERRUPTS();
}

static void on_executor_finish(QueryDesc *query)
{
    if (previous_finish != NULL)
        previous_finish(query);
    else
        standard_ExecutorFinish(query);
    loch_throttle_slow_down();
}

void loch_throttle_forget(void)
{
    wal_bytes_seen = pgWalUsage.wal_bytes;
}

/* How long a writer sleeps in each round between two looks: nothing up to half of the limit, from
 * there on more with the square, and at the limit until the lag is smaller. */
static uint64 sleep_us(uint64 lag_bytes, int limit_kb)
{
    uint64 limit = (uint64)limit_kb * UINT64_C(1024);
    double over;

    if (limit_kb <= 0 || lag_bytes <= limit / 2)
        return 0;
    if (lag_bytes >= limit)
        return SLEEP_MOST_US;
    over = (double)(lag_bytes - limit / 2) / (double)(limit / 2);
    return (uint64)(over * over * LOOK_EVERY_MS * 1000);
}

/* When writing all but stops, again while it lasts, and when it is over. */
static void say_why(bool stopped, bool over)
{
    static TimestampTz said_at; /* 0: not since it began */
    char why[900];

    if (over && said_at != 0) {
        ereport(LOG, (errmsg("loch: writers are no longer slowed")));
        said_at = 0;
    }
    if (!stopped ||
        (said_at != 0 && !TimestampDifferenceExceeds(said_at, GetCurrentTimestamp(), SAY_AGAIN_MS)))
        return;
    said_at = GetCurrentTimestamp();
    loch_lag_describe(why, sizeof why);
    ereport(LOG, (errmsg("loch: writers wait: %s", why),
                  errdetail("The pageserver has not ingested " UINT64_FORMAT
                            " kB of WAL, and not persisted " UINT64_FORMAT " kB.",
                            loch_lag_ingested() / 1024, loch_lag_persisted() / 1024)));
}

/* Short of max_slot_wal_keep_size: past it the next checkpoint drops the agent's slot, and with it
 * the server's only way to the quorum. 0: there is no such limit. */
static int slot_limit_kb(void)
{
    return (int)Min((int64)Max(max_slot_wal_keep_size_mb, 0) * 768, INT_MAX);
}

/* By what is known now. */
static void press(void)
{
    uint64 us = Max(sleep_us(loch_lag_ingested(), loch_settings.max_lag_kb),
                    sleep_us(loch_lag_persisted(), loch_settings.max_persist_lag_kb));

    us = Max(us, sleep_us(loch_lag_kept(), slot_limit_kb()));
    pressed_at = GetCurrentTimestamp();
    pg_atomic_write_u64(&loch_shared->throttle_us, us);
    say_why(us == SLEEP_MOST_US, us == 0);
    if (us == 0)
        return;
    pg_atomic_fetch_add_u64(&loch_shared->throttle_round, 1);
    (void)EmitProcSignalBarrier(PROCSIGNAL_BARRIER_SMGRRELEASE);
}

static void look(void)
{
    struct loch_page_status_reply status = {0};

    looked_at = GetCurrentTimestamp();
    if (loch_page_client_try_status(&status))
        loch_lag_note(&status);
    press();
}

static bool is_due(TimestampTz last)
{
    return TimestampDifferenceExceeds(last, GetCurrentTimestamp(), LOOK_EVERY_MS);
}

void loch_throttle_look_if_due(void)
{
    if (is_due(looked_at))
        look();
}

/* Also while the pageserver is away. */
static void between_waits(void)
{
    loch_lease_watch();
    loch_page_key_look();
    loch_config_files_look();
    if (is_due(pressed_at))
        press();
}

/* What was edited just before a stop, and what is kept over it. */
static void look_once_more(int code, Datum arg)
{
    (void)code;
    (void)arg;
    pg_atomic_write_u64(&loch_shared->throttle_us, 0); /* nobody watches any more */
    if (!PostmasterIsAlive())
        return;
    loch_config_files_look();
    loch_prewarm_save();
    loch_stop_state_save();
    loch_free_space_save(false);
}

void loch_throttle_main(Datum arg)
{
    uint32 rounds = 0;

    (void)arg;
    watching = true;
    before_shmem_exit(look_once_more, 0);
    loch_wait_idle = between_waits;
    pqsignal(SIGTERM, die);
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    BackgroundWorkerUnblockSignals();
    loch_stop_state_consume();
    for (;;) {
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOOK_EVERY_MS,
                        PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
        loch_lease_watch();
        if (ConfigReloadPending) {
            ConfigReloadPending = false;
            ProcessConfigFile(PGC_SIGHUP);
            loch_cache_apply_size();
        }
        loch_page_key_look();
        loch_config_files_look();
        look();
        if (++rounds % REAP_EVERY_ROUNDS == 0)
            loch_overlay_reap();
        loch_prewarm_look();
    }
}

void loch_throttle_register(void)
{
    BackgroundWorker worker;

    if (max_worker_processes < WORKERS) /* without them nobody could ever log in */
        ereport(FATAL, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("loch: max_worker_processes is %d: Loch's own workers need %d",
                               max_worker_processes, WORKERS),
                        errhint("Stop it, start it with --set max_worker_processes=8, then ALTER "
                                "SYSTEM RESET max_worker_processes.")));
    loch_config_files_look();
    previous_finish = ExecutorFinish_hook;
    ExecutorFinish_hook = on_executor_finish;
    memset(&worker, 0, sizeof worker);
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = 1;
    strlcpy(worker.bgw_library_name, "loch", sizeof worker.bgw_library_name);
    strlcpy(worker.bgw_function_name, "loch_throttle_main", sizeof worker.bgw_function_name);
    strlcpy(worker.bgw_name, "loch throttle", sizeof worker.bgw_name);
    strlcpy(worker.bgw_type, "loch throttle", sizeof worker.bgw_type);
    RegisterBackgroundWorker(&worker);
}
