/* Holds: sizing and making the extension's shared memory. */
#include "shared.h"

#include "cid_overlay.h"
#include "free_space.h"
#include "known_absent.h"
#include "local_cache.h"
#include "settings.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/shmem.h"

#define TRANCHE "loch"

#define LOCKS (2 + LOCH_CACHE_PARTS + LOCH_CREATE_LOCKS)

struct loch_shared *loch_shared;
struct loch_process *loch_processes;
HTAB *loch_overlay_table;
HTAB *loch_absent_table;
LWLock *loch_overlay_lock;
LWLock *loch_absent_lock;

static LWLockPadded *create_locks;
static shmem_request_hook_type previous_request;
static shmem_startup_hook_type previous_startup;
static void (*ready_callback)(void);

LWLock *loch_create_lock(uint32 hash)
{
    return &create_locks[hash % LOCH_CREATE_LOCKS].lock;
}

uint32 loch_process_count(void)
{
    return (uint32)(MaxBackends + NUM_AUXILIARY_PROCS);
}

struct loch_process *loch_own_process(void)
{
    static struct loch_process nobodys;
    static struct loch_process *own;
    static pid_t owner;

    if (owner == MyProcPid && own != NULL)
        return own;
    if (MyProc == NULL || (uint32)MyProc->pgprocno >= loch_process_count())
        return &nobodys;
    owner = MyProcPid;
    own = &loch_processes[MyProc->pgprocno];
    pg_atomic_write_u32(&own->pid, 0);
    pg_atomic_write_u64(&own->connected_at, 0);
    pg_atomic_write_u64(&own->last_read_us, 0);
    pg_atomic_write_u64(&own->longest_read_us, 0);
    for (size_t i = 0; i < LOCH_COUNTER_COUNT; i++)
        pg_atomic_write_u64(&own->counters[i], 0);
    pg_atomic_write_u32(&own->pid, (uint32)owner);
    return own;
}

/* Room for those that are never forgotten, one for each process. */
static long absent_most(void)
{
    return (long)LOCH_ABSENT_MAX + (long)loch_process_count();
}

static void request_memory(void)
{
    if (previous_request != NULL)
        previous_request();
    RequestAddinShmemSpace(sizeof(struct loch_shared));
    RequestAddinShmemSpace(hash_estimate_size(LOCH_OVERLAY_MAX, sizeof(struct cid_overlay)));
    RequestAddinShmemSpace(hash_estimate_size(absent_most(), sizeof(struct known_absent)));
    RequestAddinShmemSpace(loch_process_count() * sizeof(struct loch_process));
    RequestAddinShmemSpace(loch_cache_shared_bytes());
    RequestAddinShmemSpace(loch_free_space_shared_bytes());
    RequestNamedLWLockTranche(TRANCHE, LOCKS);
}

/* What else is in it begins as the zeros that fresh shared memory is made of; it is made once, for
 * a crash ends the server (restart_after_crash=off). */
static void init_shared(struct loch_shared *s)
{
    pg_atomic_init_u64(&s->floor_lsn, loch_settings.start_lsn_value);
    pg_atomic_init_u64(&s->throttle_us, 0);
    pg_atomic_init_u64(&s->throttle_round, 0);
    pg_atomic_init_u64(&s->overlay_count, 0);
    pg_atomic_init_u64(&s->overlay_full_at, 0);
    pg_atomic_init_u64(&s->last_born, 0);
    pg_atomic_init_u64(&s->config_wanted, 0);
    pg_atomic_init_u64(&s->config_done, 0);
    pg_atomic_init_u64(&s->config_lsn, InvalidXLogRecPtr);
    for (size_t i = 0; i < LOCH_COUNTER_COUNT; i++)
        pg_atomic_init_u64(&s->counters[i], 0);
}

static HTAB *init_table(const char *name, long size, Size key_bytes, Size entry_bytes)
{
    HASHCTL control;

    memset(&control, 0, sizeof control);
    control.keysize = key_bytes;
    control.entrysize = entry_bytes;
    return ShmemInitHash(name, size, size, &control, HASH_ELEM | HASH_BLOBS);
}

static void make_memory(void)
{
    bool found;
    LWLockPadded *locks;
    struct loch_shared *s;

    if (previous_startup != NULL)
        previous_startup();
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    s = ShmemInitStruct("loch", sizeof(struct loch_shared), &found);
    if (!found)
        init_shared(s);
    loch_overlay_table = init_table("loch command ids", LOCH_OVERLAY_MAX,
                                    sizeof(struct cid_overlay_key), sizeof(struct cid_overlay));
    loch_absent_table = init_table("loch absent forks", absent_most(), sizeof(RelFileNode),
                                   sizeof(struct known_absent));
    loch_processes = ShmemInitStruct("loch processes",
                                     loch_process_count() * sizeof(struct loch_process), &found);
    locks = GetNamedLWLockTranche(TRANCHE);
    loch_overlay_lock = &locks[0].lock;
    loch_absent_lock = &locks[1].lock;
    create_locks = &locks[2];
    loch_cache_make(&locks[2 + LOCH_CREATE_LOCKS]);
    loch_free_space_make();
    LWLockRelease(AddinShmemInitLock);
    loch_shared = s;
    if (!IsUnderPostmaster && ready_callback != NULL)
        ready_callback();
}

void loch_shared_register(void (*ready)(void))
{
    ready_callback = ready;
    previous_request = shmem_request_hook;
    shmem_request_hook = request_memory;
    previous_startup = shmem_startup_hook;
    shmem_startup_hook = make_memory;
}
