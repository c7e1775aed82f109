/* Lists of hot pages: what decodes must encode to the same bytes. */
#include "fuzz.h"

#include "loch/base/check.h"
#include "loch/wire/hot_pages.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct loch_hot_pages list;
    struct loch_buf back = {0};
    struct loch_writer w;

    if (!loch_is_ok(loch_hot_pages_decode(loch_slice_of(data, size), &list)))
        return 0;
    struct loch_hot_run *runs = malloc((list.count + 1) * sizeof *runs);
    LOCH_ASSERT(runs != NULL);
    for (uint32_t i = 0; i < list.count; i++)
        runs[i] = loch_hot_pages_at(&list, i);
    loch_writer_init(&w, &back);
    loch_hot_pages_encode(&w, runs, list.count);
    const loch_status st = loch_writer_finish(&w);
    LOCH_ASSERT(loch_is_ok(st));
    LOCH_ASSERT(back.len == size);
    LOCH_ASSERT(memcmp(back.data, data, size) == 0);
    free(runs);
    loch_buf_fini(&back);
    return 0;
}
