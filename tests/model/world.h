/* A world of memory: files and objects of one machine, a clock that is set by hand, and a death
 * that comes at a chosen operation. What was durable stays; from the death on everything fails,
 * until the world is revived. */
#ifndef LOCH_TESTS_MODEL_WORLD_H
#define LOCH_TESTS_MODEL_WORLD_H

#include "loch/io/env.h"
#include "loch/objstore/objstore.h"

struct world *world_create(void);
void world_destroy(struct world *world);
struct loch_env *world_env(struct world *world);
struct loch_objstore *world_objstore(struct world *world);

/* Files and objects are gone. */
void world_clear(struct world *world);
/* Those whose path or name holds `text`. */
void world_remove(struct world *world, const char *text);
/* The n-th operation from now is the last one of this life; it takes effect or not, by `seed`. 0:
 * never. */
void world_die_at(struct world *world, uint64_t n, uint64_t seed);
bool world_dead(const struct world *world);
void world_revive(struct world *world);
void world_set_time(struct world *world, int64_t wall_us);
/* Files (not objects) whose path holds `text`. */
size_t world_files(const struct world *world, const char *text);

#endif
