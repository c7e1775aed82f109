/* Where plaintext may lie: devices, swap and control groups as files of a made-up /proc and /sys;
 * real tmpfs and real disks. fscrypt itself is in tests/e2e/scratch.sh. */
#include "../unit.h"

#include "scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <linux/magic.h>
#include <unistd.h>

static char root[64], proc[80], sys[80];

static void run(const char *fmt, const char *a, const char *b)
{
    char command[600];

    (void)snprintf(command, sizeof command, fmt, a, b);
    assert_int_equal(system(command), 0);
}

static void put(const char *base, const char *name, const char *text)
{
    char path[400];

    (void)snprintf(path, sizeof path, "%s/%s", base, name);
    run("mkdir -p \"$(dirname '%s')\"%s", path, "");
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static int up(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof root, "/tmp/loch-test-scratch-XXXXXX");
    assert_non_null(mkdtemp(root));
    (void)snprintf(proc, sizeof proc, "%s/proc", root);
    (void)snprintf(sys, sizeof sys, "%s/sys", root);
    put(proc, "swaps", "Filename\tType\tSize\tUsed\tPriority\n");
    put(proc, "self/cgroup", "4:memory:/old\n0::/a.slice/b.service\n");
    put(sys, "dev/block/8:1/size", "1\n");
    return 0;
}

static int down(void **state)
{
    (void)state;
    run("rm -rf '%s'%s", root, "");
    return 0;
}

static void devices(void **state)
{
    (void)state;
    assert_false(loch_scratch_device_encrypted(sys, 8, 1));
    assert_false(loch_scratch_device_encrypted(sys, 9, 9)); /* not there at all */
    put(sys, "dev/block/253:0/dm/uuid", "CRYPT-LUKS2-0011-home\n");
    assert_true(loch_scratch_device_encrypted(sys, 253, 0));
    put(sys, "dev/block/253:1/dm/uuid", "LVM-abcd\n");
    assert_false(loch_scratch_device_encrypted(sys, 253, 1));
    put(sys, "dev/block/253:1/slaves/dm-0/dm/uuid", "CRYPT-PLAIN-x\n");
    assert_true(loch_scratch_device_encrypted(sys, 253, 1));
    put(sys, "dev/block/253:1/slaves/sda1/size", "1\n"); /* half of it in the clear */
    assert_false(loch_scratch_device_encrypted(sys, 253, 1));
}

static void swap(void **state)
{
    char text[300], name[80];
    struct stat sb;

    (void)state;
    assert_ok(loch_scratch_check_swap(proc, sys));
    put(proc, "swaps", "Filename Type\n/dev/nosuch partition 1 0 -2\n");
    assert_code(loch_scratch_check_swap(proc, sys), LOCH_E_INVALID);
    assert_non_null(strstr(loch_error_text(), "/dev/nosuch"));
    put(sys, "fs/cgroup/a.slice/b.service/memory.swap.max", "max\n");
    assert_code(loch_scratch_check_swap(proc, sys), LOCH_E_INVALID);
    put(sys, "fs/cgroup/a.slice/memory.swap.max", "0\n"); /* the slice has none */
    assert_ok(loch_scratch_check_swap(proc, sys));
    put(sys, "fs/cgroup/a.slice/memory.swap.max", "4096\n");
    assert_code(loch_scratch_check_swap(proc, sys), LOCH_E_INVALID);

    put(proc, "swaps", "Filename Type\n/dev/zram0 partition 1 0 100\n");
    assert_ok(loch_scratch_check_swap(proc, sys));
    put(sys, "block/zram0/backing_dev", "none\n");
    assert_ok(loch_scratch_check_swap(proc, sys));
    put(sys, "block/zram0/backing_dev", "/dev/sda3\n"); /* what is idle goes to a disk */
    assert_code(loch_scratch_check_swap(proc, sys), LOCH_E_INVALID);

    /* A swap file is as good as the device below it. */
    (void)snprintf(text, sizeof text, "Filename Type\n%s/proc/swaps file 1 0 -2\n", root);
    put(proc, "swaps", text);
    assert_code(loch_scratch_check_swap(proc, sys), LOCH_E_INVALID);
    assert_int_equal(stat(root, &sb), 0);
    (void)snprintf(name, sizeof name, "dev/block/%u:%u/dm/uuid", major(sb.st_dev),
                   minor(sb.st_dev));
    put(sys, name, "CRYPT-PLAIN-swap\n");
    assert_ok(loch_scratch_check_swap(proc, sys));
    run("rm '%s/swaps'%s", proc, "");
    assert_code(loch_scratch_check_swap(proc, sys), LOCH_E_INVALID); /* cannot tell */
}

static void judgements(void **state)
{
    struct loch_scratch s = {0};
    struct statfs fs;
    char shm[] = "/dev/shm/loch-test-scratch-XXXXXX";
    const bool swapless = loch_is_ok(loch_scratch_check_swap("/proc", "/sys"));

    (void)state;
    assert_code(loch_scratch_prepare("/nonexistent", false, &s), LOCH_E_IO);
    assert_non_null(mkdtemp(shm));
    assert_int_equal(statfs(shm, &fs), 0);
    if (fs.f_type == TMPFS_MAGIC) {
        assert_int_equal(loch_is_ok(loch_scratch_prepare(shm, true, &s)), swapless);
        if (swapless)
            assert_int_equal(s.kind, LOCH_SCRATCH_TMPFS);
        assert_ok(loch_scratch_prepare(shm, false, &s));
        assert_string_equal(s.files, shm);
    }
    assert_int_equal(rmdir(shm), 0);
    /* A disk that encrypts nothing is refused or, for a file's CMK, warned about. */
    const loch_status st = loch_scratch_prepare(root, true, &s);
    if (st.code == LOCH_E_INVALID) {
        assert_non_null(strstr(loch_error_text(), root));
        assert_ok(loch_scratch_prepare(root, false, &s));
        assert_int_equal(s.kind, LOCH_SCRATCH_PLAIN);
        assert_string_equal(s.files, root);
    } else {
        assert_ok(st);
        assert_int_not_equal(s.kind, LOCH_SCRATCH_PLAIN);
    }
    loch_scratch_end(&s);
    assert_string_equal(loch_scratch_kind_name(LOCH_SCRATCH_VOLUME), "an encrypted volume");
}

static bool is_there(const char *name)
{
    char path[400];

    (void)snprintf(path, sizeof path, "%s/%s", root, name);
    return access(path, F_OK) == 0;
}

/* What an agent that was killed leaves: nothing of it stays, whatever the next one may do. */
static void left_behind(void **state)
{
    (void)state;
    put(root, "boot-0123456789abcdef/data/base/pgsql_tmp/pgsql_tmp1.0", "rows");
    put(root, "boot-0123456789abcdef/postgres.log", "statements");
    put(root, "boot-2/data/postmaster.pid", "1\n");
    put(root, "sealed/boot-3/data/base/1/1", "rows");
    put(root, "sealed/postgres-last.log", "statements");
    put(root, "fscrypt.id", "00112233445566778899aabbccddeeff\n");
    put(root, "postgres-last.log", "statements");
    put(root, "agent.json", "{}");
    put(root, "bootes", "not a boot");
    assert_ok(loch_scratch_clear(root, false));
    assert_false(is_there("boot-0123456789abcdef") || is_there("boot-2") || is_there("sealed"));
    assert_true(is_there("postgres-last.log"));
    assert_ok(loch_scratch_clear(root, true));
    assert_false(is_there("postgres-last.log"));
    assert_true(is_there("agent.json") && is_there("bootes"));
    assert_ok(loch_scratch_clear(root, true)); /* nothing left */
    put(root, "postgres-last.log/file", "not a log");
    assert_code(loch_scratch_clear(root, true), LOCH_E_IO);
    assert_non_null(strstr(loch_error_text(), "postgres-last.log"));
    assert_code(loch_scratch_clear("/nonexistent", true), LOCH_E_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(devices, up, down),
        cmocka_unit_test_setup_teardown(swap, up, down),
        cmocka_unit_test_setup_teardown(judgements, up, down),
        cmocka_unit_test_setup_teardown(left_behind, up, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
