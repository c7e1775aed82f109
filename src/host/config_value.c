/* Holds: the types of settings. Invariant: a value that was parsed obeys its item's type and range.
 */
#include "config_value.h"

#include "loch/base/check.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit byte_units[] = {{"B", 1},          {"k", 1u << 10},     {"kB", 1u << 10},
                                         {"KiB", 1u << 10}, {"M", 1u << 20},     {"MB", 1u << 20},
                                         {"MiB", 1u << 20}, {"G", 1u << 30},     {"GB", 1u << 30},
                                         {"GiB", 1u << 30}, {"TiB", 1ull << 40}, {NULL, 0}};
static const struct unit time_units[] = {{"ms", 1},      {"s", 1000},     {"min", 60000},
                                         {"h", 3600000}, {"d", 86400000}, {NULL, 0}};
static const struct unit no_units[] = {{NULL, 0}};

static loch_status parse_number(const char *text, const struct unit *units, uint64_t *out)
{
    uint64_t n = 0;
    const char *p = text;

    for (; *p >= '0' && *p <= '9'; p++)
        if (!loch_mul_u64(n, 10, &n) || !loch_add_u64(n, (uint64_t)(*p - '0'), &n))
            return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" is too large", text);
    if (p == text)
        return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" is not a number", text);
    while (*p == ' ')
        p++;
    if (*p == '\0') {
        *out = n;
        return LOCH_OK;
    }
    for (; units->name != NULL; units++) {
        if (strcmp(units->name, p) != 0)
            continue;
        if (!loch_mul_u64(n, units->factor, out))
            return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" is too large", text);
        return LOCH_OK;
    }
    return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" is not a number, or its unit is unknown", text);
}

static loch_status check_range(const struct loch_config_item *item, uint64_t n)
{
    if (n < item->min)
        return LOCH_FAIL(LOCH_E_INVALID, "%" PRIu64 " is below the minimum %" PRIu64, n, item->min);
    if (item->max != 0 && n > item->max)
        return LOCH_FAIL(LOCH_E_INVALID, "%" PRIu64 " is above the maximum %" PRIu64, n, item->max);
    return LOCH_OK;
}

static loch_status parse_bool(const char *text, uint64_t *out)
{
    static const char *const words[2][4] = {{"false", "off", "no", "0"},
                                            {"true", "on", "yes", "1"}};

    for (uint64_t v = 0; v < 2; v++)
        for (size_t i = 0; i < 4; i++)
            if (strcasecmp(text, words[v][i]) == 0) {
                *out = v;
                return LOCH_OK;
            }
    return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" is neither true nor false", text);
}

static loch_status parse_choice(const char *choices, const char *text, uint64_t *out)
{
    uint64_t index = 0;
    size_t n = strlen(text);

    for (const char *at = choices; *at != '\0'; index++) {
        size_t len = strcspn(at, "|");
        if (len == n && memcmp(at, text, n) == 0) {
            *out = index;
            return LOCH_OK;
        }
        at += len;
        at += *at == '|';
    }
    return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" is none of %s", text, choices);
}

static loch_status check_address(const char *text)
{
    const char *colon = strrchr(text, ':');
    uint64_t port = 0;

    if (colon == NULL || colon == text || !loch_is_ok(parse_number(colon + 1, no_units, &port)) ||
        port > 65535)
        return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" is not an address (want host:port or [v6]:port)",
                         text);
    bool v6 = text[0] == '[' && colon[-1] == ']';
    if (!v6 && memchr(text, ':', (size_t)(colon - text)) != NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" is not an address (want [v6]:port)", text);
    return LOCH_OK;
}

static loch_status parse_by_type(const struct loch_config_item *item, const char *text,
                                 struct config_value *out)
{
    switch (item->type) {
    case LOCH_CONFIG_STRING:
        out->number = strlen(text);
        return check_range(item, out->number);
    case LOCH_CONFIG_PATH:
        if (text[0] != '/')
            return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" is not an absolute path", text);
        return LOCH_OK;
    case LOCH_CONFIG_ADDRESS:
        return check_address(text);
    case LOCH_CONFIG_ID:
        return loch_id_parse(text, &out->id);
    case LOCH_CONFIG_BOOL:
        return parse_bool(text, &out->number);
    case LOCH_CONFIG_U64:
        LOCH_TRY(parse_number(text, no_units, &out->number));
        return check_range(item, out->number);
    case LOCH_CONFIG_BYTES:
        LOCH_TRY(parse_number(text, byte_units, &out->number));
        return check_range(item, out->number);
    case LOCH_CONFIG_MS:
        LOCH_TRY(parse_number(text, time_units, &out->number));
        return check_range(item, out->number);
    case LOCH_CONFIG_CHOICE:
        return parse_choice(item->choices, text, &out->number);
    }
    return LOCH_FAIL(LOCH_E_INVALID, "setting of an unknown type");
}

loch_status config_value_parse(const struct loch_config_item *item, const char *text,
                               struct config_value *out)
{
    struct config_value v = {0};

    /* An optional setting may be given as empty: that is, not at all. */
    bool unset = text[0] == '\0' && item->value != NULL && item->value[0] == '\0';
    if (!unset)
        LOCH_TRY(parse_by_type(item, text, &v));
    v.text = strdup(text);
    if (v.text == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a setting");
    free(out->text);
    *out = v;
    return LOCH_OK;
}

const char *config_type_name(const struct loch_config_item *item)
{
    switch (item->type) {
    case LOCH_CONFIG_STRING:
        return "TEXT";
    case LOCH_CONFIG_PATH:
        return "PATH";
    case LOCH_CONFIG_ADDRESS:
        return "HOST:PORT";
    case LOCH_CONFIG_ID:
        return "32-HEX-DIGITS";
    case LOCH_CONFIG_BOOL:
        return "true|false";
    case LOCH_CONFIG_U64:
        return "NUMBER";
    case LOCH_CONFIG_BYTES:
        return "BYTES";
    case LOCH_CONFIG_MS:
        return "DURATION";
    case LOCH_CONFIG_CHOICE:
        return item->choices;
    }
    return "?";
}
