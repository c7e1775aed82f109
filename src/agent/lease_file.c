#include "lease_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct loch_lease_file {
    _Atomic uint64_t *until_ns;
};

loch_status loch_lease_file_create(const char *pgdata, uint64_t until_ns,
                                   struct loch_lease_file **out)
{
    char path[700];
    loch_status st = LOCH_OK;
    struct loch_lease_file *file = calloc(1, sizeof *file);

    if (file == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for the lease of the server's processes");
    (void)snprintf(path, sizeof path, "%s/../lease", pgdata);
    const int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    void *map = MAP_FAILED;
    if (fd >= 0 && fchmod(fd, 0644) == 0 &&
        pwrite(fd, &until_ns, sizeof until_ns, 0) == (ssize_t)sizeof until_ns)
        map = mmap(NULL, sizeof until_ns, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        st = LOCH_FAIL(LOCH_E_IO, "cannot make %s: %s", path, strerror(errno));
    if (fd >= 0)
        (void)close(fd);
    if (!loch_is_ok(st)) {
        free(file);
        return st;
    }
    file->until_ns = map;
    *out = file;
    return LOCH_OK;
}

void loch_lease_file_renew(struct loch_lease_file *file, uint64_t until_ns)
{
    atomic_store_explicit(file->until_ns, until_ns, memory_order_relaxed);
}

void loch_lease_file_close(struct loch_lease_file *file)
{
    if (file == NULL)
        return;
    (void)munmap((void *)(uintptr_t)file->until_ns, sizeof *file->until_ns);
    free(file);
}
