/* Holds: the mapped lease. Checked at the start of every statement and at every page that comes
 * from outside of shared buffers; and the throttle's worker looks at it all the time, for what runs
 * on without either: a sort, a COPY, a WAL sender, a session that waits. */
#include "lease.h"

#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const _Atomic uint64 *until_ns; /* NULL: nobody keeps a lease */
static ExecutorStart_hook_type previous_start;

static bool is_over(void)
{
    struct timespec now;

    if (until_ns == NULL || clock_gettime(CLOCK_BOOTTIME, &now) != 0)
        return false;
    return (uint64)now.tv_sec * 1000000000u + (uint64)now.tv_nsec >=
           atomic_load_explicit(until_ns, memory_order_relaxed);
}

void loch_lease_watch(void)
{
    if (!is_over())
        return;
    ereport(LOG,
            (errmsg("loch: the lease on the tenant's key has run out: the server ends at once")));
    /* A commit that waits for the quorum, say, ends by nothing less. */
    if (kill(PostmasterPid, SIGQUIT) != 0)
        ereport(LOG, (errmsg("loch: cannot end the server: %m")));
}

void loch_lease_check(void)
{
    if (!is_over())
        return;
    ereport(FATAL,
            (errcode(ERRCODE_CANNOT_CONNECT_NOW),
             errmsg("loch: the lease on the tenant's key has run out"),
             errdetail("The compute's agent has not heard from any safekeeper for the lease, "
                       "or does not run.")));
}

static void on_executor_start(QueryDesc *query, int flags)
{
    loch_lease_check();
    if (previous_start != NULL)
        previous_start(query, flags);
    else
        standard_ExecutorStart(query, flags);
}

void loch_lease_register(void)
{
    char path[MAXPGPATH];
    struct stat sb;
    void *map;
    int fd;

    snprintf(path, sizeof path, "%s/../lease", DataDir);
    fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    map = fstat(fd, &sb) == 0 && sb.st_size == sizeof *until_ns
              ? mmap(NULL, sizeof *until_ns, PROT_READ, MAP_SHARED, fd, 0)
              : MAP_FAILED;
    (void)close(fd);
    if (map == MAP_FAILED)
        ereport(FATAL, (errmsg("loch: cannot map the lease in %s", path)));
    until_ns = map;
    previous_start = ExecutorStart_hook;
    ExecutorStart_hook = on_executor_start;
}
