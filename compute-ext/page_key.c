/* Holds: the page key, in locked memory that all processes of the server share.
 *
 * The postmaster makes the memory and reads the first key; one worker reads later ones from the
 * same pipe; everybody else looks, when it connects, whether the key is still the one it has. */
#include "page_key.h"

#include "postgres.h"

#include "settings.h"

#include "storage/spin.h"

#include "loch/crypto/page_key.h"
#include "loch/crypto/psk.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_FD 1024

struct published {
    slock_t lock;
    uint32 epoch; /* wire epoch of the frame, from 1 */
    uint8_t frame[LOCH_PAGE_KEY_BYTES];
};

static struct published *published;
static int key_fd = -1;

/* Is the frame a key of this branch's compute? *epoch: of which wire epoch. */
static loch_status check(const uint8_t *frame, uint32 *epoch)
{
    struct loch_psk_identity id;
    struct loch_slice identity, psk;

    LOCH_TRY(loch_page_key_decode(frame, &identity, &psk));
    LOCH_TRY(loch_psk_identity_decode(identity, &id));
    if (!loch_id_equal(&id.tenant, &loch_settings.tenant_id) ||
        !loch_id_equal(&id.timeline, &loch_settings.timeline_id))
        return LOCH_FAIL(LOCH_E_INVALID, "the page key is for another tenant or timeline");
    *epoch = id.wire_epoch;
    return LOCH_OK;
}

static loch_status make_memory(void)
{
    struct published *p =
        mmap(NULL, sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for the page key: %s", strerror(errno));
    (void)mlock(p, sizeof *p);
    (void)madvise(p, sizeof *p, MADV_DONTDUMP);
    SpinLockInit(&p->lock);
    published = p;
    return LOCH_OK;
}

static loch_status take_fd(void)
{
    const char *text = getenv("LOCH_KEY_FD");
    char *end = NULL;
    long fd;

    if (text == NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "no credential: LOCH_KEY_FD is not set");
    fd = strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || fd < 0 || fd > MAX_FD)
        return LOCH_FAIL(LOCH_E_INVALID, "LOCH_KEY_FD is out of range: %s", text);
    (void)unsetenv("LOCH_KEY_FD");
    key_fd = (int)fd;
    if (fcntl(key_fd, F_SETFD, FD_CLOEXEC) != 0 || fcntl(key_fd, F_SETFL, O_NONBLOCK) != 0)
        return LOCH_FAIL(LOCH_E_INVALID, "no credential on descriptor %d: %s", key_fd,
                         strerror(errno));
    return LOCH_OK;
}

/* A frame from the pipe; false: there is none. The agent writes whole frames, so a read takes one
 * or nothing. */
static bool read_frame(uint8_t *frame)
{
    ssize_t n;

    do {
        n = read(key_fd, frame, LOCH_PAGE_KEY_BYTES);
    } while (n < 0 && errno == EINTR);
    return n == (ssize_t)LOCH_PAGE_KEY_BYTES;
}

static void publish(const uint8_t *frame, uint32 epoch)
{
    SpinLockAcquire(&published->lock);
    memcpy(published->frame, frame, LOCH_PAGE_KEY_BYTES);
    published->epoch = epoch;
    SpinLockRelease(&published->lock);
}

loch_status loch_page_key_load(void)
{
    uint8_t frame[LOCH_PAGE_KEY_BYTES];
    uint32 epoch = 0;
    loch_status st;

    LOCH_TRY(make_memory());
    LOCH_TRY(take_fd());
    if (!read_frame(frame))
        return LOCH_FAIL(LOCH_E_INVALID, "no page key comes from descriptor %d", key_fd);
    st = check(frame, &epoch);
    if (loch_is_ok(st))
        publish(frame, epoch);
    loch_wipe(frame, sizeof frame);
    return st;
}

void loch_page_key_look(void)
{
    uint8_t frame[LOCH_PAGE_KEY_BYTES];
    uint32 epoch = 0;

    while (read_frame(frame)) {
        loch_status st = check(frame, &epoch);

        if (!loch_is_ok(st))
            ereport(WARNING, (errmsg("loch: a page key is not taken: %s", loch_error_text())));
        else if (epoch > published->epoch)
            publish(frame, epoch);
    }
    loch_wipe(frame, sizeof frame);
}

loch_status loch_page_key_client(struct loch_tls_client **out)
{
    static struct loch_tls_client *client;
    static uint32 client_epoch;
    uint8_t frame[LOCH_PAGE_KEY_BYTES];
    struct loch_slice identity, psk_bytes;
    struct loch_secret psk = {0};
    uint32 epoch;
    loch_status st;

    SpinLockAcquire(&published->lock);
    epoch = published->epoch;
    memcpy(frame, published->frame, sizeof frame);
    SpinLockRelease(&published->lock);
    st = loch_page_key_decode(frame, &identity, &psk_bytes);
    if (loch_is_ok(st))
        st = loch_secret_from(&psk, psk_bytes.data, psk_bytes.len);
    if (loch_is_ok(st) && client == NULL)
        st = loch_tls_client_create(identity, &psk, &client);
    else if (loch_is_ok(st) && epoch != client_epoch)
        st = loch_tls_client_rekey(client, identity, &psk);
    if (loch_is_ok(st)) {
        client_epoch = epoch;
        *out = client;
    }
    loch_secret_fini(&psk);
    loch_wipe(frame, sizeof frame);
    return st;
}
