/* Fetches a FULL base backup of a timeline at an LSN from a running pageserver, as a data directory
 * that a stock server starts on.
 *
 * usage: full_base LSN TERM DIR 3<CREDENTIAL
 *   CREDENTIAL  what ISSUE CREDENTIAL answers
 *   DIR         an empty directory; root's files become those of the user postgres
 */
#include "basebackup.h"
#include "config.h"
#include "credential.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CHECK(expr_)                                                                               \
    do {                                                                                           \
        loch_status check_st_ = (expr_);                                                           \
        if (!loch_is_ok(check_st_)) {                                                              \
            fprintf(stderr, "%s: %s (%s)\n", #expr_, loch_error_text(), loch_error_where());       \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static struct loch_env *env;

static loch_status clear(void *arg)
{
    (void)arg; /* empty as it was given; a second try would find files and fail */
    return LOCH_OK;
}

static void done(void *arg, loch_status st, loch_lsn checkpoint_end)
{
    (void)arg;
    (void)checkpoint_end;
    CHECK(st);
    loch_env_stop(env);
}

int main(int argc, char **argv)
{
    struct loch_agent_config agent = {0};
    struct loch_credential credential;
    struct loch_basebackup *base = NULL;
    loch_lsn lsn;

    if (argc != 4) {
        fprintf(stderr, "usage: full_base LSN TERM DIR 3<CREDENTIAL\n");
        return 2;
    }
    CHECK(loch_lsn_parse(argv[1], &lsn));
    const struct passwd *pw = geteuid() == 0 ? getpwnam("postgres") : NULL;
    if (pw != NULL) {
        agent.uid = pw->pw_uid;
        agent.gid = pw->pw_gid;
    }
    CHECK(loch_credential_read(LOCH_CREDENTIAL_FD, &credential));
    CHECK(loch_env_real_create(&env));
    const struct loch_basebackup_order order = {.env = env,
                                                .credential = &credential,
                                                .config = &agent,
                                                .term = strtoull(argv[2], NULL, 10),
                                                .lsn = lsn,
                                                .dir = argv[3],
                                                .full = true};
    CHECK(loch_basebackup_fetch(&order, &base, clear, done, NULL));
    loch_env_run(env);
    loch_basebackup_destroy(base);
    loch_credential_fini(&credential);
    loch_env_real_destroy(env);
    return 0;
}
