/* Assertions (on in release builds) and checked arithmetic for numbers that were read. */
#ifndef LOCH_BASE_CHECK_H
#define LOCH_BASE_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

_Noreturn void loch_assert_failed(const char *file, int line, const char *expr);

/* For programmer errors only, one condition each. Bytes from disk, wire or KMS are never asserted.
 */
#define LOCH_ASSERT(cond_)                                                                         \
    do {                                                                                           \
        if (__builtin_expect(!(cond_), 0))                                                         \
            loch_assert_failed(__FILE__, __LINE__, #cond_);                                        \
    } while (0)

/* Each returns false, leaving *out untouched, when the result does not fit. */
static inline bool loch_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t r;
    if (__builtin_add_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

static inline bool loch_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t r;
    if (__builtin_mul_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

static inline bool loch_add_size(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_add_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

static inline uint64_t loch_min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t loch_max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

#endif
