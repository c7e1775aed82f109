/* loch-dump: what stands in a stored file, and whether it is whole. Holds: options, the header, the
 * keys.
 *
 * Without --store and --kms only what is readable without keys is printed, and labelled as
 * unproven. Exit status: 0 whole (or nothing to prove it with), 1 damaged or not openable, 2 wrong
 * use.
 */
#include "dump.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/crypto/memory.h"
#include "loch/host/keys.h"
#include "loch/kms/kms.h"
#include "loch/objstore/objstore.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char usage[] =
    "Usage: loch-dump FILE [--store DIR --kms URI] [--frames]\n"
    "\n"
    "Says what a stored file of Loch is: layer, WAL file, archived WAL, control file, manifest or\n"
    "keyring.\n"
    "  --store DIR   the object store's directory, which holds the tenants' keyrings\n"
    "  --kms URI     the CMK, such as file:/etc/loch/cmk.key; with it the file is proven and its\n"
    "                contents are summarised\n"
    "  --frames      list the frames of a WAL file\n"
    "  --help        this text\n";

struct options {
    const char *path;
    const char *store;
    const char *kms;
    bool frames;
};

/* The daemon-side objects that give access to keys. */
struct access {
    struct loch_env *env;
    struct loch_objstore *store;
    struct loch_kms *kms;
    struct loch_keys *keys;
};

static void access_fini(struct access *a)
{
    loch_keys_destroy(a->keys);
    loch_kms_close(a->kms);
    loch_objstore_close(a->store);
    if (a->env != NULL)
        loch_env_real_destroy(a->env);
}

/* The cluster's id stands in the keyring; a false one does not unwrap at the KMS. */
static loch_status cluster_of(struct loch_objstore *store, const struct loch_id *tenant,
                              struct loch_id *cluster)
{
    char name[80];
    char id[LOCH_ID_TEXT_BYTES];
    struct loch_buf bytes = {0};
    struct loch_keyring ring = {0};
    struct loch_slice body;
    struct loch_slice mac;
    loch_status st;

    (void)snprintf(name, sizeof name, "tenants/%s/keyring", loch_id_format(tenant, id));
    LOCH_TRY_OUT(st, loch_objstore_get(store, name, 96u << 20, &bytes, NULL));
    LOCH_TRY_OUT(st, loch_keyring_decode(loch_buf_slice(&bytes), &ring, &body, &mac));
    *cluster = ring.cluster;
out:
    loch_keyring_fini(&ring);
    loch_buf_fini(&bytes);
    return st;
}

static loch_status access_open(const struct options *o, const struct loch_id *tenant,
                               struct access *a)
{
    struct loch_keys_options ko = {.role = LOCH_ROLE_TOOL};
    struct stat sb;

    if (stat(o->store, &sb) != 0 || !S_ISDIR(sb.st_mode))
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "%s is not a store's directory", o->store);
    LOCH_TRY(loch_env_real_create(&a->env));
    LOCH_TRY(loch_objstore_open_local(a->env, o->store, &a->store));
    LOCH_TRY(loch_kms_open(o->kms, NULL, &a->kms));
    LOCH_TRY(cluster_of(a->store, tenant, &ko.cluster));
    ko.store = a->store;
    ko.kms = a->kms;
    LOCH_TRY(loch_keys_create(&ko, &a->keys));
    return loch_keys_tenant_load(a->keys, tenant);
}

/* A file lies below directories named after its tenant and timeline; elsewhere it is a stray copy.
 */
static void warn_of_path(const char *path, const struct loch_id *id, const char *what)
{
    char text[LOCH_ID_TEXT_BYTES];
    char real[PATH_MAX];

    if (loch_id_is_none(id) || realpath(path, real) == NULL)
        return;
    if (strstr(real, loch_id_format(id, text)) == NULL)
        printf("note: the path does not name this %s\n", what);
}

static const char *codec_name(uint8_t codec)
{
    static const char *const names[] = {"none", "zstd", "lz4"};

    return codec < sizeof names / sizeof names[0] ? names[codec] : "unknown";
}

static void print_header(const struct loch_file_peek *f, const char *path)
{
    char id[LOCH_ID_TEXT_BYTES];

    printf("kind: %s\nformat: %u (readers from %u)\n", loch_kind_name(f->place.kind), f->format,
           f->min_reader);
    printf("tenant: %s\n", loch_id_format(&f->place.tenant, id));
    if (!loch_id_is_none(&f->place.timeline))
        printf("timeline: %s\n", loch_id_format(&f->place.timeline, id));
    if (!loch_id_is_none(&f->place.file_id))
        printf("file id: %s\n", loch_id_format(&f->place.file_id, id));
    if (!loch_id_is_none(&f->place.node))
        printf("node: %s\n", loch_id_format(&f->place.node, id));
    printf("%s: %" PRIu64 "\n", f->place.kind == LOCH_KIND_WAL ? "sequence number" : "generation",
           f->place.generation);
    printf("session: %s\n", loch_id_format(&f->session, id));
    printf("cipher: aead %u, kdf %u, wrap %u, codec %s%s\n", f->aead, f->kdf, f->wrap,
           codec_name(f->codec), (f->flags & 1) != 0 ? ", padded" : "");
    printf("key: %s version %" PRIu32 "\n", loch_id_format(&f->key_id, id), f->key_version);
    warn_of_path(path, &f->place.tenant, "tenant");
    warn_of_path(path, &f->place.timeline, "timeline");
}

static loch_status dump_content(struct dump_file *file, const struct loch_place *place,
                                const struct options *o)
{
    struct access a = {0};
    loch_status st = access_open(o, &place->tenant, &a);

    if (loch_is_ok(st)) {
        const struct loch_key_source keys = loch_keys_source(a.keys);
        if (place->kind == LOCH_KIND_LAYER)
            st = dump_layer(file, place, &keys, stdout);
        else if (place->kind == LOCH_KIND_WAL)
            st = dump_wal(file, place, &keys, o->frames, stdout);
        else if (place->kind == LOCH_KIND_WAL_ARCHIVE)
            st = dump_archive(file, place, &keys, stdout);
        else
            st = dump_object(file, place, &keys, stdout);
    }
    access_fini(&a);
    if (loch_is_ok(st))
        printf("proven: the file is whole and belongs where its header says\n");
    return st;
}

/* The keyring itself: printed, then compared with the one in the store, which is proven. */
static loch_status dump_ring(struct dump_file *file, const struct options *o)
{
    struct loch_buf bytes = {0};
    struct loch_id tenant;
    struct access a = {0};
    loch_status st;

    if (file->bytes > (96u << 20))
        return LOCH_FAIL(LOCH_E_CORRUPT, "%s is too large for a keyring", file->path);
    LOCH_TRY_OUT(st, loch_buf_reserve(&bytes, (size_t)file->bytes));
    LOCH_TRY_OUT(st, dump_read_at(file, 0, bytes.data, (size_t)file->bytes));
    bytes.len = (size_t)file->bytes;
    LOCH_TRY_OUT(st, dump_keyring(loch_buf_slice(&bytes), &tenant, stdout));
    if (o->store == NULL)
        goto out;
    LOCH_TRY_OUT(st, access_open(o, &tenant, &a));
    printf("proven: the store's keyring of this tenant, generation %" PRIu64 "\n",
           loch_keys_generation(a.keys, &tenant));
out:
    access_fini(&a);
    loch_buf_fini(&bytes);
    return st;
}

/* An object of the local store stands behind the store's own head (objstore/local.c). */
#define STORE_HEAD_BYTES 48u

static loch_status skip_store_head(struct dump_file *file)
{
    char magic[8];

    if (file->bytes < STORE_HEAD_BYTES)
        return LOCH_OK;
    LOCH_TRY(dump_read_at(file, 0, magic, sizeof magic));
    if (memcmp(magic, "LOCHOBJ1", sizeof magic) == 0) {
        file->skip = STORE_HEAD_BYTES;
        file->bytes -= STORE_HEAD_BYTES;
    }
    return LOCH_OK;
}

static loch_status dump(const struct options *o)
{
    struct dump_file file = {.path = o->path};
    struct stat sb;
    uint8_t head[LOCH_FILE_HEADER_BYTES];
    uint8_t epoch[8];
    struct loch_file_peek peek;
    loch_status st;

    file.fd = open(o->path, O_RDONLY | O_CLOEXEC);
    if (file.fd < 0)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "%s: %s", o->path, strerror(errno));
    if (fstat(file.fd, &sb) != 0 || !S_ISREG(sb.st_mode)) {
        st = LOCH_FAIL(LOCH_E_INVALID, "%s is not a file", o->path);
        goto out;
    }
    file.bytes = (uint64_t)sb.st_size;
    LOCH_TRY_OUT(st, skip_store_head(&file));
    printf("file: %s\nbytes: %" PRIu64 "\n", o->path, file.bytes);
    if (file.skip > 0 && file.bytes == sizeof epoch) {
        LOCH_TRY_OUT(st, dump_read_at(&file, 0, epoch, sizeof epoch));
        printf("kind: compute epoch (a counter, not sealed)\nepoch: %" PRIu64 "\n",
               loch_get_u64(epoch));
        goto out;
    }
    if (file.bytes < sizeof head) {
        st = LOCH_FAIL(LOCH_E_CORRUPT, "%s is too short for a file of Loch", o->path);
        goto out;
    }
    LOCH_TRY_OUT(st, dump_read_at(&file, 0, head, sizeof head));
    if (memcmp(head, "LOCHRING", 8) == 0) {
        st = dump_ring(&file, o);
        goto out;
    }
    LOCH_TRY_OUT(st, loch_file_peek(loch_slice_of(head, sizeof head), &peek));
    print_header(&peek, o->path);
    if (o->store == NULL)
        printf("proven: nothing (--store and --kms would)\n");
    else
        st = dump_content(&file, &peek.place, o);
out:
    (void)close(file.fd);
    return st;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {{"store", required_argument, NULL, 's'},
                                          {"kms", required_argument, NULL, 'k'},
                                          {"frames", no_argument, NULL, 'f'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    struct options o = {0};
    int c;

    loch_log_init("loch-dump", LOCH_LOG_WARN);
    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (c == 's')
            o.store = optarg;
        else if (c == 'k')
            o.kms = optarg;
        else if (c == 'f')
            o.frames = true;
        else {
            (void)fputs(usage, c == 'h' ? stdout : stderr);
            return c == 'h' ? 0 : 2;
        }
    }
    if (optind + 1 != argc || (o.store == NULL) != (o.kms == NULL)) {
        (void)fputs(usage, stderr);
        return 2;
    }
    o.path = argv[optind];
    loch_status st = loch_process_harden();
    if (loch_is_ok(st))
        st = loch_crypto_memory_init();
    if (loch_is_ok(st))
        st = dump(&o);
    if (fflush(stdout) != 0)
        return 1;
    if (!loch_is_ok(st)) {
        (void)fprintf(stderr, "loch-dump: %s: %s\n", loch_code_name(st.code), loch_error_text());
        return 1;
    }
    return 0;
}
