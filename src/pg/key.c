/* Holds: the codec of page keys. Big-endian fields, so that memcmp orders as loch_key_compare does.
 */
#include "loch/pg/key.h"

static void put_be32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

static uint32_t get_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

void loch_key_encode(const struct loch_key *key, uint8_t out[static LOCH_KEY_BYTES])
{
    out[0] = key->kind;
    put_be32(out + 1, key->spc);
    put_be32(out + 5, key->db);
    put_be32(out + 9, key->rel);
    out[13] = key->fork;
    put_be32(out + 14, key->block);
}

LOCH_STATUS loch_key_decode(const uint8_t in[static LOCH_KEY_BYTES], struct loch_key *out)
{
    if (in[0] < LOCH_KEY_PAGE || in[0] > LOCH_KEY_ORIGIN)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a key of unknown kind %u", in[0]);
    if (in[13] > LOCH_FORK_INIT)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a key of unknown fork %u", in[13]);
    *out = (struct loch_key){.kind = in[0],
                             .fork = in[13],
                             .spc = get_be32(in + 1),
                             .db = get_be32(in + 5),
                             .rel = get_be32(in + 9),
                             .block = get_be32(in + 14)};
    return LOCH_OK;
}
