/* A daemon's or a compute's configuration, which `loch` makes and its operator adds to. */
#ifndef LOCH_TOOLS_CONFIG_FILE_H
#define LOCH_TOOLS_CONFIG_FILE_H

#include "loch/base/status.h"

#include <stdbool.h>
#include <sys/types.h>

/* Which settings of such a file are not the operator's. */
struct loch_config_ours {
    bool (*is)(const char *section, const char *key);
    bool as_found; /* one of them that is in both stays as it is in the file */
};

/* Makes the file of `text`, with that mode (less the umask). In one that is there already only our
 * settings are changed: what `text` does not have goes, what the file does not have is added below
 * its section's head, and every other line stays as it is. Written only when something changes,
 * beside the file and then in its place, with its owner and mode: after a failure it is what it
 * was. */
LOCH_STATUS loch_config_file_write(const char *path, const char *text, mode_t mode,
                                   const struct loch_config_ours *ours);

#endif
