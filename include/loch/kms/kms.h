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

struct loch_env;
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

/* ---- tenants whose CMK is not the daemon's ----
 *
 * A pin says at which URI a tenant's CMK lies. Pins stand in a file of the daemon's own, never in
 * the object store: whoever can write the bucket must not choose the CMK. A tenant has one pin, or
 * two while it moves to another CMK: which of them wraps is the keyring's to say
 * (loch/host/keys.h). wrap and unwrap choose by the context's tenant by themselves, and then the
 * last one; a tenant without a pin has the CMK that was opened.
 */

/* Reads the pins (no file: none) and keeps later changes there, durably. Before any pin; at
 * start-up. A line a pin: 32 hex digits, a space, the URI; '#' begins a comment. LOCH_E_INVALID
 * names file and line. */
LOCH_STATUS loch_kms_pins_open(struct loch_kms *kms, struct loch_env *env, const char *path);
/* Adds a pin, or makes it the tenant's last. LOCH_E_INVALID: URI; LOCH_E_LIMIT. */
LOCH_STATUS loch_kms_pin(struct loch_kms *kms, const struct loch_id *tenant, const char *uri);
/* Forgets the tenant's pin at that URI; `uri` NULL: all of them. Ok when there is none. */
LOCH_STATUS loch_kms_unpin(struct loch_kms *kms, const struct loch_id *tenant, const char *uri);
/* The tenant's CMK: the pinned one at `uri` where there is one, else (also `uri` NULL) the last
 * pinned, else `kms` itself. Borrowed; lives as long as `kms`. Never blocks. */
struct loch_kms *loch_kms_for(struct loch_kms *kms, const struct loch_id *tenant, const char *uri);

/* Every pin, a tenant's in their order, under a lock: fn must not call into `kms`. */
void loch_kms_each_pin(struct loch_kms *kms,
                       void (*fn)(void *arg, const struct loch_id *tenant,
                                  const struct loch_kms *cmk),
                       void *arg);

/* Proves that the CMK can be used: wraps a random key, unwraps it, and is refused under another
 * context. *wrap_us and *unwrap_us (may be NULL): how long that took. The codes of the calls;
 * LOCH_E_CORRUPT when the provider does not do what it says. */
LOCH_STATUS loch_kms_check(struct loch_kms *kms, uint64_t *wrap_us, uint64_t *unwrap_us);

/* Makes a fresh key file for the file provider (0600, durable). LOCH_E_EXISTS. */
LOCH_STATUS loch_kms_file_create(const char *path);

#endif
