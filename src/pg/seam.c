/* Holds: the search for a table of function pointers in the main executable's RELRO segment.
 *
 * The one place of this room that looks at the process it runs in, not at bytes it was given. */
#include "loch/pg/seam.h"

#include <link.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct search {
    const void *const *wanted;
    size_t count;
    size_t hits;
    size_t segments;
    uintptr_t hit;
};

/* Word by word, as the range is no object of the language: the loader told us of it. */
__attribute__((no_sanitize_address)) static bool matches(const void *const *at,
                                                         const struct search *s)
{
    for (size_t i = 0; i < s->count; i++)
        if (((const void *const volatile *)at)[i] != s->wanted[i])
            return false;
    return true;
}

static void search_range(struct search *s, uintptr_t start, uintptr_t end)
{
    size_t bytes = s->count * sizeof(void *);

    start = (start + sizeof(void *) - 1) & ~(uintptr_t)(sizeof(void *) - 1);
    for (uintptr_t at = start; at + bytes <= end; at += sizeof(void *)) {
        if (!matches((const void *const *)at, s))
            continue;
        s->hits++;
        s->hit = at;
    }
}

/* The first object the loader names is the main executable. */
static int visit(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct search *s = arg;

    (void)size;
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        if (ph->p_type != PT_GNU_RELRO)
            continue;
        s->segments++;
        search_range(s, info->dlpi_addr + ph->p_vaddr, info->dlpi_addr + ph->p_vaddr + ph->p_memsz);
    }
    return 1;
}

LOCH_STATUS loch_seam_find(const void *const *wanted, size_t count, void ***table)
{
    struct search s = {.wanted = wanted, .count = count};

    if (count == 0)
        return LOCH_FAIL(LOCH_E_INVALID, "an empty pointer sequence");
    dl_iterate_phdr(visit, &s);
    if (s.segments == 0)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED, "the executable has no read-only relocations");
    if (s.hits == 0)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "the table is not in this executable");
    if (s.hits > 1)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED, "the table is there %zu times", s.hits);
    *table = (void **)s.hit;
    return LOCH_OK;
}

LOCH_STATUS loch_seam_write(void **table, const void *const *pointers, size_t count)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = (uintptr_t)table & ~(page - 1);
    uintptr_t end = ((uintptr_t)(table + count) + page - 1) & ~(page - 1);

    if (mprotect((void *)start, end - start, PROT_READ | PROT_WRITE) != 0)
        return LOCH_FAIL(LOCH_E_IO, "the table's pages cannot be made writable");
    memcpy(table, pointers, count * sizeof *table);
    if (mprotect((void *)start, end - start, PROT_READ) != 0)
        return LOCH_FAIL(LOCH_E_IO, "the table's pages cannot be made read-only");
    return LOCH_OK;
}
