/* Holds: when free memory of the heap goes back to the system. Source: mallopt(3), mallinfo2(3),
 * malloc_trim(3). */
#include "loch/host/heap.h"

#include "loch/base/log.h"

#include <malloc.h>

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

bool loch_heap_give_back(void)
{
    const struct mallinfo2 now = mallinfo2();

    /* Some of it will be wanted again at once. */
    if (now.fordblks < MUCH_BYTES || now.fordblks < now.uordblks / 8)
        return false;
    (void)malloc_trim(0);
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
