/* The TLS engine against itself, against wrong keys, and against the attackers that a client or
 * server set up in the obvious way would accept or be. */
#include "../unit.h"

#include "loch/crypto/psk.h"
#include "loch/crypto/random.h"
#include "loch/crypto/tls.h"
#include "tls_internal.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdlib.h>

/* Two tenants, each with a wire key; the server knows both. */
struct world {
    struct loch_secret k_wire[2];
    struct loch_id tenant[2];
    struct loch_psk_identity identity; /* of tenant 0 */
    struct loch_tls_server *server;
    int lookups;
};

struct pair {
    struct loch_tls *client;
    struct loch_tls *server;
    struct loch_buf to_server, to_client; /* on the wire */
    struct loch_buf at_server, at_client; /* plaintext received */
    bool closed;
};

static bool lookup(void *arg, struct loch_slice bytes, struct loch_secret *psk)
{
    struct world *w = arg;
    struct loch_psk_identity id;

    w->lookups++;
    if (!loch_is_ok(loch_psk_identity_decode(bytes, &id)))
        return false;
    for (int i = 0; i < 2; i++)
        if (loch_id_equal(&id.tenant, &w->tenant[i]))
            return loch_is_ok(loch_psk_derive(&w->k_wire[i], &id, psk));
    return false;
}

static int world_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);

    assert_non_null(w);
    for (int i = 0; i < 2; i++) {
        assert_ok(loch_random_secret(&w->k_wire[i], 32));
        assert_ok(loch_random_id(&w->tenant[i]));
    }
    w->identity = (struct loch_psk_identity){
        .version = 1,
        .client_role = LOCH_ROLE_COMPUTE,
        .server_role = LOCH_ROLE_PAGESERVER,
        .rights = LOCH_RIGHT_PAGES,
        .wire_epoch = 1,
        .tenant = w->tenant[0],
        .compute_epoch = 4,
    };
    assert_ok(loch_random_id(&w->identity.cluster));
    assert_ok(loch_random_id(&w->identity.timeline));
    assert_ok(loch_random_id(&w->identity.client_id));
    assert_ok(loch_random_id(&w->identity.client_boot));
    assert_ok(loch_random_id(&w->identity.server_node));
    assert_ok(loch_tls_server_create(lookup, w, &w->server));
    *state = w;
    return 0;
}

static int world_down(void **state)
{
    struct world *w = *state;

    loch_tls_server_destroy(w->server);
    loch_secret_fini(&w->k_wire[0]);
    loch_secret_fini(&w->k_wire[1]);
    free(w);
    return 0;
}

static struct loch_tls_client *client_of(const struct loch_psk_identity *id,
                                         const struct loch_secret *k_wire)
{
    struct loch_secret psk = {0};
    struct loch_buf encoded = {0};
    struct loch_tls_client *client = NULL;

    assert_ok(loch_psk_derive(k_wire, id, &psk));
    assert_ok(loch_psk_identity_encode(id, &encoded));
    assert_ok(loch_tls_client_create(loch_buf_slice(&encoded), &psk, &client));
    loch_secret_fini(&psk);
    loch_buf_fini(&encoded);
    return client;
}

static void pair_fini(struct pair *p)
{
    loch_tls_destroy(p->client);
    loch_tls_destroy(p->server);
    loch_buf_fini(&p->to_server);
    loch_buf_fini(&p->to_client);
    loch_buf_fini(&p->at_server);
    loch_buf_fini(&p->at_client);
}

/* Feeds what waits, `step` bytes at a time; stops at the first failure of either end. */
static loch_status pump(struct pair *p, size_t step)
{
    while (p->to_server.len > 0 || p->to_client.len > 0) {
        while (p->to_server.len > 0) {
            const size_t n = p->to_server.len < step ? p->to_server.len : step;
            LOCH_TRY(loch_tls_receive(p->server, loch_slice_of(p->to_server.data, n), &p->at_server,
                                      &p->to_client, &p->closed));
            loch_buf_consume(&p->to_server, n);
        }
        while (p->to_client.len > 0) {
            const size_t n = p->to_client.len < step ? p->to_client.len : step;
            LOCH_TRY(loch_tls_receive(p->client, loch_slice_of(p->to_client.data, n), &p->at_client,
                                      &p->to_server, &p->closed));
            loch_buf_consume(&p->to_client, n);
        }
    }
    return LOCH_OK;
}

static loch_status greet(struct world *w, struct loch_tls_client *client, struct pair *p,
                         size_t step)
{
    LOCH_TRY(loch_tls_accept(w->server, &p->server));
    LOCH_TRY(loch_tls_connect(client, &p->client));
    LOCH_TRY(loch_tls_receive(p->client, loch_slice_of(NULL, 0), &p->at_client, &p->to_server,
                              &p->closed));
    return pump(p, step);
}

static void round_trip_of_megabytes(void **state)
{
    struct world *w = *state;
    const size_t len = 5u << 20;
    uint8_t *bytes = malloc(len);

    assert_non_null(bytes);
    assert_ok(loch_random_bytes(bytes, len));
    for (size_t step = 1; step <= (1u << 20); step *= 1024) {
        struct loch_tls_client *client = client_of(&w->identity, &w->k_wire[0]);
        struct pair p = {0};
        assert_ok(greet(w, client, &p, step));
        assert_true(loch_tls_ready(p.client));
        assert_true(loch_tls_ready(p.server));
        assert_int_equal(loch_tls_identity(p.server).len, loch_tls_identity(p.client).len);
        assert_memory_equal(loch_tls_identity(p.server).data, loch_tls_identity(p.client).data,
                            loch_tls_identity(p.client).len);
        const size_t n = step == 1 ? 70000 : len;
        assert_ok(loch_tls_send(p.client, loch_slice_of(bytes, n), &p.to_server));
        assert_ok(loch_tls_send(p.server, loch_slice_of(bytes, n), &p.to_client));
        assert_ok(pump(&p, step));
        assert_int_equal(p.at_server.len, n);
        assert_int_equal(p.at_client.len, n);
        assert_memory_equal(p.at_server.data, bytes, n);
        assert_memory_equal(p.at_client.data, bytes, n);
        assert_false(p.closed);
        assert_ok(loch_tls_close(p.client, &p.to_server));
        assert_ok(pump(&p, step));
        assert_true(p.closed);
        pair_fini(&p);
        loch_tls_client_destroy(client);
    }
    free(bytes);
}

/* What a client has been given anew counts from the next handshake on. */
static void clients_can_be_rekeyed(void **state)
{
    struct world *w = *state;
    struct loch_psk_identity next = w->identity;
    struct loch_secret psk = {0};
    struct loch_buf encoded = {0};
    struct loch_tls_client *client = client_of(&w->identity, &w->k_wire[1]); /* a wrong key */
    struct pair p[3] = {0};

    assert_false(loch_is_ok(greet(w, client, &p[0], 4096)));
    next.wire_epoch = 2;
    assert_ok(loch_psk_derive(&w->k_wire[0], &next, &psk));
    assert_ok(loch_psk_identity_encode(&next, &encoded));
    assert_ok(loch_tls_client_rekey(client, loch_buf_slice(&encoded), &psk));
    assert_ok(greet(w, client, &p[1], 4096));
    assert_memory_equal(loch_tls_identity(p[1].server).data, encoded.data, encoded.len);
    assert_code(loch_tls_client_rekey(client, loch_slice_of("", 0), &psk), LOCH_E_INVALID);
    assert_ok(greet(w, client, &p[2], 4096)); /* as it was */
    assert_ok(loch_tls_client_rekey(client, loch_slice_of("other", 5), &psk));
    assert_ok(loch_tls_send(p[1].client, loch_slice_of("still here", 10), &p[1].to_server));
    assert_ok(pump(&p[1], 4096));
    assert_int_equal(p[1].at_server.len, 10);
    for (int i = 0; i < 3; i++)
        pair_fini(&p[i]);
    loch_secret_fini(&psk);
    loch_buf_fini(&encoded);
    loch_tls_client_destroy(client);
}

static void key_update_keeps_the_stream(void **state)
{
    struct world *w = *state;
    struct loch_tls_client *client = client_of(&w->identity, &w->k_wire[0]);
    struct pair p = {0};
    uint8_t byte = 0;

    assert_ok(greet(w, client, &p, 4096));
    loch_tls_test_rekey_after(p.client, 4);
    loch_tls_test_rekey_after(p.server, 8);
    for (int i = 0; i < 100; i++) {
        byte = (uint8_t)i;
        assert_ok(loch_tls_send(p.client, loch_slice_of(&byte, 1), &p.to_server));
        if (i % 3 == 0)
            assert_ok(loch_tls_send(p.server, loch_slice_of(&byte, 1), &p.to_client));
        if (i % 7 == 0)
            assert_ok(pump(&p, 4096));
    }
    assert_ok(loch_tls_rekey(p.server, &p.to_client));
    assert_ok(pump(&p, 4096));
    const uint64_t before = loch_tls_test_rekeys(p.server);
    assert_ok(loch_tls_tick(p.server, 5, &p.to_client));
    assert_ok(loch_tls_tick(p.server, 4 + LOCH_TLS_REKEY_NS, &p.to_client));
    assert_int_equal(loch_tls_test_rekeys(p.server), before);
    assert_ok(loch_tls_tick(p.server, 5 + LOCH_TLS_REKEY_NS, &p.to_client));
    assert_ok(loch_tls_tick(p.server, 6 + LOCH_TLS_REKEY_NS, &p.to_client));
    assert_int_equal(loch_tls_test_rekeys(p.server), before + 1);
    assert_ok(pump(&p, 4096));
    assert_int_equal(p.at_server.len, 100);
    assert_int_equal(p.at_client.len, 34);
    assert_int_equal(p.at_server.data[99], 99);
    assert_true(loch_tls_test_rekeys(p.client) >= 20);
    assert_true(loch_tls_test_rekeys(p.server) >= 3);
    pair_fini(&p);
    loch_tls_client_destroy(client);
}

/* Every refusal at the first flight looks the same from outside. */
static void refusals_are_uniform(void **state)
{
    struct world *w = *state;
    struct loch_psk_identity id = w->identity;
    struct loch_buf first = {0};

    for (int i = 0; i < 4; i++) {
        struct pair p = {0};
        struct loch_tls_client *client = NULL;
        id = w->identity;
        if (i == 0) { /* wrong key */
            client = client_of(&id, &w->k_wire[1]);
        } else if (i == 1) { /* unknown tenant */
            assert_ok(loch_random_id(&id.tenant));
            client = client_of(&id, &w->k_wire[0]);
        } else if (i == 2) { /* names the other tenant, knows only its own key */
            id.tenant = w->tenant[1];
            client = client_of(&id, &w->k_wire[0]);
        } else { /* the PSK of one identity under another: one more right */
            struct loch_secret psk = {0};
            struct loch_buf encoded = {0};
            assert_ok(loch_psk_derive(&w->k_wire[0], &id, &psk));
            id.rights |= LOCH_RIGHT_WAL_PULL;
            assert_ok(loch_psk_identity_encode(&id, &encoded));
            assert_ok(loch_tls_client_create(loch_buf_slice(&encoded), &psk, &client));
            loch_secret_fini(&psk);
            loch_buf_fini(&encoded);
        }
        assert_code(greet(w, client, &p, 1u << 20), LOCH_E_DENIED);
        assert_false(loch_tls_ready(p.server));
        assert_false(loch_tls_ready(p.client));
        assert_int_equal(p.to_client.len, 7);
        if (first.len == 0)
            assert_ok(loch_buf_append(&first, p.to_client.data, p.to_client.len));
        assert_memory_equal(first.data, p.to_client.data, first.len);
        /* The client refuses too, and both stay refused. */
        p.to_server.len = 0;
        assert_code(pump(&p, 1u << 20), LOCH_E_DENIED);
        assert_code(loch_tls_send(p.client, loch_slice_of("x", 1), &p.to_server), LOCH_E_INVALID);
        assert_code(loch_tls_receive(p.server, loch_slice_of("x", 1), &p.at_server, &p.to_client,
                                     &p.closed),
                    LOCH_E_DENIED);
        pair_fini(&p);
        loch_tls_client_destroy(client);
    }
    loch_buf_fini(&first);
}

static void garbage_is_refused(void **state)
{
    struct world *w = *state;
    static const char http[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    static const uint8_t ssl2[] = {0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10, 1, 2, 3, 4, 5};

    for (int i = 0; i < 66; i++) {
        struct pair p = {0};
        uint8_t noise[64];
        struct loch_slice in = loch_slice_of(noise, sizeof noise);
        assert_ok(loch_random_bytes(noise, sizeof noise));
        if (i == 0)
            in = loch_slice_of(http, sizeof http - 1);
        if (i == 1)
            in = loch_slice_of(ssl2, sizeof ssl2);
        if (i > 33) { /* a plausible record header around noise */
            noise[0] = 22;
            noise[1] = 3;
            noise[2] = 1;
            noise[3] = 0;
            noise[4] = 59;
        }
        assert_ok(loch_tls_accept(w->server, &p.server));
        loch_status st = loch_tls_receive(p.server, in, &p.at_server, &p.to_client, &p.closed);
        assert_false(loch_tls_ready(p.server));
        assert_int_equal(p.at_server.len, 0);
        if (!loch_is_ok(st))
            assert_int_equal(p.to_client.len, 7);
        pair_fini(&p);
    }
}

static void truncated_handshake_is_not_ready(void **state)
{
    struct world *w = *state;
    struct loch_tls_client *client = client_of(&w->identity, &w->k_wire[0]);

    for (size_t cut = 1; cut < 300; cut += 37) {
        struct pair p = {0};
        assert_ok(loch_tls_accept(w->server, &p.server));
        assert_ok(loch_tls_connect(client, &p.client));
        assert_ok(loch_tls_receive(p.client, loch_slice_of(NULL, 0), &p.at_client, &p.to_server,
                                   &p.closed));
        assert_true(p.to_server.len > cut);
        assert_ok(loch_tls_receive(p.server, loch_slice_of(p.to_server.data, p.to_server.len - cut),
                                   &p.at_server, &p.to_client, &p.closed));
        assert_false(loch_tls_ready(p.server));
        assert_int_equal(p.to_client.len, 0);
        pair_fini(&p);
    }
    loch_tls_client_destroy(client);
}

/* A flipped byte anywhere in the established stream ends it. */
static void tampered_records_end_the_stream(void **state)
{
    struct world *w = *state;
    struct loch_tls_client *client = client_of(&w->identity, &w->k_wire[0]);

    for (size_t at = 0; at < 120; at += 11) {
        struct pair p = {0};
        uint8_t bytes[100] = {9};
        assert_ok(greet(w, client, &p, 4096));
        assert_ok(loch_tls_send(p.client, loch_slice_of(bytes, sizeof bytes), &p.to_server));
        assert_true(p.to_server.len > at);
        p.to_server.data[at] ^= 0x40;
        loch_status st = pump(&p, 4096);
        if (at == 3 || at == 4) { /* a longer record: it waits for bytes that never come */
            assert_int_equal(p.at_server.len, 0);
        } else {
            assert_false(loch_is_ok(st));
            assert_false(loch_tls_ready(p.server));
        }
        assert_int_equal(p.at_server.len, 0);
        pair_fini(&p);
    }
    loch_tls_client_destroy(client);
}

/* What somebody in between can do with whole records, which he cannot read. */
enum relay { REPLAY, DROP, REORDER, MOVE, REFLECT, RELAYS };

static void say(struct pair *p, const char *text, struct loch_buf *record)
{
    assert_ok(loch_tls_send(p->client, loch_slice_of(text, strlen(text)), record));
}

static void records_cannot_be_replayed_dropped_reordered_or_moved(void **state)
{
    struct world *w = *state;
    struct loch_tls_client *client = client_of(&w->identity, &w->k_wire[0]);

    for (int what = 0; what < RELAYS; what++) {
        struct pair p = {0}, other = {0};
        struct loch_buf one = {0}, two = {0};
        loch_status st = LOCH_OK;
        assert_ok(greet(w, client, &p, 4096));
        assert_ok(greet(w, client, &other, 4096)); /* same keys, same moment, its own secrets */
        say(&p, "first", &one);
        say(what == MOVE ? &other : &p, "second", &two);
        if (what == REFLECT) { /* what the client said comes back as if the server had */
            st = loch_tls_receive(p.client, loch_buf_slice(&one), &p.at_client, &p.to_server,
                                  &p.closed);
            assert_int_equal(p.at_client.len, 0);
        } else {
            const struct loch_buf *order[2] = {what == REORDER || what == DROP ? &two : &one,
                                               what == REPLAY || what == REORDER ? &one : &two};
            for (int i = 0; i < 2 && loch_is_ok(st); i++)
                st = loch_tls_receive(p.server, loch_buf_slice(order[i]), &p.at_server,
                                      &p.to_client, &p.closed);
            assert_int_equal(p.at_server.len, what == REPLAY || what == MOVE ? 5 : 0);
            assert_false(loch_tls_ready(p.server));
        }
        assert_false(loch_is_ok(st));
        assert_false(p.closed);
        loch_buf_fini(&one);
        loch_buf_fini(&two);
        pair_fini(&other);
        pair_fini(&p);
    }
    loch_tls_client_destroy(client);
}

/* ---- attackers built straight on OpenSSL, with certificates and without the PSK ---- */

static void self_signed(EVP_PKEY **key, X509 **cert)
{
    *key = EVP_EC_gen("P-256");
    *cert = X509_new();
    assert_non_null(*key);
    assert_non_null(*cert);
    X509_set_version(*cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(*cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(*cert), -10);
    X509_gmtime_adj(X509_getm_notAfter(*cert), 3600);
    X509_set_pubkey(*cert, *key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(*cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)"loch", -1, -1, 0);
    X509_set_issuer_name(*cert, X509_get_subject_name(*cert));
    assert_true(X509_sign(*cert, *key, EVP_sha256()) > 0);
}

static int any_alpn(SSL *ssl, const unsigned char **out, unsigned char *len,
                    const unsigned char *in, unsigned int in_len, void *arg)
{
    (void)ssl;
    (void)arg;
    assert_true(in_len > in[0]);
    *out = in + 1;
    *len = in[0];
    return SSL_TLSEXT_ERR_OK;
}

static SSL *attacker(SSL_CTX *ctx, BIO **in, BIO **out)
{
    SSL *ssl = SSL_new(ctx);

    *in = BIO_new(BIO_s_mem());
    *out = BIO_new(BIO_s_mem());
    assert_non_null(ssl);
    SSL_set_bio(ssl, *in, *out);
    return ssl;
}

static void move_out(BIO *bio, struct loch_buf *to)
{
    char bytes[4096];
    int n;

    while ((n = BIO_read(bio, bytes, sizeof bytes)) > 0)
        assert_ok(loch_buf_append(to, bytes, (size_t)n));
}

/* The man in the middle: a server with its own certificate that ignores the PSK. */
static void self_signed_server_is_refused(void **state)
{
    struct world *w = *state;
    struct loch_tls_client *client = client_of(&w->identity, &w->k_wire[0]);
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    EVP_PKEY *key;
    X509 *cert;
    BIO *in;
    BIO *out;
    struct pair p = {0};
    loch_status st = LOCH_OK;

    self_signed(&key, &cert);
    assert_int_equal(SSL_CTX_use_certificate(ctx, cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
    SSL_CTX_set_alpn_select_cb(ctx, any_alpn, NULL);
    SSL *ssl = attacker(ctx, &in, &out);
    SSL_set_accept_state(ssl);
    assert_ok(loch_tls_connect(client, &p.client));
    assert_ok(
        loch_tls_receive(p.client, loch_slice_of(NULL, 0), &p.at_client, &p.to_server, &p.closed));
    for (int i = 0; i < 5 && loch_is_ok(st); i++) {
        assert_true(BIO_write(in, p.to_server.data, (int)p.to_server.len) >= 0);
        p.to_server.len = 0;
        (void)SSL_do_handshake(ssl);
        move_out(out, &p.to_client);
        st = loch_tls_receive(p.client, loch_buf_slice(&p.to_client), &p.at_client, &p.to_server,
                              &p.closed);
        p.to_client.len = 0;
    }
    assert_code(st, LOCH_E_DENIED);
    assert_false(loch_tls_ready(p.client));
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    EVP_PKEY_free(key);
    X509_free(cert);
    pair_fini(&p);
    loch_tls_client_destroy(client);
}

/* A client that does what a TLS client usually does, with a certificate and without: against the
 * server. */
static void obvious_client_is_refused(void **state)
{
    struct world *w = *state;

    for (int with_cert = 0; with_cert < 2; with_cert++) {
        SSL_CTX *ctx = SSL_CTX_new(TLS_method());
        EVP_PKEY *key = NULL;
        X509 *cert = NULL;
        BIO *in;
        BIO *out;
        struct pair p = {0};
        static const uint8_t alpn[] = {6, 'l', 'o', 'c', 'h', '/', '1'};
        if (with_cert) {
            self_signed(&key, &cert);
            assert_int_equal(SSL_CTX_use_certificate(ctx, cert), 1);
            assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
        }
        SSL_CTX_set_alpn_protos(ctx, alpn, sizeof alpn);
        SSL *ssl = attacker(ctx, &in, &out);
        SSL_set_connect_state(ssl);
        (void)SSL_do_handshake(ssl);
        move_out(out, &p.to_server);
        assert_true(p.to_server.len > 0);
        assert_ok(loch_tls_accept(w->server, &p.server));
        assert_code(loch_tls_receive(p.server, loch_buf_slice(&p.to_server), &p.at_server,
                                     &p.to_client, &p.closed),
                    LOCH_E_DENIED);
        assert_int_equal(p.to_client.len, 7);
        SSL_free(ssl);
        SSL_CTX_free(ctx);
        EVP_PKEY_free(key);
        X509_free(cert);
        pair_fini(&p);
    }
}

/* ---- identities ---- */

static void identity_round_trip_and_refusals(void **state)
{
    struct world *w = *state;
    struct loch_buf b = {0};
    struct loch_psk_identity back;
    struct loch_psk_identity bad;

    assert_ok(loch_psk_identity_encode(&w->identity, &b));
    assert_true(b.len <= LOCH_PSK_IDENTITY_MAX_BYTES);
    assert_ok(loch_psk_identity_decode(loch_buf_slice(&b), &back));
    assert_memory_equal(&back.tenant, &w->identity.tenant, sizeof back.tenant);
    assert_int_equal(back.compute_epoch, 4);
    for (size_t n = 0; n < b.len; n++)
        assert_code(loch_psk_identity_decode(loch_slice_of(b.data, n), &back), LOCH_E_CORRUPT);
    assert_ok(loch_buf_append(&b, "x", 1));
    assert_code(loch_psk_identity_decode(loch_buf_slice(&b), &back), LOCH_E_CORRUPT);
    bad = w->identity;
    bad.version = 2;
    assert_code(loch_psk_identity_encode(&bad, &b), LOCH_E_INVALID);
    bad = w->identity;
    bad.rights = 0x80;
    assert_code(loch_psk_identity_encode(&bad, &b), LOCH_E_INVALID);
    bad = w->identity;
    bad.compute_epoch = 0;
    assert_code(loch_psk_identity_encode(&bad, &b), LOCH_E_INVALID);
    bad = w->identity;
    bad.server_role = LOCH_ROLE_COMPUTE;
    assert_code(loch_psk_identity_encode(&bad, &b), LOCH_E_INVALID);
    loch_buf_fini(&b);
}

/* Every field of the identity is part of the key. */
static void every_field_changes_the_psk(void **state)
{
    struct world *w = *state;
    struct loch_buf b = {0};
    struct loch_secret base = {0};
    int changed = 0;

    assert_ok(loch_psk_derive(&w->k_wire[0], &w->identity, &base));
    assert_int_equal(base.len, LOCH_PSK_BYTES);
    assert_ok(loch_psk_identity_encode(&w->identity, &b));
    for (size_t i = 0; i < b.len; i++) {
        struct loch_psk_identity id;
        struct loch_secret other = {0};
        b.data[i] ^= 2;
        if (loch_is_ok(loch_psk_identity_decode(loch_buf_slice(&b), &id))) {
            assert_ok(loch_psk_derive(&w->k_wire[0], &id, &other));
            assert_false(loch_secret_equal(&base, &other));
            loch_secret_fini(&other);
            changed++;
        }
        b.data[i] ^= 2;
    }
    assert_true(changed > 100);
    loch_secret_fini(&base);
    loch_buf_fini(&b);
}

/* Computed by an independent HKDF over the layout of docs/protocol/wire.md. */
static void psk_known_answer(void **state)
{
    struct loch_psk_identity id = {.version = 1,
                                   .client_role = LOCH_ROLE_COMPUTE,
                                   .server_role = LOCH_ROLE_PAGESERVER,
                                   .rights = LOCH_RIGHT_PAGES,
                                   .wire_epoch = 7,
                                   .compute_epoch = 9};
    uint8_t key[32];
    char text[2 * LOCH_PSK_BYTES + 1];
    struct loch_secret k_wire = {0};
    struct loch_secret psk = {0};

    (void)state;
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)i;
    memset(id.cluster.bytes, 0x11, 16);
    memset(id.tenant.bytes, 0x22, 16);
    memset(id.timeline.bytes, 0x33, 16);
    memset(id.client_id.bytes, 0x44, 16);
    memset(id.client_boot.bytes, 0x55, 16);
    memset(id.server_node.bytes, 0x66, 16);
    assert_ok(loch_secret_from(&k_wire, key, sizeof key));
    assert_ok(loch_psk_derive(&k_wire, &id, &psk));
    loch_hex_format(psk.bytes, psk.len, text);
    assert_string_equal(text, "112777154004b04a1a04e228ee0e8160d4ffba0403fca5c7cd5c69e19fb66bbd"
                              "c0f9069cdd3e546db28e5259fbf41552");
    loch_secret_fini(&k_wire);
    loch_secret_fini(&psk);
}

static void clients_want_whole_keys(void **state)
{
    struct loch_secret psk = {0};
    struct loch_tls_client *client = NULL;

    (void)state;
    assert_ok(loch_random_secret(&psk, 32));
    assert_code(loch_tls_client_create(loch_slice_of("id", 2), &psk, &client), LOCH_E_INVALID);
    loch_secret_fini(&psk);
    assert_ok(loch_random_secret(&psk, LOCH_PSK_BYTES));
    assert_code(loch_tls_client_create(loch_slice_of("", 0), &psk, &client), LOCH_E_INVALID);
    loch_secret_fini(&psk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip_of_megabytes),
        cmocka_unit_test(clients_can_be_rekeyed),
        cmocka_unit_test(key_update_keeps_the_stream),
        cmocka_unit_test(refusals_are_uniform),
        cmocka_unit_test(garbage_is_refused),
        cmocka_unit_test(truncated_handshake_is_not_ready),
        cmocka_unit_test(tampered_records_end_the_stream),
        cmocka_unit_test(records_cannot_be_replayed_dropped_reordered_or_moved),
        cmocka_unit_test(self_signed_server_is_refused),
        cmocka_unit_test(obvious_client_is_refused),
        cmocka_unit_test(identity_round_trip_and_refusals),
        cmocka_unit_test(every_field_changes_the_psk),
        cmocka_unit_test(psk_known_answer),
        cmocka_unit_test(clients_want_whole_keys),
    };
    return cmocka_run_group_tests(tests, world_up, world_down);
}
