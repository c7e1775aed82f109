/* Holds: random bytes. Source: OpenSSL's CTR-DRBG, seeded by getrandom(2). */
#include "loch/crypto/random.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/rand.h>

static uint64_t test_state; /* 0: the real generator */

void loch_random_test_seed(uint64_t seed)
{
    test_state = seed;
}

/* splitmix64: reproducible, for golden files; worthless as a secret. */
static uint64_t test_next(void)
{
    uint64_t z = (test_state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

loch_status loch_random_bytes(void *out, size_t len)
{
    if (test_state != 0) {
        uint8_t *p = out;
        for (size_t i = 0; i < len; i++)
            p[i] = (uint8_t)test_next();
        return LOCH_OK;
    }
    if (len > INT_MAX || RAND_priv_bytes(out, (int)len) != 1) {
        ERR_clear_error();
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the random generator gave no bytes");
    }
    return LOCH_OK;
}

loch_status loch_random_id(struct loch_id *out)
{
    struct loch_id id = {{0}};

    while (loch_id_is_none(&id))
        LOCH_TRY(loch_random_bytes(id.bytes, sizeof id.bytes));
    *out = id;
    return LOCH_OK;
}

loch_status loch_random_secret(struct loch_secret *out, size_t len)
{
    struct loch_secret s = {0};

    LOCH_TRY(loch_secret_create(&s, len));
    loch_status st = loch_random_bytes(s.bytes, len);
    if (!loch_is_ok(st)) {
        loch_secret_fini(&s);
        return st;
    }
    *out = s;
    return LOCH_OK;
}
