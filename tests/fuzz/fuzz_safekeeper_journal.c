/* A journal's bytes: any are read within bounds, or refused. */
#include "fuzz.h"

#include "loch/base/check.h"

#include "../../safekeeper/journal_file.h"

#include <stdlib.h>
#include <string.h>

#define HALF  (4u * SK_JOURNAL_PAGE)
#define WHOLE (SK_JOURNAL_PAGE + 2u * HALF)

static const struct loch_id id = {{1, 2, 3}};

struct sum {
    struct loch_slice file;
    size_t bytes;
};

static loch_status take(void *arg, const struct sk_journal_piece *piece)
{
    struct sum *s = arg;

    LOCH_ASSERT(piece->bytes.data >= s->file.data);
    LOCH_ASSERT(piece->bytes.data + piece->bytes.len <= s->file.data + s->file.len);
    LOCH_ASSERT(piece->offset <= INT64_MAX);
    s->bytes += piece->bytes.len;
    return LOCH_OK;
}

/* The input's bytes behind a record's head, whose checksum is right: what lies past it. */
static void as_record(uint8_t *file, const uint8_t *data, size_t size)
{
    struct loch_buf record = {0};
    uint8_t *at = file + SK_JOURNAL_PAGE;

    LOCH_ASSERT(loch_is_ok(sk_journal_record_begin(&record)));
    LOCH_ASSERT(loch_is_ok(loch_buf_append(&record, data, size)));
    if (size > 0)
        loch_put_u32(record.data + 40, data[0]); /* so many pieces, it says */
    LOCH_ASSERT(loch_is_ok(sk_journal_record_end(&record, &id, 1, 1)));
    memcpy(at, record.data, record.len);
    loch_buf_fini(&record);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct sk_journal_head head = {.id = id, .half_bytes = HALF};
    struct sk_journal_head got;
    uint8_t *file = calloc(1, WHOLE);
    struct sum sum = {{file, WHOLE}, 0};

    LOCH_ASSERT(file != NULL);
    if (size > HALF - 64)
        size = HALF - 64;
    if (size > 0)
        memcpy(file, data, size);
    loch_status st = sk_journal_head_decode(loch_slice_of(file, WHOLE), &got);
    (void)st; /* refused, but for one in 2^64 */
    if (size > 0)
        memcpy(file + SK_JOURNAL_PAGE, data, size);
    st = sk_journal_pieces(sum.file, &head, take, &sum);
    as_record(file, data, size);
    st = sk_journal_pieces(sum.file, &head, take, &sum);
    LOCH_ASSERT(sum.bytes <= 2u * WHOLE);
    free(file);
    return 0;
}
