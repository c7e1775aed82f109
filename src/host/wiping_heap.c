/* Holds: free and realloc of every process that links this room: what is freed is wiped first, so
 * that no rows, WAL or keys stay behind in memory that nobody owns any more. That holds for the
 * libraries of the process, too (records that TLS has opened, what a key service said to curl):
 * a definition in the executable takes the place of the C library's for all of them, and the rest
 * of the heap stays the C library's own. Source: the GNU C library's manual, "Replacing malloc";
 * malloc_usable_size(3).
 *
 * A sanitizer brings a heap of its own, which this stays out of. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED
#endif
#endif

#ifndef SANITIZED
#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

extern void __libc_free(void *p); /* NOLINT(bugprone-reserved-identifier): the C library's own */
extern void *__libc_realloc(void *p, size_t size); /* NOLINT(bugprone-reserved-identifier) */

/* A mapping of its own goes back to the system with all that is in it, or moves without leaving
 * anything, and to write it would first make the pages that were never used. The mark stands in the
 * word before the piece, as for malloc_usable_size. Source: the C library's malloc/malloc.c. */
#define MAPPED_MARK ((size_t)2)

static bool is_mapped(const void *p)
{
    return (((const size_t *)p)[-1] & MAPPED_MARK) != 0;
}

/* For the libraries too; weak, for a test may bring its own. */
#define IN_PLACE_OF_LIBC __attribute__((weak, visibility("default")))

IN_PLACE_OF_LIBC void free(void *p)
{
    const int kept = errno;

    if (p == NULL)
        return;
    if (!is_mapped(p)) {
        memset(p, 0, malloc_usable_size(p));
        __asm__ volatile("" : : "r"(p) : "memory"); /* somebody looks: a core, or the next owner */
    }
    __libc_free(p);
    errno = kept;
}

IN_PLACE_OF_LIBC void *realloc(void *p, size_t size)
{
    if (p != NULL && size == 0) {
        free(p);
        return NULL;
    }
    if (p == NULL)
        return malloc(size);
    const size_t had = malloc_usable_size(p);
    if (is_mapped(p) && size >= had)
        return __libc_realloc(p, size);
    if (size <= had && size >= had / 2)
        return p;
    void *more = malloc(size);
    if (more != NULL) {
        memcpy(more, p, had < size ? had : size);
        free(p);
    }
    return more;
}
#endif
