/* Holds: the pins, in memory and in the daemon's own file.
 *
 * A KMS that was once opened stays open until the end: lookups hand out borrowed pointers. Tenants
 * with the same URI share it. `change` lets one thread at a time change pins and write the file;
 * `lock` is held only to look or to swap, never across I/O.
 */
#include "pins.h"

#include "loch/base/check.h"
#include "loch/io/env.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define PINS_MAX       65536u
#define FILE_MAX_BYTES (80u << 20)

struct pin {
    struct loch_id tenant;
    struct loch_kms *kms; /* borrowed from `opened` */
};

struct kms_pins {
    pthread_rwlock_t lock;
    pthread_mutex_t change;
    struct pin *pins; /* under lock; a tenant's later pin stands behind its earlier one */
    size_t count;
    struct loch_kms **opened; /* under change */
    size_t opened_count;
    struct loch_env *env;
    char *path; /* NULL: kept in memory only */
};

loch_status kms_pins_create(struct kms_pins **out)
{
    struct kms_pins *pins = calloc(1, sizeof *pins);

    if (pins == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for pins");
    if (pthread_rwlock_init(&pins->lock, NULL) != 0 ||
        pthread_mutex_init(&pins->change, NULL) != 0) {
        free(pins);
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no lock for pins");
    }
    *out = pins;
    return LOCH_OK;
}

void kms_pins_destroy(struct kms_pins *pins)
{
    if (pins == NULL)
        return;
    for (size_t i = 0; i < pins->opened_count; i++)
        loch_kms_close(pins->opened[i]);
    free(pins->opened);
    free(pins->pins);
    free(pins->path);
    (void)pthread_rwlock_destroy(&pins->lock);
    (void)pthread_mutex_destroy(&pins->change);
    free(pins);
}

/* Under change. */
static loch_status open_shared(struct kms_pins *pins, const char *uri, const char *const *data_dirs,
                               struct loch_kms **out)
{
    for (size_t i = 0; i < pins->opened_count; i++) {
        if (strcmp(loch_kms_uri(pins->opened[i]), uri) == 0) {
            *out = pins->opened[i];
            return LOCH_OK;
        }
    }
    struct loch_kms **more =
        realloc(pins->opened, (pins->opened_count + 1) * sizeof(struct loch_kms *));
    if (more == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for pins");
    pins->opened = more;
    LOCH_TRY(kms_open_one(uri, data_dirs, &pins->opened[pins->opened_count]));
    *out = pins->opened[pins->opened_count++];
    return LOCH_OK;
}

/* A copy with room for one more; the caller owns it. Under change. */
static loch_status copy_of(const struct kms_pins *pins, struct pin **out)
{
    struct pin *copy = calloc(pins->count + 1, sizeof *copy);

    if (copy == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %zu pins", pins->count);
    if (pins->count > 0)
        memcpy(copy, pins->pins, pins->count * sizeof *copy);
    *out = copy;
    return LOCH_OK;
}

/* Leaves out the tenant's pin at `uri` (NULL: every one) and returns how many are left. */
static size_t leave_out(struct pin *list, size_t count, const struct loch_id *tenant,
                        const char *uri)
{
    size_t kept = 0;

    for (size_t i = 0; i < count; i++)
        if (!loch_id_equal(&list[i].tenant, tenant) ||
            (uri != NULL && strcmp(loch_kms_uri(list[i].kms), uri) != 0))
            list[kept++] = list[i];
    return kept;
}

static loch_status write_file(const struct kms_pins *pins, const struct pin *list, size_t count)
{
    static const char head[] = "# Tenants whose CMK is not the daemon's: tenant id, KMS URI.\n";
    char id[LOCH_ID_TEXT_BYTES];
    struct loch_buf text = {0};
    loch_status st;

    if (pins->path == NULL)
        return LOCH_OK;
    LOCH_TRY_OUT(st, loch_buf_append(&text, head, sizeof head - 1));
    for (size_t i = 0; i < count; i++) {
        const char *uri = loch_kms_uri(list[i].kms);
        LOCH_TRY_OUT(st, loch_buf_append(&text, loch_id_format(&list[i].tenant, id), 32));
        LOCH_TRY_OUT(st, loch_buf_append(&text, " ", 1));
        LOCH_TRY_OUT(st, loch_buf_append(&text, uri, strlen(uri)));
        LOCH_TRY_OUT(st, loch_buf_append(&text, "\n", 1));
    }
    st = loch_env_replace_file(pins->env, pins->path, loch_buf_slice(&text));
out:
    loch_buf_fini(&text);
    return st;
}

static void swap_in(struct kms_pins *pins, struct pin *take_list, size_t count)
{
    const int rc = pthread_rwlock_wrlock(&pins->lock);
    LOCH_ASSERT(rc == 0);
    struct pin *gone = pins->pins;
    pins->pins = take_list;
    pins->count = count;
    (void)pthread_rwlock_unlock(&pins->lock);
    free(gone);
}

/* A URI is one word of printable ASCII: it stands in a line of text. */
static loch_status check_uri(const char *uri)
{
    for (const char *p = uri; *p != '\0'; p++)
        if (*p <= ' ' || *p > '~')
            return LOCH_FAIL(LOCH_E_INVALID, "a KMS URI holds no spaces or control characters: "
                                             "write them as %%20 and the like");
    return LOCH_OK;
}

/* Under change. */
static loch_status add(struct kms_pins *pins, const struct loch_id *tenant, const char *uri,
                       const char *const *data_dirs, bool write)
{
    struct loch_kms *kms = NULL;
    struct pin *list = NULL;

    LOCH_TRY(check_uri(uri));
    if (pins->count >= PINS_MAX)
        return LOCH_FAIL(LOCH_E_LIMIT, "at most %u pins", PINS_MAX);
    LOCH_TRY(open_shared(pins, uri, data_dirs, &kms));
    LOCH_TRY(copy_of(pins, &list));
    size_t count = leave_out(list, pins->count, tenant, uri);
    list[count++] = (struct pin){*tenant, kms};
    const loch_status st = write ? write_file(pins, list, count) : LOCH_OK;
    if (!loch_is_ok(st)) {
        free(list);
        return st;
    }
    swap_in(pins, list, count);
    return LOCH_OK;
}

loch_status kms_pins_add(struct kms_pins *pins, const struct loch_id *tenant, const char *uri,
                         const char *const *data_dirs)
{
    LOCH_ASSERT(!loch_id_is_none(tenant));
    (void)pthread_mutex_lock(&pins->change);
    const loch_status st = add(pins, tenant, uri, data_dirs, true);
    (void)pthread_mutex_unlock(&pins->change);
    return st;
}

loch_status kms_pins_remove(struct kms_pins *pins, const struct loch_id *tenant, const char *uri)
{
    struct pin *list = NULL;
    size_t count = 0;

    (void)pthread_mutex_lock(&pins->change);
    loch_status st = copy_of(pins, &list);
    if (loch_is_ok(st)) {
        count = leave_out(list, pins->count, tenant, uri);
        st = count == pins->count ? LOCH_OK : write_file(pins, list, count);
    }
    if (loch_is_ok(st))
        swap_in(pins, list, count);
    else
        free(list);
    (void)pthread_mutex_unlock(&pins->change);
    return st;
}

struct loch_kms *kms_pins_find(struct kms_pins *pins, const struct loch_id *tenant, const char *uri)
{
    struct loch_kms *found = NULL;

    const int rc = pthread_rwlock_rdlock(&pins->lock);
    LOCH_ASSERT(rc == 0);
    for (size_t i = 0; i < pins->count; i++) {
        if (!loch_id_equal(&pins->pins[i].tenant, tenant))
            continue;
        found = pins->pins[i].kms;
        if (uri != NULL && strcmp(loch_kms_uri(found), uri) == 0)
            break;
    }
    (void)pthread_rwlock_unlock(&pins->lock);
    return found;
}

void kms_pins_each(struct kms_pins *pins,
                   void (*fn)(void *arg, const struct loch_id *tenant, const struct loch_kms *cmk),
                   void *arg)
{
    const int rc = pthread_rwlock_rdlock(&pins->lock);
    LOCH_ASSERT(rc == 0);
    for (size_t i = 0; i < pins->count; i++)
        fn(arg, &pins->pins[i].tenant, pins->pins[i].kms);
    (void)pthread_rwlock_unlock(&pins->lock);
}

/* ---- the file ---- */

static loch_status take_line(struct kms_pins *pins, char *line, const char *const *data_dirs)
{
    struct loch_id tenant;

    char *at = line + strspn(line, " \t\r");
    if (*at == '\0' || *at == '#')
        return LOCH_OK;
    char *space = at + strcspn(at, " \t");
    char *uri = space + strspn(space, " \t");
    *space = '\0';
    uri[strcspn(uri, " \t\r")] = '\0';
    LOCH_TRY(loch_id_parse(at, &tenant));
    if (loch_id_is_none(&tenant) || *uri == '\0')
        return LOCH_FAIL(LOCH_E_INVALID, "want a tenant's id and a KMS URI");
    return add(pins, &tenant, uri, data_dirs, false);
}

static loch_status take_text(struct kms_pins *pins, const char *path, char *text,
                             const char *const *data_dirs)
{
    char *save = NULL;
    size_t number = 0;

    for (char *at = text; at != NULL; at = save) {
        save = strchr(at, '\n');
        if (save != NULL)
            *save++ = '\0';
        number++;
        const loch_status st = take_line(pins, at, data_dirs);
        if (!loch_is_ok(st))
            return LOCH_FAIL(st.code, "%s:%zu: %s", path, number, loch_error_text());
    }
    return LOCH_OK;
}

loch_status kms_pins_load(struct kms_pins *pins, struct loch_env *env, const char *path,
                          const char *const *data_dirs)
{
    struct loch_buf bytes = {0};
    loch_status st;

    LOCH_ASSERT(pins->path == NULL);
    (void)pthread_mutex_lock(&pins->change);
    st = loch_env_read_file(env, path, FILE_MAX_BYTES, &bytes);
    if (st.code == LOCH_E_NOT_FOUND)
        st = LOCH_OK;
    if (loch_is_ok(st) && bytes.len > 0 && memchr(bytes.data, 0, bytes.len) != NULL)
        st = LOCH_FAIL(LOCH_E_INVALID, "%s is not a text file", path);
    if (loch_is_ok(st))
        st = loch_buf_append(&bytes, "", 1); /* the NUL of a string */
    if (loch_is_ok(st))
        st = take_text(pins, path, (char *)bytes.data, data_dirs);
    if (loch_is_ok(st)) {
        pins->env = env;
        pins->path = strdup(path);
        if (pins->path == NULL)
            st = LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for pins");
    }
    (void)pthread_mutex_unlock(&pins->change);
    loch_buf_fini(&bytes);
    return st;
}
