/* What was freed in between goes back to the system. */
#include "../unit.h"

#include "loch/host/heap.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BLOCKS      8192u
#define BLOCK_BYTES 16384u /* 128 MiB in all */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_HEAP 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define OWN_HEAP 1
#endif
#endif

static size_t resident_mib(void)
{
    unsigned long all = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lu %lu", &all, &resident), 2);
    fclose(f);
    return resident * (size_t)sysconf(_SC_PAGESIZE) >> 20;
}

/* In an arena of its own; one in sixteen blocks stays, so that its top never falls. */
static void *churn(void *arg)
{
    char **blocks = arg;
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(BLOCK_BYTES);
        assert_non_null(blocks[i]);
        memset(blocks[i], 1, BLOCK_BYTES);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        if (i % 16 == 15)
            continue;
        free(blocks[i]);
        blocks[i] = NULL;
    }
    return NULL;
}

static void free_memory_goes_back(void **state)
{
    (void)state;
#ifdef OWN_HEAP
    skip(); /* the sanitizer's heap is not the one that is tended */
#else
    static char *blocks[BLOCKS];
    pthread_t thread;
    assert_false(loch_heap_give_back());
    const size_t before = resident_mib();
    assert_int_equal(pthread_create(&thread, NULL, churn, blocks), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(resident_mib() > before + 100);
    assert_true(loch_heap_give_back());
    assert_true(resident_mib() < before + 40);
    assert_false(loch_heap_give_back()); /* the holes are still there, but nothing is behind them */
    for (size_t i = 15; i < BLOCKS; i += 16)
        for (size_t k = 0; k < BLOCK_BYTES; k++)
            assert_int_equal(blocks[i][k], 1);
    /* Holes that were filled, and are there again when it is looked: as many, but not empty. */
    for (size_t i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    assert_int_equal(pthread_create(&thread, NULL, churn, blocks), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(loch_heap_give_back());
    assert_true(resident_mib() < before + 40);
    assert_false(loch_heap_give_back());
    for (size_t i = 0; i < BLOCKS; i++)
        free(blocks[i]);
#endif
}

int main(void)
{
    loch_heap_setup();
    const struct CMUnitTest tests[] = {cmocka_unit_test(free_memory_goes_back)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
