/* What sk_hostile.c needs to be honest: connections used step by step, a leader that writes good
 * WAL, and a checksum of the timeline's directory. Any failure ends the program. One thread.
 */
#ifndef LOCH_TESTS_SK_HONEST_H
#define LOCH_TESTS_SK_HONEST_H

#include "../unit/safekeeper/wal_gen.h"

#include "loch/crypto/psk.h"
#include "loch/host/keys.h"
#include "loch/io/env.h"
#include "loch/wire/wal.h"

#include <stdbool.h>

#define GENERATION 1u

struct tool;

struct client {
    struct tool *tool;
    struct loch_stream *stream;
    bool connected, closed, got;
    uint8_t type;
    struct loch_buf payload; /* of the frame got */
};

struct tool {
    struct loch_id cluster, tenant, timeline, other_tenant, other_timeline, node, compute, boot;
    struct loch_id stranger; /* a timeline that has keys, and is not on the safekeeper */
    const char *store_path, *kms_uri, *address, *dir;
    uint64_t system_id, epoch;
    struct loch_env *env;
    struct loch_keys *keys;
    struct client leader, second;
    uint64_t term;
    struct loch_term_history history; /* with the term, as the leader installed it */
    loch_lsn start;                   /* of the timeline */
    struct wal_gen gen;
    const char *name; /* of the case */
};

/* Says FAIL, the case, what and the recorded failure, and ends the program with 1. */
_Noreturn void honest_die(const struct tool *t, const char *what);
/* Dies unless st is OK. */
void honest_must(const struct tool *t, loch_status st, const char *what);
/* Runs the loop until the flag is set; dies after a minute. */
void honest_wait(struct tool *t, const bool *flag);
/* The timeline's compute, of t->epoch. */
struct loch_psk_identity honest_identity(const struct tool *t);
/* Connects, with the PSK that belongs to the identity. */
void honest_connect(struct client *c, struct loch_psk_identity id);
/* Closes; nothing when it is closed. */
void honest_hang_up(struct client *c);
/* Whole frames, or not so whole ones. */
void honest_send(struct client *c, struct loch_buf *take);
/* Waits for one frame, of this type; borrowed until the next. */
struct loch_slice honest_answer(struct client *c, uint8_t type);
/* What an honest compute says first. */
struct loch_wal_hello honest_hello(const struct tool *t);
/* HELLO, and its answer; returns the promised term. */
uint64_t honest_greet(struct client *c);
/* ELECTED as the leader of t->term, the first time or after a reconnect; the WAL has to end at
 * `end`. */
void honest_install(struct tool *t, loch_lsn end);
/* Connects the leader and has it elected, with the next term. */
void honest_lead(struct tool *t);
/* One good record; with `commit` it is committed too, and told so. */
void honest_write(struct tool *t, bool commit);
/* A checksum of the names and, unless `names_only`, the bytes of all files of the directory. */
uint32_t honest_sum(const struct tool *t, bool names_only);
/* The loop, the keys of both tenants, the ids of this process. */
void honest_open(struct tool *t);

#define SEND(c_, name_, ...)                                                                       \
    do {                                                                                           \
        struct client *const client_ = (c_); /* once: it may connect */                            \
        const struct loch_wal_##name_ message_ = __VA_ARGS__;                                      \
        struct loch_buf buf_ = {0};                                                                \
        struct loch_writer writer_;                                                                \
        loch_writer_init(&writer_, &buf_);                                                         \
        loch_wal_##name_##_encode(&writer_, &message_);                                            \
        honest_must(client_->tool, loch_writer_finish(&writer_), "encode");                        \
        honest_send(client_, &buf_);                                                               \
    } while (0)

#endif
