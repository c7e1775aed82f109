/* Failures that cross threads. */
#include "pageserver.h"

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
