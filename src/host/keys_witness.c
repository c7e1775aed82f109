/* Holds: what this daemon remembers of the newest keyring of each tenant that it has opened, in
 * <witness_dir>/<tenant> (loch/host/witness.h). */
#include "keys_internal.h"
#include "loch/host/witness.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

static void path_of(const struct loch_keys_options *o, const struct loch_id *tenant,
                    char path[static PATH_MAX])
{
    char id[LOCH_ID_TEXT_BYTES];

    (void)snprintf(path, PATH_MAX, "%s/%s", o->witness_dir, loch_id_format(tenant, id));
}

static struct loch_witness witness_of(const struct keys_tenant *t)
{
    const struct loch_keyring_entry *meta = loch_keyring_mac_key(&t->ring);
    struct loch_witness w = {.generation = t->ring.generation,
                             .key_version = meta != NULL ? meta->version : 0};

    memcpy(w.hash, t->hash, sizeof w.hash);
    return w;
}

loch_status keys_witness_check(const struct loch_keys_options *o, const struct keys_tenant *t)
{
    char path[PATH_MAX];
    char name[LOCH_OBJECT_NAME_MAX];
    char id[LOCH_ID_TEXT_BYTES];

    if (o->witness_dir == NULL)
        return LOCH_OK;
    path_of(o, &t->ring.tenant, path);
    (void)snprintf(name, sizeof name, "tenants/%s/keyring", loch_id_format(&t->ring.tenant, id));
    const struct loch_witness offered = witness_of(t);
    return loch_witness_check(o->env, path, name, &offered);
}

loch_status keys_witness_note(const struct loch_keys_options *o, const struct keys_tenant *t)
{
    char path[PATH_MAX];

    if (o->witness_dir == NULL)
        return LOCH_OK;
    path_of(o, &t->ring.tenant, path);
    const struct loch_witness newest = witness_of(t);
    return loch_witness_note(o->env, o->witness_dir, path, &newest);
}

void keys_witness_forget(const struct loch_keys_options *o, const struct loch_id *tenant)
{
    char path[PATH_MAX];

    if (o->witness_dir == NULL)
        return;
    path_of(o, tenant, path);
    loch_witness_forget(o->env, path);
}
