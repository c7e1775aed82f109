/* Holds: the allocator behind OpenSSL.
 *
 * Blocks of fixed sizes (powers of two and the halves between) are cut from regions of anonymous
 * memory that are locked and excluded from dumps; a freed block is wiped and waits for the next of
 * its size. Larger blocks have a region of their own, unmapped when freed. Invariants: a free block
 * is all zero behind its header; regions of fixed sizes are never unmapped. Source:
 * CRYPTO_set_mem_functions(3), mlock(2), madvise(2).
 */
#include "loch/crypto/memory.h"
#include "loch/base/check.h"
#include "loch/base/secret.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#define REGION_BYTES ((size_t)256 << 10)
#define CLASSES      22u
#define CLASS_LEAST  32u
#define OWN_REGION   UINT32_C(0xFFFFFFFF)
#define LINK_BYTES   sizeof(void *)
#define BLOCK_MAGIC  UINT32_C(0x4C6F6368)
#define ALIGNED(n_)  (((n_) + 15u) & ~(size_t)15u)

/* Before every block; 16 bytes keep the alignment that malloc promises. */
struct block {
    uint32_t class; /* index of its size, or OWN_REGION */
    uint32_t magic;
    size_t len; /* asked for */
};

static_assert(sizeof(struct block) == 16, "blocks stay aligned");

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct block *free_list[CLASSES];
static uint8_t *region;
static size_t region_left;
static struct loch_crypto_memory now;

/* 32, 48, 64, 96, ... 65536 */
static size_t class_bytes(uint32_t class)
{
    const size_t base = (size_t)CLASS_LEAST << (class / 2);

    return class % 2 == 0 ? base : base + base / 2;
}

static uint32_t class_of(size_t bytes)
{
    uint32_t class = 0;

    while (class < CLASSES && class_bytes(class) < bytes)
        class ++;
    return class < CLASSES ? class : OWN_REGION;
}

/* Under lock. */
static uint8_t *map_region(size_t bytes)
{
    uint8_t *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    (void)madvise(p, bytes, MADV_DONTDUMP);
    if (mlock(p, bytes) == 0)
        now.locked_bytes += bytes;
    now.held_bytes += bytes;
    return p;
}

/* A free block keeps the address of the next one in its first bytes. */
static struct block *link_of(struct block *b)
{
    struct block *next;

    memcpy(&next, b + 1, LINK_BYTES);
    return next;
}

/* Under lock. */
static struct block *block_take(uint32_t class)
{
    struct block *b = free_list[class];
    const size_t bytes = class_bytes(class) + sizeof *b;

    if (b != NULL) {
        free_list[class] = link_of(b);
        memset(b + 1, 0, LINK_BYTES);
        return b;
    }
    if (region_left < bytes) {
        uint8_t *p = map_region(REGION_BYTES);
        if (p == NULL)
            return NULL;
        region = p;
        region_left = REGION_BYTES;
    }
    b = (struct block *)(void *)region;
    region += bytes;
    region_left -= bytes;
    return b;
}

static void *memory_alloc(size_t len, const char *file, int line)
{
    struct block *b;
    size_t total;

    (void)file;
    (void)line;
    if (len == 0 || !loch_add_size(len, sizeof *b + 4096, &total))
        return NULL;
    const uint32_t class = class_of(len);
    (void)pthread_mutex_lock(&lock);
    if (class == OWN_REGION)
        b = (struct block *)(void *)map_region(ALIGNED(len) + sizeof *b);
    else
        b = block_take(class);
    if (b != NULL)
        now.used_bytes += len;
    (void)pthread_mutex_unlock(&lock);
    if (b == NULL)
        return NULL;
    b->class = class;
    b->magic = BLOCK_MAGIC;
    b->len = len;
    return b + 1;
}

static struct block *block_of(void *p)
{
    struct block *b = (struct block *)p - 1;

    LOCH_ASSERT(b->magic == BLOCK_MAGIC);
    return b;
}

static void memory_free(void *p, const char *file, int line)
{
    (void)file;
    (void)line;
    if (p == NULL)
        return;
    struct block *b = block_of(p);
    loch_wipe(p, b->len);
    b->magic = 0;
    (void)pthread_mutex_lock(&lock);
    now.used_bytes -= b->len;
    if (b->class == OWN_REGION) {
        const size_t bytes = ALIGNED(b->len) + sizeof *b;
        now.held_bytes -= bytes;
        now.locked_bytes -= now.locked_bytes >= bytes ? bytes : now.locked_bytes;
        (void)munmap(b, bytes);
    } else {
        memcpy(p, &free_list[b->class], LINK_BYTES);
        free_list[b->class] = b;
    }
    (void)pthread_mutex_unlock(&lock);
}

static void *memory_realloc(void *p, size_t len, const char *file, int line)
{
    if (p == NULL)
        return memory_alloc(len, file, line);
    if (len == 0) {
        memory_free(p, file, line);
        return NULL;
    }
    struct block *b = block_of(p);
    void *q = memory_alloc(len, file, line);
    if (q == NULL)
        return NULL;
    memcpy(q, p, b->len < len ? b->len : len);
    memory_free(p, file, line);
    return q;
}

loch_status loch_crypto_memory_init(void)
{
    if (CRYPTO_set_mem_functions(memory_alloc, memory_realloc, memory_free) != 1)
        return LOCH_FAIL(LOCH_E_INVALID, "OpenSSL is in use already: its memory stays as it is");
    return LOCH_OK;
}

struct loch_crypto_memory loch_crypto_memory_now(void)
{
    (void)pthread_mutex_lock(&lock);
    const struct loch_crypto_memory copy = now;
    (void)pthread_mutex_unlock(&lock);
    return copy;
}
