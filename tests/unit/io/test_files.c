/* Files: asynchronous writes and syncs by io_uring and by the pool, whole files, every injected
 * fault. */
#include "../unit.h"

#include "loch/io/env.h"
#include "loch/io/fault.h"
#include "loch/io/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct loch_env *env;
static char dir[64];
static int pending;
static loch_status last;

static const char *path_of(const char *name)
{
    static char path[4][128];
    static unsigned turn;
    char *p = path[turn++ % 4];
    (void)snprintf(p, 128, "%s/%s", dir, name);
    return p;
}

static int begin_with(const char *no_uring)
{
    (void)setenv("LOCH_NO_URING", no_uring, 1);
    (void)strcpy(dir, "/tmp/io-files-XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    loch_io_fault_set(0, 0);
    return loch_is_ok(loch_env_real_create(&env)) ? 0 : -1;
}

static int begin_ring(void **state)
{
    (void)state;
    return begin_with("0");
}

static int begin_pool(void **state)
{
    (void)state;
    return begin_with("1");
}

static int end(void **state)
{
    char command[96];
    (void)state;
    loch_io_fault_set(0, 0);
    loch_env_real_destroy(env);
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static void done(void *arg, loch_status st)
{
    if (arg != NULL)
        *(loch_status *)arg = st;
    last = st;
    if (--pending == 0)
        loch_env_stop(env);
}

static void wait_all(void)
{
    if (pending > 0)
        loch_env_run(env);
    assert_int_equal(pending, 0);
}

static void write_sync_read(void **state)
{
    struct loch_file *f = NULL;
    uint64_t size = 0;
    char got[11] = {0};
    (void)state;
    assert_code(loch_file_open(env, path_of("a"), O_RDWR, &f), LOCH_E_NOT_FOUND);
    assert_ok(loch_file_open(env, path_of("a"), O_RDWR | O_CREAT | O_EXCL, &f));
    pending = 2;
    assert_ok(loch_file_write(f, 0, loch_slice_of("hello", 5), done, NULL));
    assert_ok(loch_file_write(f, 5, loch_slice_of("world", 5), done, NULL));
    assert_int_equal(pending, 2); /* never before the call returns */
    wait_all();
    pending = 1;
    assert_ok(loch_file_sync(f, done, NULL));
    wait_all();
    assert_ok(last);
    assert_ok(loch_file_size(f, &size));
    assert_int_equal(size, 10);
    assert_ok(loch_file_read(f, 0, got, 10));
    assert_string_equal(got, "helloworld");
    pending = 1;
    assert_ok(loch_file_write_sync(f, 0, loch_slice_of("HELLO", 5), done, NULL));
    wait_all();
    assert_ok(last);
    assert_ok(loch_file_read(f, 0, got, 10));
    assert_string_equal(got, "HELLOworld");
    assert_code(loch_file_write_sync(f, 0, loch_slice_of("x", 0), done, NULL), LOCH_E_INVALID);
    assert_code(loch_file_read(f, 1, got, 10), LOCH_E_CORRUPT);
    assert_code(loch_file_read(f, UINT64_MAX, got, 10), LOCH_E_CORRUPT);
    if (loch_file_read_now(f, 0, got, 10) ==
        10) /* just written: in the cache, if one can ask for it */
        assert_memory_equal(got, "HELLOworld", 10);
    assert_true(loch_file_read_now(f, 1, got, 10) < 10); /* beyond the end */
    assert_true(loch_file_read_now(f, 10, got, 10) == 0);
    assert_true(loch_file_read_now(f, UINT64_MAX, got, 10) == 0);
    loch_file_close(f);
    assert_code(loch_file_open(env, path_of("a"), O_RDWR | O_CREAT | O_EXCL, &f), LOCH_E_EXISTS);
    loch_file_close(NULL);
}

static void allocate(void **state)
{
    struct loch_file *f = NULL;
    uint64_t size = 0;
    (void)state;
    assert_ok(loch_file_open(env, path_of("a"), O_RDWR | O_CREAT, &f));
    pending = 1;
    assert_ok(loch_file_allocate(f, 1 << 20, done, NULL));
    wait_all();
    assert_ok(last);
    assert_ok(loch_file_size(f, &size));
    assert_int_equal(size, 1 << 20);
    assert_code(loch_file_allocate(f, 0, done, NULL), LOCH_E_INVALID);
    assert_code(loch_file_write(f, UINT64_MAX, loch_slice_of("x", 1), done, NULL), LOCH_E_INVALID);
    loch_file_close(f);
}

/* More operations than the ring has room for; large ones among them. */
static void many_writes(void **state)
{
    enum { MANY = 2000, BIG = 4 << 20 };
    struct loch_file *f = NULL;
    static uint32_t values[MANY];
    uint8_t *big = malloc(BIG);
    uint8_t *back = malloc(BIG);
    (void)state;
    assert_non_null(big);
    assert_non_null(back);
    for (size_t i = 0; i < BIG; i++)
        big[i] = (uint8_t)(i * 7 + i / 4096);
    assert_ok(loch_file_open(env, path_of("a"), O_RDWR | O_CREAT, &f));
    pending = MANY + 1;
    for (uint32_t i = 0; i < MANY; i++) {
        values[i] = i;
        assert_ok(loch_file_write(f, BIG + i * sizeof values[0],
                                  loch_slice_of(&values[i], sizeof values[0]), done, NULL));
    }
    assert_ok(loch_file_write(f, 0, loch_slice_of(big, BIG), done, NULL));
    wait_all();
    assert_ok(loch_file_read(f, 0, back, BIG));
    assert_memory_equal(big, back, BIG);
    assert_ok(loch_file_read(f, BIG, back, sizeof values));
    assert_memory_equal(values, back, sizeof values);
    loch_file_close(f);
    free(big);
    free(back);
}

static pthread_t loop_thread;
static unsigned loop_syncs;

/* The real one's place: counts what the loop's own thread syncs. */
int fdatasync(int fd)
{
    if (pthread_equal(pthread_self(), loop_thread))
        loop_syncs++;
    return (int)syscall(SYS_fdatasync, fd);
}

struct run {
    struct loch_file *file;
    unsigned left, number;
};

/* One write_sync after another, each begun where the one before ends. */
static void go_on(void *arg, loch_status st)
{
    struct run *r = arg;

    last = st;
    if (!loch_is_ok(st) || r->left == 0) {
        if (--pending == 0)
            loch_env_stop(env);
        return;
    }
    r->left--;
    const uint64_t offset = r->number++ * sizeof r->number;
    assert_ok(loch_file_write_sync(r->file, offset, loch_slice_of(&r->number, sizeof r->number),
                                   go_on, r));
}

static void begin_run(struct run *r, unsigned count)
{
    r->left = count;
    pending++;
    go_on(r, LOCH_OK);
}

static void the_only_busy_file(void **state)
{
    enum { MANY = 300 };
    struct run a = {0}, b = {0};
    static unsigned got[2 * MANY];

    (void)state;
    loop_thread = pthread_self();
    loop_syncs = 0;
    assert_ok(loch_file_open(env, path_of("a"), O_RDWR | O_CREAT, &a.file));
    assert_ok(loch_file_open(env, path_of("b"), O_RDWR | O_CREAT, &b.file));
    begin_run(&a, MANY); /* two of them, in turn: nothing waits on the loop */
    begin_run(&b, MANY);
    wait_all();
    assert_ok(last);
    assert_true(loop_syncs < MANY);
    loop_syncs = 0;
    begin_run(&a, MANY);
    wait_all();
    assert_ok(last);
    assert_true(loop_syncs > 0);
    assert_ok(loch_file_read(a.file, 0, got, sizeof got));
    for (unsigned i = 0; i < 2 * MANY; i++)
        assert_int_equal(got[i], i + 1);
    loch_io_fault_set(200, EIO);
    begin_run(&a, MANY);
    wait_all();
    assert_code(last, LOCH_E_IO);
    assert_int_equal(a.left, MANY - 200);
    loch_file_close(a.file);
    loch_file_close(b.file);
}

static void async_faults(void **state)
{
    struct loch_file *f = NULL;
    loch_status first = LOCH_OK;
    loch_status second = LOCH_OK;
    (void)state;
    assert_ok(loch_file_open(env, path_of("a"), O_RDWR | O_CREAT, &f));
    loch_io_fault_set(2, EIO);
    pending = 2;
    assert_ok(loch_file_write(f, 0, loch_slice_of("x", 1), done, &first));
    assert_ok(loch_file_sync(f, done, &second));
    wait_all();
    assert_code(first, LOCH_E_OK);
    assert_code(second, LOCH_E_IO);
    loch_io_fault_set(1, ENOSPC);
    pending = 1;
    assert_ok(loch_file_write(f, 0, loch_slice_of("x", 1), done, &first));
    wait_all();
    assert_code(first, LOCH_E_IO);
    loch_io_fault_set(1, EIO);
    char byte;
    assert_code(loch_file_read(f, 0, &byte, 1), LOCH_E_IO);
    assert_ok(loch_file_read(f, 0, &byte, 1));
    loch_io_fault_set(1, EMFILE);
    struct loch_file *g = NULL;
    assert_code(loch_file_open(env, path_of("b"), O_RDWR | O_CREAT, &g), LOCH_E_IO);
    loch_file_close(f);
}

static void text_of(const char *name, char *out, size_t max)
{
    struct loch_buf buf = {0};
    assert_ok(loch_env_read_file(env, path_of(name), max - 1, &buf));
    if (buf.len > 0)
        memcpy(out, buf.data, buf.len);
    out[buf.len] = '\0';
    loch_buf_fini(&buf);
}

static void whole_files(void **state)
{
    char got[32];
    char to[400];
    struct loch_buf buf = {0};
    (void)state;
    assert_code(loch_env_read_file(env, path_of("a"), 10, &buf), LOCH_E_NOT_FOUND);
    assert_ok(loch_env_create_file(env, path_of("a"), loch_slice_of("one", 3)));
    assert_code(loch_env_create_file(env, path_of("a"), loch_slice_of("two", 3)), LOCH_E_EXISTS);
    text_of("a", got, sizeof got);
    assert_string_equal(got, "one");
    assert_ok(loch_env_replace_file(env, path_of("a"), loch_slice_of("three", 5)));
    text_of("a", got, sizeof got);
    assert_string_equal(got, "three");
    assert_code(loch_env_read_file(env, path_of("a"), 4, &buf), LOCH_E_LIMIT);
    assert_int_equal(buf.len, 0);
    assert_ok(loch_env_read_file(env, path_of("a"), 5, &buf));
    assert_int_equal(buf.len, 5);
    loch_buf_fini(&buf);
    assert_ok(loch_env_truncate_file(env, path_of("a"), 2));
    text_of("a", got, sizeof got);
    assert_string_equal(got, "th");
    assert_code(loch_env_truncate_file(env, path_of("b"), 2), LOCH_E_NOT_FOUND);
    assert_ok(loch_env_create_file(env, path_of("old"), loch_slice_of("4", 1)));
    assert_code(loch_env_rename(env, path_of("b"), path_of("c")), LOCH_E_NOT_FOUND);
    (void)snprintf(to, sizeof to, "%s", path_of("a"));
    assert_code(loch_env_rename(env, path_of("old"), to), LOCH_E_EXISTS);
    (void)snprintf(to, sizeof to, "%s", path_of("new"));
    assert_ok(loch_env_rename(env, path_of("old"), to));
    text_of("new", got, sizeof got);
    assert_string_equal(got, "4");
    assert_ok(loch_env_unlink(env, path_of("new")));
    uint64_t free_bytes = 0;
    uint64_t all_bytes = 0;
    assert_ok(loch_env_fs_space(env, dir, &free_bytes, &all_bytes));
    assert_true(free_bytes > 0 && free_bytes <= all_bytes);
    assert_code(loch_env_fs_space(env, path_of("b"), &free_bytes, &all_bytes), LOCH_E_NOT_FOUND);
    assert_ok(loch_env_replace_file(env, path_of("empty"), loch_slice_of(NULL, 0)));
    text_of("empty", got, sizeof got);
    assert_string_equal(got, "");
    assert_ok(loch_env_unlink(env, path_of("a")));
    assert_code(loch_env_unlink(env, path_of("a")), LOCH_E_NOT_FOUND);
    assert_int_not_equal(access(path_of("a.tmp"), F_OK), 0);
}

static bool join_names(void *arg, const char *name)
{
    (void)strcat(arg, name);
    (void)strcat(arg, " ");
    return strcmp(name, "stop") != 0;
}

static void directories(void **state)
{
    char names[64] = "";
    (void)state;
    assert_ok(loch_env_mkdirs(env, path_of("x/y/z")));
    assert_ok(loch_env_mkdirs(env, path_of("x/y/z")));
    assert_ok(loch_env_mkdirs(env, path_of("x/y/b/")));
    assert_ok(loch_env_create_file(env, path_of("x/y/a"), loch_slice_of("", 0)));
    assert_ok(loch_env_list_dir(env, path_of("x/y"), join_names, names));
    assert_string_equal(names, "a b z ");
    assert_ok(loch_env_create_file(env, path_of("x/y/stop"), loch_slice_of("", 0)));
    names[0] = '\0';
    assert_ok(loch_env_list_dir(env, path_of("x/y"), join_names, names));
    assert_string_equal(names, "a b stop ");
    assert_code(loch_env_mkdirs(env, path_of("x/y/a/c")), LOCH_E_IO);
    assert_code(loch_env_list_dir(env, path_of("none"), join_names, names), LOCH_E_NOT_FOUND);
    assert_ok(loch_env_sync_dir(env, path_of("x")));
    assert_code(loch_env_sync_dir(env, path_of("none")), LOCH_E_NOT_FOUND);
}

static void replace_async(void **state)
{
    char got[32];
    struct loch_buf buf = {0};
    (void)state;
    assert_ok(loch_buf_append(&buf, "later", 5));
    pending = 1;
    assert_ok(loch_env_replace_file_async(env, path_of("a"), &buf, done, NULL));
    assert_null(buf.data);
    wait_all();
    assert_ok(last);
    text_of("a", got, sizeof got);
    assert_string_equal(got, "later");
    assert_ok(loch_buf_append(&buf, "never", 5));
    pending = 1;
    assert_ok(loch_env_replace_file_async(env, path_of("none/a"), &buf, done, NULL));
    wait_all();
    assert_code(last, LOCH_E_NOT_FOUND);
    assert_non_null(strstr(loch_error_text(), "none/a"));
}

/* Whichever step of a replacement fails: the file is the old one or the new one, whole. */
static void replace_faults(void **state)
{
    char got[32];
    (void)state;
    assert_ok(loch_env_replace_file(env, path_of("a"), loch_slice_of("old", 3)));
    for (uint64_t n = 1;; n++) {
        loch_io_fault_set(n, EIO);
        loch_status st = loch_env_replace_file(env, path_of("a"), loch_slice_of("newer", 5));
        bool was_hit = loch_io_fault_count() >= n;
        loch_io_fault_set(0, 0);
        text_of("a", got, sizeof got);
        assert_int_not_equal(access(path_of("a.tmp"), F_OK), 0);
        if (!was_hit) {
            assert_ok(st);
            assert_true(n > 5);
            assert_string_equal(got, "newer");
            break;
        }
        assert_code(st, LOCH_E_IO);
        assert_true(strcmp(got, "old") == 0 || strcmp(got, "newer") == 0);
    }
}

/* ---- files piece by piece ---- */

static loch_status make_of_pieces(const char *path, const uint8_t *bytes, size_t len)
{
    const size_t piece = (size_t)1 << 20;
    struct loch_new_file *file = NULL;
    LOCH_TRY(loch_env_new_file(env, path, &file));
    for (size_t at = 0; at < len; at += piece) {
        loch_status st =
            loch_new_file_add(file, loch_slice_of(bytes + at, len - at < piece ? len - at : piece));
        assert_int_not_equal(access(path, F_OK), 0);
        if (!loch_is_ok(st)) {
            loch_new_file_abandon(file);
            return st;
        }
    }
    return loch_new_file_end(file);
}

/* Large enough for more than one of them to be sent to the disk ahead. */
static void pieces(void **state)
{
    const size_t len = ((size_t)20 << 20) + 5;
    uint8_t *bytes = malloc(len);
    char path[128];
    struct loch_buf got = {0};
    struct loch_new_file *file = NULL;
    (void)state;
    assert_non_null(bytes);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 24);
    (void)snprintf(path, sizeof path, "%s", path_of("a"));
    assert_ok(make_of_pieces(path, bytes, len));
    assert_ok(loch_env_read_file(env, path, len, &got));
    assert_int_equal(got.len, len);
    assert_memory_equal(got.data, bytes, len);
    loch_buf_fini(&got);
    assert_int_not_equal(access(path_of("a.tmp"), F_OK), 0);
    /* The name is taken: the file that is there stays. */
    assert_ok(loch_env_new_file(env, path, &file));
    assert_ok(loch_new_file_add(file, loch_slice_of("other", 5)));
    assert_code(loch_new_file_end(file), LOCH_E_EXISTS);
    assert_ok(loch_env_read_file(env, path, len, &got));
    assert_int_equal(got.len, len);
    loch_buf_fini(&got);
    assert_ok(loch_env_new_file(env, path_of("b"), &file));
    assert_ok(loch_new_file_add(file, loch_slice_of("never", 5)));
    loch_new_file_abandon(file);
    loch_new_file_abandon(NULL);
    assert_int_not_equal(access(path_of("b"), F_OK), 0);
    assert_int_not_equal(access(path_of("b.tmp"), F_OK), 0);
    assert_ok(make_of_pieces(path_of("empty"), bytes, 0));
    assert_int_equal(access(path_of("empty"), F_OK), 0);
    assert_code(loch_env_new_file(env, path_of("none/a"), &file), LOCH_E_NOT_FOUND);
    free(bytes);
}

/* Whichever step fails: there is no file, or all of it, and nothing beside it. */
static void pieces_faults(void **state)
{
    static const uint8_t bytes[((size_t)3 << 20) + 1] = {7};
    char path[128];
    (void)state;
    for (uint64_t n = 1;; n++) {
        (void)snprintf(path, sizeof path, "%s/f%u", dir, (unsigned)n);
        loch_io_fault_set(n, EIO);
        loch_status st = make_of_pieces(path, bytes, sizeof bytes);
        bool was_hit = loch_io_fault_count() >= n;
        loch_io_fault_set(0, 0);
        struct stat is;
        const bool there = stat(path, &is) == 0;
        (void)strcat(path, ".tmp");
        assert_int_not_equal(access(path, F_OK), 0);
        assert_true(!there || (size_t)is.st_size == sizeof bytes);
        if (!was_hit) {
            assert_ok(st);
            assert_true(there && n > 7);
            break;
        }
        assert_code(st, LOCH_E_IO);
    }
}

static void create_faults(void **state)
{
    (void)state;
    for (uint64_t n = 1;; n++) {
        loch_io_fault_set(n, EIO);
        loch_status st = loch_env_create_file(env, path_of("a"), loch_slice_of("bytes", 5));
        bool was_hit = loch_io_fault_count() >= n;
        loch_io_fault_set(0, 0);
        if (!was_hit) {
            assert_ok(st);
            break;
        }
        assert_code(st, LOCH_E_IO);
        assert_int_not_equal(access(path_of("a.tmp"), F_OK), 0);
        (void)unlink(path_of("a"));
    }
    loch_io_fault_set(1, EIO);
    assert_code(loch_env_mkdirs(env, path_of("m")), LOCH_E_IO);
    loch_io_fault_set(1, EIO);
    assert_code(loch_env_unlink(env, path_of("a")), LOCH_E_IO);
    assert_int_equal(access(path_of("a"), F_OK), 0);
}

static void trees(void **state)
{
    (void)state;
    assert_ok(loch_env_create_file(env, path_of("outside"), loch_slice_of("x", 1)));
    assert_ok(loch_env_mkdirs(env, path_of("tree/a/b")));
    assert_ok(loch_env_create_file(env, path_of("tree/a/b/c"), loch_slice_of("x", 1)));
    assert_int_equal(symlink(path_of("outside"), path_of("tree/link")), 0);
    assert_ok(loch_remove_tree(path_of("tree")));
    assert_int_equal(access(path_of("tree"), F_OK), -1);
    assert_int_equal(access(path_of("outside"), F_OK), 0);
    assert_ok(loch_remove_tree(path_of("tree"))); /* nothing there */
    assert_ok(loch_remove_tree(path_of("outside")));
    assert_int_equal(access(path_of("outside"), F_OK), -1);
    assert_code(loch_remove_tree("/proc/self/attr"), LOCH_E_IO);
}

static void links_in_trees(void **state)
{
    (void)state;
    assert_ok(loch_env_mkdirs(env, path_of("outside")));
    assert_ok(loch_env_create_file(env, path_of("outside/x"), loch_slice_of("x", 1)));
    assert_ok(loch_env_mkdirs(env, path_of("tree/a/b")));
    assert_int_equal(symlink(path_of("outside"), path_of("tree/one")), 0);
    assert_int_equal(symlink(path_of("outside"), path_of("tree/a/two")), 0);
    assert_int_equal(symlink(path_of("outside"), path_of("tree/a/b/three")), 0);
    assert_int_equal(mkfifo(path_of("tree/a/b/pipe"), 0600), 0);
    assert_ok(loch_remove_tree(path_of("tree")));
    assert_int_equal(access(path_of("tree"), F_OK), -1);
    assert_int_equal(symlink(path_of("outside"), path_of("tree")), 0);
    assert_ok(loch_remove_tree(path_of("tree"))); /* in the place of the directory itself */
    assert_int_equal(faccessat(AT_FDCWD, path_of("tree"), F_OK, AT_SYMLINK_NOFOLLOW), -1);
    assert_int_equal(access(path_of("outside/x"), F_OK), 0);
}

/* Deeper than any path may be long: nobody keeps data by that. */
static void deep_trees(void **state)
{
    enum { LEVELS = 600 };
    const char *name = "a-long-name-of-a-directory";
    int at;

    (void)state;
    assert_ok(loch_env_mkdirs(env, path_of("tree")));
    at = open(path_of("tree"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < LEVELS; i++) {
        assert_int_equal(mkdirat(at, name, 0700), 0);
        int below = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(below >= 0);
        assert_int_equal(close(at), 0);
        at = below;
    }
    assert_int_equal(close(at), 0);
    assert_ok(loch_remove_tree(path_of("tree")));
    assert_int_equal(access(path_of("tree"), F_OK), -1);
}

int main(void)
{
#define BOTH(name_)                                                                                \
    {#name_ ", io_uring", name_, begin_ring, end, NULL},                                           \
    {                                                                                              \
#name_ ", pool", name_, begin_pool, end, NULL                                              \
    }
    const struct CMUnitTest tests[] = {
        BOTH(write_sync_read),
        BOTH(allocate),
        BOTH(many_writes),
        BOTH(the_only_busy_file),
        BOTH(async_faults),
        cmocka_unit_test_setup_teardown(whole_files, begin_ring, end),
        cmocka_unit_test_setup_teardown(directories, begin_ring, end),
        cmocka_unit_test_setup_teardown(replace_async, begin_ring, end),
        cmocka_unit_test_setup_teardown(replace_faults, begin_ring, end),
        cmocka_unit_test_setup_teardown(pieces, begin_ring, end),
        cmocka_unit_test_setup_teardown(pieces_faults, begin_ring, end),
        cmocka_unit_test_setup_teardown(create_faults, begin_ring, end),
        cmocka_unit_test_setup_teardown(trees, begin_ring, end),
        cmocka_unit_test_setup_teardown(links_in_trees, begin_ring, end),
        cmocka_unit_test_setup_teardown(deep_trees, begin_ring, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
