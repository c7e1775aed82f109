#include "loch/pg/seam.h"
#include <errno.h>
#include <link.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
struct s {
    const void *const *w;
    size_t n;
    void **hit;
    int hits;
    int relro;
};
static int cb(struct dl_phdr_info *i, size_t z, void *a)
{
    struct s *s = a;
    (void)z;
    if (i->dlpi_name[0])
        return 0;
    for (int k = 0; k < i->dlpi_phnum; k++) {
        if (i->dlpi_phdr[k].p_type != PT_GNU_RELRO)
            continue;
        uintptr_t b = i->dlpi_addr + i->dlpi_phdr[k].p_vaddr, e = b + i->dlpi_phdr[k].p_memsz;
        for (uintptr_t p = (b + 7) & ~(uintptr_t)7; p + 8 * s->n <= e; p += 8)
            if (!memcmp((void *)p, s->w, 8 * s->n)) {
                s->hit = (void **)p;
                s->hits++;
            }
    }
    return 1;
}
loch_status loch_seam_find(const void *const *wanted, size_t count, void ***table)
{
    struct s s = {wanted, count, NULL, 0, 0};
    dl_iterate_phdr(cb, &s);
    if (s.hits != 1)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "hits %d", s.hits);
    *table = s.hit;
    return LOCH_OK;
}
loch_status loch_seam_write(void **table, const void *const *p, size_t n)
{
    uintptr_t a = (uintptr_t)table & ~(uintptr_t)4095, e = (uintptr_t)(table + n);
    if (mprotect((void *)a, e - a, PROT_READ | PROT_WRITE))
        return LOCH_FAIL(LOCH_E_IO, "%s", strerror(errno));
    memcpy(table, p, n * sizeof *p);
    mprotect((void *)a, e - a, PROT_READ);
    return LOCH_OK;
}
