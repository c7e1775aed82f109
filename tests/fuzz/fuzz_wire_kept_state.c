/* What a compute leaves for the next one: what decodes must encode to the same. */
#include "fuzz.h"

#include "loch/base/check.h"
#include "loch/wire/free_space.h"
#include "loch/wire/stop_state.h"

#include <string.h>

static void finish(struct loch_writer *w)
{
    const loch_status st = loch_writer_finish(w);
    LOCH_ASSERT(loch_is_ok(st));
}

static void is_same(const struct loch_buf *back, struct loch_slice bytes)
{
    LOCH_ASSERT(back->len == bytes.len);
    LOCH_ASSERT(memcmp(back->data, bytes.data, bytes.len) == 0);
}

static void try_stop(struct loch_slice bytes)
{
    struct loch_stop_head head;
    struct loch_stop_part part;
    struct loch_buf back = {0};
    struct loch_writer w;

    loch_writer_init(&w, &back);
    if (loch_is_ok(loch_stop_head_decode(bytes, &head)))
        loch_stop_head_encode(&w, &head);
    else if (loch_is_ok(loch_stop_part_decode(bytes, &part)))
        loch_stop_part_encode(&w, &part);
    else
        return;
    finish(&w);
    is_same(&back, bytes);
    loch_buf_fini(&back);
}

static void try_free_space(struct loch_slice bytes)
{
    uint8_t once[LOCH_FREE_SPACE_SLOTS], twice[LOCH_FREE_SPACE_SLOTS];
    struct loch_buf copy = {0}, anew = {0};
    struct loch_free_space_leaf leaf, again;
    struct loch_reader r, s;
    struct loch_writer w, v;
    bool found = false;

    if (!loch_is_ok(loch_free_space_open(&r, bytes)))
        return;
    loch_writer_init(&w, &copy);
    loch_free_space_begin(&w);
    for (;;) {
        if (!loch_is_ok(loch_free_space_next(&r, &leaf, &found)))
            goto out;
        if (!found)
            break;
        loch_free_space_copy(&w, &leaf);
        loch_free_space_expand(&leaf, once);
        anew.len = 0;
        loch_writer_init(&v, &anew);
        loch_free_space_begin(&v);
        loch_free_space_add(&v, &leaf.rel, leaf.leaf, once);
        finish(&v);
        LOCH_ASSERT(loch_is_ok(loch_free_space_open(&s, loch_buf_slice(&anew))));
        LOCH_ASSERT(loch_is_ok(loch_free_space_next(&s, &again, &found)));
        if (!found)
            continue; /* no space at all */
        loch_free_space_expand(&again, twice);
        LOCH_ASSERT(memcmp(once, twice, sizeof once) == 0);
    }
    finish(&w);
    is_same(&copy, bytes);
out:
    loch_buf_fini(&copy);
    loch_buf_fini(&anew);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_stop(loch_slice_of(data, size));
    try_free_space(loch_slice_of(data, size));
    return 0;
}
