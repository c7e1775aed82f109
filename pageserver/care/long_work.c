/* Threads that come with the work and go when the line is empty. Invariant: while there is a line,
 * there is a thread that will come to it; so work begins also when no further thread can. */
#include "long_work.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/base/stack.h"

#include <pthread.h>
#include <stdlib.h>

struct loch_long_work {
    struct loch_id tenant;
    bool hurried;
    loch_call_fn work, done;
    void *arg;
    struct loch_long_work *next; /* in line */
};

struct worker {
    struct loch_pageserver *ps;
    pthread_t thread;
};

/* Guards the line and the count of threads that serve it. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* The link to the first that is hurried; to NULL when none is. Lock held. */
static struct loch_long_work **find_hurried(struct loch_long_works *works)
{
    struct loch_long_work **link = &works->first;
    while (*link != NULL && !(*link)->hurried)
        link = &(*link)->next;
    return link;
}

/* ---- on a thread of its own ---- */

/* NULL: there is nothing for this thread, which serves no more. */
static struct loch_long_work *take(struct loch_long_works *works)
{
    pthread_mutex_lock(&lock);
    struct loch_long_work **link = find_hurried(works);
    if (*link == NULL && works->serving <= LOCH_LONG_WORKS_MAX)
        link = &works->first;
    struct loch_long_work *w = *link;
    if (w != NULL)
        *link = w->next;
    else
        works->serving--;
    pthread_mutex_unlock(&lock);
    return w;
}

static void finish(void *arg)
{
    const struct loch_long_work w = *(struct loch_long_work *)arg;
    free(arg);
    w.done(w.arg);
}

static void end_worker(void *arg)
{
    struct worker *worker = arg;
    LOCH_ASSERT(pthread_join(worker->thread, NULL) == 0);
    worker->ps->long_works.threads--;
    free(worker);
}

static void *serve(void *arg)
{
    struct worker *worker = arg;
    struct loch_env *env = worker->ps->env;
    struct loch_long_work *w;
    while ((w = take(&worker->ps->long_works)) != NULL) {
        w->work(w->arg);
        loch_stack_wipe(); /* the next is somebody else's */
        loch_env_post(env, finish, w);
    }
    loch_env_post(env, end_worker, worker);
    return NULL;
}

/* ---- on the loop ---- */

static loch_status begin_worker(struct loch_pageserver *ps)
{
    struct worker *worker = calloc(1, sizeof *worker);
    if (worker == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a command's work");
    worker->ps = ps;
    const loch_status st = loch_pageserver_thread(serve, worker, &worker->thread);
    if (loch_is_ok(st))
        ps->long_works.threads++;
    else
        free(worker);
    return st;
}

/* One thread more, if there may be one and it has something to do. */
static loch_status widen(struct loch_pageserver *ps)
{
    struct loch_long_works *works = &ps->long_works;
    pthread_mutex_lock(&lock);
    const unsigned most = LOCH_LONG_WORKS_MAX + (*find_hurried(works) != NULL);
    const bool wanted = works->first != NULL && works->serving < most;
    works->serving += wanted;
    pthread_mutex_unlock(&lock);
    const loch_status st = wanted ? begin_worker(ps) : LOCH_OK;
    if (!loch_is_ok(st)) {
        pthread_mutex_lock(&lock);
        works->serving--;
        pthread_mutex_unlock(&lock);
    }
    return st;
}

static void join_line(struct loch_long_works *works, struct loch_long_work *w)
{
    struct loch_long_work **end = &works->first;
    pthread_mutex_lock(&lock);
    while (*end != NULL)
        end = &(*end)->next;
    *end = w;
    pthread_mutex_unlock(&lock);
}

/* False when there are threads, one of which comes to it. */
static bool leave_line(struct loch_long_works *works, const struct loch_long_work *w)
{
    pthread_mutex_lock(&lock);
    const bool alone = works->serving == 0;
    if (alone) {
        LOCH_ASSERT(works->first == w);
        works->first = NULL;
    }
    pthread_mutex_unlock(&lock);
    return alone;
}

LOCH_STATUS loch_long_work(struct loch_pageserver *ps, const struct loch_id *tenant,
                           loch_call_fn work, loch_call_fn done, void *arg)
{
    struct loch_long_work *w = malloc(sizeof *w);
    if (w == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a command's work");
    *w = (struct loch_long_work){.tenant = *tenant, .work = work, .done = done, .arg = arg};
    join_line(&ps->long_works, w);
    const loch_status st = widen(ps);
    if (loch_is_ok(st) || !leave_line(&ps->long_works, w))
        return LOCH_OK;
    free(w);
    return st;
}

void loch_long_work_hurry(struct loch_pageserver *ps, const struct loch_id *tenant)
{
    pthread_mutex_lock(&lock);
    for (struct loch_long_work *w = ps->long_works.first; w != NULL; w = w->next)
        w->hurried = w->hurried || loch_id_equal(&w->tenant, tenant);
    pthread_mutex_unlock(&lock);
    if (!loch_is_ok(widen(ps)))
        loch_log_failure("what a tenant that goes dark has in line waits for a thread");
}

bool loch_long_work_any(const struct loch_pageserver *ps)
{
    return ps->long_works.threads > 0;
}
