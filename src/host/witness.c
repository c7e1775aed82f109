#include "loch/host/witness.h"

#include "loch/base/buf.h"
#include "loch/base/types.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define TEXT_MAX_BYTES 128u

static loch_status parse(const char *path, const struct loch_buf *text, struct loch_witness *out)
{
    char copy[TEXT_MAX_BYTES + 1] = "";
    char hex[2 * LOCH_WITNESS_HASH_BYTES + 1] = "";

    memcpy(copy, text->data, text->len < TEXT_MAX_BYTES ? text->len : TEXT_MAX_BYTES);
    const int n =
        sscanf(copy, "%" SCNu64 " %64[0-9a-f] %" SCNu32, &out->generation, hex, &out->key_version);
    if (n < 2 || strlen(hex) != 64 || text->data[text->len - 1] != '\n' ||
        !loch_is_ok(loch_hex_parse(hex, out->hash, LOCH_WITNESS_HASH_BYTES)))
        return LOCH_FAIL(LOCH_E_CORRUPT, "%s does not say which object was the newest", path);
    return LOCH_OK;
}

loch_status loch_witness_read(struct loch_env *env, const char *path, struct loch_witness *out)
{
    struct loch_buf text = {0};
    struct loch_witness newest = {0};

    loch_status st = loch_env_read_file(env, path, TEXT_MAX_BYTES, &text);
    if (loch_is_ok(st))
        st = parse(path, &text, &newest);
    loch_buf_fini(&text);
    LOCH_TRY(st);
    *out = newest;
    return LOCH_OK;
}

loch_status loch_witness_check(struct loch_env *env, const char *path, const char *what,
                               const struct loch_witness *offered)
{
    struct loch_witness newest;

    const loch_status st = loch_witness_read(env, path, &newest);
    if (st.code == LOCH_E_NOT_FOUND)
        return LOCH_OK;
    LOCH_TRY(st);
    if (offered->generation < newest.generation)
        return LOCH_FAIL(LOCH_E_STALE,
                         "the store holds generation %" PRIu64 " of %s, but %" PRIu64
                         " was seen here before: the store has been wound back (%s; remove that "
                         "file only if you did this yourself)",
                         offered->generation, what, newest.generation, path);
    if (offered->generation == newest.generation &&
        memcmp(newest.hash, offered->hash, sizeof newest.hash) != 0)
        return LOCH_FAIL(LOCH_E_CORRUPT,
                         "generation %" PRIu64 " of %s is not the one that was seen here "
                         "before (%s)",
                         offered->generation, what, path);
    if (offered->key_version < newest.key_version)
        return LOCH_FAIL(LOCH_E_CORRUPT,
                         "generation %" PRIu64 " of %s is proven by version %" PRIu32
                         " of its key, but version %" PRIu32 " was seen here before: somebody who "
                         "has old keys has made it (%s)",
                         offered->generation, what, offered->key_version, newest.key_version, path);
    return LOCH_OK;
}

loch_status loch_witness_note(struct loch_env *env, const char *dir, const char *path,
                              const struct loch_witness *newest)
{
    char text[TEXT_MAX_BYTES];
    char hex[2 * LOCH_WITNESS_HASH_BYTES + 1];
    struct loch_buf was = {0};

    loch_hex_format(newest->hash, LOCH_WITNESS_HASH_BYTES, hex);
    const int n = newest->key_version == 0
                      ? snprintf(text, sizeof text, "%" PRIu64 " %s\n", newest->generation, hex)
                      : snprintf(text, sizeof text, "%" PRIu64 " %s %" PRIu32 "\n",
                                 newest->generation, hex, newest->key_version);
    const loch_status st = loch_env_read_file(env, path, TEXT_MAX_BYTES, &was);
    const bool same =
        loch_is_ok(st) && was.len == (size_t)n && memcmp(was.data, text, was.len) == 0;
    loch_buf_fini(&was);
    if (same)
        return LOCH_OK;
    LOCH_TRY(loch_env_mkdirs(env, dir));
    return loch_env_replace_file(env, path, loch_slice_of(text, (size_t)n));
}

void loch_witness_forget(struct loch_env *env, const char *path)
{
    const loch_status st = loch_env_unlink(env, path);
    (void)st; /* there may be none; one that stays is of an id that never comes again */
}
