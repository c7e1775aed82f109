/* Holds: writing to a socket without waiting. */
#include "flush.h"

#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

bool loch_host_flush(int fd, struct loch_buf *out)
{
    size_t at = 0;

    while (at < out->len) {
        ssize_t n = send(fd, out->data + at, out->len - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (n < 0)
            return false;
        at += (size_t)n;
    }
    loch_buf_consume(out, at);
    return true;
}

void loch_host_cut(int fd)
{
    const struct linger at_once = {.l_onoff = 1};
    int bytes = 0;

    if (ioctl(fd, SIOCOUTQNSD, &bytes) == 0 && bytes > 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}
