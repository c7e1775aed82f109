/* The TLS server with certificates: whom it lets in, whom not, and what it takes for its own. */
#include "../unit.h"

#include "loch/crypto/tls.h"

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

struct identity {
    EVP_PKEY *key;
    X509 *cert;
    struct loch_buf key_pem, cert_pem;
};

static void to_buf(BIO *bio, struct loch_buf *out)
{
    char bytes[4096];
    int n;

    while ((n = BIO_read(bio, bytes, sizeof bytes)) > 0)
        assert_ok(loch_buf_append(out, bytes, (size_t)n));
    BIO_free(bio);
}

/* Signed by `by`, or by itself. */
static struct identity identity(const char *name, const struct identity *by)
{
    struct identity id = {.key = EVP_EC_gen("P-256"), .cert = X509_new()};

    X509_set_version(id.cert, by == NULL ? 0 : 2); /* of version 1: may sign without saying so */
    ASN1_INTEGER_set(X509_get_serialNumber(id.cert), by == NULL ? 1 : 2);
    X509_gmtime_adj(X509_getm_notBefore(id.cert), -10);
    X509_gmtime_adj(X509_getm_notAfter(id.cert), 3600);
    X509_set_pubkey(id.cert, id.key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(id.cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(id.cert, X509_get_subject_name(by == NULL ? id.cert : by->cert));
    assert_true(X509_sign(id.cert, by == NULL ? id.key : by->key, EVP_sha256()) > 0);
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_X509(bio, id.cert), 1);
    to_buf(bio, &id.cert_pem);
    bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_PrivateKey(bio, id.key, NULL, NULL, 0, NULL, NULL), 1);
    to_buf(bio, &id.key_pem);
    return id;
}

static void identity_fini(struct identity *id)
{
    EVP_PKEY_free(id->key);
    X509_free(id->cert);
    loch_buf_fini(&id->cert_pem);
    loch_buf_fini(&id->key_pem);
}

static loch_status server_of(const struct identity *self, const struct identity *key,
                             const struct identity *ca, struct loch_tls_server **out)
{
    return loch_tls_server_create_x509(loch_buf_slice(&self->cert_pem),
                                       loch_buf_slice(&key->key_pem), loch_buf_slice(&ca->cert_pem),
                                       out);
}

/* An ordinary client, with a certificate or without (NULL), of at most `version`. Returns the
 * server's last status; *name: whom it took the client for. */
static loch_status shake(struct loch_tls_server *server, const struct identity *client, int version,
                         char name[static 64])
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    SSL *ssl = NULL;
    BIO *in = BIO_new(BIO_s_mem());
    BIO *out = BIO_new(BIO_s_mem());
    struct loch_tls *tls = NULL;
    struct loch_buf plain = {0};
    struct loch_buf wire = {0};
    loch_status st = LOCH_OK;
    bool closed = false;

    if (client != NULL) {
        assert_int_equal(SSL_CTX_use_certificate(ctx, client->cert), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey(ctx, client->key), 1);
    }
    assert_int_equal(SSL_CTX_set_max_proto_version(ctx, version), 1);
    ssl = SSL_new(ctx);
    SSL_set_bio(ssl, in, out);
    SSL_set_connect_state(ssl);
    assert_ok(loch_tls_accept(server, &tls));
    for (int i = 0; i < 6 && loch_is_ok(st); i++) {
        char bytes[8192];
        (void)SSL_do_handshake(ssl);
        if (i == 4 && loch_tls_ready(tls))
            assert_int_equal(SSL_write(ssl, "hello", 5), 5);
        int n = BIO_read(out, bytes, sizeof bytes);
        wire.len = 0;
        st = loch_tls_receive(tls, loch_slice_of(bytes, n > 0 ? (size_t)n : 0), &plain, &wire,
                              &closed);
        if (wire.len > 0)
            assert_int_equal(BIO_write(in, wire.data, (int)wire.len), (int)wire.len);
    }
    name[0] = '\0';
    if (loch_is_ok(st) && loch_tls_ready(tls)) {
        struct loch_slice id = loch_tls_identity(tls);
        (void)snprintf(name, 64, "%.*s", (int)id.len, (const char *)id.data);
        assert_int_equal(plain.len, 5);
        assert_memory_equal(plain.data, "hello", 5);
    } else {
        assert_int_equal(plain.len, 0);
    }
    loch_tls_destroy(tls);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    loch_buf_fini(&plain);
    loch_buf_fini(&wire);
    return st;
}

static void who_is_let_in(void **state)
{
    struct identity ca = identity("authority", NULL);
    struct identity other_ca = identity("authority", NULL); /* of the same name */
    struct identity self = identity("server", &ca);
    struct identity good = identity("exporter", &ca);
    struct identity bad = identity("exporter", &other_ca);
    struct identity own = identity("exporter", NULL);
    struct loch_tls_server *server = NULL;
    char name[64];

    (void)state;
    assert_ok(server_of(&self, &self, &ca, &server));
    assert_ok(shake(server, &good, TLS1_3_VERSION, name));
    assert_string_equal(name, "exporter");
    assert_code(shake(server, NULL, TLS1_3_VERSION, name), LOCH_E_DENIED);
    assert_code(shake(server, &bad, TLS1_3_VERSION, name), LOCH_E_DENIED);
    assert_code(shake(server, &own, TLS1_3_VERSION, name), LOCH_E_DENIED);
    assert_code(shake(server, &good, TLS1_2_VERSION, name), LOCH_E_DENIED);
    loch_tls_server_destroy(server);
    identity_fini(&ca);
    identity_fini(&other_ca);
    identity_fini(&self);
    identity_fini(&good);
    identity_fini(&bad);
    identity_fini(&own);
}

static void unusable_files(void **state)
{
    struct identity ca = identity("authority", NULL);
    struct identity self = identity("server", &ca);
    struct identity empty = {0};
    struct loch_tls_server *server = NULL;

    (void)state;
    assert_code(server_of(&empty, &self, &ca, &server), LOCH_E_INVALID);
    assert_code(server_of(&self, &empty, &ca, &server), LOCH_E_INVALID);
    assert_code(server_of(&self, &ca, &ca, &server), LOCH_E_INVALID); /* another's key */
    assert_code(server_of(&self, &self, &empty, &server), LOCH_E_INVALID);
    assert_null(server);
    identity_fini(&ca);
    identity_fini(&self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_is_let_in),
        cmocka_unit_test(unusable_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
