/* Holds: the fetched algorithms, one set per process. */
#include "algorithms.h"

#include <openssl/err.h>
#include <pthread.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct loch_algorithms algorithms;

static void fetch(void)
{
    algorithms.gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    algorithms.wrap = EVP_CIPHER_fetch(NULL, "AES-256-WRAP", NULL);
    algorithms.sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    algorithms.hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    algorithms.hkdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
}

loch_status loch_algorithms(const struct loch_algorithms **out)
{
    (void)pthread_once(&once, fetch);
    if (algorithms.gcm == NULL || algorithms.wrap == NULL || algorithms.sha256 == NULL ||
        algorithms.hmac == NULL || algorithms.hkdf == NULL)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "OpenSSL lacks AES-256-GCM, AES-256-WRAP, SHA-256, "
                                             "HMAC or HKDF");
    *out = &algorithms;
    return LOCH_OK;
}

loch_status loch_openssl_failed(const char *what)
{
    char text[160] = "no reason given";
    unsigned long code = ERR_peek_last_error();

    if (code != 0)
        ERR_error_string_n(code, text, sizeof text);
    ERR_clear_error();
    return LOCH_FAIL(LOCH_E_NO_MEMORY, "%s: %s", what, text);
}
