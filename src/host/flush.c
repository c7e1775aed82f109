/* Holds: writing to a socket without waiting. */
#include "flush.h"

#include <errno.h>
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
