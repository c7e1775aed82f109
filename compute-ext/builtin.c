/* Holds: the replacing. The table of built-in functions (utils/fmgrtab.h) is an exported constant
 * array: its entries are replaced as the storage manager's switch is, and nothing in the catalogs
 * changes. Compiled code (jit/llvm/llvmjit.c, llvm_function_reference) calls the server's symbol
 * past that table, unless a plugin wants to hook the function: then it goes through
 * fmgr_security_definer, which looks into the table. There is nothing to hook. */
#include "builtin.h"

#include "report.h"

#include "utils/fmgrtab.h"

#include "loch/base/check.h"
#include "loch/pg/seam.h"

#define REPLACED_MAX 32

static Oid replaced[REPLACED_MAX];
static size_t replaced_count;
static needs_fmgr_hook_type previous_needs_hook;

static bool needs_hook(Oid function)
{
    for (size_t i = 0; i < replaced_count; i++)
        if (replaced[i] == function)
            return true;
    return previous_needs_hook != NULL && previous_needs_hook(function);
}

static void keep_from_compiled_code(Oid function)
{
    LOCH_ASSERT(replaced_count < REPLACED_MAX);
    if (replaced_count == 0) {
        previous_needs_hook = needs_fmgr_hook;
        needs_fmgr_hook = needs_hook;
    }
    replaced[replaced_count++] = function;
}

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
    keep_from_compiled_code(function);
}
