/* What a scan keeps to itself: frames' bytes are read in stretches, and each is given as the file
 * has it, in whatever order they are asked for. */
#include "../unit.h"

#include "store/passing.h"
#include "store/version.h"

#include "loch/io/env.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FILE_BYTES 600000u
#define FRAMES     200u

static const struct loch_id file_id = {{7}}, other_id = {{8}};
static struct loch_env *env;
static struct loch_file *file;
static uint8_t content[FILE_BYTES];
static struct loch_layer_ref refs[FRAMES];
static char path[64];

static int setup(void **state)
{
    uint64_t at = 0;

    (void)state;
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = (uint8_t)(i * 2654435761u >> 13);
    for (size_t i = 0; i < FRAMES; i++) {
        refs[i] =
            (struct loch_layer_ref){.offset = at, .stored_bytes = 500 + (uint32_t)(i * 37 % 4000)};
        at += refs[i].stored_bytes;
    }
    assert_true(at < FILE_BYTES);
    (void)snprintf(path, sizeof path, "/tmp/test-passing-XXXXXX");
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, sizeof content), sizeof content);
    (void)close(fd);
    return loch_is_ok(loch_env_real_create(&env)) &&
                   loch_is_ok(loch_file_open(env, path, O_RDONLY, &file))
               ? 0
               : -1;
}

static int teardown(void **state)
{
    (void)state;
    loch_file_close(file);
    loch_env_real_destroy(env);
    return unlink(path);
}

/* As the caller does: what was given is used up where it stands. */
static void take(struct loch_passing *p, const struct loch_id *id, size_t i)
{
    uint8_t *stored = loch_passing_take(p, file, id, &refs[i]);
    assert_non_null(stored);
    assert_memory_equal(stored, content + refs[i].offset, refs[i].stored_bytes);
    memset(stored, 0xee, refs[i].stored_bytes);
}

/* A file system that cannot tell what is in memory gives nothing at all. */
static bool can_tell(void)
{
    uint8_t byte;
    return loch_file_read_now(file, 0, &byte, 1) == 1;
}

static void test_any_order(void **state)
{
    struct loch_passing p = {0};

    (void)state;
    if (!can_tell())
        skip();
    for (size_t i = 0; i < FRAMES; i++)
        take(&p, &file_id, i);
    take(&p, &file_id, FRAMES - 1); /* used up a moment ago: read anew */
    take(&p, &file_id, 0);
    take(&p, &file_id, 1);
    take(&p, &other_id, 2); /* another file's bytes are never taken for this one's */
    take(&p, &file_id, 3);
    for (size_t run = 0; run + 30 < FRAMES; run += 17) /* a parallel scan's parts */
        for (size_t i = run; i < run + 13; i++)
            take(&p, &file_id, i);
    srand(5);
    for (int i = 0; i < 2000; i++)
        take(&p, &file_id, (size_t)rand() % FRAMES);
    loch_passing_fini(&p);
}

static void test_runs(void **state)
{
    struct loch_passing p = {0};

    (void)state;
    if (!can_tell())
        skip();
    take(&p, &file_id, 0);
    assert_int_equal(p.end - p.at, 0); /* nothing follows yet */
    take(&p, &file_id, 1);
    assert_true(p.end - p.at > 40000); /* a scan without parts: much at once */
    for (size_t i = 2; i < 10; i++)
        take(&p, &file_id, i);
    take(&p, &file_id, 100);
    take(&p, &file_id, 101);
    assert_int_equal(p.run_before, refs[10].offset);
    assert_true(p.end - p.at < 8192); /* no further than the part before went */
    for (size_t i = 102; i < 130; i++)
        take(&p, &file_id, i);
    assert_true(p.end - p.at > 8192); /* it goes on and on: much at once again */
    loch_passing_fini(&p);
}

static void test_end(void **state)
{
    struct loch_passing p = {0};
    struct loch_layer_ref last = {.offset = FILE_BYTES - 100, .stored_bytes = 100};
    struct loch_layer_ref beyond = {.offset = FILE_BYTES - 100, .stored_bytes = 101};
    struct loch_layer_ref large = {.offset = 0, .stored_bytes = 1u << 20};

    (void)state;
    assert_null(loch_passing_take(&p, file, &file_id, &beyond));
    assert_null(loch_passing_take(&p, file, &file_id, &large));
    if (can_tell()) {
        assert_non_null(loch_passing_take(&p, file, &file_id, &last));
        take(&p, &file_id, 5);
    }
    loch_passing_fini(&p);
}

static void test_frame(void **state)
{
    struct loch_passing p = {0};
    struct loch_buf bytes = {0};
    struct loch_frame *frame = NULL;

    (void)state;
    assert_ok(loch_buf_append(&bytes, "frame", 5));
    assert_ok(loch_frame_create(&bytes, &frame));
    assert_null(loch_passing_frame(&p, &file_id, 3));
    loch_passing_keep(&p, &file_id, 3, frame);
    loch_frame_release(frame);
    assert_null(loch_passing_frame(&p, &file_id, 4));
    assert_null(loch_passing_frame(&p, &other_id, 3));
    frame = loch_passing_frame(&p, &file_id, 3);
    assert_non_null(frame);
    loch_passing_fini(&p);
    assert_int_equal(loch_frame_bytes(frame).len, 5);
    loch_frame_release(frame);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_order),
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_end),
        cmocka_unit_test(test_frame),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
