/* Holds: the slow check of old WAL files. Invariants: one file at a time, with pauses of several
 * times what it took; a file that a truncation or a trim took away meanwhile is no damage, nor is
 * one that cannot be read for now. */
#include "scrub.h"

#include "loch/base/check.h"
#include "loch/base/log.h"

#include <stdlib.h>

#define PAUSE_TIMES  3u /* a file's time is a quarter of the whole at most */
#define PAUSE_MAX_MS 1000u
#define RETRY_MS     10000u

struct sk_scrub {
    struct sk_timeline *tl;
    struct sk_wal_files files;
    size_t index;
    uint64_t cuts; /* when the list was made */
    uint64_t began_ns;
    struct loch_timer *timer;
    bool working, stopped;
    bool said; /* that a file could not be checked */
    struct sk_failure failure;
};

static void finish(struct sk_scrub *s)
{
    s->tl->scrub = NULL;
    sk_wal_files_fini(&s->files);
    free(s);
}

static void work(void *arg)
{
    struct sk_scrub *s = arg;

    sk_failure_take(&s->failure, sk_wal_verify(s->tl->dir, &s->tl->sealer, &s->files, s->index));
}

static void done(void *arg);

static void begin(void *arg)
{
    struct sk_scrub *s = arg;

    s->timer = NULL;
    if (s->stopped || s->index + 1 >= s->files.count) {
        finish(s);
        return;
    }
    s->began_ns = loch_env_now_ns(s->tl->daemon->env);
    if (!loch_is_ok(loch_env_work(s->tl->daemon->env, work, done, s))) {
        loch_log_failure("cannot check WAL files");
        finish(s);
        return;
    }
    s->working = true;
}

static void go_on(struct sk_scrub *s, uint64_t ms)
{
    if (!loch_is_ok(loch_env_timer(s->tl->daemon->env, ms, &s->timer, begin, s)))
        finish(s);
}

/* The file is no worse for it. Said once. */
static void retry(struct sk_scrub *s)
{
    if (!s->said)
        LOCH_WARN("timeline %s: an old WAL file cannot be checked now, tried again: %s",
                  s->tl->timeline_text, loch_error_text());
    s->said = true;
    go_on(s, RETRY_MS);
}

static void done(void *arg)
{
    struct sk_scrub *s = arg;
    struct sk_timeline *tl = s->tl;
    uint64_t took_ms = (loch_env_now_ns(tl->daemon->env) - s->began_ns) / 1000000;

    s->working = false;
    loch_status st = sk_failure_raise(&s->failure);
    if (s->stopped || s->cuts != sk_store_cuts(tl->store)) {
        finish(s); /* after a cut the next start goes on */
        return;
    }
    if ((st.code == LOCH_E_NOT_FOUND || st.code == LOCH_E_CORRUPT) &&
        s->files.items[s->index].begin < sk_store_first_lsn(tl->store))
        st = LOCH_OK; /* trimmed meanwhile, and perhaps another file by now */
    if (sk_is_shortage(st)) {
        retry(s);
        return;
    }
    if (!loch_is_ok(st)) { /* the next opening begins anew, with keys */
        if (st.code != LOCH_E_KEY_REVOKED && st.code != LOCH_E_KMS_UNAVAILABLE)
            sk_timeline_break(tl, loch_error_text());
        finish(s);
        return;
    }
    s->index++;
    go_on(s, loch_min_u64(took_ms * PAUSE_TIMES, PAUSE_MAX_MS));
}

loch_status sk_scrub_start(struct sk_timeline *tl)
{
    struct sk_scrub *s = calloc(1, sizeof *s);
    loch_status st;

    LOCH_ASSERT(tl->scrub == NULL);
    if (s == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory to check WAL files");
    s->tl = tl;
    s->cuts = sk_store_cuts(tl->store);
    LOCH_TRY_OUT(st, sk_store_files(tl->store, &s->files));
    LOCH_TRY_OUT(st, loch_env_timer(tl->daemon->env, PAUSE_MAX_MS, &s->timer, begin, s));
    tl->scrub = s;
    return LOCH_OK;
out:
    sk_wal_files_fini(&s->files);
    free(s);
    return st;
}

void sk_scrub_stop(struct sk_timeline *tl)
{
    struct sk_scrub *s = tl->scrub;

    if (s == NULL)
        return;
    s->stopped = true;
    if (s->timer != NULL) {
        loch_timer_cancel(s->timer);
        s->timer = NULL;
    }
    if (!s->working)
        finish(s);
}

bool sk_scrub_idle(const struct sk_timeline *tl)
{
    return tl->scrub == NULL;
}
