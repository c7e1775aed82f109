/* Holds: status to ereport. Never called with a Loch frame above that would be jumped over. */
#include "report.h"

static int sqlstate_of(enum loch_code code)
{
    switch (code) {
    case LOCH_E_CORRUPT:
        return ERRCODE_DATA_CORRUPTED;
    case LOCH_E_IO:
        return ERRCODE_IO_ERROR;
    case LOCH_E_NOT_FOUND:
        return ERRCODE_UNDEFINED_FILE;
    case LOCH_E_EXISTS:
        return ERRCODE_DUPLICATE_FILE;
    case LOCH_E_INVALID:
        return ERRCODE_INVALID_PARAMETER_VALUE;
    case LOCH_E_DENIED:
        return ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION;
    case LOCH_E_UNAVAILABLE:
        return ERRCODE_CONNECTION_FAILURE;
    case LOCH_E_LIMIT:
        return ERRCODE_PROGRAM_LIMIT_EXCEEDED;
    case LOCH_E_NO_MEMORY:
        return ERRCODE_OUT_OF_MEMORY;
    case LOCH_E_UNSUPPORTED:
        return ERRCODE_FEATURE_NOT_SUPPORTED;
    case LOCH_E_STALE:
    case LOCH_E_KEY_REVOKED:
    case LOCH_E_KMS_UNAVAILABLE:
        return ERRCODE_ADMIN_SHUTDOWN;
    case LOCH_E_OK:
        break;
    }
    return ERRCODE_INTERNAL_ERROR;
}

void loch_report(int elevel, loch_status st, const char *doing)
{
    ereport(elevel,
            (errcode(sqlstate_of(st.code)), errmsg("loch: %s: %s", doing, loch_error_text()),
             errdetail_log("detected at %s", loch_error_where())));
}

void loch_require(loch_status st, const char *doing)
{
    if (!loch_is_ok(st))
        loch_report(FATAL, st, doing);
}
