/* Holds: the worker that watches the lag, and the sleep.
 *
 * The only callback a stock server gives us inside CHECK_FOR_INTERRUPTS is this: a worker emits
 * PROCSIGNAL_BARRIER_SMGRRELEASE, every process absorbs it at its next safe point by closing its
 * storage manager files, and that comes through our close. Source: storage/ipc/procsignal.c. */
#include "throttle.h"

#include "postgres.h"

#include "compat/export.h"

#include "cid_overlay.h"
#include "config_files.h"
#include "last_lsn.h"
#include "local_cache.h"
#include "page_client.h"
#include "settings.h"
#include "shared.h"
#include "wait.h"

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

#define LOOK_EVERY_MS     100
#define REAP_EVERY_ROUNDS 10u
#define SLEEP_FIRST_US    1000u
#define SLEEP_MOST_US                                                                              \
    5000000u /* so much longer than the time between looks that writing all but stops */
#define SLICE_US 10000u

PGDLLEXPORT void loch_throttle_main(Datum arg) pg_attribute_noreturn();

static uint64 round_seen;
static uint64 wal_bytes_seen;

void loch_throttle_maybe_sleep(void)
{
    uint64 us, round;

    if (loch_shared == NULL || InterruptHoldoffCount > 0 || CritSectionCount > 0 ||
        (MyBackendType != B_BACKEND && MyBackendType != B_BG_WORKER))
        return;
    us = pg_atomic_read_u64(&loch_shared->throttle_us);
    round = pg_atomic_read_u64(&loch_shared->throttle_round);
    if (us == 0 || round == round_seen)
        return;
    round_seen = round;
    if (pgWalUsage.wal_bytes == wal_bytes_seen)
        return;
    wal_bytes_seen = pgWalUsage.wal_bytes;
    loch_count(throttled);
    /* Until the lag is gone, a cancel has come, or the time is up. */
    for (uint64 slept = 0; slept < us; slept += SLICE_US) {
        if (QueryCancelPending || ProcDiePending ||
            pg_atomic_read_u64(&loch_shared->throttle_us) == 0)
            break;
        pg_usleep((long)Min(us - slept, SLICE_US));
    }
}

/* A pageserver that does not answer stays where it was last seen, so writers are slowed for it too.
 */
static uint64 lag_bytes(void)
{
    static XLogRecPtr seen;
    struct loch_page_status_reply status = {0};
    XLogRecPtr here = loch_insert_lsn();

    if (loch_page_client_try_status(&status))
        seen = status.last_record_lsn;
    seen = Max(seen, loch_settings.start_lsn_value);
    return here > seen ? here - seen : 0;
}

static void look(void)
{
    uint64 us = pg_atomic_read_u64(&loch_shared->throttle_us);

    if (loch_settings.max_lag_kb <= 0 ||
        lag_bytes() <= (uint64)loch_settings.max_lag_kb * UINT64_C(1024)) {
        pg_atomic_write_u64(&loch_shared->throttle_us, 0);
        return;
    }
    us = us == 0 ? SLEEP_FIRST_US : Min(us * 2, SLEEP_MOST_US);
    pg_atomic_write_u64(&loch_shared->throttle_us, us);
    pg_atomic_fetch_add_u64(&loch_shared->throttle_round, 1);
    (void)EmitProcSignalBarrier(PROCSIGNAL_BARRIER_SMGRRELEASE);
}

/* What was edited just before a stop. */
static void look_once_more(int code, Datum arg)
{
    (void)code;
    (void)arg;
    if (PostmasterIsAlive())
        loch_config_files_look();
}

void loch_throttle_main(Datum arg)
{
    uint32 rounds = 0;

    (void)arg;
    before_shmem_exit(look_once_more, 0);
    loch_wait_idle = loch_config_files_look; /* also while the pageserver is away */
    pqsignal(SIGTERM, die);
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    BackgroundWorkerUnblockSignals();
    for (;;) {
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOOK_EVERY_MS,
                        PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
        if (ConfigReloadPending) {
            ConfigReloadPending = false;
            ProcessConfigFile(PGC_SIGHUP);
            loch_cache_apply_size();
        }
        loch_config_files_look();
        look();
        if (++rounds % REAP_EVERY_ROUNDS == 0)
            loch_overlay_reap();
    }
}

void loch_throttle_register(void)
{
    BackgroundWorker worker;

    loch_config_files_look();
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
