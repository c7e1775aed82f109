/* OpenSSL on locked, wiped memory: a process of its own, since it must be chosen first. */
#include "../unit.h"

#include "loch/crypto/aead.h"
#include "loch/crypto/memory.h"
#include "loch/crypto/random.h"
#include "loch/crypto/tls.h"

#include <openssl/crypto.h>
#include <pthread.h>

static void blocks_are_wiped_and_used_again(void **state)
{
    (void)state;
    for (size_t len = 1; len < 300000; len = len * 3 / 2 + 1) {
        uint8_t *p = OPENSSL_malloc(len);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        memset(p, 0xEE, len);
        p = OPENSSL_realloc(p, len * 2);
        assert_non_null(p);
        for (size_t i = 0; i < len; i++)
            assert_int_equal(p[i], 0xEE);
        memset(p, 0xEE, len * 2);
        OPENSSL_free(p);
        if (len * 2 <= 65536) { /* the same block comes back, and holds nothing */
            uint8_t *q = OPENSSL_malloc(len * 2);
            assert_ptr_equal(p, q);
            for (size_t i = 0; i < len * 2; i++)
                assert_int_equal(q[i], 0);
            OPENSSL_free(q);
        }
    }
    assert_null(OPENSSL_malloc(0));
    OPENSSL_free(NULL);
    uint8_t *p = OPENSSL_realloc(NULL, 10);
    assert_non_null(p);
    assert_null(OPENSSL_realloc(p, 0));
    assert_null(OPENSSL_malloc(SIZE_MAX - 8));
}

static void *churn(void *arg)
{
    struct loch_secret key = {0};

    (void)arg;
    assert_ok(loch_random_secret(&key, 32));
    for (int i = 0; i < 500; i++) {
        struct loch_aead *aead = NULL;
        assert_ok(loch_aead_create(&key, LOCH_AEAD_SEAL, &aead));
        loch_aead_destroy(aead);
    }
    loch_secret_fini(&key);
    return NULL;
}

static void threads_share_it(void **state)
{
    pthread_t threads[3];

    (void)state;
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, NULL), 0);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    const struct loch_crypto_memory m = loch_crypto_memory_now();
    assert_true(m.held_bytes >= m.locked_bytes);
    assert_true(m.held_bytes > 0);
    assert_true(m.used_bytes > 0 && m.used_bytes <= m.held_bytes);
}

static struct loch_secret psk;

static bool lookup(void *arg, struct loch_slice identity, struct loch_secret *out)
{
    (void)arg;
    (void)identity;
    return loch_is_ok(loch_secret_copy(out, &psk));
}

/* Connections come and go without holding memory. */
static void connections_give_back(void **state)
{
    struct loch_tls_server *server = NULL;
    struct loch_tls_client *client = NULL;
    uint64_t used = 0;

    (void)state;
    assert_ok(loch_random_secret(&psk, LOCH_PSK_BYTES));
    assert_ok(loch_tls_server_create(lookup, NULL, &server));
    assert_ok(loch_tls_client_create(loch_slice_of("id", 2), &psk, &client));
    for (int i = 0; i < 40; i++) {
        struct loch_tls *a = NULL;
        struct loch_tls *b = NULL;
        struct loch_buf plain = {0}, to_a = {0}, to_b = {0};
        bool closed = false;
        assert_ok(loch_tls_connect(client, &a));
        assert_ok(loch_tls_accept(server, &b));
        assert_ok(loch_tls_receive(a, loch_slice_of(NULL, 0), &plain, &to_b, &closed));
        assert_ok(loch_tls_receive(b, loch_buf_slice(&to_b), &plain, &to_a, &closed));
        to_b.len = 0;
        assert_ok(loch_tls_receive(a, loch_buf_slice(&to_a), &plain, &to_b, &closed));
        assert_ok(loch_tls_receive(b, loch_buf_slice(&to_b), &plain, &to_a, &closed));
        assert_true(loch_tls_ready(a) && loch_tls_ready(b));
        loch_tls_destroy(a);
        loch_tls_destroy(b);
        loch_buf_fini(&plain);
        loch_buf_fini(&to_a);
        loch_buf_fini(&to_b);
        if (i == 5)
            used = loch_crypto_memory_now().used_bytes;
    }
    assert_true(loch_crypto_memory_now().used_bytes <= used + 1024);
    loch_tls_client_destroy(client);
    loch_tls_server_destroy(server);
    loch_secret_fini(&psk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_wiped_and_used_again),
        cmocka_unit_test(threads_share_it),
        cmocka_unit_test(connections_give_back),
    };
    const loch_status st = loch_crypto_memory_init();

    if (!loch_is_ok(st))
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
