/* Holds: text forms of LSNs and ids. */
#include "loch/base/types.h"

#include <stdio.h>

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static const char *parse_half(const char *p, uint32_t *out)
{
    uint32_t v = 0;
    int digits = 0;

    for (; hex_value(*p) >= 0 && digits < 8; p++, digits++)
        v = (v << 4) | (uint32_t)hex_value(*p);
    *out = v;
    return digits > 0 ? p : NULL;
}

loch_status loch_lsn_parse(const char *text, loch_lsn *out)
{
    uint32_t hi;
    uint32_t lo;
    const char *p = parse_half(text, &hi);

    if (p != NULL && *p == '/')
        p = parse_half(p + 1, &lo);
    else
        p = NULL;
    if (p == NULL || *p != '\0')
        return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" is not an LSN (want X/X in hex digits)", text);
    *out = ((uint64_t)hi << 32) | lo;
    return LOCH_OK;
}

void loch_hex_format(const void *bytes, size_t len, char *text)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = bytes;

    for (size_t i = 0; i < len; i++) {
        text[2 * i] = digits[p[i] >> 4];
        text[2 * i + 1] = digits[p[i] & 15];
    }
    text[2 * len] = '\0';
}

loch_status loch_hex_parse(const char *text, void *bytes, size_t len)
{
    uint8_t *p = bytes;

    if (strlen(text) != 2 * len)
        return LOCH_FAIL(LOCH_E_INVALID, "want %zu hex digits, got %zu characters", 2 * len,
                         strlen(text));
    for (size_t i = 0; i < 2 * len; i++)
        if (hex_value(text[i]) < 0)
            return LOCH_FAIL(LOCH_E_INVALID, "character %zu is not a hex digit", i);
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)((hex_value(text[2 * i]) << 4) | hex_value(text[2 * i + 1]));
    return LOCH_OK;
}

const char *loch_id_format(const struct loch_id *id, char text[static LOCH_ID_TEXT_BYTES])
{
    loch_hex_format(id->bytes, sizeof id->bytes, text);
    return text;
}

loch_status loch_id_parse(const char *text, struct loch_id *out)
{
    return loch_hex_parse(text, out->bytes, sizeof out->bytes);
}
