/* When files are begun: a cut that cannot be made leaves everything as it is, and what a file will
 * take is known before. */
#include "store_world.h"

/* The disk is sound, and nothing of it is changed: opened anew, the store goes on. */
static void a_cut_inside_a_record_is_refused(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 1u << 20);
    assert_ok(world_open(&w));
    for (int round = 0; round < 3; round++) {
        world_grow(&w, 20, 3000, 5000);
        const uint64_t seq = sk_store_last_seq(w.store);
        w.uncut = false;
        world_truncate(&w, w.gen.lsn - (round == 0 ? 8 : 3100));
        assert_true(w.uncut);
        assert_false(w.failed);
        assert_true(w.done_token < w.token); /* and not reported done */
        assert_true(sk_store_idle(w.store));
        assert_int_equal(sk_store_last_seq(w.store), seq);
        world_close(&w);
        w.uncut = false;
        assert_ok(world_open(&w));
        assert_int_equal(w.flush, w.gen.lsn);
        assert_int_equal(w.prev, w.gen.prev);
        world_check(&w, START_LSN, w.gen.lsn);
    }
    world_grow(&w, 20, 700, 5000);
    world_check(&w, START_LSN, w.gen.lsn);
    world_fini(&w);
}

/* Whoever keeps disk free has to know of a file before it is begun. */
static void files_are_announced(void **state)
{
    const uint64_t file = 1u << 20;
    struct world w;

    (void)state;
    world_init(&w, file);
    assert_ok(world_open(&w));
    assert_int_equal(sk_store_pending_bytes(w.store, 0), 0);
    assert_int_equal(sk_store_pending_bytes(w.store, 1), file); /* there is none yet */
    assert_int_equal(sk_store_pending_bytes(w.store, file + 1), 2 * file);
    size_t before = w.wal.len;
    (void)wal_gen_record(&w.gen, &w.wal, 3000);
    assert_ok(world_write(&w, 1, loch_slice_of(w.wal.data + before, w.wal.len - before), 5000));
    assert_int_equal(sk_store_pending_bytes(w.store, 0), file); /* queued */
    world_sync(&w);
    assert_int_equal(sk_store_pending_bytes(w.store, 100000), 0); /* there is, with room */
    while (sk_store_pending_bytes(w.store, 100000) == 0)
        world_grow(&w, 1, 3000, 5000);
    assert_int_equal(sk_store_file_count(w.store), 1); /* before it is begun */
    assert_int_equal(sk_store_pending_bytes(w.store, 0), 0);
    world_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_cut_inside_a_record_is_refused),
                                       cmocka_unit_test(files_are_announced)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
