/* Holds: receipts of a revocation, and the verification of the nodes' audit logs. */
#include "commands.h"
#include "console_client.h"

#include "loch/host/audit.h"

#include <stdio.h>
#include <string.h>

static loch_status public_key(const struct loch_cluster *c, const char *daemon,
                              uint8_t out[static LOCH_SIGN_PUBLIC_BYTES], char text[65])
{
    char path[700];

    (void)snprintf(path, sizeof path, "%s/%s/audit.pub", c->dir, daemon);
    FILE *f = fopen(path, "re");
    const bool got = f != NULL && fgets(text, 65, f) != NULL;
    if (f != NULL)
        (void)fclose(f);
    if (!got)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "cannot read %s", path);
    return loch_hex_parse(text, out, LOCH_SIGN_PUBLIC_BYTES);
}

/* One signed record as a row; its signature is checked with the node's public key. */
static loch_status add_record(const struct loch_cluster *c, const char *daemon, const json_t *row,
                              json_t *out)
{
    uint8_t key[LOCH_SIGN_PUBLIC_BYTES], signature[LOCH_SIGNATURE_BYTES];
    char key_text[65];
    const char *body = loch_field(row, "body");

    LOCH_TRY(public_key(c, daemon, key, key_text));
    LOCH_TRY(loch_hex_parse(loch_field(row, "signature"), signature, sizeof signature));
    LOCH_TRY(loch_sign_verify(key, loch_slice_of(body, strlen(body)), signature));
    json_t *said = json_loads(body, 0, NULL);
    json_t *shown = json_pack("{s:s, s:s, s:s, s:s, s:s}", "daemon", daemon, "event",
                              loch_field(said, "event"), "time", loch_field(said, "time"),
                              "signature", "good", "detail", loch_field(said, "detail"));
    if (c->json) {
        json_object_set_new(shown, "body", json_string(body));
        json_object_set(shown, "signature_hex", json_object_get(row, "signature"));
        json_object_set_new(shown, "public_key", json_string(key_text));
    }
    json_decref(said);
    json_array_append_new(out, shown);
    return LOCH_OK;
}

loch_status loch_key_receipt(struct loch_cluster *c, const struct loch_options *o)
{
    char id[33];
    char name[32];
    loch_status st;
    json_t *out = json_array();

    LOCH_TRY_OUT(st, loch_tenant_find(c, o->tenant ? o->tenant : "main", id));
    LOCH_EACH_DAEMON(c, i)
    {
        json_t *rows = NULL;
        json_t *row;
        size_t k;
        (void)loch_daemon_name(i, name);
        st = loch_consolef(c, loch_port_daemon(c, i), &rows, "SHOW RECEIPT %s", id);
        if (!loch_is_ok(st)) {
            loch_progress("warning: no receipt of %s: %s", name, loch_error_text());
            continue;
        }
        json_array_foreach(rows, k, row)
        {
            if (loch_is_ok(st))
                st = add_record(c, name, row, out);
        }
        json_decref(rows);
        if (!loch_is_ok(st)) {
            st = LOCH_FAIL(st.code, "the receipt of %s does not verify: %s", name,
                           loch_error_text());
            goto out;
        }
    }
    if (json_array_size(out) == 0) {
        st = LOCH_FAIL(LOCH_E_NOT_FOUND, "no daemon has ever lost this tenant's key");
        goto out;
    }
    loch_print_rows(c, out);
    st = LOCH_OK;
out:
    json_decref(out);
    return st;
}

loch_status loch_key_audit(struct loch_cluster *c, const char *verb)
{
    char name[32];
    char why[700] = "";
    char path[700];
    char head[2 * LOCH_AUDIT_HASH_BYTES + 1];

    if (verb == NULL || strcmp(verb, "verify") != 0)
        return LOCH_FAIL(LOCH_E_INVALID, "want: loch key audit verify");
    json_t *out = json_array();
    LOCH_EACH_DAEMON(c, i)
    {
        struct loch_audit_summary sum = {0};
        (void)loch_daemon_name(i, name);
        (void)snprintf(path, sizeof path, "%s/%s", c->dir, name);
        const loch_status st = loch_audit_verify(path, NULL, NULL, &sum);
        if (!loch_is_ok(st))
            (void)snprintf(why, sizeof why, "%s", loch_error_text());
        loch_hex_format(sum.head, sizeof sum.head, head);
        json_array_append_new(out, json_pack("{s:s, s:s, s:I, s:s}", "daemon", name, "result",
                                             loch_is_ok(st) ? "good" : "ALTERED", "records",
                                             (json_int_t)sum.records, "head", head));
    }
    loch_print_rows(c, out);
    json_decref(out);
    if (why[0] != '\0')
        return LOCH_FAIL(LOCH_E_CORRUPT, "an audit log does not verify: %s", why);
    return LOCH_OK;
}
