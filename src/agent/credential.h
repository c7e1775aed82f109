/* What a compute is allowed to do: the JSON that it receives on a descriptor at its start. */
#ifndef LOCH_AGENT_CREDENTIAL_H
#define LOCH_AGENT_CREDENTIAL_H

#include "loch/base/buf.h"
#include "loch/base/secret.h"
#include "loch/base/types.h"
#include "loch/crypto/tls.h"
#include "loch/wire/wal.h"

#define LOCH_CREDENTIAL_FD 3

struct loch_credential_server {
    struct loch_id node;
    char address[128];
    struct loch_tls_client *tls;         /* owned */
    uint32_t wire_epoch;                 /* of its key */
    struct loch_credential_server *next; /* among the learned ones */
};

struct loch_credential {
    struct loch_id cluster, tenant, timeline, compute, boot;
    uint64_t compute_epoch, system_id;
    uint32_t pg_version, segment_bytes;
    uint64_t lease_ms;  /* without a word from storage for so long, the server is killed */
    bool customer_held; /* the CMK; true when the credential does not say */
    struct loch_credential_server pageserver;
    struct loch_buf pageserver_identity; /* encoded, for the extension */
    struct loch_secret pageserver_psk;   /* likewise */
    struct loch_credential_server safekeepers[LOCH_MEMBERS_MAX];
    uint32_t safekeeper_count;
    /* What was learned since: the membership, and servers that joined it. They stay to the end. */
    struct loch_membership membership;
    struct loch_credential_server *learned;
};

/* Reads the descriptor to its end and closes it. LOCH_E_INVALID names the member that is wrong,
 * never its value. */
LOCH_STATUS loch_credential_read(int fd, struct loch_credential *out);
LOCH_STATUS loch_credential_parse(struct loch_slice json, struct loch_credential *out);
/* The safekeeper on this node at this address; NULL when it is not known. */
const struct loch_credential_server *loch_credential_find(const struct loch_credential *credential,
                                                          const struct loch_id *node,
                                                          const char *address);
/* Takes over what a safekeeper says of the members: those that are not known can be connected to
 * from now on. Keys as in loch_credential_renew. */
LOCH_STATUS loch_credential_learn(struct loch_credential *credential,
                                  const struct loch_wal_members *m);
/* Takes over keys of a newer wire epoch than those held, for the servers that are known:
 * connections that begin from now on are made with them. LOCH_E_CORRUPT when they are not for this
 * boot of this compute. */
LOCH_STATUS loch_credential_renew(struct loch_credential *credential,
                                  const struct loch_wal_keys *keys);
void loch_credential_fini(struct loch_credential *credential);

#endif
