/* The server's own WAL, read from its walsender over the private unix socket as a standby would. */
#ifndef LOCH_AGENT_WAL_SOURCE_H
#define LOCH_AGENT_WAL_SOURCE_H

#include "loch/base/buf.h"
#include "loch/base/types.h"
#include "loch/io/env.h"

struct loch_wal_source;

struct loch_wal_source_order {
    struct loch_env *env;
    const char *socket_dir;
    uint32_t port;
    const char *user;
    uint64_t system_id; /* the server must have it */
    loch_lsn start_lsn;
    /* Is it worth trying to connect? Every refused try would cost the starting server a process. */
    bool (*ready)(void *arg);
    /* Streaming has begun. */
    void (*streaming)(void *arg);
    /* The next bytes; a failure ends the connection with its text. */
    LOCH_STATUS (*wal)(void *arg, loch_lsn begin, struct loch_slice bytes);
    /* All that had arrived has been handed over: send it on. */
    void (*batch)(void *arg);
    /* Once, last: ok when the server has ended the stream after its shutdown checkpoint. */
    void (*ended)(void *arg, loch_status st);
    void *arg;
};

/* Strings are copied. Connects by itself, trying again while the server is starting up. */
LOCH_STATUS loch_wal_source_create(const struct loch_wal_source_order *order,
                                   struct loch_wal_source **out);
/* Reports lsn as written, flushed and applied: commits up to it are released. */
void loch_wal_source_report(struct loch_wal_source *s, loch_lsn lsn);
/* Stops (true) or resumes reading. */
void loch_wal_source_pause(struct loch_wal_source *s, bool pause);
/* No callback comes any more. Takes NULL; may be called within one. */
void loch_wal_source_destroy(struct loch_wal_source *s);

#endif
