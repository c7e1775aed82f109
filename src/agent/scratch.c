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
#include "loch/io/tree.h"

#include <dirent.h>
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

/* ---- devices and swap ---- */

/* The first line of a file; "" when there is none. */
static void first_line(const char *path, char *out, size_t size)
{
    FILE *f = fopen(path, "re");

    out[0] = '\0';
    if (f == NULL)
        return;
    if (fgets(out, (int)size, f) == NULL)
        out[0] = '\0';
    out[strcspn(out, "\n")] = '\0';
    (void)fclose(f);
}

static bool is_dm_crypt(const char *device)
{
    char path[600], uuid[200];

    (void)snprintf(path, sizeof path, "%s/dm/uuid", device);
    first_line(path, uuid, sizeof uuid);
    return strncmp(uuid, "CRYPT-", 6) == 0;
}

bool loch_scratch_device_encrypted(const char *sys, unsigned major, unsigned minor)
{
    char device[300], slaves[320], one[600];
    const struct dirent *entry;
    bool any = false;
    bool all = true;

    (void)snprintf(device, sizeof device, "%s/dev/block/%u:%u", sys, major, minor);
    if (is_dm_crypt(device))
        return true;
    /* A logical volume or an array: encrypted when all that it stands on is. */
    (void)snprintf(slaves, sizeof slaves, "%s/slaves", device);
    DIR *dir = opendir(slaves);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(one, sizeof one, "%s/%s", slaves, entry->d_name);
        any = true;
        all = all && is_dm_crypt(one);
    }
    if (dir != NULL)
        (void)closedir(dir);
    return any && all;
}

/* Compressed memory that is never written back to a disk. */
static bool is_zram(const char *sys, const char *path)
{
    char file[300], backing[300];
    const char *name = strrchr(path, '/');

    if (name == NULL || strncmp(name + 1, "zram", 4) != 0)
        return false;
    (void)snprintf(file, sizeof file, "%s/block/%.60s/backing_dev", sys, name + 1);
    first_line(file, backing, sizeof backing);
    return backing[0] == '\0' || strcmp(backing, "none") == 0;
}

static bool swap_is_safe(const char *sys, const char *path)
{
    struct stat sb;

    if (is_zram(sys, path))
        return true;
    if (stat(path, &sb) != 0)
        return false;
    const dev_t dev = S_ISREG(sb.st_mode) ? sb.st_dev : sb.st_rdev;
    return loch_scratch_device_encrypted(sys, major(dev), minor(dev));
}

/* Has this process's control group, or one above it, no swap at all (MemorySwapMax=0)? */
static bool group_has_no_swap(const char *proc, const char *sys)
{
    char path[1100], line[600], limit[40], group[600] = "";
    FILE *f;

    (void)snprintf(path, sizeof path, "%s/self/cgroup", proc);
    f = fopen(path, "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "0::/", 4) == 0)
            (void)snprintf(group, sizeof group, "%s", line + 3);
    }
    if (f != NULL)
        (void)fclose(f);
    for (char *end = group + strlen(group); end > group; end = strrchr(group, '/')) {
        *end = '\0';
        (void)snprintf(path, sizeof path, "%s/fs/cgroup%s/memory.swap.max", sys, group);
        first_line(path, limit, sizeof limit);
        if (strcmp(limit, "0") == 0)
            return true;
        if (group[0] == '\0')
            break;
    }
    return false;
}

loch_status loch_scratch_check_swap(const char *proc, const char *sys)
{
    char path[300], line[600], bad[300] = "";
    FILE *f;

    (void)snprintf(path, sizeof path, "%s/swaps", proc);
    f = fopen(path, "re");
    if (f == NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "cannot tell whether there is swap: %s: %s", path,
                         strerror(errno));
    for (int n = 0; fgets(line, sizeof line, f) != NULL; n++) {
        line[strcspn(line, " \t\n")] = '\0';
        if (n > 0 && line[0] != '\0' && !swap_is_safe(sys, line))
            (void)snprintf(bad, sizeof bad, "%.290s", line);
    }
    (void)fclose(f);
    if (bad[0] == '\0' || group_has_no_swap(proc, sys))
        return LOCH_OK;
    return LOCH_FAIL(LOCH_E_INVALID,
                     "memory may be swapped to %s, which is not encrypted: swapoff, encrypt the "
                     "swap, or run the compute with memory.swap.max=0 (systemd: MemorySwapMax=0)",
                     bad);
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
    char path[400], text[80];

    id_path(s, path, sizeof path);
    first_line(path, text, sizeof text);
    if (text[0] != '\0' && loch_is_ok(loch_hex_parse(text, id, sizeof id)) &&
        remove_key(s->dir, id))
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
    remove_old_key(s);
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

static loch_status judge(struct loch_scratch *s, int fd)
{
    struct statfs fs;
    struct stat sb;

    if (fstatfs(fd, &fs) != 0 || fstat(fd, &sb) != 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot look at the scratch %s: %s", s->dir, strerror(errno));
    if (fs.f_type == TMPFS_MAGIC) {
        s->kind = LOCH_SCRATCH_TMPFS;
        return loch_scratch_check_swap("/proc", "/sys");
    }
    if (loch_scratch_device_encrypted("/sys", major(sb.st_dev), minor(sb.st_dev))) {
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

loch_status loch_scratch_prepare(const char *dir, bool customer_held, struct loch_scratch *out)
{
    struct loch_scratch s;

    LOCH_TRY(begin(dir, &s));
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot open the scratch %s: %s", dir, strerror(errno));
    const loch_status st = judge(&s, fd);
    (void)close(fd);
    if (!loch_is_ok(st)) {
        if (customer_held || st.code != LOCH_E_INVALID)
            return st;
        LOCH_WARN("%s; allowed, for this tenant's CMK is not customer-held", loch_error_text());
        (void)snprintf(s.files, sizeof s.files, "%s", dir);
    }
    LOCH_INFO("scratch %s: %s", s.files, loch_scratch_kind_name(s.kind));
    *out = s;
    return LOCH_OK;
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
