/* Holds: "host:port" and "[v6]:port" taken apart. */
#include "real.h"

#include <stdlib.h>

loch_status real_address_parse(const char *text, struct real_address *out)
{
    struct real_address a = {0};
    const char *host = text;
    const char *colon = strrchr(text, ':');
    char *end = NULL;

    if (colon == NULL || colon == text)
        return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" is not an address (want host:port)", text);
    size_t n = (size_t)(colon - host);
    if (host[0] == '[' && host[n - 1] == ']' && n > 2) {
        host++;
        n -= 2;
    } else if (memchr(host, ':', n) != NULL) {
        return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" is not an address (want [v6]:port)", text);
    }
    if (n >= sizeof a.host)
        return LOCH_FAIL(LOCH_E_INVALID, "the host name in \"%.40s...\" is too long", text);
    memcpy(a.host, host, n);
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (colon[1] < '0' || colon[1] > '9' || *end != '\0' || port > UINT16_MAX)
        return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" has no port from 0 to 65535", text);
    a.port = (uint16_t)port;
    *out = a;
    return LOCH_OK;
}
