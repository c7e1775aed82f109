/* Holds: the witness: what this daemon remembers, outside of the store, of the newest keyring it
 * has opened. A store that is wound back while the daemon is down is noticed at the next start.
 *
 * File <witness_dir>/<tenant>, text: generation, space, SHA-256 of the keyring object, newline.
 */
#include "keys_internal.h"
#include "loch/io/env.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX_BYTES 128u

static void path_of(const struct loch_keys_options *o, const struct loch_id *tenant,
                    char path[static PATH_MAX])
{
    char id[LOCH_ID_TEXT_BYTES];

    (void)snprintf(path, PATH_MAX, "%s/%s", o->witness_dir, loch_id_format(tenant, id));
}

static loch_status parse(const char *path, const struct loch_buf *text, uint64_t *generation,
                         uint8_t hash[static LOCH_KEYRING_HASH_BYTES])
{
    char copy[TEXT_MAX_BYTES + 1] = "";
    char hex[2 * LOCH_KEYRING_HASH_BYTES + 1] = "";

    memcpy(copy, text->data, text->len < TEXT_MAX_BYTES ? text->len : TEXT_MAX_BYTES);
    if (sscanf(copy, "%" SCNu64 " %64[0-9a-f]", generation, hex) != 2 || strlen(hex) != 64 ||
        !loch_is_ok(loch_hex_parse(hex, hash, LOCH_KEYRING_HASH_BYTES)))
        return LOCH_FAIL(LOCH_E_CORRUPT, "%s does not say which keyring was the newest", path);
    return LOCH_OK;
}

loch_status keys_witness_check(const struct loch_keys_options *o, const struct keys_tenant *t)
{
    char path[PATH_MAX];
    struct loch_buf text = {0};
    uint8_t hash[LOCH_KEYRING_HASH_BYTES];
    uint64_t generation = 0;

    if (o->witness_dir == NULL)
        return LOCH_OK;
    path_of(o, &t->ring.tenant, path);
    loch_status st = loch_env_read_file(o->env, path, TEXT_MAX_BYTES, &text);
    if (st.code == LOCH_E_NOT_FOUND)
        return LOCH_OK;
    if (loch_is_ok(st))
        st = parse(path, &text, &generation, hash);
    loch_buf_fini(&text);
    LOCH_TRY(st);
    if (t->ring.generation < generation)
        return LOCH_FAIL(LOCH_E_STALE,
                         "the store holds keyring generation %" PRIu64
                         " of the tenant, but %" PRIu64
                         " was opened here before: the store has been wound back (%s; remove that "
                         "file only if you did this yourself)",
                         t->ring.generation, generation, path);
    if (t->ring.generation == generation && memcmp(hash, t->hash, sizeof hash) != 0)
        return LOCH_FAIL(LOCH_E_CORRUPT,
                         "keyring generation %" PRIu64 " of the tenant is not the one that was "
                         "opened here before (%s)",
                         generation, path);
    return LOCH_OK;
}

loch_status keys_witness_note(const struct loch_keys_options *o, const struct loch_id *tenant,
                              uint64_t generation,
                              const uint8_t hash[static LOCH_KEYRING_HASH_BYTES])
{
    char path[PATH_MAX];
    char text[TEXT_MAX_BYTES];
    char hex[2 * LOCH_KEYRING_HASH_BYTES + 1];
    struct loch_buf was = {0};

    if (o->witness_dir == NULL)
        return LOCH_OK;
    path_of(o, tenant, path);
    loch_hex_format(hash, LOCH_KEYRING_HASH_BYTES, hex);
    const int n = snprintf(text, sizeof text, "%" PRIu64 " %s\n", generation, hex);
    const loch_status st = loch_env_read_file(o->env, path, TEXT_MAX_BYTES, &was);
    const bool same =
        loch_is_ok(st) && was.len == (size_t)n && memcmp(was.data, text, was.len) == 0;
    loch_buf_fini(&was);
    if (same)
        return LOCH_OK;
    LOCH_TRY(loch_env_mkdirs(o->env, o->witness_dir));
    return loch_env_replace_file(o->env, path, loch_slice_of(text, (size_t)n));
}

void keys_witness_forget(const struct loch_keys_options *o, const struct loch_id *tenant)
{
    char path[PATH_MAX];

    if (o->witness_dir == NULL)
        return;
    path_of(o, tenant, path);
    const loch_status st = loch_env_unlink(o->env, path);
    (void)st; /* there may be none; one that stays is of a tenant whose id never comes again */
}
