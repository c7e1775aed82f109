/* What is freed is wiped: seen in the piece of memory that the next caller of the same size gets.
 */
#include "../unit.h"

#include "loch/host/heap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARK       0xa5
#define LINK_BYTES 16u /* the heap's own links, in front of a free piece */

static bool any_mark(const uint8_t *p, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        if (p[i] == MARK)
            return true;
    return false;
}

/* The address is remembered as a number: the piece is somebody else's by then. */
static void freed_is_wiped(void **state)
{
    static const size_t sizes[] = {24, 200, 1000, 5000, 70000};

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t *p = malloc(sizes[i]);
        assert_non_null(p);
        memset(p, MARK, sizes[i]);
        const uintptr_t was = (uintptr_t)p;
        free(p);
        uint8_t *next = malloc(sizes[i]);
        assert_int_equal((uintptr_t)next, was);
        assert_false(any_mark(next, LINK_BYTES, sizes[i]));
        free(next);
    }
}

static void grown_leaves_nothing(void **state)
{
    (void)state;
    uint8_t *p = malloc(200);
    uint8_t *wall = malloc(200); /* so that it cannot grow in its place */
    assert_non_null(p);
    assert_non_null(wall);
    memset(p, MARK, 200);
    const uintptr_t was = (uintptr_t)p;
    p = realloc(p, 3000);
    assert_non_null(p);
    for (size_t i = 0; i < 200; i++)
        assert_int_equal(p[i], MARK);
    uint8_t *next = malloc(200);
    assert_int_equal((uintptr_t)next, was);
    assert_false(any_mark(next, LINK_BYTES, 200));
    free(next);
    free(wall);
    free(p);
}

static void realloc_keeps_its_contract(void **state)
{
    (void)state;
    char *p = realloc(NULL, 10);
    assert_non_null(p);
    (void)snprintf(p, 10, "%s", "123456789");
    p = realloc(p, 5);
    assert_memory_equal(p, "12345", 5);
    p = realloc(p, 100000);
    assert_memory_equal(p, "12345", 5);
    p = realloc(p, 4);
    assert_memory_equal(p, "1234", 4);
    free(p);
    free(NULL);
}

int main(void)
{
    loch_heap_setup();
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    printf("the sanitizer's heap is not ours: only realloc's contract is checked\n");
    const struct CMUnitTest only[] = {cmocka_unit_test(realloc_keeps_its_contract)};
    return cmocka_run_group_tests(only, NULL, NULL);
#endif
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(freed_is_wiped),
        cmocka_unit_test(grown_leaves_nothing),
        cmocka_unit_test(realloc_keeps_its_contract),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
