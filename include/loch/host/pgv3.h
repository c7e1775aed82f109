/* PostgreSQL's protocol v3, the server's side: messages, and a TCP port under TLS 1.3 with client
 * certificates for programs that speak it (pg_receivewal).
 *
 * A connection is told to its owner when TLS stands, the certificate is proven and the startup
 * packet has come; from then on the owner speaks. What a peer sends is bounded before it is kept;
 * one that does not read its answers is not heard until it has; whoever errs against the protocol,
 * or asks for no TLS, is closed. Loop's thread.
 */
#ifndef LOCH_HOST_PGV3_H
#define LOCH_HOST_PGV3_H

#include "loch/base/buf.h"
#include "loch/base/status.h"
#include "loch/io/env.h"

/* ---- messages, appended to `w`'s buffer; memory failing leaves the writer bad ---- */
size_t loch_pgv3_begin(struct loch_writer *w, char type);
void loch_pgv3_end(struct loch_writer *w, size_t mark);
void loch_pgv3_u16(struct loch_writer *w, uint16_t v);
void loch_pgv3_u32(struct loch_writer *w, uint32_t v);
void loch_pgv3_text(struct loch_writer *w, const char *text); /* with its NUL */
void loch_pgv3_error(struct loch_writer *w, const char *severity, const char *sqlstate,
                     const char *text, const char *hint);
void loch_pgv3_ready(struct loch_writer *w);
const char *loch_pgv3_sqlstate(enum loch_code code);
/* The code that an error's SQLSTATE stands for. Two codes share a SQLSTATE in two cases: then the
 * plainer one (LOCH_E_DENIED, LOCH_E_UNAVAILABLE). NULL, or none of ours: LOCH_E_INVALID, as what
 * has no code of ours is a command that is not understood. */
enum loch_code loch_pgv3_code(const char *sqlstate);

/* ---- the port ---- */
#define LOCH_PGV3_MESSAGE_MAX_BYTES (64u << 10)

struct loch_pgv3_port;
struct loch_pgv3_conn;

struct loch_pgv3_events {
    /* The startup packet has come: *state is handed to the others. A failure is told to the client
     * and ends the connection; no other event comes then. */
    LOCH_STATUS (*begin)(void *arg, struct loch_pgv3_conn *conn, void **state);
    /* One message; body is borrowed for the call. */
    void (*message)(void *state, char type, struct loch_slice body);
    /* Everything sent has been handed to the kernel. */
    void (*drained)(void *state);
    /* Exactly once, last: the connection is freed when it returns. */
    void (*closed)(void *state);
};

/* cert, key, client_ca: PEM files. LOCH_E_INVALID names what is wrong with them. */
struct loch_pgv3_options {
    struct loch_env *env;
    const char *address, *cert, *key, *client_ca;
    const struct loch_pgv3_events *events;
    void *arg;
};
LOCH_STATUS loch_pgv3_listen(const struct loch_pgv3_options *options, struct loch_pgv3_port **out);
/* Closes all connections (`closed` is called). Takes NULL. */
void loch_pgv3_close(struct loch_pgv3_port *port);

/* Of the startup packet, such as "user"; NULL when it was not given. */
const char *loch_pgv3_param(const struct loch_pgv3_conn *conn, const char *name);
/* The common name of the client's certificate. */
const char *loch_pgv3_peer(const struct loch_pgv3_conn *conn);
/* Queues protocol bytes. */
void loch_pgv3_send(struct loch_pgv3_conn *conn, struct loch_buf *take_bytes);
/* Bytes queued and not yet handed to the kernel. */
size_t loch_pgv3_queued(const struct loch_pgv3_conn *conn);
/* Closes it when all is sent; `closed` comes later. */
void loch_pgv3_finish(struct loch_pgv3_conn *conn);
/* Closes it now: what is queued is not sent. `closed` comes before this returns, or, called from
 * one of the connection's own events, when that returns. */
void loch_pgv3_cut(struct loch_pgv3_conn *conn);

#endif
