/* Holds: PIN TENANT and UNPIN TENANT. The key service may take its time: pool threads ask it. */
#include "loch/host/pin_command.h"

#include "loch/io/env.h"
#include "loch/kms/kms.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pinning {
    struct loch_kms *kms;
    struct loch_console_request *request;
    struct loch_id tenant;
    char *uri; /* NULL: all */
    bool unpin;
    loch_status st;
    char text[400];
};

loch_status loch_pin_checked(struct loch_kms *kms, const struct loch_id *tenant, const char *uri)
{
    const struct loch_kms *before = loch_kms_for(kms, tenant, uri);
    const bool had = before != kms && strcmp(loch_kms_uri(before), uri) == 0;

    LOCH_TRY(loch_kms_pin(kms, tenant, uri));
    const loch_status st = loch_kms_check(loch_kms_for(kms, tenant, uri), NULL, NULL);
    if (loch_is_ok(st) || had)
        return st;
    char why[400];
    (void)snprintf(why, sizeof why, "%s", loch_error_text());
    LOCH_TRY(loch_kms_unpin(kms, tenant, uri));
    return LOCH_FAIL(st.code, "the CMK is %s: %s",
                     st.code == LOCH_E_DENIED ? "DENIED" : loch_code_name(st.code), why);
}

static void work(void *arg)
{
    struct pinning *p = arg;

    p->st = p->unpin ? loch_kms_unpin(p->kms, &p->tenant, p->uri)
                     : loch_pin_checked(p->kms, &p->tenant, p->uri);
    if (!loch_is_ok(p->st))
        (void)snprintf(p->text, sizeof p->text, "%s", loch_error_text());
}

static void done(void *arg)
{
    struct pinning *p = arg;

    if (loch_is_ok(p->st))
        loch_console_done(p->request, p->unpin ? "UNPIN TENANT" : "PIN TENANT");
    else
        loch_console_fail(p->request, LOCH_FAIL(p->st.code, "%s", p->text));
    free(p->uri);
    free(p);
}

static loch_status begin(struct loch_env *env, struct loch_kms *kms,
                         struct loch_console_request *request, bool unpin)
{
    const char *uri = loch_console_arg(request, "uri");
    struct loch_id tenant;

    LOCH_TRY(loch_console_arg_id(request, "tenant", &tenant));
    if (loch_id_is_none(&tenant))
        return LOCH_FAIL(LOCH_E_INVALID, "no tenant has an id of zeros");
    struct pinning *p = calloc(1, sizeof *p);
    if (p == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a command");
    *p = (struct pinning){.kms = kms, .request = request, .tenant = tenant, .unpin = unpin};
    p->uri = uri == NULL ? NULL : strdup(uri);
    loch_status st = LOCH_OK;
    if (uri != NULL && p->uri == NULL)
        st = LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a command");
    if (loch_is_ok(st))
        st = loch_env_work(env, work, done, p);
    if (!loch_is_ok(st)) {
        free(p->uri);
        free(p);
    }
    return st;
}

void loch_pin_command(struct loch_env *env, struct loch_kms *kms,
                      struct loch_console_request *take_request)
{
    const loch_status st = begin(env, kms, take_request, false);

    if (!loch_is_ok(st))
        loch_console_fail(take_request, st);
}

void loch_unpin_command(struct loch_env *env, struct loch_kms *kms,
                        struct loch_console_request *take_request)
{
    const loch_status st = begin(env, kms, take_request, true);

    if (!loch_is_ok(st))
        loch_console_fail(take_request, st);
}

static void pin_row(void *arg, const struct loch_id *tenant, const struct loch_kms *cmk)
{
    char id[LOCH_ID_TEXT_BYTES];
    const char *const values[] = {loch_id_format(tenant, id), loch_kms_uri(cmk),
                                  loch_kms_customer_held(cmk) ? "customer-held"
                                                              : "not customer-held"};

    loch_console_row(arg, values);
}

void loch_show_pins_command(struct loch_kms *kms, struct loch_console_request *take_request)
{
    static const char *const names[] = {"tenant", "uri", "holder"};

    loch_console_columns(take_request, names, 3);
    loch_kms_each_pin(kms, pin_row, take_request);
    loch_console_done(take_request, NULL);
}
