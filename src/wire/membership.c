/* Holds: encoding of a membership. Invariant: what is decoded has at least one member in each set,
 * and no member twice. */
#include "loch/wire/wal.h"

#include <stdlib.h>

void loch_membership_fini(struct loch_membership *m)
{
    free(m->members);
    *m = (struct loch_membership){0};
}

loch_status loch_membership_copy(struct loch_membership *out, const struct loch_membership *m)
{
    struct loch_membership copy = {.generation = m->generation};

    if (m->count > 0) {
        copy.members = calloc(m->count, sizeof *copy.members);
        if (copy.members == NULL)
            return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a membership");
        memcpy(copy.members, m->members, m->count * sizeof *copy.members);
        copy.count = m->count;
    }
    *out = copy;
    return LOCH_OK;
}

void loch_write_membership(struct loch_writer *w, const struct loch_membership *m)
{
    loch_write_u64(w, m->generation);
    loch_write_u8(w, (uint8_t)m->count);
    for (uint32_t i = 0; i < m->count; i++) {
        const struct loch_member *each = &m->members[i];
        loch_write_id(w, &each->id);
        loch_write_id(w, &each->node);
        loch_write_u8(w, each->in);
        loch_write_lp(w, loch_slice_of(each->address, strlen(each->address)));
    }
}

bool loch_member_address_valid(struct loch_slice address)
{
    for (size_t i = 0; i < address.len; i++) {
        if (address.data[i] <= ' ' || address.data[i] > '~')
            return false;
    }
    return address.len < LOCH_MEMBER_ADDRESS_BYTES;
}

static bool read_member(struct loch_reader *r, struct loch_member *out)
{
    out->id = loch_read_id(r);
    out->node = loch_read_id(r);
    out->in = loch_read_u8(r);
    struct loch_slice address = loch_read_lp(r, LOCH_MEMBER_ADDRESS_BYTES - 1);
    if (address.len > 0)
        memcpy(out->address, address.data, address.len);
    return loch_member_address_valid(address) && out->in >= LOCH_MEMBER_OLD &&
           out->in <= LOCH_MEMBER_BOTH;
}

static loch_status read_members(struct loch_reader *r, struct loch_membership *m)
{
    uint8_t sets = 0;

    for (uint32_t i = 0; i < m->count; i++) {
        bool good = read_member(r, &m->members[i]);
        sets |= m->members[i].in;
        for (uint32_t k = 0; k < i; k++)
            good = good && !loch_id_equal(&m->members[k].id, &m->members[i].id);
        if (!good)
            return LOCH_FAIL(LOCH_E_CORRUPT, "a membership's member %u cannot be", i + 1);
    }
    if (m->count > 0 && sets != LOCH_MEMBER_BOTH)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a membership without an old or a new set");
    return LOCH_OK;
}

loch_status loch_read_membership(struct loch_reader *r, struct loch_membership *out)
{
    struct loch_membership m = {.generation = loch_read_u64(r)};

    m.count = loch_read_u8(r);
    if (m.count > LOCH_MEMBERS_MAX || (m.generation == 0) != (m.count == 0))
        return LOCH_FAIL(LOCH_E_CORRUPT, "a membership of %u safekeepers in generation %" PRIu64,
                         m.count, m.generation);
    if (m.count > 0) {
        m.members = calloc(m.count, sizeof *m.members);
        if (m.members == NULL)
            return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a membership");
    }
    loch_status st = read_members(r, &m);
    if (!loch_is_ok(st)) {
        loch_membership_fini(&m);
        return st;
    }
    *out = m;
    return LOCH_OK;
}
