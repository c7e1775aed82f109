/* Holds: the virtual clock, its events, and what of a process hangs on them: timers, posts, work.
 */
#include "sim_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sim_timer {
    struct loch_timer base;
    struct sim_timer *next, **prev;
    bool cancelled;
    loch_call_fn fire;
    void *arg;
};

void *sim_alloc(size_t len)
{
    void *p = calloc(1, len);
    LOCH_ASSERT(p != NULL);
    return p;
}

struct sim_process *sim_process_of(struct loch_env *env)
{
    return (struct sim_process *)env;
}

/* ---- chance: splitmix64 ---- */
static uint64_t draw(struct sim_world *w)
{
    uint64_t z = w->random += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

uint64_t sim_world_draw(struct sim_world *world, uint64_t n)
{
    LOCH_ASSERT(n > 0);
    return draw(world) % n;
}

uint64_t sim_between(struct sim_world *world, uint64_t min, uint64_t max)
{
    return min + sim_world_draw(world, max - min + 1);
}

/* ---- the heap of events, by time, then by order of making ---- */
static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->seq < b->seq;
}

static void swap(struct sim_event *a, struct sim_event *b)
{
    struct sim_event c = *a;
    *a = *b;
    *b = c;
}

void sim_at(struct sim_world *world, uint64_t delay_us, struct sim_process *process,
            loch_call_fn fire, void *arg, loch_call_fn drop)
{
    if (world->heap_len == world->heap_cap) {
        world->heap_cap = world->heap_cap == 0 ? 256 : world->heap_cap * 2;
        world->heap = realloc(world->heap, world->heap_cap * sizeof *world->heap);
        LOCH_ASSERT(world->heap != NULL);
    }
    size_t i = world->heap_len++;
    world->heap[i] =
        (struct sim_event){world->now_us + delay_us, world->seq++, process, fire, arg, drop};
    for (; i > 0 && before(&world->heap[i], &world->heap[(i - 1) / 2]); i = (i - 1) / 2)
        swap(&world->heap[i], &world->heap[(i - 1) / 2]);
}

static struct sim_event pop(struct sim_world *w)
{
    struct sim_event top = w->heap[0];
    size_t i = 0;

    w->heap[0] = w->heap[--w->heap_len];
    for (;;) {
        size_t least = i;
        for (size_t child = 2 * i + 1; child <= 2 * i + 2; child++)
            if (child < w->heap_len && before(&w->heap[child], &w->heap[least]))
                least = child;
        if (least == i)
            return top;
        swap(&w->heap[i], &w->heap[least]);
        i = least;
    }
}

bool sim_world_step(struct sim_world *world)
{
    while (world->heap_len > 0) {
        struct sim_event e = pop(world);
        if (e.process != NULL && !e.process->alive) {
            if (e.drop != NULL)
                e.drop(e.arg);
            continue;
        }
        LOCH_ASSERT(e.at_us >= world->now_us);
        world->now_us = e.at_us;
        world->fired++;
        e.fire(e.arg);
        return true;
    }
    return false;
}

void sim_world_run(struct sim_world *world, uint64_t us)
{
    uint64_t until = world->now_us + us;

    while (world->heap_len > 0 && world->heap[0].at_us <= until)
        (void)sim_world_step(world);
    if (world->now_us < until)
        world->now_us = until;
}

uint64_t sim_world_now_us(const struct sim_world *world)
{
    return world->now_us;
}

uint64_t sim_world_events(const struct sim_world *world)
{
    return world->fired;
}

/* ---- clock and random ---- */
#define CLOCK_JUMPS_US    UINT64_C(3000000)
#define CLOCK_JUMP_MAX_US UINT64_C(3600000000)

static uint64_t now_ns(struct loch_env *env)
{
    return (sim_process_of(env)->node->world->now_us + 1000000) * 1000;
}

/* A clock that somebody sets again every few seconds, each machine's in its own way. */
static int64_t wall_us(struct loch_env *env)
{
    const struct sim_node *node = sim_process_of(env)->node;
    const uint64_t now_us = node->world->now_us;
    const uint64_t mixed =
        (now_us / CLOCK_JUMPS_US + 1) * (node->index + 1) * UINT64_C(0x9e3779b97f4a7c15) >> 20;

    return INT64_C(1700000000000000) + (int64_t)now_us +
           (int64_t)(mixed % (2 * CLOCK_JUMP_MAX_US)) - (int64_t)CLOCK_JUMP_MAX_US;
}

static loch_status random_bytes(struct loch_env *env, void *out, size_t len)
{
    uint8_t *p = out;

    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)draw(sim_process_of(env)->node->world);
    return LOCH_OK;
}

/* ---- timers ---- */
static void timer_unlink(struct sim_timer *t)
{
    *t->prev = t->next;
    if (t->next != NULL)
        t->next->prev = t->prev;
}

static void timer_due(void *arg)
{
    struct sim_timer *t = arg;

    if (t->cancelled) {
        free(t);
        return;
    }
    loch_call_fn fire = t->fire;
    void *fire_arg = t->arg;
    timer_unlink(t);
    free(t);
    fire(fire_arg);
}

/* The process is dead: an uncancelled timer stays until its owner or the end frees it. */
static void timer_drop(void *arg)
{
    struct sim_timer *t = arg;

    if (t->cancelled)
        free(t);
}

static loch_status timer(struct loch_env *env, uint64_t delay_ms, struct loch_timer **out,
                         loch_call_fn fire, void *arg)
{
    struct sim_process *p = sim_process_of(env);
    struct sim_timer *t = sim_alloc(sizeof *t);

    *t = (struct sim_timer){
        .base = {env}, .next = p->timers, .prev = &p->timers, .fire = fire, .arg = arg};
    if (p->timers != NULL)
        p->timers->prev = &t->next;
    p->timers = t;
    sim_at(p->node->world, delay_ms * 1000, p, timer_due, t, timer_drop);
    *out = &t->base;
    return LOCH_OK;
}

static void timer_cancel(struct loch_timer *base)
{
    struct sim_timer *t = (struct sim_timer *)base;

    timer_unlink(t);
    t->cancelled = true; /* its event frees it */
}

/* ---- loop, posts, work ---- */
static void run(struct loch_env *env)
{
    struct sim_process *p = sim_process_of(env);

    p->stopping = false;
    while (p->alive && !p->stopping && sim_world_step(p->node->world))
        ;
}

static void stop(struct loch_env *env)
{
    sim_process_of(env)->stopping = true;
}

static void post(struct loch_env *env, loch_call_fn fn, void *arg)
{
    struct sim_process *p = sim_process_of(env);

    sim_at(p->node->world, 0, p, fn, arg, NULL);
}

struct work {
    struct sim_process *process;
    loch_call_fn work, done;
    void *arg;
};

static void work_done(void *arg)
{
    struct work w = *(struct work *)arg;

    free(arg);
    w.done(w.arg);
}

static void work_run(void *arg)
{
    struct work *w = arg;
    struct sim_world *world = w->process->node->world;

    w->work(w->arg);
    sim_at(world, sim_between(world, 1, 200), w->process, work_done, w, free);
}

static loch_status work(struct loch_env *env, loch_call_fn work_fn, loch_call_fn done, void *arg)
{
    struct sim_process *p = sim_process_of(env);
    struct work *w = sim_alloc(sizeof *w);

    *w = (struct work){p, work_fn, done, arg};
    sim_at(p->node->world, sim_between(p->node->world, 1, 500), p, work_run, w, free);
    return LOCH_OK;
}

static const struct loch_world_ops sim_ops = {
    .now_ns = now_ns,
    .wall_us = wall_us,
    .random = random_bytes,
    .timer = timer,
    .timer_cancel = timer_cancel,
    .run = run,
    .stop = stop,
    .post = post,
    .work = work,
    .file_open = sim_file_open,
    .file_close = sim_file_close,
    .file_size = sim_file_size,
    .file_read = sim_file_read,
    .file_write = sim_file_write,
    .file_write_sync = sim_file_write_sync,
    .file_sync = sim_file_sync,
    .file_allocate = sim_file_allocate,
    .read_file = sim_read_file,
    .replace_file = sim_replace_file,
    .create_file = sim_create_file,
    .patch_file = sim_patch_file,
    .truncate_file = sim_truncate_file,
    .unlink = sim_unlink,
    .rename = sim_rename,
    .mkdirs = sim_mkdirs,
    .sync_dir = sim_sync_dir,
    .list_dir = sim_list_dir,
    .listen = sim_listen,
    .listener_close = sim_listener_close,
    .connect = sim_connect,
    .stream_identity = sim_stream_identity,
    .stream_send = sim_stream_send,
    .stream_trade = sim_stream_trade,
    .stream_queued = sim_stream_queued,
    .stream_read = sim_stream_read,
    .stream_close = sim_stream_close,
    .stream_cut = sim_stream_close, /* its kernel holds nothing back */
};

/* ---- worlds and nodes ---- */
struct sim_world *sim_world_create(const struct sim_options *options)
{
    struct sim_world *w = sim_alloc(sizeof *w);

    w->o = *options;
    w->random = options->seed;
    if (w->o.disk_max_us == 0) {
        w->o.disk_min_us = 20;
        w->o.disk_max_us = 2000;
    }
    if (w->o.net_max_us == 0) {
        w->o.net_min_us = 50;
        w->o.net_max_us = 5000;
    }
    return w;
}

struct sim_node *sim_node_create(struct sim_world *world, const char *name)
{
    struct sim_node *n = sim_alloc(sizeof *n);

    LOCH_ASSERT(world->node_count < SIM_NODES_MAX);
    n->world = world;
    n->index = world->node_count;
    (void)snprintf(n->name, sizeof n->name, "%s", name);
    (void)sim_world_draw(world, 2); /* keeps the stories of the seeds that were found */
    world->nodes[world->node_count++] = n;
    return n;
}

struct loch_env *sim_node_start(struct sim_node *node)
{
    struct sim_process *p = sim_alloc(sizeof *p);

    LOCH_ASSERT(node->process == NULL || !node->process->alive);
    p->base.ops = &sim_ops;
    p->node = node;
    p->alive = true;
    p->next = node->process;
    node->process = p;
    return &p->base;
}

void sim_node_kill(struct sim_node *node)
{
    struct sim_process *p = node->process;

    if (p == NULL || !p->alive)
        return;
    p->alive = false;
    sim_net_kill(p);
    sim_disk_end_process(p, false);
}

void sim_node_power_cut(struct sim_node *node)
{
    sim_node_kill(node);
    sim_disk_power_cut(node);
}

void sim_node_fail_disk(struct sim_node *node, uint64_t n)
{
    node->fail_disk = n;
}

void sim_node_misread(struct sim_node *node, uint64_t n)
{
    node->misread = n;
}

static void process_destroy(struct sim_process *p)
{
    while (p->timers != NULL) {
        struct sim_timer *t = p->timers;
        timer_unlink(t);
        free(t);
    }
    sim_disk_end_process(p, true);
    sim_net_end_process(p);
    free(p);
}

void sim_world_destroy(struct sim_world *world)
{
    for (unsigned i = 0; i < world->node_count; i++)
        sim_node_kill(world->nodes[i]);
    while (world->heap_len > 0) {
        struct sim_event e = pop(world);
        if (e.drop != NULL)
            e.drop(e.arg);
    }
    for (unsigned i = 0; i < world->node_count; i++) {
        struct sim_node *n = world->nodes[i];
        while (n->process != NULL) {
            struct sim_process *p = n->process;
            n->process = p->next;
            process_destroy(p);
        }
        sim_disk_destroy(n);
        free(n);
    }
    sim_net_destroy(world);
    free(world->heap);
    free(world);
}
