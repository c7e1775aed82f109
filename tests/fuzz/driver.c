/* Runs a fuzz target without libFuzzer: on the files given, else on random inputs from a seed.
 * Usage: fuzz_x [--seed N] [--count N] [FILE...] */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_MAX 4096u

static uint64_t next(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static int run_file(const char *path)
{
    static uint8_t bytes[1u << 20];
    FILE *f = fopen(path, "rb");

    if (f == NULL) {
        (void)fprintf(stderr, "cannot open %s\n", path);
        return 1;
    }
    const size_t n = fread(bytes, 1, sizeof bytes, f);
    (void)fclose(f);
    (void)LLVMFuzzerTestOneInput(bytes, n);
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t seed = 1;
    uint64_t count = 3000;
    int files = 0;
    static uint8_t bytes[INPUT_MAX];

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--count") == 0 && i + 1 < argc)
            count = strtoull(argv[++i], NULL, 10);
        else if (files++, run_file(argv[i]) != 0)
            return 2;
    }
    if (files > 0)
        return 0;
    printf("seed %llu, %llu inputs\n", (unsigned long long)seed, (unsigned long long)count);
    uint64_t state = seed;
    for (uint64_t i = 0; i < count; i++) {
        /* Mostly short, sometimes long; mostly noise, sometimes small numbers. */
        const size_t n = next(&state) % (i % 16 == 0 ? INPUT_MAX : 64u);
        const uint8_t mask = i % 3 == 0 ? 0x07 : 0xFF;
        for (size_t k = 0; k < n; k++)
            bytes[k] = (uint8_t)next(&state) & mask;
        (void)LLVMFuzzerTestOneInput(bytes, n);
    }
    return 0;
}
