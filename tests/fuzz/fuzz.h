/* What every fuzz target defines. Returns 0; aborts on a finding. */
#ifndef LOCH_TESTS_FUZZ_H
#define LOCH_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Edits a copy of a valid file as the input says: u24 offset (modulo length), u8 to xor,
 * repeatedly. */
static inline void fuzz_edit(uint8_t *file, size_t len, const uint8_t *data, size_t size)
{
    for (; size >= 4 && len > 0; data += 4, size -= 4) {
        const size_t at = (size_t)data[0] | (size_t)data[1] << 8 | (size_t)data[2] << 16;
        file[at % len] ^= data[3];
    }
}

#endif
