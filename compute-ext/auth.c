/* Holds: the ClientAuthentication hook. A base backup taken from a compute would hold holes instead
 * of pages, and a standby of it could not follow; both are the storage's business. */
#include "auth.h"

#include "postgres.h"

#include "stop_state.h"

#include "compat/port.h"

#include "libpq/auth.h"
#include "replication/walsender.h"

#include <sys/socket.h>

#define PROPOSER_NAME "loch_proposer"

static ClientAuthentication_hook_type previous_auth;

static bool is_proposer(const Port *port)
{
    return !am_db_walsender && port->raddr.addr.ss_family == AF_UNIX &&
           port->application_name != NULL && strcmp(port->application_name, PROPOSER_NAME) == 0;
}

static void on_authentication(Port *port, int status)
{
    if (previous_auth != NULL)
        previous_auth(port, status);
    if (am_walsender && !is_proposer(port))
        ereport(FATAL,
                (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                 errmsg("replication connections to a Loch compute are not supported"),
                 errhint("\"loch branch export NAME --to DIR\" makes a data directory that a stock "
                         "PostgreSQL starts on; pg_receivewal reads the WAL from a safekeeper's "
                         "export port.")));
    if (!am_walsender)
        loch_stop_state_wait();
}

void loch_auth_register(void)
{
    previous_auth = ClientAuthentication_hook;
    ClientAuthentication_hook = on_authentication;
}
