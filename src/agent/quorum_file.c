/* Holds: the writing of loch.quorum. */
#include "quorum_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Texts of others may hold anything. */
static void put_text(FILE *f, const char *text)
{
    for (; *text != '\0'; text++)
        (void)fputc(*text >= ' ' && *text <= '~' ? *text : ' ', f);
}

loch_status loch_quorum_file_write(const char *pgdata, const struct loch_quorum *q)
{
    struct loch_quorum_member_view m;
    char path[600], draft[620];

    (void)snprintf(path, sizeof path, "%s/loch.quorum", pgdata);
    (void)snprintf(draft, sizeof draft, "%s.draft", path);
    (void)unlink(draft); /* a link that somebody put there is not followed */
    int fd = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    if (f == NULL) {
        if (fd >= 0)
            (void)close(fd);
        return LOCH_FAIL(LOCH_E_IO, "cannot write %s: %s", draft, strerror(errno));
    }
    for (uint32_t i = 0; loch_quorum_member(q, i, &m); i++) {
        (void)fprintf(f, "%u\t%s\t%s\t%" PRIu64 "\t" LOCH_LSN_FMT "\t" LOCH_LSN_FMT "\t", i + 1,
                      m.address, m.state, m.away_ms / 1000, LOCH_LSN_ARG(m.write_lsn),
                      LOCH_LSN_ARG(m.flush_lsn));
        put_text(f, m.why);
        (void)fputc('\n', f);
    }
    bool bad = ferror(f) != 0 || fchmod(fd, 0644) != 0;
    if (fclose(f) != 0 || bad || rename(draft, path) != 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot write %s: %s", path, strerror(errno));
    return LOCH_OK;
}
