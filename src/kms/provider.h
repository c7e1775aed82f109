/* What a provider of the KMS implements. */
#ifndef LOCH_KMS_PROVIDER_H
#define LOCH_KMS_PROVIDER_H

#include "loch/kms/kms.h"

struct kms_provider {
    uint8_t id; /* enum loch_provider */
    bool customer_held;
    const char *scheme; /* "file:" */
    /* `location` is the URI after the scheme. Asks nobody: a service that is down is no failure. */
    LOCH_STATUS (*open)(const char *location, const char *const *data_dirs, void **state);
    /* At a daemon's start, what is wrong with its own CMK's configuration; may be NULL. */
    LOCH_STATUS (*start)(void *state);
    void (*close)(void *state);
    LOCH_STATUS(*wrap)
    (void *state, struct loch_slice context, const struct loch_secret *key, struct loch_buf *out);
    LOCH_STATUS(*unwrap)
    (void *state, struct loch_slice context, struct loch_slice blob, struct loch_secret *out);
};

extern const struct kms_provider kms_file_provider;
extern const struct kms_provider kms_pkcs11_provider;
extern const struct kms_provider kms_aws_provider;
extern const struct kms_provider kms_vault_provider;

/* A context out of the encoding that providers are given. */
struct loch_kms_context kms_context_decode(struct loch_slice bytes);

#endif
