/* Holds: what a process of the server asks of the kernel for the postmaster's death.
 *
 * PostgreSQL asks for a signal, in each process first of all, and looks whether it came where it
 * waits (storage/ipc/pmsignal.c, PostmasterDeathSignalInit): a process that computes, or sends to a
 * client that reads fast, would go on for as long as its statement takes, without an agent, a lease
 * or a worker that watches. No hook stands there; its call of prctl is made ours, in the
 * executable's table of addresses. Programs that are started (COPY ... PROGRAM) do not come by. */
#include "orphan.h"

#include "postgres.h"

#include "report.h"

#include "miscadmin.h"

#include "loch/pg/seam.h"

#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <unistd.h>

/* In place of the executable's prctl(2). */
static int ask_kernel(int option, ...)
{
    unsigned long a[4];
    va_list list;

    va_start(list, option);
    for (size_t i = 0; i < lengthof(a); i++)
        a[i] = va_arg(list, unsigned long);
    va_end(list);
    if (option != PR_SET_PDEATHSIG)
        return prctl(option, a[0], a[1], a[2], a[3]);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        return -1;
    if (getppid() != PostmasterPid) /* it has died before we asked */
        _exit(1);
    return 0;
}

void loch_orphan_register(void)
{
    int (*const stock)(int, ...) = prctl;
    int (*const ours)(int, ...) = ask_kernel;
    const void *pointer;
    void **place = NULL;

    memcpy(&pointer, &stock, sizeof pointer);
    loch_require(loch_seam_find(&pointer, 1, &place), "finding the server's call of prctl");
    memcpy(&pointer, &ours, sizeof pointer);
    loch_require(loch_seam_write(place, &pointer, 1), "replacing the server's call of prctl");
}
