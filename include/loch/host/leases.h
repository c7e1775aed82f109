/* Keeps the leases on all tenants' keys of a daemon: asks the KMS, and carries out what the lease
 * machine (loch/keyring/lease.h) says.
 *
 * Every tenant whose keys are opened, or could not be, in `keys` has one, and so has every branch
 * with a CMK of its own while its tenant's keys are open; there is nothing to register. Each
 * Decrypt runs on a thread of its own, so that a KMS that does not answer holds up nobody else.
 * Loop's thread.
 */
#ifndef LOCH_HOST_LEASES_H
#define LOCH_HOST_LEASES_H

#include "loch/host/config.h"
#include "loch/host/console.h"
#include "loch/host/keys.h"
#include "loch/host/metrics.h"
#include "loch/keyring/lease.h"

struct loch_leases;

struct loch_leases_options {
    struct loch_env *env;
    struct loch_keys *keys; /* made with the same env and settings.lease_ms */
    struct loch_metrics *metrics;
    struct loch_audit *audit; /* may be NULL */
    struct loch_lease_settings settings;
    /* Keys that are not busy for so long are put to sleep until somebody wants them
     * (loch_keys_want); 0: never. */
    uint64_t idle_ms;
    /* Whether anything in this process works with the tenant's keys. NULL: always. */
    bool (*busy)(void *arg, const struct loch_id *tenant);
    /* The tenant's keys, or (branch not none) all that the branch's CMK holds, are wiped already:
     * stop serving it, close its connections with `code` and `why`, wipe what its keys opened, then
     * call loch_leases_wiped. Asleep: loch_keys_asleep. */
    void (*dark)(void *arg, const struct loch_id *tenant, const struct loch_id *branch,
                 enum loch_code code, const char *why);
    /* Its keys are open again. */
    void (*light)(void *arg, const struct loch_id *tenant, const struct loch_id *branch);
    void *arg;
};

/* The settings in a daemon's table. */
#define LOCH_LEASE_ITEMS                                                                           \
    {.section = "kms",                                                                             \
     .key = "poll",                                                                                \
     .type = LOCH_CONFIG_MS,                                                                       \
     .value = "3s",                                                                                \
     .min = 50,                                                                                    \
     .max = 3600000,                                                                               \
     .help = "How often each tenant's key is proven by a Decrypt at the key service."},            \
        {.section = "kms",                                                                         \
         .key = "lease",                                                                           \
         .type = LOCH_CONFIG_MS,                                                                   \
         .value = "7s",                                                                            \
         .min = 100,                                                                               \
         .max = 7200000,                                                                           \
         .help = "How long opened keys may be used after the start of the last Decrypt that was "  \
                 "granted; at least twice kms.poll."},                                             \
        {.section = "kms",                                                                         \
         .key = "grace",                                                                           \
         .type = LOCH_CONFIG_MS,                                                                   \
         .value = "60s",                                                                           \
         .min = 0,                                                                                 \
         .max = LOCH_GRACE_MAX_MS,                                                                 \
         .help = "How much longer while the key service does not answer at all (a denial ends at " \
                 "once)."},                                                                        \
        {.section = "kms",                                                                         \
         .key = "idle",                                                                            \
         .type = LOCH_CONFIG_MS,                                                                   \
         .value = "0",                                                                             \
         .min = 0,                                                                                 \
         .max = 86400000,                                                                          \
         .help = "A tenant whose keys nothing has used for so long is put to sleep: its keys are " \
                 "wiped, the key service is not asked, and the next use fetches them; 0: never."}, \
    {                                                                                              \
        .section = "kms", .key = "settle", .type = LOCH_CONFIG_MS, .value = "30s", .min = 0,       \
        .max = 3600000, .help = "A denied key is used again after it was granted for so long."     \
    }
/* LOCH_E_INVALID when they do not go together. */
LOCH_STATUS loch_lease_settings_read(const struct loch_config *config,
                                     struct loch_lease_settings *out);

LOCH_STATUS loch_leases_create(const struct loch_leases_options *options, struct loch_leases **out);
/* Ends the polling, after the loop has ended. True when all of it is gone; false: a thread still
 * waits for the KMS after two seconds: the caller ends the process as it is. Takes NULL. */
bool loch_leases_destroy(struct loch_leases *leases);
/* After `dark`: this process holds no plaintext of the tenant any more, but for what loads of its
 * keys have opened that began before: `wiped` is noted when those have ended, too. */
void loch_leases_wiped(struct loch_leases *leases, const struct loch_id *tenant,
                       const struct loch_id *branch);
/* After `light` could not be followed, or not in full; or after a start that could not: `light` is
 * called (again) later. */
void loch_leases_relight(struct loch_leases *leases, const struct loch_id *tenant,
                         const struct loch_id *branch);
/* Console: a tenant that sleeps is awake when this is answered; the daemon's hold sees to it, as
 * before every command that names the tenant. */
#define LOCH_WAKE_WORDS "WAKE TENANT <tenant>"
#define LOCH_WAKE_HELP  "Has the keys of a tenant that is asleep fetched; answers when they are."
/* Console: SHOW LEASES. */
void loch_leases_show(struct loch_leases *leases, struct loch_console_request *request);

#endif
