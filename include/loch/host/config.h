/* Settings of a program: one ini file, every setting overridable by environment and option.
 *
 * Order of worth, lowest first: default, file (--config FILE), environment LOCH_<SECTION>_<KEY>
 * (upper case, '-' and
 * '.' as '_'), option --section.key=value. Unknown sections, keys and options are errors that name
 * file and line. A line of the file has at most 198 bytes; a value goes on in lines that begin with
 * a space (joined without it). Values are checked when loaded, so that the getters cannot fail.
 */
#ifndef LOCH_HOST_CONFIG_H
#define LOCH_HOST_CONFIG_H

#include "loch/base/status.h"
#include "loch/base/types.h"

#include <stdio.h>

enum loch_config_type {
    LOCH_CONFIG_STRING,  /* min..max: length */
    LOCH_CONFIG_PATH,    /* absolute path */
    LOCH_CONFIG_ADDRESS, /* host:port or [v6]:port, port 0..65535 */
    LOCH_CONFIG_ID,      /* 32 hex digits */
    LOCH_CONFIG_BOOL,    /* true, on, yes, 1; false, off, no, 0 */
    LOCH_CONFIG_U64,     /* min..max, both inclusive */
    LOCH_CONFIG_BYTES,   /* number with optional B, KiB, MiB, GiB (or k, M, G); in bytes */
    LOCH_CONFIG_MS,      /* number with optional ms, s, min, h, d; without a unit: ms */
    LOCH_CONFIG_CHOICE   /* one of the words in `choices` */
};

struct loch_config_item {
    const char *section;
    const char *key; /* "*": any number of keys (a map), read by loch_config_each */
    enum loch_config_type type;
    const char
        *value; /* default as text; NULL: must be given (maps: ignored); "": not set is fine */
    uint64_t min, max;   /* max 0: no limit */
    const char *choices; /* "debug|info|warn" */
    bool key_is_id;      /* a map's keys are 32 hex digits */
    const char *help;    /* one sentence */
};

struct loch_config_program {
    const char *name;    /* "loch-safekeeper" */
    const char *summary; /* one sentence for --help */
    const struct loch_config_item *items;
    size_t item_count;
};

struct loch_config;

/* What the program should do after loading. */
enum loch_config_verdict {
    LOCH_CONFIG_RUN, /* *out is set */
    LOCH_CONFIG_EXIT /* --help, --version or --check-config did its work: exit 0; *out is NULL */
};

/* Reads file, environment and argv. Writes help and the like to `to` (usually stdout).
 * LOCH_E_INVALID with a text for the user ("FILE:12: ..."). */
LOCH_STATUS loch_config_load(const struct loch_config_program *program, int argc, char *const *argv,
                             FILE *to, enum loch_config_verdict *verdict, struct loch_config **out);
void loch_config_destroy(struct loch_config *config);

/* Section and key must be in the table (asserted), with a fitting type. Strings live with the
 * config. */
const char *loch_config_string(const struct loch_config *config, const char *section,
                               const char *key);
/* U64, BYTES (bytes), MS (milliseconds), BOOL (0, 1), CHOICE (index of the word). */
uint64_t loch_config_u64(const struct loch_config *config, const char *section, const char *key);
bool loch_config_bool(const struct loch_config *config, const char *section, const char *key);
struct loch_id loch_config_id(const struct loch_config *config, const char *section,
                              const char *key);
/* False for an optional setting ("" default) that nobody gave. */
bool loch_config_is_set(const struct loch_config *config, const char *section, const char *key);
/* A map's entries in the order given; fn returns false to stop. Returns how many there are. */
size_t loch_config_each(const struct loch_config *config, const char *section,
                        bool (*fn)(void *arg, const char *key, const char *value), void *arg);

#endif
