/* The object store's local back-end: semantics of every operation, races between processes, faults.
 */
#include "../unit.h"

#include "backend.h"

#include "loch/io/fault.h"
#include "loch/objstore/objstore.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static struct loch_env *env;
static struct loch_objstore *store;
static char dir[64];

static int begin(void **state)
{
    (void)state;
    (void)strcpy(dir, "/tmp/io-objstore-XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    loch_io_fault_set(0, 0);
    assert_ok(loch_env_real_create(&env));
    assert_ok(loch_objstore_open_local(env, dir, &store));
    return 0;
}

static int end(void **state)
{
    char command[96];
    (void)state;
    loch_io_fault_set(0, 0);
    loch_objstore_close(store);
    loch_objstore_close(NULL);
    loch_env_real_destroy(env);
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static struct loch_slice text(const char *s)
{
    return loch_slice_of(s, strlen(s));
}

static void assert_object(const char *name, const char *want)
{
    struct loch_buf buf = {0};
    assert_ok(loch_objstore_get(store, name, 1000, &buf, NULL));
    assert_int_equal(buf.len, strlen(want));
    assert_memory_equal(buf.data, want, buf.len);
    loch_buf_fini(&buf);
}

static void put_and_get(void **state)
{
    struct loch_buf buf = {0};
    struct loch_etag a;
    struct loch_etag b;
    uint64_t size = 0;
    (void)state;
    assert_code(loch_objstore_get(store, "t/a", 10, &buf, &a), LOCH_E_NOT_FOUND);
    assert_code(loch_objstore_head(store, "t/a", &size, &a), LOCH_E_NOT_FOUND);
    assert_ok(loch_objstore_put(store, "t/a", text("hello"), &a));
    assert_object("t/a", "hello");
    assert_ok(loch_buf_append(&buf, ">", 1));
    assert_ok(loch_objstore_get(store, "t/a", 5, &buf, &b));
    assert_int_equal(buf.len, 6); /* appended */
    assert_string_equal(a.text, b.text);
    assert_code(loch_objstore_get(store, "t/a", 4, &buf, &b), LOCH_E_LIMIT);
    assert_int_equal(buf.len, 6);
    assert_ok(loch_objstore_head(store, "t/a", &size, &b));
    assert_int_equal(size, 5);
    assert_string_equal(a.text, b.text);
    assert_ok(loch_objstore_put(store, "t/a", text("hello"), &b));
    assert_string_not_equal(a.text, b.text); /* same bytes, another object */
    assert_ok(loch_objstore_put(store, "t/a", text(""), NULL));
    assert_object("t/a", "");
    loch_buf_fini(&buf);
}

static void ranges(void **state)
{
    struct loch_buf buf = {0};
    (void)state;
    assert_ok(loch_objstore_put(store, "r", text("0123456789"), NULL));
    assert_ok(loch_objstore_get_range(store, "r", 3, 4, &buf));
    assert_int_equal(buf.len, 4);
    assert_memory_equal(buf.data, "3456", 4);
    assert_ok(loch_objstore_get_range(store, "r", 10, 0, &buf));
    assert_code(loch_objstore_get_range(store, "r", 3, 8, &buf), LOCH_E_CORRUPT);
    assert_code(loch_objstore_get_range(store, "r", UINT64_MAX, 2, &buf), LOCH_E_CORRUPT);
    assert_code(loch_objstore_get_range(store, "none", 0, 1, &buf), LOCH_E_NOT_FOUND);
    assert_int_equal(buf.len, 4);
    loch_buf_fini(&buf);
}

static void conditions(void **state)
{
    struct loch_etag a;
    struct loch_etag b;
    (void)state;
    assert_ok(loch_objstore_put_if_absent(store, "c", text("one"), &a));
    assert_code(loch_objstore_put_if_absent(store, "c", text("one"), &b), LOCH_E_EXISTS);
    assert_ok(loch_objstore_put_if_match(store, "c", &a, text("two"), &b));
    assert_code(loch_objstore_put_if_match(store, "c", &a, text("three"), &a), LOCH_E_STALE);
    assert_object("c", "two");
    assert_ok(loch_objstore_put_if_match(store, "c", &b, text("three"), &b)); /* in place */
    assert_ok(loch_objstore_delete(store, "c"));
    assert_ok(loch_objstore_delete(store, "c"));
    assert_code(loch_objstore_put_if_match(store, "c", &b, text("four"), NULL), LOCH_E_STALE);
    assert_ok(loch_objstore_put_if_absent(store, "c", text("three"), NULL));
    /* The same bytes again, but not the same object. */
    assert_code(loch_objstore_put_if_match(store, "c", &b, text("four"), NULL), LOCH_E_STALE);
    assert_code(loch_objstore_put_if_match(store, "c", &(struct loch_etag){""}, text("x"), NULL),
                LOCH_E_STALE);
}

static void names(void **state)
{
    static const char *const bad[] = {"",     "/a",    "a/",  "a//b",  "..",     "a/../b",  ".a",
                                      "a/.b", "a.tmp", "a b", "a\nb",  "a\\b",   "a/b.tmp", ".lock",
                                      "\xff", "a/.",   "a:b", "a%2eb", "probe/", "*"};
    char longest[LOCH_OBJECT_NAME_MAX + 2];
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct loch_buf buf = {0};
        assert_code(loch_objstore_put(store, bad[i], text("x"), NULL), LOCH_E_INVALID);
        assert_code(loch_objstore_get(store, bad[i], 10, &buf, NULL), LOCH_E_INVALID);
        assert_code(loch_objstore_delete(store, bad[i]), LOCH_E_INVALID);
        assert_code(loch_objstore_head(store, bad[i], NULL, NULL), LOCH_E_INVALID);
    }
    for (size_t i = 0; i < sizeof longest; i++)
        longest[i] = i % 100 == 99 ? '/' : 'n';
    longest[LOCH_OBJECT_NAME_MAX + 1] = '\0';
    assert_code(loch_objstore_put(store, longest, text("x"), NULL), LOCH_E_INVALID);
    longest[LOCH_OBJECT_NAME_MAX] = '\0';
    assert_ok(loch_objstore_put(store, longest, text("x"), NULL));
    assert_ok(loch_objstore_put(store, "A-z_0=9/tmp.x", text("x"), NULL));
}

struct seen {
    char text[512];
    size_t stop_after;
    size_t count;
};

static bool see(void *arg, const char *name, uint64_t size)
{
    struct seen *seen = arg;
    size_t n = strlen(seen->text);
    (void)snprintf(seen->text + n, sizeof seen->text - n, "%s:%u ", name, (unsigned)size);
    return ++seen->count != seen->stop_after;
}

static void assert_list(const char *prefix, size_t stop_after, const char *want)
{
    struct seen seen = {.stop_after = stop_after};
    assert_ok(loch_objstore_list(store, prefix, see, &seen));
    assert_string_equal(seen.text, want);
}

static void listing(void **state)
{
    char path[128];
    (void)state;
    assert_list("", 0, "");
    assert_ok(loch_objstore_put(store, "a/b", text("1"), NULL));
    assert_ok(loch_objstore_put(store, "a.c", text("22"), NULL));
    assert_ok(loch_objstore_put(store, "a/bc/d", text(""), NULL));
    assert_ok(loch_objstore_put(store, "b", text("333"), NULL));
    (void)snprintf(path, sizeof path, "%s/a/half.tmp", dir);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    assert_list("", 0, "a.c:2 a/b:1 a/bc/d:0 b:3 ");
    assert_list("", 2, "a.c:2 a/b:1 ");
    assert_list("a/", 0, "a/b:1 a/bc/d:0 ");
    assert_list("a/b", 0, "a/b:1 a/bc/d:0 ");
    assert_list("a/bc/", 0, "a/bc/d:0 ");
    assert_list("z", 0, "");
    struct seen seen = {.stop_after = 0};
    assert_code(loch_objstore_list(store, "../", see, &seen), LOCH_E_INVALID);
    assert_ok(loch_objstore_delete(store, "a/b"));
    assert_list("a/", 0, "a/bc/d:0 ");
}

static void damage(void **state)
{
    struct loch_buf buf = {0};
    char path[128];
    (void)state;
    assert_ok(loch_objstore_put(store, "d", text("precious"), NULL));
    (void)snprintf(path, sizeof path, "%s/d", dir);
    for (off_t at = 0; at < 56; at++) {
        char byte;
        int fd = open(path, O_RDWR);
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte = (char)(byte ^ 0x10);
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        loch_status st = loch_objstore_get(store, "d", 100, &buf, NULL);
        if (at >= 8 && at < 24)
            assert_ok(st); /* the version: another ETag, no damage to the bytes */
        else
            assert_code(st, LOCH_E_CORRUPT);
        byte = (char)(byte ^ 0x10);
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        (void)close(fd);
    }
    for (off_t len = 0; len < 56; len++) {
        assert_ok(loch_objstore_put(store, "d", text("precious"), NULL));
        assert_int_equal(truncate(path, len), 0);
        assert_code(loch_objstore_get(store, "d", 100, &buf, NULL), LOCH_E_CORRUPT);
    }
    loch_buf_fini(&buf);
}

/* Every step of a conditional put fails once: the object is the old or the new one, and a repeated
 * put comes to a clear end. */
static void faults(void **state)
{
    struct loch_etag before;
    (void)state;
    assert_ok(loch_objstore_put(store, "f", text("old"), &before));
    for (uint64_t n = 1;; n++) {
        struct loch_etag now;
        struct loch_buf buf = {0};
        loch_io_fault_set(n, EIO);
        loch_status st = loch_objstore_put_if_match(store, "f", &before, text("new"), NULL);
        bool was_hit = loch_io_fault_count() >= n;
        loch_io_fault_set(0, 0);
        assert_ok(loch_objstore_get(store, "f", 10, &buf, &now));
        assert_true(memcmp(buf.data, "old", 3) == 0 || memcmp(buf.data, "new", 3) == 0);
        loch_buf_fini(&buf);
        if (!was_hit) {
            assert_ok(st);
            break;
        }
        assert_code(st, LOCH_E_IO);
        assert_ok(loch_objstore_put(store, "f", text("old"), &before));
    }
}

/* Four processes count an object up by conditional puts: no count is lost; and race to create
 * objects: each has one creator. */
enum { RACERS = 4, ROUNDS = 60 };

static int racer(int me)
{
    struct loch_env *own_env = NULL;
    struct loch_objstore *own = NULL;
    int created = 0;

    if (!loch_is_ok(loch_env_real_create(&own_env)) ||
        !loch_is_ok(loch_objstore_open_local(own_env, dir, &own)))
        return 255;
    for (int done = 0; done < ROUNDS;) {
        struct loch_buf buf = {0};
        struct loch_etag etag;
        char next[16];
        if (!loch_is_ok(loch_objstore_get(own, "count", 15, &buf, &etag)) ||
            !loch_is_ok(loch_buf_append(&buf, "", 1)))
            return 255;
        (void)snprintf(next, sizeof next, "%d", atoi((char *)buf.data) + 1);
        loch_buf_fini(&buf);
        loch_status st = loch_objstore_put_if_match(own, "count", &etag, text(next), NULL);
        if (!loch_is_ok(st) && st.code != LOCH_E_STALE)
            return 255;
        if (loch_is_ok(st)) {
            char name[32];
            (void)snprintf(name, sizeof name, "race/%d", done++);
            (void)snprintf(next, sizeof next, "%d", me);
            st = loch_objstore_put_if_absent(own, name, text(next), NULL);
            if (!loch_is_ok(st) && st.code != LOCH_E_EXISTS)
                return 255;
            created += loch_is_ok(st);
        }
    }
    return created;
}

static void races(void **state)
{
    pid_t pids[RACERS];
    int created = 0;
    char want[16];
    (void)state;
    assert_ok(loch_objstore_put(store, "count", text("0"), NULL));
    for (int i = 0; i < RACERS; i++) {
        pids[i] = fork();
        if (pids[i] == 0)
            _exit(racer(i));
    }
    for (int i = 0; i < RACERS; i++) {
        int status = 0;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status));
        assert_int_not_equal(WEXITSTATUS(status), 255);
        created += WEXITSTATUS(status);
    }
    assert_int_equal(created, ROUNDS);
    (void)snprintf(want, sizeof want, "%d", RACERS * ROUNDS);
    assert_object("count", want);
}

static atomic_bool put_done;

static void *put_a(void *arg)
{
    (void)arg;
    assert_ok(loch_objstore_put(store, "d/a", text("2"), NULL));
    atomic_store(&put_done, true);
    return NULL;
}

/* While somebody else changes "d/a", a change of it waits, and one of "d/b" does not. */
static void a_lock_is_one_objects(void **state)
{
    struct flock byte = {.l_type = F_WRLCK, .l_start = objstore_lock_byte("d/a"), .l_len = 1};
    char path[128];
    pthread_t thread;
    (void)state;
    assert_true(objstore_lock_byte("d/a") == objstore_lock_byte("/x/y/d/a"));
    assert_true(objstore_lock_byte("d/a") != objstore_lock_byte("d/b"));
    assert_ok(loch_objstore_put(store, "d/a", text("1"), NULL));
    (void)snprintf(path, sizeof path, "%s/d/.lock", dir);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &byte), 0);
    atomic_store(&put_done, false);
    assert_int_equal(pthread_create(&thread, NULL, put_a, NULL), 0);
    assert_ok(loch_objstore_put(store, "d/b", text("3"), NULL));
    assert_false(atomic_load(&put_done));
    assert_object("d/a", "1");
    assert_int_equal(close(fd), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(atomic_load(&put_done));
    assert_object("d/a", "2");
}

static void opening(void **state)
{
    struct loch_objstore *other = NULL;
    char path[128];
    (void)state;
    assert_code(loch_objstore_open_local(env, "", &other), LOCH_E_INVALID);
    (void)snprintf(path, sizeof path, "%s/new/deep/", dir);
    assert_ok(loch_objstore_open_local(env, path, &other));
    loch_objstore_close(other);
    assert_ok(loch_objstore_put(store, "file", text("x"), NULL));
    (void)snprintf(path, sizeof path, "%s/file/sub", dir);
    assert_code(loch_objstore_open_local(env, path, &other), LOCH_E_IO);
    assert_list("probe/", 0, ""); /* the probe leaves nothing behind */
}

int main(void)
{
#define T(name_) cmocka_unit_test_setup_teardown(name_, begin, end)
    const struct CMUnitTest tests[] = {T(put_and_get), T(ranges),  T(conditions),
                                       T(names),       T(listing), T(damage),
                                       T(faults),      T(races),   T(a_lock_is_one_objects),
                                       T(opening)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
