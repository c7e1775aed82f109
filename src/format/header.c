/* Holds: the file header, 272 bytes, little-endian.
 *
 *  off len
 *    0   8  magic "LOCHSEAL"
 *    8   2  format, 1              10   2  min_reader, 1
 *   12   1  aead, 1 AES-256-GCM    13   1  kdf, 1 HKDF-SHA256
 *   14   1  wrap, 1 AES-KW under HKDF(TK, salt, place)
 *   15   1  codec (header.h)       16   1  kind (place.h)    17   1  flags: 1 padded
 *   18   2  zero                   20   4  block size: most raw bytes in one message
 *   24   8  generation, or a WAL file's sequence number
 *   32  16  tenant                 48  16  timeline          64  16  file id
 *   80  16  node                   96  16  session          112  32  salt
 *  144  32  commitment to the DEK
 *  176  32  MAC over bytes 0..176
 *  208  16  envelope: key id      224   4  key version      228   2  wrap length, 40
 *  230   2  zero                  232  40  wrapped DEK
 *  272      end
 *
 * Keys: HKDF-SHA256(DEK, salt, "loch file keys v1") = data key (32) | MAC key (32).
 * Every message of the file authenticates SHA-256 of bytes 0..208. The envelope stands outside, so
 * that it can be replaced; the wrap is bound to kind, tenant, timeline, file id and salt. Twin:
 * docs/format/header.md.
 */
#include "header.h"
#include "loch/crypto/aead.h"
#include "loch/base/check.h"
#include "loch/crypto/random.h"

#include <string.h>

#define MAGIC         "LOCHSEAL"
#define FORMAT        1u
#define AT_SALT       112u
#define AT_COMMITMENT 144u
#define AT_MAC        176u
#define AT_ENVELOPE   208u
#define AT_WRAP       232u
#define PLACE_BYTES   49u
#define FLAGS_KNOWN   ((uint8_t)FLAG_PADDED)

static const char keys_label[] = "loch file keys v1";

const char *loch_kind_name(uint8_t kind)
{
    switch (kind) {
    case LOCH_KIND_LAYER:
        return "layer";
    case LOCH_KIND_WAL:
        return "wal";
    case LOCH_KIND_CONTROL:
        return "control";
    case LOCH_KIND_TIMELINE_MANIFEST:
        return "timeline manifest";
    case LOCH_KIND_TENANT_MANIFEST:
        return "tenant manifest";
    case LOCH_KIND_WAL_ARCHIVE:
        return "archived wal";
    case LOCH_KIND_MEMBERS:
        return "membership";
    }
    return "unknown";
}

void header_opened_fini(struct header_opened *h)
{
    loch_secret_fini(&h->data_key);
}

static void place_encode(const struct loch_place *place, uint8_t out[static PLACE_BYTES])
{
    out[0] = place->kind;
    memcpy(out + 1, place->tenant.bytes, 16);
    memcpy(out + 17, place->timeline.bytes, 16);
    memcpy(out + 33, place->file_id.bytes, 16);
}

/* Bytes 0..144: all that is known before the DEK. */
static void identity_encode(const struct loch_place *place, const struct header_spec *spec,
                            const struct loch_id *session, const uint8_t *salt, uint8_t *p)
{
    memset(p, 0, AT_COMMITMENT);
    memcpy(p, MAGIC, 8);
    loch_put_u16(p + 8, FORMAT);
    loch_put_u16(p + 10, FORMAT);
    p[12] = LOCH_AEAD_ID;
    p[13] = 1;
    p[14] = 1;
    p[15] = spec->codec;
    p[16] = place->kind;
    p[17] = spec->flags;
    loch_put_u32(p + 20, spec->block_bytes);
    loch_put_u64(p + 24, place->generation);
    memcpy(p + 32, place->tenant.bytes, 16);
    memcpy(p + 48, place->timeline.bytes, 16);
    memcpy(p + 64, place->file_id.bytes, 16);
    memcpy(p + 80, place->node.bytes, 16);
    memcpy(p + 96, session->bytes, 16);
    memcpy(p + AT_SALT, salt, LOCH_SALT_BYTES);
}

/* From the DEK and bytes 0..176: the data key, and the MAC that belongs at 176. */
static loch_status keys_derive(const struct loch_secret *dek, const uint8_t *p,
                               struct loch_secret *data_key, uint8_t mac[static LOCH_SHA256_BYTES])
{
    struct loch_secret both = {0};
    struct loch_secret mac_key = {0};
    struct loch_secret data = {0};
    loch_status st;

    LOCH_TRY(loch_hkdf(LOCH_HASH_SHA256, dek, loch_slice_of(p + AT_SALT, LOCH_SALT_BYTES),
                       loch_slice_of(keys_label, sizeof keys_label), 64, &both));
    LOCH_TRY_OUT(st, loch_secret_from(&mac_key, both.bytes + 32, 32));
    LOCH_TRY_OUT(st, loch_hmac_sha256(&mac_key, loch_slice_of(p, AT_MAC), mac));
    LOCH_TRY_OUT(st, loch_secret_from(&data, both.bytes, 32));
    *data_key = data;
out:
    loch_secret_fini(&mac_key);
    loch_secret_fini(&both);
    return st;
}

loch_status header_seal(const struct loch_place *place, const struct header_spec *spec,
                        const struct loch_wrap_key *key, struct loch_buf *out,
                        struct header_opened *opened)
{
    uint8_t p[LOCH_FILE_HEADER_BYTES] = {0};
    uint8_t place_bytes[PLACE_BYTES];
    uint8_t salt[LOCH_SALT_BYTES];
    struct loch_id session;
    struct loch_secret dek = {0};
    struct header_opened h = {.spec = *spec, .generation = place->generation};
    const struct loch_slice salt_slice = loch_slice_of(salt, sizeof salt);
    loch_status st;

    LOCH_ASSERT(place->kind >= LOCH_KIND_LAYER && place->kind <= LOCH_KIND_MEMBERS);
    LOCH_ASSERT((spec->flags & ~FLAGS_KNOWN) == 0);
    LOCH_TRY(loch_random_bytes(salt, sizeof salt));
    LOCH_TRY(loch_random_id(&session));
    LOCH_TRY(loch_random_secret(&dek, LOCH_DEK_BYTES));
    identity_encode(place, spec, &session, salt, p);
    LOCH_TRY_OUT(st, loch_key_commitment(&dek, salt_slice, p + AT_COMMITMENT));
    LOCH_TRY_OUT(st, keys_derive(&dek, p, &h.data_key, p + AT_MAC));
    memcpy(p + AT_ENVELOPE, key->key_id.bytes, 16);
    loch_put_u32(p + AT_ENVELOPE + 16, key->version);
    loch_put_u16(p + AT_ENVELOPE + 20, LOCH_WRAPPED_DEK_BYTES);
    place_encode(place, place_bytes);
    LOCH_TRY_OUT(st,
                 loch_dek_wrap(&key->secret, salt_slice,
                               loch_slice_of(place_bytes, sizeof place_bytes), &dek, p + AT_WRAP));
    const struct loch_slice whole = loch_slice_of(p, AT_ENVELOPE);
    LOCH_TRY_OUT(st, loch_sha256(&whole, 1, h.hash));
    LOCH_TRY_OUT(st, loch_buf_append(out, p, sizeof p));
    *opened = h;
    h = (struct header_opened){0};
out:
    header_opened_fini(&h);
    loch_secret_fini(&dek);
    return st;
}

loch_status loch_file_peek(struct loch_slice bytes, struct loch_file_peek *out)
{
    struct loch_file_peek f = {0};
    const uint8_t *p = bytes.data;

    if (bytes.len < LOCH_FILE_HEADER_BYTES || memcmp(p, MAGIC, 8) != 0)
        return LOCH_FAIL(LOCH_E_CORRUPT, "not a sealed file of Loch");
    f.format = loch_get_u16(p + 8);
    f.min_reader = loch_get_u16(p + 10);
    f.aead = p[12];
    f.kdf = p[13];
    f.wrap = p[14];
    f.codec = p[15];
    f.place.kind = p[16];
    f.flags = p[17];
    f.block_bytes = loch_get_u32(p + 20);
    f.place.generation = loch_get_u64(p + 24);
    memcpy(f.place.tenant.bytes, p + 32, 16);
    memcpy(f.place.timeline.bytes, p + 48, 16);
    memcpy(f.place.file_id.bytes, p + 64, 16);
    memcpy(f.place.node.bytes, p + 80, 16);
    memcpy(f.session.bytes, p + 96, 16);
    memcpy(f.key_id.bytes, p + AT_ENVELOPE, 16);
    f.key_version = loch_get_u32(p + AT_ENVELOPE + 16);
    *out = f;
    return LOCH_OK;
}

/* Is this a header this build understands, and of the place the reader asked for? */
static loch_status check_identity(const struct loch_place *expected, bool check_generation,
                                  const struct loch_file_peek *f, const uint8_t *p)
{
    const struct loch_place *is = &f->place;

    if (f->min_reader > FORMAT || f->format < 1)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED, "file format %u wants a reader of %u", f->format,
                         f->min_reader);
    if (f->aead != LOCH_AEAD_ID || f->kdf != 1 || f->wrap != 1 || f->codec > CODEC_LZ4 ||
        (f->flags & ~FLAGS_KNOWN) != 0 || loch_get_u16(p + 18) != 0)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED, "unknown cipher, codec or flag in a file's header");
    if (loch_get_u16(p + AT_ENVELOPE + 20) != LOCH_WRAPPED_DEK_BYTES ||
        loch_get_u16(p + AT_ENVELOPE + 22) != 0)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED, "unknown envelope in a file's header");
    if (is->kind != expected->kind)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a %s where a %s belongs", loch_kind_name(is->kind),
                         loch_kind_name(expected->kind));
    if (!loch_id_equal(&is->tenant, &expected->tenant) ||
        !loch_id_equal(&is->timeline, &expected->timeline))
        return LOCH_FAIL(LOCH_E_CORRUPT, "the file belongs to another tenant or timeline");
    if (!loch_id_equal(&is->file_id, &expected->file_id) ||
        !loch_id_equal(&is->node, &expected->node))
        return LOCH_FAIL(LOCH_E_CORRUPT, "the file belongs to another name or node");
    if (check_generation && is->generation != expected->generation)
        return LOCH_FAIL(LOCH_E_CORRUPT, "the file is of generation %" PRIu64 ", not %" PRIu64,
                         is->generation, expected->generation);
    return LOCH_OK;
}

loch_status header_open(const struct loch_place *expected, bool check_generation,
                        const struct loch_key_source *keys, struct loch_slice bytes,
                        struct header_opened *opened)
{
    struct loch_file_peek f;
    const uint8_t *p = bytes.data;
    uint8_t place_bytes[PLACE_BYTES];
    uint8_t check[LOCH_SHA256_BYTES];
    struct loch_secret tk = {0};
    struct loch_secret dek = {0};
    struct header_opened h = {0};
    loch_status st;

    LOCH_TRY(loch_file_peek(bytes, &f));
    LOCH_TRY(check_identity(expected, check_generation, &f, p));
    const struct loch_slice salt = loch_slice_of(p + AT_SALT, LOCH_SALT_BYTES);
    place_encode(expected, place_bytes);
    LOCH_TRY(keys->find(keys->arg, expected, &f.key_id, f.key_version, &tk));
    LOCH_TRY_OUT(st, loch_dek_unwrap(&tk, salt, loch_slice_of(place_bytes, sizeof place_bytes),
                                     loch_slice_of(p + AT_WRAP, LOCH_WRAPPED_DEK_BYTES), &dek));
    LOCH_TRY_OUT(st, loch_key_commitment(&dek, salt, check));
    if (!loch_bytes_equal(check, p + AT_COMMITMENT, sizeof check)) {
        st = LOCH_FAIL(LOCH_E_CORRUPT, "the file's key is not the one it commits to");
        goto out;
    }
    LOCH_TRY_OUT(st, keys_derive(&dek, p, &h.data_key, check));
    if (!loch_bytes_equal(check, p + AT_MAC, sizeof check)) {
        st = LOCH_FAIL(LOCH_E_CORRUPT, "the file's header has been altered");
        goto out;
    }
    const struct loch_slice whole = loch_slice_of(p, AT_ENVELOPE);
    LOCH_TRY_OUT(st, loch_sha256(&whole, 1, h.hash));
    h.spec = (struct header_spec){f.codec, f.flags, f.block_bytes};
    h.generation = f.place.generation;
    *opened = h;
    h = (struct header_opened){0};
out:
    header_opened_fini(&h);
    loch_secret_fini(&dek);
    loch_secret_fini(&tk);
    return st;
}
