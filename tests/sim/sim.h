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
#include "loch/consensus/membership.h"
#include "loch/consensus/proposer.h"
#include "mutation.h"

#define SIM_START    64u   /* the timeline's first LSN */
#define SIM_CELLS    1600u /* most WAL in a run */
#define SIM_NODES    7u
#define SIM_SLOTS    LOCH_MEMBERS_MAX
#define SIM_CONFIGS  96u /* most generations in a run */
#define SIM_GHOSTS   8u  /* most lost disks in a run */
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
    struct loch_id member; /* what its directory was named when it was made */
    bool exists;           /* there is a directory of the timeline */
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
    bool refresh;             /* is to read the authoritative configuration */
    uint64_t told_generation; /* the highest it told the coordinator */
    uint64_t granted_term;    /* highest vote ever granted, and to whom: the world's memory */
    uint32_t granted_boot;
    loch_lsn seen_commit; /* in this incarnation */
};

struct boot {
    bool alive;
    struct loch_proposer *proposer;
    uint64_t epoch;
    uint32_t conns[SIM_SLOTS]; /* index + 1 of the connection; 0: none */
    struct loch_id slots[SIM_SLOTS];
    struct log *votes[SIM_SLOTS];
    struct log log; /* of its term, once elected */
    loch_lsn window_start, window_end;
    bool elected, running; /* running: a server writes WAL */
    uint64_t term;
    loch_lsn start_lsn, commit_lsn;
    uint64_t said_ms; /* when any node last sent it something: the world's memory */
};

struct conn {
    uint32_t boot, slot, node, incarnation;
    bool boot_open, node_open;
    uint64_t stamp_ms, read_ms; /* of an APPEND that the node has read; 0: none */
};

enum route { TO_NODE, TO_BOOT, PEER_CHUNK, PEER_STATE };

struct message {
    enum route route;
    uint32_t conn; /* index */
    uint64_t order;
    struct loch_proposer_message down; /* TO_NODE; its history is owned */
    struct loch_acceptor_message up;   /* TO_BOOT; its history is owned */
    struct cell *cells;                /* of an APPEND or a peer's chunk; owned */
    uint32_t cell_count;
    struct log *log;                  /* with a granted vote: the voter's durable WAL; owned */
    uint32_t node, incarnation;       /* PEER_CHUNK, PEER_STATE: whose it is */
    struct loch_wal_pull_state state; /* PEER_STATE; owned */
    uint64_t term;
    loch_lsn begin, commit_lsn;
};

/* How hostile a run is; per mille. Drawn from the seed. */
struct weather {
    uint32_t loss, duplicate, reorder, crash, boot, kill, reset, write, drop_window;
    uint32_t members, lose;
    bool duel; /* nothing but elections: no changes of the membership, no looking at peers */
};

struct counters {
    uint64_t elections, truncations, commits, crashes, recoveries, writes, fenced;
    uint64_t changes, aborts, lost_disks;
};

/* A member whose disk is gone: what it held counts for what was promised, and helps nobody. */
struct ghost {
    struct loch_id member;
    struct log disk;
    loch_lsn synced;
};

struct world {
    uint64_t seed, random;
    bool trace, calm;
    uint64_t now_ms, step;
    struct weather weather;
    uint32_t node_count;
    struct node nodes[SIM_NODES];
    struct loch_membership configs[SIM_CONFIGS]; /* by generation - 1: the authority's */
    uint32_t config_count;
    uint32_t next_member;
    /* What the coordinator has heard since the newest configuration. */
    struct loch_member_state before[SIM_SLOTS], after[SIM_SLOTS];
    struct ghost ghosts[SIM_GHOSTS];
    uint32_t ghost_count;
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
    char *tail;          /* the last lines of the trace, when only these are wanted */
    uint64_t tail_lines;
};

#define SIM_TAIL_LINES 90u
#define SIM_LINE_BYTES 160u

/* ---- world.c: the run ---- */
/* tail: SIM_TAIL_LINES lines that take the end of the trace, or NULL: it is printed. */
void world_run(struct world *w, uint64_t seed, bool trace, char *tail);
void world_fini(struct world *w);
uint64_t world_random(struct world *w);
/* true with a chance of per_mille in 1000 */
bool world_chance(struct world *w, uint32_t per_mille);
uint32_t world_pick(struct world *w, uint32_t count);
void world_note(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The last record boundary of `log` at or below lsn; *prev: the start of the record that ends
 * there. */
loch_lsn log_boundary(struct log *log, loch_lsn lsn, loch_lsn *prev);

/* ---- members.c: the authority, the coordinator, and disks that are lost ---- */
void members_setup(struct world *w);
const struct loch_membership *members_now(const struct world *w);
/* One step of whoever changes the membership. */
void members_step(struct world *w);
/* In calm weather: ends what is under way and replaces what is lost. True when nothing is left. */
bool members_settle(struct world *w);
/* Node i loses its disk, if the members that stay can bear it. */
void members_lose(struct world *w, uint32_t i);
/* The node a member lives on; false when its disk is gone. */
bool members_node(const struct world *w, const struct loch_id *member, uint32_t *node);
void members_fini(struct world *w);

/* ---- net.c ---- */
void net_send_down(struct world *w, uint32_t conn, const struct loch_proposer_message *m,
                   const struct cell *cells, uint32_t count);
void net_send_up(struct world *w, uint32_t conn, const struct loch_acceptor_message *m,
                 struct log *vote_log);
void net_send_chunk(struct world *w, uint32_t node, uint64_t term, loch_lsn begin,
                    const struct cell *cells, uint32_t count, loch_lsn commit_lsn);
void net_send_state(struct world *w, uint32_t node, const struct loch_wal_pull_state *state);
/* Delivers, loses or doubles one message. */
void net_step(struct world *w);
void net_fini(struct world *w);

/* ---- node.c: a safekeeper's host ---- */
void node_start(struct world *w, uint32_t i);
void node_crash(struct world *w, uint32_t i);
void node_disk_step(struct world *w, uint32_t i);
void node_deliver(struct world *w, const struct message *m);
void node_chunk(struct world *w, const struct message *m);
void node_peer_state(struct world *w, const struct message *m);
/* A directory is made, named anew (or `member` again, which is wrong). */
void node_create(struct world *w, uint32_t i, const struct loch_id *member);
/* Reads the authoritative configuration. */
void node_refresh(struct world *w, uint32_t i);
/* Asks some peer how it stands. */
void node_look(struct world *w, uint32_t i);
void node_wipe(struct world *w, uint32_t i);
void node_closed(struct world *w, uint32_t conn);
void node_tick(struct world *w, uint32_t i);
void node_pull(struct world *w, uint32_t i);
void node_fini(struct world *w, uint32_t i);

/* ---- boot.c: a compute's host ---- */
void boot_create(struct world *w, uint64_t epoch, uint64_t highest_term);
void boot_kill(struct world *w, uint32_t b);
void boot_connect(struct world *w, uint32_t b);
void boot_deliver(struct world *w, struct message *m);
void boot_write(struct world *w, uint32_t b);
void boot_drop_window(struct world *w, uint32_t b);
void boot_tick(struct world *w, uint32_t b);
void boot_reset(struct world *w, uint32_t b, uint32_t slot);
void boot_fini(struct world *w, uint32_t b);

/* ---- check.c ---- */
void violation(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void check_node(struct world *w, uint32_t i);
void check_answer(struct world *w, uint32_t i, uint32_t conn,
                  const struct loch_acceptor_message *m);
void check_elected(struct world *w, uint32_t b);
void check_commit(struct world *w, uint32_t b, loch_lsn lsn);
void check_durable(struct world *w);
/* However late an answer arrives: nobody believes that a node lived when it did not. */
void check_heard(struct world *w, uint32_t b);
void check_config(struct world *w, const struct loch_membership *m, const char *who, uint32_t i);

#endif
