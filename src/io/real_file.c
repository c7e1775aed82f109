/* Holds: open files and their asynchronous operations, by io_uring or, where that is blocked, by
 * the thread pool.
 *
 * Invariants: done is called once, on the loop's thread, after the function returned; a write is
 * done when all of its bytes are written; operations of one turn of the loop are submitted
 * together. A small write_sync goes on the loop's own thread while it is the only file that has any
 * and its disk is quick: handing it to another thread and back costs more than it takes.
 */
#include "loch/base/log.h"
#include "loch/io/fault.h"
#include "real.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define RING_ENTRIES 256u

#define ALONE_RUN         64u /* write_syncs of one file in a row before the loop does them */
#define ALONE_BYTES       (256u << 10) /* most in one */
#define ALONE_WRITE_BYTES (64u << 10)
#define ALONE_SLOW_NS     UINT64_C(20000000) /* a turn that took longer ends the run */

struct real_file {
    struct loch_file base;
    int fd;
    unsigned running;
    bool had_run; /* of write_syncs: env->run may be this one */
    char path[];
};

enum op_kind { OP_WRITE, OP_WRITE_SYNC, OP_SYNC, OP_ALLOCATE };

struct real_op {
    struct real_op *next; /* in ops_waiting, then in alone */
    struct real_file *file;
    enum op_kind kind;
    uint64_t offset;         /* write: where the rest goes; allocate: the size */
    struct loch_slice bytes; /* write: the rest */
    int fault;               /* injected */
    int result;              /* pool: 0 or -errno */
    loch_done_fn done;
    void *arg;
    uv_work_t work;
};

static struct real_file *real_file_of(struct loch_file *file)
{
    return (struct real_file *)file;
}

loch_status real_file_open(struct loch_env *env, const char *path, int flags,
                           struct loch_file **out)
{
    size_t n = strlen(path) + 1;
    struct real_file *f = calloc(1, sizeof *f + n);

    if (f == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory to open %s", path);
    f->base.env = env;
    memcpy(f->path, path, n);
    int err = loch_io_fault();
    if (err == 0) {
        do
            f->fd = open(path, flags | O_CLOEXEC, 0600);
        while (f->fd < 0 && errno == EINTR);
        err = f->fd < 0 ? errno : 0;
    }
    if (err != 0) {
        free(f);
        enum loch_code code = err == ENOENT   ? LOCH_E_NOT_FOUND
                              : err == EEXIST ? LOCH_E_EXISTS
                                              : LOCH_E_IO;
        return LOCH_FAIL(code, "cannot open %s: %s", path, strerrordesc_np(err));
    }
    *out = &f->base;
    return LOCH_OK;
}

void real_file_close(struct loch_file *file)
{
    struct real_file *f = real_file_of(file);

    LOCH_ASSERT(f->running == 0);
    /* The next one goes on in its place. (Files of pool threads never had one.) */
    if (f->had_run && real_env_of(file->env)->run == f)
        real_env_of(file->env)->run = NULL;
    (void)close(f->fd);
    free(f);
}

loch_status real_file_size(struct loch_file *file, uint64_t *out)
{
    struct real_file *f = real_file_of(file);
    struct stat sb;

    if (fstat(f->fd, &sb) != 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot look at %s: %s", f->path, strerrordesc_np(errno));
    *out = (uint64_t)sb.st_size;
    return LOCH_OK;
}

loch_status real_file_read(struct loch_file *file, uint64_t offset, void *out, size_t len)
{
    struct real_file *f = real_file_of(file);
    uint8_t *p = out;

    if (offset > INT64_MAX || len > (uint64_t)INT64_MAX - offset)
        return LOCH_FAIL(LOCH_E_CORRUPT, "read of %s at %" PRIu64, f->path, offset);
    int err = loch_io_fault();
    if (err != 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot read %s: %s", f->path, strerrordesc_np(err));
    while (len > 0) {
        ssize_t n = pread(f->fd, p, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return LOCH_FAIL(LOCH_E_IO, "cannot read %s: %s", f->path, strerrordesc_np(errno));
        if (n == 0)
            return LOCH_FAIL(LOCH_E_CORRUPT, "%s ends at %" PRIu64 ", %zu bytes too early", f->path,
                             offset, len);
        p += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return LOCH_OK;
}

size_t real_file_read_now(struct loch_file *file, uint64_t offset, void *out, size_t len)
{
    const struct iovec piece = {out, len};

    if (len > SSIZE_MAX || offset > INT64_MAX)
        return 0;
    /* A file system that cannot tell refuses (EOPNOTSUPP): then nothing is read at once. */
    const ssize_t n = preadv2(real_file_of(file)->fd, &piece, 1, (off_t)offset, RWF_NOWAIT);
    return n > 0 ? (size_t)n : 0;
}

/* ---- completion ---- */
static void op_finish(struct real_env *env, struct real_op *op, int err);

static const char *op_name(enum op_kind kind)
{
    switch (kind) {
    case OP_WRITE:
    case OP_WRITE_SYNC:
        return "write";
    case OP_SYNC:
        return "sync";
    case OP_ALLOCATE:
        return "allocate";
    }
    return "use";
}

static void op_prepare(struct real_env *env, struct real_op *op)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&env->ring);

    LOCH_ASSERT(sqe != NULL); /* at most RING_ENTRIES operations run at a time */
    if (op->fault != 0) {
        io_uring_prep_nop(sqe);
    } else if (op->kind == OP_WRITE || op->kind == OP_WRITE_SYNC) {
        /* A write of more than 1 GiB goes in pieces: the length field has 32 bits. */
        size_t n = op->bytes.len < (1u << 30) ? op->bytes.len : (1u << 30);
        io_uring_prep_write(sqe, op->file->fd, op->bytes.data, (unsigned)n, op->offset);
        if (op->kind == OP_WRITE_SYNC)
            sqe->rw_flags = RWF_DSYNC;
    } else if (op->kind == OP_SYNC) {
        io_uring_prep_fsync(sqe, op->file->fd, IORING_FSYNC_DATASYNC);
    } else {
        io_uring_prep_fallocate(sqe, op->file->fd, 0, 0, (off_t)op->offset);
    }
    io_uring_sqe_set_data(sqe, op);
    env->sqes_ready++;
}

/* True when the operation is over; *err says how. False: it goes on with its rest. */
static bool op_result(struct real_op *op, int res, int *err)
{
    *err = op->fault;
    if (op->fault != 0)
        return true;
    if (res == -EINTR || res == -EAGAIN)
        return false;
    if (op->kind == OP_ALLOCATE && (res == -EOPNOTSUPP || res == -ENOSYS)) {
        struct stat sb;
        bool fits = fstat(op->file->fd, &sb) == 0 && (uint64_t)sb.st_size >= op->offset;
        if (!fits && ftruncate(op->file->fd, (off_t)op->offset) != 0)
            *err = errno;
        return true;
    }
    if (res < 0) {
        *err = -res;
        return true;
    }
    if (op->kind != OP_WRITE && op->kind != OP_WRITE_SYNC)
        return true;
    if (res == 0 && op->bytes.len > 0) {
        *err = ENOSPC;
        return true;
    }
    op->bytes.data += res;
    op->bytes.len -= (size_t)res;
    op->offset += (uint64_t)res;
    return op->bytes.len == 0;
}

static void ring_ready(uv_poll_t *poll, int status, int events)
{
    struct real_env *env = poll->data;
    struct io_uring_cqe *cqe;

    (void)status;
    (void)events;
    while (io_uring_peek_cqe(&env->ring, &cqe) == 0) {
        struct real_op *op = io_uring_cqe_get_data(cqe);
        int res = cqe->res;
        int err = 0;
        io_uring_cqe_seen(&env->ring, cqe);
        if (op_result(op, res, &err))
            op_finish(env, op, err);
        else
            op_prepare(env, op);
    }
}

/* ---- the thread pool instead ---- */
static void run_here(struct real_op *op)
{
    int res = 0;
    int err = 0;

    do {
        if (op->fault != 0)
            res = 0;
        else if (op->kind == OP_WRITE || op->kind == OP_WRITE_SYNC)
            res = (int)pwrite(op->file->fd, op->bytes.data,
                              op->bytes.len < (1u << 30) ? op->bytes.len : (1u << 30),
                              (off_t)op->offset);
        else if (op->kind == OP_SYNC)
            res = fdatasync(op->file->fd);
        else
            res = fallocate(op->file->fd, 0, 0, (off_t)op->offset);
        if (res < 0)
            res = -errno;
    } while (!op_result(op, res, &err));
    if (err == 0 && op->kind == OP_WRITE_SYNC && fdatasync(op->file->fd) != 0)
        err = errno;
    op->result = err;
}

static void pool_run(uv_work_t *work)
{
    run_here(work->data);
}

static void pool_done(uv_work_t *work, int status)
{
    struct real_op *op = work->data;

    LOCH_ASSERT(status == 0);
    op_finish(real_env_of(op->file->base.env), op, op->result);
}

/* ---- submission ---- */

/* Counts the run of write_syncs to one file. May the loop itself carry this one out? During a run
 * it does small writes as well: they end in the system's memory. */
static bool goes_alone(struct real_env *env, const struct real_op *op)
{
    if (op->bytes.len > ALONE_BYTES)
        return false;
    if (op->kind == OP_WRITE)
        return env->run_length > ALONE_RUN && op->bytes.len <= ALONE_WRITE_BYTES;
    if (op->kind != OP_WRITE_SYNC)
        return false;
    op->file->had_run = true;
    if (env->run != NULL && env->run != op->file)
        env->run_length = 0;
    env->run_length++;
    env->run = op->file;
    return env->run_length > ALONE_RUN && !env->alone_syncs;
}

void real_alone_run(struct real_env *env)
{
    struct real_op *first = env->alone;
    const uint64_t before_ns = loch_env_now_ns(&env->base);

    env->alone = NULL;
    env->alone_tail = &env->alone;
    env->alone_syncs = false;
    for (struct real_op *op = first; op != NULL; op = op->next)
        run_here(op);
    if (loch_env_now_ns(&env->base) - before_ns > ALONE_SLOW_NS)
        env->run_length = 0;
    while (first != NULL) {
        struct real_op *op = first;
        first = op->next;
        op_finish(env, op, op->result);
    }
    if (env->alone != NULL)
        real_env_wake(env); /* what came meanwhile is read first */
}

static void goes_with_alone(struct real_env *env, struct real_op *op)
{
    op->next = NULL;
    *env->alone_tail = op;
    env->alone_tail = &op->next;
    env->alone_syncs |= op->kind == OP_WRITE_SYNC;
}

static void op_start(struct real_env *env, struct real_op *op)
{
    env->ops_running++;
    if (goes_alone(env, op)) {
        goes_with_alone(env, op);
    } else if (env->uring_on) {
        op_prepare(env, op);
    } else {
        op->work.data = op;
        LOCH_ASSERT(uv_queue_work(&env->loop, &op->work, pool_run, pool_done) == 0);
    }
}

static void op_finish(struct real_env *env, struct real_op *op, int err)
{
    loch_status st = LOCH_OK;

    env->ops_running--;
    op->file->running--;
    if (err != 0)
        st = LOCH_FAIL(LOCH_E_IO, "cannot %s %s: %s", op_name(op->kind), op->file->path,
                       strerrordesc_np(err));
    op->done(op->arg, st); /* may close the file */
    free(op);
    struct real_op *next = env->ops_waiting;
    if (next != NULL && env->ops_running < RING_ENTRIES) {
        env->ops_waiting = next->next;
        if (next->next == NULL)
            env->ops_waiting_tail = &env->ops_waiting;
        op_start(env, next);
    }
}

static loch_status op_queue(struct loch_file *file, struct real_op take)
{
    struct real_file *f = real_file_of(file);
    struct real_env *env = real_env_of(file->env);
    struct real_op *op = malloc(sizeof *op);

    if (op == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory to %s %s", op_name(take.kind), f->path);
    *op = take;
    op->file = f;
    op->fault = loch_io_fault();
    f->running++;
    if (env->ops_running >= RING_ENTRIES) {
        op->next = NULL;
        *env->ops_waiting_tail = op;
        env->ops_waiting_tail = &op->next;
    } else {
        op_start(env, op);
    }
    return LOCH_OK;
}

loch_status real_file_write(struct loch_file *file, uint64_t offset, struct loch_slice bytes,
                            loch_done_fn done, void *arg)
{
    if (offset > INT64_MAX || bytes.len > (uint64_t)INT64_MAX - offset)
        return LOCH_FAIL(LOCH_E_INVALID, "write at %" PRIu64, offset);
    return op_queue(
        file, (struct real_op){
                  .kind = OP_WRITE, .offset = offset, .bytes = bytes, .done = done, .arg = arg});
}

loch_status real_file_write_sync(struct loch_file *file, uint64_t offset, struct loch_slice bytes,
                                 loch_done_fn done, void *arg)
{
    if (offset > INT64_MAX || bytes.len == 0 || bytes.len > (uint64_t)INT64_MAX - offset)
        return LOCH_FAIL(LOCH_E_INVALID, "write at %" PRIu64, offset);
    return op_queue(
        file,
        (struct real_op){
            .kind = OP_WRITE_SYNC, .offset = offset, .bytes = bytes, .done = done, .arg = arg});
}

loch_status real_file_sync(struct loch_file *file, loch_done_fn done, void *arg)
{
    return op_queue(file, (struct real_op){.kind = OP_SYNC, .done = done, .arg = arg});
}

loch_status real_file_allocate(struct loch_file *file, uint64_t size, loch_done_fn done, void *arg)
{
    if (size == 0 || size > INT64_MAX)
        return LOCH_FAIL(LOCH_E_INVALID, "cannot allocate %" PRIu64 " bytes", size);
    return op_queue(
        file, (struct real_op){.kind = OP_ALLOCATE, .offset = size, .done = done, .arg = arg});
}

void real_ring_submit(struct real_env *env)
{
    while (env->sqes_ready > 0) {
        int n = io_uring_submit(&env->ring);
        if (n == -EINTR)
            continue;
        if (n == -EAGAIN || n == -EBUSY) { /* short of kernel memory: the next turn tries again */
            real_env_wake(env);
            return;
        }
        LOCH_ASSERT(n > 0);
        env->sqes_ready -= (unsigned)n < env->sqes_ready ? (unsigned)n : env->sqes_ready;
    }
}

loch_status real_ring_open(struct real_env *env)
{
    const char *off = getenv("LOCH_NO_URING");

    if (off != NULL && strcmp(off, "1") == 0)
        return LOCH_OK;
    int rc = io_uring_queue_init(RING_ENTRIES, &env->ring, 0);
    if (rc != 0) {
        LOCH_INFO("io_uring is not to be had here (%s): files go through the thread pool",
                  strerrordesc_np(-rc));
        return LOCH_OK;
    }
    /* The ring's own descriptor is readable while completions wait. */
    if (uv_poll_init(&env->loop, &env->ring_poll, env->ring.ring_fd) != 0) {
        io_uring_queue_exit(&env->ring);
        LOCH_INFO("io_uring cannot be polled here: files go through the thread pool");
        return LOCH_OK;
    }
    env->ring_poll.data = env;
    LOCH_ASSERT(uv_poll_start(&env->ring_poll, UV_READABLE, ring_ready) == 0);
    env->uring_on = true;
    return LOCH_OK;
}

void real_ring_close(struct real_env *env)
{
    if (!env->uring_on)
        return;
    env->uring_on = false;
    io_uring_queue_exit(&env->ring);
}
