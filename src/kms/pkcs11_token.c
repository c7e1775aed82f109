/* Holds: modules (loaded once a process), logins, sessions.
 *
 * PKCS#11 logs in an application, not a session: one session is kept open so that the login stays,
 * and every call opens one more of its own. A PIN that was refused is not offered again until it
 * changes, for tokens lock themselves after a few. A module is initialised once and finalised with
 * its last user. Users are tokens and sessions: a call may hang in the module long after its token
 * was found missing. A token that is not there is no user, for many modules see tokens only as they
 * start.
 */
#include "pkcs11_token.h"

#include "loch/base/check.h"
#include "loch/base/log.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLOTS_MAX 64

/* ---- modules ---- */

struct module {
    char *path;
    unsigned users; /* under modules_lock, as `next`; who is one may touch the rest */
    struct module *next;
    pthread_mutex_t lock; /* held while it is loaded, started and ended: it may hang in that */
    void *handle;         /* what follows: under lock; NULL: it is not started */
    CK_FUNCTION_LIST *f;
};

static pthread_mutex_t modules_lock = PTHREAD_MUTEX_INITIALIZER; /* held for moments only */
static struct module *modules;

static loch_status module_start(const char *path, void *handle, CK_FUNCTION_LIST **out)
{
    CK_RV (*get)(CK_FUNCTION_LIST **) = NULL;
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    CK_FUNCTION_LIST *f = NULL;

    *(void **)&get = dlsym(handle, "C_GetFunctionList");
    if (get == NULL)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "%s is not a PKCS#11 module", path);
    CK_RV rv = get(&f);
    if (rv == CKR_OK)
        rv = f->C_Initialize(&args);
    if (rv != CKR_OK && rv != CKR_CRYPTOKI_ALREADY_INITIALIZED)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the PKCS#11 module %s does not start (0x%lx)", path,
                         rv);
    *out = f;
    return LOCH_OK;
}

/* Under its lock. */
static loch_status module_load(struct module *m)
{
    CK_FUNCTION_LIST *f = NULL;
    void *handle = dlopen(m->path, RTLD_NOW | RTLD_LOCAL);

    if (handle == NULL)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the PKCS#11 module does not load: %s", dlerror());
    const loch_status st = module_start(m->path, handle, &f);
    if (!loch_is_ok(st)) {
        (void)dlclose(handle);
        return st;
    }
    m->handle = handle;
    m->f = f;
    return LOCH_OK;
}

static struct module *module_make(const char *path)
{
    struct module *m = calloc(1, sizeof *m);

    if (m == NULL)
        return NULL;
    m->path = strdup(path);
    if (m->path == NULL) {
        free(m);
        return NULL;
    }
    LOCH_ASSERT(pthread_mutex_init(&m->lock, NULL) == 0);
    m->next = modules;
    modules = m;
    return m;
}

static void module_give(struct module *m)
{
    if (m == NULL)
        return;
    (void)pthread_mutex_lock(&m->lock);
    (void)pthread_mutex_lock(&modules_lock);
    const bool last = --m->users == 0;
    (void)pthread_mutex_unlock(&modules_lock);
    if (last && m->f != NULL) {
        (void)m->f->C_Finalize(NULL);
        (void)dlclose(m->handle);
        m->f = NULL;
        m->handle = NULL;
    }
    (void)pthread_mutex_lock(&modules_lock);
    struct module **link = &modules;
    while (last && *link != m)
        link = &(*link)->next;
    const bool gone = last && m->users == 0; /* else somebody waits for it, to start it anew */
    if (gone)
        *link = m->next;
    (void)pthread_mutex_unlock(&modules_lock);
    (void)pthread_mutex_unlock(&m->lock);
    if (!gone)
        return;
    (void)pthread_mutex_destroy(&m->lock);
    free(m->path);
    free(m);
}

static loch_status module_take(const char *path, struct module **out)
{
    struct module *m;
    loch_status st = LOCH_OK;

    (void)pthread_mutex_lock(&modules_lock);
    for (m = modules; m != NULL && strcmp(m->path, path) != 0;)
        m = m->next;
    if (m == NULL)
        m = module_make(path);
    if (m != NULL)
        m->users++;
    (void)pthread_mutex_unlock(&modules_lock);
    if (m == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a PKCS#11 module");
    (void)pthread_mutex_lock(&m->lock);
    if (m->f == NULL)
        st = module_load(m);
    (void)pthread_mutex_unlock(&m->lock);
    if (loch_is_ok(st))
        *out = m;
    else
        module_give(m);
    return st;
}

/* One user more of a module that has one. */
static struct module *module_share(struct module *m)
{
    (void)pthread_mutex_lock(&modules_lock);
    LOCH_ASSERT(m->users > 0);
    m->users++;
    (void)pthread_mutex_unlock(&modules_lock);
    return m;
}

/* ---- what answers mean ---- */

static const struct {
    CK_RV rv;
    enum loch_code code;
    const char *name;
} meanings[] = {
    {CKR_KEY_FUNCTION_NOT_PERMITTED, LOCH_E_DENIED, "CKR_KEY_FUNCTION_NOT_PERMITTED: disabled"},
    {CKR_KEY_HANDLE_INVALID, LOCH_E_DENIED, "CKR_KEY_HANDLE_INVALID: destroyed"},
    {CKR_OBJECT_HANDLE_INVALID, LOCH_E_DENIED, "CKR_OBJECT_HANDLE_INVALID: destroyed"},
    {CKR_ACTION_PROHIBITED, LOCH_E_DENIED, "CKR_ACTION_PROHIBITED"},
    {CKR_ENCRYPTED_DATA_INVALID, LOCH_E_CORRUPT, "CKR_ENCRYPTED_DATA_INVALID"},
    {CKR_ENCRYPTED_DATA_LEN_RANGE, LOCH_E_CORRUPT, "CKR_ENCRYPTED_DATA_LEN_RANGE"},
    {CKR_MECHANISM_INVALID, LOCH_E_INVALID, "CKR_MECHANISM_INVALID: no AES-GCM with this key"},
    {CKR_KEY_TYPE_INCONSISTENT, LOCH_E_INVALID, "CKR_KEY_TYPE_INCONSISTENT: not an AES key"},
    {CKR_PIN_INCORRECT, LOCH_E_UNAVAILABLE, "CKR_PIN_INCORRECT: the PIN is wrong"},
    {CKR_PIN_LOCKED, LOCH_E_UNAVAILABLE, "CKR_PIN_LOCKED: too many wrong PINs"},
    {CKR_PIN_EXPIRED, LOCH_E_UNAVAILABLE, "CKR_PIN_EXPIRED"},
    {CKR_USER_PIN_NOT_INITIALIZED, LOCH_E_UNAVAILABLE, "CKR_USER_PIN_NOT_INITIALIZED"},
    {CKR_TOKEN_NOT_PRESENT, LOCH_E_UNAVAILABLE, "CKR_TOKEN_NOT_PRESENT"},
    {CKR_DEVICE_ERROR, LOCH_E_UNAVAILABLE, "CKR_DEVICE_ERROR"},
    {CKR_DEVICE_REMOVED, LOCH_E_UNAVAILABLE, "CKR_DEVICE_REMOVED"},
    {CKR_GENERAL_ERROR, LOCH_E_UNAVAILABLE, "CKR_GENERAL_ERROR"},
    {CKR_FUNCTION_FAILED, LOCH_E_UNAVAILABLE, "CKR_FUNCTION_FAILED"},
    {CKR_SESSION_COUNT, LOCH_E_UNAVAILABLE, "CKR_SESSION_COUNT: the token has no session left"},
    {CKR_USER_NOT_LOGGED_IN, LOCH_E_UNAVAILABLE, "CKR_USER_NOT_LOGGED_IN"},
    {CKR_SESSION_HANDLE_INVALID, LOCH_E_UNAVAILABLE, "CKR_SESSION_HANDLE_INVALID"},
};

loch_status p11_fail(CK_RV rv, const char *what)
{
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++)
        if (meanings[i].rv == rv)
            return LOCH_FAIL(meanings[i].code, "%s: the token says %s", what, meanings[i].name);
    return LOCH_FAIL(LOCH_E_UNAVAILABLE, "%s: the token says 0x%lx", what, rv);
}

bool p11_is_lost(CK_RV rv)
{
    return rv == CKR_SESSION_CLOSED || rv == CKR_SESSION_HANDLE_INVALID ||
           rv == CKR_USER_NOT_LOGGED_IN || rv == CKR_DEVICE_REMOVED || rv == CKR_DEVICE_ERROR ||
           rv == CKR_TOKEN_NOT_PRESENT || rv == CKR_CRYPTOKI_NOT_INITIALIZED;
}

/* ---- the token ---- */

struct p11_token {
    struct p11_config config;
    pthread_mutex_t lock;
    struct module *module; /* what follows: under lock */
    bool logged_in;
    uint64_t generation;
    CK_SLOT_ID slot;
    CK_SESSION_HANDLE kept;
    struct loch_secret refused_pin;
};

loch_status p11_token_create(const struct p11_config *config, struct p11_token **out)
{
    struct p11_token *t = calloc(1, sizeof *t);

    if (t == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a token");
    t->config = *config;
    const int rc = pthread_mutex_init(&t->lock, NULL);
    LOCH_ASSERT(rc == 0);
    *out = t;
    return LOCH_OK;
}

void p11_token_destroy(struct p11_token *token)
{
    if (token == NULL)
        return;
    if (token->logged_in)
        (void)token->module->f->C_CloseSession(token->kept);
    module_give(token->module);
    loch_secret_fini(&token->refused_pin);
    (void)pthread_mutex_destroy(&token->lock);
    free(token);
}

static loch_status pin_of_file(const char *path, struct loch_secret *out)
{
    uint8_t bytes[LOCH_SECRET_MAX_BYTES + 2];
    struct stat sb;
    loch_status st;

    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the PIN file %s does not open: %s", path,
                         strerror(errno));
    if (fstat(fd, &sb) != 0 || !S_ISREG(sb.st_mode) || (sb.st_mode & 077) != 0) {
        (void)close(fd);
        return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                         "the PIN file %s is open to others (mode 0600 is demanded)", path);
    }
    ssize_t n = read(fd, bytes, sizeof bytes);
    (void)close(fd);
    while (n > 0 && (bytes[n - 1] == '\n' || bytes[n - 1] == '\r'))
        n--;
    if (n <= 0 || n > (ssize_t)LOCH_SECRET_MAX_BYTES)
        st = LOCH_FAIL(LOCH_E_UNAVAILABLE, "the PIN file %s holds no PIN", path);
    else
        st = loch_secret_from(out, bytes, (size_t)n);
    loch_wipe(bytes, sizeof bytes);
    return st;
}

static loch_status pin_read(const char *source, struct loch_secret *out)
{
    if (strncmp(source, "file:", 5) == 0)
        return pin_of_file(source + 5, out);
    LOCH_ASSERT(strncmp(source, "env:", 4) == 0);
    const char *pin = getenv(source + 4);
    if (pin == NULL || *pin == '\0' || strlen(pin) > LOCH_SECRET_MAX_BYTES)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the environment variable %s holds no PIN",
                         source + 4);
    return loch_secret_from(out, pin, strlen(pin));
}

/* Token texts are padded with spaces, not ended. */
static bool same_text(const char *want, const unsigned char *have, size_t size)
{
    size_t n = size;

    while (n > 0 && (have[n - 1] == ' ' || have[n - 1] == '\0'))
        n--;
    return strlen(want) == n && memcmp(want, have, n) == 0;
}

static loch_status find_slot(const struct p11_token *t, CK_SLOT_ID *out)
{
    CK_SLOT_ID slots[SLOTS_MAX];
    CK_ULONG count = 0;
    unsigned found = 0;

    LOCH_ASSERT(t->module != NULL);
    /* Asked for the count alone, modules look for tokens anew: one that hangs cannot start anew. */
    (void)t->module->f->C_GetSlotList(CK_TRUE, NULL, &count);
    count = SLOTS_MAX;
    const CK_RV rv = t->module->f->C_GetSlotList(CK_TRUE, slots, &count);
    if (rv != CKR_OK)
        return p11_fail(rv, "list of slots");
    for (CK_ULONG i = 0; i < count; i++) {
        CK_TOKEN_INFO info;
        if (t->module->f->C_GetTokenInfo(slots[i], &info) != CKR_OK)
            continue;
        if ((t->config.token[0] != '\0' &&
             !same_text(t->config.token, info.label, sizeof info.label)) ||
            (t->config.serial[0] != '\0' &&
             !same_text(t->config.serial, info.serialNumber, sizeof info.serialNumber)))
            continue;
        found++;
        *out = slots[i];
    }
    if (found == 1)
        return LOCH_OK;
    return LOCH_FAIL(LOCH_E_UNAVAILABLE, "%s token \"%s\" in the module %s",
                     found == 0 ? "there is no" : "there is more than one", t->config.token,
                     t->config.module);
}

/* Under lock; the session is open. */
static loch_status login(struct p11_token *t, CK_SESSION_HANDLE session)
{
    struct loch_secret pin = {0};

    LOCH_TRY(pin_read(t->config.pin_source, &pin));
    if (t->refused_pin.bytes != NULL && loch_secret_equal(&t->refused_pin, &pin)) {
        loch_secret_fini(&pin);
        return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                         "the token refused the PIN of %s; it is not offered again before it "
                         "changes, lest the token lock itself",
                         t->config.pin_source);
    }
    const CK_RV rv = t->module->f->C_Login(session, CKU_USER, pin.bytes, pin.len);
    if (rv == CKR_OK || rv == CKR_USER_ALREADY_LOGGED_IN) {
        loch_secret_fini(&t->refused_pin);
        loch_secret_fini(&pin);
        return LOCH_OK;
    }
    if (rv == CKR_PIN_INCORRECT) {
        loch_secret_fini(&t->refused_pin);
        t->refused_pin = pin;
        pin = (struct loch_secret){0};
    }
    loch_secret_fini(&pin);
    return p11_fail(rv, "login");
}

/* Under lock. */
static loch_status connect_token(struct p11_token *t)
{
    CK_SESSION_HANDLE session = 0;

    if (t->module == NULL)
        LOCH_TRY(module_take(t->config.module, &t->module));
    const loch_status found = find_slot(t, &t->slot);
    if (!loch_is_ok(found)) {
        /* Modules look for tokens when they start: the next try starts it anew, unless a session is
         * still out. */
        module_give(t->module);
        t->module = NULL;
        return found;
    }
    const CK_RV rv = t->module->f->C_OpenSession(t->slot, CKF_SERIAL_SESSION, NULL, NULL, &session);
    if (rv != CKR_OK)
        return p11_fail(rv, "session");
    const loch_status st = login(t, session);
    if (!loch_is_ok(st)) {
        (void)t->module->f->C_CloseSession(session);
        return st;
    }
    t->kept = session;
    t->logged_in = true;
    t->generation++;
    return LOCH_OK;
}

loch_status p11_enter(struct p11_token *token, struct p11_session *out)
{
    struct p11_session s = {.token = token};
    loch_status st = LOCH_OK;
    CK_RV rv = CKR_OK;

    (void)pthread_mutex_lock(&token->lock);
    for (int turn = 0; turn < 2; turn++) {
        if (!token->logged_in)
            st = connect_token(token);
        if (!loch_is_ok(st))
            break;
        rv =
            token->module->f->C_OpenSession(token->slot, CKF_SERIAL_SESSION, NULL, NULL, &s.handle);
        if (!p11_is_lost(rv))
            break;
        (void)token->module->f->C_CloseSession(token->kept);
        token->logged_in = false;
    }
    if (loch_is_ok(st) && rv != CKR_OK)
        st = p11_fail(rv, "session");
    if (loch_is_ok(st)) {
        s.module = module_share(token->module);
        s.f = token->module->f;
        s.slot = token->slot;
        s.generation = token->generation;
        *out = s;
    }
    (void)pthread_mutex_unlock(&token->lock);
    return st;
}

void p11_leave(struct p11_session *session)
{
    (void)session->f->C_CloseSession(session->handle);
    module_give(session->module);
}

void p11_forget(const struct p11_session *session)
{
    struct p11_token *t = session->token;

    (void)pthread_mutex_lock(&t->lock);
    if (t->logged_in && t->generation == session->generation) {
        (void)t->module->f->C_CloseSession(t->kept);
        t->logged_in = false;
        LOCH_WARN("the PKCS#11 token \"%s\" lost our session: logging in again", t->config.token);
    }
    (void)pthread_mutex_unlock(&t->lock);
}

bool p11_logged_in(const struct p11_session *session)
{
    CK_SESSION_INFO info;

    return session->f->C_GetSessionInfo(session->handle, &info) == CKR_OK &&
           (info.state == CKS_RO_USER_FUNCTIONS || info.state == CKS_RW_USER_FUNCTIONS);
}
