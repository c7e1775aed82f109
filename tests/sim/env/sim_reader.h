/* A pageserver's half of the WAL service: takes committed WAL from whichever safekeeper it reaches.
 */
#ifndef LOCH_TESTS_SIM_READER_H
#define LOCH_TESTS_SIM_READER_H

#include "sim_env.h"

#include "loch/host/keys.h"

#define SIM_READER_PEERS_MAX 9u

struct sim_reader;

struct sim_reader_options {
    struct sim_world *world;
    struct loch_env *env;   /* of its own machine */
    struct loch_keys *keys; /* the tenant is loaded */
    struct loch_id cluster, tenant, timeline;
    loch_lsn start;
    unsigned count;
    struct loch_id nodes[SIM_READER_PEERS_MAX];
    const char *addresses[SIM_READER_PEERS_MAX];
    void (*got)(void *arg, loch_lsn begin, struct loch_slice bytes);
    void *arg;
};

/* Freed with free() when its machine is no more. */
struct sim_reader *sim_reader_start(const struct sim_reader_options *options);
loch_lsn sim_reader_position(const struct sim_reader *reader);

#endif
