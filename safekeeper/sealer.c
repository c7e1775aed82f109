/* Holds: failures that cross threads. */
#include "sealer.h"

#include <stdio.h>

void sk_failure_take(struct sk_failure *failure, loch_status st)
{
    failure->code = st.code;
    failure->text[0] = '\0';
    if (!loch_is_ok(st))
        (void)snprintf(failure->text, sizeof failure->text, "%s", loch_error_text());
}

loch_status sk_failure_raise(const struct sk_failure *failure)
{
    if (failure->code == LOCH_E_OK)
        return LOCH_OK;
    return LOCH_FAIL(failure->code, "%s", failure->text);
}
