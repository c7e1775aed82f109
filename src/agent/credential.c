/* Holds: the reading of a credential. Invariant: PSKs leave the JSON for secret memory, and every
 * other copy of them is wiped before this returns. */
#include "credential.h"

#include "loch/crypto/psk.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CREDENTIAL_MAX_BYTES 65536u

static loch_status text_member(const json_t *json, const char *name, const char **out)
{
    *out = json_string_value(json_object_get(json, name));
    if (*out == NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "the credential lacks \"%s\"", name);
    return LOCH_OK;
}

static loch_status id_member(const json_t *json, const char *name, struct loch_id *out)
{
    const char *text;

    LOCH_TRY(text_member(json, name, &text));
    if (!loch_is_ok(loch_id_parse(text, out)))
        return LOCH_FAIL(LOCH_E_INVALID, "the credential's \"%s\" is not an id", name);
    return LOCH_OK;
}

static loch_status number_member(const json_t *json, const char *name, uint64_t max, uint64_t *out)
{
    const json_t *value = json_object_get(json, name);
    json_int_t v = json_integer_value(value);

    if (!json_is_integer(value) || v <= 0 || (uint64_t)v > max)
        return LOCH_FAIL(LOCH_E_INVALID, "the credential's \"%s\" is no number in range", name);
    *out = (uint64_t)v;
    return LOCH_OK;
}

static loch_status read_psk(const json_t *server, struct loch_secret *out)
{
    const char *text;

    LOCH_TRY(text_member(server, "psk", &text));
    LOCH_TRY(loch_secret_create(out, LOCH_PSK_BYTES));
    if (!loch_is_ok(loch_hex_parse(text, out->bytes, LOCH_PSK_BYTES))) {
        loch_secret_fini(out);
        return LOCH_FAIL(LOCH_E_INVALID, "a PSK in the credential is malformed");
    }
    return LOCH_OK;
}

static loch_status read_identity(const json_t *server, struct loch_buf *out)
{
    const char *text;

    LOCH_TRY(text_member(server, "identity", &text));
    size_t len = strlen(text) / 2;
    if (len == 0 || len > LOCH_PSK_IDENTITY_MAX_BYTES)
        return LOCH_FAIL(LOCH_E_INVALID, "an identity in the credential has %zu bytes", len);
    LOCH_TRY(loch_buf_reserve(out, len));
    LOCH_TRY(loch_hex_parse(text, out->data, len));
    out->len = len;
    return LOCH_OK;
}

static loch_status read_server(struct loch_credential *c, const json_t *json)
{
    const char *role;
    const char *address;
    struct loch_credential_server server = {0};
    struct loch_psk_identity id;
    struct loch_secret psk = {0};
    struct loch_buf identity = {0};
    loch_status st;

    LOCH_TRY(text_member(json, "role", &role));
    LOCH_TRY(text_member(json, "address", &address));
    LOCH_TRY(id_member(json, "node", &server.node));
    bool pages = strcmp(role, "pageserver") == 0;
    if (strlen(address) >= sizeof server.address || (pages && c->pageserver.tls != NULL) ||
        c->safekeeper_count == LOCH_MEMBERS_MAX)
        return LOCH_FAIL(LOCH_E_INVALID, "the credential's servers are out of bounds");
    memcpy(server.address, address, strlen(address) + 1);
    LOCH_TRY_OUT(st, read_psk(json, &psk));
    LOCH_TRY_OUT(st, read_identity(json, &identity));
    LOCH_TRY_OUT(st, loch_psk_identity_decode(loch_buf_slice(&identity), &id));
    server.wire_epoch = id.wire_epoch;
    LOCH_TRY_OUT(st, loch_tls_client_create(loch_buf_slice(&identity), &psk, &server.tls));
    if (pages) {
        c->pageserver = server;
        c->pageserver_identity = identity;
        c->pageserver_psk = psk;
        return LOCH_OK;
    }
    c->safekeepers[c->safekeeper_count++] = server;
out:
    loch_secret_fini(&psk);
    loch_buf_fini(&identity);
    return st;
}

static loch_status read_all(const json_t *json, struct loch_credential *c)
{
    const char *system_id;
    const json_t *servers = json_object_get(json, "servers");
    const json_t *server;
    uint64_t v;
    size_t i;
    char *end;

    LOCH_TRY(id_member(json, "cluster", &c->cluster));
    LOCH_TRY(id_member(json, "tenant", &c->tenant));
    LOCH_TRY(id_member(json, "timeline", &c->timeline));
    LOCH_TRY(id_member(json, "compute", &c->compute));
    LOCH_TRY(id_member(json, "boot", &c->boot));
    LOCH_TRY(number_member(json, "compute_epoch", INT64_MAX, &c->compute_epoch));
    LOCH_TRY(number_member(json, "pg_version", UINT32_MAX, &v));
    c->pg_version = (uint32_t)v;
    LOCH_TRY(number_member(json, "segment_bytes", UINT32_C(1) << 30, &v));
    c->segment_bytes = (uint32_t)v;
    LOCH_TRY(number_member(json, "lease_ms", UINT32_MAX, &c->lease_ms));
    c->customer_held = !json_is_false(json_object_get(json, "customer_held"));
    LOCH_TRY(text_member(json, "system_id", &system_id));
    errno = 0;
    c->system_id = strtoull(system_id, &end, 10);
    if (errno != 0 || *system_id == '\0' || *end != '\0')
        return LOCH_FAIL(LOCH_E_INVALID, "the credential's \"system_id\" is no number");
    json_array_foreach(servers, i, server) LOCH_TRY(read_server(c, server));
    if (c->pageserver.tls == NULL || c->safekeeper_count == 0)
        return LOCH_FAIL(LOCH_E_INVALID, "the credential names no pageserver or no safekeeper");
    return LOCH_OK;
}

/* jansson frees without wiping. */
static void wipe_psks(const json_t *json)
{
    const json_t *server;
    size_t i;

    json_array_foreach(json_object_get(json, "servers"), i, server)
    {
        const json_t *psk = json_object_get(server, "psk");
        loch_wipe((void *)(uintptr_t)json_string_value(psk), json_string_length(psk));
    }
}

loch_status loch_credential_parse(struct loch_slice bytes, struct loch_credential *out)
{
    struct loch_credential c = {0};
    json_t *json = json_loadb((const char *)bytes.data, bytes.len, 0, NULL);

    if (json == NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "the credential (%zu bytes) is not JSON", bytes.len);
    loch_status st = read_all(json, &c);
    wipe_psks(json);
    json_decref(json);
    if (!loch_is_ok(st)) {
        loch_credential_fini(&c);
        return st;
    }
    *out = c;
    return LOCH_OK;
}

loch_status loch_credential_read(int fd, struct loch_credential *out)
{
    static uint8_t bytes[CREDENTIAL_MAX_BYTES];
    size_t len = 0;
    ssize_t n = 1;

    while (n > 0 && len < sizeof bytes) {
        n = read(fd, bytes + len, sizeof bytes - len);
        if (n < 0 && errno == EINTR)
            n = 1;
        else if (n > 0)
            len += (size_t)n;
    }
    int why = errno;
    (void)close(fd);
    loch_status st;
    if (n < 0)
        st = LOCH_FAIL(LOCH_E_INVALID,
                       "no credential on descriptor %d (%s): start computes with `loch compute "
                       "start`, or pass one there",
                       fd, strerror(why));
    else
        st = loch_credential_parse(loch_slice_of(bytes, len), out);
    loch_wipe(bytes, sizeof bytes);
    return st;
}

const struct loch_credential_server *loch_credential_find(const struct loch_credential *c,
                                                          const struct loch_id *node,
                                                          const char *address)
{
    for (uint32_t i = 0; i < c->safekeeper_count; i++) {
        if (loch_id_equal(&c->safekeepers[i].node, node) &&
            strcmp(c->safekeepers[i].address, address) == 0)
            return &c->safekeepers[i];
    }
    for (const struct loch_credential_server *s = c->learned; s != NULL; s = s->next) {
        if (loch_id_equal(&s->node, node) && strcmp(s->address, address) == 0)
            return s;
    }
    return NULL;
}

/* ---- keys that arrive while the compute runs ---- */

/* Is the key this boot's own? */
static loch_status open_key(const struct loch_credential *c, const struct loch_wal_server_key *key,
                            struct loch_psk_identity *id, struct loch_secret *psk)
{
    LOCH_TRY(loch_psk_identity_decode(key->identity, id));
    if (key->psk.len != LOCH_PSK_BYTES || id->client_role != LOCH_ROLE_COMPUTE ||
        id->compute_epoch != c->compute_epoch || !loch_id_equal(&id->cluster, &c->cluster) ||
        !loch_id_equal(&id->tenant, &c->tenant) || !loch_id_equal(&id->timeline, &c->timeline) ||
        !loch_id_equal(&id->client_id, &c->compute) || !loch_id_equal(&id->client_boot, &c->boot))
        return LOCH_FAIL(LOCH_E_CORRUPT, "a key that a safekeeper sent is not for this compute");
    return loch_secret_from(psk, key->psk.data, key->psk.len);
}

/* The key's server, unless it has one that is as new. */
static loch_status rekey(struct loch_credential_server *server, const struct loch_psk_identity *id,
                         struct loch_slice identity, const struct loch_secret *psk)
{
    if (!loch_id_equal(&server->node, &id->server_node) || server->wire_epoch >= id->wire_epoch)
        return LOCH_OK;
    LOCH_TRY(loch_tls_client_rekey(server->tls, identity, psk));
    server->wire_epoch = id->wire_epoch;
    return LOCH_OK;
}

static loch_status rekey_safekeepers(struct loch_credential *c, const struct loch_psk_identity *id,
                                     struct loch_slice identity, const struct loch_secret *psk)
{
    for (uint32_t i = 0; i < c->safekeeper_count; i++)
        LOCH_TRY(rekey(&c->safekeepers[i], id, identity, psk));
    for (struct loch_credential_server *s = c->learned; s != NULL; s = s->next)
        LOCH_TRY(rekey(s, id, identity, psk));
    return LOCH_OK;
}

static loch_status rekey_pageserver(struct loch_credential *c, const struct loch_psk_identity *id,
                                    struct loch_slice identity, const struct loch_secret *psk)
{
    const uint32_t before = c->pageserver.wire_epoch;
    struct loch_secret copy = {0};
    struct loch_buf bytes = {0};

    loch_status st = loch_secret_copy(&copy, psk);
    if (loch_is_ok(st))
        st = loch_buf_append(&bytes, identity.data, identity.len);
    if (loch_is_ok(st))
        st = rekey(&c->pageserver, id, identity, psk);
    if (loch_is_ok(st) && c->pageserver.wire_epoch != before) {
        const struct loch_secret old_psk = c->pageserver_psk;
        const struct loch_buf old_bytes = c->pageserver_identity;
        c->pageserver_psk = copy;
        c->pageserver_identity = bytes;
        copy = old_psk;
        bytes = old_bytes;
    }
    loch_secret_fini(&copy);
    loch_buf_fini(&bytes);
    return st;
}

static loch_status take_key(struct loch_credential *c, const struct loch_wal_server_key *key)
{
    struct loch_psk_identity id;
    struct loch_secret psk = {0};

    LOCH_TRY(open_key(c, key, &id, &psk));
    const loch_status st = id.server_role == LOCH_ROLE_PAGESERVER
                               ? rekey_pageserver(c, &id, key->identity, &psk)
                               : rekey_safekeepers(c, &id, key->identity, &psk);
    loch_secret_fini(&psk);
    return st;
}

loch_status loch_credential_renew(struct loch_credential *c, const struct loch_wal_keys *keys)
{
    for (uint32_t i = 0; i < keys->count; i++)
        LOCH_TRY(take_key(c, &keys->keys[i]));
    return LOCH_OK;
}

static loch_status learn_server(struct loch_credential *c, const struct loch_member *member,
                                const struct loch_wal_server_key *key)
{
    struct loch_psk_identity id;
    struct loch_secret psk = {0};
    loch_status st;

    LOCH_TRY(open_key(c, key, &id, &psk));
    struct loch_credential_server *server = calloc(1, sizeof *server);
    if (server == NULL) {
        st = LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a server");
    } else {
        server->node = member->node;
        server->wire_epoch = id.wire_epoch;
        memcpy(server->address, member->address, strlen(member->address) + 1);
        st = loch_tls_client_create(key->identity, &psk, &server->tls);
    }
    loch_secret_fini(&psk);
    if (!loch_is_ok(st)) {
        free(server);
        return st;
    }
    server->next = c->learned;
    c->learned = server;
    return LOCH_OK;
}

loch_status loch_credential_learn(struct loch_credential *c, const struct loch_wal_members *m)
{
    struct loch_membership copy;

    if (m->membership.generation <= c->membership.generation)
        return LOCH_OK;
    for (uint32_t i = 0; i < m->membership.count; i++) {
        const struct loch_member *member = &m->membership.members[i];
        if (loch_credential_find(c, &member->node, member->address) == NULL)
            LOCH_TRY(learn_server(c, member, &m->keys[i]));
        else if (m->keys[i].psk.len > 0)
            LOCH_TRY(take_key(c, &m->keys[i]));
    }
    LOCH_TRY(loch_membership_copy(&copy, &m->membership));
    loch_membership_fini(&c->membership);
    c->membership = copy;
    return LOCH_OK;
}

void loch_credential_fini(struct loch_credential *c)
{
    while (c->learned != NULL) {
        struct loch_credential_server *server = c->learned;
        c->learned = server->next;
        loch_tls_client_destroy(server->tls);
        free(server);
    }
    loch_membership_fini(&c->membership);
    loch_tls_client_destroy(c->pageserver.tls);
    for (uint32_t i = 0; i < c->safekeeper_count; i++)
        loch_tls_client_destroy(c->safekeepers[i].tls);
    loch_buf_fini(&c->pageserver_identity);
    loch_secret_fini(&c->pageserver_psk);
    *c = (struct loch_credential){0};
}
