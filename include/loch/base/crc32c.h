/* CRC-32C (Castagnoli) as PostgreSQL's pg_crc32c computes it. */
#ifndef LOCH_BASE_CRC32C_H
#define LOCH_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

#define LOCH_CRC32C_INIT UINT32_C(0xFFFFFFFF)

/* Continues a running checksum (begin with LOCH_CRC32C_INIT). */
uint32_t loch_crc32c_update(uint32_t crc, const void *bytes, size_t len);

static inline uint32_t loch_crc32c_finish(uint32_t crc)
{
    return crc ^ UINT32_C(0xFFFFFFFF);
}

#endif
