/* Holds: what the parts of the simulated world share. */
#ifndef LOCH_TESTS_SIM_INTERNAL_H
#define LOCH_TESTS_SIM_INTERNAL_H

#include "loch/base/check.h"
#include "sim_env.h"
#include "world.h"

#define SIM_NODES_MAX 16u

struct sim_process;

/* Something due at a time. Events of a dead process are dropped when they come up. */
struct sim_event {
    uint64_t at_us, seq;
    struct sim_process *process; /* NULL: the world's own */
    loch_call_fn fire;
    void *arg;
    loch_call_fn drop; /* frees arg instead, when the process is dead; may be NULL */
};

/* A running (or dead) process: what loch_env points at. */
struct sim_process {
    struct loch_env base;
    struct sim_node *node;
    bool alive;
    bool stopping;
    struct sim_timer *timers;
    struct sim_file *files;
    struct sim_listener *listeners;
    struct sim_process *next; /* older ones of the node */
};

struct sim_inode;

struct sim_entry {
    struct sim_entry *next;
    char *path;
    bool is_dir;
    bool durable;            /* its directory was synced since it came */
    char *durable_path;      /* what a power cut may make of `path`; NULL: nothing else */
    struct sim_inode *inode; /* files */
};

struct sim_node {
    struct sim_world *world;
    char name[64];
    unsigned index;
    struct sim_process *process; /* the newest; older ones behind it */
    struct sim_entry *entries;
    uint64_t fail_disk, misread;
};

struct sim_world {
    struct sim_options o;
    uint64_t now_us, seq, fired, random;
    struct sim_event *heap;
    size_t heap_len, heap_cap;
    struct sim_node *nodes[SIM_NODES_MAX];
    unsigned node_count;
    bool parted[SIM_NODES_MAX][SIM_NODES_MAX];
    struct sim_link *links;
};

void sim_at(struct sim_world *world, uint64_t delay_us, struct sim_process *process,
            loch_call_fn fire, void *arg, loch_call_fn drop);
uint64_t sim_between(struct sim_world *world, uint64_t min, uint64_t max);
struct sim_process *sim_process_of(struct loch_env *env);
void *sim_alloc(size_t len);

/* sim_disk.c */
void sim_disk_power_cut(struct sim_node *node);
void sim_disk_destroy(struct sim_node *node);
void sim_disk_end_process(struct sim_process *p, bool forget);
LOCH_STATUS sim_file_open(struct loch_env *env, const char *path, int flags,
                          struct loch_file **out);
void sim_file_close(struct loch_file *file);
LOCH_STATUS sim_file_size(struct loch_file *file, uint64_t *out);
LOCH_STATUS sim_file_read(struct loch_file *file, uint64_t offset, void *out, size_t len);
LOCH_STATUS sim_file_write(struct loch_file *file, uint64_t offset, struct loch_slice bytes,
                           loch_done_fn done, void *arg);
LOCH_STATUS sim_file_write_sync(struct loch_file *file, uint64_t offset, struct loch_slice bytes,
                                loch_done_fn done, void *arg);
LOCH_STATUS sim_file_sync(struct loch_file *file, loch_done_fn done, void *arg);
LOCH_STATUS sim_file_allocate(struct loch_file *file, uint64_t size, loch_done_fn done, void *arg);
LOCH_STATUS sim_read_file(struct loch_env *env, const char *path, size_t max_bytes,
                          struct loch_buf *out);
LOCH_STATUS sim_replace_file(struct loch_env *env, const char *path, struct loch_slice bytes);
LOCH_STATUS sim_create_file(struct loch_env *env, const char *path, struct loch_slice bytes);
LOCH_STATUS sim_patch_file(struct loch_env *env, const char *path, uint64_t offset,
                           struct loch_slice bytes);
LOCH_STATUS sim_truncate_file(struct loch_env *env, const char *path, uint64_t size);
LOCH_STATUS sim_unlink(struct loch_env *env, const char *path);
LOCH_STATUS sim_rename(struct loch_env *env, const char *from, const char *to);
LOCH_STATUS sim_mkdirs(struct loch_env *env, const char *path);
LOCH_STATUS sim_sync_dir(struct loch_env *env, const char *path);
LOCH_STATUS sim_list_dir(struct loch_env *env, const char *path,
                         bool (*fn)(void *arg, const char *name), void *arg);

/* sim_net.c */
void sim_net_kill(struct sim_process *p);
void sim_net_destroy(struct sim_world *world);
void sim_net_end_process(struct sim_process *p);
LOCH_STATUS sim_listen(struct loch_env *env, const char *address, struct loch_tls_server *tls,
                       struct loch_listener **out, loch_accept_fn accepted, void *arg);
void sim_listener_close(struct loch_listener *listener);
LOCH_STATUS sim_connect(struct loch_env *env, const char *address, struct loch_tls_client *tls,
                        uint64_t timeout_ms, loch_connected_fn connected, void *arg);
struct loch_slice sim_stream_identity(const struct loch_stream *stream);
void sim_stream_send(struct loch_stream *stream, struct loch_buf *take_frames);
void sim_stream_trade(struct loch_stream *stream, struct loch_buf *frames);
size_t sim_stream_queued(const struct loch_stream *stream);
void sim_stream_read(struct loch_stream *stream, bool on);
void sim_stream_close(struct loch_stream *stream);

#endif
