/* Holds: settings from file, environment and options, in this order, each over the one before.
 *
 * Invariants: a loaded config has a checked value for every item of the table; what is not in the
 * table is refused, with the place where it stands.
 */
#include "loch/host/config.h"

#include "config_value.h"
#include "loch/base/check.h"
#include "loch/host/daemon.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>

/* Of a value in the file; a longer one goes on in lines that begin with a space. */
#define VALUE_BYTES 8192u

struct map_entry {
    const struct loch_config_item *item;
    char *key;
    struct config_value value;
};

struct loch_config {
    const struct loch_config_program *program;
    struct config_value *values; /* one per item; maps unused */
    bool *in_file;               /* given in the file: a second time is an error */
    struct map_entry *entries;
    size_t entry_count;
};

extern char **environ;

static bool is_map(const struct loch_config_item *item)
{
    return strcmp(item->key, "*") == 0;
}

void loch_config_destroy(struct loch_config *config)
{
    if (config == NULL)
        return;
    for (size_t i = 0; config->values != NULL && i < config->program->item_count; i++)
        free(config->values[i].text);
    for (size_t i = 0; i < config->entry_count; i++) {
        free(config->entries[i].key);
        free(config->entries[i].value.text);
    }
    free(config->entries);
    free(config->values);
    free(config->in_file);
    free(config);
}

/* ---- setting one value, from wherever ---- */
static loch_status set_entry(struct loch_config *config, const struct loch_config_item *item,
                             const char *key, const char *text, const char *where)
{
    struct loch_id id;

    if (item->key_is_id && !loch_is_ok(loch_id_parse(key, &id)))
        return LOCH_FAIL(LOCH_E_INVALID, "%s: \"%s\" in [%s] is not an id of 32 hex digits", where,
                         key, item->section);
    struct map_entry *entry = NULL;
    for (size_t i = 0; i < config->entry_count && entry == NULL; i++)
        if (config->entries[i].item == item && strcasecmp(config->entries[i].key, key) == 0)
            entry = &config->entries[i];
    if (entry == NULL) {
        struct map_entry *more = realloc(config->entries, (config->entry_count + 1) * sizeof *more);
        if (more == NULL)
            return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for settings");
        config->entries = more;
        entry = &more[config->entry_count];
        *entry = (struct map_entry){.item = item, .key = strdup(key)};
        if (entry->key == NULL)
            return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for settings");
        config->entry_count++;
    }
    loch_status st = config_value_parse(item, text, &entry->value);
    if (!loch_is_ok(st))
        return LOCH_FAIL(st.code, "%s: %s.%s: %s", where, item->section, key, loch_error_text());
    return LOCH_OK;
}

static loch_status set(struct loch_config *config, const char *section, const char *key,
                       const char *text, const char *where, bool from_file)
{
    const struct loch_config_program *program = config->program;
    bool section_is_known = false;

    for (size_t i = 0; i < program->item_count; i++) {
        const struct loch_config_item *item = &program->items[i];
        if (strcmp(item->section, section) != 0)
            continue;
        section_is_known = true;
        if (is_map(item))
            return set_entry(config, item, key, text, where);
        if (strcmp(item->key, key) != 0)
            continue;
        if (from_file && config->in_file[i])
            return LOCH_FAIL(LOCH_E_INVALID, "%s: %s.%s is given twice", where, section, key);
        config->in_file[i] = config->in_file[i] || from_file;
        loch_status st = config_value_parse(item, text, &config->values[i]);
        if (!loch_is_ok(st))
            return LOCH_FAIL(st.code, "%s: %s.%s: %s", where, section, key, loch_error_text());
        return LOCH_OK;
    }
    if (!section_is_known)
        return LOCH_FAIL(LOCH_E_INVALID, "%s: there is no section [%s]", where, section);
    return LOCH_FAIL(LOCH_E_INVALID, "%s: there is no setting \"%s\" in section [%s]", where, key,
                     section);
}

/* ---- the file ---- */
struct reading {
    struct loch_config *config;
    const char *path;
    FILE *file;
    int line;
    bool line_is_too_long;
    bool begun;              /* a setting of this section has been read */
    bool goes_on;            /* the line begins with a space: more of that setting's value */
    char value[VALUE_BYTES]; /* so far */
    loch_status st;
    char text[400];
};

static void keep_failure(struct reading *r, loch_status st)
{
    size_t n = strnlen(loch_error_text(), sizeof r->text - 1);

    if (!loch_is_ok(r->st))
        return; /* the first one counts */
    r->st = st;
    memcpy(r->text, loch_error_text(), n);
    r->text[n] = '\0';
}

/* Counts lines, which the parser does not tell its handler. */
static char *read_line(char *line, int max, void *stream)
{
    struct reading *r = stream;

    char *got = fgets(line, max, r->file);
    if (got == NULL)
        return NULL;
    r->line++;
    r->begun = r->begun && line[0] != '[';
    r->goes_on = r->begun && (line[0] == ' ' || line[0] == '\t');
    if (strchr(line, '\n') == NULL && !feof(r->file) && !r->line_is_too_long) {
        r->line_is_too_long = true;
        keep_failure(r, LOCH_FAIL(LOCH_E_INVALID, "%s:%d: the line is too long (%d bytes at most)",
                                  r->path, r->line, max - 2));
    }
    return got;
}

static int take_setting(void *arg, const char *section, const char *key, const char *text)
{
    struct reading *r = arg;
    char where[300];

    (void)snprintf(where, sizeof where, "%s:%d", r->path, r->line);
    if (key == NULL)
        return 1;
    const size_t had = r->goes_on ? strlen(r->value) : 0;
    loch_status st;
    r->begun = true;
    if (had + strlen(text) >= sizeof r->value) {
        st = LOCH_FAIL(LOCH_E_INVALID, "%s: %s.%s is longer than %u bytes", where, section, key,
                       VALUE_BYTES - 1);
    } else if (r->goes_on && (text[0] == '[' || strpbrk(text, " \t") != NULL)) {
        st = LOCH_FAIL(
            LOCH_E_INVALID,
            "%s: a line that begins with a space goes on with %s.%s, and such a line holds "
            "no other space",
            where, section, key);
    } else {
        memcpy(r->value + had, text, strlen(text) + 1);
        st = set(r->config, section, key, r->value, where, !r->goes_on);
    }
    if (!loch_is_ok(st))
        keep_failure(r, st);
    return 1;
}

static loch_status load_file(struct loch_config *config, const char *path)
{
    struct reading r = {.config = config, .path = path};

    r.file = fopen(path, "re");
    if (r.file == NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "cannot read the configuration %s: %s", path,
                         strerrordesc_np(errno));
    /* The parser hands the same pointer to reader and handler only through its two arguments. */
    int rc = ini_parse_stream(read_line, &r, take_setting, &r);
    bool broken = ferror(r.file) != 0;
    (void)fclose(r.file);
    if (broken)
        return LOCH_FAIL(LOCH_E_INVALID, "cannot read the configuration %s", path);
    if (!loch_is_ok(r.st))
        return LOCH_FAIL(r.st.code, "%s", r.text);
    if (rc != 0)
        return LOCH_FAIL(LOCH_E_INVALID, "%s:%d: neither [section] nor key = value", path, rc);
    return LOCH_OK;
}

/* ---- the environment ---- */
static void env_name(const char *section, const char *key, char *out, size_t max)
{
    (void)snprintf(out, max, "LOCH_%s_%s", section, key);
    for (char *p = out; *p != '\0'; p++)
        *p = (char)(*p == '-' || *p == '.' ? '_' : toupper((unsigned char)*p));
}

static loch_status load_map_environment(struct loch_config *config,
                                        const struct loch_config_item *item)
{
    char prefix[128];

    env_name(item->section, "", prefix, sizeof prefix);
    size_t n = strlen(prefix);
    for (char **at = environ; *at != NULL; at++) {
        char key[128];
        const char *equals = strchr(*at, '=');
        if (strncmp(*at, prefix, n) != 0 || equals == NULL || equals <= *at + n ||
            (size_t)(equals - *at) - n >= sizeof key)
            continue;
        size_t len = (size_t)(equals - *at) - n;
        for (size_t i = 0; i < len; i++)
            key[i] = (char)tolower((unsigned char)(*at)[n + i]);
        key[len] = '\0';
        LOCH_TRY(set_entry(config, item, key, equals + 1, "environment"));
    }
    return LOCH_OK;
}

static loch_status load_environment(struct loch_config *config)
{
    for (size_t i = 0; i < config->program->item_count; i++) {
        const struct loch_config_item *item = &config->program->items[i];
        char name[128];
        if (is_map(item)) {
            LOCH_TRY(load_map_environment(config, item));
            continue;
        }
        env_name(item->section, item->key, name, sizeof name);
        const char *text = getenv(name);
        if (text != NULL)
            LOCH_TRY(set(config, item->section, item->key, text, name, false));
    }
    return LOCH_OK;
}

/* ---- options ---- */
struct options {
    const char *config_path;
    bool check, help, version;
};

/* "--section.key=value" */
static loch_status set_option(struct loch_config *config, const char *option)
{
    char section[64];
    char key[128];
    char where[220];
    const char *equals = strchr(option, '=');
    const char *dot = strchr(option, '.');

    if (equals == NULL || dot == NULL || dot > equals || dot == option ||
        (size_t)(dot - option) >= sizeof section || (size_t)(equals - dot) > sizeof key)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "option --%.80s is unknown (settings are given as --section.key=value)",
                         option);
    (void)snprintf(section, sizeof section, "%.*s", (int)(dot - option), option);
    (void)snprintf(key, sizeof key, "%.*s", (int)(equals - dot - 1), dot + 1);
    (void)snprintf(where, sizeof where, "option --%s.%s", section, key);
    return set(config, section, key, equals + 1, where, false);
}

/* Two passes: first what stands above the file, then (config given) the settings, over the file. */
static loch_status read_options(int argc, char *const *argv, struct options *o,
                                struct loch_config *config)
{
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0)
            o->help = true;
        else if (strcmp(a, "--version") == 0 || strcmp(a, "-V") == 0)
            o->version = true;
        else if (strcmp(a, "--check-config") == 0)
            o->check = true;
        else if (strncmp(a, "--config=", 9) == 0)
            o->config_path = a + 9;
        else if (strcmp(a, "--config") == 0 && i + 1 < argc)
            o->config_path = argv[++i];
        else if (strcmp(a, "--config") == 0)
            return LOCH_FAIL(LOCH_E_INVALID, "option --config wants a file");
        else if (strncmp(a, "--", 2) != 0)
            return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" is not an option (see --help)", a);
        else if (config != NULL)
            LOCH_TRY(set_option(config, a + 2));
    }
    return LOCH_OK;
}

static void print_help(const struct loch_config_program *program, FILE *to)
{
    const char *section = "";

    (void)fprintf(
        to,
        "%s: %s\n\nusage: %s --config FILE [--section.key=value ...]\n"
        "       %s --check-config --config FILE | --help | --version\n\n"
        "Every setting stands in FILE (ini), in the environment as LOCH_SECTION_KEY, or is an "
        "option;\nthe latter win.\n",
        program->name, program->summary, program->name, program->name);
    for (size_t i = 0; i < program->item_count; i++) {
        const struct loch_config_item *item = &program->items[i];
        if (strcmp(section, item->section) != 0)
            (void)fprintf(to, "\n[%s]\n", item->section);
        section = item->section;
        (void)fprintf(to, "  --%s.%s=%s\n        %s", item->section,
                      is_map(item) ? (item->key_is_id ? "ID" : "NAME") : item->key,
                      config_type_name(item), item->help);
        if (is_map(item))
            (void)fprintf(to, " Any number of them.\n");
        else if (item->value == NULL)
            (void)fprintf(to, " Must be given.\n");
        else if (item->value[0] == '\0')
            (void)fprintf(to, "\n");
        else
            (void)fprintf(to, " Default: %s.\n", item->value);
    }
}

static loch_status load_defaults(struct loch_config *config)
{
    for (size_t i = 0; i < config->program->item_count; i++) {
        const struct loch_config_item *item = &config->program->items[i];
        if (is_map(item) || item->value == NULL)
            continue;
        loch_status st = config_value_parse(item, item->value, &config->values[i]);
        if (!loch_is_ok(st))
            return LOCH_FAIL(st.code, "default of %s.%s: %s", item->section, item->key,
                             loch_error_text());
    }
    return LOCH_OK;
}

static loch_status check_complete(const struct loch_config *config)
{
    for (size_t i = 0; i < config->program->item_count; i++) {
        const struct loch_config_item *item = &config->program->items[i];
        if (!is_map(item) && config->values[i].text == NULL)
            return LOCH_FAIL(LOCH_E_INVALID, "setting \"%s\" in section [%s] must be given: %s",
                             item->key, item->section, item->help);
    }
    return LOCH_OK;
}

static loch_status load_all(struct loch_config *config, int argc, char *const *argv,
                            struct options *o)
{
    LOCH_TRY(load_defaults(config));
    if (o->config_path != NULL)
        LOCH_TRY(load_file(config, o->config_path));
    LOCH_TRY(load_environment(config));
    LOCH_TRY(read_options(argc, argv, o, config));
    return check_complete(config);
}

loch_status loch_config_load(const struct loch_config_program *program, int argc, char *const *argv,
                             FILE *to, enum loch_config_verdict *verdict, struct loch_config **out)
{
    struct options o = {0};

    LOCH_TRY(read_options(argc, argv, &o, NULL));
    if (o.help || o.version) {
        if (o.help)
            print_help(program, to);
        else
            (void)fprintf(to, "%s %s\n", program->name, LOCH_VERSION);
        *verdict = LOCH_CONFIG_EXIT;
        *out = NULL;
        return LOCH_OK;
    }
    struct loch_config *config = calloc(1, sizeof *config);
    if (config == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for settings");
    config->program = program;
    config->values = calloc(program->item_count, sizeof *config->values);
    config->in_file = calloc(program->item_count, sizeof *config->in_file);
    loch_status st = LOCH_OK;
    if (config->values == NULL || config->in_file == NULL)
        st = LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for settings");
    else
        st = load_all(config, argc, argv, &o);
    if (!loch_is_ok(st) || o.check) {
        loch_config_destroy(config);
        LOCH_TRY(st);
        (void)fprintf(to, "%s: the configuration is good\n", program->name);
        *verdict = LOCH_CONFIG_EXIT;
        *out = NULL;
        return LOCH_OK;
    }
    *verdict = LOCH_CONFIG_RUN;
    *out = config;
    return LOCH_OK;
}

/* ---- getters ---- */
static const struct config_value *value_of(const struct loch_config *config, const char *section,
                                           const char *key)
{
    const struct config_value *found = NULL;

    for (size_t i = 0; i < config->program->item_count && found == NULL; i++) {
        const struct loch_config_item *item = &config->program->items[i];
        if (strcmp(item->section, section) == 0 && strcmp(item->key, key) == 0)
            found = &config->values[i];
    }
    LOCH_ASSERT(found != NULL);
    LOCH_ASSERT(found->text != NULL);
    return found;
}

const char *loch_config_string(const struct loch_config *config, const char *section,
                               const char *key)
{
    return value_of(config, section, key)->text;
}

uint64_t loch_config_u64(const struct loch_config *config, const char *section, const char *key)
{
    return value_of(config, section, key)->number;
}

bool loch_config_bool(const struct loch_config *config, const char *section, const char *key)
{
    return value_of(config, section, key)->number != 0;
}

struct loch_id loch_config_id(const struct loch_config *config, const char *section,
                              const char *key)
{
    return value_of(config, section, key)->id;
}

bool loch_config_is_set(const struct loch_config *config, const char *section, const char *key)
{
    return value_of(config, section, key)->text[0] != '\0';
}

size_t loch_config_each(const struct loch_config *config, const char *section,
                        bool (*fn)(void *arg, const char *key, const char *value), void *arg)
{
    size_t count = 0;
    bool on = fn != NULL;

    for (size_t i = 0; i < config->entry_count; i++) {
        if (strcmp(config->entries[i].item->section, section) != 0)
            continue;
        count++;
        on = on && fn(arg, config->entries[i].key, config->entries[i].value.text);
    }
    return count;
}
