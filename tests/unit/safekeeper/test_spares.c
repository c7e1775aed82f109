/* Spare WAL files: a trimmed file becomes a new one, and what it held is never taken for WAL. */
#include "store_world.h"

#include "loch/host/metrics.h"

static struct loch_metrics *metrics;

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);

    assert_non_null(w);
    world_init(w, 1u << 20);
    assert_ok(loch_metrics_create("test", &metrics));
    w->stats.recycled = loch_metrics_counter(metrics, "recycled", "", NULL, 0);
    assert_ok(world_open(w));
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    world_fini(w);
    loch_metrics_destroy(metrics);
    free(w);
    return 0;
}

static int64_t recycled(const struct world *w)
{
    return loch_metric_value(w->stats.recycled);
}

static unsigned spare_names(const struct world *w)
{
    unsigned n = 0;
    DIR *d = opendir(w->dir);

    assert_non_null(d);
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        n += sk_spare_is_name(e->d_name);
    (void)closedir(d);
    return n;
}

/* The control file's positions, as a commit of everything would leave them. */
static void commit_all(struct world *w)
{
    loch_lsn lsn;
    loch_lsn prev;

    sk_store_anchor(w->store, w->flush, &lsn, &prev);
    w->control.acceptor.commit_lsn = w->flush;
    w->control.anchor_lsn = lsn;
    w->control.anchor_prev_lsn = prev;
    w->control.last_seq = sk_store_last_seq(w->store);
}

/* Trims all but the newest file. */
static void trim(struct world *w, uint64_t spare_bytes)
{
    commit_all(w);
    w->control.trim_lsn = sk_store_trim_point(w->store, w->flush);
    assert_ok(sk_store_trim(w->store, w->control.trim_lsn, spare_bytes));
    world_idle(w);
}

static void fill_files(struct world *w, uint64_t until_seq)
{
    while (sk_store_last_seq(w->store) < until_seq)
        world_grow(w, 20, 3000, 1u << 16);
}

static ino_t inode_of(const struct world *w, uint64_t seq)
{
    char path[SK_PATH_BYTES];
    struct stat sb;

    sk_wal_file_path(w->dir, seq, path);
    assert_int_equal(stat(path, &sb), 0);
    return sb.st_ino;
}

static void becomes_the_next_file(void **state)
{
    struct world *w = *state;

    fill_files(w, 3);
    const ino_t first = inode_of(w, 1);
    const ino_t second = inode_of(w, 2);
    trim(w, UINT64_MAX);
    assert_int_equal(spare_names(w), 2);
    assert_int_equal(sk_store_file_count(w->store), 1);
    assert_int_equal(recycled(w), 0);
    assert_true(sk_store_spare_bytes(w->store) >= 2u << 20);
    assert_true(sk_store_disk_bytes(w->store) >= sk_store_spare_bytes(w->store) + (1u << 20));
    fill_files(w, 5);
    assert_int_equal(recycled(w), 2);
    assert_int_equal(spare_names(w), 0);
    assert_int_equal(sk_store_spare_bytes(w->store), 0);
    assert_true(inode_of(w, 4) == first || inode_of(w, 4) == second);
    assert_true(inode_of(w, 5) == first || inode_of(w, 5) == second);
    world_check(w, w->control.trim_lsn, w->flush);
    fill_files(w, 6); /* none is left: a fresh one */
    assert_int_equal(recycled(w), 2);
    world_check(w, w->control.trim_lsn, w->flush);
    commit_all(w);
    const loch_lsn flush = w->flush;
    world_close(w);
    assert_ok(world_open(w));
    assert_int_equal(w->flush, flush);
    world_check(w, w->control.trim_lsn, flush);
}

static void only_as_many_as_are_of_use(void **state)
{
    struct world *w = *state;

    fill_files(w, 4);
    trim(w, 0);
    assert_int_equal(spare_names(w), 0);
    fill_files(w, 6);
    trim(w, (1u << 20) + (1u << 19)); /* two were begun, there is room for one */
    assert_int_equal(spare_names(w), 1);
    fill_files(w, 7);
    trim(w, UINT64_MAX);
    assert_int_equal(spare_names(w), 1);
    sk_store_drop_spares(w->store);
    world_idle(w);
    assert_int_equal(spare_names(w), 0);
    fill_files(w, 27);
    trim(w, UINT64_MAX);
    assert_int_equal(spare_names(w), 16);
    for (int i = 0; i < 61; i++) /* a minute without WAL */
        sk_store_tick(w->store);
    world_idle(w);
    assert_int_equal(spare_names(w), 0);
    assert_int_equal(sk_store_spare_bytes(w->store), 0);
}

static void a_start_deletes_them(void **state)
{
    struct world *w = *state;

    fill_files(w, 3);
    trim(w, UINT64_MAX);
    assert_int_equal(spare_names(w), 2);
    const loch_lsn flush = w->flush;
    world_close(w);
    assert_int_equal(spare_names(w), 2);
    assert_ok(world_open(w));
    assert_int_equal(spare_names(w), 0);
    assert_int_equal(w->flush, flush);
}

/* The newest file as it is on disk, `n` bytes from `offset`. */
static void peek(const struct world *w, uint64_t offset, void *out, size_t n)
{
    char path[SK_PATH_BYTES];

    world_newest(w, path);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, out, n, (off_t)offset), n);
    (void)close(fd);
}

/* A write into a recycled file that reached the disk in part or not at all leaves what the file
 * held before, whole frames among it: the end is where the last whole frame ends. */
static void what_it_held_is_no_wal(void **state)
{
    enum { BEFORE = 1u << 20 };
    struct world *w = *state;
    uint8_t *stale = malloc(BEFORE);
    char path[SK_PATH_BYTES];

    assert_non_null(stale);
    fill_files(w, 2);
    peek(w, 0, stale, LOCH_WAL_HEAD_BYTES);
    /* The first file, as it will be found behind the new head. */
    sk_wal_file_path(w->dir, 1, path);
    int fd = open(path, O_RDONLY);
    assert_int_equal(pread(fd, stale, BEFORE, 0), BEFORE);
    (void)close(fd);
    trim(w, UINT64_MAX);
    fill_files(w, 3);
    assert_int_equal(recycled(w), 1);
    commit_all(w);
    const loch_lsn sure = w->flush;
    world_newest(w, path);
    fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    world_grow(w, 1, 20000, 1u << 17); /* one frame more, not committed */
    struct stat sb;
    assert_int_equal(fstat(fd, &sb), 0);
    uint8_t *good = malloc((size_t)sb.st_size);
    uint8_t *old = malloc((size_t)sb.st_size);
    assert_non_null(good);
    assert_non_null(old);
    assert_int_equal(pread(fd, good, (size_t)sb.st_size, 0), sb.st_size);
    /* Where it ends, the page is zeroed; behind it the old bytes are still there. */
    size_t end = BEFORE - 1;
    while (end > 0 && good[end] == stale[end])
        end--;
    assert_int_equal((end + 1) % 4096 == 0 || stale[end + 1] == 0 || end + 1 == BEFORE, 1);
    assert_true(end < BEFORE - 65536);
    world_close(w);
    for (unsigned lost = 0; lost < 5; lost++) { /* from a place within the frame on */
        memcpy(old, good, (size_t)sb.st_size);
        const size_t from = end - 4097 - lost * 3500;
        memcpy(old + from, stale + from, BEFORE - from);
        assert_int_equal(pwrite(fd, old, (size_t)sb.st_size, 0), sb.st_size);
        assert_ok(world_open(w));
        assert_int_equal(w->flush, sure);
        world_check(w, w->control.trim_lsn, sure);
        world_close(w);
        assert_int_equal(truncate(path, sb.st_size), 0);
    }
    memcpy(old, good, (size_t)sb.st_size);
    assert_int_equal(pwrite(fd, old, (size_t)sb.st_size, 0), sb.st_size);
    assert_ok(world_open(w)); /* and all of it is there when it arrived */
    assert_int_equal(w->flush, w->gen.lsn);
    (void)close(fd);
    free(stale);
    free(good);
    free(old);
}

static loch_status read_code;

static void read_ended(void *arg, loch_status st, struct loch_buf *take_wal)
{
    (void)take_wal;
    read_code = st;
    loch_env_stop(arg);
}

/* Who reads a file while it is trimmed may find another one's bytes: that is no damage. */
static void a_reader_that_came_late(void **state)
{
    struct world *w = *state;
    char path[SK_PATH_BYTES];

    fill_files(w, 3);
    commit_all(w);
    w->control.trim_lsn = sk_store_trim_point(w->store, w->flush);
    sk_wal_file_path(w->dir, 1, path);
    const uint8_t junk[64] = {1};
    assert_ok(loch_env_patch_file(w->env, path, 0, loch_slice_of(junk, sizeof junk)));
    read_code = LOCH_OK;
    assert_ok(sk_store_read(w->store, START_LSN, w->flush, 1u << 20, read_ended, w->env));
    loch_env_run(w->env);
    assert_int_equal(read_code.code, LOCH_E_CORRUPT); /* not trimmed: damage */
    assert_ok(sk_store_read(w->store, START_LSN, w->flush, 1u << 20, read_ended, w->env));
    assert_ok(sk_store_trim(w->store, w->control.trim_lsn, UINT64_MAX));
    loch_env_run(w->env);
    assert_int_equal(read_code.code, LOCH_E_NOT_FOUND);
    world_idle(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(becomes_the_next_file, setup, teardown),
        cmocka_unit_test_setup_teardown(only_as_many_as_are_of_use, setup, teardown),
        cmocka_unit_test_setup_teardown(a_start_deletes_them, setup, teardown),
        cmocka_unit_test_setup_teardown(what_it_held_is_no_wal, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reader_that_came_late, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
