/* Holds: spare WAL files. A file that was trimmed becomes the next new one under another name, so
 * that the file system need not make its blocks valid at each synced write.
 *
 * Invariants: a spare file has its own name durably before a byte of it changes: a power cut must
 * not bring it back as the WAL file it was; it is no WAL file until its new head is durable and
 * then its new name (wal_begin.c). What it held stays behind the new head until it is overwritten:
 * sealed under another key for another place, so no reader takes it for WAL (format/wal.md).
 * Spares are of use to a timeline that writes: one that rests or is held gives them back, and a
 * restart deletes them.
 */
#include "wal_store_impl.h"

#include "loch/base/check.h"
#include "loch/base/log.h"

#include <stdio.h>
#include <stdlib.h>

#define SUFFIX ".spare"

void sk_spare_path(const char *dir, uint64_t seq, char out[static SK_PATH_BYTES])
{
    (void)snprintf(out, SK_PATH_BYTES, "%s/%016" PRIx64 SUFFIX, dir, seq);
}

bool sk_spare_is_name(const char *name)
{
    const size_t len = strlen(name);

    return len > strlen(SUFFIX) && strcmp(name + len - strlen(SUFFIX), SUFFIX) == 0;
}

size_t sk_spares_wanted(struct sk_store *s, const struct sk_wal_files *gone, uint64_t bytes)
{
    const size_t most = loch_min_u64(s->spares.begun, SK_SPARES_MAX);
    uint64_t sum = 0;
    size_t n = 0;

    s->spares.begun = 0;
    for (size_t i = 0; i < s->spares.count; i++)
        sum += s->spares.items[i].bytes;
    while (n < gone->count && s->spares.count + n < most && gone->items[n].bytes >= s->file_bytes &&
           bytes - loch_min_u64(sum, bytes) >= gone->items[n].bytes)
        sum += gone->items[n++].bytes;
    return n;
}

void sk_spares_add(struct sk_store *s, struct sk_spare spare)
{
    LOCH_ASSERT(s->spares.count < SK_SPARES_MAX);
    s->spares.items[s->spares.count++] = spare;
}

void sk_spares_take(struct sk_store *s, struct sk_spare *out)
{
    if (s->spares.count > 0)
        *out = s->spares.items[--s->spares.count];
}

uint64_t sk_store_spare_bytes(const struct sk_store *s)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < s->spares.count; i++)
        sum += s->spares.items[i].bytes;
    return sum;
}

/* ---- giving them back ---- */

struct drop_job {
    struct sk_store *s;
    struct sk_spares spares;
    struct sk_failure failure;
};

static void drop_work(void *arg)
{
    struct drop_job *job = arg;
    char path[SK_PATH_BYTES];
    loch_status st = LOCH_OK;

    for (size_t i = 0; i < job->spares.count; i++) {
        sk_spare_path(job->s->dir, job->spares.items[i].seq, path);
        loch_status one = loch_env_unlink(job->s->sealer.env, path);
        if (!loch_is_ok(one))
            st = one;
    }
    sk_failure_take(&job->failure, st);
}

static void drop_done(void *arg)
{
    struct drop_job *job = arg;

    job->s->reads--;
    if (!loch_is_ok(sk_failure_raise(&job->failure)))
        loch_log_failure("cannot delete spare WAL files");
    free(job);
}

void sk_store_drop_spares(struct sk_store *s)
{
    struct drop_job *job;

    s->spares.begun = 0;
    if (s->spares.count == 0)
        return;
    job = calloc(1, sizeof *job);
    if (job == NULL)
        return; /* the next tick tries again */
    job->s = s;
    job->spares = s->spares;
    if (!loch_is_ok(loch_env_work(s->sealer.env, drop_work, drop_done, job))) {
        free(job);
        return;
    }
    s->reads++;
    s->spares.count = 0;
}

struct clearing {
    struct loch_env *env;
    const char *dir;
    loch_status st;
};

static bool clear_name(void *arg, const char *name)
{
    struct clearing *c = arg;
    char path[SK_PATH_BYTES];

    if (!sk_spare_is_name(name))
        return true;
    (void)snprintf(path, sizeof path, "%s/%s", c->dir, name);
    c->st = loch_env_unlink(c->env, path);
    return loch_is_ok(c->st);
}

loch_status sk_spares_clear(struct loch_env *env, const char *dir)
{
    struct clearing c = {.env = env, .dir = dir, .st = LOCH_OK};

    LOCH_TRY(loch_env_list_dir(env, dir, clear_name, &c));
    return c.st;
}
