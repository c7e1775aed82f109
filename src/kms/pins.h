/* Which tenant's CMK lies at which URI. Any thread. */
#ifndef LOCH_KMS_PINS_H
#define LOCH_KMS_PINS_H

#include "loch/kms/kms.h"

struct kms_pins;

/* One KMS without pins of its own (kms.c). */
LOCH_STATUS kms_open_one(const char *uri, const char *const *data_dirs, struct loch_kms **out);

LOCH_STATUS kms_pins_create(struct kms_pins **out);
void kms_pins_destroy(struct kms_pins *pins); /* takes NULL */
LOCH_STATUS kms_pins_load(struct kms_pins *pins, struct loch_env *env, const char *path,
                          const char *const *data_dirs);
LOCH_STATUS kms_pins_add(struct kms_pins *pins, const struct loch_id *tenant, const char *uri,
                         const char *const *data_dirs);
LOCH_STATUS kms_pins_remove(struct kms_pins *pins, const struct loch_id *tenant, const char *uri);
void kms_pins_each(struct kms_pins *pins,
                   void (*fn)(void *arg, const struct loch_id *tenant, const struct loch_kms *cmk),
                   void *arg);
/* NULL: the tenant has none. */
struct loch_kms *kms_pins_find(struct kms_pins *pins, const struct loch_id *tenant,
                               const char *uri);

#endif
