/* Holds: the witness' record, the comparison at start, and the beats.
 *
 *   directory <hex>     random, made with the directory
 *   boot <hex>          of the process that wrote it
 *   beat <number>       from 1
 *   check <hex>         CRC-32C of the lines before
 *
 * Invariant: a beat is durable in the directory before the store has it, so that a directory whose
 * beat is lower than the store's is not the one that served last. Twin: docs/format/README.md. */
#include "witness.h"

#include "drop.h"
#include "sealer.h"

#include "loch/base/check.h"
#include "loch/base/crc32c.h"
#include "loch/base/log.h"

#include <stdio.h>
#include <stdlib.h>

#define PATH_BYTES 1024u
#define WHY_BYTES  400u /* of the mark; SK_TEXT_BYTES must hold it */

struct sk_witness {
    struct sk_witness_options o;
    char path[PATH_BYTES], name[80];
    struct sk_witness_record now;
    struct loch_etag etag;
    uint64_t seen_work, sent_work; /* the loop's; what the beat under way covers */
    uint64_t dirty_ns;             /* since when there is work without a beat; 0: there is none */
    uint64_t beat_ns;
    bool beating, told;
    struct sk_failure failure;
};

/* ---- the record ---- */

static uint32_t check_of(const char *text, size_t len)
{
    return loch_crc32c_finish(loch_crc32c_update(LOCH_CRC32C_INIT, text, len));
}

size_t sk_witness_format(const struct sk_witness_record *r, char out[static SK_WITNESS_BYTES])
{
    char a[LOCH_ID_TEXT_BYTES];
    char b[LOCH_ID_TEXT_BYTES];

    const int n = snprintf(out, SK_WITNESS_BYTES, "directory %s\nboot %s\nbeat %" PRIu64 "\n",
                           loch_id_format(&r->directory, a), loch_id_format(&r->boot, b), r->beat);
    const int m = snprintf(out + n, SK_WITNESS_BYTES - (size_t)n, "check %08" PRIx32 "\n",
                           check_of(out, (size_t)n));
    return (size_t)(n + m);
}

loch_status sk_witness_parse(const char *what, struct loch_slice text,
                             struct sk_witness_record *out)
{
    char copy[SK_WITNESS_BYTES + 1] = "";
    char again[SK_WITNESS_BYTES];
    char directory[40] = "";
    char boot[40] = "";
    struct sk_witness_record r = {0};

    memcpy(copy, text.data, loch_min_u64(text.len, SK_WITNESS_BYTES));
    const int n =
        sscanf(copy, "directory %39s\nboot %39s\nbeat %" SCNu64, directory, boot, &r.beat);
    /* One form only: what is read must be what would be written, its check included. */
    if (n != 3 || r.beat == 0 || !loch_is_ok(loch_id_parse(directory, &r.directory)) ||
        !loch_is_ok(loch_id_parse(boot, &r.boot)) || sk_witness_format(&r, again) != text.len ||
        memcmp(again, copy, text.len) != 0)
        return LOCH_FAIL(LOCH_E_CORRUPT, "%s is damaged", what);
    *out = r;
    return LOCH_OK;
}

static loch_status read_file(const struct sk_witness *w, struct sk_witness_record *out)
{
    struct loch_buf text = {0};

    loch_status st = loch_env_read_file(w->o.env, w->path, SK_WITNESS_BYTES, &text);
    if (st.code == LOCH_E_NOT_FOUND)
        st = LOCH_OK;
    else if (loch_is_ok(st))
        st = sk_witness_parse(w->path, loch_buf_slice(&text), out);
    loch_buf_fini(&text);
    return st;
}

static loch_status read_object(struct sk_witness *w, struct sk_witness_record *out)
{
    struct loch_buf text = {0};

    w->etag = (struct loch_etag){0};
    loch_status st = loch_objstore_get(w->o.store, w->name, SK_WITNESS_BYTES, &text, &w->etag);
    if (st.code == LOCH_E_NOT_FOUND)
        st = LOCH_OK;
    else if (loch_is_ok(st))
        st = sk_witness_parse(w->name, loch_buf_slice(&text), out);
    loch_buf_fini(&text);
    return st;
}

/* The object is not the one that was put last. That may be a put whose answer was lost, or a store
 * that was wound back: then the object is behind. What is ahead is another process'. */
static loch_status look_again(struct sk_witness *w, bool *behind)
{
    struct sk_witness_record there = {0};

    LOCH_TRY(read_object(w, &there));
    const bool ours = loch_id_equal(&there.boot, &w->now.boot);
    *behind = there.beat == 0 ||
              (loch_id_equal(&there.directory, &w->now.directory) && there.beat < w->now.beat);
    if (!*behind && !(ours && there.beat == w->now.beat))
        return LOCH_FAIL(LOCH_E_STALE,
                         "another process serves as this node: %s is not what this one wrote last",
                         w->name);
    if (*behind && !ours)
        LOCH_WARN("the store has been wound back: %s is of beat %" PRIu64 ", %s of %" PRIu64
                  "; it is written anew",
                  w->name, there.beat, w->path, w->now.beat);
    return LOCH_OK;
}

static loch_status put(struct sk_witness *w, struct loch_slice bytes)
{
    if (w->etag.text[0] == '\0')
        return loch_objstore_put_if_absent(w->o.store, w->name, bytes, &w->etag);
    return loch_objstore_put_if_match(w->o.store, w->name, &w->etag, bytes, &w->etag);
}

/* Writes w->now here, then there. Blocks. */
static loch_status beat(struct sk_witness *w)
{
    char text[SK_WITNESS_BYTES];
    const struct loch_slice bytes = loch_slice_of(text, sk_witness_format(&w->now, text));

    bool behind = false;

    LOCH_TRY(loch_env_replace_file(w->o.env, w->path, bytes));
    const loch_status st = put(w, bytes);
    if (st.code != LOCH_E_STALE && st.code != LOCH_E_EXISTS)
        return st;
    LOCH_TRY(look_again(w, &behind));
    return behind ? put(w, bytes) : LOCH_OK;
}

/* ---- the start ---- */

struct marking {
    const struct sk_witness *w;
    const char *why;
    char tenant[LOCH_ID_TEXT_BYTES];
    uint32_t count;
    loch_status st;
};

/* Directories that a drop or a creation cut short left behind hold no timeline. */
static bool mark_timeline(void *arg, const char *name)
{
    struct marking *m = arg;
    struct sk_dir_content content;
    struct loch_id id;
    char path[PATH_BYTES + 160];

    if (!loch_is_ok(loch_id_parse(name, &id)))
        return true;
    (void)snprintf(path, sizeof path, "%s/tenants/%s/timelines/%s", m->w->o.dir, m->tenant, name);
    m->st = sk_dir_look(m->w->o.env, path, &content);
    if (!loch_is_ok(m->st) || !content.any || content.dropped)
        return loch_is_ok(m->st);
    (void)snprintf(path, sizeof path, "%s/tenants/%s/timelines/%s/" SK_PUT_BACK_NAME, m->w->o.dir,
                   m->tenant, name);
    m->st = loch_env_replace_file(m->w->o.env, path, loch_slice_of(m->why, strlen(m->why)));
    m->count++;
    return loch_is_ok(m->st);
}

static bool mark_tenant(void *arg, const char *name)
{
    struct marking *m = arg;
    struct loch_id id;
    char path[PATH_BYTES + 80];

    if (!loch_is_ok(loch_id_parse(name, &id)))
        return true;
    (void)loch_id_format(&id, m->tenant);
    (void)snprintf(path, sizeof path, "%s/tenants/%s/timelines", m->w->o.dir, name);
    const loch_status st = loch_env_list_dir(m->w->o.env, path, mark_timeline, m);
    if (loch_is_ok(m->st) && !loch_is_ok(st) && st.code != LOCH_E_NOT_FOUND)
        m->st = st;
    return loch_is_ok(m->st);
}

/* Durable before the next beat, which would hide what has happened. */
static loch_status mark_all(const struct sk_witness *w, const char *why)
{
    struct marking m = {.w = w, .why = why, .st = LOCH_OK};
    char path[PATH_BYTES + 16];

    (void)snprintf(path, sizeof path, "%s/tenants", w->o.dir);
    const loch_status st = loch_env_list_dir(w->o.env, path, mark_tenant, &m);
    LOCH_TRY(m.st);
    if (!loch_is_ok(st) && st.code != LOCH_E_NOT_FOUND)
        return st;
    if (m.count > 0)
        LOCH_ERROR(
            "%s was put back from an older copy (%s): it has forgotten what it acknowledged, "
            "and none of its %" PRIu32 " timelines is served. `loch safekeeper settle` "
            "throws them away and lets them join anew",
            w->o.dir, why, m.count);
    return LOCH_OK;
}

/* Is the directory the one that served last? `why`: empty when it is. */
static void compare(const struct sk_witness *w, const struct sk_witness_record *here,
                    const struct sk_witness_record *there, char why[static WHY_BYTES])
{
    why[0] = '\0';
    if (there->beat == 0 && here->beat > 1)
        LOCH_WARN("the store has been wound back: it has no %s; it is written anew", w->name);
    if (there->beat == 0)
        return; /* nobody has served as this node yet, as far as anybody knows */
    if (here->beat == 0)
        (void)snprintf(why, WHY_BYTES, "%s is missing, and another directory has served since",
                       w->path);
    else if (!loch_id_equal(&here->directory, &there->directory))
        (void)snprintf(why, WHY_BYTES, "another directory has served as this node since %s",
                       w->path);
    else if (here->beat < there->beat)
        (void)snprintf(why, WHY_BYTES, "%s is of beat %" PRIu64 ", the store has seen %" PRIu64,
                       w->path, here->beat, there->beat);
    else if (here->beat > there->beat + 1)
        LOCH_WARN("the store is behind: it could not be written, or was wound back: %s is of beat "
                  "%" PRIu64 ", %s of %" PRIu64,
                  w->name, there->beat, w->path, here->beat);
}

static loch_status first_beat(struct sk_witness *w)
{
    struct sk_witness_record here = {0};
    struct sk_witness_record there = {0};
    char why[WHY_BYTES];

    LOCH_TRY(read_file(w, &here));
    LOCH_TRY(read_object(w, &there));
    compare(w, &here, &there, why);
    if (why[0] != '\0')
        LOCH_TRY(mark_all(w, why));
    w->now = (struct sk_witness_record){here.directory, w->o.boot,
                                        loch_max_u64(here.beat, there.beat) + 1};
    if (here.beat == 0 || why[0] != '\0')
        LOCH_TRY(loch_env_random(w->o.env, w->now.directory.bytes, sizeof w->now.directory.bytes));
    return beat(w);
}

loch_status sk_witness_enter(const struct sk_witness_options *options, struct sk_witness **out)
{
    struct sk_witness *w = calloc(1, sizeof *w);
    char node[LOCH_ID_TEXT_BYTES];

    if (w == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for the node's witness");
    w->o = *options;
    (void)snprintf(w->path, sizeof w->path, "%s/daemon.witness", options->dir);
    (void)snprintf(w->name, sizeof w->name, "nodes/%s/witness",
                   loch_id_format(&options->node, node));
    const loch_status st = first_beat(w);
    if (!loch_is_ok(st)) {
        free(w);
        return st;
    }
    w->beat_ns = loch_env_now_ns(w->o.env);
    *out = w;
    return LOCH_OK;
}

/* ---- beats ---- */

static void beat_work(void *arg)
{
    struct sk_witness *w = arg;

    sk_failure_take(&w->failure, beat(w));
}

static void beat_done(void *arg)
{
    struct sk_witness *w = arg;
    const loch_status st = sk_failure_raise(&w->failure);

    w->beating = false;
    if (st.code == LOCH_E_STALE) {
        w->o.usurped(w->o.arg, st);
        return;
    }
    if (!loch_is_ok(st)) {
        if (!w->told)
            loch_log_failure("the node's witness cannot be written; it is tried again");
        w->told = true;
        return; /* the next has a number of its own: a copy made meanwhile must be behind it */
    }
    w->told = false;
    if (w->sent_work == w->seen_work)
        w->dirty_ns = 0;
    else
        w->dirty_ns = w->beat_ns;
}

void sk_witness_tick(struct sk_witness *w, uint64_t work)
{
    const uint64_t now_ns = loch_env_now_ns(w->o.env);

    if (work != w->seen_work && w->dirty_ns == 0)
        w->dirty_ns = now_ns;
    w->seen_work = work;
    if (w->beating || w->dirty_ns == 0 || now_ns - w->beat_ns < w->o.interval_ms * 1000000u)
        return;
    w->now.beat++;
    w->sent_work = work;
    w->beat_ns = now_ns;
    w->beating = loch_is_ok(loch_env_work(w->o.env, beat_work, beat_done, w));
    if (!w->beating)
        loch_log_failure("the node's witness cannot be written");
}

bool sk_witness_idle(const struct sk_witness *w)
{
    return !w->beating;
}

uint64_t sk_witness_lag_ms(const struct sk_witness *w)
{
    return w->dirty_ns == 0 ? 0 : (loch_env_now_ns(w->o.env) - w->dirty_ns) / 1000000u;
}

void sk_witness_leave(struct sk_witness *w, uint64_t work)
{
    LOCH_ASSERT(!w->beating);
    if (work == w->seen_work && w->dirty_ns == 0)
        return;
    w->now.beat++;
    if (!loch_is_ok(beat(w)))
        loch_log_failure("the node's witness cannot be written at the stop");
}

void sk_witness_destroy(struct sk_witness *w)
{
    free(w);
}
