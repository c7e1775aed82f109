/* Devices, swap and control groups as files of a made-up /proc and /sys. */
#include "../made_proc.h"

#include "loch/io/swap.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

static void devices(void **state)
{
    (void)state;
    assert_false(loch_device_encrypted(sys, 8, 1));
    assert_false(loch_device_encrypted(sys, 9, 9)); /* not there at all */
    put(sys, "dev/block/253:0/dm/uuid", "CRYPT-LUKS2-0011-home\n");
    assert_true(loch_device_encrypted(sys, 253, 0));
    put(sys, "dev/block/253:1/dm/uuid", "LVM-abcd\n");
    assert_false(loch_device_encrypted(sys, 253, 1));
    put(sys, "dev/block/253:1/slaves/dm-0/dm/uuid", "CRYPT-PLAIN-x\n");
    assert_true(loch_device_encrypted(sys, 253, 1));
    put(sys, "dev/block/253:1/slaves/sda1/size", "1\n"); /* half of it in the clear */
    assert_false(loch_device_encrypted(sys, 253, 1));
}

static void swap(void **state)
{
    char text[300], name[80];
    struct stat sb;

    (void)state;
    assert_ok(loch_swap_check(proc, sys));
    put(proc, "swaps", "Filename Type\n/dev/nosuch partition 1 0 -2\n");
    assert_code(loch_swap_check(proc, sys), LOCH_E_INVALID);
    assert_non_null(strstr(loch_error_text(), "/dev/nosuch"));
    put(sys, "fs/cgroup/a.slice/b.service/memory.swap.max", "max\n");
    assert_code(loch_swap_check(proc, sys), LOCH_E_INVALID);
    put(sys, "fs/cgroup/a.slice/memory.swap.max", "0\n"); /* the slice has none */
    assert_ok(loch_swap_check(proc, sys));
    put(sys, "fs/cgroup/a.slice/memory.swap.max", "4096\n");
    assert_code(loch_swap_check(proc, sys), LOCH_E_INVALID);

    put(proc, "swaps", "Filename Type\n/dev/zram0 partition 1 0 100\n");
    assert_ok(loch_swap_check(proc, sys));
    put(sys, "block/zram0/backing_dev", "none\n");
    assert_ok(loch_swap_check(proc, sys));
    put(sys, "block/zram0/backing_dev", "/dev/sda3\n"); /* what is idle goes to a disk */
    assert_code(loch_swap_check(proc, sys), LOCH_E_INVALID);

    /* A swap file is as good as the device below it. */
    (void)snprintf(text, sizeof text, "Filename Type\n%s/proc/swaps file 1 0 -2\n", root);
    put(proc, "swaps", text);
    assert_code(loch_swap_check(proc, sys), LOCH_E_INVALID);
    assert_int_equal(stat(root, &sb), 0);
    (void)snprintf(name, sizeof name, "dev/block/%u:%u/dm/uuid", major(sb.st_dev),
                   minor(sb.st_dev));
    put(sys, name, "CRYPT-PLAIN-swap\n");
    assert_ok(loch_swap_check(proc, sys));
    run("rm '%s/swaps'%s", proc, "");
    assert_code(loch_swap_check(proc, sys), LOCH_E_INVALID); /* cannot tell */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(devices, up, down),
        cmocka_unit_test_setup_teardown(swap, up, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
