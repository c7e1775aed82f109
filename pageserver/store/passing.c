/* The last frame of a scan, and the stretch of a file that it reads from. */
#include "passing.h"

#include "version.h"

#include "loch/base/check.h"

#include <stdlib.h>

/* Of one read: some ten pages, and no more than a processor's near cache holds well. */
#define STRETCH_BYTES ((size_t)64 << 10)

struct loch_frame *loch_passing_frame(const struct loch_passing *passing,
                                      const struct loch_id *file, uint32_t number)
{
    if (passing->frame == NULL || passing->number != number || !loch_id_equal(&passing->file, file))
        return NULL;
    return loch_frame_retain(passing->frame);
}

void loch_passing_keep(struct loch_passing *passing, const struct loch_id *file, uint32_t number,
                       struct loch_frame *frame)
{
    struct loch_frame *before = passing->frame;
    passing->file = *file;
    passing->number = number;
    passing->frame = loch_frame_retain(frame);
    loch_frame_release(before);
}

/* How much to read where a frame of `len` bytes follows the last one: no further than where the
 * scan may be expected to go elsewhere. */
static size_t stretch_bytes(const struct loch_passing *p, size_t len)
{
    if (p->run_before == 0 || p->run >= 2 * p->run_before)
        return STRETCH_BYTES;
    if (p->run + len >= p->run_before)
        return len;
    return (size_t)loch_min_u64(STRETCH_BYTES, p->run_before - p->run);
}

/* What was read from the frame's first byte on; less where the file or the OS cache ends. */
static void read_stretch(struct loch_passing *p, struct loch_file *source,
                         const struct loch_id *file, uint64_t offset, size_t len)
{
    p->stretch_file = *file;
    p->stretch_offset = offset;
    p->at = 0;
    p->end = loch_file_read_now(source, offset, p->bytes, len);
}

uint8_t *loch_passing_take(struct loch_passing *p, struct loch_file *source,
                           const struct loch_id *file, const struct loch_layer_ref *ref)
{
    const size_t len = ref->stored_bytes;
    if (p->bytes == NULL)
        p->bytes = malloc(STRETCH_BYTES);
    if (p->bytes == NULL || len > STRETCH_BYTES)
        return NULL;
    const bool follows = loch_id_equal(&p->stretch_file, file) && p->stretch_offset == ref->offset;
    if (!follows) {
        p->run_before = p->run;
        p->run = 0;
    }
    if (!follows || p->end - p->at < len)
        read_stretch(p, source, file, ref->offset, follows ? stretch_bytes(p, len) : len);
    if (p->end - p->at < len) {
        p->at = p->end = 0;
        return NULL;
    }
    uint8_t *stored = p->bytes + p->at;
    p->at += len;
    p->run += len;
    p->stretch_offset += len;
    return stored;
}

void loch_passing_fini(struct loch_passing *passing)
{
    loch_frame_release(passing->frame);
    free(passing->bytes);
    *passing = (struct loch_passing){0};
}
