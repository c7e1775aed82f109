/* Holds: the directory of a local cluster: its making and reading, and the daemons' configuration.
 */
#include "cluster.h"

#include "config_file.h"
#include "directory.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define KMS_URI_PIECE       150u
#define SCRATCH_LEAST_BYTES (UINT64_C(256) << 20)

loch_status loch_mkdir(const char *path, mode_t mode)
{
    char part[700];

    (void)snprintf(part, sizeof part, "%s", path);
    for (char *p = part + 1; *p != '\0'; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        if (mkdir(part, 0755) != 0 && errno != EEXIST)
            return LOCH_FAIL(LOCH_E_IO, "cannot make %s: %s", part, strerror(errno));
        *p = '/';
    }
    if (mkdir(part, mode) == 0 ? chmod(part, mode) != 0 : errno != EEXIST)
        return LOCH_FAIL(LOCH_E_IO, "cannot make %s: %s", part, strerror(errno));
    return LOCH_OK;
}

bool loch_write_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        const ssize_t n = write(fd, text, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        text += n;
        len -= (size_t)n;
    }
    return true;
}

loch_status loch_text_replace(const char *path, const char *text, mode_t mode,
                              const struct stat *was)
{
    char tmp[PATH_MAX + 32];

    /* another command may write the same file */
    (void)snprintf(tmp, sizeof tmp, "%s.%d.tmp", path, (int)getpid());
    (void)unlink(tmp);
    const int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot write %s: %s", tmp, strerror(errno));
    bool ok = was->st_mode == 0 ||
              (fchown(fd, was->st_uid, was->st_gid) == 0 && fchmod(fd, was->st_mode & 07777) == 0);
    ok = ok && loch_write_all(fd, text, strlen(text)) && fsync(fd) == 0 && rename(tmp, path) == 0;
    const int why = errno;
    (void)close(fd);
    if (ok)
        return LOCH_OK;
    (void)unlink(tmp);
    return LOCH_FAIL(LOCH_E_IO, "cannot write %s: %s; it is left as it was", path, strerror(why));
}

loch_status loch_text_write(const char *path, const char *text, mode_t mode)
{
    return loch_text_replace(path, text, mode, &(struct stat){0});
}

void loch_compute_note_path(const struct loch_cluster *c, const char *name, char path[static 700])
{
    (void)snprintf(path, 700, "%s/computes/%s.json", c->dir, name);
}

void loch_password_path(const struct loch_cluster *c, const char *tenant, char path[static 700])
{
    (void)snprintf(path, 700, "%s/secrets/%s", c->dir, tenant);
}

loch_status loch_json_write(const char *path, const json_t *value, mode_t mode)
{
    char *text = json_dumps(value, JSON_INDENT(2));

    if (text == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %s", path);
    loch_status st = loch_text_write(path, text, mode);
    free(text);
    return st;
}

loch_status loch_json_read(const char *path, json_t **out)
{
    json_error_t error;

    if (access(path, F_OK) != 0)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "there is no %s", path);
    json_t *value = json_load_file(path, 0, &error);
    if (value == NULL)
        return LOCH_FAIL(LOCH_E_CORRUPT, "%s line %d: %s", path, error.line, error.text);
    *out = value;
    return LOCH_OK;
}

static loch_status id_member(const json_t *json, const char *name, struct loch_id *out)
{
    const char *text = json_string_value(json_object_get(json, name));

    if (text == NULL)
        return LOCH_FAIL(LOCH_E_CORRUPT, "cluster.json has no \"%s\"", name);
    return loch_id_parse(text, out);
}

/* A build tree's libraries are copied below the scratch; those of a service are installed. */
static void set_lib_dir(struct loch_cluster *c)
{
    if (c->elsewhere)
        (void)snprintf(c->lib_dir, sizeof c->lib_dir, "%.500s/../lib", c->bin_dir);
    else
        (void)snprintf(c->lib_dir, sizeof c->lib_dir, "%s/lib", c->scratch);
}

static void load_hosts(struct loch_cluster *c, const json_t *hosts)
{
    char name[32];

    c->elsewhere = hosts != NULL;
    for (int i = 0; i <= LOCH_SAFEKEEPERS_MAX; i++) {
        const char *host = json_string_value(json_object_get(hosts, loch_daemon_name(i, name)));
        (void)snprintf(c->host[i], sizeof c->host[i], "%s", host ? host : "127.0.0.1");
    }
    set_lib_dir(c);
}

void loch_daemon_address(const struct loch_cluster *c, int i, char *out, size_t len)
{
    (void)snprintf(out, len, "%s:%d", c->host[i], loch_port_daemon(c, i));
}

loch_status loch_cluster_ours(const struct loch_cluster *c, const char *what)
{
    if (!c->elsewhere)
        return LOCH_OK;
    return LOCH_FAIL(LOCH_E_INVALID,
                     "the daemons of %s are started by something else (loch init --hosts): %s",
                     c->dir, what);
}

static bool is_host(const char *text)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.";

    return strlen(text) < LOCH_HOST_BYTES && strspn(text, allowed) == strlen(text);
}

/* hosts: "SK1,SK2,SK3,PAGESERVER", or NULL for daemons of our own. */
static loch_status take_hosts(struct loch_cluster *c, const char *hosts)
{
    char copy[(LOCH_SAFEKEEPERS + 1) * LOCH_HOST_BYTES];
    char name[32];
    char *save = NULL;
    int n = 0;

    load_hosts(c, NULL);
    if (hosts == NULL)
        return LOCH_OK;
    bool ok = strlen(hosts) < sizeof copy;
    (void)snprintf(copy, sizeof copy, "%s", hosts);
    json_t *named = json_object();
    for (char *h = strtok_r(copy, ",", &save); h != NULL; h = strtok_r(NULL, ",", &save), n++) {
        ok = ok && n <= LOCH_SAFEKEEPERS && is_host(h);
        if (ok)
            json_object_set_new(
                named, loch_daemon_name(n < LOCH_SAFEKEEPERS ? n : LOCH_SAFEKEEPERS_MAX, name),
                json_string(h));
    }
    ok = ok && n == LOCH_SAFEKEEPERS + 1;
    if (ok)
        load_hosts(c, named);
    json_decref(named);
    if (!ok)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "\"%s\" is not a list of hosts (want "
                         "SAFEKEEPER,SAFEKEEPER,SAFEKEEPER,PAGESERVER)",
                         hosts);
    return LOCH_OK;
}

loch_status loch_cluster_load(struct loch_cluster *c)
{
    char path[700];
    json_t *json = NULL;
    loch_status st;

    (void)snprintf(path, sizeof path, "%s/cluster.json", c->dir);
    st = loch_json_read(path, &json);
    if (st.code == LOCH_E_NOT_FOUND)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "no cluster in %s: run `loch up --dir %s` first", c->dir,
                         c->dir);
    LOCH_TRY(st);
    const char *scratch = json_string_value(json_object_get(json, "scratch"));
    c->port_base = (int)json_integer_value(json_object_get(json, "port_base"));
    if (scratch == NULL || c->port_base <= 0) {
        st = LOCH_FAIL(LOCH_E_CORRUPT, "%s lacks \"scratch\" or \"port_base\"", path);
        goto out;
    }
    (void)snprintf(c->scratch, sizeof c->scratch, "%s", scratch);
    LOCH_TRY_OUT(st, id_member(json, "cluster", &c->id));
    LOCH_TRY_OUT(st, id_member(json, "pageserver", &c->pageserver_node));
    load_hosts(c, json_object_get(json, "hosts"));
    const char *kms = json_string_value(json_object_get(json, "kms"));
    if (kms != NULL)
        c->kms_uri = strncpy(c->kms_text, kms, sizeof c->kms_text - 1);
    const json_t *members = json_object_get(json, "members");
    for (int i = 0; i < LOCH_SAFEKEEPERS_MAX; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "safekeeper-%d", i + 1);
        if (json_object_get(json, name) == NULL)
            continue;
        LOCH_TRY_OUT(st, id_member(json, name, &c->safekeeper_node[i]));
        c->member[i] = members == NULL; /* a cluster from before there were changes */
        for (size_t k = 0; k < json_array_size(members); k++)
            c->member[i] =
                c->member[i] || strcmp(json_string_value(json_array_get(members, k)), name) == 0;
    }
out:
    json_decref(json);
    return st;
}

/* Fails naming the first port of ours that somebody listens on. */
static loch_status check_ports(const struct loch_cluster *c)
{
    static const int wanted[] = {1, 2, 3, 10, 21, 22, 23, 30, LOCH_PORT_COMPUTE_FIRST};

    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        int one = 1;
        struct sockaddr_in addr = {.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)(c->port_base + wanted[i])),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            return LOCH_FAIL(LOCH_E_IO, "cannot make a socket: %s", strerror(errno));
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        int rc = bind(fd, (struct sockaddr *)&addr, sizeof addr);
        int why = errno;
        (void)close(fd);
        if (rc != 0)
            return LOCH_FAIL(LOCH_E_IO,
                             "port %d: %s; choose another --port-base (a cluster uses "
                             "100 ports from there)",
                             c->port_base + wanted[i], strerror(why));
    }
    return LOCH_OK;
}

static loch_status check_scratch(const struct loch_cluster *c)
{
    struct statvfs vfs;

    if (statvfs("/dev/shm", &vfs) != 0)
        return LOCH_FAIL(LOCH_E_IO,
                         "no tmpfs at /dev/shm (%s): mount one "
                         "(mount -t tmpfs tmpfs /dev/shm), computes keep their files there",
                         strerror(errno));
    uint64_t free_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
    if (free_bytes < SCRATCH_LEAST_BYTES)
        return LOCH_FAIL(
            LOCH_E_LIMIT,
            "/dev/shm has %llu MiB free, a compute wants at least %llu: "
            "enlarge it (mount -o remount,size=2G /dev/shm; --shm-size in a container)",
            (unsigned long long)(free_bytes >> 20),
            (unsigned long long)(SCRATCH_LEAST_BYTES >> 20));
    return loch_mkdir(c->scratch, 0711);
}

static loch_status random_id(struct loch_id *id)
{
    if (getrandom(id->bytes, sizeof id->bytes, 0) != (ssize_t)sizeof id->bytes)
        return LOCH_FAIL(LOCH_E_IO, "no random bytes: %s", strerror(errno));
    return LOCH_OK;
}

/* One that is there is whole. The directory's lock is held. */
static loch_status write_key(const struct loch_cluster *c)
{
    char path[700];
    char tmp[720];
    uint8_t key[32];

    (void)snprintf(path, sizeof path, "%s/cmk.key", c->dir);
    (void)snprintf(tmp, sizeof tmp, "%s.tmp", path);
    if (getrandom(key, sizeof key, 0) != (ssize_t)sizeof key)
        return LOCH_FAIL(LOCH_E_IO, "no random bytes: %s", strerror(errno));
    (void)unlink(tmp);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write(fd, key, sizeof key) == (ssize_t)sizeof key && fsync(fd) == 0;
    explicit_bzero(key, sizeof key);
    if (fd >= 0)
        (void)close(fd);
    if (!ok || rename(tmp, path) != 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot write %s: %s", path, strerror(errno));
    return LOCH_OK;
}

/* In pieces, for a line of the configuration has its limit; no piece looks like a comment. */
static void write_kms(FILE *f, const struct loch_cluster *c)
{
    if (c->kms_uri == NULL) {
        (void)fprintf(f, "[kms]\nuri = file:%s/cmk.key\n\n", c->dir);
        return;
    }
    (void)fprintf(f, "[kms]\nuri =");
    for (const char *at = c->kms_uri; *at != '\0';) {
        size_t n = strnlen(at, KMS_URI_PIECE);
        while (n > 1 && (at[n] == ';' || at[n] == '#'))
            n--;
        (void)fprintf(f, " %.*s\n", (int)n, at);
        at += n;
    }
    (void)fprintf(f, "\n");
}

/* What every daemon of the cluster is told. The pageserver's own section comes last, so that its
 * own settings can follow. */
static void write_common(FILE *f, const struct loch_cluster *c, const char *name, int console_port,
                         int metrics_port)
{
    char text[LOCH_ID_TEXT_BYTES];
    char address[LOCH_HOST_BYTES + 8];

    (void)fprintf(f, "[daemon]\ndir = %s/%s\nconsole = %s/run/.s.PGSQL.%d\n", c->dir, name, c->dir,
                  console_port);
    (void)fprintf(f, "metrics = 127.0.0.1:%d\n\n", metrics_port);
    (void)fprintf(f, "[store]\npath = %s/store\n\n", c->dir);
    write_kms(f, c);
    (void)fprintf(f, "[cluster]\nid = %s\n\n[safekeepers]\n", loch_id_format(&c->id, text));
    LOCH_EACH_SAFEKEEPER(c, i)
    {
        loch_daemon_address(c, i, address, sizeof address);
        (void)fprintf(f, "%s = %s\n", loch_id_format(&c->safekeeper_node[i], text), address);
    }
    loch_daemon_address(c, LOCH_SAFEKEEPERS_MAX, address, sizeof address);
    (void)fprintf(f, "\n[pageserver]\nnode = %s\naddress = %s\n",
                  loch_id_format(&c->pageserver_node, text), address);
}

static void config_path(const struct loch_cluster *c, int i, char path[700])
{
    char name[32];

    (void)snprintf(path, 700, "%s/conf/%s.ini", c->dir, loch_daemon_name(i, name));
}

static void write_daemon(FILE *f, const struct loch_cluster *c, int i)
{
    char name[32];
    char text[LOCH_ID_TEXT_BYTES];

    (void)loch_daemon_name(i, name);
    if (i < LOCH_SAFEKEEPERS_MAX) {
        write_common(f, c, name, loch_port_safekeeper(c, i), c->port_base + 21 + i);
        (void)fprintf(f, "\n[safekeeper]\nnode = %s\nlisten = %s:%d\n",
                      loch_id_format(&c->safekeeper_node[i], text),
                      c->elsewhere ? "0.0.0.0" : "127.0.0.1", loch_port_safekeeper(c, i));
        return;
    }
    write_common(f, c, name, loch_port_pageserver(c), c->port_base + 30);
    if (c->elsewhere)
        (void)fprintf(f, "listen = 0.0.0.0:%d\n", loch_port_pageserver(c));
    (void)fprintf(f, "scratch = %s%cpageserver\nlib_dir = %s\n", c->scratch,
                  c->elsewhere ? '-' : '/', /* beside: nobody has made our own there */
                  c->lib_dir);
}

static bool is_the_list(const char *section, const char *key)
{
    (void)key;
    return strcmp(section, "safekeepers") == 0;
}

/* All else was told once: what an operator has changed since is not ours to take back. */
static loch_status write_config(const struct loch_cluster *c, int i)
{
    static const struct loch_config_ours ours = {.is = is_the_list, .as_found = true};
    char path[700];
    char *text = NULL;
    size_t len = 0;

    config_path(c, i, path);
    FILE *f = open_memstream(&text, &len);
    if (f != NULL)
        write_daemon(f, c, i);
    const loch_status st = f != NULL && fclose(f) == 0
                               ? loch_config_file_write(path, text, 0644, &ours)
                               : LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %s", path);
    free(text);
    return st;
}

static loch_status write_configs(const struct loch_cluster *c)
{
    LOCH_EACH_DAEMON(c, i)
    LOCH_TRY(write_config(c, i));
    return LOCH_OK;
}

/* Of another daemon of that name, which is no more. */
static loch_status remove_config(const struct loch_cluster *c, int i)
{
    char path[700];

    config_path(c, i, path);
    if (unlink(path) != 0 && errno != ENOENT)
        return LOCH_FAIL(LOCH_E_IO, "cannot remove %s: %s", path, strerror(errno));
    return LOCH_OK;
}

static json_t *hosts_json(const struct loch_cluster *c)
{
    json_t *hosts = json_object();
    char name[32];

    LOCH_EACH_DAEMON(c, i)
    json_object_set_new(hosts, loch_daemon_name(i, name), json_string(c->host[i]));
    return hosts;
}

loch_status loch_cluster_save(const struct loch_cluster *c)
{
    char path[700];
    char text[LOCH_ID_TEXT_BYTES];
    json_t *members = json_array();

    json_t *json = json_pack("{s:s, s:i, s:s, s:o}", "cluster", loch_id_format(&c->id, text),
                             "port_base", c->port_base, "scratch", c->scratch, "members", members);
    json_object_set_new(json, "pageserver", json_string(loch_id_format(&c->pageserver_node, text)));
    if (c->kms_uri != NULL)
        json_object_set_new(json, "kms", json_string(c->kms_uri));
    if (c->elsewhere)
        json_object_set_new(json, "hosts", hosts_json(c));
    LOCH_EACH_SAFEKEEPER(c, i)
    {
        char name[32];
        (void)snprintf(name, sizeof name, "safekeeper-%d", i + 1);
        json_object_set_new(json, name, json_string(loch_id_format(&c->safekeeper_node[i], text)));
        if (c->member[i])
            json_array_append_new(members, json_string(name));
    }
    loch_status st = write_configs(c);
    (void)snprintf(path, sizeof path, "%s/cluster.json", c->dir);
    if (loch_is_ok(st))
        st = loch_json_write(path, json, 0600);
    json_decref(json);
    return st;
}

/* The directory's lock is held: of two that make a cluster there one finds the other's. */
static loch_status fill_dir(const struct loch_cluster *c)
{
    bool has_key = false;

    LOCH_TRY(loch_dir_check_new(c, &has_key));
    LOCH_TRY(loch_dir_make_parts(c));
    if (c->kms_uri == NULL && !has_key)
        LOCH_TRY(write_key(c));
    LOCH_EACH_DAEMON(c, i)
    LOCH_TRY(remove_config(c, i));
    return loch_cluster_save(c);
}

loch_status loch_cluster_create(struct loch_cluster *c, const char *hosts)
{
    char text[LOCH_ID_TEXT_BYTES];
    bool has_key = false;
    int lock = -1;

    LOCH_TRY(loch_dir_check_path(c->dir));
    LOCH_TRY(loch_dir_check_new(c, &has_key));
    LOCH_TRY(take_hosts(c, hosts));
    LOCH_TRY(random_id(&c->id));
    LOCH_TRY(random_id(&c->pageserver_node));
    for (int i = 0; i < LOCH_SAFEKEEPERS; i++) {
        LOCH_TRY(random_id(&c->safekeeper_node[i]));
        c->member[i] = true;
    }
    (void)loch_id_format(&c->id, text);
    (void)snprintf(c->scratch, sizeof c->scratch, "/dev/shm/loch-%d-%.8s", (int)getuid(), text);
    set_lib_dir(c);
    if (!c->elsewhere) { /* else it is another machine's, or another container's */
        LOCH_TRY(check_ports(c));
        LOCH_TRY(check_scratch(c));
    }
    LOCH_TRY(loch_mkdir(c->dir, 0700));
    LOCH_TRY(loch_dir_lock(c->dir, &lock));
    const loch_status st = fill_dir(c);
    (void)close(lock);
    return st;
}

loch_status loch_cluster_add_safekeeper(struct loch_cluster *c, int *n)
{
    char path[700];
    int i = 0;

    while (i < LOCH_SAFEKEEPERS_MAX && loch_safekeeper_there(c, i))
        i++;
    if (i == LOCH_SAFEKEEPERS_MAX)
        return LOCH_FAIL(LOCH_E_LIMIT, "a local cluster has at most %d safekeepers",
                         LOCH_SAFEKEEPERS_MAX);
    (void)snprintf(path, sizeof path, "%s/safekeeper-%d", c->dir, i + 1);
    if (access(path, F_OK) == 0)
        return LOCH_FAIL(LOCH_E_EXISTS, "%s is there already: what is in it?", path);
    LOCH_TRY(remove_config(c, i));
    LOCH_TRY(random_id(&c->safekeeper_node[i]));
    LOCH_TRY(loch_mkdir(path, 0700));
    *n = i;
    const loch_status st = loch_cluster_save(c);
    if (!loch_is_ok(st)) /* so that it can be tried again */
        (void)rmdir(path);
    return st;
}

loch_status loch_cluster_drop_safekeeper(struct loch_cluster *c, int n)
{
    c->safekeeper_node[n] = (struct loch_id){0};
    LOCH_TRY(loch_cluster_save(c));
    return remove_config(c, n);
}
