/* A simulated world behind loch/io/env.h: several nodes share a virtual clock and a network;
 * everything that happens follows from one seed.
 *
 * A node is a machine with a disk. Its process can be killed (what was written stays in the
 * machine's memory, not yet durable) or its power cut (what was not synced is lost, or torn by
 * sectors); then it is started again on the same disk, with a new loch_env. Its wall clock jumps by
 * up to an hour, either way, again and again. Handles of a dead
 * process stay valid for closing and do nothing else. Streams carry frames in order, with delay;
 * they can be held up by a partition or reset. TLS is real at the handshake (identity and PSK are
 * checked) and left out after it. Not simulated: signals, descriptors, children
 * (LOCH_E_UNSUPPORTED).
 */
#ifndef LOCH_TESTS_SIM_ENV_H
#define LOCH_TESTS_SIM_ENV_H

#include "loch/io/env.h"

struct sim_world;
struct sim_node;

struct sim_options {
    uint64_t seed;
    uint64_t disk_min_us, disk_max_us; /* of a write or sync; 0, 0: 20 to 2000 */
    uint64_t net_min_us, net_max_us;   /* one way; 0, 0: 50 to 5000 */
    /* Disks that are worse than promised, to prove that somebody notices: a rename is durable when
     * its directory is synced, a patched file when it is. */
    bool renames_late, patches_late;
};

struct sim_world *sim_world_create(const struct sim_options *options);
/* Ends everything, without events. */
void sim_world_destroy(struct sim_world *world);
uint64_t sim_world_now_us(const struct sim_world *world);
/* A random number below n, from the world's seed. */
uint64_t sim_world_draw(struct sim_world *world, uint64_t n);
/* Does the next thing that is due. False: nothing will ever happen again. */
bool sim_world_step(struct sim_world *world);
/* Steps until `us` have passed (or nothing is left). */
void sim_world_run(struct sim_world *world, uint64_t us);
/* Events so far: equal seeds give equal numbers. */
uint64_t sim_world_events(const struct sim_world *world);

/* A new machine with an empty disk, not running. The name is its host in addresses ("name:port").
 */
struct sim_node *sim_node_create(struct sim_world *world, const char *name);
/* Starts its process. */
struct loch_env *sim_node_start(struct sim_node *node);
/* The process is gone between two events; peers see their streams reset. */
void sim_node_kill(struct sim_node *node);
/* The machine loses its power: as a kill, and what is not durable is lost or torn. */
void sim_node_power_cut(struct sim_node *node);
/* The n-th disk operation from now (1: the next) of this node fails with LOCH_E_IO; 0: none. */
void sim_node_fail_disk(struct sim_node *node, uint64_t n);
/* One read of a file in `n` of this node brings a flipped bit, or bytes of another place of the
 * file; what lies on the disk is none the worse. 0: none. */
void sim_node_misread(struct sim_node *node, uint64_t n);

/* Nothing passes between the two (both ways) until they are joined again; then what was sent
 * arrives. After 30 s without a word a stream is reset. */
void sim_part(struct sim_world *world, const char *a, const char *b);
void sim_join(struct sim_world *world, const char *a, const char *b);
/* Resets a stream that both ends believe in, chosen by the seed. False: there is none. */
bool sim_reset_one(struct sim_world *world);

#endif
