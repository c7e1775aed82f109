/* Entry of the redo worker: loaded by shared_preload_libraries into `postgres --single`, it takes
 * the process over in _PG_init, builds the few parts of shared memory that redo needs, and serves.
 *
 * Without LOCH_REDO_FD in the environment the library does nothing.
 * Source of the order of calls: PostgreSQL 15 src/backend/storage/ipc/ipci.c,
 * access/transam/xlog.c.
 */
#include "worker.h"

#include <sys/mman.h>

#include "access/rmgr.h"
#include "access/twophase.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogutils.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/autovacuum.h"
#include "replication/walsender.h"
#include "storage/buf_internals.h"
#include "storage/bufmgr.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/pg_shmem.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "loch/base/secret.h"
#include "redo_protocol.h"

/* The build hides symbols; PostgreSQL 15's headers do not mark these two. */
#pragma GCC visibility push(default)
PG_MODULE_MAGIC;
void _PG_init(void);
#pragma GCC visibility pop

/* Struct layouts may change in a minor release: only the build's own minor is trusted. */
static void check_version(void)
{
    const char *running = GetConfigOption("server_version_num", false, false);

    if (atoi(running) != PG_VERSION_NUM)
        ereport(FATAL, (errmsg("loch_redo was built for PostgreSQL %d, this server is %s",
                               PG_VERSION_NUM, running),
                        errhint("Build Loch again with the installed server's headers.")));
}

static void set_sizes(void)
{
    MaxConnections = 1;
    max_worker_processes = 0;
    max_wal_senders = 0;
    max_prepared_xacts = 0;
    autovacuum_max_workers = 1;
    MaxBackends = 4;
    NBuffers = 64;
    XLOGbuffers = 4; /* -1 would make XLOGShmemSize call SetConfigOption */
}

static void create_shared_memory(void)
{
    int semaphores;
    Size size = CalculateShmemSize(&semaphores);
    PGShmemHeader *header =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (header == MAP_FAILED)
        elog(FATAL, "redo worker: no memory for %zu bytes: %m", size);
    header->magic = PGShmemMagic;
    header->creatorPID = getpid();
    header->totalsize = size;
    header->freeoffset = MAXALIGN(sizeof(PGShmemHeader));
    UsedShmemSegAddr = header;
    InitShmemAccess(header);
    InitShmemAllocation();
    CreateLWLocks();
    InitShmemIndex();
    XLOGShmemInit();
    InitBufferPool();
    /* ConditionVariableBroadcast looks at it. */
    MyProc = MemoryContextAllocZero(TopMemoryContext, sizeof(PGPROC));
    InitBufferPoolAccess();
}

void _PG_init(void)
{
    const char *hints = getenv(LOCH_REDO_ENV_HINTS);

    if (getenv(LOCH_REDO_ENV) == NULL)
        return;
    check_version();
    if (!loch_is_ok(loch_process_harden()))
        elog(FATAL, "redo worker: cannot be made undumpable");
    set_sizes();
    create_shared_memory();
    pages_install();
    SetProcessingMode(NormalProcessing);
    InRecovery = true;
    wal_log_hints = hints != NULL && hints[0] == '1';
    CurrentResourceOwner = ResourceOwnerCreate(NULL, "loch redo");
    RmgrStartup();
    apply_init();
    serve_catch_errors();
    sandbox_enter();
    serve();
}
