/* Holds: the issuing of compute credentials.
 * Invariant: an epoch is in the store before any credential that carries it exists.
 * Object tenants/T/timelines/L/compute_epoch: u64 little-endian (docs/format/objects.md).
 */
#include "credential.h"

#include "store/manifest.h"

#include "loch/crypto/hkdf.h"
#include "loch/crypto/tls.h"
#include "loch/host/witness.h"
#include "loch/io/env.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EPOCH_TRIES   100
#define WITNESS_TRIES 3
/* How far the object may be above what was noted here last, or above 0 where nothing was: another
 * process, or this one before its data directory was put back, may have issued some meanwhile. What
 * is issued, every safekeeper of the timeline remembers for good, so that one leap to the end of
 * the numbers would leave none for any later compute. */
#define EPOCH_LEAP (UINT64_C(1) << 32)

static void epoch_name(const struct loch_id *tenant, const struct loch_id *timeline, char *out,
                       size_t len)
{
    char t[LOCH_ID_TEXT_BYTES];
    char l[LOCH_ID_TEXT_BYTES];

    (void)snprintf(out, len, "tenants/%s/timelines/%s/compute_epoch", loch_id_format(tenant, t),
                   loch_id_format(timeline, l));
}

static loch_status epoch_get(struct loch_objstore *store, const char *name, uint64_t *epoch,
                             struct loch_etag *etag)
{
    struct loch_buf bytes = {0};
    loch_status st = loch_objstore_get(store, name, 8, &bytes, etag);

    if (loch_is_ok(st) && bytes.len != 8)
        st = LOCH_FAIL(LOCH_E_CORRUPT, "object %s has %zu bytes, not 8", name, bytes.len);
    if (loch_is_ok(st))
        *epoch = loch_get_u64(bytes.data);
    loch_buf_fini(&bytes);
    return st;
}

loch_status loch_compute_epoch_read(struct loch_objstore *store, const struct loch_id *tenant,
                                    const struct loch_id *timeline, uint64_t *out)
{
    char name[LOCH_OBJECT_NAME_MAX];
    struct loch_etag etag;

    epoch_name(tenant, timeline, name, sizeof name);
    loch_status st = epoch_get(store, name, out, &etag);
    if (st.code == LOCH_E_NOT_FOUND) {
        *out = 0;
        return LOCH_OK;
    }
    return st;
}

/* An epoch below one that was issued here would let a compute in whose successor has begun; one far
 * above it is nobody's. */
static loch_status witness_check(const struct loch_credential_order *o, const char *path,
                                 const char *name, const struct loch_witness *offered)
{
    struct loch_witness noted = {0};

    LOCH_TRY(loch_witness_check(o->env, path, name, offered));
    const loch_status st = loch_witness_read(o->env, path, &noted);
    if (!loch_is_ok(st) && st.code != LOCH_E_NOT_FOUND)
        return st;
    if (offered->generation - noted.generation > EPOCH_LEAP ||
        offered->generation >= (uint64_t)INT64_MAX)
        return LOCH_FAIL(LOCH_E_CORRUPT,
                         "%s holds epoch %" PRIu64 ", but %" PRIu64
                         " is the last one that was issued here (%s): nobody issued so many since, "
                         "put the object back as it was",
                         name, offered->generation, noted.generation, path);
    return LOCH_OK;
}

static loch_status witness(const struct loch_credential_order *o, const char *name, uint64_t epoch,
                           bool note)
{
    char dir[LOCH_LAYER_PATH_BYTES], path[LOCH_LAYER_PATH_BYTES + 100];
    struct loch_witness w = {.generation = epoch};
    uint8_t bytes[8];
    struct loch_slice slice = loch_slice_of(bytes, sizeof bytes);

    loch_manifest_witness_path(o->dir, &o->tenant, &o->timeline, dir, path, ".epoch");
    loch_put_u64(bytes, epoch);
    LOCH_TRY(loch_sha256(&slice, 1, w.hash));
    return note ? loch_witness_note(o->env, dir, path, &w) : witness_check(o, path, name, &w);
}

/* Under the timeline's lock: what was seen here is one file, which two would write in any order.
 * Whoever loses a race against another process takes the next number. */
static loch_status epoch_advance(const struct loch_credential_order *o, uint64_t *out)
{
    char name[LOCH_OBJECT_NAME_MAX];

    epoch_name(&o->tenant, &o->timeline, name, sizeof name);
    for (int i = 0; i < EPOCH_TRIES; i++) {
        struct loch_etag etag;
        uint64_t epoch = 0;
        uint8_t bytes[8];
        loch_status st = epoch_get(o->store, name, &epoch, &etag);
        bool first = st.code == LOCH_E_NOT_FOUND;
        if (!first)
            LOCH_TRY(st);
        st = witness(o, name, epoch, false);
        if (st.code == LOCH_E_STALE && i < WITNESS_TRIES)
            continue; /* somebody else took it between the two looks, or it was wound back */
        LOCH_TRY(st);
        loch_put_u64(bytes, epoch + 1);
        struct loch_slice slice = loch_slice_of(bytes, sizeof bytes);
        st = first ? loch_objstore_put_if_absent(o->store, name, slice, NULL)
                   : loch_objstore_put_if_match(o->store, name, &etag, slice, NULL);
        if (loch_is_ok(st)) {
            LOCH_TRY(witness(o, name, epoch + 1, true));
            *out = epoch + 1;
            return LOCH_OK;
        }
        if (st.code != LOCH_E_EXISTS && st.code != LOCH_E_STALE)
            return st;
    }
    return LOCH_FAIL(LOCH_E_UNAVAILABLE, "lost %d races for the next compute epoch", EPOCH_TRIES);
}

static loch_status epoch_take(const struct loch_credential_order *o, uint64_t *out)
{
    static pthread_mutex_t locks[] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
                                      PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};
    pthread_mutex_t *lock = &locks[o->timeline.bytes[0] % (sizeof locks / sizeof locks[0])];

    (void)pthread_mutex_lock(lock);
    const loch_status st = epoch_advance(o, out);
    (void)pthread_mutex_unlock(lock);
    return st;
}

struct server {
    enum loch_role role;
    const struct loch_id *node;
    const char *address;
};

/* One element of "servers". */
static loch_status add_server(const struct loch_credential_order *o, const struct server *server,
                              const struct loch_psk_identity *base, json_t *servers)
{
    struct loch_psk_identity identity = *base;
    struct loch_secret psk = {0};
    struct loch_buf encoded = {0};
    char node[LOCH_ID_TEXT_BYTES];
    char psk_text[2 * LOCH_SECRET_MAX_BYTES + 1];
    char identity_text[2 * LOCH_PSK_IDENTITY_MAX_BYTES + 1];
    bool pages = server->role == LOCH_ROLE_PAGESERVER;
    loch_status st;

    identity.server_role = (uint8_t)server->role;
    identity.server_node = *server->node;
    identity.rights = pages ? LOCH_RIGHT_PAGES | LOCH_RIGHT_BASEBACKUP : LOCH_RIGHT_WAL_PUSH;
    LOCH_TRY_OUT(st, loch_keys_psk(o->keys, &identity, &psk));
    LOCH_TRY_OUT(st, loch_psk_identity_encode(&identity, &encoded));
    if (encoded.len > LOCH_PSK_IDENTITY_MAX_BYTES) {
        st = LOCH_FAIL(LOCH_E_LIMIT, "identity of %zu bytes", encoded.len);
        goto out;
    }
    loch_hex_format(psk.bytes, psk.len, psk_text);
    loch_hex_format(encoded.data, encoded.len, identity_text);
    json_array_append_new(
        servers, json_pack("{s:s, s:s, s:s, s:s, s:s}", "role", pages ? "pageserver" : "safekeeper",
                           "node", loch_id_format(server->node, node), "address", server->address,
                           "identity", identity_text, "psk", psk_text));
    loch_wipe(psk_text, sizeof psk_text);
out:
    loch_secret_fini(&psk);
    loch_buf_fini(&encoded);
    return st;
}

static loch_status append_text(const json_t *json, struct loch_buf *out)
{
    char *text = json_dumps(json, JSON_COMPACT);

    if (text == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a credential");
    size_t len = strlen(text);
    loch_status st = loch_buf_append(out, text, len + 1);
    if (loch_is_ok(st))
        out->len--;
    loch_wipe(text, len);
    free(text);
    return st;
}

/* jansson frees without wiping: overwrite the PSKs where it keeps them. */
static void wipe_json(json_t *servers)
{
    json_t *server;
    size_t i;

    json_array_foreach(servers, i, server)
    {
        json_t *psk = json_object_get(server, "psk");
        loch_wipe((void *)(uintptr_t)json_string_value(psk), json_string_length(psk));
    }
}

loch_status loch_credential_issue(const struct loch_credential_order *o, struct loch_buf *out)
{
    char cluster[LOCH_ID_TEXT_BYTES];
    char tenant[LOCH_ID_TEXT_BYTES];
    char timeline[LOCH_ID_TEXT_BYTES];
    char compute[LOCH_ID_TEXT_BYTES];
    char boot[LOCH_ID_TEXT_BYTES];
    char system_id[32];
    struct loch_psk_identity base = {.version = 1,
                                     .client_role = LOCH_ROLE_COMPUTE,
                                     .cluster = o->config->cluster,
                                     .tenant = o->tenant,
                                     .timeline = o->timeline,
                                     .client_id = o->compute};
    json_t *servers = json_array();
    json_t *json = NULL;
    loch_status st;

    LOCH_TRY_OUT(st, loch_env_random(o->env, base.client_boot.bytes, sizeof base.client_boot));
    LOCH_TRY_OUT(st, epoch_take(o, &base.compute_epoch));
    struct server pageserver = {LOCH_ROLE_PAGESERVER, &o->config->node, o->config->address};
    LOCH_TRY_OUT(st, add_server(o, &pageserver, &base, servers));
    for (size_t i = 0; i < o->safekeeper_count; i++) {
        const struct loch_peer *peer = &o->safekeepers[i];
        struct server safekeeper = {LOCH_ROLE_SAFEKEEPER, &peer->node, peer->address};
        LOCH_TRY_OUT(st, add_server(o, &safekeeper, &base, servers));
    }
    (void)snprintf(system_id, sizeof system_id, "%" PRIu64, o->system_id);
    json = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:i, s:i, s:I, s:O}", "cluster",
        loch_id_format(&base.cluster, cluster), "tenant", loch_id_format(&o->tenant, tenant),
        "timeline", loch_id_format(&o->timeline, timeline), "compute",
        loch_id_format(&o->compute, compute), "boot", loch_id_format(&base.client_boot, boot),
        "compute_epoch", (json_int_t)base.compute_epoch, "system_id", system_id, "pg_version",
        (int)o->pg_version, "segment_bytes", (int)o->segment_bytes, "lease_ms",
        (json_int_t)(o->config->leases.poll_ms + o->config->leases.lease_ms), "servers", servers);
    if (json == NULL ||
        json_object_set_new(json, "customer_held", json_boolean(o->customer_held)) != 0)
        st = LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a credential");
    else
        st = append_text(json, out);
out:
    wipe_json(servers);
    json_decref(json);
    json_decref(servers);
    return st;
}
