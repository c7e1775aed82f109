/* The redo pool with real workers: images and heap inserts applied, long chains split, poison,
 * workers killed between and during calls, tenants kept apart and dropped, limits. Skipped where
 * there is no PostgreSQL 15 or no way to run it. */
#include "../unit.h"

#include "redo_pool/redo_pool.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BIN_DIR "/usr/lib/postgresql/15/bin"

static char scratch[64];
static struct loch_redo_pool *pool;
static const struct loch_rel rel = {1663, 5, 16384};
static const struct loch_id tenant_a = {{1}}, tenant_b = {{2}};

static void make_pool(unsigned per_tenant, unsigned most, unsigned idle_ms)
{
    struct loch_redo_pool_options options = {
        .postgres_bin_dir = BIN_DIR,
        .lib_dir = LOCH_LIB_DIR,
        .scratch_dir = scratch,
        .max_workers_per_tenant = per_tenant,
        .max_workers = most,
        .idle_timeout_ms = idle_ms,
    };
    assert_ok(loch_redo_pool_create(&options, &pool));
}

static int setup(void **state)
{
    (void)state;
    snprintf(scratch, sizeof scratch, "/tmp/redo-unit-XXXXXX");
    if (mkdtemp(scratch) == NULL || chmod(scratch, 0711) != 0)
        return -1;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    loch_redo_pool_destroy(pool);
    pool = NULL;
    return rmdir(scratch); /* the pool leaves nothing behind */
}

static struct loch_redo_stats stats_now(void)
{
    struct loch_redo_stats s;
    loch_redo_pool_stats(pool, &s);
    return s;
}

/* ---- records made by hand (access/xlogrecord.h) ---- */

static void finish_record(struct loch_buf *buf, uint8_t rmid, uint8_t info)
{
    loch_put_u32(buf->data, (uint32_t)buf->len);
    buf->data[16] = info;
    buf->data[17] = rmid;
}

static void write_block_header(struct loch_writer *w, uint8_t flags, uint16_t data_len)
{
    loch_write_u8(w, 0);
    loch_write_u8(w, flags);
    loch_write_u16(w, data_len);
}

static void write_rel_block(struct loch_writer *w, uint32_t block)
{
    loch_write_u32(w, rel.spc);
    loch_write_u32(w, rel.db);
    loch_write_u32(w, rel.rel);
    loch_write_u32(w, block);
}

/* XLOG FPI: the whole page as an image, of which byte 100 is `mark`. */
static struct loch_buf image_record(uint32_t block, uint8_t mark)
{
    struct loch_buf buf = {0};
    struct loch_writer w;
    uint8_t page[LOCH_PAGE_BYTES] = {0};

    loch_put_u16(page + 12, 24);
    loch_put_u16(page + 14, 8192);
    loch_put_u16(page + 16, 8192);
    loch_put_u16(page + 18, 0x2004);
    page[100] = mark;
    loch_writer_init(&w, &buf);
    loch_write_zeros(&w, 24);
    write_block_header(&w, 0x10, 0);
    loch_write_u16(&w, LOCH_PAGE_BYTES);
    loch_write_u16(&w, 0);
    loch_write_u8(&w, 0x02);
    write_rel_block(&w, block);
    loch_write_bytes(&w, page, sizeof page);
    assert_ok(loch_writer_finish(&w));
    finish_record(&buf, 0, 0xB0);
    return buf;
}

/* Heap INSERT at offset `at` (1: with INIT_PAGE) of one row of 8 bytes. */
static struct loch_buf insert_record(uint32_t block, uint16_t at)
{
    struct loch_buf buf = {0};
    struct loch_writer w;

    loch_writer_init(&w, &buf);
    loch_write_zeros(&w, 24);
    write_block_header(&w, (uint8_t)(0x20 | (at == 1 ? 0x40 : 0)), 5 + 1 + 8);
    write_rel_block(&w, block);
    loch_write_u8(&w, 255); /* main data follows, short */
    loch_write_u8(&w, 3);
    loch_write_u16(&w, 1); /* xl_heap_header: infomask2, infomask, hoff */
    loch_write_u16(&w, 0x0800);
    loch_write_u8(&w, 24);
    loch_write_u8(&w, 0); /* padding of the tuple header */
    loch_write_u64(&w, 0x4142434445464748);
    loch_write_u16(&w, at); /* xl_heap_insert: offnum, flags */
    loch_write_u8(&w, 0);
    assert_ok(loch_writer_finish(&w));
    loch_put_u32(buf.data + 4, 777); /* xid */
    finish_record(&buf, 10, (uint8_t)(at == 1 ? 0x80 : 0x00));
    return buf;
}

static struct loch_redo_record as_record(const struct loch_buf *buf, loch_lsn start)
{
    return (struct loch_redo_record){start, start + ((buf->len + 7) & ~(size_t)7),
                                     loch_buf_slice(buf)};
}

static loch_status apply_image(const struct loch_id *tenant, uint8_t mark, uint8_t *page)
{
    struct loch_buf buf = image_record(7, mark);
    struct loch_redo_record r = as_record(&buf, 0x1000028);
    loch_status st = loch_redo_pool_apply(pool, tenant, &rel, LOCH_FORK_MAIN, 7, NULL, &r, 1, page);
    loch_buf_fini(&buf);
    return st;
}

/* ---- tests ---- */

static void test_image_and_inserts(void **state)
{
    struct loch_buf bufs[4];
    struct loch_redo_record r[4];
    uint8_t page[LOCH_PAGE_BYTES], more[LOCH_PAGE_BYTES];

    (void)state;
    make_pool(1, 0, 0);
    assert_ok(apply_image(&tenant_a, 42, page));
    assert_int_equal(page[100], 42);
    assert_int_equal(loch_get_u32(page + 4), 0x1000028 + ((24 + 9 + 16 + 8192 + 7) & ~7));

    for (uint16_t i = 0; i < 4; i++) {
        bufs[i] = insert_record(7, (uint16_t)(i + 1));
        r[i] = as_record(&bufs[i], 0x2000028 + 100u * i);
    }
    assert_ok(loch_redo_pool_apply(pool, &tenant_a, &rel, LOCH_FORK_MAIN, 7, NULL, r, 3, page));
    assert_int_equal(loch_get_u16(page + 12), 24 + 3 * 4); /* three line pointers */
    assert_int_equal(loch_get_u32(page + 4), r[2].end_lsn);
    assert_ok(loch_redo_pool_apply(pool, &tenant_a, &rel, LOCH_FORK_MAIN, 7, page, r + 3, 1, more));
    assert_int_equal(loch_get_u16(more + 12), 24 + 4 * 4);
    /* A record the page already has is left out. */
    assert_ok(loch_redo_pool_apply(pool, &tenant_a, &rel, LOCH_FORK_MAIN, 7, more, r, 4, page));
    assert_memory_equal(page, more, sizeof page);
    assert_int_equal(stats_now().spawned, 1);
    for (int i = 0; i < 4; i++)
        loch_buf_fini(&bufs[i]);
}

static void test_long_chain(void **state)
{
    enum { COUNT = 1000 }; /* 8 MB: three frames */
    static struct loch_buf bufs[COUNT];
    static struct loch_redo_record r[COUNT];
    uint8_t page[LOCH_PAGE_BYTES];

    (void)state;
    make_pool(1, 0, 0);
    for (unsigned i = 0; i < COUNT; i++) {
        bufs[i] = image_record(7, (uint8_t)i);
        r[i] = as_record(&bufs[i], 0x1000028 + 10000u * i);
    }
    assert_ok(loch_redo_pool_apply(pool, &tenant_a, &rel, LOCH_FORK_MAIN, 7, NULL, r, COUNT, page));
    assert_int_equal(page[100], (uint8_t)(COUNT - 1));
    assert_int_equal(stats_now().spawned, 1);
    for (unsigned i = 0; i < COUNT; i++)
        loch_buf_fini(&bufs[i]);
}

static void test_poison(void **state)
{
    struct loch_buf insert = insert_record(7, 5), other = image_record(9, 1);
    struct loch_redo_record r = as_record(&insert, 0x5000028);
    uint8_t page[LOCH_PAGE_BYTES];

    (void)state;
    make_pool(1, 0, 0);
    memset(page, 0xEE, sizeof page);
    /* offset 5 of a page that was never made */
    assert_code(loch_redo_pool_apply(pool, &tenant_a, &rel, LOCH_FORK_MAIN, 7, NULL, &r, 1, page),
                LOCH_E_CORRUPT);
    assert_non_null(strstr(loch_error_text(), "0/5000028 (resource manager 10, info 00)"));
    assert_int_equal(page[0], 0xEE);
    /* an invalid offset on an empty page: PANIC in heap_xlog_insert */
    assert_ok(apply_image(&tenant_a, 0, page));
    assert_code(loch_redo_pool_apply(pool, &tenant_a, &rel, LOCH_FORK_MAIN, 7, page, &r, 1, page),
                LOCH_E_CORRUPT);
    /* another block's record */
    r = as_record(&other, 0x5100028);
    assert_code(loch_redo_pool_apply(pool, &tenant_a, &rel, LOCH_FORK_MAIN, 7, NULL, &r, 1, page),
                LOCH_E_CORRUPT);
    assert_non_null(strstr(loch_error_text(), "does not touch the page"));
    /* garbage of all kinds */
    srand(7);
    for (int i = 0; i < 60; i++) {
        for (size_t j = 0; j < 4; j++)
            other.data[18 + (size_t)rand() % 60] = (uint8_t)rand();
        other.data[17] = (uint8_t)(rand() % 24);
        other.data[16] = (uint8_t)rand();
        r.start_lsn += 8; /* another record each time: one that failed is remembered */
        r.end_lsn += 8;
        loch_status st =
            loch_redo_pool_apply(pool, &tenant_a, &rel, LOCH_FORK_MAIN, 7, NULL, &r, 1, page);
        assert_true(loch_is_ok(st) || st.code == LOCH_E_CORRUPT);
    }
    r.start_lsn += 8;
    r.bytes.len = 10;
    assert_code(loch_redo_pool_apply(pool, &tenant_a, &rel, LOCH_FORK_MAIN, 7, NULL, &r, 1, page),
                LOCH_E_CORRUPT);
    r.bytes.len = 4u << 20;
    assert_code(loch_redo_pool_apply(pool, &tenant_a, &rel, LOCH_FORK_MAIN, 7, NULL, &r, 1, page),
                LOCH_E_LIMIT);
    loch_buf_fini(&insert);
    loch_buf_fini(&other);
    /* and the pool goes on */
    assert_ok(apply_image(&tenant_a, 3, page));
    assert_int_equal(page[100], 3);
    loch_buf_fini(&insert);
    loch_buf_fini(&other);
}

/* A tablespace record that names the page: its redo makes a directory, which the sandbox answers
 * with death. */
static struct loch_buf killing_record(uint32_t block)
{
    struct loch_buf buf = {0};
    struct loch_writer w;

    loch_writer_init(&w, &buf);
    loch_write_zeros(&w, 24);
    write_block_header(&w, 0, 0);
    write_rel_block(&w, block);
    loch_write_u8(&w, 255);
    loch_write_u8(&w, 8);
    loch_write_u32(&w, 16999);
    loch_write_bytes(&w, "/x\0", 4);
    assert_ok(loch_writer_finish(&w));
    finish_record(&buf, 5, 0x00);
    return buf;
}

/* What kills workers is found among others, named, and not tried again until its time is up. */
static void test_record_that_kills(void **state)
{
    struct loch_buf bufs[3] = {insert_record(7, 1), killing_record(7), insert_record(7, 2)};
    struct loch_redo_record r[3];
    uint8_t page[LOCH_PAGE_BYTES];

    (void)state;
    make_pool(1, 0, 0);
    for (uint32_t i = 0; i < 3; i++)
        r[i] = as_record(&bufs[i], 0x6000028 + 0x100u * i);
    assert_code(loch_redo_pool_apply(pool, &tenant_a, &rel, LOCH_FORK_MAIN, 7, NULL, r, 3, page),
                LOCH_E_CORRUPT);
    assert_non_null(strstr(loch_error_text(), "1663/5/16384 fork 0 block 7"));
    assert_non_null(strstr(loch_error_text(), "0/6000128 (resource manager 5, info 00)"));
    assert_non_null(strstr(loch_error_text(), "dies"));
    assert_int_equal(stats_now().died, 3); /* twice as a chain, once alone */
    assert_int_equal(stats_now().poisoned, 1);
    uint64_t spawned = stats_now().spawned;

    assert_code(loch_redo_pool_apply(pool, &tenant_a, &rel, LOCH_FORK_MAIN, 7, NULL, r, 2, page),
                LOCH_E_CORRUPT);
    assert_non_null(strstr(loch_error_text(), "0/6000128 (resource manager 5, info 00)"));
    assert_non_null(strstr(loch_error_text(), "tried again in"));
    assert_int_equal(stats_now().spawned, spawned);
    assert_int_equal(stats_now().turned_away, 1);
    /* neither the record before it nor another tenant's is held back */
    assert_ok(loch_redo_pool_apply(pool, &tenant_a, &rel, LOCH_FORK_MAIN, 7, NULL, r, 1, page));
    assert_code(loch_redo_pool_apply(pool, &tenant_b, &rel, LOCH_FORK_MAIN, 7, NULL, r, 3, page),
                LOCH_E_CORRUPT);
    assert_true(stats_now().spawned > spawned);
    assert_int_equal(stats_now().turned_away, 1);
    loch_redo_pool_destroy(pool);

    struct loch_redo_pool_options options = {.postgres_bin_dir = BIN_DIR,
                                             .lib_dir = LOCH_LIB_DIR,
                                             .scratch_dir = scratch,
                                             .poison_ms = 1};
    assert_ok(loch_redo_pool_create(&options, &pool));
    while (stats_now().died < 4) /* its time is up at once: workers are asked again */
        assert_code(
            loch_redo_pool_apply(pool, &tenant_a, &rel, LOCH_FORK_MAIN, 7, NULL, &r[1], 1, page),
            LOCH_E_CORRUPT);
    for (int i = 0; i < 3; i++)
        loch_buf_fini(&bufs[i]);
}

/* The pid of the only worker, from its postmaster.pid. */
static int worker_pid(void)
{
    DIR *dir = opendir(scratch);
    struct dirent *e;
    int pid = 0;

    assert_non_null(dir);
    while ((e = readdir(dir)) != NULL) {
        char path[512];
        FILE *f;
        if (strncmp(e->d_name, "redo-", 5) != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s/postmaster.pid", scratch, e->d_name);
        f = fopen(path, "r");
        assert_non_null(f);
        assert_int_equal(fscanf(f, "%d", &pid), 1);
        fclose(f);
        if (pid < 0)
            pid = -pid; /* a standalone backend writes it negative */
    }
    closedir(dir);
    assert_true(pid > 0);
    return pid;
}

static void test_killed_and_hung_worker(void **state)
{
    uint8_t page[LOCH_PAGE_BYTES];
    struct loch_redo_pool_options options = {.postgres_bin_dir = BIN_DIR,
                                             .lib_dir = LOCH_LIB_DIR,
                                             .scratch_dir = scratch,
                                             .max_workers_per_tenant = 1,
                                             .request_timeout_ms = 1000};

    (void)state;
    assert_ok(loch_redo_pool_create(&options, &pool));
    assert_ok(apply_image(&tenant_a, 1, page));
    assert_int_equal(kill(worker_pid(), SIGKILL), 0);
    assert_ok(apply_image(&tenant_a, 2, page));
    assert_int_equal(page[100], 2);
    assert_int_equal(stats_now().died, 1);
    assert_int_equal(kill(worker_pid(), SIGSTOP), 0);
    assert_ok(apply_image(&tenant_a, 4, page));
    assert_int_equal(page[100], 4);
    assert_in_range(stats_now().timed_out, 1,
                    2); /* a machine that rests looks like one that hangs */
    assert_int_equal(stats_now().spawned, 2 + stats_now().timed_out);
}

static void test_tenants_apart(void **state)
{
    uint8_t page[LOCH_PAGE_BYTES];

    (void)state;
    make_pool(2, 0, 0);
    assert_ok(apply_image(&tenant_a, 1, page));
    assert_ok(apply_image(&tenant_b, 1, page));
    assert_int_equal(stats_now().spawned, 2); /* not a's worker for b */
    assert_int_equal(stats_now().workers, 2);
    loch_redo_pool_drop_tenant(pool, &tenant_a);
    assert_int_equal(stats_now().workers, 1);
    assert_ok(apply_image(&tenant_b, 1, page));
    assert_int_equal(stats_now().spawned, 2);
}

static void test_idle_ones_end(void **state)
{
    uint8_t page[LOCH_PAGE_BYTES];

    (void)state;
    make_pool(2, 0, 50);
    assert_ok(apply_image(&tenant_a, 1, page));
    assert_int_equal(stats_now().workers, 1);
    usleep(80000);
    loch_redo_pool_reap(pool);
    assert_int_equal(stats_now().workers, 0);
}

static void test_global_limit(void **state)
{
    uint8_t page[LOCH_PAGE_BYTES];

    (void)state;
    make_pool(2, 1, 0);
    assert_ok(apply_image(&tenant_a, 1, page));
    assert_ok(apply_image(&tenant_b, 1, page)); /* makes room by ending a's */
    assert_int_equal(stats_now().workers, 1);
    assert_int_equal(stats_now().spawned, 2);
}

static void *hammer(void *arg)
{
    const struct loch_id *tenant = arg;
    uint8_t page[LOCH_PAGE_BYTES];
    uintptr_t wrong = 0;

    for (unsigned i = 0; i < 200; i++) {
        uint8_t mark = (uint8_t)(i + tenant->bytes[0]);
        loch_status st = apply_image(tenant, mark, page);
        if (!loch_is_ok(st) ? st.code != LOCH_E_UNAVAILABLE : page[100] != mark)
            wrong++;
    }
    return (void *)wrong;
}

static void test_threads(void **state)
{
    pthread_t threads[6];

    (void)state;
    make_pool(2, 3, 0);
    for (size_t i = 0; i < 6; i++) {
        union {
            const struct loch_id *id;
            void *arg;
        } u = {.id = i % 2 ? &tenant_a : &tenant_b};
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, u.arg), 0);
    }
    for (int i = 0; i < 5; i++) {
        usleep(5000);
        loch_redo_pool_drop_tenant(pool, &tenant_a);
    }
    for (size_t i = 0; i < 6; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    assert_true(stats_now().workers <= 3);
}

static atomic_bool renewed_enough;

/* A branch of the tenant went dark: whoever asked for another's page gets it all the same. */
static void *expect_pages(void *arg)
{
    uint8_t page[LOCH_PAGE_BYTES];
    uintptr_t wrong = 0;

    for (unsigned i = 0; i < 60 || !atomic_load(&renewed_enough); i++) {
        const loch_status st = apply_image(arg, (uint8_t)i, page);
        wrong += !loch_is_ok(st) || page[100] != (uint8_t)i;
    }
    return (void *)wrong;
}

static void test_renewed_under_requests(void **state)
{
    pthread_t threads[3];
    uint8_t page[LOCH_PAGE_BYTES];
    struct loch_id tenant = tenant_a;
    void *wrong;

    (void)state;
    make_pool(2, 0, 0);
    assert_ok(apply_image(&tenant_a, 1, page));
    assert_ok(apply_image(&tenant_b, 1, page));
    atomic_store(&renewed_enough, false);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, expect_pages, &tenant), 0);
    for (int i = 0; i < 5; i++) {
        const uint64_t before = stats_now().spawned;
        loch_redo_pool_renew_tenant(pool, &tenant_a);
        for (int k = 0; k < 60000 && stats_now().spawned == before; k++)
            usleep(1000); /* one is at work again */
    }
    atomic_store(&renewed_enough, true);
    for (size_t i = 0; i < 3; i++) {
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    assert_int_equal(stats_now().died, 0);
    assert_int_equal(stats_now().poisoned, 0);
    assert_true(stats_now().spawned >= 2 + 5); /* the first two, and others in the place of a's */
    loch_redo_pool_renew_tenant(pool, &tenant_a);
    assert_int_equal(stats_now().workers, 1); /* b's */
}

static void test_create_refuses(void **state)
{
    struct loch_redo_pool_options options = {
        .postgres_bin_dir = "/nonexistent", .lib_dir = LOCH_LIB_DIR, .scratch_dir = scratch};

    (void)state;
    assert_code(loch_redo_pool_create(&options, &pool), LOCH_E_INVALID);
    options.postgres_bin_dir = BIN_DIR;
    options.lib_dir = "/nonexistent";
    assert_code(loch_redo_pool_create(&options, &pool), LOCH_E_INVALID);
    options.lib_dir = LOCH_LIB_DIR;
    options.scratch_dir = "/nonexistent";
    assert_code(loch_redo_pool_create(&options, &pool), LOCH_E_INVALID);
}

static void test_bad_control_is_explained(void **state)
{
    static const uint8_t zeros[LOCH_PAGE_BYTES];
    uint8_t page[LOCH_PAGE_BYTES];
    struct loch_redo_pool_options options = {.postgres_bin_dir = BIN_DIR,
                                             .lib_dir = LOCH_LIB_DIR,
                                             .scratch_dir = scratch,
                                             .pg_control = zeros};

    (void)state;
    assert_ok(loch_redo_pool_create(&options, &pool));
    assert_code(apply_image(&tenant_a, 1, page), LOCH_E_UNAVAILABLE);
    assert_non_null(strstr(loch_error_text(), "FATAL"));
}

/* Start to first answer, and one record in steady state; printed, not judged. */
static void test_speed(void **state)
{
    uint8_t page[LOCH_PAGE_BYTES];
    struct timespec t0, t1, t2;
    struct loch_buf buf = insert_record(7, 1);
    struct loch_redo_record r = as_record(&buf, 0x1000028);

    (void)state;
    make_pool(1, 0, 0);
    clock_gettime(CLOCK_MONOTONIC, &t0);
    assert_ok(apply_image(&tenant_a, 1, page));
    clock_gettime(CLOCK_MONOTONIC, &t1);
    for (int i = 0; i < 2000; i++)
        assert_ok(
            loch_redo_pool_apply(pool, &tenant_a, &rel, LOCH_FORK_MAIN, 7, NULL, &r, 1, page));
    clock_gettime(CLOCK_MONOTONIC, &t2);
    print_message(
        "start to first answer %.1f ms, one record %.1f us\n",
        (double)(t1.tv_sec - t0.tv_sec) * 1e3 + (double)(t1.tv_nsec - t0.tv_nsec) / 1e6,
        ((double)(t2.tv_sec - t1.tv_sec) * 1e6 + (double)(t2.tv_nsec - t1.tv_nsec) / 1e3) / 2000);
    loch_buf_fini(&buf);
}

#define TEST(fn_) cmocka_unit_test_setup_teardown(fn_, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_create_refuses),
        TEST(test_image_and_inserts),
        TEST(test_long_chain),
        TEST(test_poison),
        TEST(test_record_that_kills),
        TEST(test_killed_and_hung_worker),
        TEST(test_tenants_apart),
        TEST(test_idle_ones_end),
        TEST(test_global_limit),
        TEST(test_threads),
        TEST(test_renewed_under_requests),
        TEST(test_bad_control_is_explained),
        TEST(test_speed),
    };
    if (access(BIN_DIR "/postgres", X_OK) != 0) {
        print_message("no PostgreSQL 15 here: skipped\n");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
