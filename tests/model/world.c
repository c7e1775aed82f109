/* Files and objects in one list. */
#include "world.h"

#include "backend.h"
#include "../../src/io/world.h"

#include "loch/base/check.h"
#include "loch/crypto/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct content {
    unsigned refs;
    size_t len;
    uint8_t bytes[];
};

struct thing {
    struct thing *next;
    bool is_object;
    char *name;
    struct content *content;
    uint64_t version; /* an object's ETag */
};

struct open_file {
    struct loch_file base;
    struct content *content;
};

struct world {
    struct loch_env env; /* first: what the face hands around */
    struct loch_objstore objstore;
    struct thing *things;
    uint64_t versions;
    uint64_t left; /* operations until death; 0: not to come */
    uint64_t seed;
    bool dead;
    int64_t wall_us;
};

static struct world *of_env(struct loch_env *env)
{
    return (struct world *)(void *)env;
}

static struct world *of_store(struct loch_objstore *store)
{
    return (struct world *)(void *)((char *)store - offsetof(struct world, objstore));
}

/* *effect: whether the operation is done; the status is what its caller hears. */
static loch_status operate(struct world *w, bool *effect)
{
    *effect = !w->dead;
    if (!w->dead && w->left > 0 && --w->left == 0) {
        w->dead = true;
        *effect = w->seed % 2 == 0;
    }
    if (w->dead)
        return LOCH_FAIL(LOCH_E_IO, "this life is over");
    return LOCH_OK;
}

static struct thing **find(struct world *w, bool is_object, const char *name)
{
    struct thing **link = &w->things;
    while (*link != NULL && ((*link)->is_object != is_object || strcmp((*link)->name, name) != 0))
        link = &(*link)->next;
    return link;
}

static void drop_content(struct content *c)
{
    if (--c->refs == 0)
        free(c);
}

static void remove_thing(struct thing **link)
{
    struct thing *thing = *link;
    *link = thing->next;
    drop_content(thing->content);
    free(thing->name);
    free(thing);
}

static struct thing *put_thing(struct world *w, bool is_object, const char *name,
                               struct loch_slice bytes)
{
    struct thing **link = find(w, is_object, name);
    struct content *content = malloc(sizeof *content + bytes.len);
    LOCH_ASSERT(content != NULL);
    content->refs = 1;
    content->len = bytes.len;
    if (bytes.len > 0)
        memcpy(content->bytes, bytes.data, bytes.len);
    if (*link == NULL) {
        struct thing *fresh = calloc(1, sizeof *fresh);
        LOCH_ASSERT(fresh != NULL);
        fresh->is_object = is_object;
        fresh->name = strdup(name);
        *link = fresh;
    } else {
        drop_content((*link)->content);
    }
    (*link)->content = content;
    (*link)->version = ++w->versions;
    return *link;
}

/* ---- the environment ---- */

static uint64_t now_ns(struct loch_env *env)
{
    return (uint64_t)of_env(env)->wall_us * 1000;
}

static int64_t wall_us(struct loch_env *env)
{
    return of_env(env)->wall_us;
}

static loch_status random_bytes(struct loch_env *env, void *out, size_t len)
{
    (void)env;
    return loch_random_bytes(out, len);
}

static loch_status file_open(struct loch_env *env, const char *path, int flags,
                             struct loch_file **out)
{
    struct world *w = of_env(env);
    bool effect = false;
    (void)flags;
    LOCH_TRY(operate(w, &effect));
    struct thing *thing = *find(w, false, path);
    if (thing == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "there is no %s", path);
    struct open_file *file = calloc(1, sizeof *file);
    LOCH_ASSERT(file != NULL);
    file->base.env = env;
    file->content = thing->content;
    file->content->refs++;
    *out = &file->base;
    return LOCH_OK;
}

static void file_close(struct loch_file *file)
{
    struct open_file *f = (struct open_file *)(void *)file;
    drop_content(f->content);
    free(f);
}

static loch_status file_size(struct loch_file *file, uint64_t *out)
{
    *out = ((struct open_file *)(void *)file)->content->len;
    return LOCH_OK;
}

static loch_status file_read(struct loch_file *file, uint64_t offset, void *out, size_t len)
{
    const struct content *c = ((struct open_file *)(void *)file)->content;
    if (offset > c->len || len > c->len - offset)
        return LOCH_FAIL(LOCH_E_CORRUPT, "the file is shorter");
    memcpy(out, c->bytes + offset, len);
    return LOCH_OK;
}

static loch_status create_file(struct loch_env *env, const char *path, struct loch_slice bytes)
{
    struct world *w = of_env(env);
    bool effect = false;
    loch_status st = operate(w, &effect);
    if (effect && *find(w, false, path) != NULL)
        return LOCH_FAIL(LOCH_E_EXISTS, "%s exists", path);
    if (effect)
        put_thing(w, false, path, bytes);
    return st;
}

struct new_file {
    struct loch_new_file base;
    struct loch_buf bytes;
    char *path;
};

static struct new_file *of_new_file(struct loch_new_file *file)
{
    return (struct new_file *)(void *)file;
}

static loch_status new_file(struct loch_env *env, const char *path, struct loch_new_file **out)
{
    bool effect = false;
    LOCH_TRY(operate(of_env(env), &effect));
    struct new_file *f = calloc(1, sizeof *f);
    LOCH_ASSERT(f != NULL);
    f->base.env = env;
    f->path = strdup(path);
    *out = &f->base;
    return LOCH_OK;
}

static loch_status new_file_add(struct loch_new_file *file, struct loch_slice bytes)
{
    bool effect = false;
    LOCH_TRY(operate(of_env(file->env), &effect));
    return loch_buf_append(&of_new_file(file)->bytes, bytes.data, bytes.len);
}

static void new_file_abandon(struct loch_new_file *file)
{
    struct new_file *f = of_new_file(file);
    loch_buf_fini(&f->bytes);
    free(f->path);
    free(f);
}

static loch_status new_file_end(struct loch_new_file *file)
{
    struct new_file *f = of_new_file(file);
    loch_status st = create_file(file->env, f->path, loch_buf_slice(&f->bytes));
    new_file_abandon(file);
    return st;
}

static loch_status read_file(struct loch_env *env, const char *path, size_t max_bytes,
                             struct loch_buf *out)
{
    struct world *w = of_env(env);
    bool effect = false;
    LOCH_TRY(operate(w, &effect));
    const struct thing *thing = *find(w, false, path);
    if (thing == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "there is no %s", path);
    LOCH_ASSERT(thing->content->len <= max_bytes);
    return loch_buf_append(out, thing->content->bytes, thing->content->len);
}

static loch_status replace_file(struct loch_env *env, const char *path, struct loch_slice bytes)
{
    struct world *w = of_env(env);
    bool effect = false;
    loch_status st = operate(w, &effect);
    if (effect)
        put_thing(w, false, path, bytes);
    return st;
}

static loch_status unlink_file(struct loch_env *env, const char *path)
{
    struct world *w = of_env(env);
    bool effect = false;
    loch_status st = operate(w, &effect);
    struct thing **link = find(w, false, path);
    if (effect && *link == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "there is no %s", path);
    if (effect)
        remove_thing(link);
    return st;
}

static loch_status mkdirs(struct loch_env *env, const char *path)
{
    bool effect = false;
    (void)path;
    return operate(of_env(env), &effect);
}

static loch_status list_dir(struct loch_env *env, const char *path,
                            bool (*fn)(void *arg, const char *name), void *arg)
{
    struct world *w = of_env(env);
    size_t len = strlen(path);
    bool effect = false;
    LOCH_TRY(operate(w, &effect));
    /* fn may remove files and objects: the names first */
    size_t count = 0, all = 0;
    for (const struct thing *t = w->things; t != NULL; t = t->next)
        all++;
    char **names = calloc(all + 1, sizeof(char *));
    LOCH_ASSERT(names != NULL);
    for (const struct thing *t = w->things; t != NULL; t = t->next) {
        if (!t->is_object && strncmp(t->name, path, len) == 0 && t->name[len] == '/')
            names[count++] = strdup(t->name + len + 1);
    }
    bool go_on = true;
    for (size_t i = 0; i < count; i++) {
        go_on = go_on && fn(arg, names[i]);
        free(names[i]);
    }
    free(names);
    return LOCH_OK;
}

static const struct loch_world_ops env_ops = {
    .now_ns = now_ns,
    .wall_us = wall_us,
    .random = random_bytes,
    .file_open = file_open,
    .file_close = file_close,
    .file_size = file_size,
    .file_read = file_read,
    .create_file = create_file,
    .new_file = new_file,
    .new_file_add = new_file_add,
    .new_file_end = new_file_end,
    .new_file_abandon = new_file_abandon,
    .read_file = read_file,
    .replace_file = replace_file,
    .unlink = unlink_file,
    .mkdirs = mkdirs,
    .list_dir = list_dir,
};

/* ---- the object store ---- */

static void store_close(struct loch_objstore *store)
{
    (void)store;
}

static void tell_etag(const struct thing *thing, struct loch_etag *etag)
{
    if (etag != NULL)
        snprintf(etag->text, sizeof etag->text, "%llu", (unsigned long long)thing->version);
}

static loch_status store_get(struct loch_objstore *store, const char *name, size_t max_bytes,
                             struct loch_buf *out, struct loch_etag *etag)
{
    struct world *w = of_store(store);
    bool effect = false;
    (void)max_bytes;
    LOCH_TRY(operate(w, &effect));
    const struct thing *thing = *find(w, true, name);
    if (thing == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "there is no object %s", name);
    tell_etag(thing, etag);
    return loch_buf_append(out, thing->content->bytes, thing->content->len);
}

static loch_status store_put(struct loch_objstore *store, const char *name,
                             struct put_condition cond, struct loch_slice bytes,
                             struct loch_etag *etag)
{
    struct world *w = of_store(store);
    struct loch_etag now = {0};
    bool effect = false;
    loch_status st = operate(w, &effect);
    if (!effect)
        return st;
    const struct thing *thing = *find(w, true, name);
    if (thing != NULL)
        tell_etag(thing, &now);
    if (cond.kind == PUT_IF_ABSENT && thing != NULL)
        return LOCH_FAIL(LOCH_E_EXISTS, "%s exists", name);
    if (cond.kind == PUT_IF_MATCH && strcmp(now.text, cond.expect->text) != 0)
        return LOCH_FAIL(LOCH_E_STALE, "%s is another one", name);
    thing = put_thing(w, true, name, bytes);
    LOCH_TRY(st);
    tell_etag(thing, etag);
    return LOCH_OK;
}

static loch_status store_get_range(struct loch_objstore *store, const char *name, uint64_t offset,
                                   size_t len, struct loch_buf *out)
{
    struct world *w = of_store(store);
    bool effect = false;
    LOCH_TRY(operate(w, &effect));
    const struct thing *thing = *find(w, true, name);
    if (thing == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "there is no object %s", name);
    if (offset > thing->content->len || len > thing->content->len - offset)
        return LOCH_FAIL(LOCH_E_CORRUPT, "object %s is shorter", name);
    return loch_buf_append(out, thing->content->bytes + offset, len);
}

static loch_status store_delete(struct loch_objstore *store, const char *name)
{
    struct world *w = of_store(store);
    bool effect = false;
    loch_status st = operate(w, &effect);
    struct thing **link = find(w, true, name);
    if (effect && *link != NULL)
        remove_thing(link);
    return st;
}

static const struct objstore_ops store_ops = {.close = store_close,
                                              .get = store_get,
                                              .get_range = store_get_range,
                                              .put = store_put,
                                              .delete = store_delete};

/* ---- the world itself ---- */

struct world *world_create(void)
{
    struct world *w = calloc(1, sizeof *w);
    LOCH_ASSERT(w != NULL);
    w->env.ops = &env_ops;
    w->objstore.ops = &store_ops;
    w->wall_us = INT64_C(1000000000);
    return w;
}

void world_clear(struct world *w)
{
    while (w->things != NULL)
        remove_thing(&w->things);
}

void world_destroy(struct world *w)
{
    world_clear(w);
    free(w);
}

struct loch_env *world_env(struct world *w)
{
    return &w->env;
}

struct loch_objstore *world_objstore(struct world *w)
{
    return &w->objstore;
}

void world_remove(struct world *w, const char *text)
{
    for (struct thing **link = &w->things; *link != NULL;) {
        if (strstr((*link)->name, text) != NULL)
            remove_thing(link);
        else
            link = &(*link)->next;
    }
}

void world_die_at(struct world *w, uint64_t n, uint64_t seed)
{
    w->left = n;
    w->seed = seed;
}

bool world_dead(const struct world *w)
{
    return w->dead;
}

void world_revive(struct world *w)
{
    w->dead = false;
    w->left = 0;
}

void world_set_time(struct world *w, int64_t us)
{
    w->wall_us = us;
}

size_t world_files(const struct world *w, const char *text)
{
    size_t n = 0;
    for (const struct thing *t = w->things; t != NULL; t = t->next)
        n += !t->is_object && strstr(t->name, text) != NULL;
    return n;
}
