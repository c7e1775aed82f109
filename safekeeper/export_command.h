/* The commands of the replication protocol, as text from a client. Pure. Source: PostgreSQL 15
 * documentation, chapter 55.4. */
#ifndef LOCH_SAFEKEEPER_EXPORT_COMMAND_H
#define LOCH_SAFEKEEPER_EXPORT_COMMAND_H

#include "loch/base/types.h"

#define SK_SLOT_BYTES 64u /* of a slot's name, its end included */

enum sk_export_verb {
    SK_EXPORT_REFUSED, /* sqlstate and complaint say why */
    SK_EXPORT_IDENTIFY,
    SK_EXPORT_SHOW_SEGMENT_SIZE,
    SK_EXPORT_SHOW_DIRECTORY_MODE,
    SK_EXPORT_READ_SLOT,
    SK_EXPORT_CREATE_SLOT,
    SK_EXPORT_DROP_SLOT,
    SK_EXPORT_START
};

struct sk_export_command {
    enum sk_export_verb verb;
    loch_lsn lsn;             /* START */
    char slot[SK_SLOT_BYTES]; /* CREATE_SLOT; "" when it is not quoted */
    const char *sqlstate, *complaint;
};

void sk_export_command_parse(const char *text, struct sk_export_command *out);

#endif
