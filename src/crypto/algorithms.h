/* The algorithms fetched from OpenSSL once: an implicit fetch at each use costs more than a seal.
 */
#ifndef LOCH_CRYPTO_ALGORITHMS_H
#define LOCH_CRYPTO_ALGORITHMS_H

#include "loch/base/status.h"

#include <openssl/evp.h>
#include <openssl/kdf.h>

struct loch_algorithms {
    EVP_CIPHER *gcm;  /* AES-256-GCM */
    EVP_CIPHER *wrap; /* AES-256-WRAP, RFC 3394 */
    EVP_MD *sha256;
    EVP_MAC *hmac;
    EVP_KDF *hkdf;
};

/* LOCH_E_UNAVAILABLE when this OpenSSL lacks one of them. *out lives as long as the process. */
LOCH_STATUS loch_algorithms(const struct loch_algorithms **out);
/* Records the last OpenSSL error after `what` and empties OpenSSL's queue. */
loch_status loch_openssl_failed(const char *what);

#endif
