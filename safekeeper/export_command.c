/* Holds: the reading of replication commands. */
#include "export_command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define TLI 1u

static void refuse(struct sk_export_command *out, const char *sqlstate, const char *complaint)
{
    out->verb = SK_EXPORT_REFUSED;
    out->sqlstate = sqlstate;
    out->complaint = complaint;
}

static bool begins(const char *text, const char *word)
{
    return strncasecmp(text, word, strlen(word)) == 0;
}

/* What follows SLOT and its name, which may contain anything; the whole text when there is none. */
static const char *behind_slot(const char *text)
{
    const char *at = text + strlen("START_REPLICATION");

    at += strspn(at, " ");
    if (!begins(at, "SLOT "))
        return text;
    at += strlen("SLOT ");
    at += strspn(at, " ");
    if (*at != '"')
        return at + strcspn(at, " ");
    for (at++; *at != '\0'; at++) {
        if (at[0] == '"' && at[1] == '"')
            at++;
        else if (at[0] == '"')
            return at + 1;
    }
    return at;
}

/* START_REPLICATION [SLOT "name"] [PHYSICAL] X/X [TIMELINE n] */
static void parse_start(const char *text, struct sk_export_command *out)
{
    text = behind_slot(text);
    const char *slash = strchr(text, '/');
    const char *tli = strcasestr(text, "TIMELINE ");
    char lsn[40] = "";

    while (slash != NULL && slash > text && slash[-1] != ' ')
        slash--;
    if (slash == NULL || sscanf(slash, "%39s", lsn) != 1 ||
        !loch_is_ok(loch_lsn_parse(lsn, &out->lsn)) || strcasestr(text, "LOGICAL") != NULL)
        refuse(out, "42601", "want START_REPLICATION [SLOT name] [PHYSICAL] lsn [TIMELINE 1]");
    else if (tli != NULL && strtoul(tli + strlen("TIMELINE "), NULL, 10) != TLI)
        refuse(out, "58P01", "the only timeline of a branch is 1");
    else
        out->verb = SK_EXPORT_START;
}

void sk_export_command_parse(const char *text, struct sk_export_command *out)
{
    *out = (struct sk_export_command){.verb = SK_EXPORT_REFUSED};
    if (begins(text, "IDENTIFY_SYSTEM"))
        out->verb = SK_EXPORT_IDENTIFY;
    else if (begins(text, "SHOW wal_segment_size"))
        out->verb = SK_EXPORT_SHOW_SEGMENT_SIZE;
    else if (begins(text, "SHOW data_directory_mode"))
        out->verb = SK_EXPORT_SHOW_DIRECTORY_MODE;
    else if (begins(text, "SHOW "))
        refuse(out, "42704", "this port shows wal_segment_size and data_directory_mode only");
    else if (begins(text, "READ_REPLICATION_SLOT"))
        out->verb = SK_EXPORT_READ_SLOT;
    else if (begins(text, "CREATE_REPLICATION_SLOT")) {
        out->verb = SK_EXPORT_CREATE_SLOT;
        (void)sscanf(text, "%*s \"%63[^\"]\"", out->slot);
    } else if (begins(text, "DROP_REPLICATION_SLOT"))
        out->verb = SK_EXPORT_DROP_SLOT;
    else if (begins(text, "START_REPLICATION"))
        parse_start(text, out);
    else if (begins(text, "TIMELINE_HISTORY"))
        refuse(out, "58P01", "timeline 1, a branch's only one, has no history");
    else
        refuse(out, "0A000", "this port speaks the replication protocol only");
}
