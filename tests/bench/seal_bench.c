/* How fast sealing and opening are: one JSON object a line.
 * Usage: seal_bench [--ms N]   (how long each measurement runs, default 200) */
#include "loch/base/check.h"
#include "loch/crypto/random.h"
#include "loch/crypto/tls.h"
#include "loch/format/layer_file.h"
#include "loch/format/sealed_object.h"
#include "loch/format/wal_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MUST(expr_)                                                                                \
    do {                                                                                           \
        const loch_status must_st_ = (expr_);                                                      \
        LOCH_ASSERT(loch_is_ok(must_st_));                                                         \
    } while (0)

static uint64_t budget_ns = 200000000;
static struct loch_wrap_key key;

static uint64_t now_ns(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static loch_status find(void *arg, const struct loch_place *expected, const struct loch_id *key_id,
                        uint32_t version, struct loch_secret *out)
{
    (void)arg;
    (void)expected;
    (void)key_id;
    (void)version;
    return loch_secret_copy(out, &key.secret);
}

static const struct loch_key_source source = {find, NULL};

/* Runs `step` until the budget is used and prints its mean cost. */
static void measure(const char *what, size_t bytes, void (*step)(void *arg), void *arg)
{
    uint64_t runs = 0;

    for (int i = 0; i < 8; i++)
        step(arg);
    const uint64_t start = now_ns();
    uint64_t used = 0;
    while (used < budget_ns) {
        for (int i = 0; i < 16; i++)
            step(arg);
        runs += 16;
        used = now_ns() - start;
    }
    const double ns = (double)used / (double)runs;
    printf("{\"what\":\"%s\",\"bytes\":%zu,\"cpu_ns\":%.0f,\"mb_per_s\":%.0f}\n", what, bytes, ns,
           (double)bytes * 1000.0 / ns);
}

struct wal_arg {
    struct loch_wal_writer *writer;
    struct loch_wal_reader *reader;
    struct loch_buf out;
    struct loch_wal_frame_ref ref;
    struct loch_buf plain;
    uint8_t *bytes;
    size_t len;
};

static void wal_seal(void *arg)
{
    struct wal_arg *a = arg;
    const loch_lsn lsn = loch_wal_writer_lsn(a->writer);

    a->out.len = 0;
    MUST(loch_wal_writer_seal(a->writer, lsn, 1, lsn, 0, loch_slice_of(a->bytes, a->len), &a->out,
                              &a->ref));
}

static void wal_open(void *arg)
{
    struct wal_arg *a = arg;

    a->plain.len = 0;
    MUST(loch_wal_reader_frame(a->reader, &a->ref, loch_buf_slice(&a->out), &a->plain));
}

static void bench_wal(size_t len, uint8_t *bytes)
{
    const struct loch_place place = {.kind = LOCH_KIND_WAL};
    const struct loch_wal_begin begin = {1000, 1000, 1, 1};
    struct wal_arg a = {.bytes = bytes, .len = len};

    MUST(loch_wal_writer_create(&place, &key, &begin, &a.out, &a.writer));
    MUST(loch_wal_reader_open(&place, &source, loch_buf_slice(&a.out), &a.reader));
    measure("wal seal", len, wal_seal, &a);
    measure("wal open", len, wal_open, &a);
    loch_wal_writer_destroy(a.writer);
    loch_wal_reader_destroy(a.reader);
    loch_buf_fini(&a.out);
    loch_buf_fini(&a.plain);
}

static void wal_session(void *arg)
{
    const struct loch_place place = {.kind = LOCH_KIND_WAL};
    const struct loch_wal_begin begin = {1000, 1000, 1, 1};
    struct loch_buf *out = arg;
    struct loch_wal_writer *writer = NULL;
    struct loch_wal_reader *reader = NULL;

    out->len = 0;
    MUST(loch_wal_writer_create(&place, &key, &begin, out, &writer));
    MUST(loch_wal_reader_open(&place, &source, loch_buf_slice(out), &reader));
    loch_wal_writer_destroy(writer);
    loch_wal_reader_destroy(reader);
}

struct layer_arg {
    struct loch_layer_writer *writer;
    struct loch_layer_reader *reader;
    struct loch_buf out, file, plain;
    struct loch_layer_ref ref, last;
    uint8_t *bytes;
    size_t len;
};

static void layer_seal(void *arg)
{
    struct layer_arg *a = arg;

    a->out.len = 0;
    MUST(loch_layer_writer_frame(a->writer, loch_slice_of(a->bytes, a->len), &a->out, &a->last));
}

static void layer_open(void *arg)
{
    struct layer_arg *a = arg;

    a->plain.len = 0;
    MUST(loch_layer_reader_frame(a->reader, &a->ref, &a->plain));
}

static loch_status read_at(void *arg, uint64_t offset, void *out, size_t len)
{
    const struct loch_buf *file = arg;

    memcpy(out, file->data + offset, len);
    return LOCH_OK;
}

static void bench_layer(const char *seal, const char *open, enum loch_layer_codec codec, size_t len,
                        uint8_t *bytes)
{
    const struct loch_place place = {.kind = LOCH_KIND_LAYER, .file_id = {{1}}};
    const struct loch_layer_options options = {codec, false};
    struct layer_arg a = {.bytes = bytes, .len = len};
    struct loch_layer_writer *writer = NULL;
    uint64_t n = 0;

    MUST(loch_layer_writer_create(&place, &key, &options, &a.file, &writer));
    MUST(loch_layer_writer_frame(writer, loch_slice_of(bytes, len), &a.file, &a.ref));
    MUST(loch_layer_writer_finish(writer, loch_slice_of("x", 1), &a.file, &n));
    loch_layer_writer_destroy(writer);
    MUST(loch_layer_reader_open(&place, &source, n, read_at, &a.file, &a.reader));
    MUST(loch_layer_writer_create(&place, &key, &options, &a.out, &a.writer));
    measure(seal, len, layer_seal, &a);
    measure(open, len, layer_open, &a);
    loch_layer_writer_destroy(a.writer);
    loch_layer_reader_destroy(a.reader);
    loch_buf_fini(&a.out);
    loch_buf_fini(&a.file);
    loch_buf_fini(&a.plain);
}

static void object_round(void *arg)
{
    const struct loch_place place = {.kind = LOCH_KIND_CONTROL};
    struct loch_buf *out = arg;
    struct loch_buf plain = {0};
    uint64_t generation;

    out->len = 0;
    MUST(loch_sealed_object_seal(&place, &key, loch_slice_of("control", 7), true, out));
    MUST(loch_sealed_object_open(&place, &source, loch_buf_slice(out), &plain, &generation));
    loch_buf_fini(&plain);
}

struct tls_arg {
    struct loch_tls_server *server;
    struct loch_tls_client *client;
    struct loch_tls *a, *b;
    struct loch_secret psk;
    struct loch_buf plain, to_a, to_b;
    uint8_t *bytes;
    size_t len;
};

static bool lookup(void *arg, struct loch_slice identity, struct loch_secret *psk)
{
    const struct tls_arg *t = arg;

    return identity.len == 2 && loch_is_ok(loch_secret_copy(psk, &t->psk));
}

static void tls_connect(void *arg)
{
    struct tls_arg *t = arg;
    bool closed = false;

    loch_tls_destroy(t->a);
    loch_tls_destroy(t->b);
    t->to_a.len = 0;
    t->to_b.len = 0;
    MUST(loch_tls_connect(t->client, &t->a));
    MUST(loch_tls_accept(t->server, &t->b));
    MUST(loch_tls_receive(t->a, loch_slice_of(NULL, 0), &t->plain, &t->to_b, &closed));
    for (int i = 0; i < 2; i++) {
        MUST(loch_tls_receive(t->b, loch_buf_slice(&t->to_b), &t->plain, &t->to_a, &closed));
        t->to_b.len = 0;
        MUST(loch_tls_receive(t->a, loch_buf_slice(&t->to_a), &t->plain, &t->to_b, &closed));
        t->to_a.len = 0;
    }
    LOCH_ASSERT(loch_tls_ready(t->a));
    LOCH_ASSERT(loch_tls_ready(t->b));
}

static void tls_send(void *arg)
{
    struct tls_arg *t = arg;
    bool closed = false;

    t->plain.len = 0;
    MUST(loch_tls_send(t->a, loch_slice_of(t->bytes, t->len), &t->to_b));
    MUST(loch_tls_receive(t->b, loch_buf_slice(&t->to_b), &t->plain, &t->to_a, &closed));
    t->to_b.len = 0;
    LOCH_ASSERT(t->plain.len == t->len);
}

static void bench_tls(uint8_t *bytes)
{
    struct tls_arg t = {.bytes = bytes};

    MUST(loch_random_secret(&t.psk, LOCH_PSK_BYTES));
    MUST(loch_tls_server_create(lookup, &t, &t.server));
    MUST(loch_tls_client_create(loch_slice_of("id", 2), &t.psk, &t.client));
    measure("tls handshake, both ends", 0, tls_connect, &t);
    t.len = 200;
    measure("tls send and receive", t.len, tls_send, &t);
    t.len = 8192;
    measure("tls send and receive", t.len, tls_send, &t);
    t.len = 128u << 10;
    measure("tls send and receive", t.len, tls_send, &t);
    loch_tls_destroy(t.a);
    loch_tls_destroy(t.b);
    loch_tls_client_destroy(t.client);
    loch_tls_server_destroy(t.server);
    loch_secret_fini(&t.psk);
    loch_buf_fini(&t.plain);
    loch_buf_fini(&t.to_a);
    loch_buf_fini(&t.to_b);
}

int main(int argc, char **argv)
{
    struct loch_buf out = {0};
    uint8_t *bytes = malloc(128u << 10);

    if (argc == 3 && strcmp(argv[1], "--ms") == 0)
        budget_ns = strtoull(argv[2], NULL, 10) * 1000000u;
    LOCH_ASSERT(bytes != NULL);
    for (size_t i = 0; i < (128u << 10); i++) /* half of it compresses */
        bytes[i] = i % 64 < 32 ? (uint8_t)(i * 2654435761u >> 13) : 0;
    key.version = 1;
    MUST(loch_random_secret(&key.secret, 32));
    bench_wal(200, bytes);
    bench_wal(8192, bytes);
    bench_wal(128u << 10, bytes);
    measure("wal session: create and open", 0, wal_session, &out);
    bench_layer("layer frame seal", "layer frame open", LOCH_LAYER_STORED, 8192, bytes);
    for (size_t len = 8192; len <= 32768; len *= 4) {
        bench_layer("layer frame seal, lz4", "layer frame open, lz4", LOCH_LAYER_LZ4, len, bytes);
        bench_layer("layer frame seal, zstd", "layer frame open, zstd", LOCH_LAYER_ZSTD, len,
                    bytes);
    }
    measure("object seal and open", 512, object_round, &out);
    bench_tls(bytes);
    loch_buf_fini(&out);
    loch_secret_fini(&key.secret);
    free(bytes);
    return 0;
}
