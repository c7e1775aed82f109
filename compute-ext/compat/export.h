/* PGDLLEXPORT makes a symbol visible: up to PostgreSQL 15 it is empty on Linux, and this library
 * hides everything else. Include after postgres.h and before what uses it. */
#ifndef LOCH_COMPAT_EXPORT_H
#define LOCH_COMPAT_EXPORT_H

#include "postgres.h"

#undef PGDLLEXPORT
#define PGDLLEXPORT __attribute__((visibility("default")))

#endif
