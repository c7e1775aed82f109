/* Holds: log lines. Invariant: one write(2) a line, no control characters inside it. */
#include "loch/base/log.h"
#include "loch/base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *log_program = "loch";
static enum loch_log_level log_least = LOCH_LOG_INFO;

void loch_log_init(const char *program, enum loch_log_level least)
{
    log_program = program;
    log_least = least;
}

static const char *level_name(enum loch_log_level level)
{
    switch (level) {
    case LOCH_LOG_DEBUG:
        return "DEBUG";
    case LOCH_LOG_INFO:
        return "INFO";
    case LOCH_LOG_WARN:
        return "WARN";
    case LOCH_LOG_ERROR:
        return "ERROR";
    }
    return "?";
}

void loch_log(enum loch_log_level level, const char *fmt, ...)
{
    char line[1024];
    struct timespec ts;
    struct tm tm;
    va_list args;

    if (level < log_least)
        return;
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    (void)gmtime_r(&ts.tv_sec, &tm);
    size_t n = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &tm);
    n += (size_t)snprintf(line + n, sizeof line - n, ".%03ldZ %s %.60s: ", ts.tv_nsec / 1000000,
                          level_name(level), log_program);
    va_start(args, fmt);
    int m = vsnprintf(line + n, sizeof line - n - 1, fmt, args);
    va_end(args);
    if (m > 0)
        n += (size_t)m < sizeof line - n - 1 ? (size_t)m : sizeof line - n - 2;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = ' ';
    line[n++] = '\n';
    ssize_t done = write(STDERR_FILENO, line, n);
    (void)done; /* nowhere left to complain */
}

void loch_log_failure(const char *what)
{
    loch_log(LOCH_LOG_ERROR, "%s: %s (%s)", what, loch_error_text(), loch_error_where());
}
