/* A line of an audit log, as somebody may have altered it. */
#include "fuzz.h"

#include "loch/base/check.h"
#include "loch/host/audit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct loch_audit_record r;

    if (loch_is_ok(loch_audit_parse(loch_slice_of(data, size), &r))) {
        LOCH_ASSERT(r.seq > 0);
        LOCH_ASSERT(r.body.len < size);
    }
    return 0;
}
