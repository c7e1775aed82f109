/* Holds: receipts of a revocation, and the verification of the nodes' audit logs. */
#include "commands.h"
#include "console_client.h"

#include "loch/base/types.h"
#include "loch/host/audit.h"

#include <inttypes.h>
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

/* The id of the branch whose own CMK it is: its name's, or, of one that is deleted, given as it is.
 */
static loch_status receipt_branch(struct loch_cluster *c, const char *tenant, const char *name,
                                  char out[static 33])
{
    struct loch_id id;
    json_t *row = NULL;

    if (strlen(name) == 32 && loch_is_ok(loch_id_parse(name, &id))) {
        (void)loch_id_format(&id, out);
        return LOCH_OK;
    }
    LOCH_TRY(loch_branch_find(c, tenant, name, &row));
    (void)snprintf(out, 33, "%s", loch_field(row, "timeline"));
    const loch_status st = loch_branch_own_cmk(row, name);
    json_decref(row);
    return st;
}

loch_status loch_key_receipt(struct loch_cluster *c, const struct loch_options *o)
{
    char id[33], branch[33] = "";
    char name[32];
    loch_status st;
    json_t *out = json_array();

    LOCH_TRY_OUT(st, loch_tenant_find(c, o->tenant ? o->tenant : "main", id));
    if (o->branch != NULL)
        LOCH_TRY_OUT(st, receipt_branch(c, id, o->branch, branch));
    LOCH_EACH_DAEMON(c, i)
    {
        json_t *rows = NULL;
        json_t *row;
        size_t k;
        (void)loch_daemon_name(i, name);
        st = loch_consolef(c, loch_port_daemon(c, i), &rows, "SHOW RECEIPT %s%s%s", id,
                           branch[0] != '\0' ? " BRANCH " : "", branch);
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
        st = LOCH_FAIL(LOCH_E_NOT_FOUND, "no daemon has ever lost this key");
        goto out;
    }
    loch_print_rows(c, out);
    st = LOCH_OK;
out:
    json_decref(out);
    return st;
}

/* ---- verification ---- */

/* What an earlier verification saw of a node's log, kept in the cluster's directory, away from the
 * node: a log that was cut at a line's end, or begun anew with another key, is noticed. */
struct seen {
    uint64_t records;
    const char *head, *key; /* hex; borrowed from the JSON */
    bool other;             /* the record of that number is another one now */
};

static void compare(void *arg, const struct loch_audit_record *record)
{
    struct seen *seen = arg;
    char prev[2 * LOCH_AUDIT_HASH_BYTES + 1];

    if (record->seq != seen->records + 1)
        return;
    loch_hex_format(record->prev, sizeof record->prev, prev);
    seen->other = strcmp(prev, seen->head) != 0;
}

static loch_status verify_one(const struct loch_cluster *c, const char *name, const json_t *before,
                              struct loch_audit_summary *sum, char head[65], char key_text[65])
{
    struct seen seen = {.head = loch_field(before, "head"), .key = loch_field(before, "key")};
    uint8_t key[LOCH_SIGN_PUBLIC_BYTES];
    char path[700];

    (void)snprintf(path, sizeof path, "%s/%s", c->dir, name);
    seen.records = (uint64_t)json_integer_value(json_object_get(before, "records"));
    LOCH_TRY(loch_audit_verify(path, compare, &seen, sum));
    LOCH_TRY(public_key(c, name, key, key_text));
    loch_hex_format(sum->head, sizeof sum->head, head);
    if (before == NULL)
        return LOCH_OK;
    if (strcmp(seen.key, key_text) != 0)
        return LOCH_FAIL(LOCH_E_CORRUPT, "%s/audit.pub is not the key that signed before", path);
    if (sum->records < seen.records)
        return LOCH_FAIL(LOCH_E_CORRUPT,
                         "%s/audit.log has been cut off: %" PRIu64 " records, there were %" PRIu64,
                         path, sum->records, seen.records);
    if (seen.other || (sum->records == seen.records && strcmp(head, seen.head) != 0))
        return LOCH_FAIL(LOCH_E_CORRUPT,
                         "%s/audit.log is another log than the one that was verified before", path);
    return LOCH_OK;
}

loch_status loch_key_audit(struct loch_cluster *c, const char *verb)
{
    char name[32];
    char why[700] = "";
    char path[700];

    if (verb == NULL || strcmp(verb, "verify") != 0)
        return LOCH_FAIL(LOCH_E_INVALID, "want: loch key audit verify");
    (void)snprintf(path, sizeof path, "%s/audit-heads.json", c->dir);
    json_t *heads = json_load_file(path, 0, NULL);
    json_t *out = json_array();
    if (!json_is_object(heads)) {
        json_decref(heads);
        heads = json_object();
    }
    LOCH_EACH_DAEMON(c, i)
    {
        struct loch_audit_summary sum = {0};
        char head[2 * LOCH_AUDIT_HASH_BYTES + 1] = "", key[65] = "";
        (void)loch_daemon_name(i, name);
        const loch_status st = verify_one(c, name, json_object_get(heads, name), &sum, head, key);
        if (loch_is_ok(st))
            json_object_set_new(heads, name,
                                json_pack("{s:I, s:s, s:s}", "records", (json_int_t)sum.records,
                                          "head", head, "key", key));
        else
            (void)snprintf(why, sizeof why, "%s", loch_error_text());
        json_array_append_new(out, json_pack("{s:s, s:s, s:I, s:s}", "daemon", name, "result",
                                             loch_is_ok(st) ? "good" : "ALTERED", "records",
                                             (json_int_t)sum.records, "head", head));
    }
    if (json_dump_file(heads, path, JSON_INDENT(2)) != 0)
        loch_progress("warning: cannot write %s", path);
    loch_print_rows(c, out);
    json_decref(out);
    json_decref(heads);
    if (why[0] != '\0')
        return LOCH_FAIL(LOCH_E_CORRUPT, "an audit log does not verify: %s", why);
    return LOCH_OK;
}
