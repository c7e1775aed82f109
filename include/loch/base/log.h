/* Log lines: one line to standard error, "2026-11-20T12:00:00.000Z LEVEL program: text".
 *
 * Bytes of users, keys and secrets never reach a log. Control characters in the text are replaced,
 * so that input cannot forge a line. Safe from any thread.
 */
#ifndef LOCH_BASE_LOG_H
#define LOCH_BASE_LOG_H

enum loch_log_level { LOCH_LOG_DEBUG, LOCH_LOG_INFO, LOCH_LOG_WARN, LOCH_LOG_ERROR };

/* `program` must outlive the process; lines below `least` are dropped. Call before threads start.
 */
void loch_log_init(const char *program, enum loch_log_level least);
void loch_log(enum loch_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Logs text, the thread's last recorded failure and where it was detected. */
void loch_log_failure(const char *what);

#define LOCH_DEBUG(...) loch_log(LOCH_LOG_DEBUG, __VA_ARGS__)
#define LOCH_INFO(...)  loch_log(LOCH_LOG_INFO, __VA_ARGS__)
#define LOCH_WARN(...)  loch_log(LOCH_LOG_WARN, __VA_ARGS__)
#define LOCH_ERROR(...) loch_log(LOCH_LOG_ERROR, __VA_ARGS__)

#endif
