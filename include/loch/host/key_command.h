/* The console's commands about a tenant's keys, the same in every daemon. */
#ifndef LOCH_HOST_KEY_COMMAND_H
#define LOCH_HOST_KEY_COMMAND_H

#include "loch/host/console.h"

struct loch_env;
struct loch_keys;

/* For the daemons' command tables. <tenant> is an id. */
#define LOCH_SHOW_KEYS_WORDS   "SHOW KEYS <tenant>"
#define LOCH_SHOW_KEYS_HELP    "One row a key version of the tenant's keyring: state, parent, CMK."
#define LOCH_RELOAD_KEYS_WORDS "RELOAD KEYS <tenant>"
#define LOCH_RELOAD_KEYS_HELP  "Reads the tenant's keyring again and names its generation."
#define LOCH_ROTATE_KEY_WORDS  "ROTATE KEY <tenant> <what> [BRANCH <branch>] [KMS <uri>]"
#define LOCH_ROTATE_KEY_HELP                                                                       \
    "cmk, kek, tk, wire or wire-anew: new versions or wraps; of what a branch's own CMK holds; "   \
    "cmk to another CMK, that is pinned."
#define LOCH_ACTIVATE_WORDS "ACTIVATE KEYS <tenant>"
#define LOCH_ACTIVATE_HELP  "Pending versions become active."

#define LOCH_RECEIPT_WORDS "SHOW RECEIPT <tenant> [BRANCH <branch>]"
#define LOCH_RECEIPT_HELP  "What this node signed since it last lost the tenant's or branch's key."

void loch_show_keys_command(struct loch_keys *keys, struct loch_console_request *take_request);
/* `dir`: where the audit log lies; lives as long as the request. Answers later. */
void loch_receipt_command(struct loch_env *env, const char *dir,
                          struct loch_console_request *take_request);
/* These answer later, from pool threads; `env` and `keys` must outlive the request. */
void loch_reload_keys_command(struct loch_env *env, struct loch_keys *keys,
                              struct loch_console_request *take_request);
void loch_rotate_key_command(struct loch_env *env, struct loch_keys *keys,
                             struct loch_console_request *take_request);
void loch_activate_keys_command(struct loch_env *env, struct loch_keys *keys,
                                struct loch_console_request *take_request);

#endif
