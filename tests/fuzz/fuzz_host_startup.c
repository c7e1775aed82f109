/* The startup packet of PostgreSQL's protocol: parameters lie within the packet and end in it. */
#include "fuzz.h"

#include "loch/base/check.h"

#include "../../src/host/pgv3_startup.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"user", "replication", "options", ""};
    uint8_t *copy = malloc(size + 1); /* of exactly the size, for the sanitizer */
    size_t len = 0;

    LOCH_ASSERT(copy != NULL);
    memcpy(copy, data, size);
    if (size >= 8 && size < PGV3_STARTUP_MAX_BYTES &&
        data[7] % 2 == 0) { /* most lengths are refused */
        copy[0] = copy[1] = 0;
        copy[2] = (uint8_t)(size >> 8);
        copy[3] = (uint8_t)size;
        copy[4] = 0;
        copy[5] = 3;
    }
    uint8_t *exact = realloc(copy, size > 0 ? size : 1);
    LOCH_ASSERT(exact != NULL);
    if (pgv3_startup_take(loch_slice_of(exact, size), &len) == PGV3_STARTUP_TAKEN) {
        LOCH_ASSERT(len > 8 && len <= size && len <= PGV3_STARTUP_MAX_BYTES);
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            const char *value = pgv3_startup_param(loch_slice_of(exact + 8, len - 8), names[i]);
            LOCH_ASSERT(value == NULL || ((const uint8_t *)value > exact + 8 &&
                                          (const uint8_t *)value + strlen(value) < exact + len));
        }
    }
    free(exact);
    return 0;
}
