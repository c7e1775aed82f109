/* The console's commands about history: LSNs and times. */
#include "commands.h"
#include "moment.h"

#include "loch/base/time.h"

#include <stdio.h>
#include <stdlib.h>

#define LSN_TEXT_BYTES 24u

struct asking {
    struct loch_console_request *request;
    bool by_time;
};

/* A time as text, or NULL when there is none. */
static const char *time_or_null(bool known, int64_t us, char text[static LOCH_TIME_TEXT_BYTES])
{
    return known ? loch_time_format(us, text) : NULL;
}

static void moment_found(void *arg, loch_status st, const struct loch_moment *m)
{
    static const char *const names[] = {"lsn", "time", "next_time"};
    struct asking *a = arg;
    struct loch_console_request *request = a->request;
    char lsn[LSN_TEXT_BYTES], before[LOCH_TIME_TEXT_BYTES], later[LOCH_TIME_TEXT_BYTES];
    size_t columns = a->by_time ? 3 : 2;
    free(a);
    if (!loch_is_ok(st)) {
        loch_console_fail(request, st);
        return;
    }
    snprintf(lsn, sizeof lsn, LOCH_LSN_FMT, LOCH_LSN_ARG(m->lsn));
    const char *values[] = {lsn, time_or_null(m->before, m->before_us, before),
                            time_or_null(m->later, m->later_us, later)};
    loch_console_columns(request, names, columns);
    loch_console_row(request, values);
    loch_console_done(request, NULL);
}

static loch_status ask(struct loch_pageserver *ps, struct loch_console_request *request,
                       bool by_time, struct asking *a)
{
    struct loch_tenant *tenant = NULL;
    struct loch_id timeline;
    loch_lsn lsn = LOCH_LSN_NONE;
    int64_t time_us = 0;
    LOCH_TRY(loch_command_tenant(ps, request, &tenant));
    LOCH_TRY(loch_command_timeline(tenant, request, "timeline", &timeline));
    if (loch_console_arg(request, "lsn") != NULL)
        LOCH_TRY(loch_console_arg_lsn(request, "lsn", &lsn));
    *a = (struct asking){request, by_time};
    if (!by_time)
        return loch_moment_of(ps, tenant, &timeline, lsn, moment_found, a);
    LOCH_TRY(loch_time_parse(loch_console_arg(request, "time"), &time_us));
    return loch_moment_find(ps, tenant, &timeline, time_us, lsn, moment_found, a);
}

static void answer(struct loch_pageserver *ps, struct loch_console_request *request, bool by_time)
{
    struct asking *a = malloc(sizeof *a);
    loch_status st = a != NULL ? ask(ps, request, by_time, a)
                               : LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a command");
    if (loch_is_ok(st))
        return;
    free(a);
    loch_console_fail(request, st);
}

void loch_command_show_lsn(void *arg, struct loch_console_request *request)
{
    answer(arg, request, true);
}

void loch_command_show_time(void *arg, struct loch_console_request *request)
{
    answer(arg, request, false);
}
