/* Holds: the contents of sealed files, as text. Nothing is printed of a part before it is proven,
 * and never a byte of a user's data: only names, sizes and positions. */
#include "dump.h"

#include "loch/base/check.h"
#include "loch/format/layer_file.h"
#include "loch/format/sealed_object.h"
#include "loch/format/wal_archive.h"
#include "loch/format/wal_file.h"
#include "loch/keyring/keyring.h"
#include "loch/pg/key.h"
#include "loch/wire/wal.h"
#include "store/manifest.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define RUN_BYTES 40u /* key, u64 lsn, u32 frame, u32 offset, u16, u32: docs/format/versions.md */

loch_status dump_read_at(void *arg, uint64_t offset, void *out, size_t len)
{
    const struct dump_file *file = arg;
    uint8_t *at = out;

    while (len > 0) {
        const ssize_t n = pread(file->fd, at, len, (off_t)(file->skip + offset));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return LOCH_FAIL(LOCH_E_IO, "%s: %s", file->path, strerror(errno));
        if (n == 0)
            return LOCH_FAIL(LOCH_E_CORRUPT, "%s is shorter than it should be", file->path);
        at += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return LOCH_OK;
}

static void print_key(FILE *to, const char *what, const uint8_t *bytes)
{
    struct loch_key key;

    if (!loch_is_ok(loch_key_decode(bytes, &key))) {
        (void)fprintf(to, "%s: not a page key\n", what);
        return;
    }
    (void)fprintf(to,
                  "%s: kind %u, %" PRIu32 "/%" PRIu32 "/%" PRIu32 " fork %u block %" PRIu32 "\n",
                  what, key.kind, key.spc, key.db, key.rel, key.fork, key.block);
}

/* Opens every frame that the index names. */
static loch_status check_frames(struct loch_layer_reader *reader, struct loch_reader *r,
                                uint32_t frames, uint64_t *raw_bytes)
{
    struct loch_buf raw = {0};
    loch_status st = LOCH_OK;

    for (uint32_t i = 0; i < frames; i++) {
        uint8_t encoded[LOCH_LAYER_REF_BYTES];
        loch_read_into(r, encoded, sizeof encoded);
        const struct loch_layer_ref ref = loch_layer_ref_decode(encoded);
        raw.len = 0;
        LOCH_TRY_OUT(st, loch_layer_reader_frame(reader, &ref, &raw));
        *raw_bytes += raw.len;
    }
out:
    loch_buf_fini(&raw);
    return st;
}

loch_status dump_layer(struct dump_file *file, const struct loch_place *place,
                       const struct loch_key_source *keys, FILE *to)
{
    struct loch_layer_reader *reader = NULL;
    struct loch_reader r;
    uint64_t raw_bytes = 0;
    loch_status st;

    LOCH_TRY(loch_layer_reader_open(place, keys, file->bytes, dump_read_at, file, &reader));
    const struct loch_slice index = loch_layer_reader_index(reader);
    (void)fprintf(to, "frames: %" PRIu32 "\nindex bytes: %zu\n", loch_layer_reader_frames(reader),
                  index.len);
    loch_reader_init(&r, index);
    const uint32_t format = loch_read_u32(&r);
    const uint32_t frames = loch_read_u32(&r);
    if (format != 2) {
        st = LOCH_FAIL(LOCH_E_UNSUPPORTED, "the layer's index has format %" PRIu32, format);
        goto out;
    }
    LOCH_TRY_OUT(st, check_frames(reader, &r, frames, &raw_bytes));
    const uint32_t runs = loch_read_u32(&r);
    const struct loch_slice rest = loch_read_bytes(&r, (size_t)runs * RUN_BYTES);
    LOCH_TRY_OUT(st, loch_reader_finish(&r, "the layer's index"));
    (void)fprintf(to, "raw bytes: %" PRIu64 "\nruns: %" PRIu32 "\n", raw_bytes, runs);
    if (runs > 0) {
        print_key(to, "first key", rest.data);
        print_key(to, "last key", rest.data + (size_t)(runs - 1) * RUN_BYTES);
    }
out:
    loch_layer_reader_destroy(reader);
    return st;
}

struct wal_print {
    FILE *to;
    bool frames;
};

static loch_status print_frame(void *arg, const struct loch_wal_frame_ref *ref,
                               struct loch_slice stored, uint64_t term, loch_lsn boundary_lsn,
                               struct loch_slice wal)
{
    const struct wal_print *p = arg;

    (void)stored;
    (void)wal;
    if (p->frames)
        (void)fprintf(p->to,
                      "frame %" PRIu64 ": offset %" PRIu64 ", lsn " LOCH_LSN_FMT ", %" PRIu32
                      " bytes, term %" PRIu64 ", boundary " LOCH_LSN_FMT "\n",
                      ref->seq, ref->offset, LOCH_LSN_ARG(ref->lsn), ref->len, term,
                      LOCH_LSN_ARG(boundary_lsn));
    return LOCH_OK;
}

loch_status dump_wal(struct dump_file *file, const struct loch_place *place,
                     const struct loch_key_source *keys, bool frames, FILE *to)
{
    uint8_t head[LOCH_WAL_HEAD_BYTES];
    struct loch_wal_reader *reader = NULL;
    struct loch_wal_file_scan scan;
    struct wal_print print = {to, frames};
    loch_status st;

    LOCH_TRY(dump_read_at(file, 0, head, sizeof head));
    LOCH_TRY(loch_wal_reader_open(place, keys, loch_slice_of(head, sizeof head), &reader));
    const struct loch_wal_begin *b = loch_wal_reader_begin(reader);
    (void)fprintf(to,
                  "start: " LOCH_LSN_FMT "\nstart boundary: " LOCH_LSN_FMT "\nstart term: %" PRIu64
                  "\nincarnation: %" PRIu64 "\n",
                  LOCH_LSN_ARG(b->start_lsn), LOCH_LSN_ARG(b->boundary_lsn), b->term,
                  b->incarnation);
    LOCH_TRY_OUT(st, loch_wal_scan_file(reader, file->bytes, dump_read_at, file, LOCH_LSN_NONE,
                                        &scan, print_frame, &print));
    const char *verdict = scan.verdict == LOCH_WAL_CLEAN  ? "clean"
                          : scan.verdict == LOCH_WAL_TORN ? "torn tail or recycled"
                                                          : "corrupt";
    (void)fprintf(to,
                  "frames: %" PRIu64 "\nend: " LOCH_LSN_FMT " at offset %" PRIu64
                  "\nboundary: " LOCH_LSN_FMT "\nterm: %" PRIu64 "\nverdict: %s\n",
                  scan.frames, LOCH_LSN_ARG(scan.end_lsn), scan.offset,
                  LOCH_LSN_ARG(scan.boundary_lsn), scan.term, verdict);
    if (scan.verdict == LOCH_WAL_CORRUPT)
        st = LOCH_FAIL(LOCH_E_CORRUPT, "%s is damaged after offset %" PRIu64, file->path,
                       scan.offset);
out:
    loch_wal_reader_destroy(reader);
    return st;
}

static void print_layer_desc(FILE *to, const struct loch_layer_desc *d)
{
    char id[LOCH_ID_TEXT_BYTES];

    (void)fprintf(
        to, "layer: %s-%" PRIu64 ", %" PRIu64 " bytes, lsn " LOCH_LSN_FMT " to " LOCH_LSN_FMT "\n",
        loch_id_format(&d->file_id, id), d->generation, d->file_bytes,
        LOCH_LSN_ARG(d->span.start_lsn), LOCH_LSN_ARG(d->span.end_lsn));
}

static loch_status print_manifest(struct loch_slice plain, FILE *to)
{
    struct loch_manifest m = {0};
    const loch_status st = loch_manifest_decode(plain, &m);

    if (loch_is_ok(st)) {
        (void)fprintf(to,
                      "disk_consistent_lsn: " LOCH_LSN_FMT "\nprev_lsn: " LOCH_LSN_FMT
                      "\nlayers: %" PRIu32 "\n",
                      LOCH_LSN_ARG(m.disk_consistent_lsn), LOCH_LSN_ARG(m.prev_lsn), m.layer_count);
        for (uint32_t i = 0; i < m.layer_count; i++)
            print_layer_desc(to, &m.layers[i]);
    }
    loch_manifest_fini(&m);
    return st;
}

static loch_status print_tenant_manifest(struct loch_slice plain, FILE *to)
{
    struct loch_tenant_manifest m = {0};
    char id[LOCH_ID_TEXT_BYTES];
    const loch_status st = loch_tenant_manifest_decode(plain, &m);

    if (loch_is_ok(st))
        (void)fprintf(to, "name: %s%s\ntimelines: %" PRIu32 "\n", m.name,
                      m.dropping ? " (being dropped)" : "", m.count);
    for (uint32_t i = 0; loch_is_ok(st) && i < m.count; i++) {
        const struct loch_tenant_timeline *t = &m.timelines[i];
        (void)fprintf(to, "timeline: %s %s", loch_id_format(&t->timeline, id), t->name);
        if (!loch_id_is_none(&t->ancestor))
            (void)fprintf(to, ", from %s at " LOCH_LSN_FMT, loch_id_format(&t->ancestor, id),
                          LOCH_LSN_ARG(t->ancestor_lsn));
        (void)fprintf(to, "\n");
    }
    loch_tenant_manifest_fini(&m);
    return st;
}

/* Layout: safekeeper/control.h. */
static loch_status print_control(struct loch_slice plain, FILE *to)
{
    struct loch_reader r;

    loch_reader_init(&r, plain);
    const uint32_t version = loch_read_u32(&r);
    if (version == 0 || version > 3)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED, "the control file has version %" PRIu32, version);
    const uint32_t pg_version = loch_read_u32(&r);
    (void)loch_read_u64(&r); /* segment size, zero */
    const uint64_t system_id = loch_read_u64(&r);
    const uint64_t incarnation = loch_read_u64(&r);
    const uint64_t term = loch_read_u64(&r);
    const uint64_t epoch = loch_read_u64(&r);
    const uint64_t generation = loch_read_u64(&r);
    const loch_lsn start = loch_read_u64(&r);
    (void)loch_read_u64(&r);
    const loch_lsn commit = loch_read_u64(&r);
    if (r.bad)
        return LOCH_FAIL(LOCH_E_CORRUPT, "the control file ends too early");
    (void)fprintf(to,
                  "postgresql: %" PRIu32 ", system %" PRIu64 "\nincarnation: %" PRIu64
                  "\nterm: %" PRIu64 "\nleast compute epoch: %" PRIu64
                  "\nmembership: generation %" PRIu64 "\nstart_lsn: " LOCH_LSN_FMT
                  "\ncommit_lsn: " LOCH_LSN_FMT "\n",
                  pg_version, system_id, incarnation, term, epoch, generation, LOCH_LSN_ARG(start),
                  LOCH_LSN_ARG(commit));
    return LOCH_OK;
}

/* Layout: docs/format/members.md. */
static loch_status print_members(struct loch_slice plain, FILE *to)
{
    static const char *const sets[] = {"", "old", "new", "both"};
    struct loch_membership m;
    struct loch_reader r;

    loch_reader_init(&r, plain);
    const uint32_t version = loch_read_u32(&r);
    if (version != 1)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED, "the membership has version %" PRIu32, version);
    LOCH_TRY(loch_read_membership(&r, &m));
    loch_status st = loch_reader_finish(&r, "membership");
    for (uint32_t i = 0; i < m.count && loch_is_ok(st); i++) {
        char id[LOCH_ID_TEXT_BYTES];
        char node[LOCH_ID_TEXT_BYTES];
        (void)fprintf(to, "member: %s on %s at %s, set %s\n", loch_id_format(&m.members[i].id, id),
                      loch_id_format(&m.members[i].node, node), m.members[i].address,
                      sets[m.members[i].in & LOCH_MEMBER_BOTH]);
    }
    loch_membership_fini(&m);
    return st;
}

loch_status dump_archive(struct dump_file *file, const struct loch_place *place,
                         const struct loch_key_source *keys, FILE *to)
{
    struct loch_wal_piece piece = {0};
    struct loch_buf sealed = {0};
    struct loch_buf wal = {0};
    loch_status st;

    if (file->bytes > LOCH_SEALED_OBJECT_MAX_BYTES + 1024u)
        return LOCH_FAIL(LOCH_E_CORRUPT, "%s is too large for archived WAL", file->path);
    LOCH_TRY_OUT(st, loch_buf_reserve(&sealed, (size_t)file->bytes + 1));
    LOCH_TRY_OUT(st, dump_read_at(file, 0, sealed.data, (size_t)file->bytes));
    sealed.len = (size_t)file->bytes;
    LOCH_TRY_OUT(st, loch_wal_archive_open(place, keys, loch_buf_slice(&sealed), &piece, &wal));
    (void)fprintf(to,
                  "postgresql: %" PRIu32 ", system %" PRIu64 "\nsegment bytes: %" PRIu32
                  "\nwal: " LOCH_LSN_FMT " to " LOCH_LSN_FMT ", %zu bytes\n",
                  piece.pg_version, piece.system_id, piece.segment_bytes, LOCH_LSN_ARG(piece.begin),
                  LOCH_LSN_ARG(piece.end), wal.len);
out:
    loch_buf_fini(&sealed);
    loch_buf_fini(&wal);
    return st;
}

loch_status dump_object(struct dump_file *file, const struct loch_place *place,
                        const struct loch_key_source *keys, FILE *to)
{
    struct loch_buf sealed = {0};
    struct loch_buf plain = {0};
    uint64_t generation = 0;
    loch_status st;

    if (file->bytes > LOCH_SEALED_OBJECT_MAX_BYTES + 1024u)
        return LOCH_FAIL(LOCH_E_CORRUPT, "%s is too large for a sealed object", file->path);
    LOCH_TRY_OUT(st, loch_buf_reserve(&sealed, (size_t)file->bytes + 1));
    LOCH_TRY_OUT(st, dump_read_at(file, 0, sealed.data, (size_t)file->bytes));
    sealed.len = (size_t)file->bytes;
    LOCH_TRY_OUT(
        st, loch_sealed_object_open(place, keys, loch_buf_slice(&sealed), &plain, &generation));
    (void)fprintf(to, "proven generation: %" PRIu64 "\ncontent bytes: %zu\n", generation,
                  plain.len);
    if (place->kind == LOCH_KIND_TIMELINE_MANIFEST)
        st = print_manifest(loch_buf_slice(&plain), to);
    if (place->kind == LOCH_KIND_TENANT_MANIFEST)
        st = print_tenant_manifest(loch_buf_slice(&plain), to);
    if (place->kind == LOCH_KIND_MEMBERS)
        st = print_members(loch_buf_slice(&plain), to);
    if (place->kind == LOCH_KIND_CONTROL)
        st = print_control(loch_buf_slice(&plain), to);
out:
    loch_buf_fini(&sealed);
    loch_buf_fini(&plain);
    return st;
}

static void print_entry(const struct loch_keyring_entry *e, FILE *to)
{
    char id[LOCH_ID_TEXT_BYTES];
    char scope[LOCH_ID_TEXT_BYTES];

    (void)fprintf(to, "key: %s version %" PRIu32 ", %s %s, %s, scope %s, wrap of %zu bytes\n",
                  loch_id_format(&e->key_id, id), e->version, loch_purpose_name(e->purpose),
                  e->level == LOCH_LEVEL_KEK ? "KEK" : "TK", loch_key_state_name(e->state),
                  loch_id_is_none(&e->scope) ? "tenant" : loch_id_format(&e->scope, scope),
                  e->wrap.len);
}

loch_status dump_keyring(struct loch_slice bytes, struct loch_id *tenant, FILE *to)
{
    struct loch_keyring ring = {0};
    struct loch_slice body;
    struct loch_slice mac;
    char id[LOCH_ID_TEXT_BYTES];

    LOCH_TRY(loch_keyring_decode(bytes, &ring, &body, &mac));
    (void)fprintf(to, "kind: keyring\ncluster: %s\n", loch_id_format(&ring.cluster, id));
    (void)fprintf(to, "tenant: %s\ngeneration: %" PRIu64 "\ntombstone: %s\nkeys: %" PRIu32 "\n",
                  loch_id_format(&ring.tenant, id), ring.generation, ring.tombstone ? "yes" : "no",
                  ring.count);
    for (uint32_t i = 0; i < ring.count; i++)
        print_entry(&ring.entries[i], to);
    *tenant = ring.tenant;
    loch_keyring_fini(&ring);
    return LOCH_OK;
}
