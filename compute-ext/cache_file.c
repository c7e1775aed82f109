/* Holds: the file, the keys, and the two contexts of a process.
 *
 * Invariants: the boot key is made before anything forks and leaves no process; key number n is
 * HKDF(boot key, n), used for counters whose upper 32 bits are n; a counter is taken once, also
 * when the write that it was taken for fails. */
#include "cache_file.h"

#include "shared.h"

#include "miscadmin.h"

#include "loch/crypto/hkdf.h"
#include "loch/crypto/random.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define NONCE_DOMAIN UINT32_C(0x0001cac4)
#define AAD_BYTES    32
/* Left free for WAL, spills and temporary files: an eighth, and at least so much. */
#define RESERVE_LEAST_BYTES (UINT64_C(512) << 20)

static int file = -1;
static struct loch_secret boot_key;

/* A context and the number of its key; made on first use in every process. */
struct context {
    struct loch_aead *aead;
    uint64 key_number;
};

static struct context sealing, opening;
static uint8_t block[BLCKSZ + LOCH_AEAD_TAG_BYTES];

loch_status loch_cache_file_create(const char *directory)
{
    char path[MAXPGPATH];

    LOCH_TRY(loch_random_secret(&boot_key, LOCH_AEAD_KEY_BYTES));
    snprintf(path, sizeof path, "%s/loch-cache.%d", directory[0] == '\0' ? DataDir : directory,
             MyProcPid);
    file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot create %s: %s", path, strerror(errno));
    if (unlink(path) != 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot remove the name %s: %s", path, strerror(errno));
    return LOCH_OK;
}

static loch_status use_key(struct context *c, enum loch_aead_use use, uint64 key_number)
{
    uint8_t info[16] = "loch-lfc";
    struct loch_secret key = {0};
    loch_status st;

    if (c->aead != NULL && c->key_number == key_number)
        return LOCH_OK;
    loch_aead_destroy(c->aead);
    c->aead = NULL;
    loch_put_u64(info + 8, key_number);
    LOCH_TRY(loch_hkdf(LOCH_HASH_SHA256, &boot_key, loch_slice_of(NULL, 0),
                       loch_slice_of(info, sizeof info), LOCH_AEAD_KEY_BYTES, &key));
    st = loch_aead_create(&key, use, &c->aead);
    loch_secret_fini(&key);
    c->key_number = key_number;
    return st;
}

static void put_aad(uint8_t out[AAD_BYTES], const struct loch_cache_tag *tag, XLogRecPtr lsn,
                    uint64 place)
{
    loch_put_u32(out, tag->spc);
    loch_put_u32(out + 4, tag->db);
    loch_put_u32(out + 8, tag->rel);
    loch_put_u32(out + 12, tag->block);
    loch_put_u64(out + 16, lsn);
    loch_put_u64(out + 24, place);
}

loch_status loch_cache_file_seal(pg_atomic_uint64 *counter, const struct loch_cache_tag *tag,
                                 XLogRecPtr lsn, uint64 place, const char *page,
                                 struct loch_cache_seal *seal)
{
    uint64 mine = pg_atomic_fetch_add_u64(counter, 1);
    uint8_t aad[AAD_BYTES];
    struct loch_slice bound = loch_slice_of(aad, sizeof aad);

    put_aad(aad, tag, lsn, place);
    LOCH_TRY(use_key(&sealing, LOCH_AEAD_SEAL, mine >> 32));
    LOCH_TRY(loch_aead_seal(sealing.aead, (struct loch_nonce){NONCE_DOMAIN, mine}, &bound, 1,
                            loch_slice_of(page, BLCKSZ), block));
    seal->counter = mine;
    memcpy(seal->tag, block + BLCKSZ, LOCH_AEAD_TAG_BYTES);
    return LOCH_OK;
}

#ifdef LOCH_TEST_SWITCHES
static int injected_fault(void)
{
    uint64 left = loch_shared == NULL ? 0 : pg_atomic_read_u64(&loch_shared->cache_fault_in);

    while (left > 0)
        if (pg_atomic_compare_exchange_u64(&loch_shared->cache_fault_in, &left, left - 1))
            return left == 1 ? (int)pg_atomic_read_u64(&loch_shared->cache_fault_errno) : 0;
    return 0;
}

void loch_cache_file_test_fault(uint64 n, int err)
{
    pg_atomic_write_u64(&loch_shared->cache_fault_errno, (uint64)err);
    pg_atomic_write_u64(&loch_shared->cache_fault_in, n);
}

void loch_cache_file_test_damage(uint64 place)
{
    uint8_t byte = 0;

    if (pread(file, &byte, 1, (off_t)place * BLCKSZ + 100) != 1)
        return;
    byte ^= 1;
    (void)!pwrite(file, &byte, 1, (off_t)place * BLCKSZ + 100);
}
#else
#define injected_fault() 0
#endif

static loch_status io_result(ssize_t n, const char *what)
{
    if (n == BLCKSZ)
        return LOCH_OK;
    return LOCH_FAIL(LOCH_E_IO, "%s: %s", what, n < 0 ? strerror(errno) : "an incomplete block");
}

loch_status loch_cache_file_write(uint64 place)
{
    ssize_t n;

    errno = injected_fault();
    if (errno != 0)
        return io_result(-1, "write");
    do
        n = pwrite(file, block, BLCKSZ, (off_t)place * BLCKSZ);
    while (n < 0 && errno == EINTR);
    return io_result(n, "write");
}

loch_status loch_cache_file_read(uint64 place)
{
    ssize_t n;

    errno = injected_fault();
    if (errno != 0)
        return io_result(-1, "read");
    do
        n = pread(file, block, BLCKSZ, (off_t)place * BLCKSZ);
    while (n < 0 && errno == EINTR);
    return io_result(n, "read");
}

loch_status loch_cache_file_open(const struct loch_cache_tag *tag, XLogRecPtr lsn, uint64 place,
                                 const struct loch_cache_seal *seal, char *page)
{
    uint8_t aad[AAD_BYTES];
    struct loch_slice bound = loch_slice_of(aad, sizeof aad);

    put_aad(aad, tag, lsn, place);
    memcpy(block + BLCKSZ, seal->tag, LOCH_AEAD_TAG_BYTES);
    LOCH_TRY(use_key(&opening, LOCH_AEAD_OPEN, seal->counter >> 32));
    return loch_aead_open(opening.aead, (struct loch_nonce){NONCE_DOMAIN, seal->counter}, &bound, 1,
                          loch_slice_of(block, sizeof block), (uint8_t *)page);
}

bool loch_cache_file_may_grow(void)
{
    struct statvfs fs;
    uint64 total, left;

    if (file < 0 || fstatvfs(file, &fs) != 0)
        return false;
    total = (uint64)fs.f_blocks * fs.f_frsize;
    left = (uint64)fs.f_bavail * fs.f_frsize;
    return left > Max(total / 8, RESERVE_LEAST_BYTES);
}

loch_status loch_cache_file_shrink(uint64 places)
{
    off_t length = (off_t)places * BLCKSZ;

    if (file < 0 || (lseek(file, 0, SEEK_END) > length && ftruncate(file, length) != 0))
        return LOCH_FAIL(LOCH_E_IO, "shrink: %s", strerror(errno));
    return LOCH_OK;
}
