/* name=value pairs of a KMS URI. */
#ifndef LOCH_KMS_ATTRIBUTES_H
#define LOCH_KMS_ATTRIBUTES_H

#include "loch/base/status.h"

#include <stddef.h>

struct kms_attribute {
    const char *name;
    char *out; /* NUL-terminated; empty beforehand */
    size_t size;
    size_t *len; /* not NULL: bytes that may hold NULs; their number */
};

/* Parses the `len` bytes of `text`, pairs parted by `separator`, values percent-decoded (RFC 3986).
 * LOCH_E_INVALID for names that are not known, given twice, or values that do not fit. */
LOCH_STATUS kms_attributes_parse(const char *text, size_t len, char separator,
                                 const struct kms_attribute *known, size_t count);

#endif
