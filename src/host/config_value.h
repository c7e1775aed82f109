/* Holds: the text of one setting, checked and turned into a value. */
#ifndef LOCH_HOST_CONFIG_VALUE_H
#define LOCH_HOST_CONFIG_VALUE_H

#include "loch/host/config.h"

struct config_value {
    char *text; /* owned */
    uint64_t number;
    struct loch_id id;
};

/* LOCH_E_INVALID saying what is wrong with the text, without naming the setting. */
LOCH_STATUS config_value_parse(const struct loch_config_item *item, const char *text,
                               struct config_value *out);
/* "number", "path": for --help. */
const char *config_type_name(const struct loch_config_item *item);

#endif
