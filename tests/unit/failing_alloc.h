/* Allocations that fail when a test says so: malloc, calloc and realloc of the whole program,
 * libc's own included. Included once, by the test's one file. Under sanitizers, which have their
 * own, HAS_OWN_MALLOC is defined and nothing fails. */
#ifndef LOCH_TESTS_FAILING_ALLOC_H
#define LOCH_TESTS_FAILING_ALLOC_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_OWN_MALLOC 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_OWN_MALLOC 1
#endif
#endif

static long countdown; /* the n-th allocation from now fails; 0: none */
static bool hit;       /* one has failed */

#ifndef HAS_OWN_MALLOC
void *__libc_malloc(size_t len);
void *__libc_calloc(size_t count, size_t len);
void *__libc_realloc(void *p, size_t len);

static bool fails(void)
{
    if (countdown == 0 || --countdown > 0)
        return false;
    hit = true;
    errno = ENOMEM;
    return true;
}

__attribute__((visibility("default"))) void *malloc(size_t len)
{
    return fails() ? NULL : __libc_malloc(len);
}

__attribute__((visibility("default"))) void *calloc(size_t count, size_t len)
{
    return fails() ? NULL : __libc_calloc(count, len);
}

__attribute__((visibility("default"))) void *realloc(void *p, size_t len)
{
    return fails() ? NULL : __libc_realloc(p, len);
}
#endif

#endif
