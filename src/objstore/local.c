/* Holds: the object store in a local directory.
 *
 * An object is a file <dir>/<name> of a 48-byte head and the bytes that were put:
 *
 *   offset size
 *        0    8  magic "LOCHOBJ1"
 *        8   16  version: random, fresh at every put
 *       24    8  length of the bytes
 *       32   16  XXH3-128 of the bytes, big-endian (against damage, not against attackers: objects
 * are sealed by those who put them)
 *
 * The ETag is version and hash in hex. Every change to an object happens under an exclusive lock
 * of one byte, chosen by its name, of its directory's file ".lock" (an open file description's, so
 * threads exclude each other too), in all processes: that makes conditional puts linear and lets
 * puts share the name <name>.tmp. Changes of other objects of the directory do not wait for its
 * syncs. A change is synced file, rename(2) or link(2), synced directory, in this order.
 */
#include "backend.h"

#include "loch/base/check.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define HEAD_BYTES        48u
#define LISTING_DEPTH_MAX 32u

static const char magic[8] = "LOCHOBJ1";

static_assert(2 * (16 + 16) + 1 == LOCH_ETAG_TEXT_BYTES, "an ETag is version and hash");

struct local {
    struct loch_objstore base;
    struct loch_env *env;
    char dir[];
};

struct head {
    struct loch_id version;
    uint64_t len;
    XXH128_canonical_t hash;
};

static struct local *local_of(struct loch_objstore *store)
{
    return (struct local *)store;
}

static void local_close(struct loch_objstore *store)
{
    free(store);
}

static loch_status path_of(const struct local *store, const char *name, char path[static PATH_MAX])
{
    int n = snprintf(path, PATH_MAX, "%s/%s", store->dir, name);

    if (n < 0 || n >= PATH_MAX - 8)
        return LOCH_FAIL(LOCH_E_INVALID, "the path of object \"%s\" is too long", name);
    return LOCH_OK;
}

static struct loch_etag etag_of(const struct head *head)
{
    struct loch_etag etag;

    loch_hex_format(head->version.bytes, 16, etag.text);
    loch_hex_format(head->hash.digest, 16, etag.text + 32);
    return etag;
}

static loch_status parse_head(struct loch_slice bytes, uint64_t file_len, const char *name,
                              struct head *out)
{
    struct loch_reader r;
    struct head h;

    loch_reader_init(&r, bytes);
    struct loch_slice m = loch_read_bytes(&r, sizeof magic);
    h.version = loch_read_id(&r);
    h.len = loch_read_u64(&r);
    loch_read_into(&r, h.hash.digest, sizeof h.hash.digest);
    LOCH_TRY(loch_reader_finish(&r, "object head"));
    if (memcmp(m.data, magic, sizeof magic) != 0)
        return LOCH_FAIL(LOCH_E_CORRUPT, "object \"%s\" has no head of an object", name);
    if (h.len != file_len - HEAD_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "object \"%s\" has %" PRIu64 " bytes, not %" PRIu64, name,
                         file_len - HEAD_BYTES, h.len);
    *out = h;
    return LOCH_OK;
}

/* A file is opened once and then read: a rename meanwhile changes nothing for the reader. */
static loch_status open_object(struct local *store, const char *name, struct loch_file **file,
                               struct head *head)
{
    char path[PATH_MAX];
    uint8_t bytes[HEAD_BYTES];
    uint64_t size = 0;
    struct loch_file *f = NULL;

    LOCH_TRY(path_of(store, name, path));
    loch_status st = loch_file_open(store->env, path, O_RDONLY, &f);
    if (st.code == LOCH_E_NOT_FOUND)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "there is no object \"%s\"", name);
    LOCH_TRY(st);
    LOCH_TRY_OUT(st, loch_file_size(f, &size));
    if (size < HEAD_BYTES) {
        st = LOCH_FAIL(LOCH_E_CORRUPT, "object \"%s\" is cut off", name);
        goto out;
    }
    LOCH_TRY_OUT(st, loch_file_read(f, 0, bytes, sizeof bytes));
    LOCH_TRY_OUT(st, parse_head(loch_slice_of(bytes, sizeof bytes), size, name, head));
    *file = f;
    return LOCH_OK;
out:
    loch_file_close(f);
    return st;
}

static loch_status local_head(struct loch_objstore *store, const char *name, uint64_t *size,
                              struct loch_etag *etag)
{
    struct loch_file *f = NULL;
    struct head head;

    LOCH_TRY(open_object(local_of(store), name, &f, &head));
    loch_file_close(f);
    if (size != NULL)
        *size = head.len;
    if (etag != NULL)
        *etag = etag_of(&head);
    return LOCH_OK;
}

static XXH128_canonical_t hash_of(struct loch_slice bytes)
{
    XXH128_canonical_t hash;

    XXH128_canonicalFromHash(&hash, XXH3_128bits(bytes.data, bytes.len));
    return hash;
}

static loch_status local_get(struct loch_objstore *store, const char *name, size_t max_bytes,
                             struct loch_buf *out, struct loch_etag *etag)
{
    struct loch_file *f = NULL;
    struct head head;
    loch_status st;

    LOCH_TRY(open_object(local_of(store), name, &f, &head));
    if (head.len > max_bytes) {
        st = LOCH_FAIL(LOCH_E_LIMIT, "object \"%s\" has %" PRIu64 " bytes, more than %zu", name,
                       head.len, max_bytes);
        goto out;
    }
    size_t len = (size_t)head.len;
    LOCH_TRY_OUT(st, loch_buf_reserve(out, len));
    if (len > 0)
        LOCH_TRY_OUT(st, loch_file_read(f, HEAD_BYTES, out->data + out->len, len));
    XXH128_canonical_t hash =
        hash_of(len > 0 ? loch_slice_of(out->data + out->len, len) : loch_slice_of("", 0));
    if (memcmp(hash.digest, head.hash.digest, sizeof hash.digest) != 0) {
        st = LOCH_FAIL(LOCH_E_CORRUPT, "object \"%s\" is damaged", name);
        goto out;
    }
    out->len += len;
    if (etag != NULL)
        *etag = etag_of(&head);
out:
    loch_file_close(f);
    return st;
}

static loch_status local_get_range(struct loch_objstore *store, const char *name, uint64_t offset,
                                   size_t len, struct loch_buf *out)
{
    struct loch_file *f = NULL;
    struct head head;
    uint64_t end;
    loch_status st;

    LOCH_TRY(open_object(local_of(store), name, &f, &head));
    if (!loch_add_u64(offset, len, &end) || end > head.len) {
        st = LOCH_FAIL(LOCH_E_CORRUPT, "object \"%s\" ends before byte %" PRIu64 " + %zu", name,
                       offset, len);
        goto out;
    }
    LOCH_TRY_OUT(st, loch_buf_reserve(out, len));
    if (len > 0)
        LOCH_TRY_OUT(st, loch_file_read(f, HEAD_BYTES + offset, out->data + out->len, len));
    out->len += len;
out:
    loch_file_close(f);
    return st;
}

/* ---- changes ---- */
off_t objstore_lock_byte(const char *name)
{
    const char *slash = strrchr(name, '/');
    const char *last = slash != NULL ? slash + 1 : name;

    return (off_t)(XXH3_64bits(last, strlen(last)) >> 2);
}

static loch_status lock_object(const char *path, int *out)
{
    char lock[PATH_MAX];
    const char *slash = strrchr(path, '/');
    const struct flock byte = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = objstore_lock_byte(path), .l_len = 1};

    int n = snprintf(lock, sizeof lock, "%.*s/.lock", (int)(slash - path), path);
    LOCH_ASSERT(n > 0 && n < PATH_MAX);
    int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot open %s: %s", lock, strerrordesc_np(errno));
    int rc;
    do
        rc = fcntl(fd, F_OFD_SETLKW, &byte);
    while (rc != 0 && errno == EINTR);
    if (rc != 0) {
        loch_status st = LOCH_FAIL(LOCH_E_IO, "cannot lock %s: %s", lock, strerrordesc_np(errno));
        (void)close(fd);
        return st;
    }
    *out = fd;
    return LOCH_OK;
}

static loch_status make_parent(struct local *store, const char *path)
{
    char dir[PATH_MAX];
    struct stat sb;

    size_t n = (size_t)(strrchr(path, '/') - path);
    memcpy(dir, path, n);
    dir[n] = '\0';
    if (stat(dir, &sb) == 0 && S_ISDIR(sb.st_mode))
        return LOCH_OK;
    return loch_env_mkdirs(store->env, dir);
}

static loch_status compose(struct local *store, struct loch_slice bytes, struct head *head,
                           struct loch_buf *out)
{
    struct loch_writer w;

    LOCH_TRY(loch_env_random(store->env, head->version.bytes, sizeof head->version.bytes));
    head->len = bytes.len;
    head->hash = hash_of(bytes.len > 0 ? bytes : loch_slice_of("", 0));
    LOCH_TRY(loch_buf_reserve(out, HEAD_BYTES + bytes.len));
    loch_writer_init(&w, out);
    loch_write_bytes(&w, magic, sizeof magic);
    loch_write_id(&w, &head->version);
    loch_write_u64(&w, head->len);
    loch_write_bytes(&w, head->hash.digest, sizeof head->hash.digest);
    LOCH_ASSERT(out->len == HEAD_BYTES);
    loch_write_bytes(&w, bytes.data, bytes.len);
    return loch_writer_finish(&w);
}

static loch_status check_match(struct local *store, const char *name,
                               const struct loch_etag *expect)
{
    struct loch_etag now;

    loch_status st = local_head(&store->base, name, NULL, &now);
    if (st.code == LOCH_E_NOT_FOUND)
        return LOCH_FAIL(LOCH_E_STALE, "object \"%s\" is gone", name);
    LOCH_TRY(st);
    if (strcmp(now.text, expect->text) != 0)
        return LOCH_FAIL(LOCH_E_STALE, "object \"%s\" was changed by another writer", name);
    return LOCH_OK;
}

static loch_status local_put(struct loch_objstore *base, const char *name,
                             struct put_condition cond, struct loch_slice bytes,
                             struct loch_etag *etag)
{
    struct local *store = local_of(base);
    char path[PATH_MAX];
    struct loch_buf file = {0};
    struct head head;
    int lock = -1;
    loch_status st;

    LOCH_TRY(path_of(store, name, path));
    LOCH_TRY(make_parent(store, path));
    LOCH_TRY_OUT(st, compose(store, bytes, &head, &file));
    LOCH_TRY_OUT(st, lock_object(path, &lock));
    if (cond.kind == PUT_IF_MATCH)
        LOCH_TRY_OUT(st, check_match(store, name, cond.expect));
    if (cond.kind == PUT_IF_ABSENT)
        st = loch_env_create_file(store->env, path, loch_buf_slice(&file));
    else
        st = loch_env_replace_file(store->env, path, loch_buf_slice(&file));
    if (st.code == LOCH_E_EXISTS)
        st = LOCH_FAIL(LOCH_E_EXISTS, "object \"%s\" exists", name);
    if (loch_is_ok(st))
        *etag = etag_of(&head);
out:
    if (lock >= 0)
        (void)close(lock);
    loch_buf_fini(&file);
    return st;
}

static loch_status local_delete(struct loch_objstore *base, const char *name)
{
    struct local *store = local_of(base);
    char path[PATH_MAX];
    struct stat sb;
    int lock = -1;

    LOCH_TRY(path_of(store, name, path));
    if (stat(path, &sb) != 0 && (errno == ENOENT || errno == ENOTDIR))
        return LOCH_OK;
    LOCH_TRY(lock_object(path, &lock));
    loch_status st = loch_env_unlink(store->env, path);
    (void)close(lock);
    return st.code == LOCH_E_NOT_FOUND ? LOCH_OK : st;
}

/* ---- listing: depth first, names of a directory collected and sorted as whole names ---- */
struct names {
    char **all;
    size_t count;
    size_t cap;
    bool no_memory;
};

static bool collect(void *arg, const char *name)
{
    struct names *names = arg;
    size_t n = strlen(name);

    if (name[0] == '.' || (n >= 4 && strcmp(name + n - 4, ".tmp") == 0))
        return true;
    if (names->count == names->cap) {
        size_t cap = names->cap == 0 ? 32 : names->cap * 2;
        char **all = realloc(names->all, cap * sizeof *all);
        if (all == NULL) {
            names->no_memory = true;
            return false;
        }
        names->all = all;
        names->cap = cap;
    }
    names->all[names->count] = strdup(name);
    names->no_memory = names->all[names->count] == NULL;
    if (!names->no_memory)
        names->count++;
    return !names->no_memory;
}

static void names_fini(struct names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->all[i]);
    free(names->all);
}

/* Every object below `prefix`'s directory, then sorted: a directory "a" sorts as "a/", after "a.b".
 */
struct listing {
    struct local *store;
    const char *prefix;
    struct names found;
};

static loch_status walk(struct listing *l, const char *dir, unsigned depth);

static loch_status visit(struct listing *l, const char *name, unsigned depth)
{
    char path[PATH_MAX];
    struct stat sb;
    size_t plen = strlen(l->prefix);
    size_t nlen = strlen(name);

    /* Neither below the prefix nor on the way to it. */
    if (strncmp(name, l->prefix, nlen < plen ? nlen : plen) != 0)
        return LOCH_OK;
    LOCH_TRY(path_of(l->store, name, path));
    if (stat(path, &sb) != 0)
        return errno == ENOENT
                   ? LOCH_OK
                   : LOCH_FAIL(LOCH_E_IO, "cannot look at %s: %s", path, strerrordesc_np(errno));
    if (S_ISDIR(sb.st_mode))
        return walk(l, name, depth + 1);
    if (!S_ISREG(sb.st_mode) || nlen < plen)
        return LOCH_OK;
    if (!collect(&l->found, name))
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a listing");
    return LOCH_OK;
}

static loch_status walk(struct listing *l, const char *dir, unsigned depth)
{
    char path[PATH_MAX];
    char name[LOCH_OBJECT_NAME_MAX + 256];
    struct names names = {0};

    if (depth > LISTING_DEPTH_MAX)
        return LOCH_FAIL(LOCH_E_LIMIT, "objects nest deeper than %u", LISTING_DEPTH_MAX);
    LOCH_TRY(path_of(l->store, dir, path));
    loch_status st = loch_env_list_dir(l->store->env, path, collect, &names);
    if (st.code == LOCH_E_NOT_FOUND)
        st = LOCH_OK; /* went away meanwhile */
    if (loch_is_ok(st) && names.no_memory)
        st = LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a listing");
    for (size_t i = 0; i < names.count && loch_is_ok(st); i++) {
        int n = snprintf(name, sizeof name, "%s%s%s", dir, dir[0] == '\0' ? "" : "/", names.all[i]);
        if (n > 0 && (size_t)n < sizeof name)
            st = visit(l, name, depth);
    }
    names_fini(&names);
    return st;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static loch_status local_list(struct loch_objstore *base, const char *prefix,
                              bool (*fn)(void *arg, const char *name, uint64_t size), void *arg)
{
    struct listing l = {.store = local_of(base), .prefix = prefix};
    bool on = true;

    loch_status st = walk(&l, "", 0);
    if (loch_is_ok(st) && l.found.count > 0)
        qsort(l.found.all, l.found.count, sizeof *l.found.all, by_name);
    for (size_t i = 0; loch_is_ok(st) && on && i < l.found.count; i++) {
        uint64_t size = 0;
        st = local_head(base, l.found.all[i], &size, NULL);
        if (loch_is_ok(st))
            on = fn(arg, l.found.all[i], size);
        else if (st.code == LOCH_E_CORRUPT) /* whoever gets it is told; the others are listed */
            on = fn(arg, l.found.all[i], 0);
        if (st.code == LOCH_E_NOT_FOUND || st.code == LOCH_E_CORRUPT)
            st = LOCH_OK;
    }
    names_fini(&l.found);
    return st;
}

static const struct objstore_ops local_ops = {
    .close = local_close,
    .get = local_get,
    .get_range = local_get_range,
    .head = local_head,
    .put = local_put,
    .delete = local_delete,
    .list = local_list,
};

loch_status loch_objstore_open_local(struct loch_env *env, const char *dir,
                                     struct loch_objstore **out)
{
    size_t n = strlen(dir);
    struct local *store = NULL;

    while (n > 1 && dir[n - 1] == '/')
        n--;
    if (n == 0 || n > PATH_MAX / 2)
        return LOCH_FAIL(LOCH_E_INVALID, "the object store's path has %zu bytes", n);
    store = calloc(1, sizeof *store + n + 1);
    if (store == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for an object store");
    store->base.ops = &local_ops;
    store->env = env;
    memcpy(store->dir, dir, n);
    loch_status st = loch_env_mkdirs(env, store->dir);
    if (loch_is_ok(st))
        st = objstore_probe(env, &store->base);
    if (!loch_is_ok(st)) {
        free(store);
        return st;
    }
    *out = &store->base;
    return LOCH_OK;
}
