/* Holds: the list of a timeline's WAL files and reads from them. Invariant: begins ascend with
 * sequence numbers; a byte of WAL is read from exactly one file. */
#include "wal_files.h"

#include "wal_open.h"

#include "loch/base/check.h"
#include "loch/base/secret.h"
#include "loch/pg/wal_scan.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

void sk_wal_files_fini(struct sk_wal_files *files)
{
    free(files->items);
    *files = (struct sk_wal_files){0};
}

loch_status sk_wal_files_copy(struct sk_wal_files *out, const struct sk_wal_files *files)
{
    struct sk_wal_files copy = {.next_seq = files->next_seq};

    if (files->count > 0) {
        copy.items = calloc(files->count, sizeof *copy.items);
        if (copy.items == NULL)
            return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a list of WAL files");
        memcpy(copy.items, files->items, files->count * sizeof *copy.items);
        copy.count = files->count;
    }
    *out = copy;
    return LOCH_OK;
}

static loch_status push(struct sk_wal_files *files, struct sk_wal_file file)
{
    struct sk_wal_file *items = realloc(files->items, (files->count + 1) * sizeof *items);

    if (items == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a list of WAL files");
    files->items = items;
    items[files->count++] = file;
    return LOCH_OK;
}

loch_status sk_wal_files_add(struct sk_wal_files *files, uint64_t seq, loch_lsn begin,
                             struct sk_wal_files *gone)
{
    LOCH_ASSERT(files->count == 0 || files->items[files->count - 1].seq < seq);
    while (files->count > 0 && files->items[files->count - 1].begin >= begin) {
        if (gone != NULL)
            LOCH_TRY(push(gone, files->items[files->count - 1]));
        files->count--;
    }
    LOCH_TRY(push(files, (struct sk_wal_file){.seq = seq, .begin = begin}));
    if (files->next_seq <= seq)
        files->next_seq = seq + 1;
    return LOCH_OK;
}

loch_status sk_wal_files_trim(struct sk_wal_files *files, loch_lsn lsn, struct sk_wal_files *gone)
{
    size_t n = 0;

    while (n + 1 < files->count && files->items[n + 1].begin <= lsn)
        LOCH_TRY(push(gone, files->items[n++]));
    if (n == 0)
        return LOCH_OK;
    files->count -= n;
    memmove(files->items, files->items + n, files->count * sizeof *files->items);
    return LOCH_OK;
}

void sk_wal_file_path(const char *dir, uint64_t seq, char out[static SK_PATH_BYTES])
{
    (void)snprintf(out, SK_PATH_BYTES, "%s/%016" PRIx64 ".wal", dir, seq);
}

loch_status sk_wal_read_at(void *arg, uint64_t offset, void *out, size_t len)
{
    return loch_file_read(arg, offset, out, len);
}

loch_status sk_wal_open(const char *dir, const struct sk_sealer *sealer, uint64_t seq,
                        struct sk_wal_opened *out)
{
    struct loch_place place = sk_sealer_place(sealer, LOCH_KIND_WAL, seq);
    struct sk_wal_opened o = {0};
    uint8_t head[LOCH_WAL_HEAD_BYTES];
    loch_status st;

    sk_wal_file_path(dir, seq, o.path);
    LOCH_TRY(loch_file_open(sealer->env, o.path, O_RDONLY, &o.file));
    LOCH_TRY_OUT(st, loch_file_size(o.file, &o.bytes));
    size_t len = (size_t)loch_min_u64(o.bytes, sizeof head);
    LOCH_TRY_OUT(st, loch_file_read(o.file, 0, head, len));
    LOCH_TRY_OUT(st,
                 loch_wal_reader_open(&place, &sealer->keys, loch_slice_of(head, len), &o.reader));
    *out = o;
    return LOCH_OK;
out:
    loch_file_close(o.file);
    struct sk_failure why;
    sk_failure_take(&why, st);
    return LOCH_FAIL(st.code, "%s: %s", o.path, why.text);
}

void sk_wal_opened_close(struct sk_wal_opened *opened)
{
    loch_wal_reader_destroy(opened->reader);
    loch_file_close(opened->file);
    *opened = (struct sk_wal_opened){0};
}

void sk_wal_wipe(struct loch_buf *wal)
{
    if (wal->data != NULL)
        loch_wipe(wal->data, wal->cap);
    loch_buf_fini(wal);
}

struct collect {
    loch_lsn next, upto;
    size_t max;
    struct loch_buf *out;
    size_t start_len;
    bool full; /* ended on purpose */
};

static loch_status collect(void *arg, const struct loch_wal_frame_ref *ref,
                           struct loch_slice stored, uint64_t term, loch_lsn boundary_lsn,
                           struct loch_slice wal)
{
    struct collect *c = arg;
    loch_lsn end = ref->lsn + wal.len;

    (void)stored;
    (void)term;
    (void)boundary_lsn;
    if (end > c->next && ref->lsn <= c->next) {
        size_t skip = (size_t)(c->next - ref->lsn);
        size_t take = (size_t)(loch_min_u64(end, c->upto) - c->next);
        LOCH_TRY(loch_buf_append(c->out, wal.data + skip, take));
        c->next += take;
    }
    if (c->next >= c->upto || c->out->len - c->start_len >= c->max) {
        c->full = true;
        return LOCH_FAIL(LOCH_E_LIMIT, "enough");
    }
    return LOCH_OK;
}

loch_status sk_wal_read(const char *dir, const struct sk_sealer *sealer,
                        const struct sk_wal_files *files, loch_lsn from, loch_lsn upto, size_t max,
                        struct loch_buf *out)
{
    struct sk_wal_opened opened;
    struct loch_wal_file_scan scan;
    size_t i = files->count;

    LOCH_ASSERT(from < upto);
    while (i > 0 && files->items[i - 1].begin > from)
        i--;
    if (i == 0)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "no WAL file in %s holds " LOCH_LSN_FMT, dir,
                         LOCH_LSN_ARG(from));
    if (i < files->count)
        upto = loch_min_u64(upto, files->items[i].begin);
    LOCH_TRY(sk_wal_open(dir, sealer, files->items[i - 1].seq, &opened));
    struct collect c = {.next = from, .upto = upto, .max = max, .out = out, .start_len = out->len};
    /* What lies behind may be given back meanwhile. */
    const uint64_t bytes = loch_min_u64(opened.bytes, files->items[i - 1].bytes);
    loch_status st = loch_wal_scan_file(opened.reader, bytes, sk_wal_read_at, opened.file, 0, &scan,
                                        collect, &c);
    if (c.full)
        st = LOCH_OK;
    else if (loch_is_ok(st))
        st = LOCH_FAIL(LOCH_E_CORRUPT,
                       "%s: offset %" PRIu64 ": WAL ends at " LOCH_LSN_FMT ", want " LOCH_LSN_FMT,
                       opened.path, scan.offset, LOCH_LSN_ARG(scan.end_lsn), LOCH_LSN_ARG(upto));
    sk_wal_opened_close(&opened);
    return st;
}

loch_status sk_wal_verify(const char *dir, const struct sk_sealer *sealer,
                          const struct sk_wal_files *files, size_t index)
{
    struct sk_wal_opened opened;
    struct loch_wal_file_scan scan;

    LOCH_ASSERT(index + 1 < files->count);
    loch_lsn end = files->items[index + 1].begin;
    LOCH_TRY(sk_wal_open(dir, sealer, files->items[index].seq, &opened));
    loch_status st = loch_wal_scan_file(opened.reader, opened.bytes, sk_wal_read_at, opened.file,
                                        end, &scan, NULL, NULL);
    if (loch_is_ok(st) && scan.end_lsn < end)
        st = LOCH_FAIL(LOCH_E_CORRUPT,
                       "%s: offset %" PRIu64 ": damaged frame; good WAL ends at " LOCH_LSN_FMT
                       ", durable was " LOCH_LSN_FMT,
                       opened.path, scan.offset, LOCH_LSN_ARG(scan.end_lsn), LOCH_LSN_ARG(end));
    sk_wal_opened_close(&opened);
    return st;
}

loch_status sk_wal_find_prev(const char *dir, const struct sk_sealer *sealer,
                             const struct sk_wal_files *files, uint32_t segment_bytes,
                             loch_lsn anchor, loch_lsn anchor_prev, loch_lsn at, loch_lsn *prev)
{
    struct loch_wal_scan scan;
    struct loch_buf wal = {0};
    loch_status st;

    LOCH_ASSERT(anchor <= at);
    if (anchor == at) {
        *prev = anchor_prev;
        return LOCH_OK;
    }
    LOCH_TRY(
        loch_wal_scan_init(&scan, LOCH_WAL_SCAN_BOUNDARIES, anchor, anchor_prev, segment_bytes));
    for (loch_lsn next = anchor; next < at; next += wal.len) {
        wal.len = 0;
        LOCH_TRY_OUT(st, sk_wal_read(dir, sealer, files, next, at, 4u << 20, &wal));
        LOCH_TRY_OUT(st, loch_wal_scan_feed(&scan, loch_buf_slice(&wal)));
    }
    if (scan.last_end == at)
        *prev = scan.last_start;
    else
        st = LOCH_FAIL(LOCH_E_CORRUPT,
                       "%s: " LOCH_LSN_FMT " is not the end of a record, " LOCH_LSN_FMT " is", dir,
                       LOCH_LSN_ARG(at), LOCH_LSN_ARG(scan.last_end));
out:
    loch_wal_scan_fini(&scan);
    sk_wal_wipe(&wal);
    return st;
}
