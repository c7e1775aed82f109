/* Holds: the judgement of devices and swap, out of /proc/swaps, /sys/dev/block, /sys/block and the
 * control group's memory.swap.max (Linux: Documentation/admin-guide/cgroup-v2.rst). */
#include "loch/io/swap.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

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

bool loch_device_encrypted(const char *sys, unsigned major, unsigned minor)
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
    return loch_device_encrypted(sys, major(dev), minor(dev));
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

loch_status loch_swap_check(const char *proc, const char *sys)
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
                     "swap, or run it with memory.swap.max=0 (systemd: MemorySwapMax=0)",
                     bad);
}
