/* Shared by the files that hold the console's commands. */
#ifndef LOCH_PAGESERVER_CARE_COMMANDS_H
#define LOCH_PAGESERVER_CARE_COMMANDS_H

#include "tenants.h"

/* The tenant named by argument <tenant>, an id or a name. LOCH_E_NOT_FOUND. */
LOCH_STATUS loch_command_tenant(struct loch_pageserver *ps,
                                const struct loch_console_request *request,
                                struct loch_tenant **out);
/* The timeline named by the argument called `name`, an id or a branch's name. LOCH_E_NOT_FOUND. */
LOCH_STATUS loch_command_timeline(const struct loch_tenant *tenant,
                                  const struct loch_console_request *request, const char *name,
                                  struct loch_id *out);

/* The one named by argument <timeline>, or any id: of one that no manifest names any more.
 * LOCH_E_NOT_FOUND. */
LOCH_STATUS loch_command_gone_timeline(const struct loch_tenant *tenant,
                                       const struct loch_console_request *request,
                                       struct loch_id *out);

/* SHOW LSN, SHOW TIME (commands_history.c). */
void loch_command_show_lsn(void *arg, struct loch_console_request *request);
void loch_command_show_time(void *arg, struct loch_console_request *request);

#endif
