/* The console: administration with psql or libpq over a unix socket.
 *
 * PostgreSQL protocol v3, simple query only, one command a query. Whoever connects must be of the
 * daemon's uid or root (SO_PEERCRED); the socket has mode 0600. Rows are text columns. `SHOW HELP`
 * is built in.
 *
 *   psql "host=/var/lib/loch/run port=7101 dbname=loch"
 *
 * so the socket is called ".s.PGSQL.<port>" where psql should find it; any path works with libpq's
 * host=dir. Everything here runs on the loop's thread.
 */
#ifndef LOCH_HOST_CONSOLE_H
#define LOCH_HOST_CONSOLE_H

#include "loch/base/status.h"
#include "loch/io/env.h"

#define LOCH_CONSOLE_QUERY_MAX_BYTES  (1u << 20)
#define LOCH_CONSOLE_ANSWER_MAX_BYTES (16u << 20)
#define LOCH_CONSOLE_COLUMNS_MAX      32u

struct loch_console;
/* One running command. The handler, or whoever it hands this to, answers exactly once, now or
 * later, by loch_console_done or loch_console_fail; then it is gone. A client that left meanwhile
 * changes nothing for the handler: the answer is dropped. */
struct loch_console_request;

typedef void (*loch_console_fn)(void *arg, struct loch_console_request *request);

/* words: literal words (any case matches), <name> for an argument, [...] for an optional part (not
 * nested): "CREATE TIMELINE <tenant> <timeline> START <lsn> [PREV <prev>]" An argument is a bare
 * word, 'quoted text' or "quoted text" (the quote doubled inside). A trailing semicolon is fine.
 * The first command in the table that matches is taken. */
struct loch_console_command {
    const char *words;
    const char *help; /* one sentence */
    loch_console_fn run;
};

/* `commands` and `arg` are borrowed and must outlive the console. LOCH_E_IO, LOCH_E_INVALID. A
 * socket left by a dead process is replaced; a live one is LOCH_E_EXISTS. */
LOCH_STATUS loch_console_listen(struct loch_env *env, const char *socket_path,
                                const struct loch_console_command *commands, size_t count,
                                void *arg, struct loch_console **out);
/* A command is not begun before `hold` says false to it, or LOCH_CONSOLE_HOLD_MS are over; it is
 * asked again and again, with the console's arg. NULL: nothing is held. */
#define LOCH_CONSOLE_HOLD_MS 60000u
void loch_console_hold(struct loch_console *console,
                       bool (*hold)(void *arg, const struct loch_console_request *request));
/* Closes the socket and all connections; running requests may still be answered (and are dropped).
 * Not from inside a handler. Takes NULL. */
void loch_console_close(struct loch_console *console);

/* The text of argument <name>, or NULL when its optional part was left out. Lives with the request.
 */
const char *loch_console_arg(const struct loch_console_request *request, const char *name);
/* The same, parsed. LOCH_E_INVALID naming the argument, also when it was left out. */
LOCH_STATUS loch_console_arg_id(const struct loch_console_request *request, const char *name,
                                struct loch_id *out);
LOCH_STATUS loch_console_arg_lsn(const struct loch_console_request *request, const char *name,
                                 loch_lsn *out);
LOCH_STATUS loch_console_arg_u64(const struct loch_console_request *request, const char *name,
                                 uint64_t *out);
/* The whole command as it was typed. */
const char *loch_console_text(const struct loch_console_request *request);

/* Column names, before the first row; at most LOCH_CONSOLE_COLUMNS_MAX. */
void loch_console_columns(struct loch_console_request *request, const char *const *names,
                          size_t count);
/* One value per column; NULL is SQL's null. Copied. Rows beyond LOCH_CONSOLE_ANSWER_MAX_BYTES turn
 * the answer into an error. */
void loch_console_row(struct loch_console_request *request, const char *const *values);
/* Shorthand: columns, then one row of printf'ed text for a one-column answer. */
void loch_console_answer(struct loch_console_request *request, const char *column, const char *fmt,
                         ...) __attribute__((format(printf, 3, 4)));
/* Success; `tag` as in "CREATE TIMELINE" (NULL: "OK"; with columns and NULL: "SELECT <rows>"). */
void loch_console_done(struct loch_console_request *take_request, const char *tag);
/* Failure: text of the thread's last failure and an SQLSTATE by code. Rows so far are dropped. */
void loch_console_fail(struct loch_console_request *take_request, loch_status st);

#endif
