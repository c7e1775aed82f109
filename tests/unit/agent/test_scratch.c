/* Where plaintext may lie: real tmpfs and real disks, and what a made-up /proc and /sys say of
 * them. fscrypt itself is in tests/e2e/scratch.sh. */
#include "../made_proc.h"

#include "scratch.h"

#include "loch/io/swap.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <linux/magic.h>
#include <unistd.h>

static void judgements(void **state)
{
    struct loch_scratch s = {0};
    struct statfs fs;
    char shm[] = "/dev/shm/loch-test-scratch-XXXXXX";
    const bool swapless = loch_is_ok(loch_swap_check("/proc", "/sys"));

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
        if (swapless)
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

/* Memory that may be swapped in the clear is refused wherever the files lie. */
static void swap_counts_for_every_kind(void **state)
{
    struct loch_scratch s = {0};
    char name[80];
    struct stat sb;

    (void)state;
    assert_int_equal(stat(root, &sb), 0);
    (void)snprintf(name, sizeof name, "dev/block/%u:%u/dm/uuid", major(sb.st_dev),
                   minor(sb.st_dev));
    put(sys, name, "CRYPT-LUKS2-0011-home\n");
    assert_ok(loch_scratch_prepare_at(proc, sys, root, true, &s));
    assert_int_not_equal(s.kind, LOCH_SCRATCH_PLAIN); /* a volume, where /tmp is no tmpfs */
    put(proc, "swaps", "Filename Type\n/dev/nosuch partition 1 0 -2\n");
    assert_code(loch_scratch_prepare_at(proc, sys, root, true, &s), LOCH_E_INVALID);
    assert_non_null(strstr(loch_error_text(), "/dev/nosuch"));
    assert_ok(loch_scratch_prepare_at(proc, sys, root, false, &s)); /* a CMK that is a file */
    assert_int_not_equal(s.kind, LOCH_SCRATCH_PLAIN);
    put(sys, "fs/cgroup/a.slice/b.service/memory.swap.max", "0\n");
    assert_ok(loch_scratch_prepare_at(proc, sys, root, true, &s));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(judgements, up, down),
        cmocka_unit_test_setup_teardown(left_behind, up, down),
        cmocka_unit_test_setup_teardown(swap_counts_for_every_kind, up, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
