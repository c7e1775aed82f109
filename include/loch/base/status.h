/* The one error idiom of Loch.
 *
 * A function that can fail returns LOCH_STATUS; its results go to out-pointers, which are untouched
 * on failure. LOCH_FAIL records file, line and text once, where the fault is detected, in a
 * thread-local record that loch_error_text() reads; LOCH_TRY passes a failure up.
 */
#ifndef LOCH_BASE_STATUS_H
#define LOCH_BASE_STATUS_H

#include <stdbool.h>
#include <stdint.h>

enum loch_code {
    LOCH_E_OK = 0,
    LOCH_E_CORRUPT = 1,     /* bytes from disk, wire or KMS are not what they claim to be */
    LOCH_E_IO = 2,          /* the operating system refused or failed an operation */
    LOCH_E_NOT_FOUND = 3,   /* the thing asked for does not exist */
    LOCH_E_EXISTS = 4,      /* create of something that is there; a lost conditional put */
    LOCH_E_INVALID = 5,     /* the caller's or user's input is wrong */
    LOCH_E_DENIED = 6,      /* the key or credential does not allow it: final */
    LOCH_E_UNAVAILABLE = 7, /* cannot be reached now: try again */
    LOCH_E_LIMIT = 8,       /* a stated limit would be exceeded */
    LOCH_E_NO_MEMORY = 9,
    LOCH_E_STALE = 10,       /* an older term, epoch, generation or lease */
    LOCH_E_UNSUPPORTED = 11, /* a version or feature this build does not know */
    /* The tenant's key, as told to its peers. */
    LOCH_E_KEY_REVOKED = 12,    /* its KMS says no: nothing is served until it says yes again */
    LOCH_E_KMS_UNAVAILABLE = 13 /* nobody answers for its key, and the grace is over */
};
#define LOCH_E_LAST LOCH_E_KMS_UNAVAILABLE

typedef struct loch_status {
    enum loch_code code;
} loch_status;

#define LOCH_STATUS __attribute__((warn_unused_result)) loch_status
#define LOCH_OK     ((loch_status){LOCH_E_OK})

/* Records a failure for this thread and returns it. `code` must not be LOCH_E_OK. */
loch_status loch_fail_at(const char *file, int line, enum loch_code code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5), cold));

#ifdef __clang_analyzer__
/* So that the analyzer knows that a failure's code is not OK. */
#define LOCH_FAIL(code_, ...)                                                                      \
    ((void)loch_fail_at(__FILE__, __LINE__, (code_), __VA_ARGS__), (loch_status){(code_)})
#else
#define LOCH_FAIL(code_, ...) loch_fail_at(__FILE__, __LINE__, (code_), __VA_ARGS__)
#endif

#define LOCH_TRY(expr_)                                                                            \
    do {                                                                                           \
        loch_status loch_try_status_ = (expr_);                                                    \
        if (__builtin_expect(loch_try_status_.code != LOCH_E_OK, 0))                               \
            return loch_try_status_;                                                               \
    } while (0)

/* For functions with something to release: assigns to `st_` and jumps to label `out`. */
#define LOCH_TRY_OUT(st_, expr_)                                                                   \
    do {                                                                                           \
        (st_) = (expr_);                                                                           \
        if (__builtin_expect((st_).code != LOCH_E_OK, 0))                                          \
            goto out;                                                                              \
    } while (0)

static inline bool loch_is_ok(loch_status st)
{
    return st.code == LOCH_E_OK;
}

/* Whether what failed so may succeed later with nothing else changed: the store or the system was
 * short of something, or the key could not be used. Not a denial. */
static inline bool loch_status_passes(loch_status st)
{
    return st.code == LOCH_E_IO || st.code == LOCH_E_UNAVAILABLE || st.code == LOCH_E_NO_MEMORY ||
           st.code == LOCH_E_KMS_UNAVAILABLE;
}

/* The text of this thread's last recorded failure, without file and line; never NULL. Valid until
 * the thread's next LOCH_FAIL. */
const char *loch_error_text(void);
/* "file:line" of this thread's last recorded failure; never NULL. */
const char *loch_error_where(void);
/* The same failure, its text now saying what it is about ("WHAT: text"), unless it does already.
 * OK and LOCH_E_NO_MEMORY are passed on as they are. */
LOCH_STATUS loch_status_about(loch_status st, const char *what);
/* A stable lower-case name for a code, such as "corrupt". */
const char *loch_code_name(enum loch_code code);

#endif
