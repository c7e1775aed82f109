/* TLS 1.3 with external PSK as a pure engine: ciphertext in, plaintext out and the other way round.
 *
 * No sockets here: io (event loop) and compute-ext (blocking) move the bytes. This is the one place
 * that knows how the handshake must be configured and checked (docs/protocol/wire.md):
 * TLS 1.3 only, psk_dhe_ke, TLS_AES_256_GCM_SHA384, X25519, 48-byte PSK, ALPN "loch/1", no tickets,
 * no early data, no certificates in the context; the client verifies peers against an empty store,
 * and both ends demand after the handshake: session reused, no peer certificate, cipher 0x1302, the
 * ALPN.
 */
#ifndef LOCH_CRYPTO_TLS_H
#define LOCH_CRYPTO_TLS_H

#include "loch/base/buf.h"
#include "loch/base/secret.h"
#include "loch/base/status.h"

#define LOCH_PSK_BYTES              48u
#define LOCH_PSK_IDENTITY_MAX_BYTES 256u

struct loch_tls_server; /* shared by many connections, one per listener */
struct loch_tls_client; /* one identity and PSK */
struct loch_tls;        /* one connection */

/* Finds the PSK for an identity; false: unknown, refuse. Must not block. */
typedef bool (*loch_psk_lookup_fn)(void *arg, struct loch_slice identity, struct loch_secret *psk);

LOCH_STATUS loch_tls_server_create(loch_psk_lookup_fn lookup, void *arg,
                                   struct loch_tls_server **out);
/* Another kind of server, for programs that are not Loch's: TLS 1.3 with certificates on both sides
 * (PEM texts: our chain, our key, the authorities whose clients are let in). Its connections'
 * identity is the common name of the client's certificate. LOCH_E_INVALID says what is unusable. */
LOCH_STATUS loch_tls_server_create_x509(struct loch_slice cert, struct loch_slice key,
                                        struct loch_slice client_ca, struct loch_tls_server **out);
void loch_tls_server_destroy(struct loch_tls_server *server);
/* Copies identity and psk (exactly LOCH_PSK_BYTES). */
LOCH_STATUS loch_tls_client_create(struct loch_slice identity, const struct loch_secret *psk,
                                   struct loch_tls_client **out);
/* Handshakes from now on are with these; connections that are there live on. On failure all is as
 * it was. On the thread of its connections. */
LOCH_STATUS loch_tls_client_rekey(struct loch_tls_client *client, struct loch_slice identity,
                                  const struct loch_secret *psk);
void loch_tls_client_destroy(struct loch_tls_client *client);

LOCH_STATUS loch_tls_accept(struct loch_tls_server *server, struct loch_tls **out);
LOCH_STATUS loch_tls_connect(struct loch_tls_client *client, struct loch_tls **out);
void loch_tls_destroy(struct loch_tls *tls);

/* Feeds received ciphertext; appends decrypted plaintext to *plain and bytes to transmit to *wire.
 * Call once with no bytes on the client to begin. Any failure is final: close the connection (send
 * what is in *wire first: the alert). *closed is set when the peer sent close_notify. */
LOCH_STATUS loch_tls_receive(struct loch_tls *tls, struct loch_slice ciphertext,
                             struct loch_buf *plain, struct loch_buf *wire, bool *closed);
/* True once the handshake is done AND its checks have passed. */
bool loch_tls_ready(const struct loch_tls *tls);
/* Encrypts; only when ready. Does a KeyUpdate by itself every 2^23 records. */
LOCH_STATUS loch_tls_send(struct loch_tls *tls, struct loch_slice plaintext, struct loch_buf *wire);
/* A KeyUpdate now, both directions. Only when ready. */
LOCH_STATUS loch_tls_rekey(struct loch_tls *tls, struct loch_buf *wire);
/* Before sending: does loch_tls_rekey when LOCH_TLS_REKEY_NS have passed since the last one (or
 * since the first tick). `now_ns` is any clock that does not go back. */
#define LOCH_TLS_REKEY_NS (UINT64_C(3600) * 1000000000u)
LOCH_STATUS loch_tls_tick(struct loch_tls *tls, uint64_t now_ns, struct loch_buf *wire);
/* Appends close_notify when ready: send it, then close. */
LOCH_STATUS loch_tls_close(struct loch_tls *tls, struct loch_buf *wire);
/* Server: the identity that was proven; client: its own. Borrowed. */
struct loch_slice loch_tls_identity(const struct loch_tls *tls);

#endif
