/* What stands in a keyring or a configuration: envelopes of wrapped KEKs, KMS URIs. */
#include "fuzz.h"

#include "loch/base/check.h"
#include "loch/kms/kms.h"

#include "../../src/kms/attributes.h"
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
    return 0;
}
