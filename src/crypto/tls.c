/* Holds: the TLS 1.3 PSK engine, and every rule a handshake of Loch must obey.
 *
 * Invariants: a context never holds a certificate, so nobody can authenticate but by PSK; `ready`
 * is set only after verify_handshake passed; no plaintext is handed out or accepted before that; an
 * engine that failed once fails for ever.
 * A client that checks only OpenSSL's result accepts a server with a self-signed certificate and
 * no PSK: that is why both ends demand a resumed session and the absence of a peer certificate.
 * Source: RFC 8446 sections 2.2, 4.2.9, 4.2.11, 4.6.3, 5.5.
 */
#include "loch/crypto/tls.h"
#include "algorithms.h"
#include "loch/base/check.h"
#include "loch/crypto/random.h"
#include "tls_internal.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdatomic.h>
#include <stdlib.h>

#define CIPHERSUITE    "TLS_AES_256_GCM_SHA384"
#define CIPHERSUITE_ID UINT32_C(0x03001302)
#define RECORD_BYTES   16384u
#define REKEY_RECORDS  (UINT64_C(1) << 23)

#ifdef LOCH_NULL_CIPHER /* builds without cipher talk among themselves only: aead.h */
static const uint8_t alpn_wire[] = {6, 'l', 'o', 'c', 'h', '/', '0'};
#else
static const uint8_t alpn_wire[] = {6, 'l', 'o', 'c', 'h', '/', '1'};
#endif
static const uint8_t ciphersuite_wire[] = {0x13, 0x02};
/* A plaintext fatal alert, handshake_failure: all that a refused client ever learns. */
static const uint8_t uniform_alert[] = {21, 3, 3, 0, 2, 2, 40};

struct loch_tls_server {
    SSL_CTX *ctx;
    bool x509; /* certificates instead of PSK, whoever the client is */
    loch_psk_lookup_fn lookup;
    void *arg;
    struct loch_secret decoy; /* stands in for an unknown identity's PSK */
};

struct loch_tls_client {
    SSL_CTX *ctx; /* the one of all clients */
    struct loch_secret psk;
    struct loch_buf identity;
};

struct loch_tls {
    SSL *ssl;
    const struct loch_tls_server *server; /* one of the two */
    const struct loch_tls_client *client;
    struct loch_buf identity;
    struct loch_slice in;  /* ciphertext not yet read, during a call */
    struct loch_buf *wire; /* where ciphertext goes, during a call */
    uint64_t records_since_rekey;
    uint64_t rekey_after;
    uint64_t rekeys;
    uint64_t rekeyed_ns; /* by the caller's clock; 0: no tick yet */
    bool ready;
    bool failed;
    bool spoke;    /* has sent something */
    bool wire_bad; /* no memory for output */
#ifdef LOCH_NULL_CIPHER
    struct loch_buf part; /* a record that is not whole yet */
#endif
};

/* ---- the BIO between OpenSSL and the caller's buffers ---- */

static int bio_write(BIO *bio, const char *bytes, int len)
{
    struct loch_tls *tls = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    if (len <= 0)
        return 0;
    if (tls->wire == NULL || !loch_is_ok(loch_buf_append(tls->wire, bytes, (size_t)len))) {
        tls->wire_bad = true;
        return -1;
    }
    return len;
}

static int bio_read(BIO *bio, char *out, int len)
{
    struct loch_tls *tls = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    if (len <= 0)
        return 0;
    if (tls->in.len == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    const size_t n = tls->in.len < (size_t)len ? tls->in.len : (size_t)len;
    memcpy(out, tls->in.data, n);
    tls->in.data += n;
    tls->in.len -= n;
    return (int)n;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static BIO *bio_create(struct loch_tls *tls)
{
    static _Atomic(BIO_METHOD *) shared;
    BIO_METHOD *method = shared;

    if (method == NULL) {
        method = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "loch");
        if (method == NULL)
            return NULL;
        BIO_meth_set_write(method, bio_write);
        BIO_meth_set_read(method, bio_read);
        BIO_meth_set_ctrl(method, bio_ctrl);
        BIO_METHOD *expected = NULL;
        if (!atomic_compare_exchange_strong(&shared, &expected, method)) {
            BIO_meth_free(method);
            method = expected;
        }
    }
    BIO *bio = BIO_new(method);
    if (bio != NULL) {
        BIO_set_data(bio, tls);
        BIO_set_init(bio, 1);
    }
    return bio;
}

/* ---- contexts ---- */

/* A session object that carries an external PSK, or NULL. */
static SSL_SESSION *session_of(SSL *ssl, const struct loch_secret *psk)
{
    SSL_SESSION *session = SSL_SESSION_new();
    const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, ciphersuite_wire);

    if (session == NULL || cipher == NULL ||
        SSL_SESSION_set1_master_key(session, psk->bytes, psk->len) != 1 ||
        SSL_SESSION_set_cipher(session, cipher) != 1 ||
        SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) != 1) {
        SSL_SESSION_free(session);
        return NULL;
    }
    return session;
}

static int use_psk(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *id_len,
                   SSL_SESSION **session)
{
    const struct loch_tls *tls = SSL_get_app_data(ssl);

    /* md is set on a second flight: then the server has chosen a hash, and it must be ours. */
    if (md != NULL && EVP_MD_get_type(md) != NID_sha384)
        return 0;
    *session = session_of(ssl, &tls->client->psk);
    *id = tls->client->identity.data;
    *id_len = tls->client->identity.len;
    return *session != NULL;
}

static int find_psk(SSL *ssl, const unsigned char *id, size_t id_len, SSL_SESSION **session)
{
    struct loch_tls *tls = SSL_get_app_data(ssl);
    struct loch_secret psk = {0};
    const struct loch_slice identity = loch_slice_of(id, id_len);

    *session = NULL;
    if (tls->identity.len > 0) /* one identity per connection (a second hello repeats it) */
        tls->identity.len = 0;
    /* An unknown identity goes on with a key nobody has: it fails where a wrong PSK fails. */
    if (id_len == 0 || id_len > LOCH_PSK_IDENTITY_MAX_BYTES ||
        !tls->server->lookup(tls->server->arg, identity, &psk) || psk.len != LOCH_PSK_BYTES) {
        loch_secret_fini(&psk);
        *session = session_of(ssl, &tls->server->decoy);
        return *session != NULL;
    }
    if (loch_is_ok(loch_buf_append(&tls->identity, id, id_len)))
        *session = session_of(ssl, &psk);
    loch_secret_fini(&psk);
    return *session != NULL;
}

static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                       const unsigned char *in, unsigned int in_len, void *arg)
{
    (void)ssl;
    (void)arg;
    for (unsigned int i = 0; i < in_len; i += 1u + in[i]) {
        if (in[i] != alpn_wire[0] || i + sizeof alpn_wire > in_len ||
            memcmp(in + i, alpn_wire, sizeof alpn_wire) != 0)
            continue;
        *out = in + i + 1;
        *out_len = in[i];
        return SSL_TLSEXT_ERR_OK;
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static loch_status context_create(SSL_CTX **out)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());

    if (ctx == NULL || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(ctx, CIPHERSUITE) != 1 ||
        SSL_CTX_set1_groups_list(ctx, "X25519") != 1 || SSL_CTX_set_num_tickets(ctx, 0) != 1 ||
        SSL_CTX_set_max_early_data(ctx, 0) != 1 || SSL_CTX_set_recv_max_early_data(ctx, 0) != 1) {
        SSL_CTX_free(ctx);
        return loch_openssl_failed("TLS context");
    }
    (void)SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
    /* Buffers go back when they are empty: most connections of a daemon are idle, and two buffers
     * would be most of what each holds. */
    (void)SSL_CTX_set_mode(ctx, SSL_MODE_AUTO_RETRY | SSL_MODE_RELEASE_BUFFERS);
    (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    *out = ctx;
    return LOCH_OK;
}

loch_status loch_tls_server_create(loch_psk_lookup_fn lookup, void *arg,
                                   struct loch_tls_server **out)
{
    loch_status st;
    struct loch_tls_server *server = calloc(1, sizeof *server);

    if (server == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a TLS server");
    server->lookup = lookup;
    server->arg = arg;
    LOCH_TRY_OUT(st, loch_random_secret(&server->decoy, LOCH_PSK_BYTES));
    LOCH_TRY_OUT(st, context_create(&server->ctx));
    SSL_CTX_set_verify(server->ctx, SSL_VERIFY_NONE, NULL); /* asks for no certificate */
    SSL_CTX_set_psk_find_session_callback(server->ctx, find_psk);
    SSL_CTX_set_alpn_select_cb(server->ctx, select_alpn, NULL);
    *out = server;
    return LOCH_OK;
out:
    loch_tls_server_destroy(server);
    return st;
}

static BIO *bio_of(struct loch_slice pem)
{
    return pem.len > INT_MAX ? NULL : BIO_new_mem_buf(pem.data, (int)pem.len);
}

/* The first certificate is the server's, those behind it its chain. */
static bool use_chain(SSL_CTX *ctx, struct loch_slice pem)
{
    BIO *bio = bio_of(pem);
    X509 *cert = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    bool ok = cert != NULL && SSL_CTX_use_certificate(ctx, cert) == 1;

    X509_free(cert);
    while (ok && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
        ok = SSL_CTX_add0_chain_cert(ctx, cert) == 1;
    BIO_free(bio);
    return ok;
}

static bool use_key(SSL_CTX *ctx, struct loch_slice pem)
{
    BIO *bio = bio_of(pem);
    EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
    bool ok =
        key != NULL && SSL_CTX_use_PrivateKey(ctx, key) == 1 && SSL_CTX_check_private_key(ctx) == 1;

    EVP_PKEY_free(key);
    BIO_free(bio);
    return ok;
}

static bool trust(SSL_CTX *ctx, struct loch_slice pem)
{
    BIO *bio = bio_of(pem);
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    X509 *cert = NULL;
    int count = 0;
    bool ok = bio != NULL;

    while (ok && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        ok = X509_STORE_add_cert(store, cert) == 1 && SSL_CTX_add_client_CA(ctx, cert) == 1;
        X509_free(cert);
        count++;
    }
    BIO_free(bio);
    return ok && count > 0;
}

loch_status loch_tls_server_create_x509(struct loch_slice cert, struct loch_slice key,
                                        struct loch_slice client_ca, struct loch_tls_server **out)
{
    struct loch_tls_server *server = calloc(1, sizeof *server);
    const char *bad = NULL;
    loch_status st;

    if (server == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a TLS server");
    server->x509 = true;
    LOCH_TRY_OUT(st, context_create(&server->ctx));
    SSL_CTX_set_verify(server->ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    if (SSL_CTX_set1_groups_list(server->ctx, "X25519:P-256") != 1)
        bad = "TLS context";
    else if (!use_chain(server->ctx, cert))
        bad = "certificate";
    else if (!use_key(server->ctx, key))
        bad = "key (it must be the certificate's, in PEM, without a passphrase)";
    else if (!trust(server->ctx, client_ca))
        bad = "client authorities";
    ERR_clear_error(); /* the end of each PEM text leaves one */
    if (bad != NULL) {
        st = LOCH_FAIL(LOCH_E_INVALID, "unusable %s", bad);
        goto out;
    }
    *out = server;
    return LOCH_OK;
out:
    loch_tls_server_destroy(server);
    return st;
}

void loch_tls_server_destroy(struct loch_tls_server *server)
{
    if (server == NULL)
        return;
    SSL_CTX_free(server->ctx);
    loch_secret_fini(&server->decoy);
    free(server);
}

/* What all clients of the process share, made once and kept: a context has tables of its own, of
 * more than a connection's size. Identity and PSK are the client's (use_psk). */
static loch_status client_context(SSL_CTX **out)
{
    static _Atomic(SSL_CTX *) shared;
    SSL_CTX *ctx = shared;

    if (ctx == NULL) {
        LOCH_TRY(context_create(&ctx));
        /* The store is empty: whatever certificate a server shows, the handshake fails on it. */
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
        SSL_CTX_set_psk_use_session_callback(ctx, use_psk);
        if (SSL_CTX_set_alpn_protos(ctx, alpn_wire, sizeof alpn_wire) != 0) {
            SSL_CTX_free(ctx);
            return loch_openssl_failed("TLS ALPN");
        }
        SSL_CTX *expected = NULL;
        if (!atomic_compare_exchange_strong(&shared, &expected, ctx)) {
            SSL_CTX_free(ctx);
            ctx = expected;
        }
    }
    *out = ctx;
    return LOCH_OK;
}

loch_status loch_tls_client_create(struct loch_slice identity, const struct loch_secret *psk,
                                   struct loch_tls_client **out)
{
    loch_status st;

    if (psk->len != LOCH_PSK_BYTES || identity.len == 0 ||
        identity.len > LOCH_PSK_IDENTITY_MAX_BYTES)
        return LOCH_FAIL(LOCH_E_INVALID, "a PSK has %u bytes and an identity 1 to %u",
                         LOCH_PSK_BYTES, LOCH_PSK_IDENTITY_MAX_BYTES);
    struct loch_tls_client *client = calloc(1, sizeof *client);
    if (client == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a TLS client");
    LOCH_TRY_OUT(st, loch_secret_copy(&client->psk, psk));
    LOCH_TRY_OUT(st, loch_buf_append(&client->identity, identity.data, identity.len));
    LOCH_TRY_OUT(st, client_context(&client->ctx));
    *out = client;
    return LOCH_OK;
out:
    loch_tls_client_destroy(client);
    return st;
}

loch_status loch_tls_client_rekey(struct loch_tls_client *client, struct loch_slice identity,
                                  const struct loch_secret *psk)
{
    struct loch_tls_client *next = NULL;

    LOCH_TRY(loch_tls_client_create(identity, psk, &next));
    const struct loch_tls_client old = *client;
    *client = *next;
    *next = old;
    loch_tls_client_destroy(next);
    return LOCH_OK;
}

void loch_tls_client_destroy(struct loch_tls_client *client)
{
    if (client == NULL)
        return;
    loch_secret_fini(&client->psk);
    loch_buf_fini(&client->identity);
    free(client);
}

/* ---- connections ---- */

static loch_status connection_create(SSL_CTX *ctx, struct loch_tls **out)
{
    struct loch_tls *tls = calloc(1, sizeof *tls);

    if (tls == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a TLS connection");
    tls->rekey_after = REKEY_RECORDS;
    tls->ssl = SSL_new(ctx);
    BIO *bio = tls->ssl != NULL ? bio_create(tls) : NULL;
    if (bio != NULL)
        SSL_set_bio(tls->ssl, bio, bio);
    /* The callbacks find the connection through the application data. */
    if (bio == NULL || SSL_set_app_data(tls->ssl, tls) != 1) {
        loch_tls_destroy(tls);
        return loch_openssl_failed("TLS connection");
    }
    *out = tls;
    return LOCH_OK;
}

loch_status loch_tls_accept(struct loch_tls_server *server, struct loch_tls **out)
{
    LOCH_TRY(connection_create(server->ctx, out));
    (*out)->server = server;
    SSL_set_accept_state((*out)->ssl);
    return LOCH_OK;
}

loch_status loch_tls_connect(struct loch_tls_client *client, struct loch_tls **out)
{
    struct loch_tls *tls = NULL;

    LOCH_TRY(connection_create(client->ctx, &tls));
    LOCH_ASSERT(tls != NULL);
    loch_status st = loch_buf_append(&tls->identity, client->identity.data, client->identity.len);
    if (!loch_is_ok(st)) {
        loch_tls_destroy(tls);
        return st;
    }
    tls->client = client;
    SSL_set_connect_state(tls->ssl);
    *out = tls;
    return LOCH_OK;
}

void loch_tls_destroy(struct loch_tls *tls)
{
    if (tls == NULL)
        return;
#ifdef LOCH_NULL_CIPHER
    loch_buf_fini(&tls->part);
#endif
    SSL_free(tls->ssl);
    loch_buf_fini(&tls->identity);
    free(tls);
}

bool loch_tls_ready(const struct loch_tls *tls)
{
    return tls->ready && !tls->failed;
}

struct loch_slice loch_tls_identity(const struct loch_tls *tls)
{
    return loch_buf_slice(&tls->identity);
}

/* With certificates: the client's is there and proven; its common name is who it is. */
static bool verify_x509(struct loch_tls *tls)
{
    X509 *peer = SSL_get0_peer_certificate(tls->ssl);
    char name[128];

    if (peer == NULL || SSL_get_verify_result(tls->ssl) != X509_V_OK ||
        SSL_version(tls->ssl) != TLS1_3_VERSION)
        return false;
    int n = X509_NAME_get_text_by_NID(X509_get_subject_name(peer), NID_commonName, name,
                                      (int)sizeof name);
    /* Longer than its text, or cut: a name with a NUL in it or one too long to compare. */
    if (n <= 0 || (size_t)n != strlen(name) || (size_t)n + 1 >= sizeof name)
        return false;
    tls->identity.len = 0;
    return loch_is_ok(loch_buf_append(&tls->identity, name, (size_t)n));
}

/* What makes a finished handshake one of Loch's. */
static bool verify_handshake(struct loch_tls *tls)
{
    const unsigned char *alpn = NULL;
    unsigned int alpn_len = 0;
    const SSL_CIPHER *cipher = SSL_get_current_cipher(tls->ssl);

    if (tls->server != NULL && tls->server->x509)
        return verify_x509(tls);
    if (SSL_session_reused(tls->ssl) != 1 || SSL_get0_peer_certificate(tls->ssl) != NULL)
        return false;
    if (SSL_version(tls->ssl) != TLS1_3_VERSION || cipher == NULL ||
        SSL_CIPHER_get_id(cipher) != CIPHERSUITE_ID)
        return false;
    if (tls->identity.len == 0)
        return false;
    SSL_get0_alpn_selected(tls->ssl, &alpn, &alpn_len);
    return alpn_len + 1 == sizeof alpn_wire && memcmp(alpn, alpn_wire + 1, alpn_len) == 0;
}

/* OpenSSL's error queue into Loch's record; final for the connection. */
static loch_status connection_failed(struct loch_tls *tls, const char *what)
{
    char text[160] = "no reason given";
    const unsigned long code = ERR_peek_error();

    if (code != 0)
        ERR_error_string_n(code, text, sizeof text);
    ERR_clear_error();
    tls->failed = true;
    if (tls->wire_bad)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for outgoing TLS records");
    return LOCH_FAIL(tls->ready ? LOCH_E_CORRUPT : LOCH_E_DENIED, "%s: %s", what, text);
}

static loch_status handshake(struct loch_tls *tls)
{
    const size_t mark = tls->wire->len;
    const int rc = SSL_do_handshake(tls->ssl);
    if (rc == 1) {
        if (!verify_handshake(tls)) {
            tls->wire->len = mark;
            return connection_failed(tls, "the peer did not prove the PSK");
        }
        tls->ready = true;
        return LOCH_OK;
    }
    if (SSL_get_error(tls->ssl, rc) == SSL_ERROR_WANT_READ) {
        tls->spoke = tls->spoke || tls->wire->len > mark;
        return LOCH_OK;
    }
    if (tls->server != NULL && !tls->spoke && !tls->wire_bad) {
        /* Refused at its first flight: the same alert whatever the reason was. */
        tls->wire->len = mark;
        tls->wire_bad =
            !loch_is_ok(loch_buf_append(tls->wire, uniform_alert, sizeof uniform_alert));
    }
    return connection_failed(tls, "TLS handshake refused");
}

#ifdef LOCH_NULL_CIPHER
/* After the handshake, records of the same sizes with their contents in clear. */
#define NULL_HEAD 5u
#define NULL_TAIL 17u /* content type and tag */

static bool is_null(const struct loch_tls *tls)
{
    return tls->server == NULL || !tls->server->x509;
}

static loch_status null_write(struct loch_tls *tls, uint8_t type, struct loch_slice bytes)
{
    const size_t n = bytes.len + NULL_TAIL;
    const uint8_t head[NULL_HEAD] = {type, 3, 3, (uint8_t)(n >> 8), (uint8_t)n};

    LOCH_TRY(loch_buf_reserve(tls->wire, NULL_HEAD + n));
    LOCH_TRY(loch_buf_append(tls->wire, head, sizeof head));
    if (bytes.len > 0)
        LOCH_TRY(loch_buf_append(tls->wire, bytes.data, bytes.len));
    memset(tls->wire->data + tls->wire->len, 0, NULL_TAIL);
    tls->wire->len += NULL_TAIL;
    return LOCH_OK;
}

static loch_status null_read(struct loch_tls *tls, struct loch_buf *plain, bool *closed)
{
    LOCH_TRY(loch_buf_append(&tls->part, tls->in.data, tls->in.len));
    tls->in.len = 0;
    size_t at = 0;
    while (tls->part.len - at >= NULL_HEAD) {
        const uint8_t *head = tls->part.data + at;
        const size_t n = (size_t)head[3] << 8 | head[4];
        if (n < NULL_TAIL)
            return connection_failed(tls, "a record without cipher is too short");
        if (tls->part.len - at < NULL_HEAD + n)
            break;
        if (head[0] == 21)
            *closed = true;
        else
            LOCH_TRY(loch_buf_append(plain, head + NULL_HEAD, n - NULL_TAIL));
        at += NULL_HEAD + n;
    }
    loch_buf_consume(&tls->part, at);
    return LOCH_OK;
}
#endif

static loch_status read_records(struct loch_tls *tls, struct loch_buf *plain, bool *closed)
{
#ifdef LOCH_NULL_CIPHER
    if (is_null(tls))
        return null_read(tls, plain, closed);
#endif
    for (;;) {
        LOCH_TRY(loch_buf_reserve(plain, RECORD_BYTES));
        const int n = SSL_read(tls->ssl, plain->data + plain->len, (int)RECORD_BYTES);
        if (n > 0) {
            plain->len += (size_t)n;
            continue;
        }
        switch (SSL_get_error(tls->ssl, n)) {
        case SSL_ERROR_WANT_READ:
            return LOCH_OK;
        case SSL_ERROR_ZERO_RETURN:
            *closed = true;
            return LOCH_OK;
        default:
            return connection_failed(tls, "TLS record refused");
        }
    }
}

loch_status loch_tls_receive(struct loch_tls *tls, struct loch_slice ciphertext,
                             struct loch_buf *plain, struct loch_buf *wire, bool *closed)
{
    loch_status st = LOCH_OK;

    if (tls->failed)
        return LOCH_FAIL(LOCH_E_DENIED, "the TLS connection has failed before");
    ERR_clear_error();
    tls->in = ciphertext;
    tls->wire = wire;
    if (!tls->ready)
        st = handshake(tls);
    if (loch_is_ok(st) && tls->ready)
        st = read_records(tls, plain, closed);
    tls->in = (struct loch_slice){NULL, 0};
    tls->wire = NULL;
    if (!loch_is_ok(st))
        tls->failed = true;
    return st;
}

loch_status loch_tls_send(struct loch_tls *tls, struct loch_slice plaintext, struct loch_buf *wire)
{
    loch_status st = LOCH_OK;

    if (!loch_tls_ready(tls))
        return LOCH_FAIL(LOCH_E_INVALID, "the TLS connection is not ready to send");
    ERR_clear_error();
    tls->wire = wire;
    while (plaintext.len > 0 && loch_is_ok(st)) {
        const size_t n = plaintext.len < RECORD_BYTES ? plaintext.len : RECORD_BYTES;
        if (tls->records_since_rekey >= tls->rekey_after) {
            st = loch_tls_rekey(tls, wire);
            tls->wire = wire;
            if (!loch_is_ok(st))
                break;
        }
#ifdef LOCH_NULL_CIPHER
        if (is_null(tls)) {
            st = null_write(tls, 23, loch_slice_of(plaintext.data, n));
            plaintext.data += n;
            plaintext.len -= n;
            continue;
        }
#endif
        if (SSL_write(tls->ssl, plaintext.data, (int)n) != (int)n)
            st = connection_failed(tls, "TLS send");
        tls->records_since_rekey++;
        plaintext.data += n;
        plaintext.len -= n;
    }
    tls->wire = NULL;
    return st;
}

loch_status loch_tls_rekey(struct loch_tls *tls, struct loch_buf *wire)
{
    loch_status st = LOCH_OK;

    if (!loch_tls_ready(tls))
        return LOCH_FAIL(LOCH_E_INVALID, "the TLS connection is not ready to renew keys");
#ifdef LOCH_NULL_CIPHER
    if (is_null(tls))
        return LOCH_OK;
#endif
    tls->wire = wire;
    /* Asks the peer to renew its sending key too; SSL_do_handshake sends the message. */
    if (SSL_get_key_update_type(tls->ssl) == SSL_KEY_UPDATE_NONE &&
        (SSL_key_update(tls->ssl, SSL_KEY_UPDATE_REQUESTED) != 1 ||
         SSL_do_handshake(tls->ssl) != 1))
        st = connection_failed(tls, "TLS KeyUpdate");
    tls->wire = NULL;
    tls->records_since_rekey = 0;
    tls->rekeys++;
    return st;
}

loch_status loch_tls_tick(struct loch_tls *tls, uint64_t now_ns, struct loch_buf *wire)
{
    if (tls->rekeyed_ns == 0)
        tls->rekeyed_ns = now_ns;
    if (now_ns < tls->rekeyed_ns || now_ns - tls->rekeyed_ns < LOCH_TLS_REKEY_NS)
        return LOCH_OK;
    LOCH_TRY(loch_tls_rekey(tls, wire));
    tls->rekeyed_ns = now_ns;
    return LOCH_OK;
}

loch_status loch_tls_close(struct loch_tls *tls, struct loch_buf *wire)
{
    if (!loch_tls_ready(tls))
        return LOCH_OK;
    ERR_clear_error();
    tls->wire = wire;
#ifdef LOCH_NULL_CIPHER
    if (is_null(tls)) {
        const loch_status st = null_write(tls, 21, loch_slice_of(NULL, 0));
        tls->wire = NULL;
        return st;
    }
#endif
    (void)SSL_shutdown(tls->ssl);
    tls->wire = NULL;
    ERR_clear_error();
    return tls->wire_bad ? connection_failed(tls, "TLS close") : LOCH_OK;
}

void loch_tls_test_rekey_after(struct loch_tls *tls, uint64_t records)
{
    tls->rekey_after = records;
}

uint64_t loch_tls_test_rekeys(const struct loch_tls *tls)
{
    return tls->rekeys;
}
