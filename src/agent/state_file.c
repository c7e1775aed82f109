/* Holds: the writing of agent.json. */
#include "state_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

loch_status loch_state_file_write(const struct loch_agent_config *config, const char *state,
                                  const char *pgdata, uint64_t term, loch_lsn start_lsn)
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
                  "\"term\": %" PRIu64 ", \"start_lsn\": \"" LOCH_LSN_FMT "\"}\n",
                  state, (int)getpid(), pgdata, config->port, term, LOCH_LSN_ARG(start_lsn));
    bool bad = ferror(f) != 0;
    if (fclose(f) != 0 || bad || rename(tmp, path) != 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot write %s: %s", path, strerror(errno));
    return LOCH_OK;
}
