/* Holds: what the console's two halves share: console.c (sockets and the protocol),
 * console_request.c (commands and answers). */
#ifndef LOCH_HOST_CONSOLE_PRIVATE_H
#define LOCH_HOST_CONSOLE_PRIVATE_H

#include "console_words.h"
#include "loch/base/buf.h"
#include "loch/host/console.h"
#include "loch/host/pgv3.h"

struct console_conn;

struct loch_console {
    struct loch_env *env;
    const struct loch_console_command *commands;
    size_t command_count;
    void *arg;
    bool (*hold)(void *arg, const struct loch_console_request *request);
    int fd;
    struct loch_watch *watch;
    struct console_conn *conns;
    size_t conn_count;
    char path[108];
};

struct loch_console_request {
    struct console_conn *conn; /* NULL: the client has left */
    const struct loch_console_command *command;
    char *text;
    struct console_words words;
    struct loch_buf answer; /* protocol bytes: row description, rows */
    size_t column_count;
    uint64_t row_count;
    bool too_long; /* beyond the limit, or out of memory */
    struct loch_console *console;
    uint64_t since_ns; /* when it came; held back since */
};

/* Runs a query on behalf of a connection, which has no other request running. */
void console_request_begin(struct loch_console *console, struct console_conn *conn,
                           const char *text);
/* The request's last bytes (error, or rows and tag; then ready-for-query) are in take_bytes. */
void console_conn_answer(struct console_conn *conn, struct loch_buf *take_bytes);
void console_conn_running(struct console_conn *conn, struct loch_console_request *request);

#endif
