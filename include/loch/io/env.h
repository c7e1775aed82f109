/* The one table of the world: clock, random, timers, files, streams, children, threads.
 *
 * Real in production (loch_env_real_create), simulated in tests/sim. Everything here is called on
 * the loop's thread, except loch_env_post, loch_env_now_ns, loch_env_wall_us, loch_env_random and
 * the synchronous file functions, which any thread may call. Callbacks come last in parameters,
 * never run before the call that registered them returns, and run on the loop's thread.
 */
#ifndef LOCH_IO_ENV_H
#define LOCH_IO_ENV_H

#include "loch/base/buf.h"
#include "loch/base/status.h"
#include "loch/base/types.h"

#include <sys/types.h>

struct loch_env;
struct loch_timer;
struct loch_file;
struct loch_new_file;
struct loch_stream;
struct loch_listener;
struct loch_child;
struct loch_tls_server; /* loch/crypto/tls.h */
struct loch_tls_client;

/* A failed status carries its text in loch_error_text() for the length of the callback. */
typedef void (*loch_done_fn)(void *arg, loch_status st);
typedef void (*loch_call_fn)(void *arg);

/* ---- clock and random ---- */
uint64_t loch_env_now_ns(struct loch_env *env); /* CLOCK_BOOTTIME: leases and timeouts */
int64_t loch_env_wall_us(struct loch_env *env); /* microseconds since 1970, may jump */
LOCH_STATUS loch_env_random(struct loch_env *env, void *out, size_t len);

/* ---- timers: one-shot; the callback may start another ---- */
LOCH_STATUS loch_env_timer(struct loch_env *env, uint64_t delay_ms, struct loch_timer **out,
                           loch_call_fn fire, void *arg);
/* Before it fired, or never after: a timer is gone once its callback has begun. Takes NULL. */
void loch_timer_cancel(struct loch_timer *timer);

/* ---- loop and threads ---- */
/* Runs until loch_env_stop. */
void loch_env_run(struct loch_env *env);
void loch_env_stop(struct loch_env *env);
/* From any thread: runs fn(arg) soon on the loop's thread, in order of posting. */
void loch_env_post(struct loch_env *env, loch_call_fn fn, void *arg);
/* Pool threads of the real world, unless UV_THREADPOOL_SIZE says otherwise. */
#define LOCH_WORK_THREADS 8u
/* Runs work(arg) on a pool thread, then done(arg) on the loop's thread. */
LOCH_STATUS loch_env_work(struct loch_env *env, loch_call_fn work, loch_call_fn done, void *arg);
/* True while there is work whose `done` has not returned: what it uses may not be released, also
 * when the loop has ended. Always false in a world without threads. */
bool loch_env_working(struct loch_env *env);
/* Calls fn(arg) on the loop's thread at every such signal. */
LOCH_STATUS loch_env_on_signal(struct loch_env *env, int signo, loch_call_fn fn, void *arg);

/* ---- files ---- */
/* flags: O_RDONLY, O_RDWR, O_CREAT, O_EXCL, ... (O_CLOEXEC is added). Directories are made durable
 * by loch_env_sync_dir. The status of asynchronous calls arrives in done. */
LOCH_STATUS loch_file_open(struct loch_env *env, const char *path, int flags,
                           struct loch_file **out);
/* No operation may be in flight. Takes NULL. */
void loch_file_close(struct loch_file *file);
LOCH_STATUS loch_file_size(struct loch_file *file, uint64_t *out);
/* Synchronous exact read; LOCH_E_CORRUPT when the file is shorter. May be called from pool threads.
 */
LOCH_STATUS loch_file_read(struct loch_file *file, uint64_t offset, void *out, size_t len);
/* As many of the bytes as are in the OS cache, from the first on: never waits for a disk. Fewer
 * than `len`: the file is shorter, or it takes loch_file_read on a pool thread (or a fault: 0).
 * *out may have been written to further. */
size_t loch_file_read_now(struct loch_file *file, uint64_t offset, void *out, size_t len);
/* Asynchronous (io_uring, or the thread pool where that is blocked). `bytes` is borrowed until
 * done. */
LOCH_STATUS loch_file_write(struct loch_file *file, uint64_t offset, struct loch_slice bytes,
                            loch_done_fn done, void *arg);
/* The same, and these bytes (not those of other writes) are durable when it is done: one operation
 * instead of a write and a sync. */
LOCH_STATUS loch_file_write_sync(struct loch_file *file, uint64_t offset, struct loch_slice bytes,
                                 loch_done_fn done, void *arg);
/* fdatasync of everything written and DONE before the call. A failed sync is final: crash, never
 * retry. */
LOCH_STATUS loch_file_sync(struct loch_file *file, loch_done_fn done, void *arg);
/* Asynchronous fallocate (keep_size false) so that later fdatasync need not journal the size. */
LOCH_STATUS loch_file_allocate(struct loch_file *file, uint64_t size, loch_done_fn done, void *arg);

/* Synchronous, durable when they return (fsync of file and directory). For start-up and pool
 * threads. */
LOCH_STATUS loch_env_read_file(struct loch_env *env, const char *path, size_t max_bytes,
                               struct loch_buf *out);
/* Writes path.tmp, syncs it, renames it over path, syncs the directory. */
LOCH_STATUS loch_env_replace_file(struct loch_env *env, const char *path, struct loch_slice bytes);
/* As above, but fails with LOCH_E_EXISTS (link(2)) when path exists. */
LOCH_STATUS loch_env_create_file(struct loch_env *env, const char *path, struct loch_slice bytes);
/* As loch_env_create_file, piece by piece: nothing stands under `path` before the end, and what was
 * added is on its way to the disk meanwhile. LOCH_E_UNSUPPORTED in a world without. One thread at a
 * time. */
LOCH_STATUS loch_env_new_file(struct loch_env *env, const char *path, struct loch_new_file **out);
LOCH_STATUS loch_new_file_add(struct loch_new_file *file, struct loch_slice bytes);
/* Durable under its name, or gone; `file` is freed either way. */
LOCH_STATUS loch_new_file_end(struct loch_new_file *file);
/* Nothing of it is left. Takes NULL. */
void loch_new_file_abandon(struct loch_new_file *file);
/* Writes into a file that exists, at `offset`. */
LOCH_STATUS loch_env_patch_file(struct loch_env *env, const char *path, uint64_t offset,
                                struct loch_slice bytes);
LOCH_STATUS loch_env_truncate_file(struct loch_env *env, const char *path, uint64_t size);
LOCH_STATUS loch_env_unlink(struct loch_env *env, const char *path); /* LOCH_E_NOT_FOUND */
/* Within one directory, atomically. LOCH_E_EXISTS when `to` exists, LOCH_E_NOT_FOUND when `from`
 * does not; LOCH_E_IO also where the file system cannot rename without replacing. */
LOCH_STATUS loch_env_rename(struct loch_env *env, const char *from, const char *to);
LOCH_STATUS loch_env_mkdirs(struct loch_env *env, const char *path);
LOCH_STATUS loch_env_sync_dir(struct loch_env *env, const char *path);
/* Names (not paths) in the directory, sorted, without "." and ".."; fn returns false to stop. */
LOCH_STATUS loch_env_list_dir(struct loch_env *env, const char *path,
                              bool (*fn)(void *arg, const char *name), void *arg);
/* What the file system that holds `path` has free for us, and its size. LOCH_E_UNSUPPORTED in a
 * world without. */
LOCH_STATUS loch_env_fs_space(struct loch_env *env, const char *path, uint64_t *free_bytes,
                              uint64_t *all_bytes);
/* replace_file on a pool thread; `take_bytes` is consumed. */
LOCH_STATUS loch_env_replace_file_async(struct loch_env *env, const char *path,
                                        struct loch_buf *take_bytes, loch_done_fn done, void *arg);

/* ---- streams of frames (loch/base/frame.h) over TCP + TLS 1.3 PSK ---- */
struct loch_stream_events {
    /* One whole frame; payload is borrowed for the call. A failure closes the stream with its text.
     */
    LOCH_STATUS (*frame)(void *arg, uint8_t type, struct loch_slice payload);
    /* Exactly once, as the last event; st says why (ok: the peer closed cleanly). The stream is
     * freed when it returns. Also called after loch_stream_close, later. */
    void (*closed)(void *arg, loch_status st);
    /* Optional: everything queued has been handed to the kernel. */
    void (*drained)(void *arg);
    /* Optional: after one or more frames, when no whole one is left to be given now: what was
     * gathered over them can go out together. Not while the stream closes. */
    void (*given)(void *arg);
};

/* Called for each authenticated connection; the handler sets its events with loch_stream_attach. */
typedef void (*loch_accept_fn)(void *arg, struct loch_stream *stream);
/* Connect result: stream on success (attach events in the callback), NULL with st on failure. */
typedef void (*loch_connected_fn)(void *arg, loch_status st, struct loch_stream *stream);

/* address: "127.0.0.1:7000" or "[::1]:7000". LOCH_E_IO naming address when it is in use. */
LOCH_STATUS loch_env_listen(struct loch_env *env, const char *address, struct loch_tls_server *tls,
                            struct loch_listener **out, loch_accept_fn accepted, void *arg);
void loch_listener_close(struct loch_listener *listener);
/* A peer that a stream of this world refuses: `proven` false: it did not prove who it is to a
 * listener; true: what it sends is no message. `peer`: its address, borrowed for the call. */
typedef void (*loch_refused_fn)(void *arg, bool proven, const char *peer);
/* Calls fn for each, which must not take long, on the loop's thread; NULL: nobody is told. One at a
 * time. */
void loch_env_on_refused(struct loch_env *env, loch_refused_fn fn, void *arg);
/* `tls` is borrowed until the callback. */
LOCH_STATUS loch_env_connect(struct loch_env *env, const char *address, struct loch_tls_client *tls,
                             uint64_t timeout_ms, loch_connected_fn connected, void *arg);
void loch_stream_attach(struct loch_stream *stream, const struct loch_stream_events *events,
                        void *arg);
/* The PSK identity the peer proved (see loch/crypto/psk.h); borrowed, lives with the stream. */
struct loch_slice loch_stream_identity(const struct loch_stream *stream);
/* Queues whole frames (one or more, already framed); takes the buffer. Never blocks. */
void loch_stream_send(struct loch_stream *stream, struct loch_buf *take_frames);
/* As loch_stream_send, but *frames stays the caller's: it comes back empty, perhaps with the memory
 * of what was sent before, to be filled again. Nothing of what it held is left in it. */
void loch_stream_trade(struct loch_stream *stream, struct loch_buf *frames);
/* Bytes queued and not yet handed to the kernel: senders pause above their own limit. */
size_t loch_stream_queued(const struct loch_stream *stream);
/* Stops (false) or resumes (true) reading: backpressure. */
void loch_stream_read(struct loch_stream *stream, bool on);
/* Idempotent. What is queued is offered to the kernel once and not waited for. `closed` follows. */
void loch_stream_close(struct loch_stream *stream);
/* The same, but what the kernel has taken and cannot send at once, because the peer does not read,
 * never leaves: then the connection is reset. A peer that reads gets all of it. */
void loch_stream_cut(struct loch_stream *stream);

/* ---- descriptors and children ---- */
struct loch_watch;
enum { LOCH_READABLE = 1, LOCH_WRITABLE = 2 };
/* Calls ready(arg, events) while fd is ready (level-triggered); a hang-up or error counts as
 * whatever was asked for. fd stays the caller's, is made non-blocking, has one watch at most, and
 * is closed after loch_watch_stop only. */
LOCH_STATUS loch_env_watch_fd(struct loch_env *env, int fd, int events, struct loch_watch **out,
                              void (*ready)(void *arg, int events), void *arg);
LOCH_STATUS loch_watch_change(struct loch_watch *watch, int events);
void loch_watch_stop(struct loch_watch *watch);

struct loch_child_options {
    const char *const *argv; /* argv[0] is the path; NULL-ended */
    const char *const *env;  /* NULL-ended whole environment; NULL: the parent's */
    const char *cwd;         /* NULL: the parent's */
    uid_t uid;               /* 0: keep */
    gid_t gid;
    int stdin_fd;         /* -1: /dev/null */
    int stdout_fd;        /* -1: the parent's */
    int stderr_fd;        /* -1: the parent's */
    int pass_fd;          /* -1: none; else it becomes descriptor 3 of the child */
    bool die_with_parent; /* PR_SET_PDEATHSIG SIGKILL */
};
/* exited(arg, wait status as of waitpid(2)) once. */
LOCH_STATUS loch_env_spawn(struct loch_env *env, const struct loch_child_options *options,
                           struct loch_child **out, void (*exited)(void *arg, int wait_status),
                           void *arg);
pid_t loch_child_pid(const struct loch_child *child);
/* The handle is gone when `exited` has returned. */
void loch_child_kill(struct loch_child *child, int signo);

/* ---- the real world ---- */
LOCH_STATUS loch_env_real_create(struct loch_env **out);
/* Waits for file operations and pool work in flight (their callbacks run; timers they make do not
 * fire); then streams, timers and watches that are still there end without events, posts that did
 * not run are dropped. Takes NULL. */
void loch_env_real_destroy(struct loch_env *env);

#endif
