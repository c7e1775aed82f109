/* What the kernel has of streams that are closed here. */
#ifndef LOCH_TESTS_KERNEL_QUEUE_H
#define LOCH_TESTS_KERNEL_QUEUE_H

#include "unit.h"

#include <stdint.h>
#include <stdio.h>

/* Whether it still has bytes to send from this local TCP port (IPv4). */
static inline bool kernel_has_bytes_from(uint16_t port)
{
    char line[256];
    bool any = false;
    FILE *f = fopen("/proc/net/tcp", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL) {
        unsigned local = 0, queued = 0;
        if (sscanf(line, "%*d: %*[0-9A-F]:%x %*[0-9A-F]:%*x %*x %x:", &local, &queued) == 2)
            any = any || (local == port && queued > 0);
    }
    (void)fclose(f);
    return any;
}

#endif
