/* Holds: a thread per call, at most so many at once of a key service, abandoned when it is late. */
#include "deadline.h"

#include "loch/base/check.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

struct job {
    void (*run)(void *arg);
    void (*drop)(void *arg);
    void *arg;
    atomic_int *at_once;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done, abandoned; /* under lock */
};

static void job_free(struct job *job)
{
    (void)pthread_cond_destroy(&job->changed);
    (void)pthread_mutex_destroy(&job->lock);
    free(job);
}

static void *job_main(void *arg)
{
    struct job *job = arg;

    job->run(job->arg);
    atomic_fetch_sub(job->at_once, 1);
    (void)pthread_mutex_lock(&job->lock);
    job->done = true;
    const bool abandoned = job->abandoned;
    (void)pthread_cond_signal(&job->changed);
    (void)pthread_mutex_unlock(&job->lock);
    if (abandoned) {
        job->drop(job->arg);
        job_free(job);
    }
    return NULL;
}

/* True: done. False: abandoned. */
static bool wait_for(struct job *job, unsigned timeout_ms)
{
    struct timespec until;
    int rc = 0;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    (void)pthread_mutex_lock(&job->lock);
    while (!job->done && rc == 0)
        rc = pthread_cond_timedwait(&job->changed, &job->lock, &until);
    const bool done = job->done;
    job->abandoned = !done;
    (void)pthread_mutex_unlock(&job->lock);
    return done;
}

static loch_status job_new(atomic_int *at_once, struct job **out)
{
    pthread_condattr_t attr;
    struct job *job = calloc(1, sizeof *job);

    if (job == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a call of the key service");
    job->at_once = at_once;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    const int rc = pthread_cond_init(&job->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
    LOCH_ASSERT(rc == 0);
    const int lock_rc = pthread_mutex_init(&job->lock, NULL);
    LOCH_ASSERT(lock_rc == 0);
    *out = job;
    return LOCH_OK;
}

static loch_status begin(struct job *job, void (*run)(void *), void (*drop)(void *), void *arg)
{
    pthread_attr_t attr;
    pthread_t thread;

    if (atomic_fetch_add(job->at_once, 1) >= KMS_AT_ONCE_MAX) {
        atomic_fetch_sub(job->at_once, 1);
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "%d calls of the key service hang", KMS_AT_ONCE_MAX);
    }
    job->run = run;
    job->drop = drop;
    job->arg = arg;
    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    const int rc = pthread_create(&thread, &attr, job_main, job);
    (void)pthread_attr_destroy(&attr);
    if (rc != 0) {
        atomic_fetch_sub(job->at_once, 1);
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "no thread for a call of the key service");
    }
    return LOCH_OK;
}

loch_status kms_run_within(atomic_int *at_once, unsigned timeout_ms, void (*run)(void *arg),
                           void (*drop)(void *arg), void *arg)
{
    struct job *job = NULL;

    loch_status st = job_new(at_once, &job);
    if (loch_is_ok(st))
        st = begin(job, run, drop, arg);
    if (!loch_is_ok(st)) {
        if (job != NULL)
            job_free(job);
        drop(arg);
        return st;
    }
    if (!wait_for(job, timeout_ms))
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the key service does not answer within %u ms",
                         timeout_ms);
    job_free(job);
    return LOCH_OK;
}
