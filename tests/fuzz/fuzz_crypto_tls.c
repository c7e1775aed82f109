/* Arbitrary bytes on a listener's port, and edits of a genuine first flight: never ready, never
 * plaintext. */
#include "fuzz.h"

#include "loch/base/check.h"
#include "loch/crypto/random.h"
#include "loch/crypto/tls.h"

static struct loch_tls_server *server;
static struct loch_tls_client *client;
static struct loch_secret psk;

static bool lookup(void *arg, struct loch_slice identity, struct loch_secret *out)
{
    (void)arg;
    return identity.len == 2 && loch_is_ok(loch_secret_copy(out, &psk));
}

static void setup(void)
{
    if (server != NULL)
        return;
    loch_status st = loch_random_secret(&psk, LOCH_PSK_BYTES);
    LOCH_ASSERT(loch_is_ok(st));
    st = loch_tls_server_create(lookup, NULL, &server);
    LOCH_ASSERT(loch_is_ok(st));
    st = loch_tls_client_create(loch_slice_of("id", 2), &psk, &client);
    LOCH_ASSERT(loch_is_ok(st));
}

static void feed(struct loch_slice bytes)
{
    struct loch_tls *tls = NULL;
    struct loch_buf plain = {0};
    struct loch_buf wire = {0};
    bool closed = false;
    loch_status st = loch_tls_accept(server, &tls);

    LOCH_ASSERT(loch_is_ok(st));
    st = loch_tls_receive(tls, bytes, &plain, &wire, &closed);
    LOCH_ASSERT(!loch_tls_ready(tls));
    LOCH_ASSERT(plain.len == 0);
    LOCH_ASSERT(loch_is_ok(st) || wire.len == 7);
    loch_tls_destroy(tls);
    loch_buf_fini(&plain);
    loch_buf_fini(&wire);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct loch_tls *tls = NULL;
    struct loch_buf plain = {0};
    struct loch_buf wire = {0};
    bool closed = false;

    setup();
    feed(loch_slice_of(data, size));
    loch_status st = loch_tls_connect(client, &tls);
    LOCH_ASSERT(loch_is_ok(st));
    st = loch_tls_receive(tls, loch_slice_of(NULL, 0), &plain, &wire, &closed);
    LOCH_ASSERT(loch_is_ok(st));
    fuzz_edit(wire.data, wire.len, data, size);
    feed(loch_buf_slice(&wire));
    loch_tls_destroy(tls);
    loch_buf_fini(&plain);
    loch_buf_fini(&wire);
    return 0;
}
