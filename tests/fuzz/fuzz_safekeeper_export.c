/* Commands of the replication protocol: any text is one of them or refused with a reason. */
#include "fuzz.h"

#include "loch/base/check.h"

#include "../../safekeeper/export_command.h"

#include <stdlib.h>
#include <string.h>

static void parse(const char *text)
{
    struct sk_export_command c;

    sk_export_command_parse(text, &c);
    LOCH_ASSERT((c.verb == SK_EXPORT_REFUSED) == (c.complaint != NULL));
    LOCH_ASSERT((c.complaint == NULL) == (c.sqlstate == NULL));
    LOCH_ASSERT(memchr(c.slot, 0, sizeof c.slot) != NULL);
    LOCH_ASSERT(c.verb == SK_EXPORT_CREATE_SLOT || c.slot[0] == '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const prefixes[] = {"", "START_REPLICATION ", "CREATE_REPLICATION_SLOT \"",
                                           "SHOW "};
    const char *prefix = prefixes[size > 0 ? data[0] % 4 : 0];
    char *text = malloc(strlen(prefix) + size + 1);

    LOCH_ASSERT(text != NULL);
    strcpy(text, prefix);
    memcpy(text + strlen(prefix), data, size);
    text[strlen(prefix) + size] = '\0';
    parse(text);
    free(text);
    return 0;
}
