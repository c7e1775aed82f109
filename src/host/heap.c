/* Holds: when free memory of the heap goes back to the system. What was given back still counts as
 * free space of the heap (the arenas keep their addresses), so resident memory says whether there
 * is anything behind it. Source: mallopt(3), mallinfo2(3), malloc_trim(3), proc(5) statm. */
#include "loch/host/heap.h"

#include "loch/base/log.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#define LOOK_MS     5000u
#define MUCH_BYTES  ((size_t)8 << 20)
#define LARGE_BYTES (1 << 20) /* and above: a mapping of its own */

void loch_heap_setup(void)
{
    /* Fixed, for by itself it rises to 32 MiB with what is freed, and what is kept rises with it.
     */
    (void)mallopt(M_MMAP_THRESHOLD, LARGE_BYTES);
    (void)mallopt(M_TRIM_THRESHOLD, 2 * LARGE_BYTES);
}

/* Memory of our own that is in use, of the heap or not; SIZE_MAX: cannot be told. */
static size_t resident_bytes(void)
{
    char text[128];
    unsigned long resident = 0, shared = 0;
    const int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    if (fd >= 0)
        (void)close(fd);
    if (n <= 0)
        return SIZE_MAX;
    text[n] = '\0';
    if (sscanf(text, "%*u %lu %lu", &resident, &shared) != 2 || resident < shared)
        return SIZE_MAX;
    return (resident - shared) * (size_t)sysconf(_SC_PAGESIZE);
}

bool loch_heap_give_back(void)
{
    static atomic_size_t kept_bytes; /* resident after the last time, or fewer since */
    const struct mallinfo2 now = mallinfo2();
    const size_t resident = resident_bytes();

    if (resident < atomic_load(&kept_bytes))
        atomic_store(&kept_bytes, resident);
    /* Some of it will be wanted again at once. */
    if (now.fordblks < MUCH_BYTES || now.fordblks < now.uordblks / 8 ||
        resident - atomic_load(&kept_bytes) < MUCH_BYTES)
        return false;
    (void)malloc_trim(0);
    const size_t left = resident_bytes();
    atomic_store(&kept_bytes, left != SIZE_MAX ? left : 0);
    return true;
}

static void look(void *arg)
{
    (void)arg;
    (void)loch_heap_give_back();
}

static void fired(void *arg);

static void again(void *arg)
{
    struct loch_heap *heap = arg;

    if (!loch_is_ok(loch_env_timer(heap->env, LOOK_MS, &heap->timer, fired, heap)))
        loch_log_failure("free memory stays with the daemon");
}

static void fired(void *arg)
{
    struct loch_heap *heap = arg;

    heap->timer = NULL;
    if (!loch_is_ok(loch_env_work(heap->env, look, again, heap)))
        again(heap);
}

loch_status loch_heap_tend(struct loch_heap *heap, struct loch_env *env)
{
    *heap = (struct loch_heap){.env = env};
    return loch_env_timer(env, LOOK_MS, &heap->timer, fired, heap);
}
