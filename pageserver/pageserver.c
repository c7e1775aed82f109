/* Failures that cross threads; the end of the daemon. */
#include "pageserver.h"

#include "loch/io/env.h"

#include <stdio.h>

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

void loch_pageserver_consider_end(void *pageserver)
{
    struct loch_pageserver *ps = pageserver;
    if (ps->stopping && ps->served == NULL && ps->requests == 0)
        loch_env_stop(ps->env);
}
