/* Holds: the trial of keyrings that were kept aside. Source: docs/keys.md, "Shredding". */
#include "aside.h"

#include "loch/io/env.h"
#include "loch/keyring/keyring.h"
#include "loch/kms/kms.h"

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define RING_MAX_BYTES   (96u << 20)
#define STORE_HEAD_BYTES 48u /* of an object in a local store (src/objstore/local.c) */
#define RING_HEAD_BYTES  124 /* before its first key (docs/format/keyring.md) */
#define MAGIC_BYTES      8u

void loch_aside_row(json_t *out, const char *what, const char *result, const char *detail)
{
    json_array_append_new(
        out, json_pack("{s:s, s:s, s:s}", "what", what, "result", result, "detail", detail));
}

struct aside {
    struct loch_id id; /* the timeline's, or the tenant's */
    bool whole_tenant;
    char root[PATH_MAX]; /* what is looked through, without links */
    struct loch_env *env;
    struct loch_kms *kms; /* with a pin, of the id `tried`, for each CMK that may be asked */
    json_t *out;
    size_t rings; /* found so far */
    bool good;
};

static struct aside *aside_now; /* for nftw */

/* No tenant: holds the pins of the CMKs that are asked. Others are not: a copy could name any. */
static const struct loch_id tried = {{0xff}};

/* Whether the CMK that the entry names, and no other, opens this KEK now. LOCH_OK; LOCH_E_DENIED,
 * LOCH_E_CORRUPT: it does not; else that cannot be said. */
static loch_status try_kek(const struct aside *a, const struct loch_keyring *ring,
                           const struct loch_keyring_entry *e)
{
    char uri[LOCH_KEYRING_URI_MAX_BYTES + 1];
    struct loch_secret kek = {0};
    const struct loch_kms_context context = {ring->cluster, ring->tenant, e->key_id,
                                             e->purpose,    e->scope,     e->version};

    (void)snprintf(uri, sizeof uri, "%.*s", (int)e->cmk_uri.len, (const char *)e->cmk_uri.data);
    struct loch_kms *cmk = loch_kms_for(a->kms, &tried, uri);
    if (cmk == a->kms || strcmp(loch_kms_uri(cmk), uri) != 0)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                         "its keys lie under %s, which was not tried: name it with --kms-uri", uri);
    LOCH_TRY(loch_kms_unwrap(cmk, &context, loch_buf_slice(&e->wrap), &kek));
    loch_secret_fini(&kek);
    return LOCH_OK;
}

/* The KEK that the entry, if it is a key of what is looked for, lies under: itself when that is the
 * whole tenant. */
static const struct loch_keyring_entry *
kek_of(const struct aside *a, const struct loch_keyring *ring, const struct loch_keyring_entry *e)
{
    if (e->wrap.len == 0)
        return NULL;
    if (a->whole_tenant)
        return e->level == LOCH_LEVEL_KEK ? e : NULL;
    return e->level == LOCH_LEVEL_TK && loch_id_equal(&e->scope, &a->id)
               ? loch_keyring_find(ring, &e->parent, e->parent_version)
               : NULL;
}

/* Opens the keys of a kept keyring with the key service as it is now. LOCH_OK: one that is looked
 * for opens; LOCH_E_DENIED, LOCH_E_CORRUPT: none does; LOCH_E_NOT_FOUND: it has none; else that
 * cannot be said. */
static loch_status try_keyring(const struct aside *a, const struct loch_keyring *ring)
{
    loch_status st = {LOCH_E_NOT_FOUND};

    if (a->whole_tenant && !loch_id_equal(&ring->tenant, &a->id))
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "it is another tenant's");
    for (uint32_t i = 0; i < ring->count; i++) {
        const struct loch_keyring_entry *kek = kek_of(a, ring, &ring->entries[i]);
        if (kek == NULL)
            continue;
        st = try_kek(a, ring, kek);
        if (st.code != LOCH_E_DENIED && st.code != LOCH_E_CORRUPT)
            return st;
    }
    return st.code != LOCH_E_NOT_FOUND ? st : LOCH_FAIL(LOCH_E_NOT_FOUND, "it has no keys of it");
}

/* What cannot be looked into may hold anything. */
static void unknown(struct aside *a, const char *path, const char *why)
{
    loch_aside_row(a->out, path, "UNKNOWN", why);
    a->good = false;
}

/* Each key of a keyring is wrapped by itself: what is left of one may hold those that matter. */
static loch_status decode(struct loch_slice bytes, struct loch_keyring *ring)
{
    struct loch_slice body, mac;
    const loch_status st = loch_keyring_decode(bytes, ring, &body, &mac);

    return loch_is_ok(st) ? st
                          : LOCH_FAIL(LOCH_E_IO,
                                      "a damaged keyring, whose keys may be whole: destroy it, or "
                                      "the CMK that wraps them (%s)",
                                      loch_error_text());
}

static void judge(struct aside *a, const char *path, const struct loch_buf *bytes)
{
    struct loch_keyring ring = {0};
    loch_status st = decode(loch_buf_slice(bytes), &ring);

    if (loch_is_ok(st))
        st = try_keyring(a, &ring);
    loch_keyring_fini(&ring);
    if (st.code == LOCH_E_DENIED || st.code == LOCH_E_CORRUPT || st.code == LOCH_E_NOT_FOUND) {
        loch_aside_row(a->out, path, "does not open", loch_error_text());
    } else if (!loch_is_ok(st)) {
        unknown(a, path, loch_error_text());
    } else {
        loch_aside_row(a->out, path, "OPENS",
                       "destroy the CMK that wraps it (move the tenant first: loch key rotate cmk "
                       "--kms-uri)");
        a->good = false;
    }
}

/* Files of a node that are text, and hold no keys. */
static bool is_known_text(const struct aside *a, const char *path)
{
    static const char *const names[] = {"audit.log", "audit-heads.json", "kms.pins"};
    const char *slash = strrchr(path, '/');
    struct loch_buf bytes = {0};
    bool text = false;

    for (size_t i = 0; i < sizeof names / sizeof names[0] && !text; i++)
        text = strcmp(slash != NULL ? slash + 1 : path, names[i]) == 0;
    text = text && loch_is_ok(loch_env_read_file(a->env, path, RING_MAX_BYTES, &bytes));
    for (size_t i = 0; i < bytes.len && text; i++)
        text = bytes.data[i] == '\n' || (bytes.data[i] >= ' ' && bytes.data[i] <= '~');
    loch_buf_fini(&bytes);
    return text;
}

static void read_ring(struct aside *a, const char *path, bool in_store)
{
    struct loch_buf bytes = {0};

    if (!loch_is_ok(loch_env_read_file(a->env, path, RING_MAX_BYTES, &bytes))) {
        unknown(a, path, loch_error_text());
    } else {
        if (in_store)
            loch_buf_consume(&bytes, STORE_HEAD_BYTES);
        a->rings++;
        judge(a, path, &bytes);
    }
    loch_buf_fini(&bytes);
}

static bool begins(const uint8_t *bytes, const char *magic)
{
    return memcmp(bytes, magic, MAGIC_BYTES) == 0;
}

/* Only what is known to hold no keyring is passed over: anything else may be a backup of many. */
static void read_kept(struct aside *a, const char *path, off_t size)
{
    uint8_t head[STORE_HEAD_BYTES + MAGIC_BYTES] = {0};

    FILE *f = fopen(path, "rbe");
    const size_t n = f != NULL ? fread(head, 1, sizeof head, f) : 0;
    if (f == NULL || ferror(f) != 0)
        unknown(a, path, strerror(errno));
    if (f != NULL)
        (void)fclose(f);
    if (n == 0)
        return;
    const bool in_store = begins(head, "LOCHOBJ1");
    const uint8_t *magic = head + (in_store ? STORE_HEAD_BYTES : 0);
    if (size - (magic - head) < RING_HEAD_BYTES || begins(magic, "LOCHSEAL") ||
        begins(magic, "LOCHJRNL"))
        return;
    if (begins(magic, "LOCHRING"))
        read_ring(a, path, in_store);
    else if (!is_known_text(a, path))
        unknown(a, path,
                "not a file of Loch, or a damaged one: keyrings may be in it. Unpack an archive "
                "or image, and take away what has nothing to do with this");
}

/* A link to what is looked through anyway hides nothing. */
static bool leads_inside(const struct aside *a, const char *path)
{
    char target[PATH_MAX];
    const size_t n = strlen(a->root);

    return realpath(path, target) != NULL && strncmp(target, a->root, n) == 0 &&
           (target[n] == '/' || target[n] == '\0');
}

static int see_kept(const char *path, const struct stat *sb, int type, struct FTW *ftw)
{
    struct aside *a = aside_now;

    (void)ftw;
    if (type == FTW_DNR || type == FTW_NS)
        unknown(a, path, "it cannot be looked into: may this user read it?");
    else if (type == FTW_SL && !leads_inside(a, path))
        unknown(a, path,
                "a link, which is not followed: give --aside what it leads to, too, and "
                "take it away");
    else if (type == FTW_F && S_ISBLK(sb->st_mode))
        unknown(a, path, "a device, which is not read");
    else if (type == FTW_F && S_ISREG(sb->st_mode) && sb->st_size > 0)
        read_kept(a, path, sb->st_size);
    return 0;
}

static loch_status pin_failed; /* of the copying below */

static void copy_pin(void *arg, const struct loch_id *tenant, const struct loch_kms *cmk)
{
    struct aside *a = arg;
    (void)tenant;
    if (loch_is_ok(pin_failed))
        pin_failed = loch_kms_pin(a->kms, &tried, loch_kms_uri(cmk));
}

/* --kms-uri: one, or several with spaces between them, which no URI holds. */
static loch_status pin_named(struct aside *a, const char *named)
{
    char uri[LOCH_KEYRING_URI_MAX_BYTES + 1];

    for (const char *at = named; *at != '\0';) {
        const size_t n = strcspn(at, " ");
        if (n >= sizeof uri)
            return LOCH_FAIL(LOCH_E_INVALID, "a KMS URI has at most %u bytes",
                             LOCH_KEYRING_URI_MAX_BYTES);
        memcpy(uri, at, n);
        uri[n] = '\0';
        if (n > 0)
            LOCH_TRY(loch_kms_pin(a->kms, &tried, uri));
        at += n + (at[n] == ' ');
    }
    return LOCH_OK;
}

/* Which CMKs are tried: the cluster's, those that the pageserver has pinned, and those named. */
static loch_status take_cmks(struct aside *a, const struct loch_aside *what)
{
    struct loch_kms *live = NULL;

    LOCH_TRY(loch_kms_pin(a->kms, &tried, what->cluster_kms));
    if (what->named != NULL)
        LOCH_TRY(pin_named(a, what->named));
    LOCH_TRY(loch_kms_open(what->cluster_kms, NULL, &live));
    loch_status st = loch_kms_pins_open(live, a->env, what->pins);
    pin_failed = LOCH_OK;
    if (loch_is_ok(st)) {
        loch_kms_each_pin(live, copy_pin, a);
        st = pin_failed;
    }
    loch_kms_close(live);
    return st;
}

loch_status loch_aside_check(const struct loch_aside *what, json_t *out, bool *good)
{
    struct aside a = {.out = out, .good = true, .whole_tenant = what->whole_tenant};
    loch_status st;

    LOCH_TRY(loch_id_parse(what->id, &a.id));
    if (realpath(what->dir, a.root) == NULL)
        return LOCH_FAIL(LOCH_E_IO, "cannot look through %s: %s", what->dir, strerror(errno));
    LOCH_TRY(loch_env_real_create(&a.env));
    LOCH_TRY_OUT(st, loch_kms_open(what->cluster_kms, NULL, &a.kms));
    LOCH_TRY_OUT(st, take_cmks(&a, what));
    aside_now = &a;
    if (nftw(a.root, see_kept, 16, FTW_PHYS) != 0)
        st = LOCH_FAIL(LOCH_E_IO, "cannot look through %s: %s", a.root, strerror(errno));
    if (a.rings == 0)
        unknown(&a, a.root, "no keyring was found below it: is it what was meant?");
    *good = *good && a.good;
out:
    loch_kms_close(a.kms);
    loch_env_real_destroy(a.env);
    return st;
}
