/* The console's commands about layers, history and leases; handlers get struct loch_pageserver. */
#ifndef LOCH_PAGESERVER_CARE_LAYER_COMMANDS_H
#define LOCH_PAGESERVER_CARE_LAYER_COMMANDS_H

#include "loch/host/console.h"

void loch_command_show_layers(void *arg, struct loch_console_request *request);
void loch_command_show_history(void *arg, struct loch_console_request *request);
void loch_command_show_rewrite(void *arg, struct loch_console_request *request);
void loch_command_show_leases(void *arg, struct loch_console_request *request);
void loch_command_lease(void *arg, struct loch_console_request *request);
void loch_command_end_lease(void *arg, struct loch_console_request *request);
void loch_command_compact(void *arg, struct loch_console_request *request);
void loch_command_check(void *arg, struct loch_console_request *request);
void loch_command_set_history(void *arg, struct loch_console_request *request);
void loch_command_default_history(void *arg, struct loch_console_request *request);

/* Rows of the console's table. */
#define LOCH_LAYER_COMMANDS                                                                        \
    {"SHOW LAYERS <tenant> <timeline>", "One row a layer file, newest first.",                     \
     loch_command_show_layers},                                                                    \
        {"SHOW HISTORY", "One row a timeline: where its history begins, what keeps how much.",     \
         loch_command_show_history},                                                               \
        {"SHOW REWRITE", "One row a timeline: layers still under retired keys, and their bytes.",  \
         loch_command_show_rewrite},                                                               \
        {"SHOW HOLDS", "One row a lease of an LSN.", loch_command_show_leases},                    \
        {"LEASE <tenant> <timeline> <lsn> FOR <holder> [MS <ttl>]",                                \
         "Keeps an LSN readable; the holder renews it by the same command.", loch_command_lease},  \
        {"END LEASE <tenant> <timeline> <lsn> FOR <holder>", "Lets go of a leased LSN.",           \
         loch_command_end_lease},                                                                  \
        {"COMPACT <tenant> <timeline>",                                                            \
         "Removes what is out of the window and merges all layer files, now.",                     \
         loch_command_compact},                                                                    \
        {"CHECK LAYERS <tenant> <timeline>",                                                       \
         "Opens every block of its layers and of their copies; heals one from the other.",         \
         loch_command_check},                                                                      \
        {"SET HISTORY <tenant> TIME <seconds> BYTES <bytes>",                                      \
         "How much history all timelines of the tenant keep, at least.",                           \
         loch_command_set_history},                                                                \
    {                                                                                              \
        "SET HISTORY <tenant> DEFAULT", "They keep what the pageserver's settings say.",           \
            loch_command_default_history                                                           \
    }

#endif
