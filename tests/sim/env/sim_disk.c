/* Holds: a node's disk.
 *
 * A file has its content as processes see it, and what of it is durable: the content at its last
 * sync, and the list of writes since. A power cut applies each of these, by sectors of 512 bytes,
 * wholly, partly or not at all, in any order a disk may choose. A file's name is durable once its
 * directory was synced; before that a power cut may take it. Whole-file functions are atomic and
 * durable here: the real ones are tested by injected faults.
 *
 * A write or sync that fails leaves what Linux leaves: the bytes stay where processes see them, and
 * are passed over by every later sync; the disk has them all, some of their sectors, or none.
 */
#include "sim_internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR 512u

struct pending { /* a write since the last sync */
    struct pending *next;
    uint64_t offset;
    size_t len;
    bool grows_only; /* an allocation: new size `offset`, no bytes */
    bool durable;    /* by itself: a write_sync; it stays in the list for its place in the order */
    uint8_t bytes[];
};

struct sim_inode {
    unsigned links; /* entries and open files */
    struct loch_buf now;
    struct loch_buf durable;
    struct pending *pending, **tail;
};

struct sim_file {
    struct loch_file base;
    struct sim_file *next, **prev;
    struct sim_inode *inode;
    unsigned running;
    char *path;
};

enum { OP_WRITE, OP_WRITE_SYNC, OP_SYNC, OP_ALLOCATE };

struct disk_op {
    struct sim_process *process;
    struct sim_file *file;
    int kind;
    uint64_t offset;
    struct loch_slice bytes;
    size_t pending_count; /* sync: so many writes were done before it */
    bool fails;
    loch_done_fn done;
    void *arg;
};

static bool fails(struct sim_process *p)
{
    return p->node->fail_disk > 0 && --p->node->fail_disk == 0;
}

static loch_status check(struct sim_process *p, const char *what, const char *path)
{
    if (!p->alive)
        return LOCH_FAIL(LOCH_E_IO, "%s %s: the process is dead", what, path);
    if (fails(p))
        return LOCH_FAIL(LOCH_E_IO, "%s %s: injected", what, path);
    return LOCH_OK;
}

/* ---- inodes and entries ---- */
static struct sim_inode *inode_create(void)
{
    struct sim_inode *i = sim_alloc(sizeof *i);

    i->links = 1;
    i->tail = &i->pending;
    return i;
}

static void inode_settle(struct sim_inode *i)
{
    while (i->pending != NULL) {
        struct pending *w = i->pending;
        i->pending = w->next;
        free(w);
    }
    i->tail = &i->pending;
}

static void inode_release(struct sim_inode *i)
{
    if (--i->links > 0)
        return;
    inode_settle(i);
    loch_buf_fini(&i->now);
    loch_buf_fini(&i->durable);
    free(i);
}

static void buf_set(struct loch_buf *buf, struct loch_slice bytes)
{
    buf->len = 0;
    LOCH_ASSERT(loch_is_ok(loch_buf_append(buf, bytes.data, bytes.len)));
}

static void buf_grow(struct loch_buf *buf, uint64_t size)
{
    if (size <= buf->len)
        return;
    LOCH_ASSERT(loch_is_ok(loch_buf_reserve(buf, (size_t)size - buf->len)));
    memset(buf->data + buf->len, 0, (size_t)size - buf->len);
    buf->len = (size_t)size;
}

static void buf_resize(struct loch_buf *buf, uint64_t size)
{
    buf_grow(buf, size);
    buf->len = (size_t)size;
}

static void buf_write(struct loch_buf *buf, uint64_t offset, const uint8_t *bytes, size_t len)
{
    buf_grow(buf, offset + len);
    if (len > 0)
        memcpy(buf->data + offset, bytes, len);
}

static struct sim_entry *find(struct sim_node *n, const char *path)
{
    for (struct sim_entry *e = n->entries; e != NULL; e = e->next)
        if (strcmp(e->path, path) == 0)
            return e;
    return NULL;
}

static size_t parent_len(const char *path)
{
    const char *slash = strrchr(path, '/');

    LOCH_ASSERT(slash != NULL); /* simulated paths are absolute */
    return (size_t)(slash - path);
}

static bool parent_exists(struct sim_node *n, const char *path)
{
    size_t len = parent_len(path);

    if (len == 0)
        return true;
    for (struct sim_entry *e = n->entries; e != NULL; e = e->next)
        if (e->is_dir && strlen(e->path) == len && memcmp(e->path, path, len) == 0)
            return true;
    return false;
}

static struct sim_entry *add(struct sim_node *n, const char *path, bool is_dir)
{
    struct sim_entry *e = sim_alloc(sizeof *e);

    *e = (struct sim_entry){.next = n->entries, .path = strdup(path), .is_dir = is_dir};
    LOCH_ASSERT(e->path != NULL);
    if (!is_dir)
        e->inode = inode_create();
    n->entries = e;
    return e;
}

static void entry_remove(struct sim_node *n, struct sim_entry *e)
{
    struct sim_entry **at = &n->entries;

    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    if (e->inode != NULL)
        inode_release(e->inode);
    free(e->path);
    free(e->durable_path);
    free(e);
}

void sim_disk_destroy(struct sim_node *node)
{
    while (node->entries != NULL)
        entry_remove(node, node->entries);
}

/* ---- power ---- */
static void settle_write(struct sim_world *w, struct sim_inode *i, const struct pending *p)
{
    uint64_t how = p->durable ? 1 : sim_world_draw(w, 4);

    if (p->grows_only) {
        if (how != 0)
            buf_grow(&i->durable, p->offset);
        return;
    }
    for (size_t at = 0; at < p->len && how != 0;) {
        /* To the end of the sector of the disk. */
        size_t n = SECTOR - (size_t)((p->offset + at) % SECTOR);
        if (n > p->len - at)
            n = p->len - at;
        if (how == 1 || sim_world_draw(w, 2) == 0)
            buf_write(&i->durable, p->offset + at, p->bytes + at, n);
        at += n;
    }
}

/* Was the last rename lost? */
static void settle_name(struct sim_world *w, struct sim_entry *e)
{
    if (e->durable_path != NULL && sim_world_draw(w, 2) == 0) {
        free(e->path);
        e->path = e->durable_path;
    } else {
        free(e->durable_path);
    }
    e->durable_path = NULL;
}

void sim_disk_power_cut(struct sim_node *node)
{
    struct sim_world *w = node->world;

    for (struct sim_entry *e = node->entries; e != NULL;) {
        struct sim_entry *next = e->next;
        if (!e->durable && sim_world_draw(w, 2) == 0) {
            entry_remove(node, e);
        } else if (e->inode != NULL) {
            for (const struct pending *p = e->inode->pending; p != NULL; p = p->next)
                settle_write(w, e->inode, p);
            inode_settle(e->inode);
            settle_name(w, e);
            buf_set(&e->inode->now, loch_buf_slice(&e->inode->durable));
            e->durable = true;
        }
        e = next;
    }
}

/* ---- open files ---- */
static struct sim_file *file_of(struct loch_file *file)
{
    return (struct sim_file *)file;
}

loch_status sim_file_open(struct loch_env *env, const char *path, int flags, struct loch_file **out)
{
    struct sim_process *p = sim_process_of(env);

    LOCH_TRY(check(p, "open", path));
    struct sim_entry *e = find(p->node, path);
    if (e == NULL && ((flags & O_CREAT) == 0 || !parent_exists(p->node, path)))
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "cannot open %s: it does not exist", path);
    if (e != NULL && (flags & O_CREAT) != 0 && (flags & O_EXCL) != 0)
        return LOCH_FAIL(LOCH_E_EXISTS, "cannot open %s: it exists", path);
    if (e != NULL && e->is_dir)
        return LOCH_FAIL(LOCH_E_IO, "cannot open %s: it is a directory", path);
    if (e == NULL)
        e = add(p->node, path, false);
    LOCH_ASSERT((flags & O_TRUNC) == 0); /* nobody truncates by opening */
    struct sim_file *f = sim_alloc(sizeof *f);
    *f = (struct sim_file){.base = {env}, .next = p->files, .prev = &p->files, .inode = e->inode};
    f->path = strdup(path);
    LOCH_ASSERT(f->path != NULL);
    if (p->files != NULL)
        p->files->prev = &f->next;
    p->files = f;
    e->inode->links++;
    *out = &f->base;
    return LOCH_OK;
}

static void file_free(struct sim_file *f)
{
    *f->prev = f->next;
    if (f->next != NULL)
        f->next->prev = f->prev;
    inode_release(f->inode);
    free(f->path);
    free(f);
}

void sim_file_close(struct loch_file *file)
{
    struct sim_file *f = file_of(file);

    if (sim_process_of(file->env)->alive) {
        LOCH_ASSERT(f->running == 0);
        file_free(f);
    }
}

loch_status sim_file_size(struct loch_file *file, uint64_t *out)
{
    *out = file_of(file)->inode->now.len;
    return LOCH_OK;
}

/* What a bad cable or a misdirected read brings. */
static void misread(struct sim_node *node, const struct sim_inode *i, uint8_t *out, size_t len)
{
    if (node->misread == 0 || len == 0 || sim_world_draw(node->world, node->misread) != 0)
        return;
    if (sim_world_draw(node->world, 2) == 0)
        out[sim_world_draw(node->world, len)] ^= (uint8_t)(1u << sim_world_draw(node->world, 8));
    else
        memcpy(out, i->now.data + sim_world_draw(node->world, i->now.len - len + 1), len);
}

loch_status sim_file_read(struct loch_file *file, uint64_t offset, void *out, size_t len)
{
    struct sim_file *f = file_of(file);

    LOCH_TRY(check(sim_process_of(file->env), "read", f->path));
    if (offset > f->inode->now.len || len > f->inode->now.len - offset)
        return LOCH_FAIL(LOCH_E_CORRUPT, "%s ends before byte %" PRIu64 " + %zu", f->path, offset,
                         len);
    if (len > 0)
        memcpy(out, f->inode->now.data + offset, len);
    misread(sim_process_of(file->env)->node, f->inode, out, len);
    return LOCH_OK;
}

static struct pending *note_pending(struct sim_inode *i, uint64_t offset, struct loch_slice bytes)
{
    struct pending *w = sim_alloc(sizeof *w + bytes.len);

    w->offset = offset;
    w->len = bytes.len;
    if (bytes.len > 0)
        memcpy(w->bytes, bytes.data, bytes.len);
    *i->tail = w;
    i->tail = &w->next;
    return w;
}

static size_t pending_count(const struct sim_inode *i)
{
    size_t n = 0;

    for (const struct pending *p = i->pending; p != NULL; p = p->next)
        n++;
    return n;
}

/* The first `count` writes become durable: exactly those done before the sync was asked for. */
static void sync_first(struct sim_inode *i, size_t count)
{
    for (; count > 0 && i->pending != NULL; count--) {
        struct pending *p = i->pending;
        if (p->grows_only)
            buf_grow(&i->durable, p->offset);
        else
            buf_write(&i->durable, p->offset, p->bytes, p->len);
        i->pending = p->next;
        if (i->pending == NULL)
            i->tail = &i->pending;
        free(p);
    }
}

/* The first `count` writes could not be written back. */
static void lose_first(struct sim_world *w, struct sim_inode *i, size_t count)
{
    for (; count > 0 && i->pending != NULL; count--) {
        struct pending *p = i->pending;
        settle_write(w, i, p);
        i->pending = p->next;
        if (i->pending == NULL)
            i->tail = &i->pending;
        free(p);
    }
}

/* A write fails as it is taken, or when it is written back, which a write_sync waits for. */
static void fail_op(struct sim_world *w, const struct disk_op *op)
{
    struct sim_inode *i = op->file->inode;

    if (op->kind == OP_SYNC) {
        lose_first(w, i, op->pending_count);
    } else if (op->kind == OP_WRITE_SYNC) {
        buf_write(&i->now, op->offset, op->bytes.data, op->bytes.len);
        (void)note_pending(i, op->offset, op->bytes);
        lose_first(w, i, SIZE_MAX);
    }
}

static void op_due(void *arg)
{
    struct disk_op op = *(struct disk_op *)arg;
    struct sim_inode *i = op.file->inode;
    loch_status st = LOCH_OK;

    free(arg);
    if (op.fails) {
        fail_op(op.process->node->world, &op);
        st = LOCH_FAIL(LOCH_E_IO, "cannot use %s: injected", op.file->path);
    } else if (op.kind == OP_WRITE || op.kind == OP_WRITE_SYNC) {
        buf_write(&i->now, op.offset, op.bytes.data, op.bytes.len);
        note_pending(i, op.offset, op.bytes)->durable = op.kind == OP_WRITE_SYNC;
    } else if (op.kind == OP_ALLOCATE) {
        buf_grow(&i->now, op.offset);
        note_pending(i, op.offset, loch_slice_of(NULL, 0))->grows_only = true;
    } else {
        sync_first(i, op.pending_count);
    }
    op.file->running--;
    op.done(op.arg, st);
}

/* The process died while a write was under way: the kernel may have taken all, some or none of it.
 */
static void write_at_kill(struct sim_world *w, const struct disk_op *op)
{
    size_t n = op->bytes.len;

    if ((op->kind != OP_WRITE && op->kind != OP_WRITE_SYNC) || op->fails || n == 0)
        return;
    uint64_t how = sim_world_draw(w, 3);
    if (how == 1)
        n = (size_t)sim_world_draw(w, n);
    if (how == 0 || n == 0)
        return;
    buf_write(&op->file->inode->now, op->offset, op->bytes.data, n);
    (void)note_pending(op->file->inode, op->offset, loch_slice_of(op->bytes.data, n));
}

void sim_disk_end_process(struct sim_process *p, bool forget)
{
    struct sim_world *w = p->node->world;

    for (size_t i = 0; !forget && i < w->heap_len; i++)
        if (w->heap[i].process == p && w->heap[i].fire == op_due)
            write_at_kill(w, w->heap[i].arg);
    while (forget && p->files != NULL)
        file_free(p->files);
}

static loch_status op_queue(struct loch_file *file, struct disk_op take)
{
    struct sim_process *p = sim_process_of(file->env);
    struct sim_world *w = p->node->world;

    if (!p->alive)
        return LOCH_FAIL(LOCH_E_IO, "the process is dead");
    struct disk_op *op = sim_alloc(sizeof *op);
    *op = take;
    op->process = p;
    op->file = file_of(file);
    op->file->running++;
    op->fails = fails(p);
    op->pending_count = pending_count(op->file->inode);
    sim_at(w, sim_between(w, w->o.disk_min_us, w->o.disk_max_us), p, op_due, op, free);
    return LOCH_OK;
}

loch_status sim_file_write(struct loch_file *file, uint64_t offset, struct loch_slice bytes,
                           loch_done_fn done, void *arg)
{
    return op_queue(
        file, (struct disk_op){
                  .kind = OP_WRITE, .offset = offset, .bytes = bytes, .done = done, .arg = arg});
}

loch_status sim_file_write_sync(struct loch_file *file, uint64_t offset, struct loch_slice bytes,
                                loch_done_fn done, void *arg)
{
    return op_queue(
        file,
        (struct disk_op){
            .kind = OP_WRITE_SYNC, .offset = offset, .bytes = bytes, .done = done, .arg = arg});
}

loch_status sim_file_sync(struct loch_file *file, loch_done_fn done, void *arg)
{
    return op_queue(file, (struct disk_op){.kind = OP_SYNC, .done = done, .arg = arg});
}

loch_status sim_file_allocate(struct loch_file *file, uint64_t size, loch_done_fn done, void *arg)
{
    return op_queue(
        file, (struct disk_op){.kind = OP_ALLOCATE, .offset = size, .done = done, .arg = arg});
}

/* ---- whole files, atomic and durable ---- */
loch_status sim_read_file(struct loch_env *env, const char *path, size_t max_bytes,
                          struct loch_buf *out)
{
    struct sim_process *p = sim_process_of(env);

    LOCH_TRY(check(p, "read", path));
    struct sim_entry *e = find(p->node, path);
    if (e == NULL || e->is_dir)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "cannot open %s: it does not exist", path);
    if (e->inode->now.len > max_bytes)
        return LOCH_FAIL(LOCH_E_LIMIT, "%s is longer than %zu bytes", path, max_bytes);
    return loch_buf_append(out, e->inode->now.data, e->inode->now.len);
}

static void put_whole(struct sim_node *n, const char *path, struct loch_slice bytes)
{
    struct sim_entry *e = find(n, path);

    /* A rename: who has the old file open keeps it. */
    if (e != NULL)
        entry_remove(n, e);
    e = add(n, path, false);
    e->durable = true;
    buf_set(&e->inode->now, bytes);
    buf_set(&e->inode->durable, bytes);
}

loch_status sim_replace_file(struct loch_env *env, const char *path, struct loch_slice bytes)
{
    struct sim_process *p = sim_process_of(env);

    LOCH_TRY(check(p, "replace", path));
    if (!parent_exists(p->node, path))
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "cannot create %s: no such directory", path);
    put_whole(p->node, path, bytes);
    return LOCH_OK;
}

loch_status sim_create_file(struct loch_env *env, const char *path, struct loch_slice bytes)
{
    struct sim_process *p = sim_process_of(env);

    LOCH_TRY(check(p, "create", path));
    if (!parent_exists(p->node, path))
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "cannot create %s: no such directory", path);
    if (find(p->node, path) != NULL)
        return LOCH_FAIL(LOCH_E_EXISTS, "%s exists", path);
    put_whole(p->node, path, bytes);
    return LOCH_OK;
}

loch_status sim_patch_file(struct loch_env *env, const char *path, uint64_t offset,
                           struct loch_slice bytes)
{
    struct sim_process *p = sim_process_of(env);
    struct sim_entry *e = find(p->node, path);

    if (e == NULL || e->is_dir)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "cannot open %s: it does not exist", path);
    const loch_status st = check(p, "write to", path);
    /* It fails as it is opened, or as it is synced. */
    if (!p->alive || (!loch_is_ok(st) && sim_world_draw(p->node->world, 2) == 0))
        return st;
    buf_write(&e->inode->now, offset, bytes.data, bytes.len);
    (void)note_pending(e->inode, offset, bytes);
    if (!loch_is_ok(st))
        lose_first(p->node->world, e->inode, SIZE_MAX);
    else if (!p->node->world->o.patches_late)
        sync_first(e->inode, SIZE_MAX);
    return st;
}

loch_status sim_truncate_file(struct loch_env *env, const char *path, uint64_t size)
{
    struct sim_process *p = sim_process_of(env);

    LOCH_TRY(check(p, "truncate", path));
    struct sim_entry *e = find(p->node, path);
    if (e == NULL || e->is_dir)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "cannot open %s: it does not exist", path);
    sync_first(e->inode, SIZE_MAX);
    buf_resize(&e->inode->now, size);
    buf_resize(&e->inode->durable, size);
    return LOCH_OK;
}

loch_status sim_unlink(struct loch_env *env, const char *path)
{
    struct sim_process *p = sim_process_of(env);

    LOCH_TRY(check(p, "remove", path));
    struct sim_entry *e = find(p->node, path);
    if (e == NULL || e->is_dir)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "cannot remove %s: it does not exist", path);
    entry_remove(p->node, e);
    return LOCH_OK;
}

loch_status sim_rename(struct loch_env *env, const char *from, const char *to)
{
    struct sim_process *p = sim_process_of(env);

    LOCH_TRY(check(p, "rename", from));
    struct sim_entry *e = find(p->node, from);
    if (e == NULL || e->is_dir)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "cannot rename %s: it does not exist", from);
    if (find(p->node, to) != NULL)
        return LOCH_FAIL(LOCH_E_EXISTS, "%s exists", to);
    if (p->node->world->o.renames_late && e->durable_path == NULL)
        e->durable_path = e->path;
    else
        free(e->path);
    e->path = strdup(to);
    LOCH_ASSERT(e->path != NULL);
    e->durable = true;
    return LOCH_OK;
}

/* ---- directories ---- */
loch_status sim_mkdirs(struct loch_env *env, const char *path)
{
    struct sim_process *p = sim_process_of(env);
    char *part = strdup(path);

    LOCH_ASSERT(part != NULL);
    loch_status st = check(p, "make", path);
    size_t n = strlen(part);
    while (n > 1 && part[n - 1] == '/')
        part[--n] = '\0';
    for (size_t i = 1; i <= n && loch_is_ok(st); i++) {
        if (part[i] != '/' && part[i] != '\0')
            continue;
        char keep = part[i];
        part[i] = '\0';
        struct sim_entry *e = find(p->node, part);
        if (e == NULL)
            add(p->node, part, true)->durable = true;
        else if (!e->is_dir)
            st = LOCH_FAIL(LOCH_E_IO, "%s is not a directory", part);
        part[i] = keep;
    }
    free(part);
    return st;
}

loch_status sim_sync_dir(struct loch_env *env, const char *path)
{
    struct sim_process *p = sim_process_of(env);
    size_t n = strlen(path);

    LOCH_TRY(check(p, "sync", path));
    while (n > 0 && path[n - 1] == '/')
        n--;
    for (struct sim_entry *e = p->node->entries; e != NULL; e = e->next)
        if (parent_len(e->path) == n && memcmp(e->path, path, n) == 0) {
            e->durable = true;
            free(e->durable_path);
            e->durable_path = NULL;
        }
    return LOCH_OK;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

loch_status sim_list_dir(struct loch_env *env, const char *path,
                         bool (*fn)(void *arg, const char *name), void *arg)
{
    struct sim_process *p = sim_process_of(env);
    size_t n = strlen(path);
    size_t count = 0;
    bool on = true;

    LOCH_TRY(check(p, "list", path));
    while (n > 0 && path[n - 1] == '/')
        n--;
    for (struct sim_entry *e = p->node->entries; e != NULL; e = e->next)
        count += parent_len(e->path) == n && memcmp(e->path, path, n) == 0;
    char **names = sim_alloc((count + 1) * sizeof *names);
    count = 0;
    bool exists = n == 0;
    for (struct sim_entry *e = p->node->entries; e != NULL; e = e->next) {
        exists = exists || (e->is_dir && strlen(e->path) == n && memcmp(e->path, path, n) == 0);
        if (parent_len(e->path) == n && memcmp(e->path, path, n) == 0) {
            names[count] = strdup(e->path + n + 1);
            LOCH_ASSERT(names[count] != NULL);
            count++;
        }
    }
    qsort(names, count, sizeof *names, by_path);
    for (size_t i = 0; i < count; i++) {
        on = on && fn(arg, names[i]);
        free(names[i]);
    }
    free(names);
    if (!exists)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "cannot list %s: it does not exist", path);
    return LOCH_OK;
}
