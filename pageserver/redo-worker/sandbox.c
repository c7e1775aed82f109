/* The sandbox: WAL is hostile input from a SQL superuser, so a worker may read, write, wait and
 * end.
 *
 * Written as a raw filter, not with libseccomp, whose load allocates and links into the server.
 * Memory is set aside before, because brk, mmap and munmap end the process afterwards.
 */
#include "worker.h"

#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define HEAP_RESERVE ((size_t)24 << 20)

#define ALLOW_CALL(number_)                                                                        \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number_), 0, 1),                                          \
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void reserve_heap(void)
{
    char *reserve;

    if (mallopt(M_MMAP_MAX, 0) != 1 || mallopt(M_TRIM_THRESHOLD, INT_MAX) != 1)
        elog(FATAL, "redo worker: mallopt failed");
    reserve = malloc(HEAP_RESERVE);
    if (reserve == NULL)
        elog(FATAL, "redo worker: no memory for the heap reserve");
    free(reserve);
}

void sandbox_enter(void)
{
    static struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW_CALL(SYS_read),
        ALLOW_CALL(SYS_write),
        ALLOW_CALL(SYS_futex),
        ALLOW_CALL(SYS_exit_group),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {.len = lengthof(filter), .filter = filter};

    reserve_heap();
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        elog(FATAL, "redo worker: cannot enter the sandbox: %m");
}
