/* What stands in a keyring or a configuration: envelopes of wrapped KEKs, KMS URIs. */
#include "fuzz.h"

#include "loch/base/check.h"
#include "loch/kms/kms.h"

#include "../../src/kms/attributes.h"
#include "../../src/kms/base64.h"
#include "../../src/kms/envelope.h"

#include <stdlib.h>
#include <string.h>

static void attributes(const char *text, size_t len)
{
    char a[8] = "", b[300] = "";
    size_t b_len = 0;
    const struct kms_attribute known[] = {{"a", a, sizeof a, NULL}, {"b", b, sizeof b, &b_len}};

    if (loch_is_ok(kms_attributes_parse(text, len, ';', known, 2)))
        LOCH_ASSERT(strlen(a) < sizeof a && b_len < sizeof b);
}

/* What is encoded comes back; what is not base64 is refused. */
static void base64(const uint8_t *data, size_t size)
{
    const size_t n = size > 1000 ? 1000 : size;
    uint8_t back[1024];
    char text[KMS_BASE64_BYTES(1000)];
    size_t len = 0;

    kms_base64_encode(loch_slice_of(data, n), text);
    if (n > 0) {
        LOCH_ASSERT(loch_is_ok(kms_base64_decode(text, back, sizeof back, &len)));
        LOCH_ASSERT(len == n && memcmp(back, data, n) == 0);
    }
    memcpy(text, data, n);
    text[n] = '\0';
    if (loch_is_ok(kms_base64_decode(text, back, sizeof back, &len)))
        LOCH_ASSERT(len <= sizeof back);
}

static void uri(const char *scheme, const uint8_t *data, size_t size)
{
    const size_t n = strlen(scheme);
    struct loch_kms *kms = NULL;
    char *text = malloc(n + size + 1);

    LOCH_ASSERT(text != NULL);
    memcpy(text, scheme, n);
    memcpy(text + n, data, size);
    text[n + size] = '\0';
    if (loch_is_ok(loch_kms_open(text, NULL, &kms)))
        loch_kms_close(kms);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct loch_slice inner;

    if (size > 0)
        attributes((const char *)data, size);
    for (uint8_t provider = 0; provider < 6; provider++)
        if (loch_is_ok(kms_envelope_read(provider, loch_slice_of(data, size), &inner)))
            LOCH_ASSERT(inner.len > 0 && inner.len < size);
    uri("pkcs11:", data, size);
    uri("aws-kms:", data, size);
    uri("aws-kms:arn:aws:kms:r:111122223333:key/1?", data, size);
    uri("vault:", data, size);
    uri("vault:https://h/m/k?token-file=/t&", data, size);
    base64(data, size);
    return 0;
}
