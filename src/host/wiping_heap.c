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
#include <stdlib.h>
#include <string.h>

extern void __libc_free(void *p); /* NOLINT(bugprone-reserved-identifier): the C library's own */

/* For the libraries too; weak, for a test may bring its own. */
#define IN_PLACE_OF_LIBC __attribute__((weak, visibility("default")))

IN_PLACE_OF_LIBC void free(void *p)
{
    const int kept = errno;

    if (p == NULL)
        return;
    memset(p, 0, malloc_usable_size(p));
    __asm__ volatile("" : : "r"(p) : "memory"); /* somebody looks: a core, or who gets it next */
    __libc_free(p);
    errno = kept;
}

IN_PLACE_OF_LIBC void *realloc(void *p, size_t size)
{
    const size_t had = p != NULL ? malloc_usable_size(p) : 0;

    if (p != NULL && size == 0) {
        free(p);
        return NULL;
    }
    if (p != NULL && size <= had && size >= had / 2)
        return p;
    void *more = malloc(size);
    if (more != NULL && p != NULL) {
        memcpy(more, p, had < size ? had : size);
        free(p);
    }
    return more;
}
#endif
