/* Holds: the judgement of the scratch, and its own encryption (Linux fscrypt, policy version 2:
 * Documentation/filesystems/fscrypt.rst).
 *
 * Invariant: the fscrypt key is random, in kernel memory only, and never written anywhere; its
 * identifier stands in dir/fscrypt.id, so that the next start can remove a killed one's key.
 */
#include "scratch.h"

#include "postmaster.h"

#include "loch/base/log.h"
#include "loch/base/secret.h"
#include "loch/crypto/random.h"
#include "loch/io/swap.h"
#include "loch/io/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fscrypt.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#define RAW_KEY_BYTES 64u

const char *loch_scratch_kind_name(enum loch_scratch_kind kind)
{
    switch (kind) {
    case LOCH_SCRATCH_PLAIN:
        return "not encrypted";
    case LOCH_SCRATCH_TMPFS:
        return "tmpfs";
    case LOCH_SCRATCH_VOLUME:
        return "an encrypted volume";
    case LOCH_SCRATCH_POLICY:
        return "an encrypted directory";
    case LOCH_SCRATCH_OURS:
        return "encrypted by a key of this start";
    }
    return "unknown";
}

/* ---- fscrypt ---- */

static bool has_policy(int fd)
{
    struct fscrypt_get_policy_ex_arg arg = {.policy_size = sizeof arg.policy};

    return ioctl(fd, FS_IOC_GET_ENCRYPTION_POLICY_EX, &arg) == 0;
}

static void id_path(const struct loch_scratch *s, char *out, size_t size)
{
    (void)snprintf(out, size, "%s/fscrypt.id", s->dir);
}

/* False: it may still be in the kernel. */
static bool remove_key(const char *dir, const uint8_t id[static LOCH_SCRATCH_KEY_ID_BYTES])
{
    struct fscrypt_remove_key_arg arg = {.key_spec = {.type = FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER}};
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    memcpy(arg.key_spec.u.identifier, id, LOCH_SCRATCH_KEY_ID_BYTES);
    if (fd < 0)
        return false;
    const bool gone = ioctl(fd, FS_IOC_REMOVE_ENCRYPTION_KEY, &arg) == 0 || errno == ENOKEY;
    if (!gone)
        LOCH_WARN("the scratch's key stays in the kernel: %s", strerror(errno));
    (void)close(fd);
    return gone;
}

/* The key of a start that was killed; its identifier stays until it is gone. */
static void remove_old_key(const struct loch_scratch *s)
{
    uint8_t id[LOCH_SCRATCH_KEY_ID_BYTES];
    char path[400], text[2 * LOCH_SCRATCH_KEY_ID_BYTES + 1] = "";

    id_path(s, path, sizeof path);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return;
    const bool known =
        fgets(text, sizeof text, f) != NULL && loch_is_ok(loch_hex_parse(text, id, sizeof id));
    (void)fclose(f);
    if (known && remove_key(s->dir, id))
        (void)unlink(path);
}

static loch_status note_key(const struct loch_scratch *s)
{
    char path[400], text[2 * LOCH_SCRATCH_KEY_ID_BYTES + 1];

    id_path(s, path, sizeof path);
    loch_hex_format(s->key_id, sizeof s->key_id, text);
    FILE *f = fopen(path, "we");
    if (f == NULL || fprintf(f, "%s\n", text) < 0 || fclose(f) != 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot write %s: %s", path, strerror(errno));
    return LOCH_OK;
}

static void sealed_path(struct loch_scratch *s)
{
    (void)snprintf(s->files, sizeof s->files, "%s/sealed", s->dir);
}

/* LOCH_E_UNSUPPORTED: this file system does not encrypt. */
static loch_status add_key(int fd, struct loch_scratch *s)
{
    _Alignas(struct fscrypt_add_key_arg)
        uint8_t bytes[sizeof(struct fscrypt_add_key_arg) + RAW_KEY_BYTES] = {0};
    struct fscrypt_add_key_arg *arg = (struct fscrypt_add_key_arg *)(void *)bytes;
    loch_status st = LOCH_OK;

    arg->key_spec.type = FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER;
    arg->raw_size = RAW_KEY_BYTES;
    LOCH_TRY(loch_random_bytes(arg->raw, RAW_KEY_BYTES));
    if (ioctl(fd, FS_IOC_ADD_ENCRYPTION_KEY, arg) != 0)
        st = LOCH_FAIL(LOCH_E_UNSUPPORTED, "%s", strerror(errno));
    loch_wipe(arg->raw, RAW_KEY_BYTES);
    if (loch_is_ok(st))
        memcpy(s->key_id, arg->key_spec.u.identifier, sizeof s->key_id);
    return st;
}

static loch_status set_policy(const struct loch_scratch *s)
{
    struct fscrypt_policy_v2 policy = {.version = FSCRYPT_POLICY_V2,
                                       .contents_encryption_mode = FSCRYPT_MODE_AES_256_XTS,
                                       .filenames_encryption_mode = FSCRYPT_MODE_AES_256_CTS,
                                       .flags = FSCRYPT_POLICY_FLAGS_PAD_32};
    loch_status st = LOCH_OK;

    memcpy(policy.master_key_identifier, s->key_id, sizeof s->key_id);
    if (mkdir(s->files, 0711) != 0 || chmod(s->files, 0711) != 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot make %s: %s", s->files, strerror(errno));
    const int fd = open(s->files, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, FS_IOC_SET_ENCRYPTION_POLICY, &policy) != 0)
        st = LOCH_FAIL(LOCH_E_UNSUPPORTED, "%s", strerror(errno));
    if (fd >= 0)
        (void)close(fd);
    return st;
}

static loch_status encrypt(int fd, struct loch_scratch *s)
{
    LOCH_TRY(add_key(fd, s));
    sealed_path(s);
    loch_status st = loch_remove_tree(s->files);
    if (loch_is_ok(st))
        st = set_policy(s);
    if (loch_is_ok(st))
        st = note_key(s);
    if (!loch_is_ok(st)) {
        (void)remove_key(s->dir, s->key_id);
        (void)rmdir(s->files);
        return st;
    }
    s->kind = LOCH_SCRATCH_OURS;
    return LOCH_OK;
}

/* ---- the judgement ---- */

static loch_status judge(struct loch_scratch *s, int fd, const char *sys)
{
    struct statfs fs;
    struct stat sb;

    if (fstatfs(fd, &fs) != 0 || fstat(fd, &sb) != 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot look at the scratch %s: %s", s->dir, strerror(errno));
    if (fs.f_type == TMPFS_MAGIC) {
        s->kind = LOCH_SCRATCH_TMPFS;
        return LOCH_OK;
    }
    if (loch_device_encrypted(sys, major(sb.st_dev), minor(sb.st_dev))) {
        s->kind = LOCH_SCRATCH_VOLUME;
        return LOCH_OK;
    }
    if (has_policy(fd)) {
        s->kind = LOCH_SCRATCH_POLICY;
        return LOCH_OK;
    }
    const loch_status st = encrypt(fd, s);
    if (loch_is_ok(st))
        return LOCH_OK;
    return LOCH_FAIL(LOCH_E_INVALID,
                     "the scratch %s is neither tmpfs nor encrypted, and its file system does not "
                     "encrypt directories (%s): put it on tmpfs, on a dm-crypt volume, or on ext4 "
                     "with the feature `encrypt` (tune2fs -O encrypt)",
                     s->dir, loch_error_text());
}

static loch_status begin(const char *dir, struct loch_scratch *out)
{
    struct loch_scratch s = {.kind = LOCH_SCRATCH_PLAIN};

    if (strlen(dir) >= sizeof s.dir)
        return LOCH_FAIL(LOCH_E_INVALID, "the scratch's path %s is too long", dir);
    (void)snprintf(s.dir, sizeof s.dir, "%s", dir);
    (void)snprintf(s.files, sizeof s.files, "%s", dir);
    *out = s;
    return LOCH_OK;
}

/* A tenant whose CMK is a file is warned, no more. */
static loch_status allow(loch_status st, bool customer_held)
{
    if (loch_is_ok(st) || customer_held || st.code != LOCH_E_INVALID)
        return st;
    LOCH_WARN("%s; allowed, for this tenant's CMK is not customer-held", loch_error_text());
    return LOCH_OK;
}

loch_status loch_scratch_prepare_at(const char *proc, const char *sys, const char *dir,
                                    bool customer_held, struct loch_scratch *out)
{
    struct loch_scratch s;

    LOCH_TRY(begin(dir, &s));
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot open the scratch %s: %s", dir, strerror(errno));
    remove_old_key(&s); /* whatever becomes of this start */
    /* Of whatever kind the scratch is: the server's memory and ours hold rows as well. */
    loch_status st = allow(loch_swap_check(proc, sys), customer_held);
    if (loch_is_ok(st))
        st = judge(&s, fd, sys);
    (void)close(fd);
    if (!loch_is_ok(st)) {
        LOCH_TRY(allow(st, customer_held));
        (void)snprintf(s.files, sizeof s.files, "%s", dir);
    }
    LOCH_INFO("scratch %s: %s", s.files, loch_scratch_kind_name(s.kind));
    *out = s;
    return LOCH_OK;
}

loch_status loch_scratch_prepare(const char *dir, bool customer_held, struct loch_scratch *out)
{
    return loch_scratch_prepare_at("/proc", "/sys", dir, customer_held, out);
}

void loch_scratch_end(struct loch_scratch *scratch)
{
    char path[400];

    if (scratch->kind != LOCH_SCRATCH_OURS)
        return;
    if (!loch_is_ok(loch_remove_tree(scratch->files)))
        LOCH_WARN("the scratch's files stay, sealed: %s", loch_error_text());
    if (remove_key(scratch->dir, scratch->key_id)) {
        id_path(scratch, path, sizeof path);
        (void)unlink(path);
    }
    scratch->kind = LOCH_SCRATCH_PLAIN;
}

/* ---- what a dead agent left ---- */

static loch_status clear_sealed(struct loch_scratch *s)
{
    sealed_path(s);
    /* Before the rest: they name their shared memory. */
    if (access(s->files, F_OK) == 0 && !loch_is_ok(loch_postmaster_remove_boots(s->files)))
        LOCH_WARN("a sealed boot: %s", loch_error_text());
    const loch_status st = loch_remove_tree(s->files);
    remove_old_key(s);
    return st;
}

loch_status loch_scratch_clear(const char *dir, bool kept_log)
{
    struct loch_scratch s;
    char path[400];

    LOCH_TRY(begin(dir, &s));
    loch_status st = loch_postmaster_remove_boots(dir);
    (void)snprintf(path, sizeof path, "%s/" LOCH_SCRATCH_KEPT_LOG, dir);
    if (kept_log && unlink(path) != 0 && errno != ENOENT)
        st = LOCH_FAIL(LOCH_E_IO, "cannot remove %s: %s", path, strerror(errno));
    const loch_status sealed = clear_sealed(&s);
    return loch_is_ok(sealed) ? st : sealed;
}
