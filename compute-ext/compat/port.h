/* struct Port without the GSSAPI headers, which the server's development package does not bring
 * along: only members that lie before the conditional ones may be used (raddr, application_name).
 */
#ifndef LOCH_COMPAT_PORT_H
#define LOCH_COMPAT_PORT_H

#include "postgres.h"

#undef ENABLE_GSS
#include "libpq/libpq-be.h"

#endif
