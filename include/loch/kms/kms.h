/* The customer's key service: wraps and unwraps KEKs under the CMK, which never leaves it.
 *
 * Every call carries the encryption context; a blob unwraps only under the context it was wrapped
 * with. DENIED (the key says no: final until it says yes) and UNAVAILABLE (no answer: try again)
 * are never mixed up; a damaged blob is LOCH_E_CORRUPT, neither of them. Calls may block: pool
 * threads or start-up only. Safe from any thread. Provider "file": file:/absolute/path, 32 raw
 * bytes, mode 0600; embedded default, not customer-held.
 */
#ifndef LOCH_KMS_KMS_H
#define LOCH_KMS_KMS_H

#include "loch/base/buf.h"
#include "loch/base/secret.h"
#include "loch/base/types.h"
#include "loch/keyring/keyring.h"

#define LOCH_KMS_WRAP_MAX_BYTES 4096u

struct loch_kms;

struct loch_kms_context {
    struct loch_id cluster, tenant, key_id;
    uint8_t purpose;      /* enum loch_purpose */
    struct loch_id scope; /* timeline, or none: the tenant */
    uint32_t version;
};

/* `data_dirs` (may be NULL): directories the key file must not lie in; NULL-ended.
 * LOCH_E_INVALID: URI not understood, file permissions, place; LOCH_E_DENIED, LOCH_E_UNAVAILABLE.
 */
LOCH_STATUS loch_kms_open(const char *uri, const char *const *data_dirs, struct loch_kms **out);
void loch_kms_close(struct loch_kms *kms);
const char *loch_kms_uri(const struct loch_kms *kms);
/* enum loch_provider */
uint8_t loch_kms_provider(const struct loch_kms *kms);
/* False for the file provider: computes then only warn about their scratch. */
bool loch_kms_customer_held(const struct loch_kms *kms);
/* Appends the blob (at most LOCH_KMS_WRAP_MAX_BYTES) to *out. */
LOCH_STATUS loch_kms_wrap(struct loch_kms *kms, const struct loch_kms_context *context,
                          const struct loch_secret *key, struct loch_buf *out);
LOCH_STATUS loch_kms_unwrap(struct loch_kms *kms, const struct loch_kms_context *context,
                            struct loch_slice blob, struct loch_secret *out);

/* Makes a fresh key file for the file provider (0600, durable). LOCH_E_EXISTS. */
LOCH_STATUS loch_kms_file_create(const char *path);

#endif
