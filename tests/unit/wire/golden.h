/* Golden files of messages. */
#ifndef LOCH_TESTS_UNIT_WIRE_GOLDEN_H
#define LOCH_TESTS_UNIT_WIRE_GOLDEN_H

#include "../unit.h"

#include "loch/base/buf.h"

#include <stdio.h>
#include <stdlib.h>

/* `buf` (taken) is what the file holds, to the byte. LOCH_GOLDEN_WRITE=1 writes it anew. */
static inline void is_golden(struct loch_buf buf, const char *name)
{
    char path[300];
    uint8_t *bytes = malloc(buf.len + 1);

    assert_non_null(bytes);
    snprintf(path, sizeof path, "%s/tests/golden/wire/%s", LOCH_SOURCE_DIR, name);
    if (getenv("LOCH_GOLDEN_WRITE") != NULL) {
        FILE *out = fopen(path, "wbe");
        assert_non_null(out);
        assert_int_equal(fwrite(buf.data, 1, buf.len, out), buf.len);
        assert_int_equal(fclose(out), 0);
    }
    FILE *f = fopen(path, "rbe");
    assert_non_null(f);
    assert_int_equal(fread(bytes, 1, buf.len + 1, f), buf.len);
    (void)fclose(f);
    assert_memory_equal(bytes, buf.data, buf.len);
    free(bytes);
    loch_buf_fini(&buf);
}

#endif
