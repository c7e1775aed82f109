/* Holds: base64 by arithmetic on every character alike. */
#include "base64.h"

#include <string.h>

/* 1 where a <= x <= b, as a mask of all ones; x, a, b below 2^15. */
static uint32_t within(uint32_t x, uint32_t a, uint32_t b)
{
    return (((a - 1 - x) & (x - b - 1)) >> 31) * UINT32_C(0xffffffff);
}

static char to_char(uint32_t v)
{
    return (char)((within(v, 0, 25) & (v + 'A')) | (within(v, 26, 51) & (v - 26 + 'a')) |
                  (within(v, 52, 61) & (v - 52 + '0')) | (within(v, 62, 62) & '+') |
                  (within(v, 63, 63) & '/'));
}

/* 0..63, or 64 for what is no digit. */
static uint32_t from_char(unsigned char c)
{
    const uint32_t upper = within(c, 'A', 'Z');
    const uint32_t lower = within(c, 'a', 'z');
    const uint32_t digit = within(c, '0', '9');
    const uint32_t plus = within(c, '+', '+');
    const uint32_t slash = within(c, '/', '/');
    const uint32_t none = ~(upper | lower | digit | plus | slash);

    return (upper & (c - (uint32_t)'A')) | (lower & (c - (uint32_t)'a' + 26)) |
           (digit & (c - (uint32_t)'0' + 52)) | (plus & 62) | (slash & 63) | (none & 64);
}

void kms_base64_encode(struct loch_slice bytes, char *out)
{
    for (size_t i = 0; i < bytes.len; i += 3) {
        const size_t n = bytes.len - i;
        const uint32_t v = (uint32_t)bytes.data[i] << 16 |
                           (n > 1 ? (uint32_t)bytes.data[i + 1] << 8 : 0) |
                           (n > 2 ? (uint32_t)bytes.data[i + 2] : 0);
        *out++ = to_char(v >> 18 & 63);
        *out++ = to_char(v >> 12 & 63);
        const char third = to_char(v >> 6 & 63);
        const char fourth = to_char(v & 63);
        *out++ = (char)(n > 1 ? third : '=');
        *out++ = (char)(n > 2 ? fourth : '=');
    }
    *out = '\0';
}

loch_status kms_base64_decode(const char *text, uint8_t *out, size_t size, size_t *len)
{
    const size_t n = strlen(text);
    const size_t pad = n >= 4 && text[n - 1] == '=' ? (text[n - 2] == '=' ? 2 : 1) : 0;
    const size_t want = n / 4 * 3 - pad;
    uint32_t bad = 0;

    if (n % 4 != 0 || n == 0 || want > size)
        return LOCH_FAIL(LOCH_E_CORRUPT, "the key service's answer is not base64, or too long");
    for (size_t i = 0, at = 0; i < n; i += 4) {
        uint32_t v = 0;
        for (size_t k = 0; k < 4; k++) {
            const uint32_t digit = i + k < n - pad ? from_char((unsigned char)text[i + k]) : 0;
            bad |= digit & 64;
            v = v << 6 | (digit & 63);
        }
        for (size_t k = 0; k < 3 && at < want; k++)
            out[at++] = (uint8_t)(v >> (16 - 8 * k));
    }
    if (bad != 0)
        return LOCH_FAIL(LOCH_E_CORRUPT, "the key service's answer is not base64");
    *len = want;
    return LOCH_OK;
}
