/* loch-compute: elects, starts and watches a stock PostgreSQL, and proposes its WAL to the quorum.
 * Exit: 0 stopped, 1 failed, 3 fenced (another compute has taken over: not to be started again). */
#include "compute.h"
#include "scratch.h"

#include "loch/base/log.h"
#include "loch/host/daemon.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

struct agent {
    struct loch_agent_config config;
    struct loch_credential credential;
    struct loch_scratch scratch;
    struct loch_compute *compute;
};

/* Whether descriptor 3 was ours from the start: later it may be anything. */
static bool have_credential;
static enum loch_agent_exit exit_code;

static void stop_now(void *state)
{
    struct agent *agent = state;
    if (agent->compute != NULL)
        loch_compute_stop_now(agent->compute);
}

static void finish(void *state)
{
    struct agent *agent = state;

    if (agent->compute != NULL)
        exit_code = loch_compute_exit_code(agent->compute);
    loch_compute_destroy(agent->compute);
    loch_scratch_end(&agent->scratch);
    loch_credential_fini(&agent->credential);
    loch_agent_config_fini(&agent->config);
    free(agent);
}

static loch_status begin(const struct loch_daemon *daemon, struct agent *agent)
{
    char want[LOCH_ID_TEXT_BYTES], got[LOCH_ID_TEXT_BYTES];

    LOCH_TRY(loch_agent_config_read(daemon->config, &agent->config));
    /* First of all: the tenant may be denied by now, and nothing else would ever remove it. */
    if (!loch_is_ok(loch_scratch_clear(agent->config.dir, true)))
        loch_log_failure("what an earlier agent left on the scratch stays");
    if (!have_credential)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "no credential on descriptor %d: start computes with \"loch compute "
                         "start\", or pass what ISSUE CREDENTIAL answers",
                         LOCH_CREDENTIAL_FD);
    LOCH_TRY(loch_credential_read(LOCH_CREDENTIAL_FD, &agent->credential));
    if (!loch_id_equal(&agent->credential.compute, &agent->config.compute))
        return LOCH_FAIL(LOCH_E_INVALID, "the credential is compute %s's, this is %s",
                         loch_id_format(&agent->credential.compute, got),
                         loch_id_format(&agent->config.compute, want));
    LOCH_TRY(
        loch_scratch_prepare(agent->config.dir, agent->credential.customer_held, &agent->scratch));
    agent->config.scratch = agent->scratch.files;
    LOCH_TRY(loch_env_on_signal(daemon->env, SIGQUIT, stop_now, agent));
    return loch_compute_create(daemon->env, &agent->config, &agent->credential, &agent->compute);
}

static loch_status start(const struct loch_daemon *daemon, void **state)
{
    struct agent *agent = calloc(1, sizeof *agent);

    if (agent == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for the agent");
    loch_status st = begin(daemon, agent);
    if (!loch_is_ok(st)) {
        finish(agent);
        return st;
    }
    *state = agent;
    return LOCH_OK;
}

static void stop(void *state)
{
    loch_compute_stop(((struct agent *)state)->compute);
}

int main(int argc, char **argv)
{
    static const struct loch_daemon_hooks hooks = {.start = start, .stop = stop, .finish = finish};
    struct stat st;

    have_credential = fstat(LOCH_CREDENTIAL_FD, &st) == 0 && !S_ISDIR(st.st_mode);
    const int code = loch_daemon_main(argc, argv, &loch_agent_program, &hooks);
    return code != 0 ? code : (int)exit_code;
}
