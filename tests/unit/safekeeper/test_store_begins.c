/* When files are begun: a cut that cannot be made leaves everything as it is, one that can is felt
 * by nobody who reads what stays, and what a file will take is known before. */
#include "store_world.h"

#include <sched.h>
#include <stdatomic.h>

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

static struct {
    const char *path;
    atomic_bool reads, looked;
    uint64_t cuts, done;
} seen;

/* The first reader has opened its file and goes on when that has been cut. */
static loch_status read_across_the_cut(void)
{
    struct stat sb = {.st_size = 1};

    if (atomic_exchange(&seen.reads, true))
        return LOCH_OK; /* the cut itself */
    for (off_t size = 0; sb.st_size >= size; (void)sched_yield()) {
        assert_int_equal(stat(seen.path, &sb), 0);
        size = size == 0 ? sb.st_size : size;
    }
    return LOCH_OK;
}

/* A reader goes by the size that it found, but not into what no WAL has reached. */
static void a_cut_beside_a_reader(void **state)
{
    struct world w;
    char path[SK_PATH_BYTES];

    (void)state;
    world_init(&w, 1u << 20);
    assert_ok(world_open(&w));
    world_grow(&w, 20, 3000, 5000);
    const loch_lsn keep = w.gen.lsn;
    world_grow(&w, 20, 3000, 5000);
    world_newest(&w, path);
    seen.path = path;
    atomic_store(&seen.reads, false);
    world_at_key = read_across_the_cut;
    assert_ok(sk_store_read(w.store, START_LSN, keep, 1u << 20, world_got, &w));
    while (!atomic_load(&seen.reads))
        (void)sched_yield();
    world_truncate(&w, keep);
    while (w.read.len == 0)
        loch_env_run(w.env);
    world_at_key = NULL;
    assert_int_equal(w.read.len, keep - START_LSN);
    assert_memory_equal(w.read.data, w.wal.data, w.read.len);
    world_check(&w, START_LSN, keep);
    world_fini(&w);
}

static loch_status wait_for_look(void)
{
    while (!atomic_load(&seen.looked))
        (void)sched_yield();
    return LOCH_OK;
}

static void look(void *arg)
{
    const struct world *w = arg;

    seen.cuts = sk_store_cuts(w->store);
    seen.done = w->done_token;
    atomic_store(&seen.looked, true);
}

/* Files go while the cut is being made. */
static void a_cut_shows_from_its_beginning(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 1u << 20);
    assert_ok(world_open(&w));
    world_grow(&w, 20, 3000, 5000);
    const loch_lsn keep = w.gen.lsn;
    world_grow(&w, 20, 3000, 5000);
    const uint64_t cuts = sk_store_cuts(w.store);
    world_at_key = wait_for_look;
    sk_store_truncate(w.store, ++w.token, keep, 2);
    loch_env_post(w.env, look, &w); /* after what begins it */
    world_wait(&w, w.token);
    world_at_key = NULL;
    assert_true(seen.done < w.token);
    assert_true(seen.cuts > cuts);
    assert_true(sk_store_cuts(w.store) > seen.cuts);
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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cut_inside_a_record_is_refused), cmocka_unit_test(a_cut_beside_a_reader),
        cmocka_unit_test(a_cut_shows_from_its_beginning), cmocka_unit_test(files_are_announced)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
