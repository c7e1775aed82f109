/* Holds: the writing of agent.json. */
#include "state_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

loch_status loch_state_file_write(const struct loch_agent_config *config,
                                  const struct loch_agent_state *state)
{
    char path[600];
    char tmp[620];

    (void)snprintf(path, sizeof path, "%s/agent.json", config->dir);
    (void)snprintf(tmp, sizeof tmp, "%s.tmp", path);
    FILE *f = fopen(tmp, "we");
    if (f == NULL)
        return LOCH_FAIL(LOCH_E_IO, "cannot write %s: %s", tmp, strerror(errno));
    /* The paths are our own: nothing in them needs quoting. */
    (void)fprintf(f,
                  "{\"state\": \"%s\", \"pid\": %d, \"pgdata\": \"%s\", \"port\": %u, "
                  "\"term\": %" PRIu64 ", \"start_lsn\": \"" LOCH_LSN_FMT
                  "\", \"wire_epoch\": %" PRIu32 "}\n",
                  state->state, (int)getpid(), state->pgdata, config->port, state->term,
                  LOCH_LSN_ARG(state->start_lsn), state->wire_epoch);
    bool bad = ferror(f) != 0;
    if (fclose(f) != 0 || bad || rename(tmp, path) != 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot write %s: %s", path, strerror(errno));
    return LOCH_OK;
}
