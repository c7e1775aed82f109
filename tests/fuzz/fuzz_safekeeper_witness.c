/* The node's witness: what is read is what would be written. */
#include "fuzz.h"
#include "../../safekeeper/witness.h"

#include "loch/base/check.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sk_witness_record r = {0};
    char text[SK_WITNESS_BYTES];

    if (!loch_is_ok(sk_witness_parse("it", loch_slice_of(data, size), &r)))
        return 0;
    LOCH_ASSERT(r.beat > 0);
    LOCH_ASSERT(sk_witness_format(&r, text) == size && memcmp(text, data, size) == 0);
    return 0;
}
