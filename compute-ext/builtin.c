/* Holds: the replacing. The table of built-in functions (utils/fmgrtab.h) is an exported constant
 * array: its entries are replaced as the storage manager's switch is, and nothing in the catalogs
 * changes. */
#include "builtin.h"

#include "report.h"

#include "utils/fmgrtab.h"

#include "loch/pg/seam.h"

void loch_builtin_replace(Oid function, PGFunction ours, PGFunction *stock)
{
    uint16 index = fmgr_builtin_oid_index[function];
    const FmgrBuiltin *entry;
    void **place;
    const void *pointer;

    if (index == InvalidOidBuiltinMapping || fmgr_builtins[index].foid != function)
        ereport(FATAL, (errmsg("loch: built-in function %u is not where it should be", function)));
    entry = &fmgr_builtins[index];
    *stock = entry->func;
    memcpy(&pointer, &ours, sizeof pointer);
    place = (void **)((uintptr_t)entry + offsetof(FmgrBuiltin, func));
    loch_require(loch_seam_write(place, &pointer, 1), "replacing a built-in function");
}
