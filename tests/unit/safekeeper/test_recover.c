/* What a start takes from its disk: nothing that it has only read. (That this is enough is for the
 * simulator to say, tests/sim/env/sim_test_store.c, whose disk keeps what it could not write.) */
#include "store_world.h"

#include "loch/io/fault.h"

#include <errno.h>

/* Each of its operations fails once; returns how many there are. */
static uint64_t starts_on_a_failing_disk(struct world *w)
{
    struct sk_wal_found found = {0};

    loch_io_fault_set(0, 0);
    assert_ok(sk_wal_recover(w->dir, &w->sealer, &w->control, &found));
    sk_wal_files_fini(&found.files);
    const uint64_t count = loch_io_fault_count();
    for (uint64_t n = 1; n <= count; n++) {
        loch_io_fault_set(n, EIO);
        assert_code(sk_wal_recover(w->dir, &w->sealer, &w->control, &found), LOCH_E_IO);
    }
    loch_io_fault_set(0, 0);
    return count;
}

/* What is not known to be on the disk is put there before it is believed: WAL above commit_lsn, in
 * all files, and the names in the directory. */
static void a_start_believes_no_cache(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 1u << 20);
    assert_int_equal(starts_on_a_failing_disk(&w),
                     3); /* the list; the directory is opened, synced */
    assert_ok(world_open(&w));
    for (int i = 0; i < 4; i++)
        world_grow(&w, 40, 9000, 1u << 20);
    assert_int_equal(sk_store_file_count(w.store), 2);
    world_close(&w);
    const uint64_t all = starts_on_a_failing_disk(&w);
    w.control.acceptor.commit_lsn = w.gen.lsn;
    const uint64_t none = starts_on_a_failing_disk(&w);
    assert_int_equal(all - none, 8); /* each file: opened, sought in, written, synced */
    assert_ok(world_open(&w));
    assert_int_equal(w.flush, w.gen.lsn);
    world_check(&w, START_LSN, w.gen.lsn);
    world_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_start_believes_no_cache)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
