/* Removing what no manifest names any more. */
#include "tenant_files.h"

#include "store/layer.h"
#include "store/layer_copy.h"
#include "store/manifest.h"

#include "loch/base/log.h"
#include "loch/host/keys.h"
#include "loch/io/env.h"
#include "loch/keyring/keyring.h"
#include "loch/kms/kms.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define UNFINISHED "/unfinished"

struct names {
    char **items;
    size_t count;
    bool no_memory;
};

static void names_fini(struct names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->items[i]);
    free(names->items);
}

static bool add_name(void *arg, const char *name)
{
    struct names *names = arg;
    char **items = reallocarray(names->items, names->count + 1, sizeof(char *));
    char *copy = strdup(name);
    if (items != NULL)
        names->items = items;
    names->no_memory = items == NULL || copy == NULL;
    if (names->no_memory) {
        free(copy);
        return false;
    }
    names->items[names->count++] = copy;
    return true;
}

static bool add_object(void *arg, const char *name, uint64_t size)
{
    (void)size;
    return add_name(arg, name);
}

static loch_status remove_objects(struct loch_pageserver *ps, const char *prefix)
{
    struct names names = {0};
    loch_status st = loch_objstore_list(ps->objstore, prefix, add_object, &names);
    if (loch_is_ok(st) && names.no_memory)
        st = LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a list of objects");
    for (size_t i = 0; i < names.count && loch_is_ok(st); i++)
        st = loch_objstore_delete(ps->objstore, names.items[i]);
    names_fini(&names);
    return st;
}

static loch_status list(struct loch_pageserver *ps, const char *dir, struct names *names)
{
    loch_status st = loch_env_list_dir(ps->env, dir, add_name, names);
    if (st.code == LOCH_E_NOT_FOUND)
        return LOCH_OK;
    if (loch_is_ok(st) && names->no_memory)
        st = LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a list of files");
    return st;
}

/* The files of a directory, and itself. */
static loch_status remove_dir(struct loch_pageserver *ps, const char *dir)
{
    struct names names = {0};
    loch_status st = list(ps, dir, &names);
    for (size_t i = 0; i < names.count && loch_is_ok(st); i++) {
        char path[LOCH_LAYER_PATH_BYTES + 300];
        snprintf(path, sizeof path, "%s/%s", dir, names.items[i]);
        st = loch_env_unlink(ps->env, path);
    }
    names_fini(&names);
    if (loch_is_ok(st))
        (void)rmdir(dir);
    return st;
}

LOCH_STATUS tenant_remove_timeline(struct loch_pageserver *ps, const struct loch_id *tenant,
                                   const struct loch_id *timeline)
{
    char a[LOCH_ID_TEXT_BYTES], b[LOCH_ID_TEXT_BYTES], prefix[LOCH_OBJECT_NAME_MAX];
    char dir[LOCH_LAYER_PATH_BYTES];
    snprintf(prefix, sizeof prefix, "tenants/%s/timelines/%s/", loch_id_format(tenant, a),
             loch_id_format(timeline, b));
    /* An archived timeline has no directory: without one, what a crash leaves of its objects would
     * not be found by the sweep. It goes last. */
    LOCH_TRY(loch_timeline_dir(&ps->store, tenant, timeline, dir));
    LOCH_TRY(loch_env_mkdirs(ps->env, dir));
    /* Before anything else the keys: what a removal that fails leaves behind is unreadable. */
    LOCH_TRY(loch_keys_forget_timeline(ps->keys, tenant, timeline));
    LOCH_TRY(remove_objects(ps, prefix));
    loch_manifest_forget(&ps->store, tenant, timeline);
    LOCH_TRY(loch_kms_unpin(ps->kms, timeline, NULL)); /* a CMK of its own */
    return remove_dir(ps, dir);
}

LOCH_STATUS tenant_look_for_remains(struct loch_pageserver *ps, const struct loch_id *tenant,
                                    const struct loch_id *timeline, bool *out)
{
    struct loch_keyring ring = {0};
    char dir[LOCH_LAYER_PATH_BYTES];
    LOCH_TRY(loch_timeline_dir(&ps->store, tenant, timeline, dir));
    bool any = access(dir, F_OK) == 0;
    if (!any && !loch_is_ok(loch_keys_ring(ps->keys, tenant, &ring)))
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "what is left of the timeline cannot be told: the "
                                             "tenant's keys are not known now");
    for (uint32_t i = 0; i < ring.count && !any; i++)
        any = loch_id_equal(&ring.entries[i].scope, timeline) &&
              ring.entries[i].state != LOCH_STATE_DESTROYED;
    loch_keyring_fini(&ring);
    *out = any;
    return LOCH_OK;
}

LOCH_STATUS tenant_remove_files(struct loch_pageserver *ps, const struct loch_id *tenant,
                                const struct loch_id *timeline)
{
    char dir[LOCH_LAYER_PATH_BYTES];
    struct names names = {0};
    LOCH_TRY(loch_timeline_dir(&ps->store, tenant, timeline, dir));
    loch_status st = list(ps, dir, &names);
    for (size_t i = 0; i < names.count && loch_is_ok(st); i++) {
        char path[LOCH_LAYER_PATH_BYTES + 300], object[LOCH_LAYER_PATH_BYTES];
        struct stat sb;
        uint64_t size = 0;
        snprintf(path, sizeof path, "%s/%s", dir, names.items[i]);
        st = loch_layer_copy_name(tenant, timeline, names.items[i], object);
        if (!loch_is_ok(st) || stat(path, &sb) != 0)
            continue;
        if (loch_is_ok(loch_objstore_head(ps->objstore, object, &size, NULL)) &&
            size == (uint64_t)sb.st_size)
            st = loch_env_unlink(ps->env, path);
        else
            LOCH_WARN("%s stays: the archived timeline has no object like it", path);
    }
    names_fini(&names);
    (void)rmdir(dir); /* unless something stays */
    return st;
}

/* "<dir>/tenants/<tenant><tail>" */
static loch_status tenant_path(const struct loch_pageserver *ps, const struct loch_id *tenant,
                               const char *tail, char path[LOCH_LAYER_PATH_BYTES])
{
    char a[LOCH_ID_TEXT_BYTES];
    int n = snprintf(path, LOCH_LAYER_PATH_BYTES, "%s/tenants/%s%s", ps->store.dir,
                     loch_id_format(tenant, a), tail);
    if (n < 0 || (size_t)n >= LOCH_LAYER_PATH_BYTES)
        return LOCH_FAIL(LOCH_E_LIMIT, "the data directory's path is too long");
    return LOCH_OK;
}

static loch_status timelines_dir(const struct loch_pageserver *ps, const struct loch_id *tenant,
                                 char dir[LOCH_LAYER_PATH_BYTES])
{
    return tenant_path(ps, tenant, "/timelines", dir);
}

LOCH_STATUS tenant_mark_unfinished(struct loch_pageserver *ps, const struct loch_id *tenant)
{
    char path[LOCH_LAYER_PATH_BYTES];
    LOCH_TRY(tenant_path(ps, tenant, "", path));
    LOCH_TRY(loch_env_mkdirs(ps->env, path));
    LOCH_TRY(tenant_path(ps, tenant, UNFINISHED, path));
    loch_status st = loch_env_create_file(ps->env, path, loch_slice_of("", 0));
    return st.code == LOCH_E_EXISTS ? LOCH_OK : st;
}

LOCH_STATUS tenant_mark_finished(struct loch_pageserver *ps, const struct loch_id *tenant)
{
    char path[LOCH_LAYER_PATH_BYTES];
    LOCH_TRY(tenant_path(ps, tenant, UNFINISHED, path));
    loch_status st = loch_env_unlink(ps->env, path);
    return st.code == LOCH_E_NOT_FOUND ? LOCH_OK : st;
}

static bool is_known(const struct loch_id *id, const struct loch_id *known, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (loch_id_equal(&known[i], id))
            return true;
    return false;
}

static loch_status sweep_one(struct loch_pageserver *ps, const struct loch_id *id, bool known)
{
    char path[LOCH_LAYER_PATH_BYTES], text[LOCH_ID_TEXT_BYTES];
    LOCH_TRY(tenant_path(ps, id, UNFINISHED, path));
    if (access(path, F_OK) != 0)
        return LOCH_OK;
    if (known)
        return tenant_mark_finished(ps, id);
    LOCH_INFO("removing what is left of tenant %s, whose creation or removal was cut short",
              loch_id_format(id, text));
    LOCH_TRY(tenant_unpin(ps, id, NULL));
    return tenant_remove(ps, id, NULL);
}

void tenant_sweep_unfinished(struct loch_pageserver *ps, const struct loch_id *known, size_t count)
{
    char dir[LOCH_LAYER_PATH_BYTES];
    struct names names = {0};
    int n = snprintf(dir, sizeof dir, "%s/tenants", ps->store.dir);
    loch_status st = n < 0 || (size_t)n >= sizeof dir
                         ? LOCH_FAIL(LOCH_E_LIMIT, "the data directory's path is too long")
                         : list(ps, dir, &names);
    for (size_t i = 0; i < names.count && loch_is_ok(st); i++) {
        struct loch_id id;
        if (loch_is_ok(loch_id_parse(names.items[i], &id)))
            st = sweep_one(ps, &id, is_known(&id, known, count));
    }
    names_fini(&names);
    if (!loch_is_ok(st))
        loch_log_failure("cannot remove what an unfinished creation or removal left");
}

LOCH_STATUS tenant_unpin(struct loch_pageserver *ps, const struct loch_id *tenant,
                         const struct loch_tenant_manifest *manifest)
{
    for (uint32_t i = 0; manifest != NULL && i < manifest->count; i++)
        LOCH_TRY(loch_kms_unpin(ps->kms, &manifest->timelines[i].timeline, NULL));
    return loch_kms_unpin(ps->kms, tenant, NULL);
}

/* Its keyring is gone. Neither a disk that is full nor anything else holds up the rest. */
static void begin_removal(struct loch_pageserver *ps, const struct loch_id *tenant,
                          const struct loch_tenant_manifest *manifest)
{
    /* When its objects are gone, too, nothing but this says that its files are to follow. */
    if (!loch_is_ok(tenant_mark_unfinished(ps, tenant)))
        loch_log_failure("what a crash leaves of a removal would not be found");
    /* Before the manifest, which alone names the branches, goes; and after the keys: whoever renews
     * their leases would be told that the CMK is not to be asked. */
    loch_keys_tenant_drop(ps->keys, tenant);
    if (!loch_is_ok(tenant_unpin(ps, tenant, manifest)))
        loch_log_failure("cannot forget the CMKs of a tenant that is removed");
}

LOCH_STATUS tenant_remove(struct loch_pageserver *ps, const struct loch_id *tenant,
                          const struct loch_tenant_manifest *manifest)
{
    char a[LOCH_ID_TEXT_BYTES], name[LOCH_OBJECT_NAME_MAX], dir[LOCH_LAYER_PATH_BYTES];
    struct names names = {0};
    loch_id_format(tenant, a);
    snprintf(name, sizeof name, "tenants/%s/keyring", a);
    LOCH_TRY(loch_objstore_delete(ps->objstore, name));
    begin_removal(ps, tenant, manifest);
    snprintf(name, sizeof name, "tenants/%s/", a);
    LOCH_TRY(remove_objects(ps, name));
    LOCH_TRY(timelines_dir(ps, tenant, dir));
    loch_status st = list(ps, dir, &names);
    for (size_t i = 0; i < names.count && loch_is_ok(st); i++) {
        char path[LOCH_LAYER_PATH_BYTES + 300];
        struct loch_id id;
        snprintf(path, sizeof path, "%s/%s", dir, names.items[i]);
        st = remove_dir(ps, path);
        if (loch_is_ok(loch_id_parse(names.items[i], &id)))
            loch_manifest_forget(&ps->store, tenant, &id);
    }
    names_fini(&names);
    loch_manifest_forget(&ps->store, tenant, NULL);
    (void)rmdir(dir);
    LOCH_TRY(st);
    LOCH_TRY(tenant_mark_finished(ps, tenant));
    LOCH_TRY(tenant_path(ps, tenant, "", dir));
    (void)rmdir(dir);
    return LOCH_OK;
}

static bool names_timeline(const struct loch_tenant_manifest *manifest,
                           const struct loch_id *timeline)
{
    for (uint32_t i = 0; i < manifest->count; i++)
        if (loch_id_equal(&manifest->timelines[i].timeline, timeline))
            return true;
    return false;
}

void tenant_sweep(struct loch_pageserver *ps, const struct loch_tenant_manifest *manifest)
{
    char dir[LOCH_LAYER_PATH_BYTES];
    struct names names = {0};
    loch_status st = timelines_dir(ps, &manifest->tenant, dir);
    if (loch_is_ok(st))
        st = list(ps, dir, &names);
    for (size_t i = 0; i < names.count && loch_is_ok(st); i++) {
        struct loch_id id;
        if (!loch_is_ok(loch_id_parse(names.items[i], &id)) || /* not ours: left alone */
            names_timeline(manifest, &id))
            continue;
        LOCH_INFO("removing timeline %s, which tenant %s does not name", names.items[i],
                  manifest->name);
        st = tenant_remove_timeline(ps, &manifest->tenant, &id);
    }
    names_fini(&names);
    if (!loch_is_ok(st))
        loch_log_failure("cannot remove what an unfinished change left");
}

void tenant_sweep_keys(struct loch_pageserver *ps, const struct loch_tenant_manifest *manifest)
{
    struct loch_keyring ring = {0};
    char text[LOCH_ID_TEXT_BYTES];
    loch_status st = loch_keys_ring(ps->keys, &manifest->tenant, &ring);
    for (uint32_t i = 0; i < ring.count && loch_is_ok(st); i++) {
        const struct loch_keyring_entry *e = &ring.entries[i];
        if (loch_id_is_none(&e->scope) || e->state == LOCH_STATE_DESTROYED ||
            names_timeline(manifest, &e->scope) ||
            is_known(&e->scope, manifest->spares, manifest->spare_count)) /* to come */
            continue;
        LOCH_INFO("removing the keys of timeline %s, which tenant %s does not name",
                  loch_id_format(&e->scope, text), manifest->name);
        st = tenant_remove_timeline(ps, &manifest->tenant, &e->scope);
    }
    loch_keyring_fini(&ring);
    if (!loch_is_ok(st))
        loch_log_failure("cannot remove keys that an unfinished change left");
}
