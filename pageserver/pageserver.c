/* Threads, failures that cross them, and the end of the daemon. */
#include "pageserver.h"

#include "loch/base/check.h"
#include "loch/io/env.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

void loch_failure_set(struct loch_failure *failure, loch_status st)
{
    failure->st = st;
    failure->text[0] = '\0';
    if (!loch_is_ok(st))
        snprintf(failure->text, sizeof failure->text, "%s", loch_error_text());
}

LOCH_STATUS loch_failure_raise(const struct loch_failure *failure)
{
    if (loch_is_ok(failure->st))
        return LOCH_OK;
    return LOCH_FAIL(failure->st.code, "%s", failure->text);
}

LOCH_STATUS loch_pageserver_thread(void *(*run)(void *arg), void *arg, pthread_t *out)
{
    sigset_t all, before;
    (void)sigfillset(&all);
    LOCH_ASSERT(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    const int error = pthread_create(out, NULL, run, arg);
    LOCH_ASSERT(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    if (error != 0)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no thread: %s", strerrordesc_np(error));
    return LOCH_OK;
}

void loch_pageserver_consider_end(void *pageserver)
{
    struct loch_pageserver *ps = pageserver;
    if (ps->stopping && ps->served == NULL && ps->requests == 0)
        loch_env_stop(ps->env);
}
