/* Holds: commands about key services: does one work, and which tenant's CMK lies where. */
#include "commands.h"
#include "console_client.h"

#include "loch/kms/kms.h"

#include <stdio.h>
#include <string.h>

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
    LOCH_EACH_SAFEKEEPER(c, i)
    {
        json_t *reply = NULL;
        const loch_status st = loch_consolef(c, loch_port_safekeeper(c, i), &reply,
                                             "PIN TENANT %s%s", tenant_id, clause);
        json_decref(reply);
        if (loch_is_ok(st)) {
            taken += c->member[i];
            continue;
        }
        loch_progress("warning: safekeeper %d%s: %s", i + 1, c->member[i] ? "" : " (no member)",
                      loch_error_text());
        if (c->member[i])
            (void)snprintf(why, sizeof why, "safekeeper %d: %s", i + 1, loch_error_text());
    }
    if (taken < loch_quorum(c))
        return LOCH_FAIL(
            LOCH_E_UNAVAILABLE,
            "only %d safekeepers that keep WAL can use the CMK (%s): mend that, then run "
            "`loch key pin` for the tenant",
            taken, why);
    return LOCH_OK;
}

void loch_tenant_unpin(const struct loch_cluster *c, const char *tenant_id)
{
    char command[64];
    (void)snprintf(command, sizeof command, "UNPIN TENANT %s", tenant_id);
    (void)loch_safekeepers_told(c, command);
}

static bool has_pin(const json_t *pins, const json_t *wanted)
{
    const json_t *pin;
    size_t i;

    json_array_foreach(
        pins, i,
        pin) if (strcmp(loch_field(pin, "tenant"), loch_field(wanted, "tenant")) == 0 &&
                 strcmp(loch_field(pin, "uri"), loch_field(wanted, "uri")) == 0) return true;
    return false;
}

static loch_status give_pin(const struct loch_cluster *c, int n, const json_t *pin)
{
    char clause[LOCH_KMS_CLAUSE_BYTES];
    json_t *reply = NULL;

    LOCH_TRY(loch_kms_clause(loch_field(pin, "uri"), clause, sizeof clause));
    loch_progress("pinning the CMK of tenant %s on safekeeper %d", loch_field(pin, "tenant"),
                  n + 1);
    const loch_status st = loch_consolef(c, loch_port_safekeeper(c, n), &reply, "PIN TENANT %s%s",
                                         loch_field(pin, "tenant"), clause);
    json_decref(reply);
    return st;
}

void loch_pins_repair(const struct loch_cluster *c)
{
    json_t *wanted = NULL;
    const json_t *pin;
    size_t i;

    if (!loch_is_ok(loch_console(c, loch_port_pageserver(c), "SHOW PINS", &wanted)))
        loch_progress("warning: %s", loch_error_text());
    LOCH_EACH_SAFEKEEPER(c, n)
    {
        json_t *have = NULL;
        if (json_array_size(wanted) == 0)
            break;
        if (!loch_is_ok(loch_console(c, loch_port_safekeeper(c, n), "SHOW PINS", &have))) {
            loch_progress("warning: safekeeper %d: %s", n + 1, loch_error_text());
            continue;
        }
        json_array_foreach(wanted, i,
                           pin) if (!has_pin(have, pin) && !loch_is_ok(give_pin(c, n, pin)))
            loch_progress("warning: safekeeper %d: %s", n + 1, loch_error_text());
        json_decref(have);
    }
    json_decref(wanted);
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

loch_status loch_key_works(const char *uri)
{
    struct loch_kms *kms = NULL;
    char why[600];

    loch_status st = loch_kms_open(uri, NULL, &kms);
    if (loch_is_ok(st))
        st = loch_kms_check(kms, NULL, NULL);
    loch_kms_close(kms);
    if (loch_is_ok(st))
        return st;
    (void)snprintf(why, sizeof why, "%s", loch_error_text());
    return LOCH_FAIL(st.code, "%s\n  %s", why, verdict(st.code));
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

/* ---- rotation ---- */

/* Which safekeepers hold a keyring. */
struct holders {
    int members, others;
};

/* Every safekeeper reads the keyring again: who holds `generation` now. */
static struct holders reload_all(const struct loch_cluster *c, const char *tenant,
                                 const char *generation)
{
    struct holders held = {0};

    LOCH_EACH_SAFEKEEPER(c, i)
    {
        json_t *rows = NULL;
        if (!loch_is_ok(
                loch_consolef(c, loch_port_safekeeper(c, i), &rows, "RELOAD KEYS %s", tenant)))
            loch_progress("warning: safekeeper %d: %s", i + 1, loch_error_text());
        else if (strcmp(loch_field(json_array_get(rows, 0), "generation"), generation) == 0)
            *(c->member[i] ? &held.members : &held.others) += 1;
        json_decref(rows);
    }
    return held;
}

/* The URI of the CMK that the newest KEK of the tenant, or of a branch, hangs below. */
static loch_status current_cmk(const struct loch_cluster *c, const char *tenant, const char *branch,
                               char *uri, size_t len)
{
    json_t *rows = NULL;
    json_t *row;
    size_t i;

    LOCH_TRY(loch_consolef(c, loch_port_pageserver(c), &rows, "SHOW KEYS %s", tenant));
    uri[0] = '\0';
    json_array_foreach(
        rows, i, row) if (strcmp(loch_field(row, "level"), "kek") == 0 &&
                          strcmp(loch_field(row, "timeline"), branch != NULL ? branch : "") == 0 &&
                          strcmp(loch_field(row, "state"), "active") == 0)(void)
        snprintf(uri, len, "%s", loch_field(row, "cmk"));
    json_decref(rows);
    if (uri[0] == '\0')
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "the tenant's keyring has no active KEK");
    return LOCH_OK;
}

/* Which daemons are known to have no such pin: where a move that fails would leave one. */
static void daemons_without(const struct loch_cluster *c, const char *holder, const char *uri,
                            bool out[static LOCH_SAFEKEEPERS_MAX + 1])
{
    json_t *wanted = json_pack("{s:s, s:s}", "tenant", holder, "uri", uri);

    LOCH_EACH_DAEMON(c, i)
    {
        json_t *pins = NULL;
        const loch_status st = loch_console(c, loch_port_daemon(c, i), "SHOW PINS", &pins);
        out[i] = wanted != NULL && loch_is_ok(st) && !has_pin(pins, wanted);
        json_decref(pins);
    }
    json_decref(wanted);
}

/* On every daemon, or, where too few can use that CMK, on none that had it not pinned before. */
static loch_status pin_everywhere(const struct loch_cluster *c, const char *holder, const char *uri)
{
    char clause[LOCH_KMS_CLAUSE_BYTES];
    bool without[LOCH_SAFEKEEPERS_MAX + 1] = {false};
    char why[800];
    json_t *reply = NULL;

    LOCH_TRY(loch_kms_clause(uri, clause, sizeof clause));
    daemons_without(c, holder, uri, without);
    loch_status st =
        loch_consolef(c, loch_port_pageserver(c), &reply, "PIN TENANT %s%s", holder, clause);
    json_decref(reply);
    if (loch_is_ok(st))
        st = loch_tenant_pin(c, holder, uri);
    if (loch_is_ok(st))
        return st;
    (void)snprintf(why, sizeof why, "%s", loch_error_text());
    LOCH_EACH_DAEMON(c, i)
    {
        char name[32];
        reply = NULL;
        if (without[i] && !loch_is_ok(loch_consolef(c, loch_port_daemon(c, i), &reply,
                                                    "UNPIN TENANT %s%s", holder, clause)))
            loch_progress("warning: %s may still be pinned at the %s: %s", uri,
                          loch_daemon_name(i, name), loch_error_text());
        json_decref(reply);
    }
    return LOCH_FAIL(st.code, "%s; nothing has moved", why);
}

static void unpin_others(const struct loch_cluster *c, int port, const char *holder,
                         const char *kept)
{
    char clause[LOCH_KMS_CLAUSE_BYTES];
    json_t *pins = NULL;
    const json_t *pin;
    size_t i;
    loch_status st = loch_console(c, port, "SHOW PINS", &pins);

    json_array_foreach(pins, i, pin)
    {
        json_t *reply = NULL;
        if (strcmp(loch_field(pin, "tenant"), holder) != 0 ||
            strcmp(loch_field(pin, "uri"), kept) == 0)
            continue;
        st = loch_kms_clause(loch_field(pin, "uri"), clause, sizeof clause);
        if (loch_is_ok(st))
            st = loch_consolef(c, port, &reply, "UNPIN TENANT %s%s", holder, clause);
        json_decref(reply);
        if (!loch_is_ok(st))
            break;
    }
    json_decref(pins);
    if (!loch_is_ok(st))
        loch_progress("warning: the old CMK may still be pinned at port %d: %s", port,
                      loch_error_text());
}

/* Nothing hangs below another CMK of the tenant's, or the branch's, than `uri` any more; also those
 * of an earlier move go that did not reach every daemon. */
static void unpin_all_but(const struct loch_cluster *c, const char *holder, const char *uri)
{
    LOCH_EACH_DAEMON(c, i)
    unpin_others(c, loch_port_daemon(c, i), holder, uri);
}

/* branch: its id, when what its own CMK holds is meant; else NULL. uri: of the CMK to move to;
 * NULL: no move. *everywhere: whether every daemon holds the new keyring. */
static loch_status rotate(const struct loch_cluster *c, const char *tenant, const char *branch,
                          const char *what, const char *uri, bool *everywhere)
{
    char clause[LOCH_KMS_CLAUSE_BYTES];
    json_t *rows = NULL;
    json_t *activated = NULL;
    char generation[32];
    const int all = loch_safekeeper_count(c);
    loch_status st;

    LOCH_TRY(loch_kms_clause(uri, clause, sizeof clause));
    LOCH_TRY(loch_consolef(c, loch_port_pageserver(c), &rows, "ROTATE KEY %s %s%s%s%s", tenant,
                           what, branch != NULL ? " BRANCH " : "", branch != NULL ? branch : "",
                           clause));
    json_t *row = json_array_get(rows, 0);
    (void)snprintf(generation, sizeof generation, "%s", loch_field(row, "generation"));
    struct holders held = reload_all(c, tenant, generation);
    if (strncmp(what, "wire", 4) == 0 && held.members < loch_quorum(c)) {
        st = LOCH_FAIL(LOCH_E_UNAVAILABLE,
                       "only %d of the safekeepers that keep the WAL know the new wire epoch, %d "
                       "must (and %d others do): it stays pending; run this again when they are up",
                       held.members, loch_quorum(c), held.others);
        goto out;
    }
    LOCH_TRY_OUT(st,
                 loch_consolef(c, loch_port_pageserver(c), &activated, "ACTIVATE KEYS %s", tenant));
    (void)snprintf(generation, sizeof generation, "%s",
                   loch_field(json_array_get(activated, 0), "generation"));
    held = reload_all(c, tenant, generation);
    const int holding = held.members + held.others;
    json_object_set_new(row, "generation", json_string(generation));
    json_object_set_new(row, "daemons", json_integer(holding + 1));
    loch_print_rows(c, rows);
    *everywhere = holding == all;
    if (holding < all)
        loch_progress("warning: %d of %d daemons hold the new keyring; the others read it when "
                      "they start. Do not disable an old CMK before that",
                      holding + 1, all + 1);
out:
    json_decref(rows);
    json_decref(activated);
    return st;
}

/* Pinned in both places first, so that no daemon is without either CMK at any time. */
static loch_status move_cmk(const struct loch_cluster *c, const char *tenant, const char *branch,
                            const char *uri)
{
    const char *holder = branch != NULL ? branch : tenant;
    bool everywhere = false;
    char old[1100];

    LOCH_TRY(current_cmk(c, tenant, branch, old, sizeof old));
    LOCH_TRY(pin_everywhere(c, holder, old));
    LOCH_TRY(pin_everywhere(c, holder, uri));
    LOCH_TRY(rotate(c, tenant, branch, "cmk", uri, &everywhere));
    if (!everywhere)
        loch_progress("warning: %s stays pinned, for those that hold an older keyring: when all "
                      "daemons are up, give the same command once more",
                      old);
    else
        unpin_all_but(c, holder, uri);
    return LOCH_OK;
}

static loch_status key_rotate(struct loch_cluster *c, const struct loch_options *o,
                              const char *what)
{
    static const char usage[] =
        "want: loch key rotate cmk|kek|tk|wire|wire-anew [--tenant T] [--branch B] [--kms-uri URI]";
    char id[33];
    bool everywhere;

    if (what == NULL ||
        (strcmp(what, "cmk") != 0 && strcmp(what, "kek") != 0 && strcmp(what, "tk") != 0 &&
         strcmp(what, "wire") != 0 && strcmp(what, "wire-anew") != 0))
        return LOCH_FAIL(LOCH_E_INVALID, "%s", usage);
    if (o->kms_uri != NULL && strcmp(what, "cmk") != 0)
        return LOCH_FAIL(LOCH_E_INVALID, "--kms-uri goes with rotate cmk: %s", usage);
    LOCH_TRY(loch_tenant_find(c, o->tenant ? o->tenant : "main", id));
    if (o->branch == NULL)
        return o->kms_uri != NULL ? move_cmk(c, id, NULL, o->kms_uri)
                                  : rotate(c, id, NULL, what, NULL, &everywhere);
    json_t *row = NULL;
    LOCH_TRY(loch_branch_find(c, id, o->branch, &row));
    const char *branch = loch_field(row, "timeline");
    loch_status st = loch_branch_own_cmk(row, o->branch);
    if (loch_is_ok(st))
        st = o->kms_uri != NULL ? move_cmk(c, id, branch, o->kms_uri)
                                : rotate(c, id, branch, what, NULL, &everywhere);
    json_decref(row);
    return st;
}

/* ---- looking ---- */

static void add_leases(const struct loch_cluster *c, const char *tenant, const char *daemon,
                       int port, json_t *out)
{
    json_t *rows = NULL;
    json_t *row;
    size_t i;

    if (!loch_is_ok(loch_console(c, port, "SHOW LEASES", &rows))) {
        loch_progress("warning: %s: %s", daemon, loch_error_text());
        return;
    }
    json_array_foreach(rows, i, row)
    {
        if (strcmp(loch_field(row, "tenant"), tenant) != 0)
            continue;
        json_t *shown = json_pack("{s:s}", "daemon", daemon);
        json_object_update(shown, row);
        json_object_del(shown, "tenant");
        json_array_append_new(out, shown);
    }
    json_decref(rows);
}

static loch_status key_status(struct loch_cluster *c, const struct loch_options *o)
{
    char id[33];
    char name[32];
    json_t *rows = json_array();

    const loch_status st = loch_tenant_find(c, o->tenant ? o->tenant : "main", id);
    if (loch_is_ok(st)) {
        LOCH_EACH_SAFEKEEPER(c, i)
        {
            (void)snprintf(name, sizeof name, "safekeeper-%d", i + 1);
            add_leases(c, id, name, loch_port_safekeeper(c, i), rows);
        }
        add_leases(c, id, "pageserver", loch_port_pageserver(c), rows);
        loch_print_rows(c, rows);
    }
    json_decref(rows);
    return st;
}

static loch_status key_list(struct loch_cluster *c, const struct loch_options *o)
{
    char id[33];
    json_t *rows = NULL;

    LOCH_TRY(loch_tenant_find(c, o->tenant ? o->tenant : "main", id));
    LOCH_TRY(loch_consolef(c, loch_port_pageserver(c), &rows, "SHOW KEYS %s", id));
    loch_print_rows(c, rows);
    json_decref(rows);
    return LOCH_OK;
}

/* How much still lies under retired timeline keys; done when all of it is 0. */
static loch_status key_progress(struct loch_cluster *c, const struct loch_options *o)
{
    json_t *rows = NULL;
    json_t *ours = json_array();
    json_t *row;
    size_t i;

    const loch_status st = loch_console(c, loch_port_pageserver(c), "SHOW REWRITE", &rows);
    json_array_foreach(rows, i, row)
    {
        if (o->tenant == NULL || strcmp(loch_field(row, "tenant"), o->tenant) == 0)
            (void)json_array_append(ours, row);
    }
    if (loch_is_ok(st))
        loch_print_rows(c, ours);
    json_decref(ours);
    json_decref(rows);
    return st;
}

loch_status loch_cmd_key(struct loch_cluster *c, const struct loch_options *o, const char *verb,
                         const char *name)
{
    if (strcmp(verb, "rotate") == 0)
        return key_rotate(c, o, name);
    if (strcmp(verb, "status") == 0)
        return key_status(c, o);
    if (strcmp(verb, "list") == 0)
        return key_list(c, o);
    if (strcmp(verb, "progress") == 0)
        return key_progress(c, o);
    if (strcmp(verb, "shred") == 0)
        return loch_key_shred(c, o, name);
    if (strcmp(verb, "verify-shredded") == 0)
        return loch_key_verify_shredded(c, o, name);
    if (strcmp(verb, "receipt") == 0)
        return loch_key_receipt(c, o);
    if (strcmp(verb, "audit") == 0)
        return loch_key_audit(c, name);
    if (strcmp(verb, "pins") == 0) {
        json_t *rows = NULL;
        LOCH_TRY(loch_console(c, loch_port_pageserver(c), "SHOW PINS", &rows));
        loch_print_rows(c, rows);
        json_decref(rows);
        return LOCH_OK;
    }
    if (strcmp(verb, "pin") == 0)
        return key_pin(c, name, o->kms_uri);
    return LOCH_FAIL(
        LOCH_E_INVALID,
        "want: loch key status|list|rotate|progress|receipt|audit|shred|verify-shredded|"
        "check|pin|pins (see loch --help)");
}
