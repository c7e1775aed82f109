/* Holds: the reading of name=value pairs out of KMS URIs. */
#include "attributes.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static loch_status decode(const char *text, size_t len, const struct kms_attribute *a)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        int c = (unsigned char)text[i];
        if (c == '%') {
            const int high = i + 2 < len ? hex_digit(text[i + 1]) : -1;
            const int low = i + 2 < len ? hex_digit(text[i + 2]) : -1;
            if (high < 0 || low < 0)
                return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" in the KMS URI has a broken %%", a->name);
            c = high * 16 + low;
            i += 2;
        }
        if (c == 0 && a->len == NULL)
            return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" in the KMS URI holds %%00", a->name);
        if (n + 1 >= a->size)
            return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" in the KMS URI is longer than %zu bytes",
                             a->name, a->size - 1);
        a->out[n++] = (char)c;
    }
    if (n == 0)
        return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" in the KMS URI is empty", a->name);
    a->out[n] = '\0';
    if (a->len != NULL)
        *a->len = n;
    return LOCH_OK;
}

static loch_status unknown(const char *text, size_t len, const struct kms_attribute *known,
                           size_t count)
{
    char names[200] = "";
    size_t n = 0;

    for (size_t i = 0; i < count && n < sizeof names; i++)
        n +=
            (size_t)snprintf(names + n, sizeof names - n, "%s%s", i > 0 ? ", " : "", known[i].name);
    return LOCH_FAIL(LOCH_E_INVALID, "\"%.*s\" in the KMS URI is not known (known: %s)",
                     (int)(len < 60 ? len : 60), text, names);
}

static loch_status take(const char *text, size_t len, const struct kms_attribute *known,
                        size_t count, uint32_t *seen)
{
    const char *equals = memchr(text, '=', len);
    const size_t name_len = equals == NULL ? len : (size_t)(equals - text);

    for (size_t i = 0; i < count; i++) {
        if (strlen(known[i].name) != name_len || memcmp(known[i].name, text, name_len) != 0)
            continue;
        if (equals == NULL)
            return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" in the KMS URI has no value", known[i].name);
        if ((*seen & (UINT32_C(1) << i)) != 0)
            return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" in the KMS URI is given twice", known[i].name);
        *seen |= UINT32_C(1) << i;
        return decode(equals + 1, len - name_len - 1, &known[i]);
    }
    return unknown(text, name_len, known, count);
}

loch_status kms_attributes_parse(const char *text, size_t len, char separator,
                                 const struct kms_attribute *known, size_t count)
{
    uint32_t seen = 0;

    for (size_t at = 0; at < len;) {
        const char *end = memchr(text + at, separator, len - at);
        const size_t n = end == NULL ? len - at : (size_t)(end - (text + at));
        if (n > 0)
            LOCH_TRY(take(text + at, n, known, count, &seen));
        at += n + 1;
    }
    return LOCH_OK;
}
