/* Holds: CRC-32C over isa-l, whose crc32_iscsi takes and returns the running (inverted) value. */
#include "loch/base/crc32c.h"

#include <isa-l/crc.h>

uint32_t loch_crc32c_update(uint32_t crc, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;

    /* The library counts in int. */
    while (len > 0) {
        int n = len > (1u << 30) ? (1 << 30) : (int)len;
        crc = crc32_iscsi((unsigned char *)(uintptr_t)p, n, crc);
        p += n;
        len -= (size_t)n;
    }
    return crc;
}
