/* The simulated world of loch-sim: safekeepers with disks that lose unsynced writes, computes, a
 * network, a pageserver, and the checkers that watch them. One seed gives one run, always the same.
 *
 * WAL is modelled as cells: one LSN unit is one cell, which knows its record. Records are 1 to 6
 * cells long.
 */
#ifndef LOCH_TESTS_SIM_H
#define LOCH_TESTS_SIM_H

#include "loch/base/check.h"
#include "loch/consensus/acceptor.h"
#include "loch/consensus/history.h"
#include "loch/consensus/proposer.h"
#include "mutation.h"

#define SIM_START    64u   /* the timeline's first LSN */
#define SIM_CELLS    1600u /* most WAL in a run */
#define SIM_NODES    5u
#define SIM_BOOTS    192u
#define SIM_CONNS    4096u
#define SIM_MESSAGES 1024u
#define SIM_OPS      256u

struct cell {
    uint32_t record; /* unique name of the record */
    uint16_t offset, length;
};

struct log {
    loch_lsn end;
    struct cell cells[SIM_CELLS];
};

static inline struct cell *log_at(struct log *log, loch_lsn lsn)
{
    LOCH_ASSERT(lsn >= SIM_START && lsn - SIM_START < SIM_CELLS);
    return &log->cells[lsn - SIM_START];
}

/* A disk effect that has been asked for and not been done yet. */
struct disk_op {
    struct loch_acceptor_effect effect; /* a PERSIST's control is owned */
    struct cell *cells;                 /* WRITE; owned */
    loch_lsn boundary, prev;            /* SYNC: the scanner's when it was asked for */
};

struct node {
    struct loch_id id;
    bool up;
    uint32_t incarnation;
    struct loch_acceptor *acceptor;
    struct loch_acceptor_control control; /* on disk */
    struct log disk;                      /* on disk and in the page cache */
    loch_lsn synced;                      /* what of it survives a crash for certain */
    struct log issued;                    /* as it will be when all issued effects are done */
    struct disk_op ops[SIM_OPS];
    uint32_t op_head, op_count;
    uint64_t recover_term; /* the standing RECOVER order; 0: none */
    loch_lsn recover_end;
    uint64_t granted_term; /* highest vote ever granted, and to whom: the world's memory */
    uint32_t granted_boot;
    loch_lsn seen_commit; /* in this incarnation */
};

struct boot {
    bool alive;
    struct loch_proposer *proposer;
    uint64_t epoch;
    uint32_t conns[SIM_NODES]; /* index + 1 of the connection; 0: none */
    struct log *votes[SIM_NODES];
    struct log log; /* of its term, once elected */
    loch_lsn window_start, window_end;
    bool elected, running; /* running: a server writes WAL */
    uint64_t term;
    loch_lsn start_lsn, commit_lsn;
};

struct conn {
    uint32_t boot, node, incarnation;
    bool boot_open, node_open;
};

enum route { TO_NODE, TO_BOOT, PEER_CHUNK };

struct message {
    enum route route;
    uint32_t conn; /* index */
    uint64_t order;
    struct loch_proposer_message down; /* TO_NODE; its history is owned */
    struct loch_acceptor_message up;   /* TO_BOOT; its history is owned */
    struct cell *cells;                /* of an APPEND or a peer's chunk; owned */
    uint32_t cell_count;
    struct log *log;            /* with a granted vote: the voter's durable WAL; owned */
    uint32_t node, incarnation; /* PEER_CHUNK */
    uint64_t term;
    loch_lsn begin, commit_lsn;
};

/* How hostile a run is; per mille. Drawn from the seed. */
struct weather {
    uint32_t loss, duplicate, reorder, crash, boot, kill, reset, write, drop_window;
};

struct counters {
    uint64_t elections, truncations, commits, crashes, recoveries, writes, fenced;
};

struct world {
    uint64_t seed, random;
    bool trace, calm;
    uint64_t now_ms, step;
    struct weather weather;
    uint32_t node_count;
    struct node nodes[SIM_NODES];
    struct boot *boots[SIM_BOOTS];
    uint32_t boot_count;
    struct conn conns[SIM_CONNS];
    uint32_t conn_count;
    struct message messages[SIM_MESSAGES];
    uint32_t message_count;
    uint64_t next_order, next_epoch;
    uint32_t next_record;
    struct log pageserver;
    struct log committed;               /* what any leader ever announced as committed */
    uint64_t committed_term[SIM_CELLS]; /* the lowest term that did */
    struct counters counters;
    char violation[256]; /* empty: none */
};

/* ---- world.c: the run ---- */
void world_run(struct world *w, uint64_t seed, bool trace);
void world_fini(struct world *w);
uint64_t world_random(struct world *w);
/* true with a chance of per_mille in 1000 */
bool world_chance(struct world *w, uint32_t per_mille);
uint32_t world_pick(struct world *w, uint32_t count);
void world_note(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The last record boundary of `log` at or below lsn; *prev: the start of the record that ends
 * there. */
loch_lsn log_boundary(struct log *log, loch_lsn lsn, loch_lsn *prev);

/* ---- net.c ---- */
void net_send_down(struct world *w, uint32_t conn, const struct loch_proposer_message *m,
                   const struct cell *cells, uint32_t count);
void net_send_up(struct world *w, uint32_t conn, const struct loch_acceptor_message *m,
                 struct log *vote_log);
void net_send_chunk(struct world *w, uint32_t node, uint64_t term, loch_lsn begin,
                    const struct cell *cells, uint32_t count, loch_lsn commit_lsn);
/* Delivers, loses or doubles one message. */
void net_step(struct world *w);
void net_fini(struct world *w);

/* ---- node.c: a safekeeper's host ---- */
void node_start(struct world *w, uint32_t i);
void node_crash(struct world *w, uint32_t i);
void node_disk_step(struct world *w, uint32_t i);
void node_deliver(struct world *w, const struct message *m);
void node_chunk(struct world *w, const struct message *m);
void node_closed(struct world *w, uint32_t conn);
void node_tick(struct world *w, uint32_t i);
void node_pull(struct world *w, uint32_t i);
void node_fini(struct world *w, uint32_t i);

/* ---- boot.c: a compute's host ---- */
void boot_create(struct world *w, uint64_t epoch, uint64_t highest_term);
void boot_kill(struct world *w, uint32_t b);
void boot_connect(struct world *w, uint32_t b, uint32_t node);
void boot_deliver(struct world *w, struct message *m);
void boot_write(struct world *w, uint32_t b);
void boot_drop_window(struct world *w, uint32_t b);
void boot_tick(struct world *w, uint32_t b);
void boot_reset(struct world *w, uint32_t b, uint32_t node);
void boot_fini(struct world *w, uint32_t b);

/* ---- check.c ---- */
void violation(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void check_node(struct world *w, uint32_t i);
void check_answer(struct world *w, uint32_t i, uint32_t conn,
                  const struct loch_acceptor_message *m);
void check_elected(struct world *w, uint32_t b);
void check_commit(struct world *w, uint32_t b, loch_lsn lsn);
void check_durable(struct world *w);

#endif
