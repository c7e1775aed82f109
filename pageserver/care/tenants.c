/* The list of tenants, and opening everything at start. */
#include "tenants.h"

#include "served.h"
#include "tenant_files.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/host/keys.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define KEY_READERS 16u

LOCH_STATUS loch_tenant_enlist(struct loch_pageserver *ps, struct loch_tenant *tenant)
{
    LOCH_TRY(loch_id_map_put(&ps->tenant_map, &tenant->id, tenant));
    tenant->next = ps->tenants;
    tenant->prev = &ps->tenants;
    if (tenant->next != NULL)
        tenant->next->prev = &tenant->next;
    ps->tenants = tenant;
    return LOCH_OK;
}

void loch_tenant_delist(struct loch_pageserver *ps, struct loch_tenant *tenant)
{
    (void)loch_id_map_remove(&ps->tenant_map, &tenant->id);
    *tenant->prev = tenant->next;
    if (tenant->next != NULL)
        tenant->next->prev = tenant->prev;
}

struct loch_tenant *loch_tenant_find(struct loch_pageserver *ps, const struct loch_id *id)
{
    return loch_id_map_get(&ps->tenant_map, id);
}

static struct loch_tenant *named(struct loch_tenant *from, const char *name)
{
    for (struct loch_tenant *t = from; t != NULL; t = t->next) {
        if (strcmp(t->manifest.name, name) == 0)
            return t;
    }
    return NULL;
}

struct loch_tenant *loch_tenant_by_name(struct loch_pageserver *ps, const char *name)
{
    return named(ps->tenants, name);
}

const struct loch_tenant *loch_tenant_namesake(const struct loch_tenant *tenant)
{
    return named(tenant->next, tenant->manifest.name);
}

const struct loch_tenant_timeline *loch_tenant_timeline_find(const struct loch_tenant *tenant,
                                                             const struct loch_id *timeline)
{
    for (uint32_t i = 0; i < tenant->manifest.count; i++) {
        if (loch_id_equal(&tenant->manifest.timelines[i].timeline, timeline))
            return &tenant->manifest.timelines[i];
    }
    return NULL;
}

struct loch_slice loch_tenant_birth(const struct loch_tenant_manifest *m,
                                    const struct loch_id *timeline)
{
    for (uint32_t i = 0; i < m->count; i++) {
        if (loch_id_equal(&m->timelines[i].timeline, timeline))
            return loch_buf_slice(&m->timelines[i].birth);
    }
    return loch_slice_of(NULL, 0);
}

LOCH_STATUS loch_tenant_next(struct loch_pageserver *ps, const struct loch_tenant *tenant,
                             struct loch_tenant_manifest *out)
{
    LOCH_TRY(loch_tenant_manifest_copy(out, &tenant->manifest));
    out->generation = loch_max_u64(out->generation, tenant->tried) + 1;
    for (uint32_t i = 0; i < out->count; i++) {
        struct loch_tenant_timeline *entry = &out->timelines[i];
        if (entry->birth.len == 0)
            continue;
        struct loch_served *served = loch_served_find(ps, &tenant->id, &entry->timeline);
        if (served != NULL && loch_served_timeline(served) != NULL &&
            loch_timeline_settled(loch_served_timeline(served)))
            loch_buf_fini(&entry->birth);
    }
    return LOCH_OK;
}

LOCH_STATUS loch_tenant_put_unnoted(struct loch_pageserver *ps, struct loch_tenant *tenant,
                                    const struct loch_tenant_manifest *next,
                                    struct loch_manifest_note *later)
{
    tenant->tried = next->generation;
    return loch_tenant_manifest_put_unnoted(&ps->store, ps->keys, next, &tenant->etag,
                                            &tenant->doubt, later);
}

LOCH_STATUS loch_tenant_put(struct loch_pageserver *ps, struct loch_tenant *tenant,
                            const struct loch_tenant_manifest *next)
{
    return loch_tenant_put_unnoted(ps, tenant, next, NULL);
}

void loch_tenant_take(struct loch_tenant *tenant, struct loch_tenant_manifest *take_next)
{
    loch_tenant_manifest_fini(&tenant->manifest);
    tenant->manifest = *take_next;
    *take_next = (struct loch_tenant_manifest){0};
}

LOCH_STATUS loch_tenant_owner(struct loch_pageserver *ps, const struct loch_tenant *tenant,
                              const struct loch_id *timeline, loch_lsn lsn,
                              struct loch_served **out, loch_lsn *limit)
{
    struct loch_id id = *timeline;
    loch_lsn end = LOCH_LSN_MAX;
    for (;;) {
        struct loch_served *served = loch_served_find(ps, &tenant->id, &id);
        if (served == NULL)
            return LOCH_FAIL(LOCH_E_NOT_FOUND, "there is no such timeline here");
        LOCH_TRY(loch_served_usable(served));
        const struct loch_timeline_info *info = loch_timeline_info(loch_served_timeline(served));
        if (lsn >= info->start_lsn || loch_id_is_none(&info->ancestor)) {
            *out = served;
            if (limit != NULL)
                *limit = end;
            return LOCH_OK;
        }
        end = info->ancestor_lsn;
        id = info->ancestor;
    }
}

struct found_ids {
    struct loch_id *items;
    size_t count;
    bool no_memory;
};

/* Objects "tenants/<id>/manifest". */
static bool see_object(void *arg, const char *name, uint64_t size)
{
    struct found_ids *found = arg;
    char text[LOCH_ID_TEXT_BYTES] = {0};
    struct loch_id id;
    (void)size;
    if (strlen(name) != 8 + 32 + 9 || strcmp(name + 40, "/manifest") != 0)
        return true;
    memcpy(text, name + 8, 32);
    if (!loch_is_ok(loch_id_parse(text, &id)))
        return true;
    struct loch_id *items = reallocarray(found->items, found->count + 1, sizeof *items);
    if (items == NULL) {
        found->no_memory = true;
        return false;
    }
    found->items = items;
    items[found->count++] = id;
    return true;
}

static loch_status open_timeline(struct loch_pageserver *ps, struct loch_tenant *tenant,
                                 const struct loch_tenant_timeline *entry)
{
    struct loch_timeline *parent = NULL, *timeline = NULL;
    LOCH_TRY(loch_keys_usable(ps->keys, &tenant->id, &entry->timeline));
    if (!loch_id_is_none(&entry->ancestor)) {
        struct loch_served *above = loch_served_find(ps, &tenant->id, &entry->ancestor);
        if (above == NULL)
            return LOCH_FAIL(LOCH_E_CORRUPT, "its ancestor is not in the tenant's manifest");
        LOCH_TRY(loch_served_usable(above));
        parent = loch_served_timeline(above);
    }
    LOCH_TRY(loch_timeline_open_born(&ps->store, ps->keys, &tenant->id, &entry->timeline, parent,
                                     loch_buf_slice(&entry->birth), &timeline));
    return loch_served_enter(ps, &tenant->id, &entry->timeline, timeline, NULL);
}

static void open_timelines(struct loch_pageserver *ps, struct loch_tenant *tenant)
{
    for (uint32_t i = 0; i < tenant->manifest.count; i++) {
        const struct loch_tenant_timeline *entry = &tenant->manifest.timelines[i];
        struct loch_served *served = NULL;
        if (entry->archived) {
            if (!loch_is_ok(tenant_remove_files(ps, &tenant->id, &entry->timeline)))
                loch_log_failure("files of an archived timeline stay");
            if (!loch_is_ok(loch_served_create_archived(ps, &tenant->id, &entry->timeline)))
                loch_log_failure("no memory to remember an archived timeline");
            continue;
        }
        loch_status st = open_timeline(ps, tenant, entry);
        if (loch_is_ok(st))
            continue;
        if (st.code == LOCH_E_KMS_UNAVAILABLE) /* a branch's CMK, which its lease asks now */
            LOCH_INFO("timeline %s of tenant %s is not served yet: %s", entry->name,
                      tenant->manifest.name, loch_error_text());
        else
            LOCH_ERROR("timeline %s of tenant %s is not served: %s", entry->name,
                       tenant->manifest.name, loch_error_text());
        if (!loch_is_ok(loch_served_create_broken(ps, &tenant->id, &entry->timeline, st, &served)))
            loch_log_failure("no memory to remember it");
    }
}

/* `keys`: how the reading of its keys went. */
static loch_status open_tenant(struct loch_pageserver *ps, const struct loch_id *id,
                               const struct loch_failure *keys)
{
    struct loch_tenant *tenant = calloc(1, sizeof *tenant);
    if (tenant == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a tenant");
    tenant->id = *id;
    loch_status st = loch_tenant_enlist(ps, tenant);
    if (!loch_is_ok(st)) {
        free(tenant);
        return st;
    }
    st = loch_failure_raise(keys);
    if (loch_is_ok(st))
        st = loch_tenant_manifest_get(&ps->store, ps->keys, id, &tenant->manifest, &tenant->etag);
    if (!loch_is_ok(st)) {
        char text[LOCH_ID_TEXT_BYTES];
        /* What may pass is looked at again as long as it does not (revocation.c). */
        tenant->dark = st.code == LOCH_E_DENIED || loch_status_passes(st);
        snprintf(tenant->problem, sizeof tenant->problem, "%s", loch_error_text());
        LOCH_ERROR("tenant %s is not served: %s", loch_id_format(id, text), tenant->problem);
        return LOCH_OK;
    }
    tenant_sweep(ps, &tenant->manifest);
    tenant_sweep_keys(ps, &tenant->manifest);
    open_timelines(ps, tenant);
    return LOCH_OK;
}

/* Keys are read by several threads: with a thousand tenants the way to their key services and back,
 * some times for each, is most of a start. */
struct key_reading {
    struct loch_pageserver *ps;
    const struct found_ids *found;
    struct loch_failure *results; /* one an id */
    atomic_size_t next;
};

static void *read_keys(void *arg)
{
    struct key_reading *r = arg;
    for (size_t i; (i = atomic_fetch_add(&r->next, 1)) < r->found->count;)
        loch_failure_set(&r->results[i], loch_keys_tenant_load(r->ps->keys, &r->found->items[i]));
    return NULL;
}

static void read_all_keys(struct key_reading *r)
{
    pthread_t threads[KEY_READERS];
    size_t started = 0;
    while (started < KEY_READERS && started + 1 < r->found->count &&
           pthread_create(&threads[started], NULL, read_keys, r) == 0)
        started++;
    (void)read_keys(r);
    for (size_t i = 0; i < started; i++)
        (void)pthread_join(threads[i], NULL);
}

static loch_status open_found(struct loch_pageserver *ps, const struct found_ids *found)
{
    struct loch_failure *results = calloc(found->count + 1, sizeof *results);
    struct key_reading reading = {.ps = ps, .found = found, .results = results};
    loch_status st = LOCH_OK;
    if (results == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a list of tenants");
    read_all_keys(&reading);
    for (size_t i = 0; i < found->count && loch_is_ok(st); i++)
        st = open_tenant(ps, &found->items[i], &results[i]);
    free(results);
    return st;
}

LOCH_STATUS loch_tenants_open(struct loch_pageserver *ps)
{
    struct found_ids found = {0};
    loch_status st = loch_objstore_list(ps->objstore, "tenants/", see_object, &found);
    if (loch_is_ok(st) && found.no_memory)
        st = LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a list of tenants");
    if (loch_is_ok(st))
        tenant_sweep_unfinished(ps, found.items, found.count);
    if (loch_is_ok(st))
        st = open_found(ps, &found);
    free(found.items);
    return st;
}

void loch_tenants_close(struct loch_pageserver *ps)
{
    while (ps->tenants != NULL) {
        struct loch_tenant *tenant = ps->tenants;
        loch_tenant_delist(ps, tenant);
        loch_tenant_manifest_fini(&tenant->manifest);
        free(tenant);
    }
}
