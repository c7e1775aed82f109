/* Holds: what the files of the real world share. One loop thread owns all of it, but for `posts`.
 */
#ifndef LOCH_IO_REAL_H
#define LOCH_IO_REAL_H

#include "loch/base/check.h"
#include "loch/crypto/tls.h"
#include "world.h"

#include <liburing.h>
#include <pthread.h>
#include <uv.h>

#define REAL_READ_BYTES (64u << 10)

struct real_post {
    struct real_post *next;
    loch_call_fn fn;
    void *arg;
};

/* Every uv handle's `data`, but for the loop's own: how to end its owner without events (at
 * destroy). May be called once for each handle that the owner has. */
struct real_owner {
    void *self;
    void (*end)(void *self);
};

struct real_op; /* real_file.c */
struct real_file;
struct real_stream;

struct real_env {
    struct loch_env base;
    uv_loop_t loop;
    uv_async_t async;
    uv_prepare_t prepare; /* before the loop sleeps: one submission, one write per stream */
    uv_idle_t idle;       /* runs while something was queued during `prepare`: no sleep then */
    bool idle_on;
    bool stopping;
    bool dying; /* in loch_env_real_destroy: owners end without events */

    pthread_mutex_t posts_lock;
    struct real_post *posts;
    struct real_post **posts_tail;
    unsigned works; /* of loch_env_work, whose `done` has not returned */

    bool uring_on;
    struct io_uring ring;
    uv_poll_t ring_poll;
    unsigned ops_running;
    unsigned sqes_ready; /* prepared and not yet submitted */
    struct real_op *ops_waiting;
    struct real_op **ops_waiting_tail;
    struct real_op *alone, **alone_tail; /* the loop itself does them before it sleeps */
    bool alone_syncs;                    /* a write_sync is among them */
    const struct real_file *run;         /* of whom the last write_syncs all were; NULL: closed */
    unsigned run_length;

    struct real_stream *dirty; /* streams with something to do before the loop sleeps */
    uint8_t read_bytes[REAL_READ_BYTES];
    /* Memory of streams that have nothing to send just now, for the next that has: what is to be
     * sealed, and what was. Empty, and the first wiped. */
    struct loch_buf spare_queue, spare_wire;
    uint64_t log_second; /* at most LOG_LINES lines on refused peers a second */
    unsigned log_lines;
    unsigned log_dropped;
    loch_refused_fn refused; /* NULL: nobody is told */
    void *refused_arg;
};

static inline struct real_env *real_env_of(struct loch_env *env)
{
    return (struct real_env *)env;
}

/* Wakes the loop's next turn up for `dirty` work. */
void real_env_wake(struct real_env *env);

/* real_file.c */
LOCH_STATUS real_ring_open(struct real_env *env);
void real_ring_close(struct real_env *env);
void real_ring_submit(struct real_env *env);
void real_alone_run(struct real_env *env);
LOCH_STATUS real_file_open(struct loch_env *env, const char *path, int flags,
                           struct loch_file **out);
void real_file_close(struct loch_file *file);
LOCH_STATUS real_file_size(struct loch_file *file, uint64_t *out);
LOCH_STATUS real_file_read(struct loch_file *file, uint64_t offset, void *out, size_t len);
size_t real_file_read_now(struct loch_file *file, uint64_t offset, void *out, size_t len);
LOCH_STATUS real_file_write(struct loch_file *file, uint64_t offset, struct loch_slice bytes,
                            loch_done_fn done, void *arg);
LOCH_STATUS real_file_write_sync(struct loch_file *file, uint64_t offset, struct loch_slice bytes,
                                 loch_done_fn done, void *arg);
LOCH_STATUS real_file_sync(struct loch_file *file, loch_done_fn done, void *arg);
LOCH_STATUS real_file_allocate(struct loch_file *file, uint64_t size, loch_done_fn done, void *arg);

/* real_fs.c */
LOCH_STATUS real_read_file(struct loch_env *env, const char *path, size_t max_bytes,
                           struct loch_buf *out);
LOCH_STATUS real_replace_file(struct loch_env *env, const char *path, struct loch_slice bytes);
LOCH_STATUS real_create_file(struct loch_env *env, const char *path, struct loch_slice bytes);
LOCH_STATUS real_new_file(struct loch_env *env, const char *path, struct loch_new_file **out);
LOCH_STATUS real_new_file_add(struct loch_new_file *file, struct loch_slice bytes);
LOCH_STATUS real_new_file_end(struct loch_new_file *file);
void real_new_file_abandon(struct loch_new_file *file);
LOCH_STATUS real_fs_space(struct loch_env *env, const char *path, uint64_t *free_bytes,
                          uint64_t *all_bytes);
LOCH_STATUS real_patch_file(struct loch_env *env, const char *path, uint64_t offset,
                            struct loch_slice bytes);
LOCH_STATUS real_truncate_file(struct loch_env *env, const char *path, uint64_t size);
LOCH_STATUS real_unlink(struct loch_env *env, const char *path);
LOCH_STATUS real_rename(struct loch_env *env, const char *from, const char *to);
LOCH_STATUS real_mkdirs(struct loch_env *env, const char *path);
LOCH_STATUS real_sync_dir(struct loch_env *env, const char *path);
LOCH_STATUS real_list_dir(struct loch_env *env, const char *path,
                          bool (*fn)(void *arg, const char *name), void *arg);

/* real_stream.c */
void real_streams_flush(struct real_env *env);
LOCH_STATUS real_listen(struct loch_env *env, const char *address, struct loch_tls_server *tls,
                        struct loch_listener **out, loch_accept_fn accepted, void *arg);
void real_listener_close(struct loch_listener *listener);
LOCH_STATUS real_connect(struct loch_env *env, const char *address, struct loch_tls_client *tls,
                         uint64_t timeout_ms, loch_connected_fn connected, void *arg);
void real_on_refused(struct loch_env *env, loch_refused_fn fn, void *arg);
struct loch_slice real_stream_identity(const struct loch_stream *stream);
void real_stream_send(struct loch_stream *stream, struct loch_buf *take_frames);
void real_stream_trade(struct loch_stream *stream, struct loch_buf *frames);
size_t real_stream_queued(const struct loch_stream *stream);
void real_stream_read(struct loch_stream *stream, bool on);
void real_stream_close(struct loch_stream *stream);
void real_stream_cut(struct loch_stream *stream);

/* real_child.c */
LOCH_STATUS real_watch_fd(struct loch_env *env, int fd, int events, struct loch_watch **out,
                          void (*ready)(void *arg, int events), void *arg);
LOCH_STATUS real_watch_change(struct loch_watch *watch, int events);
void real_watch_stop(struct loch_watch *watch);
LOCH_STATUS real_spawn(struct loch_env *env, const struct loch_child_options *options,
                       struct loch_child **out, void (*exited)(void *arg, int wait_status),
                       void *arg);
pid_t real_child_pid(const struct loch_child *child);
void real_child_kill(struct loch_child *child, int signo);

/* address.c: splits "host:port" or "[v6]:port". LOCH_E_INVALID. */
struct real_address {
    char host[256];
    uint16_t port;
};
LOCH_STATUS real_address_parse(const char *text, struct real_address *out);

#endif
