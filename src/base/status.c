/* Holds: the thread-local failure record behind LOCH_FAIL. Invariant: text is always NUL-ended. */
#include "loch/base/status.h"
#include "loch/base/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local char error_text[512];
static _Thread_local char error_where[128];

loch_status loch_fail_at(const char *file, int line, enum loch_code code, const char *fmt, ...)
{
    char text[sizeof error_text];
    va_list args;

    LOCH_ASSERT(code != LOCH_E_OK);
    /* Formatted apart first: an argument may be loch_error_text() itself. */
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    memcpy(error_text, text, sizeof error_text);
    const char *slash = strrchr(file, '/');
    (void)snprintf(error_where, sizeof error_where, "%s:%d", slash ? slash + 1 : file, line);
    return (loch_status){code};
}

const char *loch_error_text(void)
{
    return error_text;
}

const char *loch_error_where(void)
{
    return error_where;
}

loch_status loch_status_about(loch_status st, const char *what)
{
    char text[sizeof error_text];

    if (loch_is_ok(st) || st.code == LOCH_E_NO_MEMORY || strstr(error_text, what) != NULL)
        return st;
    memcpy(text, error_text, sizeof text);
    (void)snprintf(error_text, sizeof error_text, "%s: %s", what, text);
    return st;
}

const char *loch_code_name(enum loch_code code)
{
    switch (code) {
    case LOCH_E_OK:
        return "ok";
    case LOCH_E_CORRUPT:
        return "corrupt";
    case LOCH_E_IO:
        return "io";
    case LOCH_E_NOT_FOUND:
        return "not_found";
    case LOCH_E_EXISTS:
        return "exists";
    case LOCH_E_INVALID:
        return "invalid";
    case LOCH_E_DENIED:
        return "denied";
    case LOCH_E_UNAVAILABLE:
        return "unavailable";
    case LOCH_E_LIMIT:
        return "limit";
    case LOCH_E_NO_MEMORY:
        return "no_memory";
    case LOCH_E_STALE:
        return "stale";
    case LOCH_E_UNSUPPORTED:
        return "unsupported";
    case LOCH_E_KEY_REVOKED:
        return "key_revoked";
    case LOCH_E_KMS_UNAVAILABLE:
        return "kms_unavailable";
    }
    return "unknown";
}

_Noreturn void loch_assert_failed(const char *file, int line, const char *expr)
{
    (void)fprintf(stderr, "assertion failed at %s:%d: %s\n", file, line, expr);
    abort();
}
