/* Holds: the libpq client of the daemons' consoles. */
#include "console_client.h"

#include "loch/host/pgv3.h"

#include <libpq-fe.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *rows_of(const PGresult *res)
{
    json_t *rows = json_array();

    for (int r = 0; r < PQntuples(res); r++) {
        json_t *row = json_object();
        for (int f = 0; f < PQnfields(res); f++)
            json_object_set_new(row, PQfname(res, f),
                                PQgetisnull(res, r, f) ? json_null()
                                                       : json_string(PQgetvalue(res, r, f)));
        json_array_append_new(rows, row);
    }
    return rows;
}

/* libpq's messages end in a newline; ours are one line. */
static const char *one_line(const char *text, char *out, size_t len)
{
    (void)snprintf(out, len, "%s", text);
    for (char *p = out; *p != '\0'; p++)
        if (*p == '\n')
            *p = p[1] == '\0' ? '\0' : ' ';
    return out;
}

loch_status loch_console(const struct loch_cluster *c, int port, const char *command, json_t **rows)
{
    char host[600];
    char port_text[16];
    char text[400];

    (void)snprintf(host, sizeof host, "%s/run", c->dir);
    (void)snprintf(port_text, sizeof port_text, "%d", port);
    const char *keys[] = {"host", "port", "dbname", "user", "connect_timeout", NULL};
    const char *values[] = {host, port_text, "loch", "loch", "5", NULL};
    PGconn *conn = PQconnectdbParams(keys, values, 0);
    if (PQstatus(conn) != CONNECTION_OK) {
        loch_status st = LOCH_FAIL(LOCH_E_UNAVAILABLE, "console on %s port %d does not answer: %s",
                                   host, port, one_line(PQerrorMessage(conn), text, sizeof text));
        PQfinish(conn);
        return st;
    }
    PGresult *res = PQexec(conn, command);
    loch_status st = LOCH_OK;
    ExecStatusType status = PQresultStatus(res);
    if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) {
        *rows = rows_of(res);
    } else {
        const char *why = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
        const enum loch_code code =
            why ? loch_pgv3_code(PQresultErrorField(res, PG_DIAG_SQLSTATE)) : LOCH_E_UNAVAILABLE;
        st = LOCH_FAIL(code, "%s", one_line(why ? why : PQerrorMessage(conn), text, sizeof text));
    }
    PQclear(res);
    PQfinish(conn);
    return st;
}

loch_status loch_consolef(const struct loch_cluster *c, int port, json_t **rows, const char *fmt,
                          ...)
{
    char command[1024];
    va_list args;

    va_start(args, fmt);
    int n = vsnprintf(command, sizeof command, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof command)
        return LOCH_FAIL(LOCH_E_INVALID, "console command is too long");
    return loch_console(c, port, command, rows);
}

void loch_wake(const struct loch_cluster *c, const char *tenant)
{
    LOCH_EACH_SAFEKEEPER(c, i)
    {
        const int port = loch_port_safekeeper(c, i);
        json_t *rows = NULL;
        json_t *row;
        size_t k;
        if (!loch_is_ok(loch_console(c, port, "SHOW LEASES", &rows)))
            continue;
        json_array_foreach(rows, k, row)
        {
            json_t *reply = NULL;
            const char *id = loch_field(row, "tenant");
            if (strcmp(loch_field(row, "state"), "asleep") != 0 || strcmp(id, tenant) != 0)
                continue;
            if (loch_is_ok(loch_consolef(c, port, &reply, "WAKE TENANT %s", id)))
                json_decref(reply);
        }
        json_decref(rows);
    }
}

loch_status loch_console_wait(const struct loch_cluster *c, const char *name, int port,
                              int timeout_ms)
{
    uint64_t until = loch_now_ms() + (uint64_t)timeout_ms;
    char tail[600];

    for (;;) {
        json_t *rows = NULL;
        loch_status st = loch_console(c, port, "SHOW STATUS", &rows);
        json_decref(rows);
        if (loch_is_ok(st))
            return st;
        pid_t pid = 0;
        if (!c->elsewhere && !loch_process_alive(c, name, &pid))
            return LOCH_FAIL(LOCH_E_UNAVAILABLE, "%s ended at once; its log says: %s", name,
                             loch_log_tail(c, name, tail, sizeof tail));
        if (loch_now_ms() > until && c->elsewhere)
            return LOCH_FAIL(LOCH_E_UNAVAILABLE, "%s does not answer after %d ms: does it run?",
                             name, timeout_ms);
        if (loch_now_ms() > until)
            return LOCH_FAIL(LOCH_E_UNAVAILABLE, "%s (pid %d) does not answer after %d ms: %s",
                             name, (int)pid, timeout_ms, loch_error_text());
        loch_pause_ms(10);
    }
}

const char *loch_field(const json_t *row, const char *name)
{
    const char *text = json_string_value(json_object_get(row, name));
    return text ? text : "";
}
