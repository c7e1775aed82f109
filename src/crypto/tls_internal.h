/* For tests: the record count that makes an end renew its keys. */
#ifndef LOCH_CRYPTO_TLS_INTERNAL_H
#define LOCH_CRYPTO_TLS_INTERNAL_H

#include "loch/crypto/tls.h"

void loch_tls_test_rekey_after(struct loch_tls *tls, uint64_t records);
/* How often this end renewed its sending key. */
uint64_t loch_tls_test_rekeys(const struct loch_tls *tls);

#endif
