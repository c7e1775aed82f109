/* Holds: a process stopped at the door of XLogInsert, with its pages changed and no record of it
 * yet: for tests of what others may do with those pages meanwhile. Compiled only with
 * LOCH_TEST_SWITCHES.
 *
 * A breakpoint in this process's own copy of the code, as a debugger's: whoever comes to it with
 * another record takes one step without it. */
#include "postgres.h"

#include "compat/export.h"

#if defined(LOCH_TEST_SWITCHES) && defined(__x86_64__)

#include "access/relation.h"
#include "access/xloginsert.h"
#include "access/xlogrecord.h"
#include "fmgr.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define BREAKPOINT 0xCCu
#define TRAP_FLAG  0x100
#define PAUSED     "loch.test_paused" /* while a process is stopped; removed, it goes on */
#define LOOK_NS    1000000

PG_FUNCTION_INFO_V1(loch_test_pause_at);
PG_FUNCTION_INFO_V1(loch_test_is_paused);
PG_FUNCTION_INFO_V1(loch_test_resume);
PG_FUNCTION_INFO_V1(loch_test_write_map);
PG_FUNCTION_INFO_V1(loch_test_evict_map);
PGDLLEXPORT Datum loch_test_pause_at(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum loch_test_is_paused(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum loch_test_resume(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum loch_test_write_map(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum loch_test_evict_map(PG_FUNCTION_ARGS);

static volatile unsigned char *door;
static unsigned char instruction; /* what the breakpoint lies over */
static unsigned rmid_wanted, info_wanted;
static bool stepping;

static void wait_here(void)
{
    static const struct timespec look = {0, LOOK_NS};
    int fd = open(PAUSED, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    if (fd >= 0)
        (void)close(fd);
    while (access(PAUSED, F_OK) == 0)
        (void)nanosleep(&look, NULL);
}

/* At the door, XLogInsert(rmid, info) has its arguments in the first two registers. */
static void on_trap(int number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;

    (void)number;
    (void)info;
    if (stepping) {
        stepping = false;
        registers[REG_EFL] &= ~(greg_t)TRAP_FLAG;
        *door = BREAKPOINT;
        return;
    }
    *door = instruction;
    registers[REG_RIP]--;
    if ((registers[REG_RDI] & 0xFF) == rmid_wanted &&
        (registers[REG_RSI] & XLR_RMGR_INFO_MASK) == info_wanted) {
        wait_here(); /* once */
        return;
    }
    stepping = true;
    registers[REG_EFL] |= TRAP_FLAG;
}

/* This process stops before its next record of this resource manager and kind. */
Datum loch_test_pause_at(PG_FUNCTION_ARGS)
{
    const uintptr_t page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    uintptr_t page;

    door = (volatile unsigned char *)(uintptr_t)XLogInsert;
    page = (uintptr_t)door & ~(page_bytes - 1);
    rmid_wanted = (unsigned)PG_GETARG_INT32(0);
    info_wanted = (unsigned)PG_GETARG_INT32(1);
    if (sigaction(SIGTRAP, &action, NULL) != 0 ||
        mprotect((void *)page, page_bytes, PROT_READ | PROT_WRITE | PROT_EXEC) != 0)
        ereport(ERROR, (errmsg("no breakpoint: %m")));
    instruction = *door;
    *door = BREAKPOINT;
    PG_RETURN_VOID();
}

Datum loch_test_is_paused(PG_FUNCTION_ARGS)
{
    (void)fcinfo;
    PG_RETURN_BOOL(access(PAUSED, F_OK) == 0);
}

Datum loch_test_resume(PG_FUNCTION_ARGS)
{
    (void)fcinfo;
    if (unlink(PAUSED) != 0)
        ereport(ERROR, (errmsg("nobody is paused: %m")));
    PG_RETURN_VOID();
}

/* Writes a visibility map's first page out, as a checkpoint would; without a lock on the relation,
 * which the paused process may have. */
Datum loch_test_write_map(PG_FUNCTION_ARGS)
{
    Relation rel = relation_open(PG_GETARG_OID(0), NoLock);
    Buffer buffer = ReadBufferExtended(rel, VISIBILITYMAP_FORKNUM, 0, RBM_NORMAL, NULL);

    LockBuffer(buffer, BUFFER_LOCK_SHARE);
    FlushOneBuffer(buffer);
    UnlockReleaseBuffer(buffer);
    relation_close(rel, NoLock);
    PG_RETURN_VOID();
}

/* Forgets the buffers of a visibility map, which must not be dirty. */
Datum loch_test_evict_map(PG_FUNCTION_ARGS)
{
    Relation rel = relation_open(PG_GETARG_OID(0), AccessShareLock);
    ForkNumber fork = VISIBILITYMAP_FORKNUM;
    BlockNumber from = 0;

    DropRelFileNodeBuffers(RelationGetSmgr(rel), &fork, 1, &from);
    relation_close(rel, AccessShareLock);
    PG_RETURN_VOID();
}

#endif
