/* Holds: the reading of a startup packet. */
#include "pgv3_startup.h"

#include <string.h>

#define HEADER_BYTES   8u
#define PROTOCOL_MAJOR 3u

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

enum pgv3_startup pgv3_startup_take(struct loch_slice in, size_t *len)
{
    if (in.len < HEADER_BYTES)
        return PGV3_STARTUP_MORE;
    const uint32_t n = be32(in.data);
    if (n <= HEADER_BYTES || n > PGV3_STARTUP_MAX_BYTES)
        return PGV3_STARTUP_ABSURD;
    if (in.len < n)
        return PGV3_STARTUP_MORE;
    if (be32(in.data + 4) >> 16 != PROTOCOL_MAJOR || in.data[n - 1] != 0)
        return PGV3_STARTUP_FOREIGN;
    *len = n;
    return PGV3_STARTUP_TAKEN;
}

const char *pgv3_startup_param(struct loch_slice params, const char *name)
{
    const char *at = (const char *)params.data;
    const char *end = at + params.len;

    while (at < end && *at != '\0') { /* the packet ends in NUL: every text does */
        const char *value = at + strlen(at) + 1;
        if (value >= end)
            return NULL;
        if (strcmp(at, name) == 0)
            return value;
        at = value + strlen(value) + 1;
    }
    return NULL;
}
