/* Base64 (RFC 4648, with padding) of secrets: no tables, so that no cache line tells. */
#ifndef LOCH_KMS_BASE64_H
#define LOCH_KMS_BASE64_H

#include "loch/base/buf.h"

#define KMS_BASE64_BYTES(len_) (((len_) + 2) / 3 * 4 + 1)

/* Writes KMS_BASE64_BYTES(bytes.len) with a NUL. */
void kms_base64_encode(struct loch_slice bytes, char *out);
/* *len: how many bytes were written, at most `size`. LOCH_E_CORRUPT. */
LOCH_STATUS kms_base64_decode(const char *text, uint8_t *out, size_t size, size_t *len);

#endif
