/* Holds: the face: names checked, back-end called, and the proof that conditional puts are
 * honoured. */
#include "backend.h"

#include "loch/base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '=' || c == '-';
}

/* One component of a name: [from, from + len). */
static bool component_is_good(const char *from, size_t len)
{
    if (len == 0 || len > 200 || from[0] == '.')
        return false;
    if (len >= 4 && memcmp(from + len - 4, ".tmp", 4) == 0)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!name_char(from[i]))
            return false;
    return true;
}

/* `prefix`: a '/' at the end, or nothing at all, is fine too. */
static loch_status check_name(const char *name, bool prefix)
{
    size_t n = strlen(name);
    const char *at = name;

    if (n > LOCH_OBJECT_NAME_MAX || (n == 0 && !prefix))
        return LOCH_FAIL(LOCH_E_INVALID, "an object's name has 1 to %u bytes, not %zu",
                         LOCH_OBJECT_NAME_MAX, n);
    while (*at != '\0') {
        size_t len = strcspn(at, "/");
        if (!component_is_good(at, len))
            return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" is not an object's name", name);
        at += len;
        if (*at == '\0')
            return LOCH_OK;
        at++;
        if (*at == '\0' && !prefix)
            return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" is not an object's name", name);
    }
    return LOCH_OK;
}

void loch_objstore_close(struct loch_objstore *store)
{
    if (store != NULL)
        store->ops->close(store);
}

loch_status loch_objstore_get(struct loch_objstore *store, const char *name, size_t max_bytes,
                              struct loch_buf *out, struct loch_etag *etag)
{
    LOCH_TRY(check_name(name, false));
    return store->ops->get(store, name, max_bytes, out, etag);
}

loch_status loch_objstore_get_range(struct loch_objstore *store, const char *name, uint64_t offset,
                                    size_t len, struct loch_buf *out)
{
    LOCH_TRY(check_name(name, false));
    return store->ops->get_range(store, name, offset, len, out);
}

loch_status loch_objstore_head(struct loch_objstore *store, const char *name, uint64_t *size,
                               struct loch_etag *etag)
{
    LOCH_TRY(check_name(name, false));
    return store->ops->head(store, name, size, etag);
}

static loch_status put(struct loch_objstore *store, const char *name, struct put_condition cond,
                       struct loch_slice bytes, struct loch_etag *etag)
{
    struct loch_etag made;

    LOCH_TRY(check_name(name, false));
    LOCH_TRY(store->ops->put(store, name, cond, bytes, &made));
    if (etag != NULL)
        *etag = made;
    return LOCH_OK;
}

loch_status loch_objstore_put(struct loch_objstore *store, const char *name,
                              struct loch_slice bytes, struct loch_etag *etag)
{
    return put(store, name, (struct put_condition){PUT_ALWAYS, NULL}, bytes, etag);
}

loch_status loch_objstore_put_if_absent(struct loch_objstore *store, const char *name,
                                        struct loch_slice bytes, struct loch_etag *etag)
{
    return put(store, name, (struct put_condition){PUT_IF_ABSENT, NULL}, bytes, etag);
}

loch_status loch_objstore_put_if_match(struct loch_objstore *store, const char *name,
                                       const struct loch_etag *expect, struct loch_slice bytes,
                                       struct loch_etag *etag)
{
    struct loch_etag copy = *expect; /* etag may be the same variable */

    return put(store, name, (struct put_condition){PUT_IF_MATCH, &copy}, bytes, etag);
}

loch_status loch_objstore_delete(struct loch_objstore *store, const char *name)
{
    LOCH_TRY(check_name(name, false));
    return store->ops->delete (store, name);
}

loch_status loch_objstore_list(struct loch_objstore *store, const char *prefix,
                               bool (*fn)(void *arg, const char *name, uint64_t size), void *arg)
{
    LOCH_TRY(check_name(prefix, true));
    return store->ops->list(store, prefix, fn, arg);
}

static loch_status wants(loch_status st, enum loch_code code, const char *what)
{
    if (st.code == code)
        return LOCH_OK;
    /* The medium failing is not the store lying. */
    if (st.code == LOCH_E_IO || st.code == LOCH_E_UNAVAILABLE || st.code == LOCH_E_NO_MEMORY)
        return st;
    return LOCH_FAIL(LOCH_E_UNSUPPORTED,
                     "the object store does not honour conditional puts (%s answers %s, not %s)",
                     what, loch_code_name(st.code), loch_code_name(code));
}

static loch_status probe_steps(struct loch_objstore *store, const char *name)
{
    struct loch_slice one = loch_slice_of("one", 3);
    struct loch_slice two = loch_slice_of("two", 3);
    struct loch_etag first;
    struct loch_etag second;
    struct loch_etag third;
    struct loch_buf back = {0};

    LOCH_TRY(wants(loch_objstore_put_if_absent(store, name, one, &first), LOCH_E_OK, "create"));
    LOCH_TRY(wants(loch_objstore_put_if_absent(store, name, two, NULL), LOCH_E_EXISTS,
                   "create of an existing object"));
    LOCH_TRY(wants(loch_objstore_put_if_match(store, name, &first, two, &second), LOCH_E_OK,
                   "replacement"));
    LOCH_TRY(wants(loch_objstore_put_if_match(store, name, &first, one, NULL), LOCH_E_STALE,
                   "replacement of an older object"));
    loch_status st = loch_objstore_get(store, name, 16, &back, &third);
    bool same = loch_is_ok(st) && back.len == 3 && memcmp(back.data, "two", 3) == 0 &&
                strcmp(second.text, third.text) == 0;
    loch_buf_fini(&back);
    LOCH_TRY(st);
    if (!same)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED, "the object store returns other bytes than were put");
    LOCH_TRY(loch_objstore_delete(store, name));
    return wants(loch_objstore_put_if_match(store, name, &third, one, NULL), LOCH_E_STALE,
                 "replacement of a deleted object");
}

loch_status objstore_probe(struct loch_env *env, struct loch_objstore *store)
{
    struct loch_id id;
    char text[LOCH_ID_TEXT_BYTES];
    char name[64];

    LOCH_TRY(loch_env_random(env, id.bytes, sizeof id.bytes));
    (void)snprintf(name, sizeof name, "probe/%s", loch_id_format(&id, text));
    loch_status st = probe_steps(store, name);
    if (!loch_is_ok(st)) {
        char why[256];
        (void)snprintf(why, sizeof why, "%s", loch_error_text());
        (void)loch_objstore_delete(store, name).code; /* what is left below probe/ harms nobody */
        return LOCH_FAIL(st.code, "%s", why);
    }
    return LOCH_OK;
}
