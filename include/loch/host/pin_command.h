/* The console's commands about the CMKs of tenants, the same in every daemon. */
#ifndef LOCH_HOST_PIN_COMMAND_H
#define LOCH_HOST_PIN_COMMAND_H

#include "loch/host/console.h"

struct loch_env;
struct loch_kms;

/* For the daemons' command tables. */
#define LOCH_PIN_WORDS       "PIN TENANT <tenant> KMS <uri>"
#define LOCH_PIN_HELP        "Pins a tenant's CMK here, once a round trip has succeeded."
#define LOCH_UNPIN_WORDS     "UNPIN TENANT <tenant> [KMS <uri>]"
#define LOCH_UNPIN_HELP      "Forgets the pinned CMK (all of the tenant's without a URI)."
#define LOCH_SHOW_PINS_WORDS "SHOW PINS"
#define LOCH_SHOW_PINS_HELP  "One row a pin: the tenant, where its CMK lies, who holds it."

/* Answer later, from a pool thread's work; `env` and `kms` must outlive the request. The tenant is
 * an id. */
void loch_pin_command(struct loch_env *env, struct loch_kms *kms,
                      struct loch_console_request *take_request);
void loch_unpin_command(struct loch_env *env, struct loch_kms *kms,
                        struct loch_console_request *take_request);
/* Answers at once. */
void loch_show_pins_command(struct loch_kms *kms, struct loch_console_request *take_request);

/* Pins after a round trip through the CMK; a CMK that fails it is not pinned. Blocks. */
LOCH_STATUS loch_pin_checked(struct loch_kms *kms, const struct loch_id *tenant, const char *uri);

#endif
