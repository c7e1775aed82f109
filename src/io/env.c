/* Holds: the face's functions, each a step through the world's table. Invariant: nothing else. */
#include "loch/base/check.h"
#include "world.h"

#include <stdlib.h>

#define WANT(env_, op_)                                                                            \
    do {                                                                                           \
        if ((env_)->ops->op_ == NULL)                                                              \
            return LOCH_FAIL(LOCH_E_UNSUPPORTED, "this world has no " #op_);                       \
    } while (0)

uint64_t loch_env_now_ns(struct loch_env *env)
{
    return env->ops->now_ns(env);
}

int64_t loch_env_wall_us(struct loch_env *env)
{
    return env->ops->wall_us(env);
}

loch_status loch_env_random(struct loch_env *env, void *out, size_t len)
{
    return env->ops->random(env, out, len);
}

loch_status loch_env_timer(struct loch_env *env, uint64_t delay_ms, struct loch_timer **out,
                           loch_call_fn fire, void *arg)
{
    return env->ops->timer(env, delay_ms, out, fire, arg);
}

void loch_timer_cancel(struct loch_timer *timer)
{
    if (timer != NULL)
        timer->env->ops->timer_cancel(timer);
}

void loch_env_run(struct loch_env *env)
{
    env->ops->run(env);
}

void loch_env_stop(struct loch_env *env)
{
    env->ops->stop(env);
}

void loch_env_post(struct loch_env *env, loch_call_fn fn, void *arg)
{
    env->ops->post(env, fn, arg);
}

loch_status loch_env_work(struct loch_env *env, loch_call_fn work, loch_call_fn done, void *arg)
{
    return env->ops->work(env, work, done, arg);
}

bool loch_env_working(struct loch_env *env)
{
    return env->ops->working != NULL && env->ops->working(env);
}

loch_status loch_env_on_signal(struct loch_env *env, int signo, loch_call_fn fn, void *arg)
{
    WANT(env, on_signal);
    return env->ops->on_signal(env, signo, fn, arg);
}

loch_status loch_file_open(struct loch_env *env, const char *path, int flags,
                           struct loch_file **out)
{
    return env->ops->file_open(env, path, flags, out);
}

void loch_file_close(struct loch_file *file)
{
    if (file != NULL)
        file->env->ops->file_close(file);
}

loch_status loch_file_size(struct loch_file *file, uint64_t *out)
{
    return file->env->ops->file_size(file, out);
}

loch_status loch_file_read(struct loch_file *file, uint64_t offset, void *out, size_t len)
{
    return file->env->ops->file_read(file, offset, out, len);
}

size_t loch_file_read_now(struct loch_file *file, uint64_t offset, void *out, size_t len)
{
    if (file->env->ops->file_read_now == NULL)
        return 0;
    return file->env->ops->file_read_now(file, offset, out, len);
}

loch_status loch_file_write(struct loch_file *file, uint64_t offset, struct loch_slice bytes,
                            loch_done_fn done, void *arg)
{
    return file->env->ops->file_write(file, offset, bytes, done, arg);
}

loch_status loch_file_write_sync(struct loch_file *file, uint64_t offset, struct loch_slice bytes,
                                 loch_done_fn done, void *arg)
{
    return file->env->ops->file_write_sync(file, offset, bytes, done, arg);
}

loch_status loch_file_sync(struct loch_file *file, loch_done_fn done, void *arg)
{
    return file->env->ops->file_sync(file, done, arg);
}

loch_status loch_file_allocate(struct loch_file *file, uint64_t size, loch_done_fn done, void *arg)
{
    return file->env->ops->file_allocate(file, size, done, arg);
}

loch_status loch_env_read_file(struct loch_env *env, const char *path, size_t max_bytes,
                               struct loch_buf *out)
{
    return env->ops->read_file(env, path, max_bytes, out);
}

loch_status loch_env_replace_file(struct loch_env *env, const char *path, struct loch_slice bytes)
{
    return env->ops->replace_file(env, path, bytes);
}

loch_status loch_env_create_file(struct loch_env *env, const char *path, struct loch_slice bytes)
{
    return env->ops->create_file(env, path, bytes);
}

loch_status loch_env_new_file(struct loch_env *env, const char *path, struct loch_new_file **out)
{
    if (env->ops->new_file == NULL)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED, "this world's files are made whole");
    return env->ops->new_file(env, path, out);
}

loch_status loch_new_file_add(struct loch_new_file *file, struct loch_slice bytes)
{
    return file->env->ops->new_file_add(file, bytes);
}

loch_status loch_new_file_end(struct loch_new_file *file)
{
    return file->env->ops->new_file_end(file);
}

void loch_new_file_abandon(struct loch_new_file *file)
{
    if (file != NULL)
        file->env->ops->new_file_abandon(file);
}

loch_status loch_env_fs_space(struct loch_env *env, const char *path, uint64_t *free_bytes,
                              uint64_t *all_bytes)
{
    if (env->ops->fs_space == NULL)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED, "this world's disks have no size");
    return env->ops->fs_space(env, path, free_bytes, all_bytes);
}

loch_status loch_env_patch_file(struct loch_env *env, const char *path, uint64_t offset,
                                struct loch_slice bytes)
{
    return env->ops->patch_file(env, path, offset, bytes);
}

loch_status loch_env_truncate_file(struct loch_env *env, const char *path, uint64_t size)
{
    return env->ops->truncate_file(env, path, size);
}

loch_status loch_env_unlink(struct loch_env *env, const char *path)
{
    return env->ops->unlink(env, path);
}

loch_status loch_env_rename(struct loch_env *env, const char *from, const char *to)
{
    return env->ops->rename(env, from, to);
}

loch_status loch_env_mkdirs(struct loch_env *env, const char *path)
{
    return env->ops->mkdirs(env, path);
}

loch_status loch_env_sync_dir(struct loch_env *env, const char *path)
{
    return env->ops->sync_dir(env, path);
}

loch_status loch_env_list_dir(struct loch_env *env, const char *path,
                              bool (*fn)(void *arg, const char *name), void *arg)
{
    return env->ops->list_dir(env, path, fn, arg);
}

/* replace_file_async is work + replace_file, in every world. */
struct replacing {
    struct loch_env *env;
    struct loch_buf bytes;
    loch_status st;
    char text[256]; /* the failure's text, carried from the pool thread to the loop's */
    loch_done_fn done;
    void *arg;
    char path[];
};

static void replacing_work(void *arg)
{
    struct replacing *job = arg;

    job->st = loch_env_replace_file(job->env, job->path, loch_buf_slice(&job->bytes));
    if (!loch_is_ok(job->st)) {
        size_t n = strnlen(loch_error_text(), sizeof job->text - 1);
        memcpy(job->text, loch_error_text(), n);
        job->text[n] = '\0';
    }
}

static void replacing_done(void *arg)
{
    struct replacing *job = arg;

    loch_status st = job->st;
    if (!loch_is_ok(st))
        st = LOCH_FAIL(st.code, "%s", job->text);
    job->done(job->arg, st);
    loch_buf_fini(&job->bytes);
    free(job);
}

loch_status loch_env_replace_file_async(struct loch_env *env, const char *path,
                                        struct loch_buf *take_bytes, loch_done_fn done, void *arg)
{
    size_t n = strlen(path) + 1;
    struct replacing *job = calloc(1, sizeof *job + n);

    if (job == NULL) {
        loch_buf_fini(take_bytes);
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory to replace %s", path);
    }
    job->env = env;
    job->bytes = *take_bytes;
    *take_bytes = (struct loch_buf){0};
    job->done = done;
    job->arg = arg;
    memcpy(job->path, path, n);
    loch_status st = loch_env_work(env, replacing_work, replacing_done, job);
    if (!loch_is_ok(st)) {
        loch_buf_fini(&job->bytes);
        free(job);
    }
    return st;
}

loch_status loch_env_listen(struct loch_env *env, const char *address, struct loch_tls_server *tls,
                            struct loch_listener **out, loch_accept_fn accepted, void *arg)
{
    return env->ops->listen(env, address, tls, out, accepted, arg);
}

void loch_listener_close(struct loch_listener *listener)
{
    if (listener != NULL)
        listener->env->ops->listener_close(listener);
}

loch_status loch_env_connect(struct loch_env *env, const char *address, struct loch_tls_client *tls,
                             uint64_t timeout_ms, loch_connected_fn connected, void *arg)
{
    return env->ops->connect(env, address, tls, timeout_ms, connected, arg);
}

void loch_stream_attach(struct loch_stream *stream, const struct loch_stream_events *events,
                        void *arg)
{
    LOCH_ASSERT(events->frame != NULL);
    LOCH_ASSERT(events->closed != NULL);
    stream->events = events;
    stream->arg = arg;
}

void loch_env_on_refused(struct loch_env *env, loch_refused_fn fn, void *arg)
{
    if (env->ops->on_refused != NULL)
        env->ops->on_refused(env, fn, arg);
}

struct loch_slice loch_stream_identity(const struct loch_stream *stream)
{
    return stream->env->ops->stream_identity(stream);
}

void loch_stream_send(struct loch_stream *stream, struct loch_buf *take_frames)
{
    stream->env->ops->stream_send(stream, take_frames);
}

void loch_stream_trade(struct loch_stream *stream, struct loch_buf *frames)
{
    stream->env->ops->stream_trade(stream, frames);
}

size_t loch_stream_queued(const struct loch_stream *stream)
{
    return stream->env->ops->stream_queued(stream);
}

void loch_stream_read(struct loch_stream *stream, bool on)
{
    stream->env->ops->stream_read(stream, on);
}

void loch_stream_close(struct loch_stream *stream)
{
    stream->env->ops->stream_close(stream);
}

void loch_stream_cut(struct loch_stream *stream)
{
    stream->env->ops->stream_cut(stream);
}

loch_status loch_env_watch_fd(struct loch_env *env, int fd, int events, struct loch_watch **out,
                              void (*ready)(void *arg, int events), void *arg)
{
    WANT(env, watch_fd);
    return env->ops->watch_fd(env, fd, events, out, ready, arg);
}

loch_status loch_watch_change(struct loch_watch *watch, int events)
{
    return watch->env->ops->watch_change(watch, events);
}

void loch_watch_stop(struct loch_watch *watch)
{
    if (watch != NULL)
        watch->env->ops->watch_stop(watch);
}

loch_status loch_env_spawn(struct loch_env *env, const struct loch_child_options *options,
                           struct loch_child **out, void (*exited)(void *arg, int wait_status),
                           void *arg)
{
    WANT(env, spawn);
    return env->ops->spawn(env, options, out, exited, arg);
}

pid_t loch_child_pid(const struct loch_child *child)
{
    return child->env->ops->child_pid(child);
}

void loch_child_kill(struct loch_child *child, int signo)
{
    child->env->ops->child_kill(child, signo);
}
