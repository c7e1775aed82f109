/* Who speaks to whom: the connection identity and the PSK derived from it.
 *
 * K_node = HKDF-SHA384(K_wire, "loch node" | server role | server node | wire epoch)
 * PSK    = HKDF-SHA384(K_node, "loch psk" | the whole encoded identity), 48 bytes.
 * The identity goes over the wire in clear, so it holds random ids only. Twin:
 * docs/protocol/wire.md.
 */
#ifndef LOCH_CRYPTO_PSK_H
#define LOCH_CRYPTO_PSK_H

#include "loch/base/buf.h"
#include "loch/base/secret.h"
#include "loch/base/types.h"

enum loch_role {
    LOCH_ROLE_COMPUTE = 1,
    LOCH_ROLE_SAFEKEEPER = 2,
    LOCH_ROLE_PAGESERVER = 3,
    LOCH_ROLE_TOOL = 4
};
enum loch_right {
    LOCH_RIGHT_WAL_PUSH = 1,
    LOCH_RIGHT_WAL_PULL = 2,
    LOCH_RIGHT_PAGES = 4,
    LOCH_RIGHT_BASEBACKUP = 8
};

struct loch_psk_identity {
    uint8_t version;     /* 1 */
    uint8_t client_role; /* enum loch_role */
    uint8_t server_role;
    uint8_t rights; /* enum loch_right bits */
    uint32_t wire_epoch;
    struct loch_id cluster;
    struct loch_id tenant;
    struct loch_id timeline;    /* none: any timeline of the tenant (storage peers only) */
    struct loch_id client_id;   /* compute id, or node id of a peer */
    struct loch_id client_boot; /* fresh at every start of the client */
    struct loch_id server_node;
    uint64_t compute_epoch; /* 0 for peers */
};

LOCH_STATUS loch_psk_identity_encode(const struct loch_psk_identity *id, struct loch_buf *out);
/* LOCH_E_CORRUPT for anything but a well-formed version 1 identity. */
LOCH_STATUS loch_psk_identity_decode(struct loch_slice bytes, struct loch_psk_identity *out);
/* Derives the finished PSK from the tenant's wire key (32 bytes). */
LOCH_STATUS loch_psk_derive(const struct loch_secret *k_wire, const struct loch_psk_identity *id,
                            struct loch_secret *out);

#endif
