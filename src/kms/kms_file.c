/* Holds: the provider "file": the CMK is a file of 32 bytes.
 *
 * The file is read anew at every call, so that taking it away is seen at the next one. It must be a
 * regular file of mode 0600 or less that only we own, outside the data directories.
 * Gone or unreadable by permission: DENIED. Its directory gone, an I/O error: UNAVAILABLE.
 *
 * Blob, 104 bytes: u8 1 | 3 zero | 16 fingerprint of the CMK | 32 salt | 32 ciphertext | 16 tag |
 * u32 CRC-32C. key = HKDF-SHA256(CMK, salt, "loch kms file v1"), nonce 0, the encryption context
 * authenticated. The CRC tells a damaged blob (CORRUPT) from one of another CMK (DENIED); it proves
 * nothing else.
 */
#include "loch/base/check.h"
#include "loch/base/crc32c.h"
#include "loch/crypto/aead.h"
#include "loch/crypto/hkdf.h"
#include "loch/crypto/random.h"
#include "loch/crypto/wrap.h"
#include "provider.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CMK_BYTES         32u
#define KEK_BYTES         32u
#define BLOB_BYTES        104u
#define FINGERPRINT_BYTES 16u
#define AT_SALT           20u
#define AT_SEALED         52u
#define AT_CRC            100u

static const char label[] = "loch kms file v1";

struct file_state {
    char *path;
};

/* The directory part's existence decides between "taken away" and "not reachable". */
static loch_status missing(const char *path)
{
    char dir[PATH_MAX];
    struct stat sb;
    const char *slash = strrchr(path, '/');
    const size_t n = slash > path ? (size_t)(slash - path) : 1;

    if (n < sizeof dir) {
        memcpy(dir, path, n);
        dir[n] = 0;
        if (stat(dir, &sb) == 0 && S_ISDIR(sb.st_mode))
            return LOCH_FAIL(LOCH_E_DENIED, "the CMK file %s is gone", path);
    }
    return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the directory of the CMK file %s is not there", path);
}

/* Why the file may not serve as a key, or NULL. */
static const char *objection(const struct stat *sb)
{
    if (!S_ISREG(sb->st_mode))
        return "is not a regular file";
    if ((sb->st_mode & 0177) != 0)
        return "is open to others (mode 0600 is demanded)";
    if (geteuid() != 0 && sb->st_uid != geteuid())
        return "belongs to another user";
    if (sb->st_size != (off_t)CMK_BYTES)
        return "does not have exactly 32 bytes";
    return NULL;
}

static loch_status cmk_read(const char *path, enum loch_code bad_code, struct loch_secret *out)
{
    struct stat sb;
    struct loch_secret cmk = {0};
    loch_status st;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0) {
        if (errno == ENOENT)
            return missing(path);
        if (errno == EACCES || errno == EPERM)
            return LOCH_FAIL(LOCH_E_DENIED, "the CMK file %s may not be read", path);
        return LOCH_FAIL(errno == ELOOP ? bad_code : LOCH_E_UNAVAILABLE,
                         "the CMK file %s does not open: %s", path, strerror(errno));
    }
    if (fstat(fd, &sb) != 0) {
        st = LOCH_FAIL(LOCH_E_UNAVAILABLE, "the CMK file %s: %s", path, strerror(errno));
        goto out;
    }
    const char *why = objection(&sb);
    if (why != NULL) {
        st = LOCH_FAIL(bad_code, "the CMK file %s %s", path, why);
        goto out;
    }
    LOCH_TRY_OUT(st, loch_secret_create(&cmk, CMK_BYTES));
    if (read(fd, cmk.bytes, CMK_BYTES) != (ssize_t)CMK_BYTES) {
        st = LOCH_FAIL(LOCH_E_UNAVAILABLE, "the CMK file %s cannot be read", path);
        goto out;
    }
    *out = cmk;
    cmk = (struct loch_secret){0};
out:
    loch_secret_fini(&cmk);
    (void)close(fd);
    return st;
}

static loch_status check_outside(const char *path, const char *const *data_dirs)
{
    char real[PATH_MAX];
    char dir[PATH_MAX];

    if (data_dirs == NULL || realpath(path, real) == NULL)
        return LOCH_OK; /* a missing file is reported by the read */
    for (; *data_dirs != NULL; data_dirs++) {
        if (realpath(*data_dirs, dir) == NULL)
            continue;
        const size_t n = strlen(dir);
        if (strncmp(real, dir, n) == 0 && (real[n] == '/' || real[n] == 0))
            return LOCH_FAIL(
                LOCH_E_INVALID,
                "the CMK file %s lies in the data directory %s: a copy of the data would "
                "carry its key",
                path, *data_dirs);
    }
    return LOCH_OK;
}

static loch_status file_open(const char *location, const char *const *data_dirs, void **state)
{
    if (location[0] != '/')
        return LOCH_FAIL(LOCH_E_INVALID, "the CMK file's path \"%s\" is not absolute", location);
    LOCH_TRY(check_outside(location, data_dirs));
    struct file_state *s = calloc(1, sizeof *s);
    if (s == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a KMS");
    s->path = strdup(location);
    if (s->path == NULL) {
        free(s);
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a KMS");
    }
    *state = s;
    return LOCH_OK;
}

static loch_status file_start(void *state)
{
    const struct file_state *s = state;
    struct loch_secret cmk = {0};

    LOCH_TRY(cmk_read(s->path, LOCH_E_INVALID, &cmk));
    loch_secret_fini(&cmk);
    return LOCH_OK;
}

static void file_close(void *state)
{
    struct file_state *s = state;

    free(s->path);
    free(s);
}

static loch_status fingerprint(const struct loch_secret *cmk, uint8_t out[static FINGERPRINT_BYTES])
{
    uint8_t whole[LOCH_COMMITMENT_BYTES];

    LOCH_TRY(loch_key_commitment(cmk, loch_slice_of(label, sizeof label), whole));
    memcpy(out, whole, FINGERPRINT_BYTES);
    return LOCH_OK;
}

static loch_status aead_of(const struct loch_secret *cmk, const uint8_t *salt,
                           enum loch_aead_use use, struct loch_aead **out)
{
    struct loch_secret key = {0};

    LOCH_TRY(loch_hkdf(LOCH_HASH_SHA256, cmk, loch_slice_of(salt, 32),
                       loch_slice_of(label, sizeof label), LOCH_AEAD_KEY_BYTES, &key));
    const loch_status st = loch_aead_create(&key, use, out);
    loch_secret_fini(&key);
    return st;
}

static loch_status file_wrap(void *state, struct loch_slice context, const struct loch_secret *key,
                             struct loch_buf *out)
{
    const struct file_state *s = state;
    uint8_t blob[BLOB_BYTES] = {1};
    struct loch_secret cmk = {0};
    struct loch_aead *aead = NULL;
    loch_status st;

    if (key->len != KEK_BYTES)
        return LOCH_FAIL(LOCH_E_INVALID, "a KEK has 32 bytes, not %zu", key->len);
    LOCH_TRY(cmk_read(s->path, LOCH_E_UNAVAILABLE, &cmk));
    LOCH_TRY_OUT(st, fingerprint(&cmk, blob + 4));
    LOCH_TRY_OUT(st, loch_random_bytes(blob + AT_SALT, 32));
    LOCH_TRY_OUT(st, aead_of(&cmk, blob + AT_SALT, LOCH_AEAD_SEAL, &aead));
    LOCH_TRY_OUT(st, loch_aead_seal(aead, (struct loch_nonce){0, 0}, &context, 1,
                                    loch_slice_of(key->bytes, key->len), blob + AT_SEALED));
    loch_put_u32(blob + AT_CRC,
                 loch_crc32c_finish(loch_crc32c_update(LOCH_CRC32C_INIT, blob, AT_CRC)));
    LOCH_TRY_OUT(st, loch_buf_append(out, blob, sizeof blob));
out:
    loch_aead_destroy(aead);
    loch_secret_fini(&cmk);
    return st;
}

static loch_status file_unwrap(void *state, struct loch_slice context, struct loch_slice blob,
                               struct loch_secret *out)
{
    const struct file_state *s = state;
    uint8_t mark[FINGERPRINT_BYTES];
    struct loch_secret cmk = {0};
    struct loch_secret key = {0};
    struct loch_aead *aead = NULL;
    const uint8_t *p = blob.data;
    loch_status st;

    LOCH_TRY(cmk_read(s->path, LOCH_E_UNAVAILABLE, &cmk));
    if (blob.len != BLOB_BYTES || p[0] != 1 || (p[1] | p[2] | p[3]) != 0 ||
        loch_get_u32(p + AT_CRC) !=
            loch_crc32c_finish(loch_crc32c_update(LOCH_CRC32C_INIT, p, AT_CRC))) {
        st = LOCH_FAIL(LOCH_E_CORRUPT, "a wrapped KEK is damaged");
        goto out;
    }
    LOCH_TRY_OUT(st, fingerprint(&cmk, mark));
    if (!loch_bytes_equal(mark, p + 4, sizeof mark)) {
        st = LOCH_FAIL(LOCH_E_DENIED, "the KEK was wrapped by another CMK than %s", s->path);
        goto out;
    }
    LOCH_TRY_OUT(st, aead_of(&cmk, p + AT_SALT, LOCH_AEAD_OPEN, &aead));
    LOCH_TRY_OUT(st, loch_secret_create(&key, KEK_BYTES));
    LOCH_TRY_OUT(st, loch_aead_open(aead, (struct loch_nonce){0, 0}, &context, 1,
                                    loch_slice_of(p + AT_SEALED, KEK_BYTES + LOCH_AEAD_TAG_BYTES),
                                    key.bytes));
    *out = key;
    key = (struct loch_secret){0};
out:
    loch_aead_destroy(aead);
    loch_secret_fini(&key);
    loch_secret_fini(&cmk);
    return st;
}

const struct kms_provider kms_file_provider = {
    .id = LOCH_PROVIDER_FILE,
    .customer_held = false,
    .scheme = "file:",
    .open = file_open,
    .start = file_start,
    .close = file_close,
    .wrap = file_wrap,
    .unwrap = file_unwrap,
};

loch_status loch_kms_file_create(const char *path)
{
    struct loch_secret cmk = {0};
    loch_status st = LOCH_OK;

    LOCH_TRY(loch_random_secret(&cmk, CMK_BYTES));
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        st = LOCH_FAIL(errno == EEXIST ? LOCH_E_EXISTS : LOCH_E_IO, "CMK file %s: %s", path,
                       strerror(errno));
        goto out;
    }
    if (fchmod(fd, 0600) != 0 || write(fd, cmk.bytes, CMK_BYTES) != (ssize_t)CMK_BYTES ||
        fsync(fd) != 0) {
        st = LOCH_FAIL(LOCH_E_IO, "CMK file %s: %s", path, strerror(errno));
        (void)unlink(path);
    }
    (void)close(fd);
out:
    loch_secret_fini(&cmk);
    return st;
}
