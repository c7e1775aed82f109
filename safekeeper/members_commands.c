/* Holds: the console commands about memberships. */
#include "members_commands.h"
#include "members.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_BYTES 4096u

/* "member@node@address,..." */
static loch_status read_list(const char *text, struct sk_members_order *order)
{
    char copy[LIST_BYTES];
    char *save = NULL;

    if (text == NULL || strlen(text) >= sizeof copy)
        return LOCH_FAIL(LOCH_E_INVALID, "the list of members is too long");
    (void)snprintf(copy, sizeof copy, "%s", text);
    for (char *each = strtok_r(copy, ",", &save); each != NULL; each = strtok_r(NULL, ",", &save)) {
        char *node = strchr(each, '@');
        char *address = node != NULL ? strchr(node + 1, '@') : NULL;
        if (address == NULL || address[1] == '\0' ||
            strlen(address + 1) >= LOCH_MEMBER_ADDRESS_BYTES || order->to_count == LOCH_MEMBERS_MAX)
            return LOCH_FAIL(LOCH_E_INVALID,
                             "members are \"id@node@address,...\", at most %u of them",
                             LOCH_MEMBERS_MAX);
        *node++ = '\0';
        *address++ = '\0';
        if (!loch_member_address_valid(loch_slice_of(address, strlen(address))))
            return LOCH_FAIL(LOCH_E_INVALID,
                             "a member's address is printable ASCII without blanks: host:port");
        struct loch_member *m = &order->to[order->to_count];
        LOCH_TRY(loch_id_parse(each, &m->id));
        LOCH_TRY(loch_id_parse(node, &m->node));
        (void)snprintf(m->address, sizeof m->address, "%s", address);
        order->to_count++;
    }
    return LOCH_OK;
}

static loch_status give(struct sk_daemon *d, struct loch_console_request *request,
                        enum sk_members_step step)
{
    struct sk_members_order order = {.step = step};
    struct loch_id tenant;
    struct loch_id timeline;

    LOCH_TRY(loch_console_arg_id(request, "tenant", &tenant));
    LOCH_TRY(loch_console_arg_id(request, "timeline", &timeline));
    struct sk_timeline *tl = sk_daemon_find(d, &tenant, &timeline);
    if (tl == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "this safekeeper has no such timeline");
    if (step != SK_MEMBERS_READ && step != SK_MEMBERS_FORM)
        LOCH_TRY(loch_console_arg_u64(request, "generation", &order.from));
    if (step == SK_MEMBERS_FORM || step == SK_MEMBERS_CHANGE)
        LOCH_TRY(read_list(loch_console_arg(request, "members"), &order));
    return sk_members_order(tl, &order, request);
}

static void run(struct sk_daemon *d, struct loch_console_request *request,
                enum sk_members_step step)
{
    loch_status st = give(d, request, step);

    if (!loch_is_ok(st))
        loch_console_fail(request, st);
}

void sk_command_show_members(void *arg, struct loch_console_request *request)
{
    run(arg, request, SK_MEMBERS_READ);
}

void sk_command_form_members(void *arg, struct loch_console_request *request)
{
    run(arg, request, SK_MEMBERS_FORM);
}

void sk_command_change_members(void *arg, struct loch_console_request *request)
{
    run(arg, request, SK_MEMBERS_CHANGE);
}

void sk_command_finish_members(void *arg, struct loch_console_request *request)
{
    run(arg, request, SK_MEMBERS_FINISH);
}

void sk_command_abort_members(void *arg, struct loch_console_request *request)
{
    run(arg, request, SK_MEMBERS_ABORT);
}

static void state_row(struct loch_console_request *request, const struct sk_timeline *tl,
                      const char *node, const char *address)
{
    struct loch_acceptor_view v = {0};
    char id[LOCH_ID_TEXT_BYTES] = "";
    char number[3][24] = {"0", "0", "0"};
    char lsn[4][24] = {"0/0", "0/0", "0/0", "0/0"};
    char fact[3][24] = {"0", "0", "0"};

    if (tl->state == SK_ACTIVE) {
        loch_acceptor_look(tl->acceptor, &v);
        (void)loch_id_format(&tl->control.member, id);
        (void)snprintf(number[0], sizeof number[0], "%" PRIu64, v.generation);
        (void)snprintf(number[1], sizeof number[1], "%" PRIu64, v.term);
        (void)snprintf(number[2], sizeof number[2], "%" PRIu64, v.log_term);
        (void)snprintf(lsn[0], sizeof lsn[0], LOCH_LSN_FMT, LOCH_LSN_ARG(v.flush_lsn));
        (void)snprintf(lsn[1], sizeof lsn[1], LOCH_LSN_FMT, LOCH_LSN_ARG(v.commit_lsn));
        (void)snprintf(lsn[2], sizeof lsn[2], LOCH_LSN_FMT, LOCH_LSN_ARG(v.start_lsn));
        (void)snprintf(lsn[3], sizeof lsn[3], LOCH_LSN_FMT,
                       LOCH_LSN_ARG(tl->control.acceptor.start_prev_lsn));
        (void)snprintf(fact[0], sizeof fact[0], "%" PRIu64, tl->control.system_id);
        (void)snprintf(fact[1], sizeof fact[1], "%" PRIu32, tl->control.pg_version);
        (void)snprintf(fact[2], sizeof fact[2], "%" PRIu32, tl->control.segment_bytes);
    }
    const char *const values[] = {tl->tenant_text,
                                  tl->timeline_text,
                                  sk_state_name(tl->state),
                                  id,
                                  node,
                                  address,
                                  number[0],
                                  number[1],
                                  number[2],
                                  lsn[0],
                                  lsn[1],
                                  v.settled ? "yes" : "no",
                                  lsn[2],
                                  lsn[3],
                                  fact[0],
                                  fact[1],
                                  fact[2],
                                  tl->why};
    loch_console_row(request, values);
}

void sk_command_show_member(void *arg, struct loch_console_request *request)
{
    static const char *const names[] = {
        "tenant",     "timeline", "state",     "member",     "node",          "address",
        "generation", "term",     "log_term",  "flush_lsn",  "commit_lsn",    "settled",
        "start_lsn",  "prev_lsn", "system_id", "pg_version", "segment_bytes", "detail"};
    const struct sk_daemon *d = arg;
    const bool one = loch_console_arg(request, "timeline") != NULL;
    const struct sk_timeline *only = NULL;
    char node[LOCH_ID_TEXT_BYTES];

    if (one) {
        struct loch_id tenant, timeline;
        loch_status st = loch_console_arg_id(request, "tenant", &tenant);
        if (loch_is_ok(st))
            st = loch_console_arg_id(request, "timeline", &timeline);
        if (!loch_is_ok(st)) {
            loch_console_fail(request, st);
            return;
        }
        only = sk_daemon_find(d, &tenant, &timeline);
    }
    loch_console_columns(request, names, sizeof names / sizeof names[0]);
    (void)loch_id_format(&d->node, node);
    if (only != NULL)
        state_row(request, only, node, d->address);
    for (size_t i = 0; i < d->timeline_count && !one; i++)
        state_row(request, d->timelines[i], node, d->address);
    loch_console_done(request, NULL);
}
