/* Holds: the connection identity's encoding and the PSK's derivation.
 *
 *  off len
 *    0   1  version, 1
 *    1   1  client role          2   1  server role         3   1  rights
 *    4   4  wire epoch           8   4  protocol, 1
 *   12  16  cluster             28  16  tenant             44  16  timeline
 *   60  16  client id           76  16  client boot        92  16  server node
 *  108   8  compute epoch
 *  116      end
 * Twin: docs/protocol/wire.md. Source: RFC 5869, RFC 8446 section 4.2.11.
 */
#include "loch/crypto/psk.h"
#include "loch/base/check.h"
#include "loch/crypto/hkdf.h"
#include "loch/crypto/tls.h"

#include <assert.h>

#define IDENTITY_VERSION  1u
#define IDENTITY_PROTOCOL 1u
#define IDENTITY_BYTES    116u
#define RIGHTS_KNOWN                                                                               \
    (LOCH_RIGHT_WAL_PUSH | LOCH_RIGHT_WAL_PULL | LOCH_RIGHT_PAGES | LOCH_RIGHT_BASEBACKUP)

static_assert(IDENTITY_BYTES <= LOCH_PSK_IDENTITY_MAX_BYTES, "identity fits");

static bool well_formed(const struct loch_psk_identity *id)
{
    const bool client_known =
        id->client_role >= LOCH_ROLE_COMPUTE && id->client_role <= LOCH_ROLE_TOOL;
    const bool server_known =
        id->server_role == LOCH_ROLE_SAFEKEEPER || id->server_role == LOCH_ROLE_PAGESERVER;

    if (id->version != IDENTITY_VERSION || !client_known || !server_known)
        return false;
    if ((id->rights & ~RIGHTS_KNOWN) != 0 || id->rights == 0 || id->wire_epoch == 0)
        return false;
    if (loch_id_is_none(&id->cluster) || loch_id_is_none(&id->tenant) ||
        loch_id_is_none(&id->client_id) || loch_id_is_none(&id->server_node))
        return false;
    /* A compute speaks for one timeline and one epoch. */
    if (id->client_role == LOCH_ROLE_COMPUTE)
        return !loch_id_is_none(&id->timeline) && id->compute_epoch != 0;
    return true;
}

loch_status loch_psk_identity_encode(const struct loch_psk_identity *id, struct loch_buf *out)
{
    struct loch_writer w;

    if (!well_formed(id))
        return LOCH_FAIL(LOCH_E_INVALID, "the connection identity is not well-formed");
    loch_writer_init(&w, out);
    loch_write_u8(&w, id->version);
    loch_write_u8(&w, id->client_role);
    loch_write_u8(&w, id->server_role);
    loch_write_u8(&w, id->rights);
    loch_write_u32(&w, id->wire_epoch);
    loch_write_u32(&w, IDENTITY_PROTOCOL);
    loch_write_id(&w, &id->cluster);
    loch_write_id(&w, &id->tenant);
    loch_write_id(&w, &id->timeline);
    loch_write_id(&w, &id->client_id);
    loch_write_id(&w, &id->client_boot);
    loch_write_id(&w, &id->server_node);
    loch_write_u64(&w, id->compute_epoch);
    return loch_writer_finish(&w);
}

loch_status loch_psk_identity_decode(struct loch_slice bytes, struct loch_psk_identity *out)
{
    struct loch_psk_identity id = {0};
    struct loch_reader r;

    loch_reader_init(&r, bytes);
    id.version = loch_read_u8(&r);
    id.client_role = loch_read_u8(&r);
    id.server_role = loch_read_u8(&r);
    id.rights = loch_read_u8(&r);
    id.wire_epoch = loch_read_u32(&r);
    const uint32_t protocol = loch_read_u32(&r);
    id.cluster = loch_read_id(&r);
    id.tenant = loch_read_id(&r);
    id.timeline = loch_read_id(&r);
    id.client_id = loch_read_id(&r);
    id.client_boot = loch_read_id(&r);
    id.server_node = loch_read_id(&r);
    id.compute_epoch = loch_read_u64(&r);
    LOCH_TRY(loch_reader_finish(&r, "connection identity"));
    if (protocol != IDENTITY_PROTOCOL || !well_formed(&id))
        return LOCH_FAIL(LOCH_E_CORRUPT, "the connection identity is not well-formed");
    *out = id;
    return LOCH_OK;
}

loch_status loch_psk_derive(const struct loch_secret *k_wire, const struct loch_psk_identity *id,
                            struct loch_secret *out)
{
    static const char node_label[] = "loch node";
    static const char psk_label[] = "loch psk";
    struct loch_buf node_info = {0};
    struct loch_buf psk_info = {0};
    struct loch_secret k_node = {0};
    const struct loch_slice no_salt = {NULL, 0};
    struct loch_writer w;
    loch_status st;

    if (k_wire->len != 32)
        return LOCH_FAIL(LOCH_E_INVALID, "a wire key has 32 bytes, not %zu", k_wire->len);
    loch_writer_init(&w, &node_info);
    loch_write_bytes(&w, node_label, sizeof node_label);
    loch_write_u8(&w, id->server_role);
    loch_write_id(&w, &id->server_node);
    loch_write_u32(&w, id->wire_epoch);
    LOCH_TRY_OUT(st, loch_writer_finish(&w));
    LOCH_TRY_OUT(st, loch_hkdf(LOCH_HASH_SHA384, k_wire, no_salt, loch_buf_slice(&node_info),
                               LOCH_SHA384_BYTES, &k_node));
    LOCH_TRY_OUT(st, loch_buf_append(&psk_info, psk_label, sizeof psk_label));
    LOCH_TRY_OUT(st, loch_psk_identity_encode(id, &psk_info));
    LOCH_TRY_OUT(st, loch_hkdf(LOCH_HASH_SHA384, &k_node, no_salt, loch_buf_slice(&psk_info),
                               LOCH_PSK_BYTES, out));
out:
    loch_secret_fini(&k_node);
    loch_buf_fini(&node_info);
    loch_buf_fini(&psk_info);
    return st;
}
