/* Holds: CRC-32C over isa-l, whose crc32_iscsi takes and returns the running (inverted) value.
 * Short runs, of which WAL has many, take the processor's own instruction: isa-l's folding costs
 * some 50 ns to set up. */
#include "loch/base/crc32c.h"

#include <isa-l/crc.h>
#include <string.h>

#if defined(__x86_64__)
#define SHORT_BYTES 192u

__attribute__((target("sse4.2"))) static uint32_t short_update(uint32_t crc, const uint8_t *p,
                                                               size_t len)
{
    uint64_t wide = crc;

    for (; len >= 8; p += 8, len -= 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        wide = __builtin_ia32_crc32di(wide, v);
    }
    crc = (uint32_t)wide;
    for (; len > 0; p++, len--)
        crc = __builtin_ia32_crc32qi(crc, *p);
    return crc;
}
#endif

uint32_t loch_crc32c_update(uint32_t crc, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;

#if defined(__x86_64__)
    if (len < SHORT_BYTES && __builtin_cpu_supports("sse4.2"))
        return short_update(crc, p, len);
#endif

    /* The library counts in int. */
    while (len > 0) {
        int n = len > (1u << 30) ? (1 << 30) : (int)len;
        crc = crc32_iscsi((unsigned char *)(uintptr_t)p, n, crc);
        p += n;
        len -= (size_t)n;
    }
    return crc;
}
