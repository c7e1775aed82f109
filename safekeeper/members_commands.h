/* The console commands about memberships; docs/operations/safekeepers.md. */
#ifndef LOCH_SAFEKEEPER_MEMBERS_COMMANDS_H
#define LOCH_SAFEKEEPER_MEMBERS_COMMANDS_H

#include "daemon.h"

/* The authoritative configuration; this safekeeper comes to know it, and looks at its peers. */
void sk_command_show_members(void *arg, struct loch_console_request *request);
/* How this safekeeper stands as a member of each timeline. */
void sk_command_show_member(void *arg, struct loch_console_request *request);
void sk_command_form_members(void *arg, struct loch_console_request *request);
void sk_command_change_members(void *arg, struct loch_console_request *request);
void sk_command_finish_members(void *arg, struct loch_console_request *request);
void sk_command_abort_members(void *arg, struct loch_console_request *request);

#endif
