/* Holds: the keyring object's bytes, little-endian.
 *
 *  off len
 *    0   8  magic "LOCHRING"
 *    8   2  format, 1 to 3          10   2  min_reader, the same
 *   12   1  mac, 1 HMAC-SHA256      13   1  flags, 0
 *   14   1  tombstone, 0 or 1       15   1  zero
 *   16  16  cluster                 32  16  tenant
 *   48   8  generation
 *   56  32  SHA-256 of the object before       88  32  its MAC
 *  120   4  count of entries
 *  124      entries: 16 key id | u32 version | u8 level | u8 purpose | u8 state | u8 provider |
 *           16 scope | 16 parent | u32 parent version | u32 n, n CMK URI | u32 n, n wrap |
 *           32 salt | 32 commitment
 *  end-32   MAC over everything before
 * Format 2 has KEKs whose scope is a branch: a reader of 1 would look for their CMK in the wrong
 * place. In format 3 destroyed versions of K_wire may have left, which a reader of 1 or 2 takes for
 * damage. A keyring is written in the lowest format that holds it.
 * Twin: docs/format/keyring.md.
 */
#include "keyring_internal.h"

#include <string.h>

#ifdef LOCH_NULL_CIPHER
#define MAGIC "LOCHNULL" /* a cluster of a build without cipher: no other build opens it */
#else
#define MAGIC "LOCHRING"
#endif
#define FORMAT          1u
#define FORMAT_BRANCHES 2u /* KEKs with a scope */
#define FORMAT_GAPS     3u /* K_wire's versions begin anywhere; branches or not */
#define MAC_HMAC_SHA256 1u

static void entry_encode(struct loch_writer *w, const struct loch_keyring_entry *e)
{
    loch_write_id(w, &e->key_id);
    loch_write_u32(w, e->version);
    loch_write_u8(w, e->level);
    loch_write_u8(w, e->purpose);
    loch_write_u8(w, e->state);
    loch_write_u8(w, e->provider);
    loch_write_id(w, &e->scope);
    loch_write_id(w, &e->parent);
    loch_write_u32(w, e->parent_version);
    loch_write_lp(w, loch_buf_slice(&e->cmk_uri));
    loch_write_lp(w, loch_buf_slice(&e->wrap));
    loch_write_bytes(w, e->salt, sizeof e->salt);
    loch_write_bytes(w, e->commitment, sizeof e->commitment);
}

static bool is_branch_kek(const struct loch_keyring_entry *e)
{
    return e->level == LOCH_LEVEL_KEK && !loch_id_is_none(&e->scope);
}

static uint16_t format_of(const struct loch_keyring *ring)
{
    if (keyring_is_gapped(ring))
        return FORMAT_GAPS;
    for (uint32_t i = 0; i < ring->count; i++)
        if (is_branch_kek(&ring->entries[i]))
            return FORMAT_BRANCHES;
    return FORMAT;
}

loch_status loch_keyring_encode(const struct loch_keyring *ring, struct loch_buf *out)
{
    const uint16_t format = format_of(ring);
    struct loch_writer w;

    loch_writer_init(&w, out);
    loch_write_bytes(&w, MAGIC, 8);
    loch_write_u16(&w, format);
    loch_write_u16(&w, format);
    loch_write_u8(&w, MAC_HMAC_SHA256);
    loch_write_u8(&w, 0);
    loch_write_u8(&w, ring->tombstone ? 1 : 0);
    loch_write_u8(&w, 0);
    loch_write_id(&w, &ring->cluster);
    loch_write_id(&w, &ring->tenant);
    loch_write_u64(&w, ring->generation);
    loch_write_bytes(&w, ring->previous_hash, sizeof ring->previous_hash);
    loch_write_bytes(&w, ring->previous_mac, sizeof ring->previous_mac);
    loch_write_u32(&w, ring->count);
    for (uint32_t i = 0; i < ring->count; i++)
        entry_encode(&w, &ring->entries[i]);
    return loch_writer_finish(&w);
}

static loch_status entry_decode(struct loch_reader *r, struct loch_keyring *ring)
{
    struct loch_keyring_entry e = {0};
    loch_status st;

    e.key_id = loch_read_id(r);
    e.version = loch_read_u32(r);
    e.level = loch_read_u8(r);
    e.purpose = loch_read_u8(r);
    e.state = loch_read_u8(r);
    e.provider = loch_read_u8(r);
    e.scope = loch_read_id(r);
    e.parent = loch_read_id(r);
    e.parent_version = loch_read_u32(r);
    const struct loch_slice uri = loch_read_lp(r, LOCH_KEYRING_URI_MAX_BYTES);
    const struct loch_slice wrap = loch_read_lp(r, LOCH_KEYRING_WRAP_MAX_BYTES);
    loch_read_into(r, e.salt, sizeof e.salt);
    loch_read_into(r, e.commitment, sizeof e.commitment);
    if (r->bad)
        return LOCH_FAIL(LOCH_E_CORRUPT, "the keyring ends within an entry");
    LOCH_TRY_OUT(st, loch_buf_append(&e.cmk_uri, uri.data, uri.len));
    LOCH_TRY_OUT(st, loch_buf_append(&e.wrap, wrap.data, wrap.len));
    st = keyring_entry_append(ring, &e, false);
    if (st.code == LOCH_E_INVALID || st.code == LOCH_E_LIMIT)
        return LOCH_FAIL(LOCH_E_CORRUPT, "the keyring's entries do not fit each other");
    return st;
out:
    keyring_entry_fini(&e);
    return st;
}

static loch_status head_decode(struct loch_reader *r, struct loch_keyring *ring, uint16_t *version,
                               uint32_t *count)
{
    uint8_t magic[8];

    loch_read_into(r, magic, sizeof magic);
    if (r->bad || memcmp(magic, MAGIC, sizeof magic) != 0)
        return LOCH_FAIL(LOCH_E_CORRUPT, "not a keyring");
    const uint16_t format = loch_read_u16(r);
    const uint16_t min_reader = loch_read_u16(r);
    const uint8_t mac = loch_read_u8(r);
    const uint8_t flags = loch_read_u8(r);
    const uint8_t tombstone = loch_read_u8(r);
    const uint8_t zero = loch_read_u8(r);
    if (!r->bad && (format < FORMAT || min_reader > FORMAT_GAPS || mac != MAC_HMAC_SHA256 ||
                    flags != 0 || tombstone > 1 || zero != 0))
        return LOCH_FAIL(LOCH_E_UNSUPPORTED, "keyring format %u wants a reader of %u", format,
                         min_reader);
    *version = format;
    ring->tombstone = tombstone == 1;
    ring->cluster = loch_read_id(r);
    ring->tenant = loch_read_id(r);
    ring->generation = loch_read_u64(r);
    loch_read_into(r, ring->previous_hash, sizeof ring->previous_hash);
    loch_read_into(r, ring->previous_mac, sizeof ring->previous_mac);
    *count = loch_read_u32(r);
    if (r->bad || *count > LOCH_KEYRING_ENTRIES_MAX || ring->generation == 0)
        return LOCH_FAIL(LOCH_E_CORRUPT, "the keyring's head is damaged");
    return LOCH_OK;
}

loch_status loch_keyring_decode(struct loch_slice bytes, struct loch_keyring *out,
                                struct loch_slice *body, struct loch_slice *mac)
{
    struct loch_keyring ring = {0};
    struct loch_reader r;
    uint32_t count = 0;
    uint16_t format = 0;
    loch_status st;

    if (bytes.len < LOCH_KEYRING_MAC_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a keyring of %zu bytes", bytes.len);
    const struct loch_slice covered = loch_slice_of(bytes.data, bytes.len - LOCH_KEYRING_MAC_BYTES);
    loch_reader_init(&r, covered);
    LOCH_TRY_OUT(st, head_decode(&r, &ring, &format, &count));
    for (uint32_t i = 0; i < count; i++)
        LOCH_TRY_OUT(st, entry_decode(&r, &ring));
    LOCH_TRY_OUT(st, loch_reader_finish(&r, "keyring"));
    if (format_of(&ring) > format) {
        st = LOCH_FAIL(LOCH_E_CORRUPT, "a keyring of format %u holds what only later ones may",
                       format);
        goto out;
    }
    *out = ring;
    *body = covered;
    *mac = loch_slice_of(bytes.data + covered.len, LOCH_KEYRING_MAC_BYTES);
    return LOCH_OK;
out:
    loch_keyring_fini(&ring);
    return st;
}
