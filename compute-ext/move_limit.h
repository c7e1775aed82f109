/* How large a database may be that moves to another tablespace. */
#ifndef LOCH_EXT_MOVE_LIMIT_H
#define LOCH_EXT_MOVE_LIMIT_H

#include "postgres.h"

#include "nodes/parsenodes.h"

/* ERROR for ALTER DATABASE ... SET TABLESPACE of a database that has more than
 * loch.move_database_max_size in its tablespace. What the server refuses anyway is left to it. */
void loch_move_limit_check(const AlterDatabaseStmt *stmt);

#endif
