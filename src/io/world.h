/* Holds: the table behind include/loch/io/env.h. A world (real: src/io/real_*.c, simulated:
 * tests/sim) fills it in and embeds the handle structs below as first members of its own. A NULL
 * entry: LOCH_E_UNSUPPORTED. */
#ifndef LOCH_IO_WORLD_H
#define LOCH_IO_WORLD_H

#include "loch/io/env.h"

struct loch_world_ops {
    uint64_t (*now_ns)(struct loch_env *env);
    int64_t (*wall_us)(struct loch_env *env);
    LOCH_STATUS (*random)(struct loch_env *env, void *out, size_t len);
    LOCH_STATUS(*timer)
    (struct loch_env *env, uint64_t delay_ms, struct loch_timer **out, loch_call_fn fire,
     void *arg);
    void (*timer_cancel)(struct loch_timer *timer);
    void (*run)(struct loch_env *env);
    void (*stop)(struct loch_env *env);
    void (*post)(struct loch_env *env, loch_call_fn fn, void *arg);
    LOCH_STATUS (*work)(struct loch_env *env, loch_call_fn work, loch_call_fn done, void *arg);
    /* NULL: no work outlives the loop in that world */
    bool (*working)(struct loch_env *env);
    LOCH_STATUS (*on_signal)(struct loch_env *env, int signo, loch_call_fn fn, void *arg);

    LOCH_STATUS(*file_open)
    (struct loch_env *env, const char *path, int flags, struct loch_file **out);
    void (*file_close)(struct loch_file *file);
    LOCH_STATUS (*file_size)(struct loch_file *file, uint64_t *out);
    LOCH_STATUS (*file_read)(struct loch_file *file, uint64_t offset, void *out, size_t len);
    size_t (*file_read_now)(struct loch_file *file, uint64_t offset, void *out, size_t len);
    LOCH_STATUS(*file_write)
    (struct loch_file *file, uint64_t offset, struct loch_slice bytes, loch_done_fn done,
     void *arg);
    LOCH_STATUS(*file_write_sync)
    (struct loch_file *file, uint64_t offset, struct loch_slice bytes, loch_done_fn done,
     void *arg);
    LOCH_STATUS (*file_sync)(struct loch_file *file, loch_done_fn done, void *arg);
    LOCH_STATUS(*file_allocate)
    (struct loch_file *file, uint64_t size, loch_done_fn done, void *arg);

    LOCH_STATUS(*read_file)
    (struct loch_env *env, const char *path, size_t max_bytes, struct loch_buf *out);
    LOCH_STATUS (*replace_file)(struct loch_env *env, const char *path, struct loch_slice bytes);
    LOCH_STATUS (*create_file)(struct loch_env *env, const char *path, struct loch_slice bytes);
    LOCH_STATUS(*patch_file)
    (struct loch_env *env, const char *path, uint64_t offset, struct loch_slice bytes);
    LOCH_STATUS (*truncate_file)(struct loch_env *env, const char *path, uint64_t size);
    LOCH_STATUS (*unlink)(struct loch_env *env, const char *path);
    LOCH_STATUS (*rename)(struct loch_env *env, const char *from, const char *to);
    LOCH_STATUS (*mkdirs)(struct loch_env *env, const char *path);
    LOCH_STATUS (*sync_dir)(struct loch_env *env, const char *path);
    LOCH_STATUS(*list_dir)
    (struct loch_env *env, const char *path, bool (*fn)(void *arg, const char *name), void *arg);

    /* NULL: no files piece by piece in that world */
    LOCH_STATUS(*new_file)
    (struct loch_env *env, const char *path, struct loch_new_file **out);
    LOCH_STATUS (*new_file_add)(struct loch_new_file *file, struct loch_slice bytes);
    LOCH_STATUS (*new_file_end)(struct loch_new_file *file);
    void (*new_file_abandon)(struct loch_new_file *file);
    LOCH_STATUS(*fs_space)
    (struct loch_env *env, const char *path, uint64_t *free_bytes, uint64_t *all_bytes);

    LOCH_STATUS(*listen)
    (struct loch_env *env, const char *address, struct loch_tls_server *tls,
     struct loch_listener **out, loch_accept_fn accepted, void *arg);
    void (*listener_close)(struct loch_listener *listener);
    LOCH_STATUS(*connect)
    (struct loch_env *env, const char *address, struct loch_tls_client *tls, uint64_t timeout_ms,
     loch_connected_fn connected, void *arg);
    /* NULL: nobody is refused in that world */
    void (*on_refused)(struct loch_env *env, loch_refused_fn fn, void *arg);
    struct loch_slice (*stream_identity)(const struct loch_stream *stream);
    void (*stream_send)(struct loch_stream *stream, struct loch_buf *take_frames);
    void (*stream_trade)(struct loch_stream *stream, struct loch_buf *frames);
    size_t (*stream_queued)(const struct loch_stream *stream);
    void (*stream_read)(struct loch_stream *stream, bool on);
    void (*stream_close)(struct loch_stream *stream);
    void (*stream_cut)(struct loch_stream *stream);

    LOCH_STATUS(*watch_fd)
    (struct loch_env *env, int fd, int events, struct loch_watch **out,
     void (*ready)(void *arg, int events), void *arg);
    LOCH_STATUS (*watch_change)(struct loch_watch *watch, int events);
    void (*watch_stop)(struct loch_watch *watch);
    LOCH_STATUS(*spawn)
    (struct loch_env *env, const struct loch_child_options *options, struct loch_child **out,
     void (*exited)(void *arg, int wait_status), void *arg);
    pid_t (*child_pid)(const struct loch_child *child);
    void (*child_kill)(struct loch_child *child, int signo);
};

struct loch_env {
    const struct loch_world_ops *ops;
};

struct loch_timer {
    struct loch_env *env;
};

struct loch_file {
    struct loch_env *env;
};

struct loch_new_file {
    struct loch_env *env;
};

struct loch_listener {
    struct loch_env *env;
};

struct loch_watch {
    struct loch_env *env;
};

struct loch_child {
    struct loch_env *env;
};

struct loch_stream {
    struct loch_env *env;
    const struct loch_stream_events *events; /* NULL until attached */
    void *arg;
};

#endif
