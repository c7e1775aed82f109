/* Holds: slabs of secret memory. Invariants: a free slot is all zero; a slab is never unmapped
 * while the process lives (its pages hold no secret once its slots are wiped); slabs lie in the
 * order of their addresses, and those below `first_free` are full. There are as many as the
 * secrets need: what bounds them is what bounds the keyrings, layers and connections that hold
 * them. Source: memfd_secret(2), mlock(2), madvise(2), prctl(2).
 */
#include "loch/base/secret.h"
#include "loch/base/check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SLAB_BYTES 65536u
#define SLAB_SLOTS (SLAB_BYTES / LOCH_SECRET_MAX_BYTES)

struct slab {
    uint8_t *base;
    uint64_t used[SLAB_SLOTS / 64];
};

static pthread_mutex_t slab_lock = PTHREAD_MUTEX_INITIALIZER;
static struct slab *slabs; /* under slab_lock, as all of these */
static size_t slab_count, slab_cap;
static size_t first_free;
static size_t in_use;
/* From the best to the worst, and that of the worst slab: any secret may be in it. */
static const char *const kinds[] = {"none yet", "memfd_secret", "mlock", "plain"};
enum { NONE_YET, IN_SECRET_FD, LOCKED, PLAIN };
static atomic_int backing = NONE_YET;
static bool inheritable;

void loch_wipe(void *bytes, size_t len)
{
    if (len > 0)
        explicit_bzero(bytes, len);
}

static void backed_by(int kind)
{
    if (kind > backing)
        backing = kind;
}

/* NULL: errno says why. */
static uint8_t *map_secret_memory(void)
{
    void *p = MAP_FAILED;
    int fd = inheritable ? -1 : (int)syscall(SYS_memfd_secret, 0);

    if (fd >= 0) {
        if (ftruncate(fd, SLAB_BYTES) == 0)
            p = mmap(NULL, SLAB_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        (void)close(fd);
        if (p != MAP_FAILED) {
            /* A child must never share these pages with us: writes would be seen by both. */
            if (madvise(p, SLAB_BYTES, MADV_DONTFORK) == 0) {
                backed_by(IN_SECRET_FD);
                return p;
            }
            (void)munmap(p, SLAB_BYTES);
        }
    }
    p = mmap(NULL, SLAB_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    backed_by(mlock(p, SLAB_BYTES) == 0 ? LOCKED : PLAIN);
    (void)madvise(p, SLAB_BYTES, MADV_DONTDUMP);
    return p;
}

static uint8_t *slot_take(struct slab *slab)
{
    for (size_t w = 0; w < SLAB_SLOTS / 64; w++) {
        if (slab->used[w] == UINT64_MAX)
            continue;
        unsigned bit = (unsigned)__builtin_ctzll(~slab->used[w]);
        slab->used[w] |= UINT64_C(1) << bit;
        return slab->base + (w * 64 + bit) * LOCH_SECRET_MAX_BYTES;
    }
    return NULL;
}

/* One more slab, in its place. false: errno says why there is none. */
static bool slab_add(void)
{
    if (slab_count == slab_cap) {
        const size_t cap = slab_cap == 0 ? 16 : slab_cap * 2;
        struct slab *more = realloc(slabs, cap * sizeof *more);
        if (more == NULL)
            return false;
        slabs = more;
        slab_cap = cap;
    }
    uint8_t *base = map_secret_memory();
    if (base == NULL)
        return false;
    size_t at = slab_count;
    for (; at > 0 && slabs[at - 1].base > base; at--)
        slabs[at] = slabs[at - 1];
    slabs[at] = (struct slab){.base = base};
    slab_count++;
    first_free = at; /* all the others are full: else there would be no need of it */
    return true;
}

/* The slab that the slot is in. */
static size_t slab_of(const uint8_t *slot)
{
    size_t low = 0;
    size_t high = slab_count;

    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (slabs[middle].base <= slot)
            low = middle;
        else
            high = middle;
    }
    LOCH_ASSERT(low < slab_count && slot >= slabs[low].base && slot < slabs[low].base + SLAB_BYTES);
    return low;
}

loch_status loch_secret_create(struct loch_secret *out, size_t len)
{
    uint8_t *p = NULL;

    if (len == 0 || len > LOCH_SECRET_MAX_BYTES)
        return LOCH_FAIL(LOCH_E_INVALID, "a secret has 1 to %u bytes, not %zu",
                         LOCH_SECRET_MAX_BYTES, len);
    (void)pthread_mutex_lock(&slab_lock);
    for (; first_free < slab_count && p == NULL; first_free += p == NULL)
        p = slot_take(&slabs[first_free]);
    const int why = p == NULL && !slab_add() ? errno : 0;
    if (p == NULL && why == 0)
        p = slot_take(&slabs[first_free]);
    const size_t held = p != NULL ? ++in_use : in_use;
    (void)pthread_mutex_unlock(&slab_lock);
    if (p == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for one more secret beside %zu: %s", held,
                         strerror(why));
    *out = (struct loch_secret){p, len};
    return LOCH_OK;
}

loch_status loch_secret_from(struct loch_secret *out, const void *bytes, size_t len)
{
    struct loch_secret s = {0};

    LOCH_TRY(loch_secret_create(&s, len));
    memcpy(s.bytes, bytes, len);
    *out = s;
    return LOCH_OK;
}

loch_status loch_secret_copy(struct loch_secret *out, const struct loch_secret *from)
{
    return loch_secret_from(out, from->bytes, from->len);
}

void loch_secret_fini(struct loch_secret *s)
{
    if (s->bytes == NULL)
        return;
    loch_wipe(s->bytes, LOCH_SECRET_MAX_BYTES);
    (void)pthread_mutex_lock(&slab_lock);
    const size_t at = slab_of(s->bytes);
    const size_t slot = (size_t)(s->bytes - slabs[at].base) / LOCH_SECRET_MAX_BYTES;
    LOCH_ASSERT((slabs[at].used[slot / 64] >> (slot % 64)) & 1);
    slabs[at].used[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
    in_use--;
    if (at < first_free)
        first_free = at;
    (void)pthread_mutex_unlock(&slab_lock);
    *s = (struct loch_secret){0};
}

_Bool loch_secret_equal(const struct loch_secret *a, const struct loch_secret *b)
{
    uint8_t diff = 0;

    if (a->len != b->len)
        return 0;
    for (size_t i = 0; i < a->len; i++)
        diff |= (uint8_t)(a->bytes[i] ^ b->bytes[i]);
    return diff == 0;
}

/* Whatever root does to limits later: a core of this process or of its children holds no memory,
 * only registers. Before PR_SET_DUMPABLE, which takes the file away from us. */
static void empty_cores(void)
{
    const int fd = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return; /* no procfs: what follows forbids cores altogether */
    const ssize_t n = write(fd, "0", 1);
    (void)n;
    (void)close(fd);
}

loch_status loch_process_harden(void)
{
    const struct rlimit none = {0, 0};

    empty_cores();
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || setrlimit(RLIMIT_CORE, &none) != 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot make the process undumpable: %s", strerror(errno));
    return LOCH_OK;
}

void loch_secret_keep_across_fork(void)
{
    LOCH_ASSERT(slab_count == 0);
    inheritable = true;
}

const char *loch_secret_backing(void)
{
    return kinds[backing];
}

size_t loch_secrets_in_use(void)
{
    (void)pthread_mutex_lock(&slab_lock);
    const size_t n = in_use;
    (void)pthread_mutex_unlock(&slab_lock);
    return n;
}
