/* Holds: commands about key services: does one work, and which tenant's CMK lies where. */
#include "commands.h"
#include "console_client.h"

#include "loch/kms/kms.h"

#include <stdio.h>
#include <string.h>

#define QUORUM (LOCH_SAFEKEEPERS / 2 + 1)

/* 'text' as one word of a console command. */
static loch_status quoted(const char *text, char *out, size_t len)
{
    size_t n = 0;

    out[n++] = '\'';
    for (const char *p = text; *p != '\0'; p++) {
        if (n + 4 > len)
            return LOCH_FAIL(LOCH_E_INVALID, "the KMS URI is too long");
        if (*p == '\'')
            out[n++] = '\'';
        out[n++] = *p;
    }
    out[n++] = '\'';
    out[n] = '\0';
    return LOCH_OK;
}

loch_status loch_kms_clause(const char *uri, char *out, size_t len)
{
    static const char word[] = " KMS ";

    if (uri == NULL) {
        out[0] = '\0';
        return LOCH_OK;
    }
    memcpy(out, word, sizeof word - 1);
    return quoted(uri, out + sizeof word - 1, len - (sizeof word - 1));
}

loch_status loch_tenant_pin(const struct loch_cluster *c, const char *tenant_id, const char *uri)
{
    char clause[LOCH_KMS_CLAUSE_BYTES];
    char why[400] = "";
    int taken = 0;

    LOCH_TRY(loch_kms_clause(uri, clause, sizeof clause));
    for (int i = 0; i < LOCH_SAFEKEEPERS; i++) {
        json_t *reply = NULL;
        const loch_status st = loch_consolef(c, loch_port_safekeeper(c, i), &reply,
                                             "PIN TENANT %s%s", tenant_id, clause);
        json_decref(reply);
        if (loch_is_ok(st)) {
            taken++;
            continue;
        }
        (void)snprintf(why, sizeof why, "safekeeper %d: %s", i + 1, loch_error_text());
        loch_progress("warning: %s", why);
    }
    if (taken < QUORUM)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                         "only %d of %d safekeepers can use the CMK (%s): mend that, then run "
                         "`loch key pin` for the tenant",
                         taken, LOCH_SAFEKEEPERS, why);
    return LOCH_OK;
}

void loch_tenant_unpin(const struct loch_cluster *c, const char *tenant_id)
{
    for (int i = 0; i < LOCH_SAFEKEEPERS; i++) {
        json_t *reply = NULL;
        if (!loch_is_ok(
                loch_consolef(c, loch_port_safekeeper(c, i), &reply, "UNPIN TENANT %s", tenant_id)))
            loch_progress("warning: safekeeper %d: %s", i + 1, loch_error_text());
        json_decref(reply);
    }
}

static loch_status key_pin(const struct loch_cluster *c, const char *tenant, const char *uri)
{
    char clause[LOCH_KMS_CLAUSE_BYTES];
    char id[33];
    struct loch_id parsed;
    json_t *reply = NULL;

    if (tenant == NULL || uri == NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "want: loch key pin TENANT --kms-uri URI");
    if (loch_is_ok(loch_id_parse(tenant, &parsed)))
        (void)loch_id_format(&parsed, id); /* a dark tenant's name is sealed: its id will do */
    else
        LOCH_TRY(loch_tenant_find(c, tenant, id));
    LOCH_TRY(loch_kms_clause(uri, clause, sizeof clause));
    const loch_status st =
        loch_consolef(c, loch_port_pageserver(c), &reply, "PIN TENANT %s%s", id, clause);
    json_decref(reply);
    LOCH_TRY(st);
    return loch_tenant_pin(c, id, uri);
}

/* What the code means here, and what to do about it; the cause itself is the error's text. */
static const char *verdict(enum loch_code code)
{
    if (code == LOCH_E_DENIED)
        return "DENIED: the key service answers, and the answer is no; data under this CMK is "
               "locked until it says yes";
    if (code == LOCH_E_UNAVAILABLE)
        return "UNAVAILABLE: no verdict about the key; daemons go on for their grace and try again";
    if (code == LOCH_E_CORRUPT)
        return "WRONG ANSWER: the key service does not give back what it was given";
    return "NOT USABLE: the URI or the machine's configuration is at fault";
}

loch_status loch_key_check(const struct loch_cluster *c, const char *uri)
{
    struct loch_kms *kms = NULL;
    uint64_t wrap_us = 0;
    uint64_t unwrap_us = 0;
    char why[600] = "";

    if (uri == NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "want: loch key check URI");
    loch_status st = loch_kms_open(uri, NULL, &kms);
    if (loch_is_ok(st))
        st = loch_kms_check(kms, &wrap_us, &unwrap_us);
    if (!loch_is_ok(st))
        (void)snprintf(why, sizeof why, "%s", loch_error_text());
    json_t *rows = json_pack("[{s:s, s:s, s:I, s:I, s:s}]", "uri", uri, "result",
                             loch_is_ok(st) ? "ok" : loch_code_name(st.code), "wrap_us",
                             (json_int_t)wrap_us, "unwrap_us", (json_int_t)unwrap_us, "holder",
                             kms == NULL                   ? "unknown"
                             : loch_kms_customer_held(kms) ? "customer-held"
                                                           : "not customer-held");
    if (rows != NULL)
        loch_print_rows(c, rows);
    json_decref(rows);
    loch_kms_close(kms);
    if (!loch_is_ok(st))
        return LOCH_FAIL(st.code, "%s\n  %s", why, verdict(st.code));
    return LOCH_OK;
}

loch_status loch_cmd_key(struct loch_cluster *c, const struct loch_options *o, const char *verb,
                         const char *name)
{
    if (strcmp(verb, "pin") == 0)
        return key_pin(c, name, o->kms_uri);
    return LOCH_FAIL(LOCH_E_INVALID, "want: loch key check URI | pin TENANT --kms-uri URI");
}
